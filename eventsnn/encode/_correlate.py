"""Compiled banks of filters: windows of weights, and sums of outer products, down and then across."""

from __future__ import annotations

import numpy as np

from eventsnn.encode._lanes import box, erase, move, runs
from eventsnn.encode._sums import CHUNK, PIXELS, SLACK, TERMS, fold_across, fold_down, roll_across, weigh
from eventsnn.encode._vectors import WIDTH, drop, fma, load, only, repeat, splat, store, store_some, zeros
from eventsnn.jit import inner, lean_kernel
from eventsnn.memory import scratch_arrays

_LINE = np.int64(4 * WIDTH)
_ALL, _MAGNITUDE = np.int32(-1), np.int32(0x7FFFFFFF)


def correlate(block, border, bank, n_images, mode, out):
    """Cross-correlate ``block`` (C, H, W * N) with a bank of kernels, rectify, and write ``out`` (K, H', W' * N).

    Beyond its edges the block has ``border`` zeros. ``bank`` is a :class:`~eventsnn.encode.filters.Bank`: what is
    added, in which order. ``mode`` is (absolute, signed, threshold): whether to take absolute values, whether to keep
    the sign, and the float32 below which results, or magnitudes if signed, become 0. What is 0 for all images is left
    out, which changes no bit.
    """
    room = room_to_correlate(block.shape, border, bank.parts, n_images)
    _correlate(block, border, bank.arrays, n_images, mode, scratch_arrays(*room), out)


