"""Receptive fields: for every output position the weight rows of its spikes, in canonical order."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
from numba import njit

#: sizes of a layer: input grid, kernel, stride, padding, output grid, maps; all int64
Sizes = namedtuple("Sizes", "channels height width kh kw sh sw ph pw oh ow maps")
#: ``y_low[y]:y_high[y]`` are the output rows whose window holds input row ``y``; columns likewise
Windows = namedtuple("Windows", "y_low y_high x_low x_high")
#: position ``p`` owns ``rows[start[p]:cursor[p]]``: weight rows; ``group`` is the rank of their spike's time
Fields = namedtuple("Fields", "start cursor rows group pixels partial")
#: a batch's columns
Columns = namedtuple("Columns", "time channel y x")


@njit(cache=True, nogil=True)
def _ranges(size, kernel, stride, padding, count):
    low, high = np.empty(size, np.int64), np.empty(size, np.int64)
    for i in range(size):
        low[i] = max(0, (i + padding - kernel + stride) // stride)
        high[i] = min(count, (i + padding) // stride + 1)
    return low, high


@njit(cache=True, nogil=True)
def make_windows(sizes):
    """Return for every input row and column the range of outputs that see it."""
    y_low, y_high = _ranges(sizes.height, sizes.kh, sizes.sh, sizes.ph, sizes.oh)
    x_low, x_high = _ranges(sizes.width, sizes.kw, sizes.sw, sizes.pw, sizes.ow)
    return Windows(y_low, y_high, x_low, x_high)


@njit(cache=True, nogil=True)
def make_fields(sizes, n_entries):
    """Allocate fields for ``n_entries`` spike-position pairs."""
    positions = sizes.oh * sizes.ow
    return Fields(
        np.zeros(positions + 1, np.int64),
        np.zeros(positions, np.int64),
        np.empty(n_entries, np.int32),
        np.empty(n_entries, np.int32),
        np.zeros(sizes.height * sizes.width, np.int64),
        np.zeros(sizes.oh * sizes.width, np.int64),
    )


@njit(cache=True, nogil=True)
def most_entries(columns, offsets, samples, windows):
    """Return the largest number of spike-position pairs of any of the samples."""
    most = 0
    for s in samples:
        total = 0
        for e in range(offsets[s], offsets[s + 1]):
            y, x = columns.y[e], columns.x[e]
            total += (windows.y_high[y] - windows.y_low[y]) * (windows.x_high[x] - windows.x_low[x])
        most = max(most, total)
    return most


@njit(cache=True, nogil=True)
def longest(offsets, samples):
    """Return the largest number of spikes of any of the samples."""
    most = 0
    for s in samples:
        most = max(most, offsets[s + 1] - offsets[s])
    return most


@njit(cache=True, nogil=True)
def reserve(columns, begin, end, sizes, windows, fields):
    """Set ``start`` and ``cursor`` of every position from the counts of a sample's spikes.

    A position's count is a box sum of spikes per pixel, taken along rows and then along columns.
    """
    fields.pixels[:] = 0
    fields.partial[:] = 0
    for e in range(begin, end):
        fields.pixels[np.int64(columns.y[e]) * sizes.width + columns.x[e]] += 1
    for y in range(sizes.height):
        for oy in range(windows.y_low[y], windows.y_high[y]):
            for x in range(sizes.width):
                fields.partial[oy * sizes.width + x] += fields.pixels[y * sizes.width + x]
    fields.start[1:] = 0
    for oy in range(sizes.oh):
        for x in range(sizes.width):
            n = fields.partial[oy * sizes.width + x]
            for ox in range(windows.x_low[x], windows.x_high[x]):
                fields.start[oy * sizes.ow + ox + 1] += n
    for p in range(sizes.oh * sizes.ow):
        fields.start[p + 1] += fields.start[p]
        fields.cursor[p] = fields.start[p]


@njit(cache=True, nogil=True)
def add_spike(columns, e, group, sizes, windows, fields):
    """Append spike ``e`` to the list of every position that sees it."""
    y, x = np.int64(columns.y[e]), np.int64(columns.x[e])
    row = (np.int64(columns.channel[e]) * sizes.kh + y + sizes.ph) * sizes.kw + x + sizes.pw
    for oy in range(windows.y_low[y], windows.y_high[y]):
        line = row - oy * sizes.sh * sizes.kw
        for ox in range(windows.x_low[x], windows.x_high[x]):
            p = oy * sizes.ow + ox
            k = fields.cursor[p]
            fields.rows[k] = line - ox * sizes.sw
            fields.group[k] = group
            fields.cursor[p] = k + 1


@njit(cache=True, nogil=True)
def collect(columns, begin, end, sizes, windows, fields, times):
    """List a sample's spikes by position; fill ``times`` with its distinct times and return their number."""
    reserve(columns, begin, end, sizes, windows, fields)
    group = -1
    for e in range(begin, end):
        if group < 0 or columns.time[e] != times[group]:
            group += 1
            times[group] = columns.time[e]
        add_spike(columns, e, group, sizes, windows, fields)
    return group + 1
