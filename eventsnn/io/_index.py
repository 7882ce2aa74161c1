"""The index of a recording: the first event of each millisecond (``data/FORMAT.md``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eventsnn.events import Events
from eventsnn.io._checks import Header, checked_dataset
from eventsnn.io._hdf5_columns import Column
from eventsnn.io._hdf5_file import DatasetError

if TYPE_CHECKING:
    import h5py

MS = 1000  # microseconds between entries
NAME = "ms_to_idx"
_PIECE = 1 << 20


def n_entries(duration: int) -> int:
    """Return the length of an index: one entry for each millisecond that begins, and one for the end."""
    return -(-duration // MS) + 1


def checked_index(file: h5py.File, header: Header) -> Column | None:
    """Return the index of a recording, without having read it; None if the file has none."""
    if not file.id.links.exists(NAME.encode()):
        return None
    if header.n_samples != 1 or header.unit != "us":
        raise DatasetError(f"{NAME} expects one sample in us, found {header.n_samples} in {header.unit}")
    return checked_dataset(file, NAME, ("<u8",), n_entries(header.duration))


def index_bracket(index: Column, start: int, stop: int, n_events: int) -> tuple[int, int]:
    """Return between which events those from ``start`` to before ``stop`` must be."""
    last = len(index) - 1
    first, end = min(start // MS, last), min(-(-stop // MS), last)
    low, high = (int(n) for n in (index[first], index[end]))
    if not 0 <= low <= high <= n_events:
        raise DatasetError(f"{NAME} has {low} and {high} for the milliseconds {first} and {end} of {n_events} events")
    return low, high


def check_bracket(time: np.ndarray, bracket: tuple[int, int], start: int, stop: int) -> None:
    """Refuse times that fall, or that belong to a window though they are outside of the bracket that the index gave."""
    low, high = bracket
    if (time[1:] < time[:-1]).any():
        raise DatasetError(f"times must not fall, but do between {start} and {stop} us")
    if (time[:low] >= start).any() or (time[high:] < stop).any():
        raise DatasetError(f"{NAME} is wrong: there are events between {start} and {stop} us that it leaves out")


class IndexCheck:
    """Compare an index with the times of all events, piece by piece."""

    def __init__(self, index: Column) -> None:
        self._index, self._done, self._events = index, 0, 0

    def add(self, time: np.ndarray) -> None:
        """Take the next times; raises DatasetError where an entry is wrong."""
        self._compare(time, min(int(time[-1]) // MS + 1, len(self._index)) if len(time) else self._done)
        self._events += len(time)

    def finish(self) -> None:
        """Look at what is left, where no event is."""
        self._compare(np.empty(0, np.int64), len(self._index))

    def _compare(self, time: np.ndarray, end: int) -> None:
        for first in range(self._done, end, _PIECE):
            wanted = np.arange(first, min(first + _PIECE, end), dtype=np.int64)
            expected = np.searchsorted(time, wanted * MS) + self._events
            wrong = np.flatnonzero(self._index[first : first + len(wanted)] != expected)
            if len(wrong):
                at = first + int(wrong[0])
                raise DatasetError(f"{NAME} expects {expected[wrong[0]]} for millisecond {at}, found {self._index[at]}")
        self._done = end


def first_key(events: Events) -> tuple[int, ...]:
    """Return what the first event is sorted by."""
    return _key(events, 0)


def last_key(events: Events) -> tuple[int, ...]:
    """Return what the last event is sorted by."""
    return _key(events, -1)


def _key(events: Events, at: int) -> tuple[int, ...]:
    return tuple(int(column[at]) for column in (events.time, events.channel, events.y, events.x))
