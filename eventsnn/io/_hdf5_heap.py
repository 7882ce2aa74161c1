"""The global heap of HDF5 files, in which texts and rows of any length lie, looked at before the library does.

The HDF5 library believes what stands there: in a collection whose objects have no length it goes round forever, and
others make it ask for any amount of memory.
"""

from __future__ import annotations

import io
import os
import struct
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from eventsnn.io.recording import EventFileError

if TYPE_CHECKING:
    import h5py

_SIGNATURE = b"GCOL"
_COLLECTION = struct.Struct("<4sB3xQ")  # signature, version, size
_OBJECT = struct.Struct("<HH4xQ")  # number, references, size; what follows takes whole 8 bytes
_SIZES = struct.Struct("<HHH")
_ANY_LENGTH = 9  # class of a type
_LONGEST_TEXT, _LONGEST_HEADER = 1 << 24, 1 << 16  # bytes
_MOST = 1 << 13  # objects of a collection; the library ends one at 64 KiB, unless a single object is larger


def objects_of(stream: BinaryIO, collection: int, file_size: int) -> dict[int, tuple[int, int]]:
    """Return place and size of each object of the collection that begins at a place.

    Raises
    ------
    EventFileError
        If there is none, or it is damaged.
    """
    head = b""
    if collection + _COLLECTION.size <= file_size:
        stream.seek(collection)
        head = stream.read(_COLLECTION.size)
    signature, version, size = _COLLECTION.unpack(head) if len(head) == _COLLECTION.size else (b"", 0, 0)
    if signature != _SIGNATURE or version != 1 or collection + size > file_size:
        raise EventFileError("expected a collection of a heap, found something else", None, collection)
    found: dict[int, tuple[int, int]] = {}
    place, end = collection + _COLLECTION.size, collection + size
    while place + _OBJECT.size <= end:
        stream.seek(place)
        number, _, length = _OBJECT.unpack(stream.read(_OBJECT.size))
        if number == 0 and place + length == end:  # what is free
            break
        place += _OBJECT.size
        if number in found or number == 0 or len(found) == _MOST:
            raise EventFileError(f"object {number} of a heap comes once too often", None, place)
        if place + length > end:
            raise EventFileError(f"object {number} of a heap goes beyond its end", None, place)
        found[number] = place, length
        place += -(-length // 8) * 8
    return found


def value_of(file: h5py.File, name: str) -> Any:
    """Return an attribute of the root.

    For a text of any length the file is opened once more, in a way that lets nothing through to the library but sound
    collections, and no attribute that claims more than 16 MiB of text.

    Raises
    ------
    EventFileError
        If a collection is damaged, or the text too long; OSError where h5py says so.
    """
    import h5py

    kind = file.attrs.get_id(name).get_type()
    if kind.get_class() != h5py.h5t.STRING or not kind.is_variable_str():
        return file.attrs[name]
    with _Guarded(file.filename, name.encode() + b"\0") as guarded:
        try:
            with h5py.File(guarded, "r") as again:
                return again.attrs[name]
        except Exception:
            if guarded.refused is not None:
                raise guarded.refused from None
            raise


class _Guarded(io.FileIO):
    """A file of which no damaged collection of a heap can be read, nor an attribute that claims too long a text."""

    def __init__(self, path: str, name: bytes) -> None:
        super().__init__(path, "rb")
        self.refused: EventFileError | None = None
        self._name, self._before, self._end = name, b"", -1

    def readinto(self, buffer: Any) -> int:
        place = self.tell()
        n = cast("int", super().readinto(buffer))
        data = bytes(memoryview(buffer)[:n])
        try:
            if data.startswith(_SIGNATURE):
                objects_of(cast("BinaryIO", self), place, os.fstat(self.fileno()).st_size)
            # What is longer than the library guessed is read in two pieces.
            whole = self._before + data if place == self._end else data
            self._before, self._end = whole[-_LONGEST_HEADER:], place + n
            self._check_texts(whole, place)
        except EventFileError as error:
            self.refused = error
            raise OSError(error.reason) from None
        self.seek(place + n)
        return n

    def _check_texts(self, data: bytes, place: int) -> None:
        """Refuse an attribute of the name whose text is too long: the library makes room for it at once."""
        at = data.find(self._name)
        while at >= 0:
            for version, head in ((1, 8), (2, 8), (3, 9)):
                if at < head or data[at - head] != version:
                    continue
                sizes = _SIZES.unpack_from(data, at - head + 2)  # of name, type and dimensions
                name, kind, dims = (-(-size // 8) * 8 if version == 1 else size for size in sizes)
                begin = at + name + kind + dims
                if begin >= len(data) or data[at + name] & 15 != _ANY_LENGTH:
                    continue
                if (length := int.from_bytes(data[begin : begin + 4], "little")) > _LONGEST_TEXT:
                    reason = f"an attribute expects at most {_LONGEST_TEXT} bytes, says {length}"
                    raise EventFileError(reason, None, place)
            at = data.find(self._name, at + 1)
