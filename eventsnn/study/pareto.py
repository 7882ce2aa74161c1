"""Means over seeds of a study of accuracy and cost, their confidence intervals, and which no other setting beats."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eventsnn.study.results import Row
from eventsnn.validation import nearest

COSTS = ("spikes", "energy", "operations", "seconds")
CONFIDENCE = 0.95
_SETTING = ("dataset", "model", "threshold", "bins", "winners", "inhibition")
_MEANS = ("spikes", "input_spikes", "operations", "stopped", "energy", "dense_energy", "seconds", "train_seconds")


def means(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Return one row for each setting: means over its seeds.

    Parameters
    ----------
    rows : iterable of mapping
        Of :func:`eventsnn.study.tradeoff`.

    Returns
    -------
    list of dict
        In the order in which settings come first: what the setting is; ``seeds``, their number; ``accuracy`` with
        ``accuracy_low`` and ``accuracy_high``, the ends of a 95 % interval of the mean by Student's t over the seeds,
        None for one seed; ``accuracy_std``, the sample's standard deviation; and means of the costs. An interval says
        how much the mean may vary with the seed. It says nothing about other samples: all settings had the same.

    Raises
    ------
    ValueError
        If a row is not of such a study, or a setting has a seed twice.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row.get("study") != "tradeoff":
            raise ValueError(f"expected rows of the study tradeoff, got one of {row.get('study')!r}")
        groups.setdefault(_setting(row), []).append(row)
    return [_mean(group) for group in groups.values()]


def front(rows: Iterable[Mapping[str, Any]], cost: str = "spikes") -> list[Row]:
    """Return the settings that no other beats: none is as accurate at less cost, or more at no more.

    Parameters
    ----------
    rows : iterable of mapping
        Of :func:`eventsnn.study.tradeoff`; those of one data set are compared with each other.
    cost : {"spikes", "energy", "operations", "seconds"}
        What is to be small.

    Returns
    -------
    list of dict
        Of :func:`means`, in the order of their cost. Means are compared, whatever their intervals.

    Raises
    ------
    ValueError
        As :func:`means`; also if no such cost is known.
    """
    if cost not in COSTS:
        raise ValueError(f"cost has the unknown name {cost!r}; {nearest(str(cost), COSTS)}")
    points = means(rows)
    kept = [point for point in points if not any(_beats(other, point, cost) for other in points)]
    return sorted(kept, key=lambda point: (str(point.get("dataset")), point[cost]))


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the ends of the 95 % interval of a mean, by Student's t; None for fewer than two values."""
    from scipy.stats import t

    if len(values) < 2:
        return None
    mean = sum(values) / len(values)
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * _deviation(values) / math.sqrt(len(values))
    return mean - half, mean + half


def _deviation(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _setting(row: Mapping[str, Any]) -> str:
    """Return what the runs of one setting have in common, as text."""
    config = {name: value for name, value in (row.get("config") or {}).items() if name != "seed"}
    return json.dumps([[row.get(name) for name in _SETTING], config], sort_keys=True)


def _mean(group: Sequence[Mapping[str, Any]]) -> Row:
    seeds = [row["seed"] for row in group]
    said = {name: group[0].get(name) for name in _SETTING}
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"expected each seed once for a setting, got {seeds} for {said}")
    accuracies = [float(row["accuracy"]) for row in group]
    low, high = interval(accuracies) or (None, None)
    found = {name: [row[name] for row in group if row.get(name) is not None] for name in _MEANS}
    costs = {name: sum(values) / len(values) for name, values in found.items() if values}
    return {
        "study": "tradeoff",
        **said,
        "seeds": len(seeds),
        "accuracy": sum(accuracies) / len(accuracies),
        "accuracy_low": low,
        "accuracy_high": high,
        "accuracy_std": _deviation(accuracies) if len(accuracies) > 1 else None,
        **costs,
    }


def _beats(other: Row, point: Row, cost: str) -> bool:
    if other.get("dataset") != point.get("dataset"):
        return False
    no_worse = other["accuracy"] >= point["accuracy"] and other[cost] <= point[cost]
    return no_worse and (other["accuracy"] > point["accuracy"] or other[cost] < point[cost])
