"""Rows of studies as series: what figures draw as one line, and what it is called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

#: What each kind of row has at least.
NEEDED = {
    "sparsity": ("layer", "shape", "density", "seconds", "dense_seconds", "batch", "threads", "backend", "held_out"),
    "tradeoff": ("dataset", "model", "threshold", "bins", "winners", "inhibition", "accuracy", "spikes", "energy"),
    "scaling": ("axis", "value", "layer", "seconds", "clock"),
    "profile": ("layer", "name", "spikes", "operations", "stopped", "macs", "times", "spikes_over_time"),
}
_CURVES = 3  # of a layer in one figure; each has three lines
_RUNNING = {
    "source": "{}",
    "backend": "{}",
    "threads": "threads: {}",
    "batch": "batches of {}",
    "dense": "against {}",
}


def of_study(rows: Iterable[Row], study: str) -> list[Row]:
    """Return the rows of one study.

    Raises
    ------
    ValueError
        If one lacks what rows of this study have; the message says which.
    """
    found = [row for row in rows if row.get("study") == study]
    for number, row in enumerate(found):
        if missing := [name for name in NEEDED.get(study, ()) if name not in row]:
            raise ValueError(
                f"row {number} of the study {study} expects {', '.join(NEEDED[study])}; {missing[0]} is missing"
            )
    return found


def grouped(rows: Iterable[Row], names: Sequence[str]) -> dict[tuple[Any, ...], list[Row]]:
    """Return rows by what they have under some names, in the order in which these come first."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(_hashable(row.get(name)) for name in names), []).append(row)
    return found


def layer_label(row: Row) -> str:
    """Return which layer a row is of: networks, layer, the pool that runs with it, input grid."""
    network = f"{row['network']}: " if row.get("network") else ""
    return f"{network}{layer_of(row)} on {row['shape']}"


def layer_of(row: Row) -> str:
    """Return the layer of a row, with the pool that runs with it."""
    return str(row["layer"]) + (f" + {row['pool']}" if row.get("pool") else "")


def by_layer(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the rows of a sparsity study by layer, those of published networks first.

    A layer that was run in more ways than one figure can show comes several times, with how it was run in its name.
    """
    mine = sorted(of_study(rows, "sparsity"), key=lambda row: not row.get("network"))
    found: dict[str, list[Row]] = {}
    for row in mine:
        found.setdefault(layer_label(row), []).append(row)
    return {f"{label}{', ' * bool(how)}{how}": part for label, some in found.items() for how, part in _apart(some)}


def _apart(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Return the rows of a layer apart by how it was run, as far as needed for few curves in each part."""
    apart: list[str] = []
    parts = {(): list(rows)}
    for name in varying(rows, ("backend", "threads", "dense", "source")):
        if max(len(curves(some)) for some in parts.values()) > _CURVES:
            apart.append(name)
            parts = grouped(rows, apart)
    return [(running(some[0], apart), some) for some in parts.values()]


def curves(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of one layer by how it was run, each sorted by density; names say what differs."""
    names = varying(rows, tuple(_RUNNING))
    return {
        running(some[0], names): sorted(some, key=lambda row: row["density"])
        for some in grouped(rows, tuple(_RUNNING)).values()
    }


def running(row: Row, names: Iterable[str]) -> str:
    """Return how a row was run, as far as the names go."""
    return ", ".join(_RUNNING[name].format(row[name]) for name in names if row.get(name) is not None)


def varying(rows: Sequence[Row], names: Iterable[str]) -> list[str]:
    """Return the names under which rows have more than one value."""
    return [name for name in names if len({_hashable(row.get(name)) for row in rows}) > 1]


def scaled(rows: Iterable[Row]) -> dict[str, dict[str, list[Row]]]:
    """Return the rows of a scaling study by axis and by layer, sorted by value where values are numbers."""
    found: dict[str, dict[str, list[Row]]] = {}
    for axis, some in grouped(of_study(rows, "scaling"), ("axis",)).items():
        numbers = all(isinstance(row["value"], int | float) for row in some)
        ordered = sorted(some, key=lambda row: row["value"]) if numbers else some
        # What grows is no part of a line's name.
        names = {"maps": (), "size": ("layer",)}.get(axis[0], ("layer", "shape"))
        found[axis[0]] = {" on ".join(map(str, key)): group for key, group in grouped(ordered, names).items()}
    return found


def profiled(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the rows of profiles by network, layer by layer."""
    found = grouped(of_study(rows, "profile"), ("network",))
    return {key[0] or "network": sorted(some, key=lambda row: row["layer"]) for key, some in found.items()}


def setting_label(row: Row) -> str:
    """Return the setting of a run of a tradeoff study in one line."""
    names = ("threshold", "bins", "winners", "inhibition")
    return ", ".join(f"{name} {row[name]}" for name in names if row.get(name) is not None)


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
