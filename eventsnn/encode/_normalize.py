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

    Return whether none of it is negative; else some of it is left as it is. Sums are taken along rows, then down these, as
    :func:`~eventsnn.encode._sums.window_sums` takes them: each window's on its own, since adding what comes and subtracting
    what goes would leave rounding errors behind where a dark part follows a bright one. The mean is the sum times the float32
    next to a share, ``1 / (2 radius + 1)^2``.
    """
    height, lanes = block.shape[1], min(n_images, WIDTH)
    length = block.shape[2] // n_images * lanes
    longest = max(length + 2 * radius * lanes, (height + 2 * radius) * CHUNK) + SLACK
    line, work = scratch_empty((longest,)), scratch_empty((longest + 7 * CHUNK,))
    pieces = -(-length // (CHUNK - CHUNK % lanes))
    sums, totals = scratch_empty((pieces, height + 2 * radius + 1, CHUNK)), scratch_empty((height + 1, CHUNK))
    seen = scratch_empty((length + WIDTH,), np.int32)
    return bool(_normalize(block, radius, n_images, (line, work, sums, totals, seen)))


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
def _divide(cells, totals, share, shape, pitch):
    """Divide runs of cells by their totals' share."""
    for _ in range(shape[0]):
        for at in range(np.int64(0), shape[1], np.int64(WIDTH)):
            mean = add(mul(load(totals + 4 * at), share), splat(_EPSILON))
            store_some(cells + 4 * at, div(load_some(cells + 4 * at, shape[1] - at), mean), shape[1] - at)
        cells, totals = cells + pitch, totals + 4 * shape[1]


@partial(lean_kernel, error_model="numpy")
def _normalize(block, radius, n_images, scratch):
    sums, totals, seen = np.int64(scratch[2].ctypes.data), np.int64(scratch[3].ctypes.data), scratch[4]
    line, work, apart = np.int64(scratch[0].ctypes.data), np.int64(scratch[1].ctypes.data), 4 * CHUNK * scratch[2].shape[1]
    share = splat(np.float32(1) / np.float32((2 * radius + 1) ** 2))
    height, width = np.int64(block.shape[1]), np.int64(block.shape[2]) // n_images
    below, pitch = 4 * width * n_images, 4 * n_images
    for c in range(len(block)):
        for start in range(np.int64(0), n_images, np.int64(WIDTH)):
            lanes = min(np.int64(WIDTH), n_images - start)
            wide = CHUNK - CHUNK % lanes
            plane = np.int64(block.ctypes.data) + c * height * below + 4 * start
            top, bottom, left, right, bits = box(plane, height, below, runs(width, lanes, n_images), pitch, lanes, seen)
            if bits < 0 and _any_negative(block[c]):
                return False
            plane += top * below + left * pitch
            columns, n_rows = right - left, bottom - top
            if n_rows <= 0:
                continue
            inside = sums + radius * _PIECE
            sizes = columns, n_rows, lanes, n_images, wide
            _sum_rows(plane, below, pitch, sizes, radius, (line, work, inside, apart))
            for piece in range((columns * lanes + wide - 1) // wide):
                strip, first = sums + piece * apart, piece * (wide // lanes)
                _erase(strip, radius * CHUNK)
                _erase(strip + (radius + n_rows) * _PIECE, radius * CHUNK)
                window_sums(totals, (np.int64(CHUNK), _PIECE), strip, work + 7 * _PIECE, n_rows * CHUNK, np.int64(CHUNK), radius)
                shape = runs(min(columns - first, wide // lanes), lanes, n_images)
                for y in range(n_rows):
                    _divide(plane + y * below + first * pitch, totals + y * _PIECE, share, shape, pitch)
    return True


@inner
def _any_negative(plane):
    """Return whether any value of a plane is below 0, which -0 is not."""
    found = False
    for y in range(len(plane)):
        for i in range(plane.shape[1]):
            found |= plane[y, i] < np.float32(0)
    return found
