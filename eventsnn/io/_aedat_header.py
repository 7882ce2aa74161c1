"""The text that AEDAT files begin with: lines that start with ``#``, of which some are ``# key: value``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import BinaryIO

from eventsnn.io.recording import EventFileError

_LONGEST = 1 << 20  # bytes of a line: jAER keeps its settings here
_MOST = 1 << 24  # bytes of all lines
# Width and height by what is found in the name of a chip or source; a larger number first.
_CHIPS = (
    ("DVS128|tmpdiff128", (128, 128)),
    ("davis[a-z]*640", (640, 480)),
    ("davis[a-z]*346|346mini", (346, 260)),
    ("davis[a-z]*208", (208, 192)),
    ("davis[a-z]*240|SBret10", (240, 180)),
)


@dataclass(frozen=True)
class TextHeader:
    """Key and value of each line that has them, and where the lines end, in bytes. Of a key's values the first."""

    fields: dict[str, str]
    end: int


def parse_header(stream: BinaryIO, last: str | None = None) -> TextHeader:
    """Read the lines from the beginning of a stream, until ``last`` where there is such a line.

    Raises
    ------
    EventFileError
        If they do not end, or the last is missing.
    """
    fields: dict[str, str] = {}
    end = 0
    while (line := _line(stream.readline(_LONGEST))) is not None:
        end += len(line[0])
        if end > _MOST:
            raise EventFileError(f"expected a header of at most {_MOST} bytes", offset=end)
        if last is not None and line[1] == last:
            return TextHeader(fields, end)
        if found := re.fullmatch(r"#\s*([^:<>=]{1,60})(?:(?<!\d):|:(?!\d))\s*(.*)", line[1]):  # not within a time
            fields.setdefault(found[1].strip(), found[2].strip()[:1000])
    if last is not None:
        raise EventFileError(f"expected a header that ends with {last}", offset=end)
    return TextHeader(fields, end)


def size_of(chip: str) -> tuple[int, int] | None:
    """Return width and height of the sensor that a text names."""
    return next((size for pattern, size in _CHIPS if re.search(pattern, chip, re.IGNORECASE)), None)


def _line(raw: bytes) -> tuple[bytes, str] | None:
    """Return a line and its text, or None if it is none: events too may begin with this sign."""
    if not raw.startswith(b"#") or not raw.endswith(b"\n") or re.search(rb"[\x00-\x08\x0e-\x1f]", raw):
        return None
    return raw, raw.decode("latin-1").strip()
