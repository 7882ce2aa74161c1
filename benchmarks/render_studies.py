"""Render what ``eventsnn study sparsity -o FILE`` measured, whose rows are appended to ``results/sparsity.jsonl``."""

from __future__ import annotations

from typing import Any

import numpy as np

_NEAR = 0.25  # relative error that the cost model should keep


def section(recorded: list[dict[str, Any]]) -> str:
    """Return the section of the recorded studies, empty if there is none."""
    if not recorded:
        return ""
    rows, times = least(recorded), round(len(recorded) / len({row["run"] for row in recorded}))
    made = rows[-1]["environment"]
    head = [
        f"Layers of the published networks beside their dense version ({rows[-1]['dense']}), on {made['processor']},",
        f"one thread, processor time, {made['date']}: the share of inputs that spike from which on dense is",
        "quicker. Spikes drawn at random in 15 time bins; weights of 0 and 1, as learning leaves them; with the pool",
        f"that comes next, as networks run them. The least of {times} runs of `eventsnn study sparsity`, between which",
        f"times differ by a factor of {_spread(recorded):.2f} for one in ten: others use the machine as well.",
        "",
        "| network | layer | input | 32 samples at a time | one at a time |",
        "|---|---|---|---|---|",
    ]
    return "\n## Sparsity: where dense wins\n\n" + "\n".join([*head, *_crossings(rows)]) + "\n\n" + _model(rows)


def least(recorded: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each run once, with the least times that were measured for it: what else ran only makes them longer."""
    found: dict[str, dict[str, Any]] = {}
    for row in recorded:
        known = found.setdefault(row["run"], row)
        found[row["run"]] = row | {name: min(row[name], known[name]) for name in ("seconds", "dense_seconds")}
    return list(found.values())


def _spread(recorded: list[dict[str, Any]]) -> float:
    """Return the factor by which the times of one in ten runs differ at least."""
    low = {row["run"]: row["seconds"] for row in least(recorded)}
    high: dict[str, float] = {}
    for row in recorded:
        high[row["run"]] = max(high.get(row["run"], 0), row["seconds"])
    return float(np.quantile([high[run] / low[run] for run in low], 0.9))


def _crossings(rows: list[dict[str, Any]]) -> list[str]:
    from eventsnn.study import cost

    found: dict[tuple[str, ...], dict[int, str]] = {}
    for one in cost.crossovers([row for row in rows if row["network"]]):
        layer = one["layer"] + (f", {one['pool']}" if one["pool"] else "")
        key = (one["network"], layer, one["shape"])
        found.setdefault(key, {})[one["batch"]] = _side(one)
    return [f"| {' | '.join(key)} | {sides.get(32, '')} | {sides.get(1, '')} |" for key, sides in found.items()]


def _side(one: dict[str, Any]) -> str:
    if one["density"] is not None:
        return f"dense from {one['density']:.2g}"
    return f"events up to {one['highest']:g}" if one["winner"] == "events" else f"dense from {one['lowest']:.2g}"


def _model(rows: list[dict[str, Any]]) -> str:
    from eventsnn.study import cost

    whole, simple = cost.fit(rows), cost.fit(rows, cost.SIMPLE)
    unseen = [row for row in rows if row["held_out"] and cost.kind_of(row) in whole.coefficients]
    near = [abs(whole.relative_error(row)) <= _NEAR for row in unseen]
    by_shape: dict[tuple[Any, ...], list[float]] = {}
    for row in unseen:
        key = (row["layer"], row["pool"], row["shape"], row["batch"])
        by_shape.setdefault(key, []).append(abs(whole.relative_error(row)))
    worst = max(float(np.median(errors)) for errors in by_shape.values())
    lines = [
        f"The cost model, fitted to {whole.fit_error.rows} runs of other shapes, predicts {sum(near)} of {len(near)}",
        f"runs that it has not seen within 25 % (median {whole.error.median:.1%}, nine of ten within",
        f"{whole.error.most_of_them:.0%}, largest {whole.error.most:.0%}). Over the densities of a shape and batch,",
        f"of which there are {len(by_shape)}, the median error is {worst:.0%} at most. Operations and positions alone:",
        f"median {simple.error.median:.0%}, largest {simple.error.most:.0%}.",
        "",
        "| the cost model's terms | nanoseconds each, by kernel |",
        "|---|---|",
    ]
    kinds = sorted(whole.coefficients)
    for term in whole.terms:
        each = (f"{kind.kernel} {1e9 * whole.coefficients[kind][term]:.3g}" for kind in kinds)
        lines.append(f"| {term} | {', '.join(each)} |")
    off = [row for row, is_near in zip(unseen, near, strict=True) if not is_near]
    densest = np.mean([row["density"] == 1 for row in off]) if off else 0
    lines += ["", f"Of the {len(off)} that are further off, {densest:.0%} have every input spike.", ""]
    return "\n".join(lines)
