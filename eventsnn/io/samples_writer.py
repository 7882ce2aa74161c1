"""Write recordings as samples of one event file, each whole or cut into windows, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eventsnn.events import check_shape
from eventsnn.io._event_file import EventFile
from eventsnn.io._order import HOLD, Sorter
from eventsnn.io._storage import CHUNK_SAMPLES, Compression, dtypes, provenance, write_attributes
from eventsnn.io.chunk import Chunk
from eventsnn.io.hdf5 import EventDataset
from eventsnn.io.recording import EventFileError
from eventsnn.io.recording_writer import check_chunk

if TYPE_CHECKING:
    import h5py

#: Windows that one recording may be cut into; its offsets are kept in memory when the file is read.
MOST_WINDOWS = 1 << 24
_LONGEST = (1 << 63) - 1


class SamplesWriter:
    """Write an event file of samples by adding recordings; it appears when the ``with`` block ends well.

    Parameters
    ----------
    path : str or Path
        The file to make or replace.
    width, height : int
        Of the sensor.
    window : int, optional
        Length of the samples that each recording is cut into, in microseconds; the last of them may end early, and some
        may be empty. Default: each recording is one sample.
    duration : int, optional
        Of the samples, without a ``window``. Default: that of the longest.
    compression : {"gzip", "blosc2", "none", "lzf"}
        As of :class:`RecordingWriter`.
    labelled, grouped : bool
        Whether samples have labels, and numbers of the recordings they are of.
    hold : int
        As of :class:`RecordingWriter`.
    """

    def __init__(
        self,
        path: str | Path,
        width: int,
        height: int,
        *,
        window: int | None = None,
        duration: int | None = None,
        compression: Compression = "gzip",
        labelled: bool = False,
        grouped: bool = False,
        hold: int = HOLD,
        source: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self._shape = check_shape((2, height, width))
        if window is not None and not 1 <= window < _LONGEST:
            raise ValueError(f"window expects 1 us or more, got {window}")
        self._window, self._hold, self._duration = window, hold, window or duration
        self._source, self._extra = source, extra
        types = dtypes(self._shape, self._duration or _LONGEST)
        names = [f"events/{name}" for name in types] + ["offsets"] + ["labels"] * labelled + ["groups"] * grouped
        self._columns = {"labels": labelled, "groups": grouped}
        kinds = {f"events/{name}": dtype for name, dtype in types.items()}
        self._file = EventFile(path, {name: (kinds.get(name, "<i8"), CHUNK_SAMPLES) for name in names}, compression)
        self._n_events = self._n_samples = self._longest = 0

    def __enter__(self) -> SamplesWriter:
        self._file.__enter__()
        self._file.extend("offsets", np.zeros(1, np.int64))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._file.discard()
            return
        with ExitStack() as stack:
            stack.push(self._file)
            self._file.finish_datasets()
            texts = provenance(self._source, None, None, self._extra)
            finish(
                self._file, self._shape, self._duration or self._longest or 1, texts, self._n_samples, self._n_events
            )

    def add(self, chunks: Iterable[Chunk], *, start: int | None = None, label: int = 0, group: int = 0) -> int:
        """Add a recording, and return how many samples it became: one at least.

        Parameters
        ----------
        chunks : iterable of Chunk
            In almost any order.
        start : int, optional
            When the first sample begins. Default: with the earliest event.
        label, group : int
            Of its samples, if the file has such.

        Raises
        ------
        ValueError, EventFileError
            If events are not as they must be; the file is to be given up then.
        """
        cut = _Cut(self._window or self._duration or _LONGEST, self._n_events, start)
        for part in self._sorted(chunks):
            if self._window is None and self._duration is not None:
                _check_time(part, cut.start_of(part), self._duration)
            self._file.extend("offsets", cut.bounds(part))
            for name, values in (("t", cut.times(part)), ("c", part.p), ("y", part.y), ("x", part.x)):
                self._file.extend(f"events/{name}", values)
            self._longest = max(self._longest, int(part.t[-1]) - cut.start_of(part) + 1)
            cut.n_events = self._n_events = self._n_events + len(part)
        self._file.extend("offsets", np.array([self._n_events]))
        n_samples = cut.window + 1
        for name, value in (("labels", label), ("groups", group)):
            if self._columns[name]:
                self._file.extend(name, np.full(n_samples, value, np.int64))
        self._n_samples += n_samples
        return n_samples

    def _sorted(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        sorter = Sorter(self._hold)
        for chunk in chunks:
            check_chunk(chunk, self._shape[2], self._shape[1])
            yield from sorter.push(chunk)
        yield from sorter.finish()


class _Cut:
    """Where windows of one length begin in a recording."""

    def __init__(self, length: int, n_events: int, start: int | None) -> None:
        self._length, self.n_events, self._start = length, n_events, start
        self.window = 0  # the present one

    def start_of(self, part: Chunk) -> int:
        """Return when the recording begins, of which this may be the first part."""
        if self._start is None:
            self._start = int(part.t[0])
        if part.t[0] < self._start:
            raise ValueError(f"events expect times from {self._start} on, got {part.t[0]}")
        return self._start

    def bounds(self, part: Chunk) -> np.ndarray:
        """Return the number of events, of all recordings, before each window that begins in this part."""
        span = int(part.t[-1]) - self.start_of(part)
        last = span // self._length
        if last >= MOST_WINDOWS or span >= _LONGEST:
            raise EventFileError(f"expected at most {MOST_WINDOWS:,} windows, found time for {last + 1:,}")
        begins = np.arange(self.window + 1, last + 1, dtype=np.int64) * self._length
        self.window = last
        return np.searchsorted(part.t - self._start, begins) + self.n_events

    def times(self, part: Chunk) -> np.ndarray:
        """Return times from the beginning of their windows."""
        t = part.t - self.start_of(part)
        return t if self._length == _LONGEST else t % self._length


def _check_time(part: Chunk, start: int, duration: int) -> None:
    if int(part.t[-1]) - start >= duration:
        raise ValueError(f"events expect times before {start + duration}, got {part.t[-1]}")


def merge(paths: list[Path], path: Path, *, compression: Compression, source: str, extra: Mapping[str, Any]) -> None:
    """Write the samples of several files as those of one, whose grid and duration are the largest of them.

    Parameters
    ----------
    paths : list of Path
        Files with labels in all or none, and groups in all or none; at least one.
    path : Path
        The file to make or replace.
    """
    parts = [EventDataset(part) for part in paths]
    height, width = (max(part.shape[axis] for part in parts) for axis in (1, 2))
    shape, duration = check_shape((2, height, width)), max(part.duration for part in parts)
    present = [name for name in ("labels", "groups") if getattr(parts[0], name) is not None]
    names = {f"events/{name}": dtype for name, dtype in dtypes(shape, duration).items()}
    names |= dict.fromkeys(["offsets", *present], "<i8")
    with EventFile(path, {name: (dtype, CHUNK_SAMPLES) for name, dtype in names.items()}, compression) as file:
        n_events = n_samples = 0
        file.extend("offsets", np.zeros(1, np.int64))
        for part in parts:
            with part:
                for columns in part.stored():
                    for name, values in columns.items():
                        file.extend(f"events/{name}", values)
                file.extend("offsets", part.offsets[1:] + n_events)
                for name in present:
                    file.extend(name, getattr(part, name))
                n_events, n_samples = n_events + part.n_events, n_samples + len(part)
        file.finish_datasets()
        finish(file, shape, duration, provenance(source, None, None, extra), n_samples, n_events)


def finish(
    file: EventFile, shape: tuple[int, int, int], duration: int, texts: dict[str, str], n_samples: int, n_events: int
) -> None:
    """Write what a file of samples says of itself."""

    def complete(stored: h5py.File) -> None:
        stored["events/p"] = stored["events/c"]  # a hard link
        write_attributes(stored, shape, "us", duration, texts, n_samples=n_samples, n_events=n_events)

    file.do(complete)
