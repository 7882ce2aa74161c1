"""Compiled local normalization."""

from __future__ import annotations

import numpy as np

from eventsnn.encode._lanes import box, erase, move, runs
from eventsnn.encode._sums import CHUNK, SLACK, sums_of_17, window_sums
from eventsnn.encode._vectors import WIDTH, add, div, load, load_some, mul, splat, store, store_some
from eventsnn.jit import inner, lean_kernel
from eventsnn.memory import scratch_empty

_EPSILON = np.float32(1e-12)
_LINE, _PIECE = np.int64(4 * WIDTH), np.int64(4 * CHUNK)


def normalize(block, radius, n_images):
    """Divide ``block`` (C, H, W * N) in place by its mean over (2 radius + 1)^2 pixels, zeros beyond the border.

    Return whether none of it is negative; else some of it is left as it is. Sums are taken along rows, then down these,
    as :func:`~eventsnn.encode._sums.window_sums` takes them: each window's on its own, since adding what comes and
    subtracting what goes would leave rounding errors behind where a dark part follows a bright one. The mean is the sum
    times the float32 ``1 / (2 radius + 1)^2``.
    """
    height, lanes = block.shape[1], min(n_images, WIDTH)
    length = block.shape[2] // n_images * lanes
    longest = max(length + 2 * radius * lanes, (height + 2 * radius) * CHUNK) + SLACK
    line, work, means = scratch_empty((longest,)), scratch_empty((longest,)), scratch_empty((height * length,))
    sums = scratch_empty((-(-length // (CHUNK - CHUNK % lanes)) * (height + 2 * radius + 1) * CHUNK,))
    seen = scratch_empty((block.shape[2] + WIDTH,), np.int32)
    return bool(_normalize(block, radius, n_images, (line, work, sums, means, seen)))


@inner
def _of_17(plane, below, pitch, size, scratch):
    """Divide 16 images by their means of radius 8, within a box of ``size`` rows and columns from an address on."""
    n_rows, columns = size
    _, work, sums, means = scratch
    apart = n_rows * _LINE
    for y in range(n_rows):
        sums_of_17(sums + y * _LINE, apart, plane + y * below, pitch, columns, work)
    for x in range(columns):
        sums_of_17(means + x * _LINE, columns * _LINE, sums + x * apart, _LINE, n_rows, work)
    share, least = splat(np.float32(1) / np.float32(17 * 17)), splat(_EPSILON)
    for y in range(n_rows):
        cells = plane + y * below
        for _ in range(columns):
            store(cells, div(load(cells), add(mul(load(means), share), least)))
            cells, means = cells + pitch, means + _LINE


@inner
def _of_any(plane, below, pitch, size, radius, lanes, scratch):
    """Do as :func:`_of_17` for any radius and ``lanes`` images: by pieces of rows that have up to 64 cells."""
    n_rows, columns = size
    line, work, sums, _ = scratch
    length, shape, wide = columns * lanes, runs(columns, lanes, pitch // 4), CHUNK - CHUNK % lanes
    edge, apart = 4 * radius * lanes, (n_rows + 2 * radius) * _PIECE
    erase(line, radius * lanes)
    for y in range(n_rows):
        move(line + edge, plane + y * below, shape, (4 * shape[1], pitch))
        erase(line + edge + 4 * length, radius * lanes)
        window_sums(sums + (radius + y) * _PIECE, (wide, apart), line, work, length, lanes, radius)
    share, least = splat(np.float32(1) / np.float32((2 * radius + 1) * (2 * radius + 1))), splat(_EPSILON)
    for piece in range((length + wide - 1) // wide):
        strip = sums + piece * apart
        erase(strip, radius * CHUNK)
        erase(strip + (radius + n_rows) * _PIECE, radius * CHUNK)
        window_sums(strip, (np.int64(CHUNK), _PIECE), strip, work, n_rows * CHUNK, np.int64(CHUNK), radius)
        count = wide if wide < length - piece * wide else length - piece * wide
        shape = runs(count // lanes, lanes, pitch // 4)
        for y in range(n_rows):
            cells, total = plane + y * below + piece * (wide // lanes) * pitch, strip + y * _PIECE
            for _ in range(shape[0]):
                for at in range(np.int64(0), shape[1], np.int64(WIDTH)):
                    mean = add(mul(load(total + 4 * at), share), least)
                    value = div(load_some(cells + 4 * at, shape[1] - at), mean)
                    store_some(cells + 4 * at, value, shape[1] - at)
                cells, total = cells + pitch, total + 4 * shape[1]


@lean_kernel
def _normalize(block, radius, n_images, scratch):
    line, work, sums, means, seen = scratch
    places = (
        np.int64(line.ctypes.data), np.int64(work.ctypes.data), np.int64(sums.ctypes.data), np.int64(means.ctypes.data)
    )  # fmt: skip
    height, width = np.int64(block.shape[1]), np.int64(block.shape[2]) // n_images
    below, pitch = 4 * width * n_images, 4 * n_images
    for c in range(len(block)):
        plane, shape = np.int64(block.ctypes.data) + c * height * below, (np.int64(1), width * n_images)
        top, bottom, left, right, bits = box(plane, height, below, shape, pitch, n_images, seen)
        if bits < 0 and _any_negative(block[c]):
            return False
        size = bottom - top, right - left
        for start in range(np.int64(0), n_images if top < bottom else 0, np.int64(WIDTH)):
            lanes = n_images - start if n_images - start < WIDTH else np.int64(WIDTH)
            first = plane + top * below + left * pitch + 4 * start
            if lanes == WIDTH and radius == 8:
                _of_17(first, below, pitch, size, places)
            else:
                _of_any(first, below, pitch, size, radius, lanes, places)
    return True


@inner
def _any_negative(plane):
    """Return whether any value of a plane is below 0, which -0 is not."""
    found = False
    for y in range(len(plane)):
        for i in range(plane.shape[1]):
            found |= plane[y, i] < np.float32(0)
    return found
