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

from eventsnn.encode._sums import share_beginnings, weigh, weigh_two
from eventsnn.jit import inner, kernel, lean_kernel
from eventsnn.memory import scratch_empty

_EPSILON = np.float32(1e-12)
_ZERO = np.float32(0)
_STRIP = np.int64(256)  # values normalized before those beside them: their windows stay in the nearest cache


def _emit_fma(typing_context, factor, term, total):
    """Return ``factor * term + total``, rounded once."""
    single = types.float32
    return single(single, single, single), lambda context, builder, signature, args: builder.fma(*args)


_fma: Any = intrinsic(_emit_fma)


@inner
def _span(row, n_images):
    """Return the pixels between which a row of all images is not 0; beyond, images are dark at the borders."""
    length = np.int32(len(row))
    low, high = length, np.int32(0)
    # All of it, since that goes in vectors.
    for i in range(len(row)):
        lit = row[i] != _ZERO
        first, end = np.int32(i) if lit else length, np.int32(i + 1) if lit else np.int32(0)
        low, high = first if first < low else low, end if end > high else high
    return np.int64(low) // n_images, (np.int64(high) + n_images - 1) // n_images


@inner
def _spans(plane, n_images, spans):
    """Write the spans of the rows of a plane (H, W * N) to ``spans`` (H, 2); return the box outside of which it is 0.

    The box is its first and last but one row, and its first and last but one pixel.
    """
    height = np.int64(len(plane))
    top, bottom, left, right = height, np.int64(0), np.int64(plane.shape[1]), np.int64(0)
    for y in range(height):
        low, high = _span(plane[y], n_images)
        spans[y, 0], spans[y, 1] = low, high
        if low < high:
            top, bottom = top if top < y else y, y + 1
            left, right = low if low < left else left, high if high > right else right
    return top, bottom, left, right


def correlate(padded, weights, windows, n_images, mode, out):
    """Cross-correlate ``padded`` (C, H', W' * N) with K kernels, rectify, and write ``out`` (K, H, W * N).

    Kernel ``k`` is (C, n, n) with ``n = windows[k]``, centred in the largest one's window; ``weights`` (float32) holds
    all kernels one after another, and their terms are added in its order. ``mode`` is (absolute, signed, threshold):
    whether to take absolute values, whether to keep the sign, and the float32 below which results, or magnitudes if
    signed, become 0.

    Fused multiply-adds are the same on every machine, and in this order give SpykeTorch's results to the last
    bit. That matters where two outputs would be equal but for rounding: the stages after this compare them.
    """
    spans, boxes = (scratch_empty((n, m), np.int64) for n, m in ((padded.shape[1], 2), (len(padded), 4)))
    _correlate(padded, weights, windows, n_images, mode, (spans, boxes), out)


