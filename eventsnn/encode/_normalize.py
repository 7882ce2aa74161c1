"""Compiled local normalization."""

from __future__ import annotations

from functools import partial

import numpy as np

from eventsnn.encode._lanes import box, move, runs
from eventsnn.encode._sums import CHUNK, SLACK, window_sums
from eventsnn.encode._vectors import WIDTH, add, div, load, load_some, mul, splat, store, store_some, zeros
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
    line, work = scratch_empty((longest,)), scratch_empty((longest + 7 * CHUNK,))
    pieces = -(-length // (CHUNK - CHUNK % lanes))
    sums, seen = (
        scratch_empty((pieces, height + 2 * radius + 1, CHUNK)),
        scratch_empty((block.shape[2] + WIDTH,), np.int32),
    )
    return bool(_normalize(block, radius, n_images, (line, work, sums, seen)))


@inner
def _erase(at, length):
    for i in range(np.int64(0), 4 * length, _LINE):
        store(at + i, zeros())


@inner
def _sum_rows(plane, below, pitch, sizes, radius, scratch):
    """Write window sums along rows, of ``sizes`` columns of some images, to ``sums``: so many cells after another."""
    columns, n_rows, lanes, n_images, wide = sizes
    line, work, sums, apart = scratch
    length, shape = columns * lanes, runs(columns, lanes, n_images)
    edge = 4 * radius * lanes
    _erase(line, radius * lanes)
    for y in range(n_rows):
        move(line + edge, plane + y * below, shape, (4 * shape[1], pitch))
        _erase(line + edge + 4 * length, radius * lanes)
        window_sums(sums + y * _PIECE, (wide, apart), line, work + 28 * lanes, length, lanes, radius)


@inner
def _divide(cells, sums, apart, sizes, pitch, radius):
    """Divide a row of cells by their means, given their sums, so many cells after another."""
    columns, lanes, n_images, wide = sizes
    share, least, left = splat(np.float32(1) / np.float32((2 * radius + 1) ** 2)), splat(_EPSILON), columns * lanes
    while left > 0:
        count = wide if wide < left else left
        shape, total = runs(count // lanes, lanes, n_images), sums
        full, rest = 4 * (shape[1] - shape[1] % WIDTH), shape[1] % WIDTH
        for _ in range(shape[0]):
            for at in range(np.int64(0), full, _LINE):
                store(cells + at, div(load(cells + at), add(mul(load(total + at), share), least)))
            if rest > 0:
                mean = add(mul(load(total + full), share), least)
                store_some(cells + full, div(load_some(cells + full, rest), mean), rest)
            cells, total = cells + (pitch if shape[0] > 1 or lanes < n_images else 4 * count), total + 4 * shape[1]
        sums, left = sums + apart, left - wide


@partial(lean_kernel, error_model="numpy")
def _normalize(block, radius, n_images, scratch):
    sums, seen = np.int64(scratch[2].ctypes.data), scratch[3]
    line, work, apart = (
        np.int64(scratch[0].ctypes.data),
        np.int64(scratch[1].ctypes.data),
        4 * CHUNK * scratch[2].shape[1],
    )
    height, width = np.int64(block.shape[1]), np.int64(block.shape[2]) // n_images
    below, pitch = 4 * width * n_images, 4 * n_images
    for c in range(len(block)):
        plane, shape = np.int64(block.ctypes.data) + c * height * below, (np.int64(1), width * n_images)
        top, bottom, left, right, bits = box(plane, height, below, shape, pitch, n_images, seen)
        if bits < 0 and _any_negative(block[c]):
            return False
        columns, n_rows = right - left, bottom - top
        for start in range(np.int64(0), n_images if n_rows > 0 else 0, np.int64(WIDTH)):
            lanes = min(np.int64(WIDTH), n_images - start)
            wide = CHUNK - CHUNK % lanes
            plane = np.int64(block.ctypes.data) + c * height * below + 4 * start + top * below + left * pitch
            inside = sums + radius * _PIECE
            sizes = columns, n_rows, lanes, n_images, wide
            _sum_rows(plane, below, pitch, sizes, radius, (line, work, inside, apart))
            for piece in range((columns * lanes + wide - 1) // wide):
                strip, room = sums + piece * apart, work + 7 * _PIECE
                _erase(strip, radius * CHUNK)
                _erase(strip + (radius + n_rows) * _PIECE, radius * CHUNK)
                window_sums(strip, (np.int64(CHUNK), _PIECE), strip, room, n_rows * CHUNK, np.int64(CHUNK), radius)
            for y in range(n_rows):
                _divide(plane + y * below, sums + y * _PIECE, apart, (columns, lanes, n_images, wide), pitch, radius)
    return True


@inner
def _any_negative(plane):
    """Return whether any value of a plane is below 0, which -0 is not."""
    found = False
    for y in range(len(plane)):
        for i in range(plane.shape[1]):
            found |= plane[y, i] < np.float32(0)
    return found
