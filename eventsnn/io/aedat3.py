"""AEDAT 3.1, as cAER writes it (DVS128 Gesture): packets of which those of polarity events are read.

x runs to the right, y down, and 1 is brighter: nothing is turned by default. Times of 31 bits are continued by the
number of overflows that each packet has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from eventsnn.io._aedat_header import TextHeader, parse_header, size_of
from eventsnn.io.chunk import Columns, Rows
from eventsnn.io.recording import Decode, EventFileError, Recording, Tally

END = "#!END-HEADER"
_INVALID = "events that the camera's program marked as invalid"
_SKIPPED = ("special events", "polarity events", "frames", "inertial measurements", "records of another kind")
_ERRORS = (
    "expected the header of a packet, found numbers that cannot be",
    "expected polarity events of 8 bytes, found another size",
)
_HEADER = 28  # bytes of a packet's header, the longest record


def recognize(path: Path, start: bytes) -> bool:
    """Tell whether the first line names the version."""
    return start.startswith(b"#!AER-DAT3.")


def open_aedat3(path: Path) -> Recording:
    """Read the header of an AEDAT 3.1 file.

    Raises
    ------
    EventFileError
        If it does not end, or names another coding than the plain one.
    """
    with path.open("rb") as stream:
        header = parse_header(stream, END)
    decode = partial(_decode, path, header.end)
    return replace(recording_of(path, header, decode), into=decode)


def recording_of(path: Path, header: TextHeader, decode: Decode) -> Recording:
    """Return the recording that a header tells of; raises as :func:`open_aedat3`."""
    if (coding := header.fields.get("Format", "RAW")) != "RAW":
        raise EventFileError(f"expected the format RAW, found {coding!r:.80}", path, 0)
    sensor = size_of(next((v for k, v in header.fields.items() if k.startswith("Source")), ""))
    return Recording(path, "AEDAT 3.1", sensor, decode, header.fields)


def decode_events(stream: BinaryIO, sink: Columns | Rows, tally: Tally) -> Iterator[Any]:
    """Yield the events of a stream that stands behind its header."""
    from eventsnn.io import _record_kernels as kernels
    from eventsnn.io._records import RecordDecoder, decode_records

    state, pending = (0, 0, 0, 0), (2, 3, 4)
    decoder = RecordDecoder(kernels.aedat3, _HEADER, state, (_INVALID,), _SKIPPED, _ERRORS, pending)
    yield from decode_records(stream, decoder, sink, tally)


def _decode(path: Path, offset: int, size: int, tally: Tally, rows: Rows | None = None) -> Iterator[Any]:
    with path.open("rb", buffering=0) as stream:
        stream.seek(offset)
        yield from decode_events(stream, rows or Columns(size), tally)
