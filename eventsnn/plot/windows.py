"""Events in windows of time, counted by polarity and pixel, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eventsnn.events import Events, Shape, TimeUnit
from eventsnn.io.hdf5 import EventDataset
from eventsnn.io.recording import Recording
from eventsnn.io.spike_samples import SpikeSamples

if TYPE_CHECKING:
    from eventsnn.io.chunk import Chunk

Source = Recording | EventDataset | SpikeSamples | Events
Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # time, channel, y, x

_ONE, _SEVERAL = 12, 6  # windows of one sample, and of each of several; as many samples
_FRAMES = 200  # windows that follow each other, unless said otherwise
_DENSITY = 0.25  # events for each pixel, which a window of unsaid length is made for
_STEP = 100_000  # microseconds of a data set in memory at a time
_MEMORY = 512 << 20  # bytes of counts


@dataclass(frozen=True, eq=False)
class Film:
    """How many spikes lie in windows of time, pixel by pixel.

    Parameters
    ----------
    counts : ndarray of uint8, shape (n_samples, n_windows, channels, rows, columns)
        Spikes of each channel; 255 stands for more, too.
    names : tuple of str
        What the samples are called.
    starts : ndarray of int64, shape (n_windows,)
        Where the windows begin, in units of time from the beginning of the sample or of the recording.
    length : int
        Of each window.
    span : (int, int)
        The time that windows were taken from.
    unit : {"bin", "us"}
        What time counts.
    shape : tuple of int
        Grid of the neurons (channels, height, width).
    scale : int
        So many neurons in each direction share one pixel.
    over_time : bool
        Whether columns are parts of the window and rows the neurons: so it is for a grid that is a line.
    """

    counts: np.ndarray
    names: tuple[str, ...]
    starts: np.ndarray
    length: int
    span: tuple[int, int]
    unit: TimeUnit
    shape: Shape
    scale: int = 1
    over_time: bool = False


@dataclass(frozen=True)
class Choice:
    """Which windows to count.

    Parameters
    ----------
    time : (int, int or None)
        From when to before when; None is the end.
    window : int, optional
        Their length, in units of time. Default: short enough for a picture, by the number of events.
    windows : int, optional
        How many. Default: 12; 6 of each of several samples; up to 200 that follow each other.
    follow : bool
        Whether each begins where the last one ends. Else they are spread over all of the time.

    Raises
    ------
    ValueError
        If a number is not positive, or there is no time between the two.
    """

    time: tuple[int, int | None] = (0, None)
    window: int | None = None
    windows: int | None = None
    follow: bool = False

    def __post_init__(self) -> None:
        start, stop = self.time
        if start < 0 or (stop is not None and stop <= start):
            raise ValueError(f"time expects 0 <= start < stop, got {start} and {stop}")
        for name, value in (("window", self.window), ("windows", self.windows)):
            if value is not None and value < 1:
                raise ValueError(f"{name} expects at least 1, got {value}")


@dataclass(frozen=True)
class _Reel:
    """What the kinds of sources have in common: ``read`` yields the events of one sample between two times."""

    shape: Shape
    unit: TimeUnit
    span: tuple[int, int]
    n_events: float  # of a sample, in the span
    names: tuple[str, ...]
    read: Callable[[int, int, int], Iterator[Columns]]
    enters: bool  # whether reading a part costs a part only


def film(
    source: Source, choice: Choice | None = None, *, samples: Sequence[int] | None = None, side: int = 320
) -> Film:
    """Count events in windows of time.

    Parameters
    ----------
    source : Recording, EventDataset, SpikeSamples or Events
        A recording is one sample, whose time begins with its earliest event. It is read in chunks, twice where its
        length or sensor are not known before; memory does not depend on its length.
    choice : Choice, optional
        Which windows.
    samples : sequence of int, optional
        Which ones of several; negative from the end. Default: six, of different classes where there are labels.
    side : int
        Rows and columns of the counts, at most: of larger grids several neurons share a pixel.

    Returns
    -------
    Film

    Raises
    ------
    IndexError
        If there is no such sample.
    ValueError
        If there are no samples or no time to choose from, or the counts would take more than 512 MiB.
    """
    choice = choice or Choice()
    if isinstance(source, Recording):
        if samples is not None:
            raise ValueError("samples expects a source of several samples; a recording is one")
        reel = _of_recording(source, choice)
    else:
        reel = _of_samples(source, choice, samples)
    if reel.shape[1] == 1 and reel.shape[2] > 1:
        return _line(reel, side)
    return _grid(reel, choice, side)


def _grid(reel: _Reel, choice: Choice, side: int) -> Film:
    channels, height, width = reel.shape
    starts, length = _plan(reel, choice)
    scale = math.ceil(max(height, width) / side)
    size = (channels, math.ceil(height / scale), math.ceil(width / scale))
    counts = _empty((len(reel.names), len(starts), *size))
    spans = [(int(start), int(start) + length) for start in starts]
    for number, frames in enumerate(counts):
        for low, high in spans if reel.enters else [(spans[0][0], spans[-1][1])]:
            for t, c, y, x in reel.read(number, low, high):
                window = np.searchsorted(starts, t, side="right") - 1
                inside = (window >= 0) & (t < starts[window] + length)
                _add(frames, inside, window, c, y // scale, x // scale)
    return Film(counts, reel.names, starts, length, reel.span, reel.unit, reel.shape, scale)


def _line(reel: _Reel, side: int) -> Film:
    """Count the spikes of neurons in a line, over time."""
    start, stop = reel.span
    length, units = stop - start, reel.shape[2]
    scale, columns = math.ceil(units / side), min(2 * side, stop - start)
    counts = _empty((len(reel.names), 1, reel.shape[0], math.ceil(units / scale), columns))
    for number, frames in enumerate(counts):
        for t, c, _, x in reel.read(number, start, stop):
            column = (t - start) * columns // length
            _add(frames, np.ones(len(t), bool), np.zeros(len(t), np.int64), c, x // scale, column)
    return Film(counts, reel.names, np.array([start]), length, reel.span, reel.unit, reel.shape, scale, over_time=True)


def _empty(shape: tuple[int, ...]) -> np.ndarray:
    if math.prod(shape) > _MEMORY:
        found = f"{shape[0]} x {shape[1]} windows of {shape[4]}x{shape[3]} pixels take {math.prod(shape) >> 20} MiB"
        raise ValueError(f"expected windows that take at most {_MEMORY >> 20} MiB; {found}: choose fewer")
    return np.zeros(shape, np.uint8)


def _add(frames: np.ndarray, inside: np.ndarray, *place: np.ndarray) -> None:
    flat = frames.reshape(-1)
    where = np.ravel_multi_index([index[inside].astype(np.int64) for index in place], frames.shape)
    hit, count = np.unique(where, return_counts=True)
    flat[hit] = np.minimum(flat[hit] + count, 255)


def _plan(reel: _Reel, choice: Choice) -> tuple[np.ndarray, int]:
    """Return where windows begin and how long they are."""
    start, stop = reel.span
    span = stop - start
    usual = _FRAMES if choice.follow else _SEVERAL if len(reel.names) > 1 else _ONE
    length = min(choice.window or _usual_length(reel, choice, usual), span)
    count = min(choice.windows or usual, math.ceil(span / length))
    if choice.follow or count * length >= span or count == 1:
        return start + length * np.arange(count, dtype=np.int64), length
    return start + np.arange(count, dtype=np.int64) * (span - length) // (count - 1), length


def _usual_length(reel: _Reel, choice: Choice, usual: int) -> int:
    """Return a length with enough events to see something, and not so many that nothing can be told."""
    span = reel.span[1] - reel.span[0]
    if reel.unit == "bin":
        return 1 if choice.follow else math.ceil(span / (choice.windows or usual))
    wanted = span * _DENSITY * reel.shape[1] * reel.shape[2] / max(reel.n_events, 1)
    longest = span if choice.follow and choice.windows is None else span / (choice.windows or usual)
    length = max(1, min(wanted, longest))
    step = 10 ** max(0, math.floor(math.log10(length)) - 1)  # two digits will do
    return math.ceil(length / step) * step


# Recordings


def _of_recording(recording: Recording, choice: Choice) -> _Reel:
    begin, end = choice.time
    first = next(iter(recording.chunks()), None)
    known = recording.width is not None and end is not None and choice.window is not None
    if first is None:
        raise ValueError(f"{recording.path}: expected events, found none")
    origin = int(first.t.min())  # a few events that come late do not matter for a picture
    low, high = origin + begin, (1 << 62 if end is None else origin + end)
    part = recording if choice.time == (0, None) else recording.between(low, high)
    found = _Survey() if known else _surveyed(part)
    width, height = recording.width or found.width, recording.height or found.height
    if not known and not found.n_events:
        raise ValueError(f"{recording.path}: expected events from {begin} us on, found none")
    assert width is not None
    assert height is not None
    span = (begin, end if end is not None else found.latest - origin + 1)

    def read(_: int, start: int, stop: int) -> Iterator[Columns]:
        for chunk in recording.between(origin + start, origin + stop).chunks():
            yield chunk.t - origin, chunk.p, chunk.y, chunk.x

    enters = recording.seek is not None
    return _Reel((2, height, width), recording.unit, span, found.n_events, (recording.path.name,), read, enters)


@dataclass
class _Survey:
    """What only reading tells of a recording."""

    n_events: int = 0
    latest: int = 0
    width: int = 1
    height: int = 1

    def add(self, chunk: Chunk) -> None:
        """Take a chunk into account."""
        self.latest = max(self.latest, int(chunk.t.max())) if self.n_events else int(chunk.t.max())
        self.n_events += len(chunk)
        self.width, self.height = max(self.width, int(chunk.x.max()) + 1), max(self.height, int(chunk.y.max()) + 1)


def _surveyed(recording: Recording) -> _Survey:
    found = _Survey()
    for chunk in recording.chunks():
        found.add(chunk)
    return found


# Samples


def _of_samples(source: EventDataset | SpikeSamples | Events, choice: Choice, samples: Sequence[int] | None) -> _Reel:
    if not len(source):
        raise ValueError("expected at least one sample, found none")
    numbers = _usual_samples(source) if samples is None else list(samples)
    for number in numbers:
        if not -len(source) <= number < len(source):
            raise IndexError(f"sample expects an index into {len(source)} samples, got {number}")
    numbers = [number % len(source) for number in numbers]
    start, stop = choice.time[0], min(choice.time[1] or source.duration, source.duration)
    if start >= stop:
        raise ValueError(f"time expects a part of 0 to {source.duration} {source.unit}, got {choice.time[0]} on")
    share = (stop - start) / source.duration

    def read(i: int, low: int, high: int) -> Iterator[Columns]:
        for events, first in _between(source, numbers[i], low, min(high, stop)):
            yield events.time + first, events.channel, events.y, events.x

    names = tuple(_name(source, number) for number in numbers)
    n_events = share * _mean_events(source, numbers)
    return _Reel(source.shape, source.unit, (start, stop), n_events, names, read, enters=True)


def _usual_samples(source: EventDataset | SpikeSamples | Events) -> list[int]:
    """Return the first sample of each of six classes, or six that are spread over all."""
    if source.labels is not None and len(classes := np.unique(source.labels, return_index=True)[1]) > 1:
        return [int(number) for number in classes[:_SEVERAL]]
    count = min(_SEVERAL, len(source))
    return [i * len(source) // count for i in range(count)]


def _mean_events(source: EventDataset | SpikeSamples | Events, numbers: Sequence[int]) -> float:
    if isinstance(source, SpikeSamples):
        return source.n_events / len(source)
    return float(np.diff(source.offsets)[list(numbers)].mean())


def _name(source: EventDataset | SpikeSamples | Events, number: int) -> str:
    return f"sample {number}" + ("" if source.labels is None else f", class {source.labels[number]}")


def _between(
    source: EventDataset | SpikeSamples | Events, number: int, low: int, high: int
) -> Iterator[tuple[Events, int]]:
    """Yield events of a sample and what to add to their times."""
    if isinstance(source, EventDataset):
        step = _STEP if source.unit == "us" else max(high - low, 1)
        for first in range(low, high, step):
            yield source.between(first, min(first + step, high), number), first
    else:
        one = source[int(number)]
        yield one.where((one.time >= low) & (one.time < high)), 0
