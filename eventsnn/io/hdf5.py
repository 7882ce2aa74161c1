"""Read events from HDF5 (``data/FORMAT.md``), a slice at a time, never a wrong array."""

from __future__ import annotations

import copy
import operator
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eventsnn import notebook
from eventsnn.events import Events, Shape, TimeUnit, replace_fields
from eventsnn.io._checks import (
    COLUMNS,
    Header,
    check_offsets,
    check_polarity_link,
    checked_dataset,
    checked_group,
    read_header,
)
from eventsnn.io._gather import BLOCK, blocks_of, gather, positions_of, spans_of
from eventsnn.io._hdf5_columns import Column
from eventsnn.io._hdf5_file import DatasetError, naming, open_file
from eventsnn.io._index import IndexCheck, check_bracket, checked_index, first_key, index_bracket, last_key
from eventsnn.threads import default_threads, spread

if TYPE_CHECKING:
    import h5py


_SHARED = 1 << 16  # events, from which on columns are read by several threads


@dataclass(frozen=True, eq=False)
class _Content:
    """An open file with its small parts in memory."""

    file: h5py.File
    header: Header
    columns: dict[str, Column]
    offsets: np.ndarray
    labels: np.ndarray | None
    groups: np.ndarray | None
    index: Column | None  # the first event of each millisecond


