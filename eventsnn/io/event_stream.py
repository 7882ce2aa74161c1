"""Event Stream ``.es``, version 2: DVS, ATIS and colour.

The format has y up; by default it is turned: x to the right, y down, 1 for brighter (``flip_y=False`` leaves it as in
the file). An ATIS's exposure measurements are no events and are counted. Colour events have no polarity: theirs is 1,
and the colours are left out. Files of the older description of version 2, without the sensor's size, are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from eventsnn.io.chunk import Columns, Rows
from eventsnn.io.recording import EventFileError, Orientation, Recording, Tally

_SIGNATURE = b"Event Stream"
_KINDS = {1: "DVS", 2: "ATIS", 4: "colour"}
_HEADER = 20  # bytes
_WIDEST = 1 << 13
_LONGEST = 8  # bytes of an event


def recognize(path: Path, start: bytes) -> bool:
    """Tell whether a file begins with the format's name."""
    return start.startswith(_SIGNATURE)


def open_es(path: Path) -> Recording:
    """Read the header of an Event Stream file.

    Raises
    ------
    EventFileError
        If it is cut, of another version, or of a kind without pixels.
    """
    with path.open("rb") as stream:
        start = stream.read(_HEADER)
    if len(start) < 16:
        raise EventFileError("ends within its header", path, len(start))
    version, kind = ".".join(map(str, start[12:15])), start[15]
    if start[12] != 2:
        raise EventFileError(f"expected version 2 of Event Stream, found {version}", path, 12)
    if kind not in _KINDS:
        known = ", ".join(f"{number} ({name})" for number, name in _KINDS.items())
        found = "generic events, which have no pixels" if kind == 0 else f"kind {kind}"
        raise EventFileError(f"expected events of the kind {known}; found {found}", path, 15)
    if len(start) < _HEADER:
        raise EventFileError("ends within its header", path, len(start))
    width, height = (int.from_bytes(start[at : at + 2], "little") for at in (16, 18))
    if not (1 <= width <= _WIDEST and 1 <= height <= _WIDEST):
        found = f"width and height expect 1 to {_WIDEST}, found {width}x{height}"
        raise EventFileError(f"{found}; files of version 2 without a size are not supported", path, 16)
    decode = partial(_decode, path, kind)
    orientation, name = Orientation(flip_y=True), f"Event Stream ({_KINDS[kind]})"
    return Recording(path, name, (width, height), decode, {"version": version}, orientation=orientation, into=decode)


def _decode(path: Path, kind: int, size: int, tally: Tally, rows: Rows | None = None) -> Iterator[Any]:
    from eventsnn.io import _record_kernels as kernels
    from eventsnn.io._records import RecordDecoder, decode_records

    decoder = RecordDecoder(kernels.event_stream, _LONGEST, (0, kind), (), ("exposure measurements",))
    with path.open("rb", buffering=0) as stream:
        stream.seek(_HEADER)
        yield from decode_records(stream, decoder, rows or Columns(size), tally)
