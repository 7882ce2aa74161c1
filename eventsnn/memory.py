"""Memory whose first touch is cheap, and memory that is kept from one piece of work to the next."""

from __future__ import annotations

import math
import mmap
import threading
import weakref
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

_LINE = 64
_LARGE_PAGE = 2**21
# The first touch of a large page costs about as much as that of 50 small ones, and half of one may be left over.
_LARGE = 2**19
_MOST_PAGES = 2**26  # bytes of large pages that wait to be used again
_KEPT = 2**25  # bytes of scratch memory that a thread leaves for the next one
_MOST_KEPT = 2**24  # bytes of small arrays that a thread keeps from call to call
_MOST_VIEWS = 64  # arrays in it that are made only once


_Pages = tuple[mmap.mmap, int]  # and where in it the first large page begins
_pages_kept: list[_Pages] = []


def empty(shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return a new array that begins at a cache line; a large one lies on large pages, where the system has them.

    The system gives memory page by page when it is first touched, and takes back what is freed: with pages of 4 KiB
    that may take longer than computing what is written.
    """
    size = math.prod(shape if isinstance(shape, tuple) else (shape,)) * np.dtype(dtype).itemsize
    return _memory(size).view(dtype).reshape(shape)


def _memory(size: int) -> np.ndarray:
    if size < _LARGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        memory = np.empty(size + _LINE, np.uint8)
        start = -_address(memory) % _LINE
        return memory[start : start + size]
    pages, start = kept = _take(size) or _pages(size)
    whole = np.frombuffer(pages, np.uint8)
    # Every view of it keeps it alive, so nobody can see this memory any more when it goes.
    weakref.finalize(whole, _keep, kept).atexit = False
    return whole[start : start + size]


def _pages(size: int) -> _Pages:
    """Return new memory that holds ``size`` bytes from the beginning of a large page on."""
    length = size + -size % _LARGE_PAGE + _LARGE_PAGE
    pages = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages.madvise(mmap.MADV_HUGEPAGE)
    return pages, -_address(np.frombuffer(pages, np.uint8)) % _LARGE_PAGE


def _take(size: int) -> _Pages | None:
    """Return kept memory for ``size`` bytes that is not much too long, or None."""
    for kept in list(_pages_kept):
        if size + _LARGE_PAGE <= len(kept[0]) <= 2 * size + 2 * _LARGE_PAGE:
            # Another thread, or the end of an array in this one, may have changed the list.
            with suppress(ValueError):
                _pages_kept.remove(kept)
                return kept
    return None


def _keep(kept: _Pages) -> None:
    if sum(len(pages) for pages, _ in list(_pages_kept)) + len(kept[0]) <= _MOST_PAGES:
        _pages_kept.append(kept)


def _address(memory: np.ndarray) -> int:
    address: int = memory.__array_interface__["data"][0]  # without ctypes, which takes longer than all the rest
    return address


class _Kept(threading.local):
    """What a thread keeps."""

    def __init__(self) -> None:
        self.made: dict[Hashable, Any] = {}
        self.size = 0


_kept = _Kept()


def kept(key: Hashable, make: Callable[[], T]) -> T:
    """Return the arrays that ``make`` returns, in tuples: if they are small, the same ones for each call with a key.

    They are for work that is over before the next call in this thread, and hold what that one left in them.
    """
    known: T | None = _kept.made.get(key)
    if known is not None:
        return known
    made = make()
    size = _bytes(made)
    if size <= _MOST_KEPT:
        if _kept.size + size > _MOST_KEPT:
            _kept.made.clear()
            _kept.size = 0
        _kept.made[key] = made
        _kept.size += size
    return made


def _bytes(arrays: Any) -> int:
    return arrays.nbytes if isinstance(arrays, np.ndarray) else sum(map(_bytes, arrays))


class Scratch:
    """Memory of one thread, given away piece by piece, and all of it again after :meth:`rewind`."""

    def __init__(self) -> None:
        self.memory = np.empty(0, np.uint8)
        self.used = 0
        self._views: dict[tuple[Any, ...], tuple[tuple[np.ndarray, ...], int]] = {}

    def rewind(self) -> None:
        """Take everything back; what did not fit will do so from now on."""
        if self.used > len(self.memory):
            self.memory = _memory(self.used)
            self._views.clear()
        self.used = 0

    def arrays(self, *wanted: tuple[tuple[int, ...], Any]) -> tuple[np.ndarray, ...]:
        """Return arrays of these shapes and types that begin at a cache line, until :meth:`rewind`."""
        # Each piece of work asks for the same as the last one, and making an array of memory takes longer than this.
        key = self.used, wanted
        if (known := self._views.get(key)) is not None:
            arrays, self.used = known
            return arrays
        arrays = tuple(self._piece(shape, dtype) for shape, dtype in wanted)
        if self.used <= len(self.memory):
            if len(self._views) == _MOST_VIEWS:
                self._views.clear()
            self._views[key] = arrays, self.used
        return arrays

    def _piece(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        start, self.used = self.used, self.used + size + -size % _LINE
        memory = self.memory[start : start + size] if self.used <= len(self.memory) else _memory(size)
        return memory.view(dtype).reshape(shape)


_idle: list[Scratch] = []  # no more of them than there were threads at a time
_current = threading.local()


@contextmanager
def scratch() -> Iterator[None]:
    """Let :func:`scratch_empty` in this thread give memory that is used again by whoever enters next."""
    before = getattr(_current, "scratch", None)
    try:
        mine = _idle.pop()
    except IndexError:
        mine = Scratch()
    _current.scratch = mine
    try:
        yield
    finally:
        _current.scratch = before
        mine.rewind()
        if len(mine.memory) <= _KEPT:
            _idle.append(mine)


def scratch_empty(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """Return an array as :func:`empty` does; within :func:`scratch`, it is gone when that ends."""
    mine: Scratch | None = getattr(_current, "scratch", None)
    return empty(shape, dtype) if mine is None else mine.arrays((shape, dtype))[0]


def scratch_arrays(*wanted: tuple[tuple[int, ...], Any]) -> tuple[np.ndarray, ...]:
    """Return an array for each shape and type, as :func:`scratch_empty` does, in less time than one after another."""
    mine: Scratch | None = getattr(_current, "scratch", None)
    return tuple(empty(*each) for each in wanted) if mine is None else mine.arrays(*wanted)
