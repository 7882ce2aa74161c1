"""Columns of events that several threads fill at a time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate, pairwise
from threading import Condition

import numpy as np

from eventsnn import memory

_TYPES = {"time": np.int64, "channel": np.uint16, "y": np.uint16, "x": np.uint16}
# Where the columns of one event end, one after another.
_ENDS = [0, *accumulate(np.dtype(kind).itemsize for kind in _TYPES.values())]

#: ``Room.take`` of some images
Take = Callable[[np.ndarray], list[np.ndarray] | None]


class Room:
    """Columns of the events of ``n_images`` images, filled block by block, each by the thread that has made it.

    Threads take the places of their blocks in turns and fill them side by side: a first touch of memory takes longer
    than copying. What is filled is never moved: where the expected length does not do, another part follows.
    """

    def __init__(self, n_images: int) -> None:
        self._offsets = np.zeros(n_images + 1, np.int64)
        self._parts: list[list[np.ndarray]] = []
        self._used: list[int] = []
        self._images = self._events = 0
        self._failed = False
        self._turn = Condition()

    def take(self, first: int, ends: np.ndarray) -> list[np.ndarray] | None:
        """Return columns to fill for the images from ``first`` on, after all images before.

        ``ends``, int64, says of how many events each is the last, among those to come. None once a block has failed.
        """
        with self._turn:
            if self._images != first:
                self._turn.wait_for(lambda: self._failed or self._images == first)
            if self._failed:
                return None
            n = int(ends[-1])
            self._images = first + len(ends)
            np.add(ends, self._events, out=self._offsets[first + 1 : self._images + 1])
            self._events += n
            part, begin = self._reserve(n)
            self._turn.notify_all()
        return [column[begin : begin + n] for column in part]

    def put(self, first: int, columns: tuple[np.ndarray, ...], ends: np.ndarray) -> None:
        """Copy the columns of the images from ``first`` on to where :meth:`take` says."""
        if (room := self.take(first, ends)) is not None:
            for column, values in zip(room, columns, strict=True):
                column[...] = values

    def fail(self) -> None:
        """Let nobody wait for a block that will not come."""
        with self._turn:
            self._failed = True
            self._turn.notify_all()

    def columns(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return the columns and offsets of all images."""
        if not self._parts:
            self._append(0)
        filled = [[column[:n] for column in part] for part, n in zip(self._parts, self._used, strict=True)]
        whole = filled[0] if len(filled) == 1 else [np.concatenate(column) for column in zip(*filled, strict=True)]
        return dict(zip(_TYPES, whole, strict=True)), self._offsets

    def _reserve(self, n: int) -> tuple[list[np.ndarray], int]:
        """Return a part with room for ``n`` more events, and where they begin."""
        if not self._parts or self._used[-1] + n > len(self._parts[-1][0]):
            # Room for as many events of each image to come, and some more. What is not written takes no memory.
            left = len(self._offsets) - 1 - self._images
            self._append(n + self._events * left * 9 // (8 * self._images))
        begin = self._used[-1]
        self._used[-1] += n
        return self._parts[-1], begin

    def _append(self, length: int) -> None:
        # One piece of memory for all columns, so that those of a few dozen images lie on large pages too.
        bytes_ = memory.empty(length * _ENDS[-1], np.uint8)
        bounds = pairwise(length * end for end in _ENDS)
        self._parts.append([bytes_[a:b].view(kind) for (a, b), kind in zip(bounds, _TYPES.values(), strict=True)])
        self._used.append(0)
