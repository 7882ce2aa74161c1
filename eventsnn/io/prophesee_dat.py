"""Prophesee DAT, versions 1 (ATIS) and 2: one word of 64 bits for each event.

x runs to the right, y as in the file, and 1 is brighter: nothing is turned by default. Version 2 has y down. Version 1
(ATIS) has often y up (``flip_y=True``, which needs a height: 240 for an ATIS). Times of 32 bits, which overflow after
71.6 minutes, are continued.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from eventsnn.io._prophesee_header import TextHeader, parse_header
from eventsnn.io.chunk import Columns, Rows, most_events
from eventsnn.io.recording import EventFileError, Recording, Tally

_KINDS = {0: "Event2D", 12: "EventCD"}
_SIZE = 8  # bytes of an event
# Bits of a column and of a row, and the bit of the polarity.
_LAYOUTS = {1: (9, 8, 17), 2: (14, 14, 28)}


def recognize(path: Path, start: bytes) -> bool:
    """Tell whether a header is that of a DAT file: it says so, or gives a version."""
    return start[:1] == b"%" and re.match(rb"(%[^\n]*\n)*?% (Data file|Version )", start) is not None


def open_dat(path: Path) -> Recording:
    """Read the header of a DAT file.

    Raises
    ------
    EventFileError
        If it is cut, of an unknown version, holds something else than events, or names a size that cannot be.
    """
    with path.open("rb") as stream:
        header = parse_header(stream)
        stream.seek(header.end)
        version, sensor = described(header, stream.read(2))
    begin = header.end + 2
    n_events = (path.stat().st_size - begin) // _SIZE
    decode = partial(_decode, path, begin, version)
    return Recording(path, title(version), sensor, decode, header.fields, n_events, into=decode)


def described(header: TextHeader, kind_and_size: bytes) -> tuple[int, tuple[int, int] | None]:
    """Return the version of what follows a header and two more bytes, and the size of the sensor, if it says so.

    Raises
    ------
    EventFileError
        As :func:`open_dat`.
    """
    if len(kind_and_size) < 2:
        raise EventFileError("ends within its header", offset=header.end + len(kind_and_size))
    kind, size = kind_and_size
    if kind not in _KINDS or size != _SIZE:
        expected = " or ".join(f"{number} ({name})" for number, name in _KINDS.items())
        found = f"expected events of the kind {expected} and of {_SIZE} bytes, found kind {kind} of {size} bytes"
        raise EventFileError(found, offset=header.end)
    return _version(header), _sensor(header)


def title(version: int) -> str:
    """Return the format's name for people."""
    return f"Prophesee DAT {version}"


def decode_events(stream: BinaryIO, version: int, sink: Columns | Rows, tally: Tally) -> Iterator[Any]:
    """Yield the events of a stream that stands behind its header."""
    from eventsnn.io import _prophesee_kernels as kernels
    from eventsnn.io._decoding import WordDecoder, decode

    yield from decode(stream, WordDecoder(kernels.dat, "<u8", (-1, *_LAYOUTS[version]), 1, ()), sink, tally)


def _decode(path: Path, offset: int, version: int, size: int, tally: Tally, rows: Rows | None = None) -> Iterator[Any]:
    with path.open("rb", buffering=0) as stream:
        if rows is not None:
            rows.expect(most_events(os.fstat(stream.fileno()).st_size, _SIZE))
        stream.seek(offset)
        yield from decode_events(stream, version, rows or Columns(size), tally)


def _version(header: TextHeader) -> int:
    text = header.fields.get("Version", "1")  # the first files name none
    if not re.fullmatch(r"[012](\.\d+)?", text):
        raise EventFileError(f"expected DAT of version 1 or 2, found {text!r:.80} before", offset=header.end)
    return max(1, int(text[0]))


def _sensor(header: TextHeader) -> tuple[int, int] | None:
    size = header.fields.get("Width"), header.fields.get("Height")
    if size[0] is None or size[1] is None:
        return None
    if not all(re.fullmatch(r"\d{1,5}", text or "") and 1 <= int(text or "") <= 1 << 14 for text in size):
        raise EventFileError(f"Width and Height expect 1 to {1 << 14}, found {size!r:.80} before", offset=header.end)
    return int(size[0]), int(size[1])
