"""Spikes of many samples in rows of any length: the HDF5 of the spoken digits and commands SHD and SSC.

``/spikes/times`` has the seconds of each sample's spikes, ``/spikes/units`` their units and ``/labels`` the classes. A
unit becomes a column of the grid ``(1, 1, units)``, seconds become microseconds: multiplied by 1,000,000 in float64 and
rounded to the nearest (half to even). The files hold times of 16 bits, half to one millisecond apart at a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eventsnn import notebook
from eventsnn.events import Events, Shape, TimeUnit
from eventsnn.io._hdf5_columns import Column, find, opened
from eventsnn.io._hdf5_rows import Heap, Rows
from eventsnn.io.recording import EventFileError

if TYPE_CHECKING:
    import h5py

_TIMES, _UNITS, _LABELS = "spikes/times", "spikes/units", "labels"
_LATEST = 1e15  # microseconds; what comes later is damage


class SpikeSamples:
    """Samples of an HDF5 file laid out as SHD and SSC, read in batches; data to train with and to evaluate.

    It can be pickled; the file is opened for each batch.

    Parameters
    ----------
    path : str or Path
        The file.
    units : int
        Their number: 700 in SHD and SSC.
    duration : int, optional
        Of every sample, in microseconds. Default: one past the latest spike, for which all of the file is read once
        where it is first needed.

    Raises
    ------
    EventFileError
        If the file is damaged or laid out in another way; of single samples once they are read.
    """

    def __init__(self, path: str | Path, *, units: int = 700, duration: int | None = None) -> None:
        if not 1 <= units <= 65536 or (duration is not None and duration < 1):
            raise ValueError(f"expected 1 to 65536 units and a positive duration, got {units} and {duration}")
        self._path, self._units, self._duration = Path(path).absolute(), units, duration
        with opened(self._path) as file:
            self._n = len(_columns(file)[0])
            self._labels = _labels(file, self._n)

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def shape(self) -> Shape:
        """Grid ``(1, 1, units)``."""
        return 1, 1, self._units

    @property
    def unit(self) -> TimeUnit:
        """What times count: ``"us"``."""
        return "us"

    @property
    def labels(self) -> np.ndarray | None:
        """Class of each sample, int64 of shape (n_samples,), read-only; None if the file has none."""
        return self._labels

    @property
    def duration(self) -> int:
        """Length of every sample in microseconds."""
        if self._duration is not None:
            return self._duration
        return 1 if self.span is None else self.span[1] + 1

    @property
    def n_events(self) -> int:
        """Number of spikes in the file; the first time, all of it is read."""
        return self._survey[0]

    def __len__(self) -> int:
        """Return the number of samples."""
        return self._n

    def __repr__(self) -> str:
        """Return the file, samples and units in one line."""
        return f"SpikeSamples({str(self._path)!r}: {len(self)} samples, shape={self.shape})"

    _repr_html_ = notebook.samples

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray) -> Events:
        """Return the samples at an index, a slice, a list of indices or a boolean mask, as a batch.

        Raises
        ------
        EventFileError
            If a sample is damaged, a unit is beyond their number, or a time is negative or beyond the duration.
        """
        samples = np.atleast_1d(np.arange(self._n)[index])
        with opened(self._path) as file:
            parts = list(self._read(file, samples))
        offsets = np.concatenate([[0], np.cumsum([len(t) for t, _ in parts])]).astype(np.int64)
        time, x = (np.concatenate([np.empty(0, np.int64), *(part[i] for part in parts)]) for i in (0, 1))
        nothing = np.zeros(len(time), np.uint16)
        labels = None if self._labels is None else self._labels[samples]
        fields = {"duration": self.duration, "unit": self.unit, "labels": labels}
        try:
            return Events.from_columns(time, nothing, nothing, x, shape=self.shape, offsets=offsets, **fields)
        except ValueError as error:
            raise EventFileError(f"{len(samples)} samples from {samples[:1].tolist()}: {error}", self._path) from None

    def batches(self, size: int) -> Iterator[Events]:
        """Iterate over the samples in order, ``size`` at a time (the last batch may be smaller).

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

    @property
    def span(self) -> tuple[int, int] | None:
        """Earliest and latest time; None without spikes. The first time, all of the file is read."""
        return self._survey[1]

    @cached_property
    def _survey(self) -> tuple[int, tuple[int, int] | None]:
        """Number of spikes, their earliest and latest time."""
        n_events, low, high = 0, int(_LATEST), -1
        with opened(self._path) as file:
            for time, _ in self._read(file, np.arange(self._n)):
                n_events += len(time)
                low, high = min(low, int(time.min(initial=low))), max(high, int(time.max(initial=high)))
        return n_events, (low, high) if n_events else None

    def _read(self, file: h5py.File, samples: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield microseconds and units of samples."""
        times, units = _columns(file)
        if len(times) != self._n:
            raise EventFileError(f"held {self._n} samples when it was first opened, now {len(times)}")
        read, known = 0, set[int]()
        for number in samples.tolist():
            seconds, unit = times[number], units[number]
            read += 0 if number in known else seconds.nbytes + unit.nbytes
            known.add(number)
            if read > times.file_size:  # rows that share their bytes would be any amount of memory
                raise EventFileError(f"samples up to {number} have {read} bytes, in a file of {times.file_size}")
            if len(seconds) != len(unit):
                raise EventFileError(f"sample {number} has {len(seconds)} times and {len(unit)} units")
            if unit.size and not (unit.min() >= 0 and unit.max() < self._units):
                found = f"{unit.min()} to {unit.max()}"
                raise EventFileError(f"sample {number} expects units from 0 to {self._units - 1}, found {found}")
            yield _microseconds(seconds, number), unit.astype(np.int64)


def holds_spikes(file: h5py.File) -> bool:
    """Tell whether a file is laid out as SHD and SSC."""
    return find(file, _TIMES) is not None and find(file, _UNITS) is not None


def _columns(file: h5py.File) -> tuple[Rows, Rows]:
    heap = Heap(file)
    times, units = (Rows(find(file, where), where, heap) for where in (_TIMES, _UNITS))
    if len(times) != len(units):
        raise EventFileError(f"expected as many {_TIMES} as {_UNITS}, found {len(times)} and {len(units)}")
    return times, units


def _labels(file: h5py.File, n_samples: int) -> np.ndarray | None:
    if (item := find(file, _LABELS)) is None:
        return None
    column = Column(item, _LABELS)
    if column.shape != (n_samples,) or column.dtype.kind not in "iu":
        found = f"{column.dtype!s:.80} of shape {column.shape}"
        raise EventFileError(f"{_LABELS} expects {n_samples} whole numbers, found {found}")
    labels: np.ndarray = column[:].astype(np.int64)
    labels.setflags(write=False)
    return labels


def _microseconds(seconds: np.ndarray, number: int) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):  # what is no time is refused
        time = np.rint(seconds.astype(np.float64) * 1e6)  # of float16, microseconds would be infinite
    if len(time) and not (time.min() >= 0 and time.max() <= _LATEST):  # false for what is no number
        found = f"{time.min()} to {time.max()} microseconds"
        raise EventFileError(f"sample {number} expects times from 0 on, found {found}")
    return time.astype(np.int64)
