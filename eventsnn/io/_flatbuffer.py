"""Tables of FlatBuffers, every address of which is checked before anything is read there."""

from __future__ import annotations

from dataclasses import dataclass

from eventsnn.io.recording import EventFileError


@dataclass(frozen=True)
class Table:
    """A table in some bytes, which begins at ``place``."""

    data: bytes
    place: int

    def integer(self, field: int, width: int, default: int = 0) -> int:
        """Return a signed number of ``width`` bytes."""
        at = self._at(field)
        return default if at is None else _number(self.data, at, width, signed=True)

    def text(self, field: int) -> str:
        """Return a text, empty if there is none."""
        if (found := self.vector(field)) is None:
            return ""
        begin, count = found
        if begin + count > len(self.data):
            raise EventFileError(f"expected a text of {count} bytes, found the end of the table")
        return self.data[begin : begin + count].decode("utf-8", "replace")

    def vector(self, field: int) -> tuple[int, int] | None:
        """Return where a vector begins and how many elements it says it has; None if there is none."""
        if (at := self._at(field)) is None:
            return None
        begin = at + _number(self.data, at, 4)
        return begin + 4, _number(self.data, begin, 4)

    def _at(self, field: int) -> int | None:
        """Return where a field is."""
        fields = self.place - _number(self.data, self.place, 4, signed=True)
        if 6 + 2 * field > _number(self.data, fields, 2):
            return None
        offset = _number(self.data, fields + 4 + 2 * field, 2)
        return self.place + offset if offset else None


def root(data: bytes, identifier: bytes, start: int) -> Table:
    """Return the outermost table of a buffer that begins at ``start``.

    Raises
    ------
    EventFileError
        If the buffer has not this identifier, here or while fields are read if an address leads outside.
    """
    if data[start + 4 : start + 8] != identifier:
        raise EventFileError(f"expected {identifier!r}, found {data[start + 4 : start + 8]!r}")
    return Table(data, start + _number(data, start, 4))


def _number(data: bytes, at: int, width: int, signed: bool = False) -> int:
    if not 0 <= at <= len(data) - width:
        raise EventFileError("a table has an address outside of it")
    return int.from_bytes(data[at : at + width], "little", signed=signed)
