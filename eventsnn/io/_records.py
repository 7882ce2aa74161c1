"""From a file of records of any length to chunks, through a compiled kernel that carries its state on."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from eventsnn.io.chunk import Columns, Rows, most_events
from eventsnn.io.recording import CUT_END, EventFileError, Tally

_MOST = 1 << 20  # bytes read at once, unless a record may be longer
_SPARE = 8  # bytes behind them that kernels may load, but not use
_LEAST = 5  # bytes of an event in any format of records
CUT_PACKET = "packets that the end of the file cuts"


@dataclass(frozen=True)
class RecordDecoder:
    """A kernel and what it is to be given.

    Parameters
    ----------
    kernel : callable
        ``kernel(data, state, counts, out, room)`` decodes whole records from the first byte on, as far as ``out`` has
        room, and returns how many bytes it took and how many events it put there. It keeps what it must remember in
        ``state``. What it cannot understand it does not take, and puts a number from 1 on into ``state[0]``.
    longest : int
        Bytes of the longest record. With that many, and room for an event, the kernel takes one.
    state : tuple of int
        What it begins with, after the 0 of ``state[0]``; becomes an array of int64.
    dropped, skipped : tuple of str
        What is counted in ``counts``, an array of int64: first what is lost, then what is no event.
    errors : tuple of str
        What the numbers in ``state[0]`` mean.
    pending : tuple of int
        Places of the state that are 0 unless the file ends within a packet.
    final : bytes
        What ends a last record that the file leaves open, as a line without its end.
    """

    kernel: Callable[..., tuple[int, int]]
    longest: int
    state: tuple[int, ...] = ()
    dropped: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    pending: tuple[int, ...] = ()
    final: bytes = b""


def decode_records(stream: BinaryIO, decoder: RecordDecoder, target: Columns | Rows, tally: Tally) -> Iterator[Any]:
    """Yield what a kernel makes of an unbuffered stream from its position on, in memory that depends on its size only.

    Raises
    ------
    EventFileError
        With the place in the stream, if the kernel finds one that it does not understand.
    """
    most = min(target.size * decoder.longest, _MOST)
    if isinstance(stream, io.FileIO):  # what is still to come has no length
        length = os.fstat(stream.fileno()).st_size
        target.expect(most_events(length, _LEAST))
        most = min(most, length + 1)  # a byte more than there are, for the end to be seen
    most = max(2 * decoder.longest, most)
    data = np.empty(most + _SPARE, np.uint8)
    view = data[:most].data
    state = np.array((0, *decoder.state), np.int64)
    left, begin = 0, stream.tell()  # bytes of a record whose rest is to come, and where the first of them is
    while got := stream.readinto(view[left:]):  # type: ignore[attr-defined]
        end = left + got
        taken = yield from decode_block(data[:end], state, decoder, target, tally, begin)
        left, begin = end - taken, begin + taken
        if left:
            data[:left] = data[taken:end].copy()
    if left and decoder.final:
        data[left : left + len(decoder.final)] = np.frombuffer(decoder.final, np.uint8)
        try:
            yield from decode_block(data[: left + len(decoder.final)], state, decoder, target, tally, begin)
            left = 0
        except EventFileError:  # of a record that is cut
            pass
    tally.drop(CUT_END, left)
    if any(state[place] for place in decoder.pending):
        tally.drop(CUT_PACKET)


def decode_block(
    data: np.ndarray, state: np.ndarray, decoder: RecordDecoder, target: Columns | Rows, tally: Tally, begin: int
) -> Generator[Any, None, int]:
    """Yield the events of the whole records in ``data``, which is at ``begin``; return how many bytes they take."""
    capacity = min(target.size, len(data) // _LEAST + 1)
    done, n = 0, capacity
    counts = np.zeros(len(decoder.dropped + decoder.skipped), np.int64)
    while n == capacity and done < len(data):
        taken, n = decoder.kernel(data[done:], state, counts, target.room(capacity), capacity)
        done += taken
        _account(decoder, counts, tally)
        if n:
            yield target.taken(n)
        if state[0]:
            raise EventFileError(decoder.errors[int(state[0]) - 1], offset=begin + done)
    return done


def _account(decoder: RecordDecoder, counts: np.ndarray, tally: Tally) -> None:
    if not (names := decoder.dropped + decoder.skipped):
        return
    for place, (name, count) in enumerate(zip(names, counts.tolist(), strict=True)):
        (tally.drop if place < len(decoder.dropped) else tally.skip)(name, count)
    counts[:] = 0
