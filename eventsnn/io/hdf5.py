"""Read events from HDF5 (``data/FORMAT.md``), a slice at a time, never a wrong array."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eventsnn.events import Events, Shape, TimeUnit
from eventsnn.io._checks import (
    COLUMNS,
    VERSION,
    DatasetError,
    Header,
    check_offsets,
    check_polarity_link,
    checked_dataset,
    checked_group,
    naming,
    open_file,
    read_header,
)

if TYPE_CHECKING:
    import h5py

# Events read and validated at a time: their columns and the temporaries of the checks stay near the cache.
_BLOCK = 1 << 18


@dataclass(frozen=True, eq=False)
class _Content:
    """An open file with its small parts in memory."""

    file: h5py.File
    header: Header
    columns: dict[str, h5py.Dataset]
    offsets: np.ndarray
    labels: np.ndarray | None
    groups: np.ndarray | None


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
        uncompressed speeds up repeated random access; reading in order needs next to none. HDF5 keeps the setting
        of a process's first opening of a file until that is closed.

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

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray) -> Events:
        """Return the samples at an index, a slice, a list of indices or a boolean mask, as a batch."""
        samples = _positions(index, len(self))
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

    def _load(self, samples: np.ndarray) -> Events:
        """Read ascending samples, block by block so that checks and conversion need little memory."""
        offsets = self.offsets
        bounds = np.concatenate([[0], np.cumsum(offsets[samples + 1] - offsets[samples])])
        if bounds[-1] <= _BLOCK:
            return self._read(samples)
        fields = {n: np.empty(bounds[-1], d) for n, d in (("time", "i8"), ("channel", "u2"), ("y", "u2"), ("x", "u2"))}
        for first, last in _blocks(bounds):
            part = self._read(samples[first:last])
            for name, column in fields.items():
                column[bounds[first] : bounds[last]] = getattr(part, name)
        return Events.unchecked(**fields, **self._per_sample(samples))

    def _read(self, samples: np.ndarray) -> Events:
        content = self._content()
        spans = _spans(content.offsets[samples], content.offsets[samples + 1])
        with naming(self._path):
            stored = {field: _gather(content.columns[name], spans) for name, field, _ in COLUMNS}
            fields: dict[str, Any] = {
                name: values.astype(np.int64 if name == "time" else np.uint16, copy=False)
                for name, values in stored.items()
            }
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


def info(path: str | Path) -> dict[str, Any]:
    """Summarize an event file without reading its events.

    Returns
    -------
    dict
        Ready for JSON: ``path``, ``bytes``, ``format_version``, ``samples``, ``events``, ``shape``, ``unit``,
        ``duration``, ``density`` (spikes per neuron and sample), ``labels`` (None, or ``classes`` and how many
        samples each has, ``counts``), ``groups`` (None, or how many there are) and ``provenance``.

    Raises
    ------
    DatasetError
        If the structure of the file is not as it must be.
    """
    with EventDataset(path) as dataset:
        return _summary(dataset)


def check(path: str | Path) -> dict[str, Any]:
    """Read all of an event file, verify every checksum and every event, and summarize it.

    Returns
    -------
    dict
        As :func:`info`, with ``empty_samples``, ``earliest`` and ``latest`` time (None without events).

    Raises
    ------
    DatasetError
        If anything in the file is not as it must be.
    """
    with EventDataset(path) as dataset:
        parts = (dataset[start:stop].time for start, stop in _blocks(dataset.offsets))
        ranges = [(int(time.min()), int(time.max())) for time in parts if len(time)]
        return _summary(dataset) | {
            "empty_samples": int((np.diff(dataset.offsets) == 0).sum()),
            "earliest": min((low for low, _ in ranges), default=None),
            "latest": max((high for _, high in ranges), default=None),
        }


def _summary(dataset: EventDataset) -> dict[str, Any]:
    neurons = len(dataset) * int(np.prod(dataset.shape, dtype=np.int64))
    return {
        "path": str(dataset.path),
        "bytes": dataset.path.stat().st_size,
        "format_version": VERSION,
        "samples": len(dataset),
        "events": dataset.n_events,
        "shape": list(dataset.shape),
        "unit": dataset.unit,
        "duration": dataset.duration,
        "density": dataset.n_events / neurons if neurons else 0.0,
        "labels": count_labels(dataset.labels),
        "groups": None if dataset.groups is None else _count_groups(dataset.groups, dataset.labels),
        "provenance": dataset.provenance,
    }


def count_labels(labels: np.ndarray | None) -> dict[str, list[int]] | None:
    """Return the classes and how many samples each has."""
    if labels is None:
        return None
    classes, counts = np.unique(labels, return_counts=True)
    return {"classes": classes.tolist(), "counts": counts.tolist()}


def _count_groups(groups: np.ndarray, labels: np.ndarray | None) -> int:
    columns = groups[None] if labels is None else np.stack([labels, groups])
    return int(np.unique(columns, axis=1).shape[1])


def _open_content(path: Path, cache_bytes: int) -> _Content:
    with naming(path):
        file = open_file(path, cache_bytes // len(COLUMNS))
        try:
            return _read_structure(file)
        except BaseException:
            file.close()
            raise


def _read_structure(file: h5py.File) -> _Content:
    header = read_header(file)
    events = checked_group(file, "events")
    columns = {name: checked_dataset(events, name, dtypes, header.n_events) for name, _, dtypes in COLUMNS}
    check_polarity_link(events)
    offsets = checked_dataset(file, "offsets", ("<i8",), header.n_samples + 1)[:]
    check_offsets(offsets, header.n_events)
    offsets.setflags(write=False)
    labels, groups = (_per_sample_column(file, name, header.n_samples) for name in ("labels", "groups"))
    return _Content(file, header, columns, offsets, labels, groups)


def _per_sample_column(file: h5py.File, name: str, n_samples: int) -> np.ndarray | None:
    if not file.id.links.exists(name.encode()):
        return None
    column: np.ndarray = checked_dataset(file, name, ("<i8",), n_samples)[:]
    column.setflags(write=False)
    return column


def _blocks(bounds: np.ndarray) -> Iterator[tuple[int, int]]:
    """Cut samples with these offsets into ranges of about ``_BLOCK`` events, at least one sample each."""
    start, n_samples = 0, len(bounds) - 1
    while start < n_samples:
        end = int(np.searchsorted(bounds, bounds[start] + _BLOCK, side="right")) - 1
        end = max(end, start + 1)
        yield start, end
        start = end


def _spans(starts: np.ndarray, ends: np.ndarray) -> list[tuple[int, int]]:
    """Join the adjacent ones of ascending ranges of events."""
    if not len(starts):
        return [(0, 0)]
    breaks = np.flatnonzero(starts[1:] != ends[:-1])
    lows, highs = starts[np.append(0, breaks + 1)], ends[np.append(breaks, len(ends) - 1)]
    return list(zip(lows.tolist(), highs.tolist(), strict=True))


def _gather(column: h5py.Dataset, spans: list[tuple[int, int]]) -> np.ndarray:
    parts: list[np.ndarray] = []
    for near in _neighbours(spans, column.chunks[0]):
        first = near[0][0]
        values = column[first : near[-1][1]]
        parts += [values[low - first : high - first] for low, high in near]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _neighbours(spans: list[tuple[int, int]], chunk: int) -> Iterator[list[tuple[int, int]]]:
    """Group ascending ranges that can be read at once: what lies between is in their chunks, and not much."""
    near = spans[:1]
    for low, high in spans[1:]:
        if low // chunk > near[-1][1] // chunk or high - near[0][0] > _BLOCK:
            yield near
            near = []
        near.append((low, high))
    yield near


def _positions(index: Any, n_samples: int) -> np.ndarray:
    """Return the sample numbers that an index means, int64."""
    if isinstance(index, slice):
        return np.arange(*index.indices(n_samples))
    if isinstance(index, int | np.integer) and not isinstance(index, bool):
        if not -n_samples <= index < n_samples:
            raise IndexError(f"sample {index} is outside a data set of {n_samples} samples")
        return np.array([int(index) % n_samples])
    positions = np.arange(n_samples)[index]
    if positions.ndim != 1:
        raise IndexError(f"expected an index, a slice, a list of indices or a mask, got {index!r:.80}")
    return positions
