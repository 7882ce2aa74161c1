"""Compiled: what HDF5's filters shuffle and fletcher32 do to the bytes of a chunk."""

from __future__ import annotations

import numpy as np

from eventsnn.jit import inner, lean_kernel


@lean_kernel
def shuffle(values, out):
    """Write the first bytes of all values, which are integers without sign, then the second ones, and so on."""
    n = len(values)
    for j in range(values.itemsize):
        shift = np.uint64(8 * j)
        for i in range(n):
            out[j * n + i] = np.uint8(np.uint64(values[i]) >> shift)


@inner
def _byte(shuffled, i, n, j):
    return np.uint64(shuffled[j * n + i]) << np.uint64(8 * j)


@lean_kernel
def unshuffle(shuffled, out):
    """Undo :func:`shuffle` for values of 2, 4 or 8 bytes: each is put together at once, several at a time."""
    n = len(out)
    for i in range(n):
        value = _byte(shuffled, i, n, 0) | _byte(shuffled, i, n, 1)
        if out.itemsize > 2:
            value |= _byte(shuffled, i, n, 2) | _byte(shuffled, i, n, 3)
        if out.itemsize > 4:
            value |= _byte(shuffled, i, n, 4) | _byte(shuffled, i, n, 5)
            value |= _byte(shuffled, i, n, 6) | _byte(shuffled, i, n, 7)
        out[i] = value


@lean_kernel
def fletcher32(data):
    """Return the Fletcher checksum of 32 bits over big-endian words of 16, as HDF5 computes it."""
    one, two, n = np.uint64(0), np.uint64(0), len(data) // 2
    start = np.int64(0)
    while start < n:
        stop = min(n, start + 20000)  # the sums stay below 2**64 so long
        for i in range(start, stop):
            one += np.uint64(data[2 * i]) << np.uint64(8) | np.uint64(data[2 * i + 1])
            two += one
        one, two, start = one % np.uint64(65535), two % np.uint64(65535), stop
    if len(data) % 2:
        one += np.uint64(data[len(data) - 1]) << np.uint64(8)
        two += one
        one, two = one % np.uint64(65535), two % np.uint64(65535)
    return one, two
