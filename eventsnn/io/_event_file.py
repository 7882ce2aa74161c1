"""An event file in the making whose datasets grow, compressed by several threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eventsnn.io import _chunks
from eventsnn.io._output import Output
from eventsnn.io._storage import Compression, commit, filters
from eventsnn.targets import check_folder, hidden, shown_as
from eventsnn.threads import default_threads

if TYPE_CHECKING:
    import h5py

_WAITING = 8  # chunks that may wait for each thread: together a few megabytes


@dataclass
class _Growing:
    """A dataset, and what of it is not a whole chunk yet."""

    dtype: np.dtype
    chunk: int
    length: int = 0  # of what was compressed so far
    pending: list[np.ndarray] = field(default_factory=list)
    n_pending: int = 0

    def take(self, count: int) -> np.ndarray:
        """Return the first pending values, and keep the others."""
        whole = self.pending[0] if len(self.pending) == 1 else np.concatenate([np.empty(0, self.dtype), *self.pending])
        self.pending, self.n_pending = [whole[count:]], self.n_pending - count
        self.length += count
        return whole[:count]


class EventFile:
    """Datasets that grow in a file that appears under its name when the ``with`` block ends well.

    With ``"gzip"`` and ``"none"`` threads make the chunks, and HDF5 only puts them into the file; others are
    HDF5's business, in its own thread.

    Parameters
    ----------
    path : str or Path
        The file to make or replace.
    datasets : dict of str to (str, int)
        Name, such as ``events/t``, to type and number of values in a chunk.
    compression : {"gzip", "blosc2", "none", "lzf"}
        Always with a checksum.

    Raises
    ------
    ValueError
        If the file cannot be there, or the compression is not to be had.
    OSError
        Inside the ``with`` block and at its end: if it cannot be written.
    """

    def __init__(self, path: str | Path, datasets: dict[str, tuple[str, int]], compression: Compression) -> None:
        self.path = Path(os.path.realpath(path))
        check_folder(self.path)
        self._filters, self._compression = filters(compression), compression
        self._growing = {name: _Growing(np.dtype(dtype), chunk) for name, (dtype, chunk) in datasets.items()}
        self._output: Output | None = None
        self._temporary, self._cleanup = self.path, ExitStack()
        self._waiting: deque[tuple[str, int, Future[tuple[int, bytes]]]] = deque()

    def __enter__(self) -> EventFile:
        try:
            self._temporary = self._cleanup.enter_context(hidden(self.path))
            threads = self._threads = default_threads()
            self._pool = ThreadPoolExecutor(threads, "compress")
            self._cleanup.callback(self._pool.shutdown, cancel_futures=True)
            with shown_as(self._temporary, self.path):
                self._output = Output(self._temporary)
            self._do(self._create)
        except BaseException:
            self.discard()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self.discard()

    def _create(self, file: h5py.File) -> None:
        for name, data in self._growing.items():
            options: dict[str, Any] = {"chunks": (data.chunk,), "maxshape": (None,), **self._filters}
            file.create_dataset(name, (0,), data.dtype, **options)

    def extend(self, name: str, values: np.ndarray) -> None:
        """Add values, of which the caller keeps none, to the end of a dataset."""
        data = self._growing[name]
        data.pending.append(values.astype(data.dtype, copy=False))
        data.n_pending += len(values)
        if data.n_pending < data.chunk:
            return
        start, whole = data.length, data.take(data.n_pending // data.chunk * data.chunk)
        if self._compression not in ("gzip", "none"):
            self._do(partial(_append, name=name, start=start, values=whole), wait=False)
            return
        for first in range(0, len(whole), data.chunk):
            self._submit(name, start + first, whole[first : first + data.chunk])

    def do(self, work: Callable[[h5py.File], object]) -> None:
        """Call ``work`` with the file, in which datasets may be shorter than they will be."""
        self._do(work)

    def finish_datasets(self) -> None:
        """Write all of what datasets hold; nothing can be added to them any more."""
        for name, data in self._growing.items():
            start, rest = data.length, data.take(data.n_pending)
            if not len(rest):
                continue
            if self._compression in ("gzip", "none"):
                self._submit(name, start, rest)
            else:
                self._do(partial(_append, name=name, start=start, values=rest))
        self._write(0)

    def _submit(self, name: str, start: int, values: np.ndarray) -> None:
        work = partial(_chunks.encode, values, self._growing[name].chunk, compress=self._compression == "gzip")
        self._waiting.append((name, start, self._pool.submit(work)))
        if len(self._waiting) >= _WAITING * self._threads:
            self._write(_WAITING * self._threads // 2)

    def _write(self, left: int) -> None:
        """Put chunks into the file until so many are left."""
        ready = []
        while len(self._waiting) > left:
            name, start, future = self._waiting.popleft()
            ready.append((name, start, *future.result()))
        lengths = {name: data.length for name, data in self._growing.items()}
        self._do(partial(_put, chunks=ready, lengths=lengths))

    def _do(self, work: Callable[[h5py.File], object], *, wait: bool = True) -> None:
        if self._output is None:
            raise RuntimeError(f"{self.path}: append works only inside the writer's with block")
        try:
            with shown_as(self._temporary, self.path):
                (self._output.do if wait else self._output.later)(work)
        except BaseException:
            self.discard()
            raise

    def _finish(self) -> None:
        output = self._output
        if output is None:
            raise RuntimeError(f"{self.path}: writing failed earlier, nothing was committed")
        with shown_as(self._temporary, self.path):
            output.close()
            self._output = None
            output.check()
            commit(self._temporary, self.path)

    def discard(self) -> None:
        """Let go of the file; one that has not come under its name is removed."""
        output, self._output = self._output, None
        self._waiting.clear()
        try:
            if output is not None:
                output.close()
        finally:
            self._cleanup.close()


def _append(file: h5py.File, name: str, start: int, values: np.ndarray) -> None:
    file[name].resize((start + len(values),))
    file[name][start:] = values


def _put(file: h5py.File, chunks: list[tuple[str, int, int, bytes]], lengths: dict[str, int]) -> None:
    for name, length in lengths.items():
        file[name].resize((length,))
    for name, start, mask, content in chunks:
        file[name].id.write_direct_chunk((start,), content, mask)
