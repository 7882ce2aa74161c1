"""Compiled stages of the image encoders.

Blocks are float32 of shape (C, H, W * N), the N images innermost: one loop runs over a row of all images, while
each image's arithmetic stays its own, so that no result depends on its neighbours. Sums are taken in float32,
one addition after another in the order of the loops.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from eventsnn.encode._sums import CHUNK, PIXELS, SLACK, TERMS, fold_across, fold_down, roll_across, weigh, window_sums
from eventsnn.encode._vectors import WIDTH
from eventsnn.jit import inner, kernel, lean_kernel
from eventsnn.memory import scratch_empty

_EPSILON = np.float32(1e-12)
_ZERO = np.float32(0)


def _emit_fma(typing_context, factor, term, total):
    """Return ``factor * term + total``, rounded once."""
    single = types.float32
    return single(single, single, single), lambda context, builder, signature, args: builder.fma(*args)


_fma: Any = intrinsic(_emit_fma)


@inner
def _box(plane, n_images, seen):
    """Return the box outside of which a plane (H, W * N) is 0: its first and last but one row and pixel in it.

    The plane is seen as int32, as is ``seen``, scratch memory as long as a row. The fifth number is below 0 if a sign bit is set.
    """
    top, bottom, every = np.int64(len(plane)), np.int64(0), np.int32(0)
    for i in range(len(seen)):
        seen[i] = 0
    for y in range(len(plane)):
        row, lit = plane[y], np.int32(0)
        for i in range(len(seen)):
            at = np.uint64(i)
            seen[at] |= row[at]
            lit |= row[at]
        if lit != 0:
            top, bottom, every = top if top < y else np.int64(y), np.int64(y + 1), every | lit
    left, right = np.int64(0), np.int64(len(seen))
    while left < right and seen[left] == 0:
        left += 1
    while right > left and seen[right - 1] == 0:
        right -= 1
    return top, bottom, left // n_images, (right + n_images - 1) // n_images, every


def correlate(block, border, bank, n_images, mode, out):
    """Cross-correlate ``block`` (C, H, W * N) with a bank of kernels, rectify, and write ``out`` (K, H', W' * N).

    Beyond its edges the block has ``border`` zeros. ``bank`` is a :class:`~eventsnn.encode.filters.Bank`, which says in which
    order terms are added. ``mode`` is (absolute, signed, threshold): whether to take absolute values, whether to keep the
    sign, and the float32 below which results, or magnitudes if signed, become 0.
    """
    channels, height, length = block.shape
    length += 2 * border * n_images
    wide = PIXELS * n_images if n_images % WIDTH == 0 else CHUNK
    tile = scratch_empty((channels, height + 2 * border + -(-(SLACK + wide) // length), length))
    strips, row = scratch_empty((TERMS * bank.parts, length + SLACK + wide)), scratch_empty((out.shape[2] + SLACK + wide,))
    chunks, seen = scratch_empty((-(-out.shape[2] // wide), 2), np.int64), scratch_empty((block.shape[2],), np.int32)
    _correlate((block, block.view(np.int32)), border, bank.arrays, n_images, mode, (tile, strips, row, chunks, seen), out)


@inner
def _spread(block, border, n_images, tile):
    """Copy a block (C, H, W * N) into a tile with zeros around."""
    channels, height, length = block.shape
    edge = border * n_images
    for c in range(channels):
        for y in range(height + 2 * border):
            row, inside = tile[c, y], border <= y < border + height
            for i in range(edge if inside else len(row)):
                row[np.uint64(i)] = _ZERO
            if inside:
                pixels = block[c, y - border]
                for i in range(length):
                    row[np.uint64(edge + i)] = pixels[i]
                for i in range(edge + length, len(row)):
                    row[np.uint64(i)] = _ZERO


@inner
def _taps(window, lit, folded, wide, n_images, chunks):
    """Write for each ``wide`` cells of a row the first of its window's columns that is lit for any of them, and how many are.

    ``lit`` are the first and last but one such column, from the first cell's on. In folded windows as many are left out on
    either side, and what counts is whether any is lit.
    """
    for j in range(len(chunks)):
        first, end = lit[0] - (wide * (j + 1) - 1) // n_images, lit[1] - wide * j // n_images
        first, end = first if first > 0 else np.int64(0), end if end < window else window
        chunks[j, 0], chunks[j, 1] = first, end - first
        if folded and first < end:
            first = first if first < window - end else window - end
            chunks[j, 0] = first if first < window // 2 else window // 2


@inner
def _rectify(row, scale, mode, out):
    """Write a row of responses times ``scale`` to ``out``."""
    absolute, signed, threshold = mode
    for i in range(len(out)):
        value = row[i] * scale
        value = abs(value) if absolute else value
        size = abs(value) if signed else value
        out[i] = _ZERO if size < threshold else value


@lean_kernel
def _correlate(block, border, bank, n_images, mode, scratch, out):
    (block, bits), (responses, weights, maps, scales) = block, bank
    tile, strips, row, chunks, seen = scratch
    channels, length = np.int64(len(block)), np.int64(tile.shape[2])
    rolled = n_images % WIDTH == 0
    wide = PIXELS * n_images if rolled else np.int64(CHUNK)
    _spread(block, border, n_images, tile)
    top, bottom, left, right = np.int64(tile.shape[1]), np.int64(0), length, np.int64(0)
    for c in range(channels):
        first, end, low, high, _ = _box(bits[c], n_images, seen)
        if first < end:
            top, bottom = min(top, first + border), max(bottom, end + border)
            left, right = min(left, low + border), max(right, high + border)
    for r in range(len(strips)):
        for i in range(len(strips[r])):
            strips[r, i] = _ZERO
    below, apart, beside = 4 * length, np.int64(4 * strips.shape[1]), 4 * n_images
    pixels, strip, cells = np.int64(tile.ctypes.data), np.int64(strips.ctypes.data), np.int64(row.ctypes.data)
    for b in range(len(responses)):
        window, terms, edge, first, end = responses[b, 0], responses[b, 1], responses[b, 2], responses[b, 4], responses[b, 5]
        weight = np.int64(weights.ctypes.data) + 4 * responses[b, 3]
        _taps(window, (left - edge, right - edge), terms > 0, wide, n_images, chunks)
        for y in range(out.shape[1]):
            for i in range(len(row)):
                row[i] = _ZERO
            above, under = max(np.int64(0), top - y - edge), min(window, bottom - y - edge)
            if above < under and terms > 0:
                skip = min(above, window - under, window // 2)
                source = pixels + (y + edge) * below + left * beside
                for part in range(terms // TERMS):
                    to, by = strip + part * TERMS * apart + left * beside, weight + 4 * part * TERMS * window
                    fold_down(to, apart, (right - left) * n_images, source, below, by, window, skip)
                by = weight + 4 * terms * window
                for j in range(len(chunks)):
                    if chunks[j, 1] <= 0:
                        continue
                    at, to = strip + edge * beside + 4 * wide * j, cells + 4 * wide * j
                    if rolled:
                        for lane in range(np.int64(0), beside, np.int64(4 * WIDTH)):
                            roll_across(to + lane, at + lane, apart, beside, by, terms, window, chunks[j, 0])
                    else:
                        fold_across(to, at, apart, beside, by, terms, window, chunks[j, 0])
            elif above < under:
                for c in range(channels):
                    source = pixels + (c * tile.shape[1] + y + edge + above) * below + edge * beside
                    by = weight + 4 * (c * window + above) * window
                    for j in range(len(chunks)):
                        if chunks[j, 1] > 0:
                            skip, shape = chunks[j, 0], (under - above, chunks[j, 1])
                            for cell in range(4 * wide * j, 4 * wide * (j + 1), np.int64(4 * CHUNK)):
                                at = source + cell + skip * beside
                                weigh(cells + cell, at, by + 4 * skip, shape, (below, beside, 4 * window))
            for m in range(first, end):
                _rectify(row, scales[m], mode, out[maps[m], y])


@kernel
def transform(cells, weights, out):
    """Write ``weights @ cells`` to ``out``: (D', D) times (D, N), each image's sum in the order of its cells."""
    for d in range(len(weights)):
        row = out[d]
        row[:] = _ZERO
        for e in range(len(cells)):
            weight, terms = weights[d, e], cells[e]
            for i in range(len(row)):
                row[i] = _fma(weight, terms[i], row[i])


@kernel
def moments(cells):
    """Return the mean and the standard deviation of each column of ``cells`` (D, N), float64 sums in order."""
    mean, spread = np.zeros(cells.shape[1]), np.zeros(cells.shape[1])
    for e in range(len(cells)):
        for i in range(len(mean)):
            mean[i] += cells[e, i]
    mean /= len(cells)
    for e in range(len(cells)):
        for i in range(len(mean)):
            spread[i] += (cells[e, i] - mean[i]) ** 2
    return mean, np.sqrt(spread / len(cells))


def normalize(block, radius, n_images):
    """Divide ``block`` (C, H, W * N) in place by its mean over (2 radius + 1)^2 pixels, zeros beyond the border.

    Return whether none of it is negative; else maps from the first negative one on are left as they are. Sums are taken
    along rows, then down these, as :func:`~eventsnn.encode._sums.window_sums` takes them: each window's on its own, since
    adding what comes and subtracting what goes would leave rounding errors behind where a dark part follows a bright one.
    """
    height, length = block.shape[1:]
    longest = max(length + 2 * radius * n_images, (height + 2 * radius) * CHUNK) + SLACK
    line, work = scratch_empty((longest,)), scratch_empty((longest + 7 * max(n_images, CHUNK),))
    sums, totals = scratch_empty((-(-length // CHUNK), height + 2 * radius + 1, CHUNK)), scratch_empty((height + 1, CHUNK))
    seen = scratch_empty((length,), np.int32)
    scratch = (line, work, sums, totals, seen)
    return bool(_normalize(block, block.view(np.int32), radius, n_images, scratch))


@inner
def _sum_rows(plane, box, radius, n_images, scratch):
    """Write window sums along the rows of a plane (H, W * N), within a box, to ``sums``: 64 columns after another."""
    top, bottom, left, right = box
    line, work, sums = scratch
    edge, start, length = radius * n_images, left * n_images, (right - left) * n_images
    for i in range(edge):
        line[np.uint64(i)] = _ZERO
        line[np.uint64(edge + length + i)] = _ZERO
    apart, beside = np.int64(4 * sums.shape[1] * CHUNK), np.int64(4 * CHUNK)
    for y in range(top, bottom):
        pixels = plane[y]
        for i in range(length):
            line[np.uint64(edge + i)] = pixels[np.uint64(start + i)]
        target, room = np.int64(sums.ctypes.data) + (radius + y - top) * beside, np.int64(work.ctypes.data) + 28 * n_images
        window_sums(target, apart, np.int64(line.ctypes.data), room, length, n_images, radius)


@partial(lean_kernel, error_model="numpy")
def _normalize(block, bits, radius, n_images, scratch):
    line, work, sums, totals, seen = scratch
    share, beside = np.float32(1) / np.float32((2 * radius + 1) ** 2), np.int64(4 * CHUNK)
    for c in range(len(block)):
        top, bottom, left, right, every = _box(bits[c], n_images, seen)
        if every < 0 and _any_negative(block[c]):
            return False
        if top >= bottom:
            continue
        _sum_rows(block[c], (top, bottom, left, right), radius, n_images, (line, work, sums))
        height, begin, end = bottom - top, left * n_images, right * n_images
        for start in range(begin, end, CHUNK):
            strip, n = sums[(start - begin) // CHUNK], end - start if end - start < CHUNK else np.int64(CHUNK)
            for y in range(radius):
                for i in range(CHUNK):
                    strip[y, i] = _ZERO
                    strip[radius + height + y, i] = _ZERO
            room, target = np.int64(work.ctypes.data) + 7 * beside, np.int64(totals.ctypes.data)
            window_sums(target, beside, np.int64(strip.ctypes.data), room, CHUNK * height, np.int64(CHUNK), radius)
            for y in range(height):
                cells, around = block[c, top + y], totals[y]
                for i in range(n):
                    at = np.uint64(start + i)
                    cells[at] = cells[at] / (around[np.uint64(i)] * share + _EPSILON)
    return True


@inner
def _any_negative(plane):
    """Return whether any value of a plane is below 0, which -0 is not."""
    found = False
    for y in range(len(plane)):
        for i in range(plane.shape[1]):
            found |= plane[y, i] < _ZERO
    return found


@kernel
def split(block, threshold, on, off):
    """Write the positive parts of ``block`` (C, H, W * N) to ``on``, and the negative ones, sign turned, to ``off``.

    Each has C channels, or none if it is not wanted. Parts below the threshold, which is at least 0, become 0.
    """
    for c, y in np.ndindex(block.shape[:2]):
        cells = block[c, y]
        for i in range(len(cells) if len(on) else 0):
            part = cells[i] + _ZERO
            on[c, y, i] = _ZERO if part < threshold else part
        for i in range(len(cells) if len(off) else 0):
            part = _ZERO - cells[i]
            off[c, y, i] = _ZERO if part < threshold else part


@kernel
def max_pool(block, kernel, stride, padding, n_images, out):
    """Write the maximum over each window of ``block`` (C, H, W * N) to ``out`` (C, H', W' * N)."""
    channels, height, length = block.shape
    width = length // n_images
    for c in range(channels):
        for oy in range(out.shape[1]):
            top = oy * stride - padding
            for ox in range(out.shape[2] // n_images):
                left = ox * stride - padding
                best = out[c, oy, ox * n_images : (ox + 1) * n_images]
                best[:] = -np.inf
                for y in range(max(0, top), min(height, top + kernel)):
                    for x in range(max(0, left), min(width, left + kernel)):
                        source = block[c, y, x * n_images : (x + 1) * n_images]
                        for i in range(n_images):
                            best[i] = source[i] if source[i] > best[i] else best[i]


@kernel
def lateral_inhibition(padded, factors, n_images, out):
    """Raise each cell by the factors of its weaker neighbours, of Chebyshev distance 1 to ``len(factors)``.

    ``padded`` (C, H + 2r, (W + 2r) * N) has a border of r zeros; ``out`` is (C, H, W * N).
    """
    radius = len(factors)
    length = out.shape[2]
    for c in range(out.shape[0]):
        for y in range(out.shape[1]):
            cells = padded[c, y + radius, radius * n_images : radius * n_images + length]
            gain = out[c, y]
            gain[:] = _ZERO
            for dy in range(2 * radius + 1):
                for dx in range(2 * radius + 1):
                    distance = max(abs(dy - radius), abs(dx - radius))
                    if distance == 0:
                        continue
                    factor = factors[distance - 1]
                    neighbours = padded[c, y + dy, dx * n_images : dx * n_images + length]
                    for i in range(length):
                        gain[i] += factor if cells[i] > neighbours[i] else _ZERO
            for i in range(length):
                gain[i] = cells[i] + cells[i] * gain[i]
