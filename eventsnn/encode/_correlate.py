"""Compiled banks of filters: windows of weights, and sums of outer products, down and then across."""

from __future__ import annotations

import numpy as np

from eventsnn.encode._lanes import box, move, runs
from eventsnn.encode._sums import CHUNK, PIXELS, SLACK, TERMS, fold_across, fold_down, roll_across, weigh
from eventsnn.encode._vectors import WIDTH, drop, fma, load, only, repeat, splat, store, store_some, zeros
from eventsnn.jit import inner, lean_kernel
from eventsnn.memory import scratch_empty

_LINE = np.int64(4 * WIDTH)
_ALL, _MAGNITUDE = np.int32(-1), np.int32(0x7FFFFFFF)


def correlate(block, border, bank, n_images, mode, out):
    """Cross-correlate ``block`` (C, H, W * N) with a bank of kernels, rectify, and write ``out`` (K, H', W' * N).

    Beyond its edges the block has ``border`` zeros. ``bank`` is a :class:`~eventsnn.encode.filters.Bank`: what is
    added, in which order. ``mode`` is (absolute, signed, threshold): whether to take absolute values, whether to keep
    the sign, and the float32 below which results, or magnitudes if signed, become 0. What is 0 for all images is left
    out, which changes no bit.
    """
    channels, height, width = len(block), block.shape[1] + 2 * border, block.shape[2] // n_images + 2 * border
    lanes = min(n_images, WIDTH)
    room = SLACK + PIXELS * lanes
    tile = scratch_empty((channels * height * width * lanes + room,))
    strips, row = (
        scratch_empty(((TERMS + 1) * bank.parts, width * lanes + room)),
        scratch_empty((width * lanes + room,)),
    )
    chunks, seen = (
        scratch_empty((width * lanes // CHUNK + 1, 2), np.int64),
        scratch_empty((width * lanes + room,), np.int32),
    )
    _correlate(block, border, bank.arrays, n_images, mode, (tile, strips, row, chunks, seen), out)


@inner
def _erase(array):
    for i in range(len(array)):
        array[i] = np.float32(0)


@inner
def _taps(window, lit, folded, lanes, chunks):
    """Write for each 64 cells of a row the first of its window's columns that is lit for any of them, and how many are.

    ``lit`` are the first and last but one such column, from the first cell's on. In folded windows as many are left out
    on either side, and what counts is whether any is lit.
    """
    for j in range(len(chunks)):
        first, end = lit[0] - (CHUNK * (j + 1) - 1) // lanes, lit[1] - CHUNK * j // lanes
        first, end = first if first > 0 else np.int64(0), end if end < window else window
        chunks[j, 0], chunks[j, 1] = first, end - first
        if folded and first < end:
            first = first if first < window - end else window - end
            chunks[j, 0] = first if first < window // 2 else window // 2


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
    first, lanes, n_images = group
    channels, height, width = np.int64(len(block)), np.int64(block.shape[1]), np.int64(block.shape[2]) // n_images
    below, shape = 4 * (width + 2 * border) * lanes, runs(width, lanes, n_images)
    top, bottom, left, right = height, np.int64(0), width, np.int64(0)
    for c in range(channels):
        source = np.int64(block.ctypes.data) + 4 * (c * height * width * n_images + first)
        target = np.int64(tile.ctypes.data) + (c * (height + 2 * border) + border) * below + 4 * border * lanes
        found = box(source, height, 4 * width * n_images, shape, 4 * n_images, lanes, seen)
        top, bottom = min(top, found[0]), max(bottom, found[1])
        left, right = min(left, found[2]), max(right, found[3])
        for y in range(height):
            move(target + y * below, source + 4 * y * width * n_images, shape, (4 * shape[1], 4 * n_images))
    return top + border, bottom + border, left + border, right + border


@inner
def _folded(strips, cells, source, sizes, lit, weights, parts, window, chunks):
    """Write a row of responses that are sums of outer products, by strips that are 0 where columns are not lit."""
    lanes, apart, edge = sizes
    skip, left, right = lit
    beside = 4 * lanes
    below, by, terms = source[1], weights, (TERMS + 1) * parts
    for part in range(parts):
        to = strips + part * (TERMS + 1) * apart + left * beside
        fold_down(to, apart, (right - left) * lanes, source[0] + left * beside, below, by, window, skip)
        by += 4 * TERMS * window
    strips += edge * beside
    for j in range(len(chunks)):
        if chunks[j, 1] > 0:
            at = 4 * CHUNK * j
            if lanes == WIDTH:
                roll_across(cells + at, strips + at, apart, by, terms, window, chunks[j, 0])
            else:
                fold_across(cells + at, strips + at, apart, beside, by, terms, window, chunks[j, 0])


@lean_kernel
def _correlate(block, border, bank, n_images, mode, scratch, out):
    responses, weights, maps, scales = bank
    tile, strips, row, chunks, seen = scratch
    channels, height, n_rows = np.int64(len(block)), np.int64(block.shape[1]) + 2 * border, np.int64(out.shape[1])
    width, columns = np.int64(block.shape[2]) // n_images + 2 * border, np.int64(out.shape[2]) // n_images
    cells, apart, strip = np.int64(row.ctypes.data), np.int64(4 * strips.shape[1]), np.int64(strips.ctypes.data)
    pixels = np.int64(tile.ctypes.data)
    for start in range(np.int64(0), n_images, np.int64(WIDTH)):
        lanes = min(np.int64(WIDTH), n_images - start)
        beside, below, shape = 4 * lanes, 4 * width * lanes, runs(columns, lanes, n_images)
        if start == 0 or lanes < WIDTH:
            _erase(tile)
        top, bottom, left, right = _take(block, border, (start, lanes, n_images), tile, seen)
        for r in range(len(strips)):
            _erase(strips[r])
        for b in range(len(responses)):
            window, parts, edge = responses[b, 0], responses[b, 1], responses[b, 2]
            weight, used = (
                np.int64(weights.ctypes.data) + 4 * responses[b, 3],
                chunks[: (columns * lanes + CHUNK - 1) // CHUNK],
            )
            _taps(window, (left - edge, right - edge), parts > 0, lanes, used)
            for y in range(n_rows):
                _erase(row[: columns * lanes])
                above, under = max(np.int64(0), top - y - edge), min(window, bottom - y - edge)
                if above < under and parts > 0:
                    lit = min(above, window - under, window // 2), left, right
                    source = pixels + (y + edge) * below, below
                    _folded(strip, cells, source, (lanes, apart, edge), lit, weight, parts, window, used)
                for c in range(channels if above < under and parts == 0 else 0):
                    by = weight + 4 * (c * window + above) * window
                    source = pixels + (c * height + y + edge + above) * below + edge * beside
                    for j in range(len(used)):
                        if used[j, 1] > 0:
                            at, skip = 4 * CHUNK * j, used[j, 0]
                            sizes = (under - above, used[j, 1]), (below, beside, 4 * window)
                            weigh(cells + at, source + at + skip * beside, by + 4 * skip, sizes[0], sizes[1])
                for m in range(responses[b, 4], responses[b, 5]):
                    target = np.int64(out.ctypes.data) + 4 * ((maps[m] * n_rows + y) * columns * n_images + start)
                    _rectify(cells, np.int64(scales.ctypes.data) + 4 * m, mode, target, shape, 4 * n_images)
