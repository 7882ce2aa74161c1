"""The text that Prophesee's files begin with: lines ``% key value``, until ``% end`` or a line that is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from eventsnn.io.recording import EventFileError

_LONGEST = 1 << 16  # bytes of a line
_MOST = 1 << 20  # bytes of all lines


@dataclass(frozen=True)
class TextHeader:
    """Key and value of each line, and where the lines end, in bytes. A key that comes again has its first value."""

    fields: dict[str, str]
    end: int


def parse_header(stream: BinaryIO) -> TextHeader:
    """Read the lines from the beginning of a stream.

    Raises
    ------
    EventFileError
        If they do not end.
    """
    fields: dict[str, str] = {}
    end = 0
    while (line := _line(stream.readline(_LONGEST))) is not None:
        end += len(line[0])
        if end > _MOST:
            raise EventFileError(f"expected a header of at most {_MOST} bytes", offset=end)
        key, _, value = line[1].partition(" ")
        if key == "end":
            break
        if key:
            fields.setdefault(key.rstrip(":"), value.strip())
    return TextHeader(fields, end)


def _line(raw: bytes) -> tuple[bytes, str] | None:
    """Return a line and its text, or None if it is none: events too may begin with a percent sign."""
    if not raw.startswith(b"%") or not raw.endswith(b"\n"):
        return None
    try:
        text = raw[1:].decode("utf-8").strip()
    except UnicodeDecodeError:
        return None
    return (raw, text) if text.replace("\t", " ").isprintable() else None
