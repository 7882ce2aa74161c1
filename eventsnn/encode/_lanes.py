"""Up to 16 images of a block (C, H, W * N), whose values of a pixel fill a vector.

Compiled stages take so many images at a time: what they go back to then stays in the nearest cache. The rows of fewer images
are as long as their values, so that vectors hold several pixels. Results are those of any other division.
"""

from __future__ import annotations

import numpy as np

from eventsnn.encode._vectors import WIDTH, bits_of, either, load, load_some, store, store_some, zeros
from eventsnn.jit import inner

_LINE = np.int64(4 * WIDTH)


@inner
def runs(pixels, lanes, n_images):
    """Return how many runs of how many values a row of pixels of ``lanes`` images has, of ``n_images`` that lie together."""
    return (np.int64(1), pixels * lanes) if lanes == n_images else (pixels, lanes)


@inner
def move(target, source, shape, pitches):
    """Copy runs of float32 values from one address to another; ``pitches`` are from run to run of both, in bytes."""
    for _ in range(shape[0]):
        for at in range(np.int64(0), shape[1], np.int64(WIDTH)):
            store_some(target + 4 * at, load_some(source + 4 * at, shape[1] - at), shape[1] - at)
        target, source = target + pitches[0], source + pitches[1]


@inner
def box(plane, height, below, shape, pitch, lanes, seen):
    """Return the box outside of which images are 0: the first and last but one row and pixel in it, and the bits of all.

    ``plane`` is the address of the first value, ``below`` what is from row to row, and rows are ``shape`` runs with a
    ``pitch``. ``seen`` is scratch memory of int32, with room for a row and a vector more.
    """
    top, bottom, every, first = height, np.int64(0), np.int32(0), np.int64(seen.ctypes.data)
    for at in range(np.int64(0), 4 * shape[0] * shape[1], _LINE):
        store(first + at, zeros())
    for y in range(height):
        lit, target, source = zeros(), first, plane + y * below
        for _ in range(shape[0]):
            for at in range(np.int64(0), shape[1], np.int64(WIDTH)):
                value = load_some(source + 4 * at, shape[1] - at)
                lit = either(lit, value)
                store(target + 4 * at, either(load(target + 4 * at), value))
            target, source = target + 4 * shape[1], source + pitch
        bits = bits_of(lit)
        if bits != 0:
            top, bottom, every = top if top < y else np.int64(y), np.int64(y + 1), every | bits
    left, right = np.int64(0), shape[0] * shape[1]
    while left < right and seen[left] == 0:
        left += 1
    while right > left and seen[right - 1] == 0:
        right -= 1
    return top, bottom, left // lanes, (right + lanes - 1) // lanes, every
