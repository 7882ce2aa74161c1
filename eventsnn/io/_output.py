"""An HDF5 file to write that HDF5 can always finish: errors of the disk are noted here, and raised from here."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import h5py

_WAITING = 8  # pieces of work that may wait: each has some chunks


class Output:
    """An HDF5 file that is written; a disk that is full becomes an ``OSError`` and nothing worse.

    HDF5 does not survive a failed write: the file can no longer be closed, and the process dies when it ends. So it
    writes through :class:`_Disk`, which never fails. It does so in a thread of its own: signals are handled in the
    main thread, and so Ctrl-C cannot strike in the midst of HDF5's work either.

    Parameters
    ----------
    path : Path
        An empty file. It is not removed here.
    """

    def __init__(self, path: Path) -> None:
        self._disk = _Disk(path)
        self._thread = ThreadPoolExecutor(1, "hdf5")
        self._file = self._thread.submit(_create, self._disk)
        self._waiting: deque[Future[object]] = deque()
        self._closing: Future[None] | None = None

    def do(self, work: Callable[[h5py.File], object]) -> None:
        """Call ``work`` with the file and wait for it.

        Raises
        ------
        OSError
            If something could not be written, now or before.
        """
        self.later(work)
        self._await(0)

    def later(self, work: Callable[[h5py.File], object]) -> None:
        """Call ``work`` with the file, some time before the next :meth:`do` ends, which raises what it raises.

        Raises
        ------
        OSError
            If something could not be written before.
        """
        self._waiting.append(self._thread.submit(lambda: work(self._file.result())))
        self._await(_WAITING)

    def _await(self, left: int) -> None:
        while len(self._waiting) > left:
            self._waiting.popleft().result()
        self.check()

    def check(self) -> None:
        """Raise the error that writing has met so far; work that writes much asks at times."""
        if self._disk.error is not None:
            raise self._disk.error

    def close(self) -> None:
        """Close the file, in whatever state it is; ask :meth:`check` whether all of it has been written."""
        if self._closing is None:
            self._closing = self._thread.submit(self._close)
            self._thread.shutdown(wait=False)
        self._closing.result()  # Ctrl-C may have cut an earlier call, but not what it waited for

    def _close(self) -> None:
        try:
            self._file.result().close()
        finally:
            self._disk.close()


def _create(disk: _Disk) -> h5py.File:
    import h5py

    # Version 1.10 files checksum their metadata and are read by every HDF5 since; "latest" is not.
    return h5py.File(disk, "w", libver=("v110", "v110"))


class _Disk:
    """What h5py takes for a file. The first error is kept, and what comes after it stays in memory, to be read back.

    That is not much: what HDF5 still had in its caches, and the piece that is being written.
    """

    def __init__(self, path: Path) -> None:
        self.error: OSError | None = None
        self._file = path.open("r+b", buffering=0)
        self._name, self._at, self._size = str(path), 0, 0
        self._there = 0  # where the file is; HDF5 mostly goes on from where it was, without a system call then
        self._late: list[tuple[int, bytes]] = []

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset if whence == os.SEEK_SET else self._size + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def write(self, content: Any) -> int:
        start, length = self._at, len(content)
        if self.error is None:
            try:
                if self._there != start:
                    self._file.seek(start)
                done = self._file.write(content)
                while done < length:  # a disk that is nearly full takes less than it was given, and refuses the rest
                    done += self._file.write(memoryview(content)[done:])
            except OSError as error:
                self._note(error)
        if self.error is not None:
            self._late.append((start, bytes(content)))
        self._at = self._there = start + length
        if self._at > self._size:
            self._size = self._at
        return length

    def read(self, size: int) -> bytes:
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(buffer)])

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._size)
        view = memoryview(buffer)[: max(end - self._at, 0)]
        view[:] = bytes(len(view))
        self._there, done = self._file.seek(self._at), 0
        while count := self._file.readinto(view[done:]):
            done += count
        self._there += done
        for start, content in self._late:
            low, high = max(start, self._at), min(start + len(content), end)
            if low < high:
                view[low - self._at : high - self._at] = content[low - start : high - start]
        self._at += len(view)
        return len(view)

    def truncate(self, size: int) -> int:
        self._size = size
        if self.error is None:
            try:
                self._file.truncate(size)
            except OSError as error:
                self._note(error)
        return size

    def flush(self) -> None:
        pass  # nothing is buffered

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            self._note(error)

    def _note(self, error: OSError) -> None:
        self.error = self.error or OSError(error.errno, error.strerror, self._name)
