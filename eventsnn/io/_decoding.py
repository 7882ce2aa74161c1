"""From a file of words to chunks, through a compiled kernel that carries its state from block to block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from eventsnn.io.chunk import Columns, Rows
from eventsnn.io.recording import CUT_END, Tally


@dataclass(frozen=True)
class WordDecoder:
    """A kernel and what it is to be given.

    Parameters
    ----------
    kernel : callable
        ``kernel(words, state, counts, out, room)`` decodes from the first word on, as far as ``out`` has room, and
        returns how many words it took and how many events it put there. It keeps what it must remember in ``state``.
    dtype : str
        Of a word.
    state : tuple of int
        What it begins with; becomes an array of int64.
    room : int
        Events that one word may hold. With that much room the kernel takes a word.
    dropped, skipped : tuple of str
        What is counted in ``counts``, an array of int64: first what is lost, then what is no event.
    """

    kernel: Callable[..., tuple[int, int]]
    dtype: str
    state: tuple[int, ...]
    room: int
    dropped: tuple[str, ...]
    skipped: tuple[str, ...] = ()


def decode(stream: BinaryIO, decoder: WordDecoder, target: Columns | Rows, tally: Tally) -> Iterator[Any]:
    """Yield what the target makes of a kernel's events, in memory that depends on the target's size only."""
    state, counts = np.array(decoder.state, np.int64), np.zeros(len(decoder.dropped + decoder.skipped), np.int64)
    for words in whole_words(stream, decoder.dtype, target.size, tally):
        done = 0
        while done < len(words):
            capacity = max(min(target.size, decoder.room * (len(words) - done)), decoder.room)
            taken, n = decoder.kernel(words[done:], state, counts, target.room(capacity), capacity)
            done += taken
            _account(decoder, counts, tally)
            if n:
                yield target.taken(n)


def whole_words(stream: BinaryIO, dtype: str | np.dtype[Any], count: int, tally: Tally) -> Iterator[np.ndarray]:
    """Yield what a stream holds as arrays of at most ``count`` words, which share memory; counts a cut end.

    What a pipe holds so far is yielded at once if the stream is unbuffered.
    """
    width = np.dtype(dtype).itemsize
    memory = bytearray(count * width)
    buffer, view = np.frombuffer(memory, np.uint8), memoryview(memory)
    left = 0  # bytes of a word whose rest is still to come
    while got := stream.readinto(view[left:]):  # type: ignore[attr-defined]
        whole, left = divmod(left + got, width)
        if whole:
            yield buffer[: whole * width].view(dtype)
            buffer[:left] = buffer[whole * width : whole * width + left]
    tally.drop(CUT_END, left)


def _account(decoder: WordDecoder, counts: np.ndarray, tally: Tally) -> None:
    for name, count in zip(decoder.dropped, counts, strict=False):
        tally.drop(name, int(count))
    for name, count in zip(decoder.skipped, counts[len(decoder.dropped) :], strict=True):
        tally.skip(name, int(count))
    counts[:] = 0
