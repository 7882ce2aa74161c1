"""Events in the columns of an HDF5 file: blocks of rows, and where a time begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eventsnn.io._hdf5_columns import Column, check_together, find, opened
from eventsnn.io.recording import OUTSIDE, Chunk, EventFileError, Tally

if TYPE_CHECKING:
    import h5py

#: A dataset, and in it a column of a matrix, a field of a compound, or all.
Place = tuple[str, str | int | None]

NO_POLARITY = "events of another polarity than -1, 0 and 1"
_LATEST = 1 << 62  # microseconds; what comes later is damage
_DISORDER = 10_000  # microseconds that an event may come late without being missed by a search


@dataclass(frozen=True)
class Layout:
    """Where the events of a file are.

    Parameters
    ----------
    format : str
        Its name.
    places : sequence of tuple of str and key, or None
        Those of t, x, y and p. A file without rows or polarities has None there: they are 0, and 1.
    seconds : bool
        What times count, else microseconds.
    offset : int
        Microseconds to be added.
    index : str, optional
        Dataset of the first event of each millisecond, by the times before the offset.
    """

    format: str
    places: Sequence[Place | None]
    seconds: bool = False
    offset: int = 0
    index: str | None = None

    @property
    def time(self) -> Place:
        """Where the times are."""
        assert self.places[0] is not None
        return self.places[0]


class Table:
    """The events of an open file, checked as :class:`Column` says."""

    def __init__(self, file: h5py.File, layout: Layout) -> None:
        self._layout = layout
        places = [place for place in layout.places if place is not None]
        self.columns = {where: Column(find(file, where), where) for where, _ in places}
        for place in places:
            _check_place(self.columns[place[0]], place)
        self._n = check_together(list(self.columns.values()))
        self._index = None if layout.index is None else _index(file, layout.index)

    def __len__(self) -> int:
        """Return the number of events."""
        return self._n

    def raw_times(self, start: int, stop: int) -> np.ndarray:
        """Return times as they are stored."""
        return _taken(self.columns[self._layout.time[0]][start:stop], self._layout.time[1])

    def block(self, start: int, stop: int, tally: Tally) -> Chunk:
        """Return events; those that cannot be are left out and counted."""
        rows = {where: column[start:stop] for where, column in self.columns.items()}
        stored = [None if place is None else _taken(rows[place[0]], place[1]) for place in self._layout.places]
        t = _times(_taken(rows[self._layout.time[0]], self._layout.time[1]), self._layout)
        x, y = (np.zeros(len(t), np.uint16) if values is None else _whole(values) for values in stored[1:3])
        p = np.ones(len(t), np.int8) if stored[3] is None else _signs(stored[3])
        outside, unsigned = _outside(x) | _outside(y), p > 1
        if not (outside.any() or unsigned.any()):
            return Chunk(t, x.astype(np.uint16), y.astype(np.uint16), (p > 0).astype(np.uint8))
        tally.drop(OUTSIDE, int(outside.sum()))
        tally.drop(NO_POLARITY, int((unsigned & ~outside).sum()))
        keep = ~(outside | unsigned)
        return Chunk(t[keep], x[keep].astype(np.uint16), y[keep].astype(np.uint16), (p[keep] > 0).astype(np.uint8))

    def rows_between(self, start: int, stop: int) -> tuple[int, int]:
        """Return rows that hold all events from one time up to before another, where disorder is small."""
        low, high = start - _DISORDER, stop + _DISORDER
        if self._index is not None and self._index.shape[0]:
            first = self._indexed((low - self._layout.offset) // 1000, len(self._index) - 1)
            last = self._indexed(-((self._layout.offset - high) // 1000), None)
            # An index that is wrong is not used.
            if (first == 0 or self._time(first - 1) < low) and (last == self._n or self._time(last) >= high):
                return first, max(first, last)
        return self._first_from(low), self._first_from(high)

    def _indexed(self, millisecond: int, beyond: int | None) -> int:
        """Return the row of the index for a millisecond; after its end that for ``beyond``, or the number of rows."""
        assert self._index is not None
        if millisecond >= len(self._index):
            if beyond is None:
                return self._n
            millisecond = beyond
        row = int(self._index[max(millisecond, 0) : max(millisecond, 0) + 1][0])
        return min(max(row, 0), self._n)

    def _first_from(self, when: int) -> int:
        low, high = 0, self._n
        while low < high:
            middle = (low + high) // 2
            if self._time(middle) < when:
                low = middle + 1
            else:
                high = middle
        return low

    def _time(self, row: int) -> int:
        return int(_times(self.raw_times(row, row + 1), self._layout)[0])


def decode(path: Path, layout: Layout, start: int | None, stop: int | None, size: int, tally: Tally) -> Iterator[Chunk]:
    """Yield all events, or those of the rows in which a time may lie."""
    with opened(path) as file:
        table = Table(file, layout)
        first, last = (0, len(table)) if start is None or stop is None else table.rows_between(start, stop)
        for row in range(first, last, size):
            yield table.block(row, min(row + size, last), tally)


def _index(file: h5py.File, where: str) -> Column:
    index = Column(find(file, where), where)
    if len(index.shape) != 1 or index.dtype.kind not in "iu":
        raise EventFileError(f"{where} expects rows, found {index.dtype} of shape {index.shape}")
    return index


def _check_place(column: Column, place: Place) -> None:
    where, key = place
    if isinstance(key, str) and key not in (column.dtype.names or ()):
        raise EventFileError(f"{where} expects a field {key!r}, found {column.dtype!s:.80}")
    if not isinstance(key, str) and column.dtype.names:
        raise EventFileError(f"{where} expects numbers, found fields {column.dtype.names}"[:200])
    wanted = 2 if isinstance(key, int) else 1
    if len(column.shape) != wanted or (wanted == 2 and column.shape[1] != 4):
        raise EventFileError(f"{where} expects shape {'(n, 4)' if wanted == 2 else '(n,)'}, found {column.shape}")


def _taken(rows: np.ndarray, key: str | int | None) -> np.ndarray:
    if key is None:
        return rows
    values: np.ndarray = rows[key] if isinstance(key, str) else rows[:, key]
    return values


def _times(values: np.ndarray, layout: Layout) -> np.ndarray:
    """Return microseconds of int64, the offset added."""
    if values.dtype.kind == "f" or layout.seconds:
        values = values.astype(np.float64)  # before it is multiplied: of float16, microseconds would be infinite
        values = np.rint(values * 1e6 if layout.seconds else values)
    if len(values) and not (values.min() >= -_LATEST and values.max() <= _LATEST):  # false for what is no number
        raise EventFileError(f"expected times, found {values.min()} to {values.max()} microseconds in {layout.time[0]}")
    return values.astype(np.int64) + layout.offset


def _whole(values: np.ndarray) -> np.ndarray:
    """Return columns or rows as integers."""
    if values.dtype.kind == "b":
        return values.view(np.uint8)
    if values.dtype.kind != "f":
        return values
    if not (values == np.trunc(values)).all() or not np.isfinite(values).all():
        found = values[(values != np.trunc(values)) | ~np.isfinite(values)][0]
        raise EventFileError(f"expected whole columns and rows, found {found}")
    return np.clip(values, -1, 1 << 16).astype(np.int64)


def _outside(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        return np.zeros(len(values), bool)
    return (values < 0) | (values > 0xFFFF)


def _signs(values: np.ndarray) -> np.ndarray:
    """Return -1, 0 or 1, and 2 for what is none of them."""
    if values.dtype.kind == "b":
        return (values.view(np.uint8) != 0).astype(np.int8)
    if values.dtype == np.uint8:
        values = values.view(np.int8)  # -1 has often been written as 255
    known = (values == 0) | (values == 1) | (values == -1)
    return np.where(known, values, 2).astype(np.int8)
