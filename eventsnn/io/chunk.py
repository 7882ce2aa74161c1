"""Events of a recording as columns, and many chunks of them as one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

#: What :meth:`Recording.read` returns: microseconds, column, row, polarity (0 darker, 1 brighter); 13 bytes an event.
EVENT_DTYPE = np.dtype([("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")])

_COLUMNS = ("t", "x", "y", "p")
# Events that room is made for at once, though a file may be larger: it need not be full of them.
_MOST = 1 << 25


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


def columns_of(chunks: Iterable[Chunk], room: int) -> Chunk:
    """Return chunks as one; ``room`` is a guess how many events there are.

    Memory that is never touched is never there, so a guess may be too high. To keep all chunks until their number is
    known takes longer than to decode them.
    """
    capacity, n = min(room, _MOST) + 1, 0
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


def structured_of(chunks: Iterable[Chunk], room: int) -> np.ndarray:
    """Return chunks as one array of ``EVENT_DTYPE``; ``room`` as in :func:`columns_of`."""
    capacity, n = min(room, _MOST) + 1, 0
    whole = np.empty(capacity, EVENT_DTYPE)
    for chunk in chunks:
        end = n + len(chunk)
        if end > capacity:
            capacity = max(end, capacity * 5 // 4)
            whole.resize(capacity, refcheck=False)
        for name in _COLUMNS:
            whole[name][n:end] = getattr(chunk, name)
        n = end
    return _trimmed(whole, n)


def _trimmed(array: np.ndarray, n: int) -> np.ndarray:
    return array[:n] if 8 * n >= len(array) else array[:n].copy()  # few should not keep room for many
