"""AEDAT 2.0, as jAER writes it, with the addresses of a DVS128 or of a DAVIS; and 1.0, of a DVS128.

Which of the two the header says (``AEChip``), or else the addresses: a DVS128's have 16 bits. Both cameras count
columns from the right and rows from the bottom, and a DVS128 sets its bit for darker. By default events are turned as
jAER shows them: x to the right, y down, 1 for brighter. Where a DAVIS's size is unknown they cannot be, and stay as in
the file; with ``width=`` and ``height=`` say also ``flip_x=True, flip_y=True``. Some programs leave all as it is in
the file (``flip_x=False, flip_y=False, swap_polarity=False``), some exchange x and y (``swap_xy=True``). Times of 32
bits, which overflow after 71.6 minutes, are continued.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from eventsnn.io._aedat_header import TextHeader, parse_header, size_of
from eventsnn.io.chunk import Columns, Rows
from eventsnn.io.recording import UNKNOWN, Decode, Orientation, Recording, Tally

_FIRST = b"#!AER-DAT1."  # whose addresses have 2 bytes, not 4
_SIZE = 8  # bytes of an event
_EXAMINED = _SIZE << 13
_SPECIAL = "triggers and special events"
_OTHER = "words of frames and inertial measurements"


def recognize(path: Path, start: bytes) -> bool:
    """Tell whether the first line names the version."""
    return start.startswith((b"#!AER-DAT2.", _FIRST))


def open_aedat2(path: Path) -> Recording:
    """Read the header of an AEDAT 1.0 or 2.0 file, and its first addresses if it does not name the chip.

    Raises
    ------
    EventFileError
        If the header does not end.
    """
    with path.open("rb") as stream:
        version1 = stream.read(len(_FIRST)) == _FIRST
        stream.seek(0)
        header = parse_header(stream)
        stream.seek(header.end)
        first = stream.read(_EXAMINED)
    if version1:
        decode = partial(_decode, path, header.end, False, 2)
        found = recording_of(path, header, False, (128, 128), decode)
        return replace(found, format="AEDAT 1.0 (DVS128)", into=decode)
    davis, sensor = _camera(header, first)
    decode = partial(_decode, path, header.end, davis, 4)
    return replace(recording_of(path, header, davis, sensor, decode), into=decode)


def named_camera(header: TextHeader) -> tuple[bool, tuple[int, int] | None] | None:
    """Return whether it is a DAVIS, and the size of the sensor; None if the header does not name the camera."""
    chip = header.fields.get("AEChip", "")
    size = size_of(chip)
    if size is not None or re.search("davis", chip, re.IGNORECASE):
        return size != (128, 128), size
    return None


def recording_of(
    path: Path, header: TextHeader, davis: bool, sensor: tuple[int, int] | None, decode: Decode
) -> Recording:
    """Return the recording of a camera, turned as jAER shows it."""
    turned = sensor is not None
    orientation = Orientation(flip_x=turned, flip_y=turned, swap_polarity=not davis)
    name = f"AEDAT 2.0 ({'DAVIS' if davis else 'DVS128'})"
    return Recording(path, name, sensor, decode, header.fields, orientation=orientation)


def decode_events(stream: BinaryIO, davis: bool, address: int, sink: Columns | Rows, tally: Tally) -> Iterator[Any]:
    """Yield the events of a stream that stands behind its header; addresses have 2 or 4 bytes."""
    from eventsnn.io import _record_kernels as kernels
    from eventsnn.io._records import RecordDecoder, decode_records

    decoder = RecordDecoder(kernels.aedat2, address + 4, (-1, davis, address), (UNKNOWN,), (_SPECIAL, _OTHER))
    yield from decode_records(stream, decoder, sink, tally)


def _camera(header: TextHeader, first: bytes) -> tuple[bool, tuple[int, int] | None]:
    """Return whether it is a DAVIS, and the size of the sensor."""
    if (named := named_camera(header)) is not None:
        return named
    davis = bool((np.frombuffer(first, ">u4", len(first) // _SIZE * 2)[::2] >> 16).any())
    return davis, None if davis else (128, 128)


def _decode(
    path: Path, offset: int, davis: bool, address: int, size: int, tally: Tally, rows: Rows | None = None
) -> Iterator[Any]:
    with path.open("rb", buffering=0) as stream:
        stream.seek(offset)
        yield from decode_events(stream, davis, address, rows or Columns(size), tally)
