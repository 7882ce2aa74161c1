"""ST-MNIST's ``.mat`` (MATLAB 5): spikes of 10x10 taxels, a column for each time.

The variable ``spiketrain`` has 101 rows: row ``10 y + x`` is 1 where the taxel (x, y) spikes for pressure that grows,
-1 where it shrinks (polarity 0), and the last is the time in seconds, which is rounded to microseconds. Nothing is
turned.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from eventsnn.io._columns import times_of_floats
from eventsnn.io.recording import CUT_END, Chunk, EventFileError, Recording, Tally

_NAME, _ROWS, _SIDE = "spiketrain", 101, 10
_HEADER = 128  # bytes
_LITTLE = b"\x00\x01IM"
_MATRIX, _COMPRESSED = 14, 15
_CLASSES = range(6, 16)  # of matrices: double, single and integers
_DTYPES = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}
_CUT_COLUMNS = "columns that the end of the file cuts"
_BLOCK = 256  # columns at once
_READ = 1 << 16


def recognize(path: Path, start: bytes) -> bool:
    """Tell whether a file begins as MATLAB's do."""
    return start.startswith(b"MATLAB 5.0 MAT-file")


def open_mat(path: Path) -> Recording:
    """Find the spikes in a file of MATLAB's.

    Raises
    ------
    EventFileError
        If it is damaged, or has no such variable.
    """
    with path.open("rb") as stream:
        if (start := stream.read(_HEADER))[124:] != _LITTLE:
            raise EventFileError("expected a little-endian MATLAB 5 file", path, min(len(start), 124))
        place, length, found = _HEADER, path.stat().st_size, []
        while place + 8 <= length:
            source = _Element(stream, place)
            name, dtype, _ = _matrix(source)
            if name == _NAME and dtype is not None:
                return Recording(path, "ST-MNIST", (_SIDE, _SIDE), partial(_decode, path, place))
            found.append(f"{name!r:.40}")
            place += 8 + source.length
    expected = f"expected the variable {_NAME!r} of {_ROWS} rows"
    raise EventFileError(f"{expected}, found {', '.join(found[:20]) or 'none'}", path, _HEADER)


class _Element:
    """Bytes of an outermost element of a file, decompressed as they are asked for."""

    def __init__(self, stream: BinaryIO, place: int) -> None:
        stream.seek(place)
        kind, self.length = _two(stream.read(8))
        if kind not in (_MATRIX, _COMPRESSED):
            raise EventFileError(f"expected a matrix, found an element of kind {kind}", offset=place)
        self.place, self._stream, self._left = place, stream, self.length
        self._inflate = zlib.decompressobj() if kind == _COMPRESSED else None
        if kind == _MATRIX:
            stream.seek(place)
            self._left += 8

    def read(self, count: int) -> bytes:
        """Return so many bytes, fewer at the end."""
        parts, missing = [], count
        while missing and (part := self._some(missing)):
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _some(self, most: int) -> bytes:
        if self._inflate is None:
            return self._raw(min(most, _READ))
        try:
            part = b""
            while not part and not self._inflate.eof:
                raw = self._inflate.unconsumed_tail or self._raw(_READ)
                part = self._inflate.decompress(raw, most)
                if not raw:
                    break
        except zlib.error as error:
            raise EventFileError(f"cannot be decompressed: {error}", offset=self.place) from None
        return part

    def _raw(self, most: int) -> bytes:
        data = self._stream.read(min(most, self._left))
        self._left -= len(data)
        return data


def _two(data: bytes) -> tuple[int, int]:
    return int.from_bytes(data[:4], "little"), int.from_bytes(data[4:8], "little")


def _matrix(source: _Element) -> tuple[str, np.dtype | None, int]:
    """Read a matrix up to its data; return its name, their type (None if it is none of spikes) and its columns."""
    head = source.read(40)  # the matrix' tag, its class, and two dimensions
    if len(head) < 40 or _two(head)[0] != _MATRIX:
        raise EventFileError("expected a matrix, found another element or the end", offset=source.place)
    is_plain = head[16] in _CLASSES and not head[17] & 8 and _two(head[24:]) == (5, 8)
    name = _part(source, 64)[1].decode("latin-1") if is_plain else ""
    rows, columns = _two(head[32:])
    if name != _NAME or rows != _ROWS:
        return name, None, columns
    tag = source.read(8)
    kind, size = _two(tag)
    dtype = _DTYPES.get(kind)
    if dtype is None or size != rows * columns * np.dtype(dtype).itemsize:
        raise EventFileError(
            f"expected {rows}x{columns} numbers, found {size} bytes of kind {kind}", offset=source.place
        )
    return name, np.dtype(dtype), columns


def _part(source: _Element, most: int) -> tuple[int, bytes]:
    """Return kind and content of a part of a matrix, which is cut at ``most`` bytes."""
    tag = source.read(8)
    kind, size = _two(tag)
    if kind >> 16:  # a small one, which its tag holds
        return kind & 0xFFFF, tag[4 : 4 + min(kind >> 16, 4)]
    return kind, source.read(min(size + -size % 8, most))[:size]


def _decode(path: Path, place: int, size: int, tally: Tally) -> Iterator[Chunk]:
    with path.open("rb") as stream:
        source = _Element(stream, place)
        _, dtype, columns = _matrix(source)
        if dtype is None:
            raise EventFileError("has changed since it was opened", offset=place)
        width = _ROWS * dtype.itemsize
        for begin in range(0, columns, min(size, _BLOCK)):
            wanted = min(columns - begin, size, _BLOCK) * width
            data = source.read(wanted)
            numbers: np.ndarray = np.frombuffer(data, dtype, len(data) // width * _ROWS).reshape(-1, _ROWS)
            yield _spikes(numbers, tally)
            if len(data) < wanted:
                tally.drop(_CUT_COLUMNS, columns - begin - len(data) // width)
                tally.drop(CUT_END, len(data) % width)
                return


def _spikes(numbers: np.ndarray, tally: Tally) -> Chunk:
    """Return the spikes of some columns of the matrix, which are rows here."""
    step, taxel = np.nonzero(np.abs(numbers[:, :-1]) > 0)  # which a number that is none is not
    t, sound = times_of_floats(numbers[step, -1].astype(np.float64), tally)
    step, taxel = step[sound], taxel[sound]
    x, y = (taxel % _SIDE).astype(np.uint16), (taxel // _SIDE).astype(np.uint16)
    return Chunk(t, x, y, (numbers[step, taxel] > 0).view(np.uint8))
