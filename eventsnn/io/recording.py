"""Recordings of event cameras: what every reader gives, whatever the format of the file.

A reader is two functions: one recognizes its format by a file's first bytes (:mod:`eventsnn.io.formats` asks them in
order), one reads the header and returns a :class:`Recording`. The recording's ``decode`` yields columns in file order;
all that is common to the formats is done here: orientation, events outside the sensor, the account of what was lost.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from eventsnn import notebook
from eventsnn.events import Events, TimeUnit
from eventsnn.io.chunk import EVENT_DTYPE, Chunk, columns_of, structured_of

__all__ = ["EVENT_DTYPE", "Chunk", "EventFileError", "Orientation", "Recording", "Report", "Stream", "Tally"]

_Gathered = TypeVar("_Gathered")

#: Events of a chunk at most, unless said otherwise.
CHUNK = 1 << 17

# What may be lost, as it reads after a number: every format calls the same thing by the same name.
OUTSIDE = "events outside the sensor"
BEFORE_TIME = "events before the first time"
UNKNOWN = "unknown words"
CUT_END = "bytes after the last whole word"


class EventFileError(ValueError):
    """A file that cannot be read as events: damaged, inconsistent, or of an unknown format.

    Parameters
    ----------
    reason : str
        What was expected and what was found.
    path : str or Path, optional
        The file. A decoder that does not know it leaves it out: :class:`Stream` adds it.
    offset : int, optional
        Where in the file, in bytes from its beginning; None if it is not one place.
    """

    def __init__(self, reason: str, path: str | Path | None = None, offset: int | None = None) -> None:
        super().__init__(reason, path, offset)
        self.reason, self.path, self.offset = reason, path, offset

    def __str__(self) -> str:
        """Return file, offset and reason in one line."""
        where = [str(self.path)] * (self.path is not None) + [f"byte {self.offset}"] * (self.offset is not None)
        return ": ".join([*where, self.reason])


@dataclass(frozen=True)
class Orientation:
    """How coordinates and polarities of a file become those of its events, in this order.

    Programs disagree about it, so it is the user's to change; the default of a format is that of its most common files.

    Parameters
    ----------
    swap_xy : bool
        Exchange x and y, and with them width and height.
    flip_x, flip_y : bool
        Mirror: ``x`` becomes ``width - 1 - x``, ``y`` becomes ``height - 1 - y``.
    swap_polarity : bool
        Exchange 0 and 1.
    """

    swap_xy: bool = False
    flip_x: bool = False
    flip_y: bool = False
    swap_polarity: bool = False


class Tally:
    """What a decoder left out, counted while it works.

    What is *dropped* was lost: broken or meaningless. What is *skipped* is sound, but no event: triggers, frames,
    inertial measurements. Both are named so that the name reads well after a number.
    """

    def __init__(self) -> None:
        self.dropped: dict[str, int] = {}
        self.skipped: dict[str, int] = {}

    def drop(self, what: str, count: int = 1) -> None:
        """Count what was lost; nothing is noted for a count of 0."""
        if count:
            self.dropped[what] = self.dropped.get(what, 0) + int(count)

    def skip(self, what: str, count: int = 1) -> None:
        """Count what is no event."""
        if count:
            self.skipped[what] = self.skipped.get(what, 0) + int(count)


@dataclass(frozen=True)
class Report:
    """What a stream has given so far, and what it has not, and why.

    Parameters
    ----------
    n_events : int
        Events given.
    earliest, latest : int or None
        Their times; None without events.
    dropped : dict of str to int
        What was lost, by reason: events outside the sensor, unknown words, bytes of a cut end.
    skipped : dict of str to int
        What is no event: triggers, frames, inertial measurements.
    backward : int
        Events, among those given, that are earlier than one before them.
    furthest_back : int
        By how much at most, in microseconds.
    """

    n_events: int = 0
    earliest: int | None = None
    latest: int | None = None
    dropped: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    backward: int = 0
    furthest_back: int = 0

    def __str__(self) -> str:
        """Return one line for people."""
        parts = [f"{self.n_events:,} events"]
        for verb, counts in (("lost", self.dropped), ("skipped", self.skipped)):
            if counts:
                parts.append(f"{verb} " + ", ".join(f"{count:,} {what}" for what, count in counts.items()))
        if self.backward:
            parts.append(f"{self.backward:,} earlier than one before them, by up to {self.furthest_back} us")
        return "; ".join(parts)


#: Yields blocks of bounded size, in file order and the file's own orientation, and counts what it leaves out. The
#: number is a hint: about so many events a block. It raises :class:`EventFileError`, or OSError if the disk fails.
Decode = Callable[[int, Tally], Iterator[Chunk]]

#: The same for the events from one time up to before another, and possibly some around them.
Seek = Callable[[int, int, int, Tally], Iterator[Chunk]]


@dataclass(frozen=True, eq=False)
class Recording:
    """A file of events, read in chunks; opening it reads the header only. :func:`eventsnn.open` makes them.

    Parameters
    ----------
    path : Path
        The file.
    format : str
        Its format's name, as ``"Prophesee EVT3"``.
    sensor : tuple of int or None
        Width and height of the coordinates in the file; None where it does not say.
    decode : callable
        See :data:`Decode`. A module's function or a ``functools.partial`` of one, so that a recording can be pickled.
    metadata : dict of str to str
        What the header says, as text.
    n_events : int or None
        How many events the file should hold, where that is known without decoding it.
    orientation : Orientation
        Applied to what ``decode`` gives.
    unit : {"us"}
        What times count.
    seek : callable, optional
        See :data:`Seek`; of formats whose files can be entered in the middle.
    """

    path: Path
    format: str
    sensor: tuple[int, int] | None
    decode: Decode = field(repr=False)
    metadata: dict[str, str] = field(default_factory=dict, repr=False)
    n_events: int | None = None
    orientation: Orientation = Orientation()
    unit: TimeUnit = "us"
    seek: Seek | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.sensor is not None and not all(1 <= n <= 65536 for n in self.sensor):
            raise EventFileError(f"width and height expect 1 to 65536, found {self.sensor}", self.path)

    @property
    def width(self) -> int | None:
        """Columns of the events given, None if unknown."""
        return self.sensor and self.sensor[1 if self.orientation.swap_xy else 0]

    @property
    def height(self) -> int | None:
        """Rows of the events given, None if unknown."""
        return self.sensor and self.sensor[0 if self.orientation.swap_xy else 1]

    _repr_html_ = notebook.recording

    def adjusted(
        self,
        *,
        width: int | None = None,
        height: int | None = None,
        swap_xy: bool | None = None,
        flip_x: bool | None = None,
        flip_y: bool | None = None,
        swap_polarity: bool | None = None,
    ) -> Recording:
        """Return the recording with another orientation or sensor; None leaves a property as it is.

        ``width`` and ``height`` are those of the coordinates in the file, before ``swap_xy``.

        Raises
        ------
        ValueError
            If only one of width and height is known, they are not 1 to 65536, or one to mirror by is unknown.
        """
        sensor = (self.sensor or (None, None)) if width is None or height is None else (width, height)
        found = (width or sensor[0], height or sensor[1])
        if (found[0] is None) != (found[1] is None) or not all(n is None or 1 <= n <= 65536 for n in found):
            raise ValueError(f"{self.path}: width and height expect 1 to 65536 each, got {width} and {height}")
        given = {"swap_xy": swap_xy, "flip_x": flip_x, "flip_y": flip_y, "swap_polarity": swap_polarity}
        chosen = {name: value for name, value in given.items() if value is not None}
        orientation = dataclasses.replace(self.orientation, **chosen)
        if found[0] is None and (orientation.flip_x or orientation.flip_y):
            raise ValueError(f"{self.path}: does not say the sensor's size, so mirroring needs width= and height=")
        size = None if found[0] is None or found[1] is None else (found[0], found[1])
        return dataclasses.replace(self, sensor=size, orientation=orientation)

    def between(self, start: int, stop: int) -> Recording:
        """Return the recording of the events from ``start`` up to before ``stop``, in microseconds on the file's clock.

        HDF5 layouts are entered near ``start`` and left soon after ``stop``, by the file's index or by bisection.
        Events that come more than 10 ms after later ones (Metavision: at all) may be missed there. Files of other
        formats are read from end to end.
        """
        decode = self.decode if self.seek is None else partial(self.seek, start, stop)
        return dataclasses.replace(self, decode=partial(_within, decode, start, stop), n_events=None, seek=None)

    def chunks(self, size: int = CHUNK) -> Stream:
        """Iterate over the events in file order, at most ``size`` at a time, in memory that depends on ``size`` only.

        Raises
        ------
        ValueError
            If ``size`` is not positive.
        EventFileError
            While iterating: if the file is damaged so that nothing after that place can be understood. A file that
            ends in the middle of a word is not: what is whole is given, the rest counted in ``Stream.report``.
        """
        if size < 1:
            raise ValueError(f"chunks expects a size of at least 1, got {size}")
        return Stream(self, size)

    def columns(self) -> Chunk:
        """Return all events in memory, as one chunk; warns if anything was lost (``Report.dropped``)."""
        return self._all(columns_of)

    def read(self) -> np.ndarray:
        """Return all events in memory, as an array with fields ``t, x, y, p`` (``EVENT_DTYPE``), in file order.

        Warns if anything was lost, as :meth:`columns` does.
        """
        return self._all(structured_of)

    def _all(self, gather: Callable[[Iterable[Chunk], int], _Gathered]) -> _Gathered:
        stream = self.chunks()
        gathered = gather(stream, self.path.stat().st_size // 2)  # few formats take less for an event
        if stream.report.dropped:
            warnings.warn(f"{self.path}: {stream.report}", RuntimeWarning, stacklevel=3)
        return gathered

    def to_events(self, *, origin: int | None = None, duration: int = -1) -> Events:
        """Return all events as one sample in canonical order, polarity as channel.

        Parameters
        ----------
        origin : int, optional
            What time becomes 0. Default: that of the earliest event.
        duration : int, optional
            In microseconds from the origin. Default: one past the latest event.

        Raises
        ------
        ValueError
            If the sensor's size is unknown, or events lie before the origin or after the duration.
        """
        if self.width is None or self.height is None:
            raise ValueError(f"{self.path}: does not say the sensor's size; give open() width= and height=")
        events = self.columns()
        if origin is None:
            origin = int(events.t.min()) if len(events) else 0
        shape = (2, self.height, self.width)
        columns = (events.t - origin, events.p, events.y, events.x)
        return Events.from_columns(*columns, shape=shape, duration=duration, unit=self.unit)


class Stream:
    """Chunks of a recording, one after another; none is empty. ``report`` accounts for what came so far."""

    def __init__(self, recording: Recording, size: int) -> None:
        self._recording, self._tally, self._report = recording, Tally(), Report()
        self._chunks = self._run(size)

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Chunk:
        return next(self._chunks)

    def close(self) -> None:
        """Release the file before the end."""
        self._chunks.close()

    @property
    def report(self) -> Report:
        """What was given so far and what was not; complete once the stream has ended."""
        dropped, skipped = dict(self._tally.dropped), dict(self._tally.skipped)
        return dataclasses.replace(self._report, dropped=dropped, skipped=skipped)

    def _run(self, size: int) -> Generator[Chunk, None, None]:
        recording = self._recording
        try:
            for block in recording.decode(size, self._tally):
                sound = _oriented(self._within(block), recording)
                for start in range(0, len(sound), size):
                    chunk = sound[start : start + size]
                    self._report = _counted(self._report, chunk.t)
                    yield chunk
        except EventFileError as error:
            if error.path is not None:
                raise
            raise EventFileError(error.reason, recording.path, error.offset) from None

    def _within(self, block: Chunk) -> Chunk:
        """Leave out what is outside the sensor."""
        sensor = self._recording.sensor
        if sensor is None or not len(block) or (block.x.max() < sensor[0] and block.y.max() < sensor[1]):
            return block
        inside = (block.x < sensor[0]) & (block.y < sensor[1])
        self._tally.drop(OUTSIDE, len(block) - int(np.count_nonzero(inside)))
        return block[inside]


def _within(decode: Decode, start: int, stop: int, size: int, tally: Tally) -> Iterator[Chunk]:
    for block in decode(size, tally):
        keep = (block.t >= start) & (block.t < stop)
        yield block if keep.all() else block[keep]


def _oriented(block: Chunk, recording: Recording) -> Chunk:
    how, x, y, p = recording.orientation, block.x, block.y, block.p
    if how.swap_xy:
        x, y = y, x
    if how.flip_x and recording.width is not None:
        x = np.uint16(recording.width - 1) - x
    if how.flip_y and recording.height is not None:
        y = np.uint16(recording.height - 1) - y
    return Chunk(block.t, x, y, p ^ np.uint8(1) if how.swap_polarity else p)


def _counted(report: Report, t: np.ndarray) -> Report:
    """Return a report with a chunk's times added."""
    n_events = report.n_events + len(t)
    before = t[0] if report.latest is None else report.latest
    if t[0] >= before and (t[1:] >= t[:-1]).all():
        earliest = int(t[0]) if report.earliest is None else report.earliest
        return dataclasses.replace(report, n_events=n_events, earliest=earliest, latest=int(t[-1]))
    highest = np.maximum.accumulate(np.maximum(t, before))
    late = t < highest
    furthest = int((highest - t).view(np.uint64).max())  # which holds what int64 may not
    low = int(t.min())
    return dataclasses.replace(
        report,
        n_events=n_events,
        earliest=low if report.earliest is None else min(low, report.earliest),
        latest=int(highest[-1]),
        backward=report.backward + int(np.count_nonzero(late)),
        furthest_back=max(report.furthest_back, furthest),
    )
