"""Moving batches: out of a data set, to and from a backend's memory, and into one result."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from itertools import chain, pairwise
from typing import Any, Protocol, TypeVar

import numpy as np

from eventsnn.ahead import read_ahead
from eventsnn.backends import Backend
from eventsnn.events import Events, Shape, TimeUnit, replace_fields
from eventsnn.memory import empty
from eventsnn.threads import balanced

R = TypeVar("R")
_Given = tuple[Events, Future[list[R]]]  # a piece, and what comes of it

BATCH = 512  #: samples at a time where a caller does not say: enough to keep all cores busy, little memory
_EVENTS = 1 << 21  # spikes at a time, about: samples of many spikes come fewer at a time, so that memory stays bounded
_COLUMNS = ("time", "channel", "y", "x")
_PIECES = 2  # of a batch for each thread, at most: nobody waits long for the last one, and beginning one takes time
# A piece is worth handing to a thread with so many samples or spikes: Python's part of a call is not done side by side.
_PIECE_SAMPLES, _PIECE_SPIKES = 32, 1 << 13


class DataSet(Protocol):
    """What training and evaluation need of data that lies in a file; ``EventDataset`` is one."""

    @property
    def shape(self) -> Shape:
        """Grid (channels, height, width)."""

    @property
    def unit(self) -> TimeUnit:
        """What times count."""

    @property
    def duration(self) -> int:
        """Length of every stimulus."""

    @property
    def labels(self) -> np.ndarray | None:
        """Class of each sample."""

    @property
    def n_events(self) -> int:
        """Number of spikes in all samples."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def batches(self, size: int) -> Iterator[Events]:
        """Yield the samples in order, ``size`` at a time."""

    def load(self) -> Events:
        """Return all samples."""


Data = Events | DataSet


def batches(data: Data, size: int = BATCH, parts: int = 1) -> Iterator[Events]:
    """Yield all samples in order, ``size`` at a time; data without samples are one empty batch.

    Fewer at a time where that many would hold more than about two million spikes; ``parts`` times as many where each
    batch is to be cut into so many. From a file the next batch is read while the caller works on one.

    Raises
    ------
    ValueError
        If ``size`` is not positive, or a batch has another duration than the data set.
    """
    if size < 1:
        raise ValueError(f"batch_size expects at least 1 sample, got {size}")
    size = bounded(data, size) * parts
    if isinstance(data, Events):
        for start in range(0, max(len(data), 1), size):
            yield data[start : start + size]
        return
    if len(data) == 0:
        yield data.load()
    for batch in read_ahead(data.batches(size)):
        if batch.duration != data.duration:
            raise ValueError(f"a batch has duration {batch.duration}, its data set {data.duration}")
        yield batch


