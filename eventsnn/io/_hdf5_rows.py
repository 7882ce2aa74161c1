"""Rows of any length in HDF5 files, read from the file's global heap by ourselves.

The HDF5 library believes what stands in a heap: it goes round forever in one whose objects have no length. So each
object is looked for here, where every place and length is checked.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from eventsnn.io._hdf5_columns import Column
from eventsnn.io.recording import EventFileError

if TYPE_CHECKING:
    import h5py

_ENTRY = struct.Struct("<IQI")  # numbers of a row, and where they are: a collection's place, an object's number in it
_COLLECTION = struct.Struct("<4sB3xQ")  # signature, version, size
_OBJECT = struct.Struct("<HH4xQ")  # number, references, size; what follows takes whole 8 bytes
_KEPT = 64  # collections whose objects' places are kept; the library writes into 16 at a time
_MOST = 1 << 13  # objects of a collection; the library ends one at 64 KiB, unless a single object is larger


class Heap:
    """Where the objects of an HDF5 file's global heap lie.

    Raises
    ------
    EventFileError
        If the file's numbers are not of 8 bytes, and when an object is looked for that is not there.
    """

    def __init__(self, file: h5py.File) -> None:
        if file.id.get_create_plist().get_sizes() != (8, 8):
            raise EventFileError("expected HDF5 with places and lengths of 8 bytes")
        self._name, self._size = file.filename, int(file.id.get_filesize())
        self._known: dict[int, dict[int, tuple[int, int]]] = {}

    def read(self, collection: int, number: int, length: int) -> bytes:
        """Return the first ``length`` bytes of an object."""
        with open(self._name, "rb", buffering=1 << 13) as stream:
            if (objects := self._known.pop(collection, None)) is None:
                objects = self._objects(stream, collection)
            self._known[collection] = objects
            while len(self._known) > _KEPT:
                del self._known[next(iter(self._known))]
            place, size = objects.get(number, (0, -1))
            if length > size:
                found = f"{size} bytes" if size >= 0 else "none"
                raise EventFileError(
                    f"expected {length} bytes in object {number} of a heap, found {found}", None, place
                )
            stream.seek(place)
            return stream.read(length)

    def _objects(self, stream: BinaryIO, collection: int) -> dict[int, tuple[int, int]]:
        """Return place and size of each object of a collection."""
        head = b""
        if collection + _COLLECTION.size <= self._size:
            stream.seek(collection)
            head = stream.read(_COLLECTION.size)
        signature, version, size = _COLLECTION.unpack(head) if len(head) == _COLLECTION.size else (b"", 0, 0)
        if signature != b"GCOL" or version != 1 or collection + size > self._size:
            raise EventFileError("expected a collection of a heap, found something else", None, collection)
        found: dict[int, tuple[int, int]] = {}
        place, end = collection + _COLLECTION.size, collection + size
        while place + _OBJECT.size <= end and len(found) < _MOST:
            stream.seek(place)
            number, _, length = _OBJECT.unpack(stream.read(_OBJECT.size))
            place += _OBJECT.size
            if number == 0:  # what is free, up to the end
                break
            if place + length > end:
                raise EventFileError(f"object {number} of a heap goes beyond its end", None, place)
            found[number] = place, length
            place += -(-length // 8) * 8
        return found


class Rows:
    """A dataset of one dimension whose rows are numbers of any length.

    Parameters
    ----------
    item : h5py.Dataset
        In an open file.
    where : str
        Its name, for errors.
    heap : Heap
        Of its file.

    Raises
    ------
    EventFileError
        As :class:`Column`; and while reading, if a row is not where it should be.
    """

    def __init__(self, item: Any, where: str, heap: Heap) -> None:
        import h5py

        self._column, self._heap = Column(item, where, ragged=True), heap
        self._dtype = np.dtype(h5py.check_vlen_dtype(item.dtype))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._column)

    @property
    def file_size(self) -> int:
        """Bytes of the file."""
        return self._column.file_size

    def __getitem__(self, number: int) -> np.ndarray:
        """Return a row, which may not be written to."""
        entry = self._column.entry(number)
        if len(entry) != _ENTRY.size:
            raise EventFileError(f"{self._column.where}: row {number} expects {_ENTRY.size} bytes, found {len(entry)}")
        count, collection, place = _ENTRY.unpack(entry)
        if not count:
            return np.empty(0, self._dtype)
        try:
            return np.frombuffer(self._heap.read(collection, place, count * self._dtype.itemsize), self._dtype)
        except EventFileError as error:
            raise EventFileError(f"{self._column.where}: row {number} {error.reason}", None, error.offset) from None
