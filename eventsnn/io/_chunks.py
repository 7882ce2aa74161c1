"""Chunks of HDF5 as bytes: what its filters shuffle, gzip and fletcher32 make of values, and back.

HDF5 computes under one lock. What is done here lets go of Python's, so that several threads can work at the same file;
any program reads the bytes as if HDF5 had written them.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

# Of zlib. Shuffled columns are runs, or bytes without pattern: to look for runs alone takes a quarter less time than
# level 1 does, and makes files of real recordings 5 % larger to 3 % smaller.
_LEVEL, _WINDOW_BITS, _MEMORY = 1, 15, 9
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
    shuffled = _shuffled(raw, values.itemsize)
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW_BITS, _MEMORY, zlib.Z_RLE)
    packed = deflate.compress(shuffled.data) + deflate.flush()
    if len(packed) < len(raw):
        return 0, packed + _checksum(np.frombuffer(packed, np.uint8))
    return 1 << 1, shuffled.tobytes() + _checksum(shuffled)


def _shuffled(raw: np.ndarray, size: int) -> np.ndarray:
    from eventsnn.io._chunk_kernels import shuffle

    if size == 1:
        return raw
    out = np.empty_like(raw)
    shuffle(raw.view(f"u{size}"), out)
    return out


def _checksum(data: np.ndarray) -> bytes:
    """Return what fletcher32 appends."""
    from eventsnn.io._chunk_kernels import fletcher32

    one, two = fletcher32(data)
    # HDF5 folds sums instead of dividing them, and so comes to 65535 where a remainder is 0, except if all is 0.
    low, high = (int(part) for part in (one, two))
    if not data.any():
        return bytes(_CHECKSUM)
    return struct.pack("<HH", low or 65535, high or 65535)
