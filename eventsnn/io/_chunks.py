"""Chunks of HDF5 as bytes: what its filters shuffle, gzip and fletcher32 make of values, and back.

HDF5 computes under one lock. What is done here lets go of Python's, so that several threads can work at the same file;
any program reads the bytes as if HDF5 had written them.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

from eventsnn.memory import scratch, scratch_empty

_HEADER = b"\x78\x01"  # of zlib's format, around deflate
_BLOCK = 1 << 14  # bytes that have Huffman codes of their own at least: codes take 150 bytes
_CHECKSUM = 4  # bytes at the end of a chunk


def encode(values: np.ndarray, chunk: int, *, compress: bool) -> tuple[int, bytes]:
    """Return the filter mask and the bytes of a chunk of ``chunk`` values, of which the last may be missing.

    The filters are shuffle, gzip, fletcher32 with ``compress``, else fletcher32 alone. The mask says, as HDF5 does,
    that compression was left out where it does not make a chunk smaller.
    """
    if len(values) < chunk:
        values = np.concatenate([values, np.zeros(chunk - len(values), values.dtype)])
    raw = np.ascontiguousarray(values).view(np.uint8)
    if not compress:
        return 0, raw.tobytes() + _checksum(raw)
    with scratch():
        shuffled = _shuffled(raw, values.itemsize)
        packed = _deflated(shuffled, max(chunk, _BLOCK))  # all first bytes in a block, all second ones, and so on
        if len(packed) < len(raw):
            return 0, packed + _checksum(np.frombuffer(packed, np.uint8))
        return 1 << 1, shuffled.tobytes() + _checksum(shuffled)


def _shuffled(raw: np.ndarray, size: int) -> np.ndarray:
    from eventsnn.io._chunk_kernels import shuffle

    if size == 1:
        return raw
    out = scratch_empty(raw.shape, np.uint8)
    shuffle(raw.view(f"u{size}"), out)
    return out


def _deflated(data: np.ndarray, block: int) -> bytes:
    """Return what zlib decompresses to some bytes."""
    from eventsnn.io._deflate_kernel import ROOM, SCRATCH, deflate

    room = 2 * len(data) + ROOM * (len(data) // block + 1)
    out = scratch_empty((room // 4 + 1,), np.uint32)
    n = deflate(data, block, out, scratch_empty((SCRATCH + block,), np.uint32))
    return _HEADER + out.view(np.uint8)[:n].tobytes() + zlib.adler32(data.data).to_bytes(4, "big")


def _checksum(data: np.ndarray) -> bytes:
    """Return what fletcher32 appends."""
    from eventsnn.io._chunk_kernels import fletcher32

    one, two = fletcher32(data)
    # HDF5 folds sums instead of dividing them, and so comes to 65535 where a remainder is 0, except if all is 0.
    low, high = (int(part) for part in (one, two))
    if not data.any():
        return bytes(_CHECKSUM)
    return struct.pack("<HH", low or 65535, high or 65535)
