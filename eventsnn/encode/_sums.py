"""Compiled sums over windows, weighted or plain, whose totals stay in registers meanwhile.

Places are addresses of float32 values, distances are in bytes. What lies up to 63 values beyond a row is read and, in scratch
memory, written: nobody looks at what becomes of it.
"""

from __future__ import annotations

import numpy as np

from eventsnn.encode._vectors import WIDTH, add, fma, load, repeat, store, zeros
from eventsnn.jit import inner

TERMS = 3  #: outer products that are folded together
CHUNK = 64  #: cells that are computed together
SLACK = 64  #: values that may be read, and written in scratch memory, beyond the end of a row
_LINE = np.int64(4 * WIDTH)
_ZERO = np.int64(0)


@inner
def weigh(cells, source, weights, shape, strides):
    """Add to 64 cells a weighted window of a source, row by row: ``cell = fma(weight, value, cell)``.

    ``shape`` is the number of rows and columns of the window, ``strides`` from row to row and from column to column of
    the source, and from row to row of the weights.
    """
    a, b, c, d = load(cells), load(cells + _LINE), load(cells + 2 * _LINE), load(cells + 3 * _LINE)
    for _ in range(shape[0]):
        value, weight = source, weights
        for _ in range(shape[1]):
            w = repeat(weight)
            a, b = fma(w, load(value), a), fma(w, load(value + _LINE), b)
            c, d = fma(w, load(value + 2 * _LINE), c), fma(w, load(value + 3 * _LINE), d)
            value, weight = value + strides[1], weight + 4
        source, weights = source + strides[0], weights + strides[2]
    store(cells, a)
    store(cells + _LINE, b)
    store(cells + 2 * _LINE, c)
    store(cells + 3 * _LINE, d)


@inner
def fold_down(strips, apart, length, source, below, factors, window, skip):
    """Write sums of symmetric windows down the columns of a source to three strips, which are ``apart``.

    Values at equal distances from the middle are added, then weighted: ``sum = fma(factor, one + other, sum)``, from the
    outermost inwards without the first ``skip``, then the middle. ``factors`` are three times ``window``.
    """
    half = window // 2
    for at in range(_ZERO, 4 * length, 2 * _LINE):
        a, b, c, d, e, f = zeros(), zeros(), zeros(), zeros(), zeros(), zeros()
        upper, lower = source + at + skip * below, source + at + (window - 1 - skip) * below
        first = factors + 4 * skip
        for _ in range(skip, half):
            one, other = add(load(upper), load(lower)), add(load(upper + _LINE), load(lower + _LINE))
            u, v, w = repeat(first), repeat(first + 4 * window), repeat(first + 8 * window)
            a, b, c, d, e, f = fma(u, one, a), fma(u, other, b), fma(v, one, c), fma(v, other, d), fma(w, one, e), fma(w, other, f)
            upper, lower, first = upper + below, lower - below, first + 4
        one, other, middle = load(source + at + half * below), load(source + at + half * below + _LINE), factors + 4 * half
        u, v, w = repeat(middle), repeat(middle + 4 * window), repeat(middle + 8 * window)
        store(strips + at, fma(u, one, a))
        store(strips + at + _LINE, fma(u, other, b))
        store(strips + at + apart, fma(v, one, c))
        store(strips + at + apart + _LINE, fma(v, other, d))
        store(strips + at + 2 * apart, fma(w, one, e))
        store(strips + at + 2 * apart + _LINE, fma(w, other, f))


@inner
def fold_across(cells, strips, apart, beside, factors, terms, window, skip):
    """Write to 64 cells the sums of symmetric windows along ``terms`` strips, one strip after another, as :func:`fold_down`."""
    half = window // 2
    a, b, c, d = zeros(), zeros(), zeros(), zeros()
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
    store(cells, a)
    store(cells + _LINE, b)
    store(cells + 2 * _LINE, c)
    store(cells + 3 * _LINE, d)


@inner
def add_to(totals, line, length):
    """Add values of a line to as many totals."""
    for at in range(_ZERO, 4 * length, _LINE):
        store(totals + at, add(load(totals + at), load(line + at)))


@inner
def window_sums(totals, line, length, step, radius):
    """Add to ``length`` totals what follows in windows of ``2 radius + 1`` values, ``step`` apart, of a line.

    Totals are the first values of the windows before. The line has ``length + 2 * radius * step`` values, and is written over: by
    sums of 2, 4, 8, ... values, each made of two that are half as long. Of these a window takes, from the left, those that
    the binary digits of its length say, the shortest first.
    """
    size, taken, rest, valid = np.int64(1), np.int64(1), radius, length + 2 * radius * step
    while rest > 0:
        valid -= size * step
        add_to(line, line + 4 * size * step, valid)
        size *= 2
        if rest & 1:
            add_to(totals, line + 4 * taken * step, length)
            taken += size
        rest >>= 1
