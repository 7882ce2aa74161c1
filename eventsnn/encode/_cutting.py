"""A stream goes through filters and is cut into samples, in memory that depends on samples and blocks only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from eventsnn.encode._stream import Block, Step, joined
from eventsnn.encode.camera_filters import StreamFilter
from eventsnn.encode.cuts import END, Bounds, Cut, Key
from eventsnn.events import Shape

_MOST_EMPTY = 1_000_000  # windows in a row without any event: by then a time is wrong


class Piece(NamedTuple):
    """Events of a sample, when it starts, how long it is in microseconds, and its class, if known."""

    block: Block
    start: int
    length: int
    label: int | None


class _Passed(NamedTuple):
    """What filters let through of a block, and the last key that there was before them."""

    block: Block
    last: int


def _none() -> Block:
    t, place = np.empty(0, np.int64), np.empty(0, np.uint16)
    return Block(t, place, place, place, t)


#: A sample without events.
NOTHING = Piece(_none(), 0, 1, None)


def grids(filters: Sequence[StreamFilter], shape: Shape) -> list[Shape]:
    """Return the grid before the first filter, after the first, and so on."""
    shapes = [shape]
    for stage in filters:
        shapes.append(stage.output_shape(shapes[-1]))
    return shapes


def started(filters: Sequence[StreamFilter], shape: Shape) -> Step:
    """Return all filters as one, at the beginning of a stream."""
    steps = [stage.start(before) for stage, before in zip(filters, grids(filters, shape)[:-1], strict=True)]

    def step(block: Block) -> Block:
        for one in steps:
            block = one(block)
        return block

    return step


def pieces(cut: Cut, filters: Sequence[StreamFilter], shape: Shape, blocks: Iterator[Block]) -> Iterator[Piece]:
    """Yield the samples of a stream, each as soon as nothing more can belong to it."""
    first = next(blocks, None)
    origin = 0 if first is None else int(first.t[0])
    held = _Held(_passed(cut.key, started(filters, shape), _after(first, blocks)), cut.key)
    empty = 0
    for bounds in cut.bounds(origin):
        held.forget(bounds.start)
        complete = held.fill(bounds)
        if not complete and cut.open_ended and not (cut.incomplete and held.reaches(bounds.start)):
            return
        block = held.between(bounds.start, bounds.end)
        empty = 0 if len(block.t) else empty + 1
        if cut.open_ended and empty > _MOST_EMPTY:
            raise ValueError(
                f"times expect no gap of {_MOST_EMPTY:,} windows, found one that ends after {bounds.end} us"
            )
        yield _piece(cut.key, bounds, block, held)


def _after(first: Block | None, blocks: Iterator[Block]) -> Iterator[Block]:
    if first is not None:
        yield first
    yield from blocks


def _passed(key: Key, step: Step, blocks: Iterable[Block]) -> Iterator[_Passed]:
    """Yield what a filter lets through of each block, with the keys that it is cut by."""
    seen = passed = 0
    for block in blocks:
        if key == "index":
            block = block._replace(key=np.arange(seen, seen + len(block.t)))
        seen += len(block.t)
        last = seen - 1 if key == "index" else int(block.t[-1])
        block = step(block)
        if key == "count":
            block = block._replace(key=np.arange(passed, passed + len(block.t)))
        passed += len(block.t)
        yield _Passed(block, passed - 1 if key == "count" else last)


class _Held:
    """Events that a sample still to come may need."""

    def __init__(self, stream: Iterator[_Passed], key: Key) -> None:
        self._stream, self._blocks = stream, [_none()]
        self._last: int | None = None
        self._is_time = key == "time"

    def fill(self, bounds: Bounds) -> bool:
        """Take from the stream until nothing before the end can come any more; tell whether that is so."""
        wanted = bounds.end if self._is_time else bounds.end - 1
        while self._last is None or self._last < wanted:
            if (passed := next(self._stream, None)) is None:
                return False
            self._last = passed.last
            if len(passed.block.t) and passed.block.key[-1] >= bounds.start:
                self._blocks.append(passed.block)
        return True

    def reaches(self, start: int) -> bool:
        """Tell whether the stream has come to ``start``."""
        return self._last is not None and self._last >= start

    @property
    def last(self) -> int:
        """The last key so far, 0 if there is none."""
        return self._last or 0

    def forget(self, start: int) -> None:
        """Let go of what is before ``start``."""
        self._blocks = [block for block in self._blocks if len(block.key) and block.key[-1] >= start]
        if self._blocks:
            block = self._blocks[0]
            self._blocks[0] = block.take(slice(int(np.searchsorted(block.key, start)), None))

    def between(self, start: int, end: int) -> Block:
        """Return the events held from ``start`` up to before ``end``."""
        self._blocks = [joined(self._blocks) if self._blocks else _none()]
        low, high = np.searchsorted(self._blocks[0].key, (start, min(end, END)))
        return self._blocks[0].take(slice(int(low), int(high)))


def _piece(key: Key, bounds: Bounds, block: Block, held: _Held) -> Piece:
    if key == "time":
        end = held.last + 1 if bounds.end == END else bounds.end
        return Piece(block, bounds.start, max(end - bounds.start, 1), bounds.label)
    if not len(block.t):
        return Piece(block, 0, 1, bounds.label)
    start = int(block.t[0])
    return Piece(block, start, int(block.t[-1]) - start + 1, bounds.label)
