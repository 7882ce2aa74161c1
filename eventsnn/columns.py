"""Spikes as others hold them (unsorted, structured, latency maps, waves) become the columns of ``Events``."""

from __future__ import annotations

from typing import Any

import numpy as np

from eventsnn.validation import DTYPES, Shape, as_integers, check_grid, check_offsets, check_shape

Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # time, channel, y, x

#: Names of the fields of events, as programs write them.
ALIASES = {
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps"),
    "x": ("x", "xs", "x_pos"),
    "y": ("y", "ys", "y_pos"),
    "p": ("p", "ps", "pol", "polarity", "on", "c", "channel"),
}


def sorted_columns(
    time: Any, channel: Any, y: Any, x: Any, *, shape: Shape, offsets: Any
) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Return columns by name in canonical order, the offsets, and what sorts other columns along.

    Raises
    ------
    TypeError, ValueError
        If they are not columns of integers of one length, leave the grid, or the offsets do not fit.
    """
    given = {"time": time, "channel": channel, "y": y, "x": x}
    arrays = {name: as_integers(name, value) for name, value in given.items()}
    n_events = arrays["time"].size
    bounds = np.array([0, n_events], np.int64) if offsets is None else as_integers("offsets", offsets)
    bounds = bounds.astype(np.int64)
    for name, array in (arrays | {"offsets": bounds}).items():
        if array.ndim != 1:
            raise TypeError(f"column {name!r} expects a 1-D array, got shape {array.shape}")
    for name, array in arrays.items():
        if len(array) != n_events:
            raise ValueError(f"column {name!r} has {len(array)} entries, column 'time' has {n_events}")
    check_offsets(bounds, n_events)
    check_grid(arrays, check_shape(shape))
    sample = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    order = np.lexsort((arrays["x"], arrays["y"], arrays["channel"], arrays["time"], sample))
    return {name: array[order].astype(DTYPES[name]) for name, array in arrays.items()}, bounds, order


def columns_of_structured(parts: list[np.ndarray]) -> tuple[Columns, np.ndarray]:
    """Return columns and offsets of structured arrays, one for each sample.

    Raises
    ------
    TypeError
        If a field is missing or not of integers.
    """
    columns: dict[str, list[np.ndarray]] = {"t": [], "p": [], "y": [], "x": []}
    for part in parts:
        for name, values in columns.items():
            values.append(_field(part, name))
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    t, p, y, x = (np.concatenate(v) if v else np.empty(0, np.int64) for v in columns.values())
    return (t, p, y, x), offsets


def columns_of_latency(latency: Any) -> tuple[Columns, np.ndarray, Shape]:
    """Return columns, offsets and grid of latency maps; ``-1`` means that the neuron never fires.

    Raises
    ------
    TypeError, ValueError
        If they are not such maps.
    """
    maps = as_integers("latency", latency)
    if maps.ndim == 3:
        maps = maps[None]
    if maps.ndim != 4:
        raise ValueError(f"latency expects shape (n_samples, C, H, W) or (C, H, W), got {maps.shape}")
    if maps.size and maps.min() < -1:
        raise ValueError(f"latency expects times >= 0 or -1 for never, found {maps.min()}")
    sample, channel, y, x = np.nonzero(maps >= 0)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(sample, minlength=len(maps)))])
    return (maps[sample, channel, y, x], channel, y, x), offsets, maps.shape[1:]


def latency_of_waves(waves: Any) -> tuple[np.ndarray, int]:
    """Return the latency maps of cumulative waves, and how many bins these have.

    Raises
    ------
    ValueError
        If the values are not 0 and 1, or a wave falls back to 0.
    """
    dense = np.asarray(waves)
    if dense.ndim == 4:
        dense = dense[None]
    if dense.ndim != 5:
        raise ValueError(f"waves expects shape (T, C, H, W) or (n_samples, T, C, H, W), got {dense.shape}")
    if not np.isin(dense, (0, 1)).all():
        raise ValueError("waves expects only zeros and ones")
    fired = dense.astype(bool)
    if (fired[:, :-1] & ~fired[:, 1:]).any():
        where = tuple(int(i[0]) for i in np.nonzero(fired[:, :-1] & ~fired[:, 1:]))
        raise ValueError(f"waves must be cumulative, but one falls to 0 after (sample, t, c, y, x) = {where}")
    bins = fired.shape[1]
    latency = bins - fired.sum(axis=1, dtype=np.int64)
    return np.where(latency == bins, -1, latency), bins


def _field(array: np.ndarray, name: str) -> np.ndarray:
    """Return field ``t``, ``x``, ``y`` or ``p`` of structured events under any of its usual names, as integers."""
    present = array.dtype.names or ()
    found = next((alias for alias in ALIASES[name] if alias in present), None)
    if found is None:
        raise TypeError(f"structured events need a field {name!r}, found {list(present) or array.dtype}")
    values = as_integers(found, array[found])
    return (values > 0).astype(np.uint16) if name == "p" and values.size and values.min() < 0 else values
