"""Datasets of HDF5 files that others wrote, read slice by slice, whatever the file claims.

The HDF5 library checks little of what lies in a chunk: one that decompresses to less than it should is read beyond its
end, and one that decompresses to more takes any amount of memory. So chunks are fetched as they are stored, and
decompressed here, where every length is checked.
"""

from __future__ import annotations

import bz2
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eventsnn.io._hdf5_file import open_file, own
from eventsnn.io._hdf5_lengths import PLUGINS, stated_length
from eventsnn.io.recording import EventFileError

if TYPE_CHECKING:
    import h5py

GZIP, SHUFFLE, FLETCHER32, BZIP2, LZF, ECF = 1, 2, 3, 307, 32000, 36559
_OWN = (GZIP, SHUFFLE, FLETCHER32, BZIP2, LZF)
_MAX_INFLATION = 1100  # deflate's limit is 1032
_MAX_CHUNKS = 256 << 20  # bytes that chunks of all columns may take, unless the file is large
_MAX_ROW = 256  # bytes
_KEPT = 2 << 20  # bytes of chunks kept, unless said otherwise


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a file, and turn whatever goes wrong while reading it into one :class:`EventFileError` that names it."""
    try:
        with open_file(path) as file:
            yield file
    except EventFileError as error:
        raise EventFileError(error.reason, path, error.offset) from None
    # h5py reports damage as any of these, depending on which structure is hit.
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise EventFileError(f"damaged or unreadable HDF5: {error}", path) from error


def find(file: h5py.File, where: str) -> Any:
    """Return the group or dataset at a path; None if there is none.

    Raises
    ------
    EventFileError
        If a soft or external link is on the way.
    """
    import h5py

    item: Any = file
    for name in where.split("/"):
        if not isinstance(item, h5py.Group) or not item.id.links.exists(name.encode()):
            return None
        item = own(item, name)
    return item


def is_dataset(item: Any) -> bool:
    """Tell whether what was found is a dataset."""
    import h5py

    return isinstance(item, h5py.Dataset)


def contents(file: h5py.File) -> str:
    """Say what a file holds, for the error that it is unknown."""
    names = list(islice(file, 9))
    return ", ".join(f"/{name:.40}" for name in names[:8]) + (", ..." if len(names) > 8 else "") or "nothing"


class Column:
    """A dataset of one or two dimensions, whose rows are read in slices.

    Parameters
    ----------
    item : h5py.Dataset
        In an open file.
    where : str
        Its name, for errors.
    ecf : bool
        Whether the caller decompresses Prophesee's codec.
    ragged : bool
        Whether rows are numbers of any length, which :mod:`eventsnn.io._hdf5_rows` reads.
    cache_bytes : int
        Memory for chunks once they are decompressed; the last one is kept whatever its size.

    Raises
    ------
    EventFileError
        If it is of another rank or type, keeps its data in another file or not at all, declares more than its bytes can
        hold, or is compressed in an unknown way; and while reading, if a chunk is damaged.
    """

    def __init__(
        self, item: Any, where: str, *, ecf: bool = False, ragged: bool = False, cache_bytes: int = _KEPT
    ) -> None:
        if not is_dataset(item):
            raise EventFileError(f"{where} expects a dataset, found {'nothing' if item is None else 'a group'}")
        self._item, self.where, self.dtype = item, where, item.dtype
        self._width = int(item.id.get_type().get_size())  # bytes of an entry in the file
        if ragged:
            self._check_ragged()
        else:
            self._check_kind()
        plist = item.id.get_create_plist()
        if item.is_virtual or plist.get_external_count():
            raise EventFileError(f"{where} keeps its data in another file, which is refused")
        self.shape, self.chunks = item.shape, item.chunks
        #: bytes of a chunk once it is decompressed; 0 if there are no chunks
        self.chunk_bytes = 0 if item.chunks is None else int(np.prod(item.chunks, dtype=object)) * self._width
        found = [plist.get_filter(i) for i in range(plist.get_nfilters())]
        self.filters = [(number, values) for number, _, values, _ in found]
        self._check_filters(ecf)
        #: whether the HDF5 library, which has one lock, has no part in it
        self.decompressed_here = all(number in _OWN for number, _ in self.filters)
        self._check_storage()
        self._cached: dict[int, np.ndarray] = {}  # in the order of their last use
        self._cache_bytes, self._lock = cache_bytes, threading.Lock()

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self.shape[0])

    @property
    def stored(self) -> int:
        """Bytes in the file."""
        return int(self._item.id.get_storage_size())

    def __getitem__(self, rows: slice | int) -> np.ndarray:
        """Return the rows from ``start`` up to before ``stop``, which may not be written to, or one row."""
        if not isinstance(rows, slice):
            return self[rows : rows + 1][0]
        start, stop, _ = rows.indices(len(self))
        if self.chunks is None:
            return np.asarray(self._item[start:stop])
        length = self.chunks[0]
        parts = [np.empty((0, *self.shape[1:]), self.dtype)] if start >= stop else []
        for number in range(start // length, -(-stop // length)):
            chunk, first = self._chunk(number), number * length
            parts.append(chunk[max(start - first, 0) : stop - first])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def entry(self, number: int) -> bytes:
        """Return an entry of one dimension as its bytes are in the file, before the library makes anything of them."""
        if self.chunks is None:
            place = self._item.id.get_offset()
            if place is None:
                raise EventFileError(f"{self.where} lies in its own header, expected it contiguous or in chunks")
            with open(self._item.file.filename, "rb", buffering=0) as stream:
                stream.seek(place + number * self._width)
                return stream.read(self._width)
        chunk, row = divmod(number, self.chunks[0])
        if (kept := self._cached.get(chunk)) is None:
            kept = np.frombuffer(self._decompressed(number - row, 0), f"V{self._width}")
            self._keep(chunk, kept)
        return kept[row].tobytes()

    def compressed(self, row: int, column: int = 0) -> tuple[int, bytes]:
        """Return the chunk that begins at a row (and column), as it is stored: which filters it left out, and bytes."""
        mask, data = self._item.id.read_direct_chunk((row, column)[: len(self.shape)])
        return mask, data

    @property
    def file_size(self) -> int:
        """Bytes of the file."""
        return int(self._item.file.id.get_filesize())

    def _chunk(self, number: int) -> np.ndarray:
        """Return the rows of a chunk (of all that lie side by side), which may not be written to: they are kept."""
        with self._lock:
            if (kept := self._cached.pop(number, None)) is not None:
                self._cached[number] = kept
                return kept
        first = number * self.chunks[0]
        beside = range(0, self.shape[1], self.chunks[1]) if len(self.shape) == 2 else (0,)
        if self.decompressed_here:
            parts = [np.frombuffer(self._decompressed(first, c), self.dtype).reshape(self.chunks) for c in beside]
            whole = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
            whole = whole[(slice(len(self) - first), slice(self.shape[-1]))[: len(self.shape)]]
        else:
            for column in beside:
                self._check_length(first, column)
            whole = self._item[first : first + self.chunks[0]]
        self._keep(number, whole)
        return whole

    def _keep(self, number: int, rows: np.ndarray) -> None:
        rows.setflags(write=False)
        with self._lock:
            self._cached[number] = rows
            while len(self._cached) > max(1, self._cache_bytes // max(self.chunk_bytes, 1)):
                del self._cached[next(iter(self._cached))]

    def _decompressed(self, row: int, column: int) -> Any:
        """Return the bytes of a chunk, exactly as many as it should have."""
        mask, data = self.compressed(row, column)
        wanted, checksums = self.chunk_bytes, sum(number == FLETCHER32 for number, _ in self.filters)
        result: Any = np.frombuffer(data, np.uint8)
        for position, (number, values) in reversed(list(enumerate(self.filters))):
            if not mask >> position & 1:
                result = _undone(number, values, result, wanted + 4 * checksums)
            if result is None:
                raise EventFileError(f"{self.where}: the chunk at row {row} is damaged")
        if len(result) != wanted:
            raise EventFileError(f"{self.where}: the chunk at row {row} expects {wanted} bytes, found {len(result)}")
        return result

    def _check_kind(self) -> None:
        if len(self._item.shape or ()) not in (1, 2):
            raise EventFileError(f"{self.where} expects one or two dimensions, found shape {self._item.shape}")
        kinds = [self.dtype[i] for i in range(len(self.dtype))] if self.dtype.names else [self.dtype]
        if self.dtype.itemsize > _MAX_ROW or any(d.kind not in "iufb" or d.shape or d.itemsize > 8 for d in kinds):
            raise EventFileError(f"{self.where} expects numbers, found {self.dtype!s:.80}")
        import h5py

        if self._item.id.get_type() != h5py.h5t.py_create(self.dtype, logical=True):  # as of 12 bits in 16
            raise EventFileError(f"{self.where} expects numbers of a usual type, found one like {self.dtype}")

    def _check_ragged(self) -> None:
        import h5py

        kind = self._item.id.get_type()
        plain = kind.get_class() == h5py.h5t.VLEN and kind.get_super().get_class() in (h5py.h5t.INTEGER, h5py.h5t.FLOAT)
        if not plain or len(self._item.shape or ()) != 1:
            found = f"{self.dtype!s:.80} of shape {self._item.shape}"
            raise EventFileError(f"{self.where} expects rows of numbers of any length, found {found}")
        if kind.get_super() != h5py.h5t.py_create(np.dtype(h5py.check_vlen_dtype(self.dtype)).newbyteorder("<")):
            raise EventFileError(f"{self.where} expects rows of little-endian numbers of a usual type")

    def _check_filters(self, ecf: bool) -> None:
        numbers = [number for number, _ in self.filters]
        if len(set(numbers)) != len(numbers):
            raise EventFileError(f"{self.where} expects each filter at most once, found the filter ids {numbers}")
        for number in numbers:
            if number in PLUGINS:
                if not {*numbers} <= {number, SHUFFLE, FLETCHER32}:  # else it is not what is stored
                    raise EventFileError(f"{self.where} expects one compression, found the HDF5 filters {numbers}")
                _require_plugin(number, self.where)
            elif number not in _OWN and not (ecf and number == ECF):
                raise EventFileError(f"{self.where} is compressed with HDF5 filter {number}, which is not known here")

    def _check_storage(self) -> None:
        """Refuse holes, which would read as zeros, and places outside of the file."""
        stored, size = self.stored, self.file_size
        if self.chunks is None:
            offset, declared = self._item.id.get_offset() or 0, self._item.size * self._width
            if stored != declared or offset + stored > size:
                found = f"{stored} stored, from byte {offset} of {size}"
                raise EventFileError(f"{self.where} declares {declared} bytes, found {found}")
            return
        wanted = int(np.prod([-(-n // c) for n, c in zip(self.shape, self.chunks, strict=True)], dtype=object))
        if (chunks := self._item.id.get_num_chunks()) != wanted:
            raise EventFileError(f"{self.where} expects {wanted} stored chunks, found {chunks}")
        if stored > size:
            raise EventFileError(f"{self.where} declares {stored} bytes stored, in a file of {size}")

    def _check_length(self, row: int, column: int) -> None:
        """Refuse a chunk that a plug-in would decompress to another length than it must have."""
        position, number = next((i, n) for i, (n, _) in enumerate(self.filters) if n not in _OWN)
        checksums = 4 * sum(n == FLETCHER32 for n, _ in self.filters)  # which stand at the end
        mask, data = self.compressed(row, column)
        # What would not become smaller is not compressed.
        length = len(data) if mask >> position & 1 else stated_length(number, data) or -1
        if not self.chunk_bytes <= length <= self.chunk_bytes + checksums:
            raise EventFileError(f"{self.where}: the chunk at row {row} is damaged")


def check_together(columns: list[Column]) -> int:
    """Return how many rows datasets have that belong together.

    Raises
    ------
    EventFileError
        If their lengths differ, or all of them cannot hold what they declare, or chunks are so large that one of each
        does not fit into a memory in proportion to the file.
    """
    lengths = {column.where: len(column) for column in columns}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{where} {length}" for where, length in lengths.items())
        raise EventFileError(f"expected columns of one length, found {found}")
    declared = sum(len(column) * int(np.prod(column.shape[1:])) * column.dtype.itemsize for column in columns)
    stored, size = sum(column.stored for column in columns), columns[0].file_size
    if declared > _MAX_INFLATION * stored:
        raise EventFileError(f"declares {declared} bytes in {stored} stored, in a file of {size}")
    if (chunks := sum(column.chunk_bytes for column in columns)) > max(_MAX_CHUNKS, 4 * size):
        raise EventFileError(f"has chunks of {chunks} bytes in a file of {size}; h5repack can make them smaller")
    return len(columns[0])


def _undone(number: int, values: tuple[int, ...], data: np.ndarray, room: int) -> np.ndarray | None:
    """Return what a filter was given, of ``room`` bytes at most; None if that cannot be."""
    from eventsnn.io import _hdf5_kernels as kernels
    from eventsnn.io._chunk_kernels import fletcher32

    if number == GZIP:
        inflate = zlib.decompressobj()
        try:
            data = np.frombuffer(inflate.decompress(data.data, room + 1), np.uint8)
        except zlib.error:
            return None
        return data if inflate.eof and len(data) <= room else None
    if number == BZIP2:
        expand = bz2.BZ2Decompressor()
        try:
            data = np.frombuffer(expand.decompress(data.tobytes(), room + 1), np.uint8)
        except OSError:
            return None
        return data if expand.eof and len(data) <= room else None
    if number == SHUFFLE:
        width = values[0] if values else 0
        if not 1 <= width <= _MAX_ROW:
            return None
        return _unshuffled(data, width)
    if number == LZF:
        out = np.empty(room, np.uint8)
        length = kernels.lzf(data, out)
        return None if length < 0 else out[:length]
    if len(data) < 4:
        return None
    sums, stored = fletcher32(data[:-4]), int.from_bytes(data[-4:].tobytes(), "little")
    same = all(int(sum_) % 65535 == (stored >> k & 0xFFFF) % 65535 for sum_, k in zip(sums, (0, 16), strict=True))
    return data[:-4] if same else None


def _unshuffled(data: np.ndarray, width: int) -> np.ndarray:
    from eventsnn.io._chunk_kernels import unshuffle

    whole = len(data) // width * width
    if whole == len(data) and width in (2, 4, 8):
        values = np.empty(len(data) // width, f"u{width}")
        unshuffle(data, values)
        return values.view(np.uint8)
    first = data[:whole].reshape(width, -1).T.ravel()
    return first if whole == len(data) else np.concatenate([first, data[whole:]])


def _require_plugin(number: int, where: str) -> None:
    """Load the package that decompresses, or say which it is."""
    import contextlib
    import importlib

    import h5py

    if not h5py.h5z.filter_avail(number):
        with contextlib.suppress(ImportError):
            importlib.import_module("hdf5plugin")  # which tells the HDF5 library
    if not h5py.h5z.filter_avail(number):
        needs = "which needs a package: pip install hdf5plugin"
        raise EventFileError(f"{where} is compressed with {PLUGINS[number]} (HDF5 filter {number}), {needs}")
