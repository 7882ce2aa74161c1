"""Events in canonical order from a stream that is almost in order, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from eventsnn.io.chunk import Chunk
from eventsnn.io.recording import EventFileError

#: Events that are held back unless said otherwise: 55 MB.
HOLD = 1 << 22
_TYPES = (("t", "i8"), ("p", "u1"), ("y", "u2"), ("x", "u2"))


class Sorter:
    """Sort events by ``(t, p, y, x)`` while they come.

    The latest events are held back, so that earlier ones which come after them find their place. What is given out
    is final.

    Parameters
    ----------
    hold : int
        How many are held back at least; memory is in proportion.
    """

    def __init__(self, hold: int = HOLD) -> None:
        if hold < 1:
            raise ValueError(f"hold expects at least 1 event, got {hold}")
        self._hold, self._n_held = hold, 0
        # In order, and of no time that two of them share.
        self._held: deque[Chunk] = deque()
        self._keys = np.empty(0, np.int64)  # kept, since new memory costs more than what is done in it
        self._final: int | None = None  # the time of what was last given out

    def push(self, chunk: Chunk) -> Iterator[Chunk]:
        """Take events in any order, and yield those that need not wait any more, if there are any.

        Raises
        ------
        EventFileError
            If one is not later than an event that was given out: it came more than ``hold`` events too late.
        """
        if not len(chunk):
            return
        low = int(chunk.t.min())
        if self._final is not None and low <= self._final:
            raise EventFileError(
                f"an event at {low} us comes after one at {self._final} us and more than {self._n_held:,} others; "
                f"to be sorted, it must not be more than {self._hold:,} events late (hold=, or --hold)"
            )
        late = self._take_from(low)
        self._n_held += len(chunk)
        together = [*late, chunk]
        if len(self._keys) < (count := sum(len(part) for part in together)):
            self._keys = np.empty(count, np.int64)
        self._held.append(_sorted(together, self._keys))
        while self._n_held - len(self._held[0]) >= self._hold:
            yield self._give()

    def finish(self) -> Iterator[Chunk]:
        """Yield the rest."""
        while self._held:
            yield self._give()

    def _give(self) -> Chunk:
        first = self._held.popleft()
        self._n_held -= len(first)
        self._final = int(first.t[-1])
        return first

    def _take_from(self, low: int) -> list[Chunk]:
        """Take those held events away that are not earlier than a time."""
        taken: list[Chunk] = []
        while self._held and self._held[-1].t[-1] >= low:
            last = self._held.pop()
            start = int(np.searchsorted(last.t, low))
            if start:
                self._held.append(last[:start])
            taken.insert(0, last[start:])
        return taken


def _sorted(chunks: list[Chunk], keys: np.ndarray) -> Chunk:
    """Return chunks as one, sorted, in memory of its own."""
    from eventsnn.io._order_kernels import disorder, sort_ties

    columns = [np.concatenate([getattr(chunk, name) for chunk in chunks], dtype=dtype) for name, dtype in _TYPES]
    falls, unordered = disorder(*columns)
    if falls:
        order = np.argsort(columns[0], kind="stable")
        columns = [column[order] for column in columns]
    if falls or unordered:
        sort_ties(*columns, keys)
    t, p, y, x = columns
    return Chunk(t, x, y, p)
