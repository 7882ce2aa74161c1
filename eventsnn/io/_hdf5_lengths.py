"""How long a chunk becomes that a plug-in of the HDF5 library decompresses, as it says itself.

The library takes what a plug-in gives for as long as a chunk has to be, and reads beyond it if it is shorter.
"""

from __future__ import annotations

import struct

#: Decompressed by plug-ins of the HDF5 library, which come in one package.
PLUGINS = {32001: "Blosc", 32004: "LZ4", 32008: "Bitshuffle", 32015: "Zstandard", 32026: "Blosc2"}

_LENGTH_AT = {32001: (4, "<I"), 32004: (0, ">Q"), 32008: (0, ">Q")}
_ZSTD = b"\x28\xb5\x2f\xfd"
# Of a frame: length of its header, its own, its content's, that of this compressed, and of a chunk.
_BLOSC2 = struct.Struct(">x9s x i x Q 5x x q x q 10x x i")
_BLOSC2_CHUNK = struct.Struct("<2xBx i i i")  # flags, length, of a block, compressed
_BLOSC2_COPIED, _BLOSC2_HEADER = 2, 32


def stated_length(number: int, data: bytes) -> int | None:
    """Return how many bytes a stored chunk says that it becomes through a filter; None if it does not say so."""
    if number == 32015:
        return _zstandard(data)
    if number == 32026:
        return _blosc2(data)
    place, kind = _LENGTH_AT[number]
    if len(data) < place + struct.calcsize(kind):
        return None
    return int(struct.unpack_from(kind, data, place)[0])


def _zstandard(data: bytes) -> int | None:
    """Return the content size of the first frame (RFC 8878, 3.1.1.1), for which the plug-in makes room."""
    if not data.startswith(_ZSTD) or len(data) < 5:
        return None
    described = data[4]
    single = described >> 5 & 1
    size = (single, 2, 4, 8)[described >> 6]
    place = 5 + (1 - single) + (0, 1, 2, 4)[described & 3]
    if not size or len(data) < place + size:
        return None
    return int.from_bytes(data[place : place + size], "little") + 256 * (size == 2)


def _blosc2(data: bytes) -> int | None:
    """Return the length of the only chunk of a frame, if all that says where and how long it is agrees.

    Behind it lies a chunk with its place, one number that is too short to be compressed: 0, or below 0 where all bytes
    are the same and the chunk is not there.
    """
    if len(data) < _BLOSC2.size:
        return None
    magic, header, frame, length, compressed, chunk = _BLOSC2.unpack_from(data)
    index = header + compressed
    if magic != b"\xa8b2frame\0" or frame > len(data) or length != chunk or header < _BLOSC2.size or compressed < 0:
        return None
    if index + _BLOSC2_HEADER + 8 > frame:
        return None
    flags, entries, _, _ = _BLOSC2_CHUNK.unpack_from(data, index)
    place = struct.unpack_from("<q", data, index + _BLOSC2_HEADER)[0]
    if not flags & _BLOSC2_COPIED or entries != 8 or (place >= 0) != (compressed > 0) or place > 0:
        return None
    if compressed and _BLOSC2_CHUNK.unpack_from(data, header)[1] != length:
        return None
    return int(length)