def room_to_correlate(shape, border, parts, n_images):
    """Return shapes and types of the scratch memory for blocks of a shape (C, H, W * N)."""
    channels, height, width = shape[0], shape[1] + 2 * border, shape[2] // n_images + 2 * border
    lanes = min(n_images, WIDTH)
    length = width * lanes + SLACK + PIXELS * lanes
    return (
        ((channels * height * width * lanes + length,), np.float32),
        (((TERMS + 1) * parts * length + WIDTH,), np.float32),
        ((length,), np.float32),
        ((width * lanes // CHUNK + 1, 2), np.int64),
        ((length,), np.int32),
    )


@inner
def _reach(window, lit, folded, lanes, n_chunks, taps):
    """Write for each 64 cells of a row the first of its window's columns that is lit for any of them, and how many are.

    ``lit`` are the first such column and one past the last, from the first cell's on. In folded windows as many are
    left out on either side, and what counts is whether any is lit.
    """
    for j in range(n_chunks):
        first, end = lit[0] - (CHUNK * (j + 1) - 1) // lanes, lit[1] - CHUNK * j // lanes
        first, end = first if first > 0 else np.int64(0), end if end < window else window
        skip = first if first < window - end else window - end
        skip = skip if skip < window // 2 else window // 2
        at = np.uint64(j)
        taps[at, 0], taps[at, 1] = skip if folded else first, end - first


@inner
def _rectify(row, scale, mode, target, shape, pitch):
    """Write a row of responses times ``scale``, 0 rather than -0, in runs to an address."""
    magnitude, sign, least = _MAGNITUDE if mode[0] else _ALL, _MAGNITUDE if mode[1] else _ALL, splat(mode[2])
    factor, full, rest = repeat(scale), 4 * (shape[1] - shape[1] % WIDTH), shape[1] % WIDTH
    for _ in range(shape[0]):
        for at in range(np.int64(0), full, _LINE):
            value = only(fma(factor, load(row + at), zeros()), magnitude)
            store(target + at, drop(value, only(value, sign), least))
        if rest > 0:
            value = only(fma(factor, load(row + full), zeros()), magnitude)
            store_some(target + full, drop(value, only(value, sign), least), rest)
        row, target = row + 4 * shape[1], target + pitch


@inner
def _take(block, border, group, tile, seen):
    """Copy some images of a block into a tile with zeros around; return the box outside of which all are 0."""
    (start, lanes, n_images), (place, channels, height, width) = group, block
    below, shape = 4 * (width + 2 * border) * lanes, runs(width, lanes, n_images)
    top, bottom, left, right = height, np.int64(0), width, np.int64(0)
    for c in range(channels):
        source = place + 4 * (c * height * width * n_images + start)
        target = np.int64(tile.ctypes.data) + (c * (height + 2 * border) + border) * below + 4 * border * lanes
        first, end, low, high, _ = box(source, height, 4 * width * n_images, shape, 4 * n_images, lanes, seen)
        top, bottom = first if first < top else top, end if end > bottom else bottom
        left, right = low if low < left else left, high if high > right else right
        for y in range(height):
            move(target + y * below, source + 4 * y * width * n_images, shape, (4 * shape[1], 4 * n_images))
    return top + border, bottom + border, left + border, right + border


@inner
def _fold(strips, apart, source, below, lit, lanes, weights, parts, window):
    """Write to strips the sums down columns, those that are lit, for each pair of terms."""
    skip, left, right = lit
    for _ in range(parts):
        to = strips + 4 * left * lanes
        fold_down(to, apart, (right - left) * lanes, source + 4 * left * lanes, below, weights, window, skip)
        strips, weights = strips + (TERMS + 1) * apart, weights + 4 * TERMS * window


@inner
def _gather(cells, source, strides, weights, window, rows, folded, lanes, n_chunks, taps):
    """Write, or add, to a row of cells their windows of strips, or of ``rows`` of the tile."""
    below, beside = strides
    for j in range(n_chunks):
        at = np.uint64(j)
        first, count = taps[at, 0], taps[at, 1]
        if count > 0 and not folded:
            weigh(cells, source + first * beside, weights + 4 * first, (rows, count), (below, beside, 4 * window))
        elif count > 0 and lanes == WIDTH:
            roll_across(cells, source, below, weights, rows, window, first)
        elif count > 0:
            fold_across(cells, source, below, beside, weights, rows, window, first)
        elif folded:
            erase(cells, np.int64(CHUNK))
        cells, source = cells + 4 * CHUNK, source + 4 * CHUNK


@lean_kernel
def _correlate(block, border, bank, n_images, mode, scratch, out):
    for start in range(np.int64(0), n_images, np.int64(WIDTH)):
        lanes = n_images - start if n_images - start < WIDTH else np.int64(WIDTH)
        source = np.int64(block.ctypes.data), np.int64(len(block)), np.int64(block.shape[1])
        group = start, lanes, n_images
        respond((*source, np.int64(block.shape[2]) // n_images), border, bank, group, mode, scratch, out, group)


@inner
def respond(block, border, bank, group, mode, scratch, out, to):
    """Do as :func:`correlate` for some images: the first of them, how many, and how many there are in all.

    ``block`` is an address and channels, rows and pixels; ``to`` says the same as ``group`` of what they become. Return
    the box outside of which they are 0, its border included: first row, row after the last, and of pixels.
    """
    responses, weights, maps, scales = bank
    lanes, (_, channels, height, width) = group[1], block
    height, width, n_rows = height + 2 * border, width + 2 * border, np.int64(out.shape[1])
    columns = np.int64(out.shape[2]) // to[2]
    tile, strips, row, taps, seen = scratch
    pixels, strip, cells = np.int64(tile.ctypes.data), np.int64(strips.ctypes.data), np.int64(row.ctypes.data)
    apart = np.int64(4 * len(row))
    beside, below, shape = 4 * lanes, 4 * width * lanes, runs(columns, lanes, to[2])
    n_chunks = (columns * lanes + CHUNK - 1) // CHUNK
    if group[0] == 0 or lanes < WIDTH:
        erase(pixels, channels * height * width * lanes)
    top, bottom, left, right = _take(block, border, group, tile, seen)
    erase(strip, len(strips) - WIDTH)
    for b in range(len(responses)):
        window, parts, edge = responses[b, 0], responses[b, 1], responses[b, 2]
        weight = np.int64(weights.ctypes.data) + 4 * responses[b, 3]
        folded = parts > 0
        _reach(window, (left - edge, right - edge), folded, lanes, n_chunks, taps)
        for y in range(n_rows):
            above, under, source = top - y - edge, bottom - y - edge, pixels + (y + edge) * below
            above, under = above if above > 0 else np.int64(0), under if under < window else window
            rows = under - above
            if rows <= 0 or not folded:
                erase(cells, columns * lanes)
            else:
                skip = above if above < window - under else window - under
                lit = (skip if skip < window // 2 else window // 2), left, right
                _fold(strip, apart, source, below, lit, lanes, weight, parts, window)
            by = weight + 4 * window * (TERMS * parts if folded else above)
            source = (strip if folded else source + above * below) + edge * beside
            strides, rows = (apart if folded else below, beside), (TERMS + 1) * parts if folded else rows
            for _ in range(channels if under > above else 0):
                _gather(cells, source, strides, by, window, rows, folded, lanes, n_chunks, taps)
                by, source = by + 4 * window * window, source + height * below
            for m in range(responses[b, 4], responses[b, 5]):
                target = np.int64(out.ctypes.data) + 4 * ((maps[m] * n_rows + y) * columns * to[2] + to[0])
                _rectify(cells, np.int64(scales.ctypes.data) + 4 * m, mode, target, shape, 4 * to[2])
    return top, bottom, left, right
