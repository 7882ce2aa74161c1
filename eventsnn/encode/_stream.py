"""Streams of camera events as columns: where they come from, and in what order they go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from eventsnn.columns import columns_of_structured
from eventsnn.events import Events, Shape

if TYPE_CHECKING:
    from eventsnn.io.recording import Recording

#: Before all times that are taken, so that differences from it do not overflow.
NEVER = -(1 << 61)
_LATEST = 1 << 60  # microseconds, 36,000 years
_TOLERANCE = 10_000  # microseconds by which times may run backward
_CHUNK = 1 << 17


class Block(NamedTuple):
    """Consecutive events as columns of one length, their times never falling.

    ``t`` int64, ``x``, ``y`` and ``p`` (the channel) uint16; ``key`` int64 is what they are cut by: time or index.
    """

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    p: np.ndarray
    key: np.ndarray

    def take(self, index: slice | np.ndarray) -> Block:
        """Return the events of a slice or boolean mask."""
        t = self.t[index]
        key = t if self.key is self.t else self.key[index]
        return Block(t, self.x[index], self.y[index], self.p[index], key)


#: What a filter does to each block in turn, with what it remembers of those before.
Step = Callable[[Block], Block]


class Source(NamedTuple):
    """Events of one camera, their grid, and the class of what it sees, if that is known."""

    shape: Shape
    blocks: Iterator[Block]
    label: int | None


def sources_of(source: Any, sensor: tuple[int, int] | None) -> Iterator[Source]:
    """Yield what a user means by a source of events: one stream, or one for each sample of ``Events``.

    Raises
    ------
    TypeError, ValueError
        If it is none, or the size of the sensor is needed and not known.
    """
    if isinstance(source, Events):
        yield from _samples(source)
    elif isinstance(source, np.ndarray):
        yield _structured(source, sensor)
    elif callable(getattr(source, "chunks", None)) and hasattr(source, "width"):
        yield _recorded(source)
    else:
        expected = "a Recording, Events or a structured array"
        raise TypeError(f"a camera's events expect {expected}, got {type(source).__name__}")


def joined(blocks: list[Block]) -> Block:
    """Return blocks as one."""
    if len(blocks) == 1:
        return blocks[0]
    t, x, y, p = (np.concatenate([block[i] for block in blocks]) for i in range(4))
    same = all(block.key is block.t for block in blocks)
    return Block(t, x, y, p, t if same else np.concatenate([block.key for block in blocks]))


def _samples(events: Events) -> Iterator[Source]:
    if events.unit != "us":
        raise ValueError("a camera's events expect the unit 'us', got 'bin'")
    for i in range(len(events)):
        part = slice(int(events.offsets[i]), int(events.offsets[i + 1]))
        columns = (events.time[part], events.x[part], events.y[part], events.channel[part])
        label = None if events.labels is None else int(events.labels[i])
        yield Source(events.shape, ordered([columns]), label)


def _structured(array: np.ndarray, sensor: tuple[int, int] | None) -> Source:
    if sensor is None:
        raise ValueError("a structured array does not say the sensor's size; give sensor=(width, height)")
    (t, p, y, x), _ = columns_of_structured([array])
    for name, column, limit in (("x", x, sensor[0]), ("y", y, sensor[1]), ("p", p, 2)):
        if len(column) and not 0 <= int(column.min()) <= int(column.max()) < limit:
            found = f"{int(column.min())} to {int(column.max())}"
            raise ValueError(f"field {name!r} expects 0 to {limit - 1}, found {found}")
    return Source((2, sensor[1], sensor[0]), ordered([(t, x, y, p)]), None)


def _recorded(recording: Recording) -> Source:
    if recording.width is None or recording.height is None:
        raise ValueError(f"{recording.path}: does not say the sensor's size; give open() width= and height=")
    chunks = ((chunk.t, chunk.x, chunk.y, chunk.p) for chunk in recording.chunks(_CHUNK))
    return Source((2, recording.height, recording.width), ordered(chunks), None)


def ordered(columns: Iterable[tuple[np.ndarray, ...]]) -> Iterator[Block]:
    """Yield columns ``t, x, y, p`` as blocks, none of them empty, whose times never fall.

    An event that is earlier than one before it, as cameras have it by some microseconds, takes that one's time.

    Raises
    ------
    ValueError
        If it is earlier by more than 10 ms, or a time is beyond 2**60 microseconds.
    """
    latest = None
    for t, x, y, p in columns:
        if not len(t):
            continue
        times = np.require(t, np.int64, ["C", "W"])
        if int(times.min()) < -_LATEST or int(times.max()) > _LATEST:
            raise ValueError(f"times expect -2**60 to 2**60 us, found {int(times.min())} to {int(times.max())}")
        if (latest is not None and times[0] < latest) or (times[1:] < times[:-1]).any():
            times = _never_falling(times, int(times[0]) if latest is None else latest)
        latest = int(times[-1])
        x, y, p = (np.require(column, np.uint16, ["C", "W"]) for column in (x, y, p))
        yield Block(times, x, y, p, times)


def _never_falling(times: np.ndarray, latest: int) -> np.ndarray:
    highest = np.maximum.accumulate(np.maximum(times, latest))
    back = int((highest - times).max())
    if back > _TOLERANCE:
        raise ValueError(
            f"times expect to run backward by at most {_TOLERANCE} us, found {back} us before {int(highest[-1])}; "
            "events.read() sorted by t, or Recording.to_events(), has them in order"
        )
    return highest
