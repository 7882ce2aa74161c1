"""Compiled stages of the image encoders.

Blocks are float32 of shape (C, H, W * N), the N images innermost: one loop runs over a row of all images, while
each image's arithmetic stays its own, so that no result depends on its neighbours. Sums are taken in float32,
one addition after another in the order of the loops.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

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


def _emit_weigh(width, maps):
    """Return the code of an addition of weighted windows to ``width`` cells, which stay in registers meanwhile.

    The same is done for as many maps, whose cells and weights differ: what is weighted is loaded once for all of them,
    where there are enough registers. Arguments are the addresses of the cells, of what the first of them is weighted
    from, and of the weights; the number of rows and columns of the window; the strides, in values, of source rows,
    source columns and weight rows; and from the cells, and weights, of one map to those of the next.
    """

    def emit(typing_context, cells, source, weights, rows, columns, strides, apart):
        def generate(context, builder, signature, args):
            vector = ir.VectorType(ir.FloatType(), width)
            fma = ir.FunctionType(vector, [vector] * 3)
            fma = cgutils.get_or_insert_function(builder.module, fma, f"llvm.fma.v{width}f32")

            def at(base, *steps):
                for count, stride in steps:
                    base = builder.add(base, builder.mul(count, builder.mul(stride, ir.Constant(stride.type, 4))))
                return base

            def load(address, kind):
                return builder.load(builder.inttoptr(address, kind.as_pointer()), align=4)

            def splat(value):
                undefined = ir.Constant(vector, ir.Undefined)
                first = builder.insert_element(undefined, value, ir.IntType(32)(0))
                zeros = ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)
                return builder.shuffle_vector(first, undefined, zeros)

            cells, source, weights, rows, columns, strides, apart = args
            below, beside, weights_below = cgutils.unpack_tuple(builder, strides, 3)
            cells_apart, weights_apart = cgutils.unpack_tuple(builder, apart, 2)

            def weigh(together):
                places = [at(cells, (cells.type(k), cells_apart)) for k in together]
                totals = [cgutils.alloca_once_value(builder, load(place, vector)) for place in places]
                with cgutils.for_range(builder, rows) as row, cgutils.for_range(builder, columns) as column:
                    terms = load(at(source, (row.index, below), (column.index, beside)), vector)
                    first = at(weights, (row.index, weights_below), (column.index, beside.type(1)))
                    for k, total in zip(together, totals, strict=True):
                        weight = load(at(first, (first.type(k), weights_apart)), ir.FloatType())
                        builder.store(builder.call(fma, [splat(weight), terms, builder.load(total)]), total)
                for place, total in zip(places, totals, strict=True):
                    builder.store(builder.load(total), builder.inttoptr(place, vector.as_pointer()), align=4)

            enough = "+avx512f" in context.codegen().magic_tuple()[2]
            for together in [range(maps)] if enough else [[k] for k in range(maps)]:
                weigh(together)
            return context.get_dummy_value()

        integer = types.intp
        return types.void(*[integer] * 5, types.UniTuple(integer, 3), types.UniTuple(integer, 2)), generate

    return emit


_weigh_2x64: Any = intrinsic(_emit_weigh(64, 2))
_weigh_64: Any = intrinsic(_emit_weigh(64, 1))
_weigh_8: Any = intrinsic(_emit_weigh(8, 1))
_weigh_1: Any = intrinsic(_emit_weigh(1, 1))


@inner
def _weigh(cells, length, source, weights, shape, strides, lit, n_images):
    """Add to each of ``length`` float32 values from address ``cells`` on a weighted window of a source, in order.

    Parameters
    ----------
    cells, source, weights : int
        Addresses of the values, of the upper left corner of the first one's window, and of its weight.
    shape : tuple of int
        Rows and columns of the window.
    strides : tuple of int
        From one row, column and row of weights to the next, in values.
    lit : tuple of int
        Columns of the source, from the first cell's corner on, outside of which it is 0. These are left out:
        adding 0 would change no bit.
    """
    rows, alone = shape[0], (np.int64(0), np.int64(0))
    at = np.int64(0)
    while at < length:
        width = 64 if length - at >= 64 else 8 if length - at >= 8 else 1
        first, n = _lit_taps(at, width, shape, lit, n_images)
        if n > 0:
            target, terms, by = cells + 4 * at, source + 4 * (at + first * strides[1]), weights + 4 * first
            if width == 64:
                _weigh_64(target, terms, by, rows, n, strides, alone)
            elif width == 8:
                _weigh_8(target, terms, by, rows, n, strides, alone)
            else:
                _weigh_1(target, terms, by, rows, n, strides, alone)
        at += width


@inner
def _weigh_two(cells, length, source, weights, shape, strides, lit, n_images, apart):
    """Do as :func:`_weigh` for two maps, whose cells and weights are ``apart``; ``length`` is a multiple of 64."""
    for at in range(0, length, 64):
        first, n = _lit_taps(at, 64, shape, lit, n_images)
        if n > 0:
            terms = source + 4 * (at + first * strides[1])
            _weigh_2x64(cells + 4 * at, terms, weights + 4 * first, shape[0], n, strides, apart)


@inner
def _lit_taps(at, width, shape, lit, n_images):
    """Return the first column of a window that is lit for any of ``width`` values, and how many there are."""
    first, end = lit[0] - (at + width - 1) // n_images, lit[1] - at // n_images
    first = first if first > 0 else np.int64(0)
    return first, (end if end < shape[1] else shape[1]) - first


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
                    _weigh_two(cells, len(row), terms, by, shape, strides, lit, n_images, apart)
                else:
                    _weigh(cells, len(row), terms, by, shape, strides, lit, n_images)
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
        for i in range(start, stop):
            row[np.uint64(i)] = _ZERO
        lit = (spans[y, 0] + radius - left, spans[y, 1] + radius - left)
        source = np.int64(padded.ctypes.data) + 4 * start
        _weigh(np.int64(row.ctypes.data) + 4 * start, stop - start, source, one, (np.int64(1), side),
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
                _weigh(np.int64(window.ctypes.data), high - low, source, one, (end - first, unit),
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
