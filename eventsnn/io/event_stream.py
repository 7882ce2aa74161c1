"""Event Stream ``.es``, version 2: DVS, ATIS and colour.

The format has y up; by default it is turned: x to the right, y down, 1 for brighter (``flip_y=False`` leaves it as in
the file). An ATIS's exposure measurements are no events and are counted. Colour events have no polarity: theirs is 1,
and the colours are left out. Files of the older description of version 2, without the sensor's size, are not read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from eventsnn.io.chunk import Columns, Rows
from eventsnn.io.recording import Decode, EventFileError, Orientation, Recording, Tally

SIGNATURE = b"Event Stream"
_KINDS = {1: "DVS", 2: "ATIS", 4: "colour"}
HEADER = 20  # bytes
_WIDEST = 1 << 13
_LONGEST = 8  # bytes of an event


def recognize(path: Path, start: bytes) -> bool:
    """Tell whether a file begins with the format's name."""
    return start.startswith(SIGNATURE)


def open_es(path: Path) -> Recording:
    """Read the header of an Event Stream file.

    Raises
    ------
    EventFileError
        If it is cut, of another version, or of a kind without pixels.
    """
    with path.open("rb") as stream:
        start = stream.read(HEADER)
    decode = partial(_decode, path, kind_of(start, path))
    return dataclasses.replace(recording_of(path, start, decode), into=decode)


def kind_of(start: bytes, path: Path) -> int:
    """Return which kind of events comes after the first :data:`HEADER` bytes.

    Raises
    ------
    EventFileError
        As of :func:`open_es`.
    """
    if len(start) < 16:
        raise EventFileError("ends within its header", path, len(start))
    version, kind = ".".join(map(str, start[12:15])), start[15]
    if start[12] != 2:
        raise EventFileError(f"expected version 2 of Event Stream, found {version}", path, 12)
    if kind not in _KINDS:
        known = ", ".join(f"{number} ({name})" for number, name in _KINDS.items())
        found = "generic events, which have no pixels" if kind == 0 else f"kind {kind}"
        raise EventFileError(f"expected events of the kind {known}; found {found}", path, 15)
    if len(start) < HEADER:
        raise EventFileError("ends within its header", path, len(start))
    width, height = _size(start)
    if not (1 <= width <= _WIDEST and 1 <= height <= _WIDEST):
        found = f"width and height expect 1 to {_WIDEST}, found {width}x{height}"
        raise EventFileError(f"{found}; files of version 2 without a size are not supported", path, 16)
    return kind


def recording_of(path: Path, start: bytes, decode: Decode) -> Recording:
    """Return the recording that a header, which :func:`kind_of` found sound, says."""
    name, version = f"Event Stream ({_KINDS[start[15]]})", ".".join(map(str, start[12:15]))
    return Recording(path, name, _size(start), decode, {"version": version}, orientation=Orientation(flip_y=True))


def decode_events(stream: BinaryIO, kind: int, target: Columns | Rows, tally: Tally) -> Iterator[Any]:
    """Yield the events of an unbuffered stream that stands behind the header."""
    from eventsnn.io import _record_kernels as kernels
    from eventsnn.io._records import RecordDecoder, decode_records

    decoder = RecordDecoder(kernels.event_stream, _LONGEST, (0, kind), (), ("exposure measurements",))
    return decode_records(stream, decoder, target, tally)


def _size(start: bytes) -> tuple[int, int]:
    return int.from_bytes(start[16:18], "little"), int.from_bytes(start[18:20], "little")


def _decode(path: Path, kind: int, size: int, tally: Tally, rows: Rows | None = None) -> Iterator[Any]:
    with path.open("rb", buffering=0) as stream:
        stream.seek(HEADER)
        yield from decode_events(stream, kind, rows or Columns(size), tally)
