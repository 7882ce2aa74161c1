"""Integrate-and-fire neurons whose spikes go straight into pooling: only who is first in a window is found."""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from eventsnn.backends.cpu._emit import emit
from eventsnn.backends.cpu._fields import collect
from eventsnn.backends.cpu._simd import LANES, cross, earliest, lowest_bit
from eventsnn.jit import inner, lean_kernel

#: ``y[oy]:y_end[oy]`` are the rows of the layer that row ``oy`` of windows holds; columns likewise
Panes = namedtuple("Panes", "y y_end x x_end")


def make_panes(pooling):
    """Return what rows and columns of the layer the pooling windows hold; ``pooling`` are the sizes of the pool."""
    y, y_end = _spans(pooling.height, pooling.kh, pooling.sh, pooling.ph, pooling.oh)
    x, x_end = _spans(pooling.width, pooling.kw, pooling.sw, pooling.pw, pooling.ow)
    return Panes(y, y_end, x, x_end)


def _spans(size, kernel, stride, padding, count):
    first = np.arange(count) * stride - padding
    return np.maximum(first, 0), np.minimum(first + kernel, size)


@inner
def _cross_rows(weights, b, low, high, sizes, limit, quiet, fields, first):
    """Find for each neuron of a block in rows ``low`` to ``high`` the rank of the time at which it fires."""
    for p in range(low * sizes.ow, high * sizes.ow):
        begin, end = fields.start[p], fields.cursor[p]
        if end - begin <= quiet[b]:  # so few spikes cannot make any of these maps fire
            end = begin
        cross(weights, b * sizes.block, fields.rows, fields.group, limit, b * LANES, begin, end, first, p * LANES)


@inner
def _pool_row(b, oy, sizes, panes, sites, first, time, pending, n):
    """Append the first spike of every map of a block in each window of a row; return the number of pending spikes."""
    y, rows = panes.y[oy], panes.y_end[oy] - panes.y[oy]
    for ox in range(len(panes.x)):
        x = panes.x[ox]
        at = (y * sizes.ow + x) * LANES
        hits = earliest(first, at, rows, panes.x_end[ox] - x, sizes.ow * LANES, time)
        q = oy * len(panes.x) + ox
        while hits != 0:
            lane = lowest_bit(hits)
            hits &= hits - 1
            site = ((b * LANES + lane) << sites.position_bits) | q
            pending.key[n] = (np.int64(time[lane]) << sites.bits) | site
            n += 1
    return n


@lean_kernel
def conv_pool_samples(
    columns, offsets, start, last, weights, quiet, sizes, windows, limit, panes, scratch, output, counts
):
    """Run samples from ``start`` on, until ``last`` or until the output is full; return the next sample to run.

    ``counts[s]`` becomes the number of pooled spikes of sample ``s``.
    """
    fields, sites, pending, times, first, time = scratch
    used = np.int64(0)
    for s in range(start, last):
        n_times = collect(columns, offsets[s], offsets[s + 1], sizes, windows, fields, times)
        n = np.int64(0)
        for b in range(sizes.blocks):
            done = np.int64(0)
            for oy in range(len(panes.y)):
                below = max(done, panes.y_end[oy])
                _cross_rows(weights, b, done, below, sizes, limit, quiet, fields, first)
                done = below
                n = _pool_row(b, oy, sizes, panes, sites, first, time, pending, n)
        if used + n > len(output.time):
            return s
        emit(pending, n, times, n_times, sites, output, used)
        counts[s] = n
        used += n
    return last