class EventDataset:
    """Events in an HDF5 file, read in batches and slices without loading the rest.

    Opening checks the structure and reads offsets, labels and groups; every slice is checked for damage, order, grid
    and duration before it is returned. The file is opened once per process: a dataset can be pickled and used in
    worker processes.

    Parameters
    ----------
    path : str or Path
        File written by :class:`EventWriter` or to ``data/FORMAT.md``.
    cache_bytes : int, optional
        Memory for decompressed chunks, in bytes, shared by the columns. As much as the columns take
        uncompressed speeds up repeated random access; reading in order needs next to none.

    Raises
    ------
    DatasetError
        If the file is missing, damaged, inconsistent, of another format or of a newer version, here or on a later
        read; the message names the file, what was expected and what was found.

    Examples
    --------
    >>> with EventDataset("train.h5") as train:     # doctest: +SKIP
    ...     first = train[:100]                     # Events, labels included
    ...     for batch in train.batches(1000):
    ...         ...
    """

    def __init__(self, path: str | Path, *, cache_bytes: int = 64 << 20) -> None:
        self._path = Path(path).absolute()
        self._cache_bytes = cache_bytes
        self._opened: tuple[int, _Content] | None = None
        self._header: Header | None = None
        self._header = self._content().header

    @classmethod
    def from_tonic(cls, dataset: Any, path: str | Path, **options: Any) -> EventDataset:
        """Write a data set of tonic to a file and open it; parameters are those of :func:`eventsnn.io.write_tonic`."""
        from eventsnn.io.tonic import write_tonic

        write_tonic(dataset, path, **options)
        return cls(path)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}

    def _content(self) -> _Content:
        """Open the file, unless this process has."""
        pid = os.getpid()
        if self._opened is None or self._opened[0] != pid:
            content = _open_content(self._path, self._cache_bytes)
            if self._header is not None and content.header != self._header:
                content.file.close()
                raise DatasetError(f"{self._path}: was replaced by another data set since it was first opened")
            self._opened = (pid, content)
        return self._opened[1]

    def close(self) -> None:
        """Release the file; the next access opens it again."""
        if self._opened is not None and self._opened[0] == os.getpid():
            self._opened[1].file.close()
        self._opened = None

    def __enter__(self) -> EventDataset:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def shape(self) -> Shape:
        """Grid ``(channels, height, width)``."""
        return self._content().header.shape

    @property
    def unit(self) -> TimeUnit:
        """What times count: ``"bin"`` or ``"us"``."""
        return self._content().header.unit

    @property
    def duration(self) -> int:
        """Length of every stimulus in time units."""
        return self._content().header.duration

    @property
    def n_events(self) -> int:
        """Number of spikes in the file."""
        return self._content().header.n_events

    @property
    def labels(self) -> np.ndarray | None:
        """Class of each sample, int64 of shape (n_samples,), read-only; None if the file has none."""
        return self._content().labels

    @property
    def groups(self) -> np.ndarray | None:
        """Which samples belong together, int64 of shape (n_samples,), read-only: those of one class with one number.

        None if the file does not say.
        """
        return self._content().groups

    @property
    def offsets(self) -> np.ndarray:
        """Where each sample starts among the spikes, int64 of shape (n_samples + 1,), read-only."""
        return self._content().offsets

    @property
    def t_offset(self) -> int:
        """What to add to times of a recording, to have those of its source's clock, in microseconds."""
        return self._content().header.t_offset

    @property
    def provenance(self) -> dict[str, Any]:
        """What the file says of its origin: some of created_by, source, source_sha256, encoder, extra."""
        return copy.deepcopy(self._content().header.provenance)

    def __len__(self) -> int:
        """Return the number of samples."""
        return self._content().header.n_samples

    def __repr__(self) -> str:
        """Return the file, samples, spikes, grid and duration in one line."""
        return (
            f"EventDataset({str(self._path)!r}: {len(self)} samples, {self.n_events} spikes, shape={self.shape}, "
            f"duration={self.duration} {self.unit})"
        )

    _repr_html_ = notebook.dataset

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray) -> Events:
        """Return the samples at an index, a slice, a list of indices or a boolean mask, as a batch."""
        samples = positions_of(index, len(self))
        if (samples[1:] > samples[:-1]).all():
            return self._load(samples)
        wanted, order = np.unique(samples, return_inverse=True)
        return self._load(wanted)[order]

    def batches(self, size: int) -> Iterator[Events]:
        """Iterate over the data set in order, ``size`` samples at a time (the last batch may be smaller).

        Raises
        ------
        ValueError
            If ``size`` is not positive.
        """
        if size < 1:
            raise ValueError(f"batches expects a size of at least 1, got {size}")
        return (self[start : start + size] for start in range(0, len(self), size))

    def load(self) -> Events:
        """Return everything, in memory."""
        return self[:]

    def between(self, start: int, stop: int, sample: int = 0) -> Events:
        """Return the events of a sample from a time to before another one, as a stimulus of that length.

        A recording's index of milliseconds makes this a matter of a few chunks, wherever the time is.

        Parameters
        ----------
        start, stop : int
            In time units from the sample's beginning, ``0 <= start < stop``. Nothing happens after the sample's end.
        sample : int
            Which one.

        Returns
        -------
        Events
            One sample of duration ``stop - start``, whose times count from ``start``, with the sample's label.

        Raises
        ------
        ValueError
            If the times are not as above.
        DatasetError
            If the file is damaged where it was read.
        """
        start, stop = operator.index(start), operator.index(stop)
        if not 0 <= start < stop < 1 << 63:
            raise ValueError(f"between expects 0 <= start < stop, got {start} and {stop}")
        (number,) = positions_of(sample, len(self))
        content = self._content()
        whole = int(content.offsets[number]), int(content.offsets[number + 1])
        with naming(self._path):
            low, high = whole if content.index is None else index_bracket(content.index, start, stop, whole[1])
            # One event more at either side says whether it is all.
            first, last = max(low - 1, whole[0]), min(high + 1, whole[1])
            time = content.columns["t"][first:last].astype(np.int64, copy=False)
            check_bracket(time, (low - first, high - first), start, stop)
            inside = np.searchsorted(time, [start, min(stop, self.duration)])
            part = self._part(first + int(inside[0]), first + int(inside[1]), int(number))
        return replace_fields(part, time=part.time - start, duration=stop - start)

    def pieces(self, sample: int = 0, size: int = BLOCK) -> Iterator[Events]:
        """Iterate over the events of one sample, at most ``size`` at a time, in memory that depends on ``size`` only.

        Each piece is one sample of the whole duration, whose times count from the sample's beginning.

        Raises
        ------
        ValueError
            If ``size`` is not positive.
        DatasetError
            While iterating: if the file is damaged there.
        """
        if size < 1:
            raise ValueError(f"pieces expects a size of at least 1, got {size}")
        (number,) = positions_of(sample, len(self))
        return self._pieces(int(number), size)

    def _pieces(self, number: int, size: int) -> Iterator[Events]:
        start, stop = (int(n) for n in self.offsets[number : number + 2])
        before: Events | None = None
        for low in range(start, stop, size):
            with naming(self._path):
                part = self._part(low, min(low + size, stop), number)
                if before is not None and last_key(before) > first_key(part):
                    raise DatasetError(f"events must be sorted by (time, channel, y, x), but event {low} is not")
            before = part
            yield part

    def stored(self) -> Iterator[dict[str, np.ndarray]]:
        """Yield the columns ``t, c, y, x`` of all samples as they are stored, in pieces; only checksums are checked."""
        columns = self._content().columns
        for low in range(0, self.n_events, BLOCK):
            with naming(self._path):
                yield {name: column[low : low + BLOCK] for name, column in columns.items()}

    def verify(self) -> Iterator[np.ndarray]:
        """Read and check everything, in pieces of bounded size; yield the times of each.

        Raises
        ------
        DatasetError
            While iterating: where the file is damaged or not as it must be.
        """
        index = self._content().index
        comparison = None if index is None else IndexCheck(index)
        for start, stop in blocks_of(self.offsets):
            for part in self.pieces(start) if stop - start == 1 else [self[start:stop]]:
                if comparison is not None:
                    with naming(self._path):
                        comparison.add(part.time)
                yield part.time
        if comparison is not None:
            with naming(self._path):
                comparison.finish()

    def _part(self, low: int, high: int, sample: int) -> Events:
        """Read some events of one sample."""
        content = self._content()
        fields = _fields(content, [(low, high)])
        per_sample = self._per_sample(np.array([sample])) | {"offsets": np.array([0, high - low])}
        try:
            return Events(**fields, **per_sample)
        except ValueError as error:
            raise DatasetError(f"events from {low} to {high}: {error}") from None

    def _load(self, samples: np.ndarray) -> Events:
        """Read ascending samples, block by block so that checks and conversion need little memory."""
        offsets = self.offsets
        bounds = np.concatenate([[0], np.cumsum(offsets[samples + 1] - offsets[samples])])
        if bounds[-1] <= BLOCK:
            return self._read(samples)
        fields = {n: np.empty(bounds[-1], d) for n, d in (("time", "i8"), ("channel", "u2"), ("y", "u2"), ("x", "u2"))}
        for first, last in blocks_of(bounds):
            part = self._read(samples[first:last])
            for name, column in fields.items():
                column[bounds[first] : bounds[last]] = getattr(part, name)
        return Events.unchecked(**fields, **self._per_sample(samples))

    def _read(self, samples: np.ndarray) -> Events:
        content = self._content()
        spans = spans_of(content.offsets[samples], content.offsets[samples + 1])
        with naming(self._path):
            fields = _fields(content, spans)
            try:
                return Events(**fields, **self._per_sample(samples))
            except ValueError as error:
                which = f"{len(samples)} samples from {samples[0]}, their events from {spans[0][0]}"
                raise DatasetError(f"{which}: {error}") from None

    def _per_sample(self, samples: np.ndarray) -> dict[str, Any]:
        content = self._content()
        counts = content.offsets[samples + 1] - content.offsets[samples]
        return {
            "offsets": np.concatenate([[0], np.cumsum(counts)]),
            "labels": None if content.labels is None else content.labels[samples],
            "shape": content.header.shape,
            "duration": content.header.duration,
            "unit": content.header.unit,
        }


