"""Recordings of event cameras: what every reader gives, whatever the format of the file.

A reader is two functions: one recognizes its format by a file's first bytes (:mod:`eventsnn.io.formats` asks them in
order), one reads the header and returns a :class:`Recording`. The recording's ``decode`` yields columns in file order;
all that is common to the formats is done here: orientation, events outside the sensor, the account of what was lost.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from eventsnn import notebook
from eventsnn.events import Events, TimeUnit
from eventsnn.io.chunk import EVENT_DTYPE, Chunk, Rows, columns_of, most_events
from eventsnn.io.report import (
    BEFORE_TIME,
    CUT_END,
    OUTSIDE,
    UNKNOWN,
    EventFileError,
    Report,
    Tally,
    counted,
)

__all__ = [
    "BEFORE_TIME",
    "CUT_END",
    "EVENT_DTYPE",
    "OUTSIDE",
    "UNKNOWN",
    "Chunk",
    "EventFileError",
    "Orientation",
    "Recording",
    "Report",
    "Stream",
    "Tally",
]

#: Events of a chunk at most, unless said otherwise.
CHUNK = 1 << 17
_BLOCK = 1 << 15  # events that are put into an array at once: they stay in a core's cache until all is done


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


_AS_IT_IS, _NOTHING = Orientation(), Report()

#: Yields blocks of bounded size, in file order and the file's own orientation, and counts what it leaves out. The
#: number is a hint: about so many events a block. It raises :class:`EventFileError`, or OSError if the disk fails.
Decode = Callable[[int, Tally], Iterator[Chunk]]

#: The same for the events from one time up to before another, and possibly some around them.
Seek = Callable[[int, int, int, Tally], Iterator[Chunk]]

#: As :data:`Decode` for a format whose decoder can write into one array: puts its blocks into rows that are given.
Into = Callable[[int, Tally, Rows], Iterator[np.ndarray]]


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
    into : callable, optional
        See :data:`Into`; what :meth:`read` uses, if there is one.
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
    into: Into | None = field(default=None, repr=False)

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
        decode = partial(_within, decode, start, stop)
        return dataclasses.replace(self, decode=decode, n_events=None, seek=None, into=None)

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
        stream = self.chunks()
        columns = columns_of(stream, self._most())
        self._warn(stream.report)
        return columns

    def read(self) -> np.ndarray:
        """Return all events in memory, as an array with fields ``t, x, y, p`` (``EVENT_DTYPE``), in file order.

        Warns if anything was lost, as :meth:`columns` does.
        """
        rows = Rows(CHUNK if self.into is None else _BLOCK)
        report = self._gathered(rows) if self.into is None else self._placed(rows, self.into)
        self._warn(report)
        return rows.whole()

    def _gathered(self, rows: Rows) -> Report:
        rows.expect(self._most())
        stream = self.chunks(rows.size)
        for chunk in stream:
            rows.add(chunk)
        return stream.report

    def _placed(self, rows: Rows, into: Into) -> Report:
        """Let a decoder put events into rows, and do to them what a stream does to those that it gives."""
        tally, is_turned = Tally(), self.orientation != _AS_IT_IS
        try:
            for block in into(rows.size, tally, rows):
                sound = block if self.sensor is None else rows.within(block, self.sensor)
                tally.drop(OUTSIDE, len(block) - len(sound))
                if is_turned:
                    _turn(sound, self)
        except EventFileError as error:
            raise _named(error, self.path) from None
        # Only who warns of what was lost needs to know the times.
        return counted(Report(), rows.whole()["t"]).of(tally) if tally.dropped else _NOTHING

    def _most(self) -> int:
        most = most_events(self.path.stat().st_size)
        return most if self.n_events is None else min(self.n_events, most)

    def _warn(self, report: Report) -> None:
        if report.dropped:
            warnings.warn(f"{self.path}: {report}", RuntimeWarning, stacklevel=3)

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
        return self._report.of(self._tally)

    def _run(self, size: int) -> Generator[Chunk, None, None]:
        recording = self._recording
        try:
            for block in recording.decode(size, self._tally):
                sound = _oriented(self._within(block), recording)
                for start in range(0, len(sound), size):
                    chunk = sound[start : start + size]
                    self._report = counted(self._report, chunk.t)
                    yield chunk
        except EventFileError as error:
            raise _named(error, recording.path) from None

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


def _turn(events: np.ndarray, recording: Recording) -> None:
    """Do the same to an array of ``EVENT_DTYPE``, in place."""
    columns = Chunk(*(events[name] for name in "txyp"))
    x, y = (columns.x.copy(), columns.y.copy()) if recording.orientation.swap_xy else (columns.x, columns.y)
    turned = _oriented(Chunk(columns.t, x, y, columns.p), recording)
    for name in "xyp":
        if (column := getattr(turned, name)) is not getattr(columns, name):
            events[name] = column


def _named(error: EventFileError, path: Path) -> EventFileError:
    """Add the file to an error of a decoder that does not know it."""
    return error if error.path is not None else EventFileError(error.reason, path, error.offset)
