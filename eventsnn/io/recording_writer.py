"""Write one long recording to HDF5 (``data/FORMAT.md``), which programs for DSEC's layout read too."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eventsnn.events import check_shape
from eventsnn.io._event_file import EventFile
from eventsnn.io._index import MS, NAME, n_entries
from eventsnn.io._order import HOLD, Sorter
from eventsnn.io._storage import CHUNK_RECORDING, CHUNK_SAMPLES, Compression, dtypes, provenance, write_attributes
from eventsnn.io.chunk import Chunk
from eventsnn.io.recording import EventFileError

if TYPE_CHECKING:
    import h5py

#: Milliseconds that a recording may last: 37 hours. Its index has an entry for each.
MOST_MS = 1 << 27
_PIECE = 1 << 20  # entries of the index made at a time


class RecordingWriter:
    """Write a recording by appending chunks; it appears under its name when the ``with`` block ends well.

    The file is an event file of one sample, in canonical order, with an index of milliseconds for
    :meth:`EventDataset.between`. Memory is bounded, whatever the length.

    Parameters
    ----------
    path : str or Path
        The file to make or replace.
    width, height : int
        Of the sensor.
    compression : {"gzip", "blosc2", "none", "lzf"}
        Always with a checksum. Any HDF5 program reads ``"gzip"``; ``"blosc2"`` is up to twice as fast to write, two to
        three times to read, and needs the package hdf5plugin (``pip install 'eventsnn[fast]'``).
    hold : int
        How many events are held back to be sorted: an event that comes more than so many too late is an error.
    start, stop : int, optional
        When the recording begins and ends, in microseconds on the clock of the events; no event may be outside.
        Default: with the earliest event, and after the latest one.
    source : str, optional
        Where it came from.
    extra : mapping, optional
        What else is worth keeping, as of :class:`EventWriter`; it is looked at when the block ends, so that it may
        still grow.

    Raises
    ------
    ValueError
        If an argument is not as above; nothing has been written then.
    OSError
        Inside the ``with`` block and at its end: if the file cannot be written.

    Examples
    --------
    >>> with RecordingWriter("night.h5", 1280, 720) as writer:      # doctest: +SKIP
    ...     for chunk in eventsnn.open("night.raw").chunks():
    ...         writer.append(chunk)
    """

    def __init__(
        self,
        path: str | Path,
        width: int,
        height: int,
        *,
        compression: Compression = "gzip",
        hold: int = HOLD,
        start: int | None = None,
        stop: int | None = None,
        source: str | Path | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self._shape = check_shape((2, height, width))
        if start is not None and stop is not None and stop <= start:
            raise ValueError(f"stop expects a time after start, got {stop} after {start}")
        self._start, self._stop, self._source, self._extra = start, stop, source, extra
        provenance(source, None, None, extra)  # refuses what could not be stored
        types = dtypes(self._shape, 1) | {"t": "<i8"}
        columns = {f"events/{name}": (types[name], CHUNK_RECORDING) for name in ("t", "c", "y", "x")}
        others = {"offsets": ("<i8", CHUNK_SAMPLES), NAME: ("<u8", CHUNK_SAMPLES)}
        self._file = EventFile(path, columns | others, compression)
        self._sorter = Sorter(hold)
        self._n_events = self._next_ms = 0
        self._last = -1  # microseconds after the start

    def __enter__(self) -> RecordingWriter:
        self._file.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._file.discard()
            return
        with ExitStack() as stack:
            stack.push(self._file)
            self._complete()

    def append(self, chunk: Chunk) -> None:
        """Add events, in almost any order (see ``hold``).

        Raises
        ------
        ValueError
            If one is outside the sensor, not between ``start`` and ``stop``, or of a polarity that is not 0 or 1.
        EventFileError
            If one comes too late to be sorted, or more than 37 hours after the first.
        OSError
            If it cannot be written; nothing will be, then.
        """
        check_chunk(chunk, self._shape[2], self._shape[1])
        for part in self._sorter.push(chunk):
            self._store(part)

    def _store(self, part: Chunk) -> None:
        first, last = int(part.t[0]), int(part.t[-1])
        if self._start is None:
            self._start = first
        if first < self._start or (self._stop is not None and last >= self._stop):
            late = first if first < self._start else last
            raise ValueError(f"events expect times from {self._start} to before {self._stop}, got {late}")
        if last - self._start >= MOST_MS * MS:
            raise EventFileError(
                f"times span {(last - self._start) / 1e6:,.0f} s, expected at most {MOST_MS * MS / 1e6:,.0f}; "
                "if some are wrong, choose among them (--time)"
            )
        t = part.t - self._start
        self._add_to_index(t)
        for name, values in (("t", t), ("c", part.p), ("y", part.y), ("x", part.x)):
            self._file.extend(f"events/{name}", values)
        self._n_events += len(part)
        self._last = last - self._start

    def _add_to_index(self, t: np.ndarray) -> None:
        """Add the milliseconds that begin no later than the last of these times."""
        end = int(t[-1]) // MS + 1
        for first in range(self._next_ms, end, _PIECE):
            starts = np.arange(first, min(first + _PIECE, end), dtype=np.int64) * MS
            self._file.extend(NAME, np.searchsorted(t, starts) + self._n_events)
        self._next_ms = end

    def _complete(self) -> None:
        for part in self._sorter.finish():
            self._store(part)
        start = 0 if self._start is None else self._start
        duration = self._last + 1 if self._stop is None else self._stop - start
        duration = max(duration, 1)
        for first in range(self._next_ms, n_entries(duration), _PIECE):
            count = min(_PIECE, n_entries(duration) - first)
            self._file.extend(NAME, np.full(count, self._n_events, np.uint64))
        self._file.extend("offsets", np.array([0, self._n_events]))
        self._file.finish_datasets()
        texts = provenance(self._source, None, None, self._extra)
        counts = {"n_samples": 1, "n_events": self._n_events, "t_offset": start}

        def complete(file: h5py.File) -> None:
            file["events/p"] = file["events/c"]  # a hard link
            file["t_offset"] = np.int64(start)
            write_attributes(file, self._shape, "us", duration, texts, **counts)

        self._file.do(complete)


def check_chunk(chunk: Chunk, width: int, height: int) -> None:
    """Refuse events outside of a sensor, and polarities that are none.

    Raises
    ------
    ValueError
        If there are any.
    """
    for name, limit in (("x", width), ("y", height), ("p", 2)):
        values = getattr(chunk, name)
        if len(values) and values.max() >= limit:
            raise ValueError(f"events expect {name} below {limit}, got {values.max()}")