def bounded(data: Data, size: int) -> int:
    """Return ``size``, or how many samples hold about two million spikes, at least 1, if that is less."""
    return min(size, max(1, _EVENTS * len(data) // max(data.n_events, 1)))


def worked(work: Callable[[Events, Events], R], data: Data, backend: Backend, size: int = BATCH) -> Iterator[R]:
    """Yield ``work(batch, copy)`` of all samples in order; a thread copies the next batch to a device meanwhile.

    Where memory does not suffice the next batch waits, and the present one is done by halves, see :func:`by_halves`.

    Parameters
    ----------
    work : callable
        Of a batch, and of the same in the memory of the backend. What it returns lies in the memory of the host.
    data, backend, size
        As of :func:`batches` and :func:`put`.
    """

    def alone(batch: Events, part: slice) -> R:
        own = batch[part]
        return work(own, put(own, backend))

    copies: list[Future[Events]] = []
    with ThreadPoolExecutor(1, "eventsnn-upload") as pool:
        for batch, following in pairwise(chain(batches(data, size), [None])):
            assert batch is not None  # only the last one that follows is
            missing = [batch, following][len(copies) :]
            copies += [pool.submit(put, one, backend) for one in missing if one is not None]
            done: list[R] = []
            with suppress(MemoryError):
                done = [work(batch, copies.pop(0).result())]
            if not done:
                wait(copies)
                copies.clear()
                done = by_halves(partial(alone, batch), batch)
            yield from done


def shared(work: Callable[[Events], R], data: Data, threads: int, size: int = BATCH) -> Iterator[R]:
    """Yield ``work(piece)`` of all samples in order; threads of the host take pieces of batches as they come free.

    The caller's thread is one of them: it takes a piece that nobody has begun whenever it would wait for another one.
    No more samples than a batch has are given to threads, or wait to be yielded, at a time. Where memory does not
    suffice, the caller's thread does the piece by halves as soon as no other thread computes, see :func:`by_halves`.
    Where there is nothing to share, no thread is started.

    Parameters
    ----------
    work : callable
        Of some samples; called in several threads at once.
    data, size
        As of :func:`batches`.
    threads : int
    """
    if threads == 1 or _pieces(*_usual(data, size), threads) == 1:
        for batch in batches(data, size):
            yield from by_halves(partial(_part_done, work, batch), batch)
        return
    given: deque[_Given[R]] = deque()
    held, most, pool = 0, bounded(data, size), ThreadPoolExecutor(threads - 1, "eventsnn")
    try:
        for batch in batches(data, size):
            for start, stop in balanced(batch.offsets, _pieces(len(batch), batch.n_events, threads)):
                piece = batch[start:stop]
                while given and held + len(piece) > most:
                    held -= len(given[0][0])
                    yield from _next_done(work, given)
                given.append((piece, pool.submit(_if_memory_suffices, work, piece)))
                held += len(piece)
        while given:
            yield from _next_done(work, given)
    finally:
        pool.shutdown(cancel_futures=True)


def _usual(data: Data, size: int) -> tuple[int, int]:
    """Return the samples of a batch, and about how many spikes they have."""
    samples = min(bounded(data, size), len(data))
    return samples, samples * data.n_events // max(len(data), 1)


def _pieces(samples: int, spikes: int, threads: int) -> int:
    """Return into how many pieces a batch is cut: some for each thread, or one where there is little to do."""
    wanted = min(max(samples // _PIECE_SAMPLES, min(spikes // _PIECE_SPIKES, threads)), _PIECES * threads)
    return max(1, wanted - wanted % threads if wanted > threads else wanted)


def _part_done(work: Callable[[Events], R], batch: Events, part: slice) -> R:
    return work(batch[part])


def _if_memory_suffices(work: Callable[[Events], R], piece: Events) -> list[R]:
    with suppress(MemoryError):  # whose traceback would hold what the piece has taken so far
        return [work(piece)]
    return []


def _next_done(work: Callable[[Events], R], given: deque[_Given[R]]) -> list[R]:
    """Take the first piece away and return what came of it; rather than wait, do what nobody has begun."""
    while not given[0][1].done() and _done_here(work, given):
        pass
    piece, future = given.popleft()
    if done := future.result():
        return done
    wait([other for _, other in given])
    return by_halves(partial(_part_done, work, piece), piece)


def _done_here(work: Callable[[Events], R], given: deque[_Given[R]]) -> bool:
    """Do the first piece that no thread has begun, and tell whether there was one."""
    for i, (piece, future) in enumerate(given):
        if future.cancel():
            done: Future[list[R]] = Future()
            given[i] = piece, done
            try:
                done.set_result(_if_memory_suffices(work, piece))
            except Exception as error:  # it is raised when it is this piece's turn
                done.set_exception(error)
            return True
    return False


def by_halves(work: Callable[[slice], R], batch: Events, start: int = 0, stop: int | None = None) -> list[R]:
    """Return what work on some samples of a batch gives; where memory does not suffice, of one half and of the other.

    Raises
    ------
    MemoryError
        If it does not suffice for one sample; it says how large that is.
    """
    last = len(batch) if stop is None else stop
    try:
        return [work(slice(start, last))]
    except MemoryError as error:
        if last - start <= 1:
            spikes = batch[start:last].n_events
            found = f"one sample of {spikes} spikes on a grid of {'x'.join(map(str, batch.shape))}"
            raise MemoryError(f"there is not enough memory for {found}: {error}") from error
    # Here the error is gone, and with it the arrays of what failed.
    middle = (start + last) // 2
    return by_halves(work, batch, start, middle) + by_halves(work, batch, middle, last)


def put(events: Events, backend: Backend) -> Events:
    """Return a batch with its columns in the memory of the backend."""
    return events if backend.xp is np else _map_arrays(events, backend.put)


def fetch(events: Events, backend: Backend) -> Events:
    """Return a batch with its columns in the memory of the host; one that lies there is returned as it is."""
    return events if on_host(events) else _map_arrays(events, backend.fetch)


def on_host(events: Events) -> bool:
    """Tell whether a batch lies in the memory of the host."""
    return type(events.offsets) is np.ndarray


def _map_arrays(events: Events, convert: Any) -> Events:
    arrays = {name: getattr(events, name) for name in (*_COLUMNS, "offsets", "labels", "potential")}
    return replace_fields(events, **{n: None if a is None else convert(a) for n, a in arrays.items()})


class Collector:
    """Joins batches into one :class:`Events` without holding everything twice.

    The final size is estimated from what has come so far; where that was too little, columns move one by one to
    memory with more room. What was reserved but not written is never touched.

    Parameters
    ----------
    n_samples : int
        Samples that will come, to estimate the size.
    potential : bool
        Whether to keep potentials.
    """

    def __init__(self, n_samples: int, potential: bool = True) -> None:
        self._n_samples, self._potential = n_samples, potential
        self._first: Events | None = None
        self._columns: dict[str, np.ndarray] = {}
        self._offsets: list[np.ndarray] = []
        self._labels: list[np.ndarray | None] = []
        self._samples = self._events = self._capacity = 0

    def add(self, batch: Events) -> None:
        """Append a batch that lies in the memory of the host."""
        if not self._potential:
            batch = replace_fields(batch, potential=None)
        self._samples += len(batch)
        if self._first is None:
            self._first = batch
        else:
            if not self._columns:
                self._write(self._first, 0)
            self._write(batch, self._events)
        self._events += batch.n_events
        self._offsets.append(batch.offsets)
        self._labels.append(batch.labels)

    def estimated_bytes(self) -> int:
        """Return the size that the result will have if the samples to come are like those so far."""
        width = 0 if self._first is None else sum(getattr(self._first, n).itemsize for n in self._names())
        return int(self._events / max(self._samples, 1) * self._n_samples) * width

    def result(self) -> Events:
        """Return all samples; the collector is used up.

        Raises
        ------
        ValueError
            If nothing was added.
        """
        if self._first is None:
            raise ValueError("a result expects at least one batch, got none")
        if not self._columns:
            return self._first
        copy = 2 * self._events < self._capacity  # a few spikes must not keep the memory of many
        columns = {name: column[: self._events] for name, column in self._columns.items()}
        labels = [labels for labels in self._labels if labels is not None]
        counts = np.concatenate([np.diff(offsets) for offsets in self._offsets])
        return replace_fields(
            self._first,
            **{name: column.copy() if copy else column for name, column in columns.items()},
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            labels=np.concatenate(labels) if len(labels) == len(self._labels) else None,
        )

    def _names(self) -> tuple[str, ...]:
        held = self._first is not None and self._first.potential is not None
        return (*_COLUMNS, "potential") if held else _COLUMNS

    def _write(self, batch: Events, start: int) -> None:
        stop = start + batch.n_events
        if stop > self._capacity or not self._columns:
            self._reserve(stop, batch)
        for name, column in self._columns.items():
            column[start:stop] = getattr(batch, name)

    def _reserve(self, least: int, batch: Events) -> None:
        expected = int(least / self._samples * self._n_samples * 1.02)  # 2 %: stimuli differ a little
        self._capacity = max(least, expected, self._capacity * 3 // 2)  # what grows again and again is copied rarely
        for name in self._names():
            larger = empty(self._capacity, getattr(batch, name).dtype)
            if name in self._columns:
                larger[: self._events] = self._columns[name][: self._events]
            self._columns[name] = larger
