"""Rows of any length in HDF5 files, read from the file's global heap by ourselves.

The HDF5 library believes what stands in a heap: it goes round forever in one whose objects have no length. So each
object is looked for here, where every place and length is checked.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from eventsnn.io._hdf5_columns import Column
from eventsnn.io._hdf5_heap import objects_of
from eventsnn.io.recording import EventFileError

if TYPE_CHECKING:
    import h5py

_ENTRY = struct.Struct("<IQI")  # numbers of a row, and where they are: a collection's place, an object's number in it
_KEPT = 64  # collections whose objects' places are kept; the library writes into 16 at a time


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
                objects = objects_of(stream, collection, self._size)
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
