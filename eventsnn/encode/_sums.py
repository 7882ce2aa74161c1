"""Compiled sums over windows, weighted or plain, whose totals stay in registers meanwhile.

Rows are float32 of shape (W * N), the N images innermost. One addition comes after another, in the order of the window.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from eventsnn.jit import inner

_ZERO = np.float32(0)


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


def _emit_add_up(width):
    """Return the code of running sums of ``width`` values at a time, ``stride`` bytes apart, as are their sums.

    ``counts`` says how many are added before the first sum is written, how many with one sum written after each, and
    how often the last sum is written again.
    """

    def emit(typing_context, target, source, counts, stride):
        def generate(context, builder, signature, args):
            vector = ir.VectorType(ir.FloatType(), width)
            target, source, counts, stride = args
            before, growing, constant = cgutils.unpack_tuple(builder, counts, 3)
            total = cgutils.alloca_once_value(builder, ir.Constant(vector, [0.0] * width))

            def at(base, index):
                return builder.inttoptr(builder.add(base, builder.mul(index, stride)), vector.as_pointer())

            def add(index):
                builder.store(builder.fadd(builder.load(total), builder.load(at(source, index), align=4)), total)

            def write(index):
                builder.store(builder.load(total), at(target, index), align=4)

            with cgutils.for_range(builder, before) as loop:
                add(loop.index)
            with cgutils.for_range(builder, growing) as loop:
                add(builder.add(before, loop.index))
                write(loop.index)
            with cgutils.for_range(builder, constant) as loop:
                write(builder.add(growing, loop.index))
            return context.get_dummy_value()

        integer = types.intp
        return types.void(integer, integer, types.UniTuple(integer, 3), integer), generate

    return emit


_add_up_16: Any = intrinsic(_emit_add_up(16))
_add_up_1: Any = intrinsic(_emit_add_up(1))


@inner
def weigh(cells, length, source, weights, shape, strides, lit, n_images):
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
def weigh_two(cells, length, source, weights, shape, strides, lit, n_images, apart):
    """Do as :func:`weigh` for two maps, whose cells and weights are ``apart``; ``length`` is a multiple of 64."""
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
def share_beginnings(pixels, sums, box, lit, radius, n_images):
    """Write sums of windows that begin no later than the first lit pixel of a row, each made of the one before it.

    ``box`` is the first and last but one pixel to write, ``lit`` of what is not 0; return the first pixel not written.
    """
    first, end = lit[0] - radius, lit[0] + radius + 1
    first, end = first if first > box[0] else box[0], end if end < box[1] else box[1]
    if lit[0] >= lit[1] or first >= end:
        return box[0]
    for i in range(box[0] * n_images, first * n_images):
        sums[np.uint64(i)] = _ZERO
    before = (first + radius if first + radius < lit[1] else lit[1]) - lit[0]
    growing = (end if end < lit[1] - radius else lit[1] - radius) - first
    growing = growing if growing > 0 else np.int64(0)
    counts = (before, growing, end - first - growing)
    i = np.int64(0)
    while i < n_images:
        target = np.int64(sums.ctypes.data) + 4 * (first * n_images + i)
        source = np.int64(pixels.ctypes.data) + 4 * (lit[0] * n_images + i)
        if i + 16 <= n_images:
            _add_up_16(target, source, counts, 4 * n_images)
            i += 16
        else:
            _add_up_1(target, source, counts, 4 * n_images)
            i += 1
    return end
