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
def box(plane, height, below, shape, pitch, lanes, seen):
    """Return the box outside of which images are 0: first and last but one row and pixel in it, and the bits of all.

    ``plane`` is the address of the first value, ``below`` what is from row to row, and rows are ``shape`` runs with a
    ``pitch``. ``seen`` is scratch memory of int32, with room for a row and a vector more.
    """
    top, bottom, every, first = height, np.int64(0), np.int32(0), np.int64(seen.ctypes.data)
    full, rest = 4 * (shape[1] - shape[1] % WIDTH), shape[1] % WIDTH
    for at in range(np.int64(0), 4 * shape[0] * shape[1], _LINE):
        store(first + at, zeros())
    for y in range(np.int64(0), height, np.int64(4)):
        # Four rows together, of the last some twice: what has been seen of a column is read and written less often.
        ends = (y, min(y + 1, height - 1), min(y + 2, height - 1), min(y + 3, height - 1))
        p, q, r, s = plane + ends[0] * below, plane + ends[1] * below, plane + ends[2] * below, plane + ends[3] * below
        i, j, k, m, target = zeros(), zeros(), zeros(), zeros(), first
        for _ in range(shape[0]):
            for at in range(np.int64(0), full, _LINE):
                a, b, c, d = load(p + at), load(q + at), load(r + at), load(s + at)
                i, j, k, m = either(i, a), either(j, b), either(k, c), either(m, d)
                store(target + at, either(load(target + at), either(either(a, b), either(c, d))))
            if rest > 0:
                a, b = load_some(p + full, rest), load_some(q + full, rest)
                c, d = load_some(r + full, rest), load_some(s + full, rest)
                i, j, k, m = either(i, a), either(j, b), either(k, c), either(m, d)
                store(target + full, either(load(target + full), either(either(a, b), either(c, d))))
            target, p, q, r, s = target + 4 * shape[1], p + pitch, q + pitch, r + pitch, s + pitch
        for end, bits in zip(ends, (bits_of(i), bits_of(j), bits_of(k), bits_of(m))):  # noqa: B905
            if bits != 0:
                top, bottom, every = min(top, end), end + 1, every | bits
    left, right = np.int64(0), shape[0] * shape[1]
    while left < right and seen[left] == 0:
        left += 1
    while right > left and seen[right - 1] == 0:
        right -= 1
    return top, bottom, left // lanes, (right + lanes - 1) // lanes, every
