"""Compiled sums over windows, weighted or plain, whose totals stay in registers meanwhile.

Places are addresses of float32 values, distances are in bytes. What lies up to 63 values beyond a row is read and, in
scratch memory, written: nobody looks at what becomes of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from eventsnn.encode._vectors import VECTOR, WIDTH, add, fma, load, repeat, store, zeros
from eventsnn.jit import inner

TERMS = 2  #: outer products that are folded together, with a plain sum
CHUNK = 64  #: cells that are computed together
PIXELS = 4  #: pixels of 16 images that are computed together
SLACK = 64  #: values that may be read, and written in scratch memory, beyond the end of a row
_LINE = np.int64(4 * WIDTH)
_ZERO = np.int64(0)


@inner
def put(at, a, b, c, d):
    """Write four vectors one after another."""
    store(at, a)
    store(at + _LINE, b)
    store(at + 2 * _LINE, c)
    store(at + 3 * _LINE, d)


@inner
def weigh(cells, source, weights, shape, strides):
    """Add to 64 cells a weighted window of a source, row by row: ``cell = fma(weight, value, cell)``.

    ``shape`` is the number of rows and columns of the window, ``strides`` from row to row and from column to column of
    the source, and from row to row of the weights.
    """
    a, b = load(cells), load(cells + _LINE)
    c, d = load(cells + 2 * _LINE), load(cells + 3 * _LINE)
    for _ in range(shape[0]):
        value, weight = source, weights
        for _ in range(shape[1]):
            w = repeat(weight)
            a, b = fma(w, load(value), a), fma(w, load(value + _LINE), b)
            c, d = fma(w, load(value + 2 * _LINE), c), fma(w, load(value + 3 * _LINE), d)
            value, weight = value + strides[1], weight + 4
        source, weights = source + strides[0], weights + strides[2]
    put(cells, a, b, c, d)


@inner
def fold_down(strips, apart, length, source, below, factors, window, skip):
    """Write sums of symmetric windows down the columns of a source to three strips, which are ``apart``.

    Values at equal distances from the middle are added, then weighted: ``sum = fma(factor, one + other, sum)``, from
    the outermost inwards without the first ``skip``, then the middle. ``factors`` are twice ``window``; the third strip
    has the same sums without factors.
    """
    half, more = window // 2, 4 * window
    for at in range(_ZERO, 4 * length, 4 * _LINE):
        a, b = zeros(), zeros()
        c, d = zeros(), zeros()
        e, f = zeros(), zeros()
        g, h = zeros(), zeros()
        i, j = zeros(), zeros()
        k, m = zeros(), zeros()
        upper, lower = source + at + skip * below, source + at + (window - 1 - skip) * below
        by = factors + 4 * skip
        for _ in range(skip, half + 1):
            p, q = load(upper), load(upper + _LINE)
            r, s = load(upper + 2 * _LINE), load(upper + 3 * _LINE)
            if upper != lower:
                p, q = add(p, load(lower)), add(q, load(lower + _LINE))
                r, s = add(r, load(lower + 2 * _LINE)), add(s, load(lower + 3 * _LINE))
            u, v = repeat(by), repeat(by + more)
            a, b = fma(u, p, a), fma(u, q, b)
            c, d = fma(u, r, c), fma(u, s, d)
            e, f = fma(v, p, e), fma(v, q, f)
            g, h = fma(v, r, g), fma(v, s, h)
            i, j = add(p, i), add(q, j)
            k, m = add(r, k), add(s, m)
            upper, lower, by = upper + below, lower - below, by + 4
        put(strips + at, a, b, c, d)
        put(strips + at + apart, e, f, g, h)
        put(strips + at + 2 * apart, i, j, k, m)


@inner
def fold_across(cells, strips, apart, beside, factors, terms, window, skip):
    """Write to 64 cells the sums of symmetric windows along strips, one after another, each as :func:`fold_down`."""
    half = window // 2
    a, b = zeros(), zeros()
    c, d = zeros(), zeros()
    for _ in range(terms):
        left, right = strips + skip * beside, strips + (window - 1 - skip) * beside
        factor = factors + 4 * skip
        for _ in range(skip, half):
            w = repeat(factor)
            a = fma(w, add(load(left), load(right)), a)
            b = fma(w, add(load(left + _LINE), load(right + _LINE)), b)
            c = fma(w, add(load(left + 2 * _LINE), load(right + 2 * _LINE)), c)
            d = fma(w, add(load(left + 3 * _LINE), load(right + 3 * _LINE)), d)
            left, right, factor = left + beside, right - beside, factor + 4
        w, middle = repeat(factors + 4 * half), strips + half * beside
        a, b = fma(w, load(middle), a), fma(w, load(middle + _LINE), b)
        c, d = fma(w, load(middle + 2 * _LINE), c), fma(w, load(middle + 3 * _LINE), d)
        strips, factors = strips + apart, factors + 4 * window
    put(cells, a, b, c, d)


@inner
def roll_across(cells, strips, apart, factors, terms, window, skip):
    """Do as :func:`fold_across` for 4 pixels of 16 images, which stay in registers from one column to the next."""
    half = window // 2
    a, b = zeros(), zeros()
    c, d = zeros(), zeros()
    for _ in range(terms):
        left, right = strips + skip * _LINE, strips + (window - 1 - skip) * _LINE
        e, f, g = load(left), load(left + _LINE), load(left + 2 * _LINE)
        r, s, t = load(right + _LINE), load(right + 2 * _LINE), load(right + 3 * _LINE)
        factor = factors + 4 * skip
        left += 3 * _LINE
        for _ in range(skip, half):
            w, h, q = repeat(factor), load(left), load(right)
            a, b = fma(w, add(e, q), a), fma(w, add(f, r), b)
            c, d = fma(w, add(g, s), c), fma(w, add(h, t), d)
            e, f, g = f, g, h
            r, s, t = q, r, s
            left, right, factor = left + _LINE, right - _LINE, factor + 4
        w = repeat(factors + 4 * half)
        a, b = fma(w, e, a), fma(w, f, b)
        c, d = fma(w, g, c), fma(w, load(left), d)
        strips, factors = strips + apart, factors + 4 * window
    put(cells, a, b, c, d)


def _emit_sums_of_17(typing_context, totals, source, steps, nothing):
    """Write the sums of windows of 17 vectors around each of a number of vectors; beyond the first and last is 0.

    ``totals`` and ``source`` are the first address and the distance from one to the next. They are those of
    :func:`window_sums`: sums of 1, 2, 4 and 8 vectors stay in registers, eight steps at a time, so that which one is in
    which is known beforehand. ``nothing`` is the address of a vector of zeros and of one that is written over.
    """

    def generate(context, builder, signature, args):
        (totals, apart), (source, beside) = (cgutils.unpack_tuple(builder, pair, 2) for pair in args[:2])
        steps, nothing = args[2:]
        number, zero = steps.type, ir.Constant(VECTOR, [0.0] * WIDTH)
        ones, twos, fours, eights = ([cgutils.alloca_once_value(builder, zero) for _ in range(n)] for n in (1, 2, 4, 8))

        def load(step):
            inside = builder.icmp_unsigned("<", step, steps)  # what is below 0 is not, either
            place = builder.select(inside, builder.add(source, builder.mul(step, beside)), nothing)
            return builder.load(builder.inttoptr(place, VECTOR.as_pointer()), align=4)

        def add(a, b):
            return builder.fadd(a, b)

        with cgutils.for_range_slice(builder, number(0), builder.add(steps, number(8)), number(8)) as (first, _):
            for k in range(8):
                end = builder.add(first, number(k))
                step, one = builder.sub(end, number(8)), load(end)
                two = add(builder.load(ones[0]), one)
                four = add(builder.load(twos[k % 2]), two)
                eight = add(builder.load(fours[k % 4]), four)
                sixteen = add(builder.load(eights[k]), eight)
                for held, value in ((ones[0], one), (twos[k % 2], two), (fours[k % 4], four), (eights[k], eight)):
                    builder.store(value, held)
                total = add(load(builder.sub(step, number(8))), sixteen)
                inside = builder.icmp_unsigned("<", step, steps)
                place = builder.add(totals, builder.mul(step, apart))
                place = builder.select(inside, place, builder.add(nothing, number(4 * WIDTH)))
                builder.store(total, builder.inttoptr(place, VECTOR.as_pointer()), align=4)
        return context.get_dummy_value()

    pair, integer = types.UniTuple(types.int64, 2), types.int64
    return types.void(pair, pair, integer, integer), generate


sums_of_17: Any = intrinsic(_emit_sums_of_17)


@inner
def window_sums(totals, pieces, line, work, length, step, radius):
    """Write the sums of windows of ``2 radius + 1`` values, ``step`` apart, of a line, from its first ``length`` on.

    ``pieces`` says how many sums are written together, up to 64, and how far from these the next. A window is made of
    sums of 1, 2, 4, 8, ... values, each of two that are half as long: of those that the binary digits of its length
    say, from the left the shortest first. ``work`` is scratch memory as long as the line.
    """
    size, taken = np.int64(2), np.int64(1)
    rest, first = radius, line
    valid = length + (2 * radius - 1) * step
    for at in range(_ZERO, 4 * valid, _LINE):
        store(work + at, add(load(line + at), load(line + at + 4 * step)))
    gap, apart = 4 * pieces[0], pieces[1]
    before = gap
    while rest > 0:
        last = rest == 2
        if rest & 1 or last:
            shift, far = work + 4 * taken * step, 4 * size * step
            for piece in range((4 * length + gap - 1) // gap):
                for at in range(_ZERO, gap, _LINE):
                    more = load(shift + piece * gap + at)
                    if last:
                        more = add(more, load(shift + piece * gap + at + far))
                    store(totals + piece * apart + at, add(load(first + piece * before + at), more))
            if last:
                break
            first, before, taken = totals, apart, taken + size
        rest >>= 1
        if rest > 0:
            valid -= size * step
            for at in range(_ZERO, 4 * valid, _LINE):
                store(work + at, add(load(work + at), load(work + at + 4 * size * step)))
            size *= 2
