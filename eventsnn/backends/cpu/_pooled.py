"""Integrate-and-fire neurons whose spikes go straight into pooling: only who is first in a window is found."""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from eventsnn.backends.cpu._emit import emit
from eventsnn.backends.cpu._sift import list_fields
from eventsnn.backends.cpu._simd import LANES, count_bits, cross, earliest, lowest_bit
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
    return first.clip(0, size), (first + kernel).clip(0, size)


def row_bits(sizes):
    """Return how many bits of an entry its row takes; the rank of its time has the rest of 31."""
    return max(1, (sizes.block // LANES - 1).bit_length())


@inner
def _cross_rows(weights, b, low, high, sizes, limit, quiet, mask, lists, first):
    """Find for each neuron of a block in rows ``low`` to ``high`` of positions the entry that makes it fire."""
    for p in range(low * sizes.ow, high * sizes.ow):
        begin, end = lists.start[p], lists.end[p]
        silent = begin + quiet[b]  # so few spikes cannot make any of these maps fire
        if silent >= end:
            begin = silent = end
        cross(weights, b * sizes.block, lists.entries, mask, limit, b * LANES, begin, silent, end, first, p * LANES)


@inner
def _count(n_positions, first, time):
    """Return how many neurons of a block fire."""
    n = np.int64(0)
    for p in range(n_positions):
        n += count_bits(earliest(first, p * LANES, np.int64(1), np.int64(1), np.int64(0), time))
    return n


@inner
def _pool_row(b, oy, sizes, panes, sites, bits, first, time, pending, n):
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
            pending.key[n] = (np.int64(time[lane] >> bits) << sites.bits) | site
            n += 1
    return n


@inner
def _sample(weights, quiet, sizes, limit, panes, bits, sites, pending, lists, first, time, counted):
    """Run all neurons through one collected sample; return the number of pending spikes, and of all if ``counted``."""
    n, fired, mask = np.int64(0), np.int64(0), (np.int64(1) << bits) - 1
    for b in range(sizes.blocks):
        done = np.int64(0)
        for oy in range(len(panes.y)):
            below = done if done > panes.y_end[oy] else panes.y_end[oy]
            _cross_rows(weights, b, done, below, sizes, limit, quiet, mask, lists, first)
            done = below
            n = _pool_row(b, oy, sizes, panes, sites, bits, first, time, pending, n)
        if counted:
            _cross_rows(weights, b, done, sizes.oh, sizes, limit, quiet, mask, lists, first)
            fired += _count(sizes.oh * sizes.ow, first, time)
    return n, fired


@lean_kernel
def conv_pool_samples(
    columns, offsets, start, last, weights, quiet, layer, panes, bits, scratch, output, counts, spikes
):
    """Run samples from ``start`` on, until ``last`` or until the output is full; return the next sample to run.

    ``layer`` is ``(sizes, limit)``. ``counts[s]`` becomes the number of pooled spikes of sample ``s``,
    ``spikes[s]`` that of the neurons', unless it is empty: then ``sizes`` may leave out what no window holds.
    """
    lists, sieve, sites, pending, times, first, time = scratch
    sizes, limit = layer
    used, counted = np.int64(0), len(spikes) > 0
    for s in range(start, last):
        n_times = list_fields(columns, offsets[s], offsets[s + 1], sizes, bits, sieve, lists, times)
        n, fired = _sample(weights, quiet, sizes, limit, panes, bits, sites, pending, lists, first, time, counted)
        if used + n > len(output.time):
            return s
        emit(pending, n, times, n_times, sites, output, used)
        counts[s] = n
        if counted:
            spikes[s] = fired
        used += n
    return last
