"""Prophesee RAW: EVT 2.0, EVT 2.1 and EVT 3.0, as Metavision and the cameras' own programs write them.

x runs to the right, y down, and 1 is brighter: nothing is turned by default. Times are the camera's, from when it was
switched on or started. They begin with the first TIME_HIGH word; what comes before it is counted and left out.
EVT 3.0's time of 24 bits and EVT 2's of 34 are continued where they overflow. Where they run backward by less they are
given as they are: cameras do so by some microseconds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from eventsnn.io._prophesee_header import TextHeader, parse_header
from eventsnn.io.chunk import Columns, Rows, most_events
from eventsnn.io.recording import BEFORE_TIME, OUTSIDE, UNKNOWN, EventFileError, Recording, Tally

_NAMES = {"EVT2": "Prophesee EVT2", "EVT21": "Prophesee EVT2.1", "EVT3": "Prophesee EVT3"}
_VERSIONS = {"2.0": "EVT2", "2.1": "EVT21", "3.0": "EVT3"}
_TRIGGERS, _OTHER = "triggers", "words of the camera's state"

# Headers before Metavision 4 do not name the sensor's size, but the camera by a number, some with this bit.
_KIT = 0x80
_VGA = {0x15, 0x17, 0x19, 0x1C, 0x1D, 0x21, 0x22, 0x23, 0x28, 0x29}
_HD = {0x1A, 0x1E, 0x1F, 0x20, 0x27, 0x2E, 0x30, 0x31, 0x32}
_SWAPPED_BELOW = 0x37  # cameras before this one wrote the halves of EVT 2.1's words the other way around


def recognize(path: Path, start: bytes) -> bool:
    """Tell whether a header names a format of raw events."""
    return start[:1] == b"%" and re.match(rb"(%[^\n]*\n)*?% (evt|format) ", start) is not None


def open_raw(path: Path) -> Recording:
    """Read the header of a RAW file.

    Raises
    ------
    EventFileError
        If it names no format known here, or a size that cannot be.
    """
    with path.open("rb") as stream:
        header = parse_header(stream)
    words, sensor = described(header)
    decode = partial(_decode, path, header.end, words)
    return Recording(path, words.title, sensor, decode, header.fields, into=decode)


class Words(NamedTuple):
    """What words a stream is made of: ``"EVT2"``, ``"EVT21"`` or ``"EVT3"``, and whether their halves are swapped."""

    name: str
    swapped: bool = False

    @property
    def title(self) -> str:
        """The format's name for people."""
        return _NAMES[self.name]


def described(header: TextHeader) -> tuple[Words, tuple[int, int] | None]:
    """Return what words follow a header, and the size of the sensor, if it says so.

    Raises
    ------
    EventFileError
        If it names no format known here, or a size that cannot be.
    """
    fields = _options(header.fields) | {k: v for k, v in header.fields.items() if k != "format"}
    if (name := _format(header.fields)) is None:
        seen = header.fields.get("format") or "evt " + header.fields.get("evt", "")
        raise EventFileError(f"expected Prophesee's EVT2, EVT2.1 or EVT3, found {seen!r:.80}", offset=0)
    return Words(name, name == "EVT21" and _is_swapped(fields)), _sensor(fields, header)


def decode_words(stream: BinaryIO, words: Words, target: Columns | Rows, tally: Tally) -> Iterator[Any]:
    """Yield the events of a stream that stands behind its header."""
    from eventsnn.io import _prophesee_kernels as kernels
    from eventsnn.io._decoding import WordDecoder, decode

    skipped = (_TRIGGERS, _OTHER)
    if words.name == "EVT2":
        decoder = WordDecoder(kernels.evt2, "<u4", (-1,), 1, (BEFORE_TIME, UNKNOWN), skipped)
    elif words.name == "EVT21":
        decoder = WordDecoder(kernels.evt21, "<u8", (-1, words.swapped), 32, (BEFORE_TIME, UNKNOWN), skipped)
    else:
        decoder = WordDecoder(kernels.evt3, "<u2", (-1, -1, 0, 0), 12, (BEFORE_TIME, OUTSIDE, UNKNOWN), skipped)
    yield from decode(stream, decoder, target, tally)


def _decode(path: Path, offset: int, words: Words, size: int, tally: Tally, rows: Rows | None = None) -> Iterator[Any]:
    with path.open("rb", buffering=0) as stream:
        if rows is not None:
            rows.expect(most_events(os.fstat(stream.fileno()).st_size, 2 if words.name == "EVT3" else 4))
        stream.seek(offset)
        yield from decode_words(stream, words, rows or Columns(size), tally)


def _options(fields: dict[str, str]) -> dict[str, str]:
    """Return the options of a line as ``format EVT3;height=720;width=1280``."""
    pairs = (option.partition("=") for option in fields.get("format", "").split(";")[1:])
    return {key.strip(): value.strip() for key, _, value in pairs}


def _format(fields: dict[str, str]) -> str | None:
    name = fields.get("format", "").partition(";")[0].strip() or _VERSIONS.get(fields.get("evt", ""), "")
    return name if name in _NAMES else None


def _sensor(fields: dict[str, str], header: TextHeader) -> tuple[int, int] | None:
    """Return the size that a header names, or that of the camera that it names, if any."""
    if found := re.fullmatch(r"(\d+)\s*x\s*(\d+)", fields.get("geometry", "")):
        size = found.group(1, 2)
    elif "width" in fields and "height" in fields:
        size = (fields["width"], fields["height"])
    else:
        camera = _system(fields) & ~_KIT
        return (640, 480) if camera in _VGA else (1280, 720) if camera in _HD else None
    if not all(re.fullmatch(r"\d{1,4}", text) and 1 <= int(text) <= 2048 for text in size):
        raise EventFileError(
            f"width and height expect 1 to 2048, found {'x'.join(size)!r:.80} before", offset=header.end
        )
    return int(size[0]), int(size[1])


def _is_swapped(fields: dict[str, str]) -> bool:
    if "endianness" in fields:
        return fields["endianness"] == "legacy"
    return 0 < _system(fields) < _SWAPPED_BELOW


def _system(fields: dict[str, str]) -> int:
    """Return the number of a Prophesee camera, 0 if it is another one or has none."""
    text = fields.get("system_ID", "")
    ours = fields.get("integrator_name", fields.get("plugin_integrator_name", "Prophesee")) == "Prophesee"
    return int(text) if ours and re.fullmatch(r"\d{1,9}", text) else 0
