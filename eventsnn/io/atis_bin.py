"""N-MNIST's and N-Caltech101's ``.bin``: 40 bits for each event, and no header.

x runs to the right, y down, and 1 is brighter: nothing is turned by default. An event in row 240 is none: it says that
8,192 us are to be added to all times that follow. The file names no sensor: that of N-MNIST (34x34) is assumed where
the first megabyte fits into it, and otherwise the size is unknown (N-Caltech101: at most 240x180, ``width=`` and
``height=``).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from eventsnn.io.chunk import Columns, Rows
from eventsnn.io.recording import EventFileError, Recording, Tally

_SIZE = 5  # bytes of an event
_NMNIST = (34, 34)
_OVERFLOW = 240
_EXAMINED = _SIZE << 18


def recognize(path: Path, start: bytes) -> bool:
    """Tell whether the first bytes make sense as events: four or more, whose times run forward as good as always."""
    n = min(len(start) // _SIZE, 256)
    words = np.ndarray((n,), ">u4", start, 1, (_SIZE,)).astype(np.int64) if n else np.zeros(0, np.int64)  # but columns
    times = words & 0x7FFFFF
    if _OVERFLOW in start[1 : n * _SIZE : _SIZE]:
        is_overflow = words >> 24 == _OVERFLOW
        times = (times + 8192 * np.cumsum(is_overflow))[~is_overflow]
    steps = times[1:] - times[:-1]
    return len(times) > 3 and 50 * int(np.count_nonzero(steps < 0)) < len(times) and bool(steps.max() > 0)


def open_bin(path: Path, content: bytes = b"") -> Recording:
    """Look at the size of a file and at its first events; ``content`` is all of it, if it is at hand.

    Raises
    ------
    EventFileError
        If it is not a whole number of events: what its bytes mean would be a guess.
    """
    length = len(content) or path.stat().st_size
    if length % _SIZE:
        raise EventFileError(f"expected {_SIZE} bytes for each event, found {length} in all", path, length)
    if not content:
        with path.open("rb") as stream:
            content = stream.read(min(_EXAMINED, length))
    events = _events(content)
    fits = _largest(events[:, 0]) < _NMNIST[0] and _largest_row(events[:, 1]) < _NMNIST[1]
    decode = partial(_decode, path)
    return Recording(path, "ATIS bin", _NMNIST if fits else None, decode, into=decode)


def _decode(path: Path, size: int, tally: Tally, rows: Rows | None = None) -> Iterator[Any]:
    decode_records, decoder = _decoder()
    with path.open("rb", buffering=0) as stream:
        yield from decode_records(stream, decoder, rows or Columns(size), tally)


@cache  # files are small and many
def _decoder() -> tuple[Any, Any]:
    from eventsnn.io import _record_kernels as kernels
    from eventsnn.io._records import RecordDecoder, decode_records

    return decode_records, RecordDecoder(kernels.atis40, _SIZE, (0,))


def _events(start: bytes) -> np.ndarray:
    """Return the bytes of each whole event."""
    return np.frombuffer(start, np.uint8, len(start) // _SIZE * _SIZE).reshape(-1, _SIZE)


def _largest(column: np.ndarray) -> int:
    return int(column.max(initial=0))


def _largest_row(rows: np.ndarray) -> int:
    found = _largest(rows)
    return _largest(np.where(rows == _OVERFLOW, 0, rows)) if found == _OVERFLOW else found
