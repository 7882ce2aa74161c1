"""Up to 16 images of a block (C, H, W * N), whose values of a pixel fill a vector.

Compiled stages take so many images at a time: what they go back to then stays in the nearest cache. The rows of fewer
images are as long as their values, so that vectors hold several pixels. Results are those of any other division.
"""

from __future__ import annotations

import numpy as np

from eventsnn.encode._vectors import WIDTH, bits_of, either, load, load_some, store, store_some, zeros
from eventsnn.jit import inner

_LINE = np.int64(4 * WIDTH)


@inner
def runs(pixels, lanes, n_images):
    """Return in how many runs of how many values a row of pixels of ``lanes`` images lies, beside others or alone."""
    return (np.int64(1), pixels * lanes) if lanes == n_images else (pixels, lanes)


@inner
def move(target, source, shape, pitches):
    """Copy runs of float32 values from one address to another; ``pitches`` are from run to run of both, in bytes."""
    full, rest = 4 * (shape[1] - shape[1] % WIDTH), shape[1] % WIDTH
    for _ in range(shape[0]):
        for at in range(np.int64(0), full, _LINE):
            store(target + at, load(source + at))
        if rest > 0:
            store_some(target + full, load_some(source + full, rest), rest)
        target, source = target + pitches[0], source + pitches[1]


@inner
def erase(at, length):
    """Write zeros to an address, up to 15 more than ``length``."""
    for i in range(np.int64(0), 4 * length, _LINE):
        store(at + i, zeros())


@inner
def box(plane, height, below, shape, pitch, lanes, seen):
    """Return the box outside of which images are 0: first row and pixel in it, one past the last, the bits of all.

    ``plane`` is the address of the first value, ``below`` what is from row to row, and rows are ``shape`` runs with a
    ``pitch``. ``seen`` is scratch memory of int32, with room for a row and a vector more.
    """
    top, bottom, every, length = height, np.int64(0), np.int32(0), shape[0] * shape[1]
    full, columns = 4 * (shape[1] - shape[1] % WIDTH), np.int64(seen.ctypes.data)
    erase(columns, length)
    for y in range(height):
        lit, source, target = zeros(), plane, columns
        for _ in range(shape[0]):
            for at in range(np.int64(0), full, _LINE):
                value = load(source + at)
                lit = either(lit, value)
                store(target + at, either(load(target + at), value))
            if full < 4 * shape[1]:
                value = load_some(source + full, shape[1] - full // 4)
                lit = either(lit, value)
                store(target + full, either(load(target + full), value))
            source, target = source + pitch, target + 4 * shape[1]
        bits = bits_of(lit)
        every |= bits
        top, bottom = y if bits != 0 and y < top else top, y + 1 if bits != 0 else bottom
        plane += below
    left, right = np.int64(0), length
    while left < right and seen[np.uint64(left)] == 0:
        left += 1
    while right > left and seen[np.uint64(right - 1)] == 0:
        right -= 1
    return top, bottom, left // lanes, (right + lanes - 1) // lanes, every
