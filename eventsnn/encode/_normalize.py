"""Compiled local normalization."""

from __future__ import annotations

import numpy as np

from eventsnn.encode._lanes import box, erase, move, runs
from eventsnn.encode._sums import CHUNK, SLACK, sums_of_17, window_sums
from eventsnn.encode._vectors import WIDTH, add, div, load, load_some, mul, splat, store, store_some, zeros
from eventsnn.jit import inner, lean_kernel
from eventsnn.memory import scratch_arrays

_EPSILON = np.float32(1e-12)
_LINE, _PIECE = np.int64(4 * WIDTH), np.int64(4 * CHUNK)


def normalize(block, radius, n_images):
    """Divide ``block`` (C, H, W * N) in place by its mean over (2 radius + 1)^2 pixels, zeros beyond the border.

    Return whether none of it is negative; else some of it is left as it is. Sums are taken along rows, then down these,
    as :func:`~eventsnn.encode._sums.window_sums` takes them: each window's on its own, since adding what comes and
    subtracting what goes would leave rounding errors behind where a dark part follows a bright one. The mean is the sum
    times the float32 ``1 / (2 radius + 1)^2``.
    """
    scratch = scratch_arrays(*room_to_normalize(block.shape, radius, n_images))
    return bool(_normalize(block, radius, n_images, scratch))


def room_to_normalize(shape, radius, n_images):
    """Return shapes and types of the scratch memory for blocks of a shape (C, H, W * N)."""
    height, lanes = shape[1], min(n_images, WIDTH)
    length = shape[2] // n_images * lanes
    longest = max(length + 2 * radius * lanes, (height + 2 * radius) * CHUNK) + SLACK
    return (
        ((longest,), np.float32),
        ((longest,), np.float32),
        ((-(-length // (CHUNK - CHUNK % lanes)) * (height + 2 * radius + 1) * CHUNK,), np.float32),
        ((height * lanes,), np.float32),
        ((shape[2] + WIDTH,), np.int32),
    )


@inner
def _of_17(plane, below, pitch, size, scratch):
    """Divide 16 images by their means of radius 8, within a box of ``size`` rows and columns from an address on."""
    n_rows, columns = size
    _, work, sums, means = scratch
    apart = n_rows * _LINE
    store(work, zeros())
    for y in range(n_rows):
        sums_of_17((sums + y * _LINE, apart), (plane + y * below, pitch), columns, work)
    share, least = splat(np.float32(1) / np.float32(17 * 17)), splat(_EPSILON)
    for x in range(columns):
        sums_of_17((means, _LINE), (sums + x * apart, _LINE), n_rows, work)
        cells, total = plane + x * pitch, means
        for _ in range(n_rows):
            store(cells, div(load(cells), add(mul(load(total), share), least)))
            cells, total = cells + below, total + _LINE


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
    places, seen = _places(scratch), scratch[4]
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
            _divide(first, below, pitch, size, radius, lanes, places)
    return True


@inner
def _within(first, end, length):
    return first if first > 0 else np.int64(0), end if end < length else length


@inner
def normalize_16(block, lit, responses, maps, radius, scratch):
    """Do as :func:`normalize` for responses of 16 images to a bank, none of which is negative.

    ``lit`` is the box outside of which the images are 0, as :func:`~eventsnn.encode._correlate.respond` returns it.
    """
    places = _places(scratch)
    height, width, none = np.int64(block.shape[1]), np.int64(block.shape[2]) // WIDTH, np.int64(0)
    top, bottom, left, right = lit
    for b in range(len(responses)):
        # A window of ``size`` that begins at a pixel sees the ``size - 1`` after it, too.
        size, edge = responses[b, 0], responses[b, 2]
        rows = _within(top - edge - size + 1, bottom - edge, height)
        columns = _within(left - edge - size + 1, right - edge, width)
        for m in range(responses[b, 4], responses[b, 5] if rows[0] < rows[1] and columns[0] < columns[1] else none):
            first = np.int64(block.ctypes.data) + _LINE * ((maps[m] * height + rows[0]) * width + columns[0])
            _divide(first, _LINE * width, _LINE, (rows[1] - rows[0], columns[1] - columns[0]), radius, WIDTH, places)


@inner
def _places(scratch):
    line, work, sums, means, _ = scratch
    return (
        np.int64(line.ctypes.data), np.int64(work.ctypes.data), np.int64(sums.ctypes.data), np.int64(means.ctypes.data)
    )  # fmt: skip


@inner
def _divide(first, below, pitch, size, radius, lanes, places):
    """Divide up to 16 images by their means within a box of ``size`` rows and columns from an address on."""
    if lanes == WIDTH and radius == 8:
        _of_17(first, below, pitch, size, places)
    else:
        _of_any(first, below, pitch, size, radius, lanes, places)


@inner
def _any_negative(plane):
    """Return whether any value of a plane is below 0, which -0 is not."""
    found = False
    for y in range(len(plane)):
        for i in range(plane.shape[1]):
            found |= plane[y, i] < np.float32(0)
    return found
