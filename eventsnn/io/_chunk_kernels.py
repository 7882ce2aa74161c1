"""Compiled: what HDF5's filters shuffle and fletcher32 do to the bytes of a chunk."""

from __future__ import annotations

import numpy as np

from eventsnn.jit import lean_kernel


@lean_kernel
def shuffle(raw, size, out):
    """Write the first bytes of all values of ``size`` bytes, then the second ones, and so on."""
    n = len(raw) // size
    for j in range(size):
        for i in range(n):
            out[j * n + i] = raw[i * size + j]


@lean_kernel
def unshuffle(shuffled, size, out):
    """Undo :func:`shuffle`."""
    n = len(shuffled) // size
    for i in range(n):
        for j in range(size):
            out[i * size + j] = shuffled[j * n + i]


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
