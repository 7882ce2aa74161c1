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
_EXAMINED = _SIZE << 18


def recognize(path: Path, start: bytes) -> bool:
    """Tell whether the first bytes make sense as events: four or more, whose times run forward as good as always."""
    if len(start) < 4 * _SIZE:
        return False
    from eventsnn.io._record_kernels import atis40_times

    n, back, forward = atis40_times(np.frombuffer(start, np.uint8, min(len(start), 256 * _SIZE)))
    return bool(n > 3 and 50 * back < n and forward)


def open_bin(path: Path, content: bytes = b"") -> Recording:
    """Look at the size of a file and at its first events; ``content`` is all of it, if it is at hand.

    Raises
    ------
    EventFileError
        If it is not a whole number of events: what its bytes mean would be a guess.
    """
    from eventsnn.io._record_kernels import atis40_is_within

    length = len(content) or path.stat().st_size
    if length % _SIZE:
        raise EventFileError(f"expected {_SIZE} bytes for each event, found {length} in all", path, length)
    if not content:
        with path.open("rb") as stream:
            content = stream.read(min(_EXAMINED, length))
    fits = atis40_is_within(np.frombuffer(content, np.uint8), *_NMNIST)
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
