"""Which ranges of a column are read at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from eventsnn.io._hdf5_columns import Column

# Events read and validated at a time: their columns and the temporaries of the checks stay near the cache.
BLOCK = 1 << 18


def spans_of(starts: np.ndarray, ends: np.ndarray) -> list[tuple[int, int]]:
    """Join the adjacent ones of ascending ranges of events."""
    if not len(starts):
        return [(0, 0)]
    breaks = np.flatnonzero(starts[1:] != ends[:-1])
    lows, highs = starts[np.append(0, breaks + 1)], ends[np.append(breaks, len(ends) - 1)]
    return list(zip(lows.tolist(), highs.tolist(), strict=True))


def gather(column: Column, spans: list[tuple[int, int]]) -> np.ndarray:
    """Return the values in ascending ranges, one after the other."""
    parts: list[np.ndarray] = []
    for near in _neighbours(spans, column.chunks[0]):
        first = near[0][0]
        values = column[first : near[-1][1]]
        parts += [values[low - first : high - first] for low, high in near]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _neighbours(spans: list[tuple[int, int]], chunk: int) -> Iterator[list[tuple[int, int]]]:
    """Group ascending ranges that can be read at once: what lies between is in their chunks, and not much."""
    near = spans[:1]
    for low, high in spans[1:]:
        if low // chunk > near[-1][1] // chunk or high - near[0][0] > BLOCK:
            yield near
            near = []
        near.append((low, high))
    yield near


def positions_of(index: Any, n_samples: int) -> np.ndarray:
    """Return the sample numbers that an index means, int64."""
    if isinstance(index, slice):
        return np.arange(*index.indices(n_samples))
    if isinstance(index, int | np.integer) and not isinstance(index, bool):
        if not -n_samples <= index < n_samples:
            raise IndexError(f"sample {index} is outside a data set of {n_samples} samples")
        return np.array([int(index) % n_samples])
    positions = np.arange(n_samples)[index]
    if positions.ndim != 1:
        raise IndexError(f"expected an index, a slice, a list of indices or a mask, got {index!r:.80}")
    return positions


def blocks_of(bounds: np.ndarray) -> Iterator[tuple[int, int]]:
    """Cut samples with these offsets into ranges of about ``BLOCK`` events, at least one sample each."""
    start, n_samples = 0, len(bounds) - 1
    while start < n_samples:
        end = int(np.searchsorted(bounds, bounds[start] + BLOCK, side="right")) - 1
        end = max(end, start + 1)
        yield start, end
        start = end
