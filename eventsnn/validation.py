"""What events must be like, and the errors that say what was found where."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

Shape = tuple[int, int, int]

DTYPES = {"time": np.int64, "channel": np.uint16, "y": np.uint16, "x": np.uint16, "offsets": np.int64}


def check_shape(shape: Any) -> Shape:
    """Return a grid as three positive integers up to 65536, or say what is wrong with it."""
    try:
        channels, height, width = (operator.index(n) for n in shape)
    except (TypeError, ValueError):
        raise ValueError(f"shape expects (channels, height, width), got {shape!r}") from None
    if not all(1 <= n <= 65536 for n in (channels, height, width)):
        raise ValueError(f"shape expects three sizes from 1 to 65536, got {shape!r}")
    return channels, height, width


def check_columns(events: Any) -> None:
    """Refuse wrong dtypes, lengths, offsets, labels and units of an ``Events``."""
    optional: dict[str, Any] = {} if events.potential is None else {"potential": np.float32}
    for name, dtype in (DTYPES | optional).items():
        array = getattr(events, name)
        if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != 1:
            found = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise TypeError(f"column {name!r} expects a 1-D array of {np.dtype(dtype)}, got {found}")
    for name in ("channel", "y", "x", "potential"):
        array = getattr(events, name)
        if array is not None and len(array) != len(events.time):
            raise ValueError(f"column {name!r} has {len(array)} entries, column 'time' has {len(events.time)}")
    if not isinstance(events.duration, int | np.integer):
        raise TypeError(f"duration expects an integer, got {events.duration!r}")
    if events.unit not in ("bin", "us"):
        raise ValueError(f"unit expects 'bin' or 'us', got {events.unit!r}")
    check_offsets(events.offsets, len(events.time))


def check_offsets(offsets: np.ndarray, n_events: int) -> None:
    """Refuse offsets that do not start at 0, fall, or end elsewhere than at the last event."""
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != n_events:
        ends = f"{offsets[0]} and {offsets[-1]}" if len(offsets) else "no entries"
        raise ValueError(f"offsets expects to start at 0 and end at the {n_events} events, got {ends}")
    falls = np.flatnonzero(np.diff(offsets) < 0)
    if len(falls):
        i = int(falls[0])
        raise ValueError(f"offsets must not fall, but entry {i + 1} is {offsets[i + 1]} after {offsets[i]}")


def check_labels(labels: np.ndarray, n_samples: int) -> np.ndarray:
    """Return labels as int64, or refuse what is not one integer per sample."""
    if not isinstance(labels, np.ndarray):
        raise TypeError(f"labels expects a 1-D array of integers, got {type(labels).__name__}")
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels expects a 1-D array of integers, got {labels.dtype} of shape {labels.shape}")
    if len(labels) != n_samples:
        raise ValueError(f"labels expects one entry for each of {n_samples} samples, got {len(labels)}")
    return np.require(labels, np.int64, ["C", "W"])  # one layout, since kernels are compiled for each


def check_values(events: Any) -> None:
    """Refuse spikes outside the grid or the duration, or out of order, of an ``Events``."""
    columns = {name: getattr(events, name) for name in ("time", "channel", "y", "x")}
    check_grid(columns, events.shape)
    if len(events.time) and events.time.max() >= events.duration:
        i = int(events.time.argmax())
        raise ValueError(f"event {i} has time {events.time[i]}, outside the duration {events.duration}")
    if events.duration < 1:
        raise ValueError(f"duration expects at least 1, got {events.duration}")
    check_order(events)


def check_grid(columns: dict[str, np.ndarray], shape: Shape) -> None:
    """Refuse negative times, and coordinates outside the grid."""
    limits = dict(zip(("channel", "y", "x"), shape, strict=True))
    for name in ("time", "channel", "y", "x"):
        values = columns[name]
        bad = values < 0
        if name in limits:
            bad |= values >= limits[name]
        if bad.any():
            i = int(np.flatnonzero(bad)[0])
            wanted = f"0 to {limits[name] - 1}" if name in limits else "0 or more"
            raise ValueError(f"event {i} has {name} {values[i]}, expected {wanted} (grid {shape})")


def check_order(events: Any) -> None:
    """Refuse spikes of a sample that are not sorted by (time, channel, y, x)."""
    channels, height, width = events.shape
    whole = np.int32 if channels * height * width < 1 << 31 else np.int64  # half as wide takes half as long
    site = (events.channel.astype(whole) * whole(height) + events.y) * whole(width) + events.x
    earlier = events.time[1:] < events.time[:-1]
    earlier |= (events.time[1:] == events.time[:-1]) & (site[1:] < site[:-1])
    starts = events.offsets[1:-1]
    earlier[starts[(starts > 0) & (starts < len(events.time))] - 1] = False
    if earlier.any():
        i = int(np.flatnonzero(earlier)[0])
        pair = [tuple(int(c[j]) for c in (events.time, events.channel, events.y, events.x)) for j in (i, i + 1)]
        raise ValueError(
            f"events must be sorted by (time, channel, y, x), but event {i + 1} {pair[1]} follows {pair[0]}; "
            "from_columns() sorts"
        )


def as_integers(name: str, values: Any) -> np.ndarray:
    """Return values as an integer array; floats are refused, because their unit would be a guess."""
    array = np.asarray(values)
    if array.size == 0:
        return array.astype(np.int64)
    if array.dtype == bool:
        return array.astype(np.uint8)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} expects integers, got {array.dtype}; convert to bins or microseconds first")
    if array.dtype == np.uint64:
        return array.astype(np.int64)
    return array


def nearest(name: str, known: Iterable[str]) -> str:
    """Say for an error which of the known names is meant most likely."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
    return f"the nearest known is {close[0]!r} (known: {', '.join(names)})" if close else "none is known"