@lean_kernel
def _correlate(padded, weights, windows, n_images, mode, scratch, out):
    absolute, signed, threshold = mode
    spans, boxes = scratch
    channels, height, length = padded.shape
    largest = height - out.shape[1] + 1
    for c in range(channels):
        boxes[c, 0], boxes[c, 1], boxes[c, 2], boxes[c, 3] = _spans(padded[c], n_images, spans)
    weight = np.int64(weights.ctypes.data)
    k, plane = np.int64(0), np.int64(out.shape[1]) * out.shape[2]
    while k < len(out):
        n = windows[k]
        two = k + 1 < len(out) and windows[k + 1] == n and out.shape[2] % 64 == 0
        maps = np.int64(2) if two else np.int64(1)
        margin = (largest - n) // 2
        for y in range(out.shape[1]):
            for j in range(maps):
                row = out[k + j, y]
                for i in range(len(row)):
                    row[i] = _ZERO
            row = out[k, y]
            for c in range(channels):
                below = boxes[c, 0] - y - margin
                first, end = below if below > 0 else np.int64(0), boxes[c, 1] - y - margin
                source = ((c * height + y + margin + first) * length) + margin * n_images
                cells, shape = np.int64(row.ctypes.data), ((end if end < n else n) - first, n)
                terms, by = np.int64(padded.ctypes.data) + 4 * source, weight + 4 * (c * n + first) * n
                strides, lit = (length, n_images, n), (boxes[c, 2] - margin, boxes[c, 3] - margin)
                if maps == 2:
                    apart = (plane, channels * n * n)
                    weigh_two(cells, len(row), terms, by, shape, strides, lit, n_images, apart)
                else:
                    weigh(cells, len(row), terms, by, shape, strides, lit, n_images)
            for j in range(maps):
                row = out[k + j, y]
                for i in range(len(row)):
                    value = abs(row[i]) if absolute else row[i]
                    size = abs(value) if signed else value
                    row[i] = _ZERO if size < threshold else value
        weight += 4 * channels * n * n * maps
        k += maps


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

    Return whether none of it is negative; else maps from the first negative one on are left as they are. Window sums
    are plain sums, first along rows: subtracting what leaves the window would be faster, but leave rounding errors
    behind where a bright part is followed by a dark one. Those that begin at the first lit row, and differ in where
    they end, share their beginning.
    """
    height, length = block.shape[1:]
    ones, padded = np.ones(2 * radius + 1, np.float32), scratch_empty((length + 2 * radius * n_images,))
    padded.fill(0)
    sums, strips = scratch_empty((height, length)), scratch_empty((2, int(_STRIP)))
    spans = scratch_empty((height, 2), np.int64)
    return bool(_normalize(block, radius, n_images, (ones, padded, sums, strips, spans)))


@inner
def _sum_rows(plane, radius, n_images, one, padded, spans, sums):
    """Write window sums along the rows of a plane (H, W * N) to ``sums``; ``one`` is the address of as many ones.

    Return whether any value is negative, and the first and last but one row, and value in it, that is not 0.
    """
    length, side, border = plane.shape[1], 2 * radius + 1, radius * n_images
    top, bottom, left, right = _spans(plane, n_images, spans)
    start, stop, negative, nothing = left * n_images, right * n_images, np.int32(0), np.int64(0)
    for y in range(top, bottom):
        pixels, row = plane[y], sums[y]
        for i in range(length):
            pixel = pixels[i]
            padded[np.uint64(border + i)] = pixel
            negative |= np.int32(pixel < _ZERO)
        shared = share_beginnings(pixels, row, (left, right), (spans[y, 0], spans[y, 1]), radius, n_images)
        begin = shared * n_images
        for i in range(begin, stop):
            row[np.uint64(i)] = _ZERO
        lit = (spans[y, 0] + radius - shared, spans[y, 1] + radius - shared)
        source = np.int64(padded.ctypes.data) + 4 * begin
        weigh(np.int64(row.ctypes.data) + 4 * begin, stop - begin, source, one, (np.int64(1), side),
               (nothing, n_images, nothing), lit, n_images)  # fmt: skip
    return negative != 0, top, bottom, start, stop


@partial(lean_kernel, error_model="numpy")
def _normalize(block, radius, n_images, scratch):
    ones, padded, sums, strips, spans = scratch
    area, unit, nothing = np.float32((2 * radius + 1) ** 2), np.int64(1), np.int64(0)
    length, one, prefix, window = np.int64(block.shape[2]), np.int64(ones.ctypes.data), strips[0], strips[1]
    for c in range(len(block)):
        negative, top, bottom, start, stop = _sum_rows(block[c], radius, n_images, one, padded, spans, sums)
        if negative:
            return False
        for left in range(start, stop, _STRIP):
            right, reached = left + _STRIP if left + _STRIP < stop else stop, top
            for i in range(right - left):
                prefix[i] = _ZERO
            for y in range(top, bottom):
                low, high = spans[y, 0] * n_images, spans[y, 1] * n_images
                low, high = low if low > left else left, high if high < right else right
                first, end = y - radius, y + radius + 1 if y + radius + 1 < bottom else bottom
                cells = block[c, y]
                if first <= top:
                    while reached < end:
                        row = sums[reached]
                        for i in range(right - left):
                            prefix[np.uint64(i)] += row[np.uint64(left + i)]
                        reached += 1
                    for i in range(low, high):
                        at = np.uint64(i)
                        cells[at] = cells[at] / (prefix[np.uint64(i - left)] / area + _EPSILON)
                    continue
                for i in range(high - low):
                    window[np.uint64(i)] = _ZERO
                source = np.int64(sums.ctypes.data) + 4 * (first * length + low)
                weigh(np.int64(window.ctypes.data), high - low, source, one, (end - first, unit),
                       (length, nothing, unit), (nothing, length), n_images)  # fmt: skip
                for i in range(high - low):
                    at = np.uint64(low + i)
                    cells[at] = cells[at] / (window[np.uint64(i)] / area + _EPSILON)
    return True


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
