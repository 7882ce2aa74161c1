"""Events of a recording as columns, and many chunks of them as one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from eventsnn.memory import empty

#: What :meth:`Recording.read` returns: microseconds, column, row, polarity (0 darker, 1 brighter); 13 bytes an event.
EVENT_DTYPE = np.dtype([("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")])

_COLUMNS = ("t", "x", "y", "p")
_ITEM = EVENT_DTYPE.itemsize
_MOST = 1 << 25  # events that room is made for at once, though a file may be larger: it need not be full of them
_SMALL = 1 << 19  # bytes, of which no large page is worth having
_SPARE = 3  # bytes that compiled decoders write after an event


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive events of a recording, in the order of the file.

    Parameters
    ----------
    t : ndarray of int64, shape (n,)
        Microseconds on the clock of the file. They may run backward where those of the file do.
    x, y : ndarray of uint16, shape (n,)
        Column and row; x runs to the right, y down.
    p : ndarray of uint8, shape (n,)
        Polarity: 0 darker, 1 brighter.
    """

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.t)

    def __getitem__(self, index: slice | np.ndarray) -> Chunk:
        """Return the events of a slice or a boolean mask."""
        return Chunk(self.t[index], self.x[index], self.y[index], self.p[index])

    def to_structured(self) -> np.ndarray:
        """Return one array of ``EVENT_DTYPE``."""
        whole = np.empty(len(self), EVENT_DTYPE)
        for name in _COLUMNS:
            whole[name] = getattr(self, name)
        return whole


class Columns:
    """Gives decoders new columns for each block of at most ``size`` events, or few more."""

    def __init__(self, size: int) -> None:
        self.size = size

    def expect(self, most: int) -> None:
        """Take note of how many events there are at most: nothing to do, as each block has its own memory."""

    def room(self, n: int) -> tuple[np.ndarray, ...]:
        """Return what compiled decoders may put ``n`` events into."""
        self._columns = tuple(np.empty(n, EVENT_DTYPE[name]) for name in _COLUMNS)
        return self._columns

    def taken(self, n: int) -> Chunk:
        """Return the ``n`` events that were put there."""
        # Whoever keeps few events should not keep the memory of many.
        is_full = 2 * n >= len(self._columns[0])
        return Chunk(*(column[:n] if is_full else column[:n].copy() for column in self._columns))

    def add(self, chunk: Chunk) -> Chunk:
        """Return events that are columns already."""
        return chunk


class Rows:
    """One array of ``EVENT_DTYPE`` that grows, block by block.

    Parameters
    ----------
    size : int
        Events of a block at most, or few more.
    """

    def __init__(self, size: int) -> None:
        self.size, self._n = size, 0
        self._bytes = np.empty(0, np.uint8)

    def expect(self, most: int) -> None:
        """Make room, before the first event, for as many as there probably are at most.

        Memory that is never touched is never there, so it may be too many.
        """
        size = (most + 1) * _ITEM + _SPARE
        self._bytes = np.empty(size, np.uint8) if size < _SMALL else empty(size, np.uint8)

    def room(self, n: int) -> np.ndarray:
        """Return what compiled decoders may put ``n`` events into: bytes, and some to spare."""
        needed = (self._n + n) * _ITEM + _SPARE
        if needed > len(self._bytes):
            larger, used = empty(max(needed, 3 * len(self._bytes) // 2), np.uint8), self._n * _ITEM
            larger[:used] = self._bytes[:used]
            self._bytes = larger
        return self._bytes[self._n * _ITEM :]

    def taken(self, n: int) -> np.ndarray:
        """Return the ``n`` events that were put there, as a view of them."""
        begin, self._n = self._n, self._n + n
        return self._view(begin, self._n)

    def within(self, block: np.ndarray, sensor: tuple[int, int]) -> np.ndarray:
        """Leave out what of the last block is outside the sensor; return the rest."""
        from eventsnn.io._event_kernels import is_within

        if is_within(block.view(np.uint8), *sensor):
            return block
        kept = block[(block["x"] < sensor[0]) & (block["y"] < sensor[1])]
        self._n += len(kept) - len(block)
        block[: len(kept)] = kept
        return block[: len(kept)]

    def add(self, chunk: Chunk) -> np.ndarray:
        """Append the events of a chunk, and return them as they are here."""
        self.room(len(chunk))
        block = self.taken(len(chunk))
        for name in _COLUMNS:
            block[name] = getattr(chunk, name)
        return block

    def whole(self) -> np.ndarray:
        """Return all events."""
        return _trimmed(self._view(0, len(self._bytes) // _ITEM), self._n)

    def _view(self, begin: int, end: int) -> np.ndarray:
        return self._bytes[begin * _ITEM : end * _ITEM].view(EVENT_DTYPE)


def most_events(n_bytes: int, least: int = 2) -> int:
    """Return how many events to make room for, of so many bytes, of which an event takes at least ``least``.

    That is seldom too low, and not high for so large a file: most formats take 4 bytes or more.
    """
    return min(n_bytes // least, max(_MOST, n_bytes // 4))


def columns_of(chunks: Iterable[Chunk], room: int) -> Chunk:
    """Return chunks as one; ``room`` is a guess how many events there are.

    Memory that is never touched is never there, so a guess may be too high. To keep all chunks until their number is
    known takes longer than to decode them.
    """
    capacity, n = room + 1, 0
    columns = [np.empty(capacity, EVENT_DTYPE[name]) for name in _COLUMNS]
    for chunk in chunks:
        end = n + len(chunk)
        if end > capacity:
            capacity = max(end, capacity * 5 // 4)
            for column in columns:
                column.resize(capacity, refcheck=False)  # moved by the system, not copied; nobody else has it
        for name, column in zip(_COLUMNS, columns, strict=True):
            column[n:end] = getattr(chunk, name)
        n = end
    return Chunk(*(_trimmed(column, n) for column in columns))


def _trimmed(array: np.ndarray, n: int) -> np.ndarray:
    return array[:n] if 8 * n >= len(array) else array[:n].copy()  # few should not keep room for many