def _fields(content: _Content, spans: list[tuple[int, int]]) -> dict[str, Any]:
    """Read the columns in ascending ranges; several threads share what is decompressed without lock."""
    much = spans[-1][1] - spans[0][0] >= _SHARED and content.columns["t"].decompressed_here
    threads = default_threads() if much else 1
    read = spread(partial(_column, content, spans), COLUMNS, threads)
    return dict(zip((field for _, field, _ in COLUMNS), read, strict=True))


def _column(content: _Content, spans: list[tuple[int, int]], column: tuple[str, str, Any]) -> np.ndarray:
    name, field, _ = column
    return gather(content.columns[name], spans).astype(np.int64 if field == "time" else np.uint16, copy=False)


def _open_content(path: Path, cache_bytes: int) -> _Content:
    with naming(path):
        file = open_file(path)
        try:
            return _read_structure(file, cache_bytes // len(COLUMNS))
        except BaseException:
            file.close()
            raise


def _read_structure(file: h5py.File, cache_bytes: int) -> _Content:
    header = read_header(file)
    events = checked_group(file, "events")
    columns = {name: checked_dataset(events, name, dtypes, header.n_events, cache_bytes) for name, _, dtypes in COLUMNS}
    check_polarity_link(events)
    offsets = checked_dataset(file, "offsets", ("<i8",), header.n_samples + 1)[:]
    check_offsets(offsets, header.n_events)
    offsets.setflags(write=False)
    labels, groups = (_per_sample_column(file, name, header.n_samples) for name in ("labels", "groups"))
    return _Content(file, header, columns, offsets, labels, groups, checked_index(file, header))


def _per_sample_column(file: h5py.File, name: str, n_samples: int) -> np.ndarray | None:
    if not file.id.links.exists(name.encode()):
        return None
    column = checked_dataset(file, name, ("<i8",), n_samples)[:]
    column.setflags(write=False)
    return column
