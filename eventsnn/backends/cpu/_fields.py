"""Receptive fields: for every output position the weight rows of its spikes, in canonical order."""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from eventsnn.backends.cpu._simd import LANES, append_to_lists
from eventsnn.jit import inner

#: sizes of a layer: input grid, kernel, stride, padding, output grid, maps, blocks of maps, floats of a block's weights
Sizes = namedtuple("Sizes", "channels height width kh kw sh sw ph pw oh ow maps blocks block")
#: ``y_low[y]:y_high[y]`` are the output rows whose window holds input row ``y``; columns likewise
Windows = namedtuple("Windows", "y_low y_high x_low x_high")
#: position ``p`` owns ``rows[start[p]:cursor[p]]``: weight rows; ``group`` is the rank of their spike's time;
#: ``below`` is room for counts
Fields = namedtuple("Fields", "start cursor rows group below")
#: a batch's columns
Columns = namedtuple("Columns", "time channel y x")


def make_sizes(shape, kernel, stride, padding, output, maps):
    """Return the sizes of a layer; ``shape`` is its input grid, ``output`` its output grid without the maps."""
    blocks = -(-maps // LANES)
    block = shape[0] * kernel[0] * kernel[1] * LANES
    return Sizes(*shape, *kernel, *stride, *padding, *output, maps, blocks, block)


def _ranges(size, kernel, stride, padding, count):
    place = np.arange(size) + padding
    return np.maximum(0, (place - kernel + stride) // stride), np.minimum(count, place // stride + 1)


def make_windows(sizes):
    """Return for every input row and column the range of outputs that see it."""
    y_low, y_high = _ranges(sizes.height, sizes.kh, sizes.sh, sizes.ph, sizes.oh)
    x_low, x_high = _ranges(sizes.width, sizes.kw, sizes.sw, sizes.pw, sizes.ow)
    return Windows(y_low, y_high, x_low, x_high)


@inner
def look_at(p, sizes, windows):
    """Let only output position ``p`` see its inputs, in place."""
    oy, ox = p // sizes.ow, p % sizes.ow
    _only(oy, oy * sizes.sh - sizes.ph, sizes.kh, windows.y_low, windows.y_high)
    _only(ox, ox * sizes.sw - sizes.pw, sizes.kw, windows.x_low, windows.x_high)


@inner
def _only(output, first, kernel, low, high):
    for i in range(len(low)):
        low[i] = output
        high[i] = output + 1 if first <= i < first + kernel else output


def make_fields(sizes, windows, offsets, samples):
    """Allocate fields with room for any of the samples."""
    return fields_for(sizes, windows, int(np.diff(offsets)[samples].max(initial=0)))


def fields_for(sizes, windows, spikes):
    """Allocate fields with room for a sample of so many spikes, were each in the middle of the grid."""
    most = spikes * int((windows.y_high - windows.y_low).max() * (windows.x_high - windows.x_low).max())
    positions = sizes.oh * sizes.ow
    return Fields(
        np.zeros(positions + 1, np.int64),
        np.zeros(positions, np.int64),
        np.empty(most, np.int32),
        np.empty(most, np.int32),
        np.zeros((sizes.height + 1) * (sizes.width + 1), np.int64),
    )


def make_times(offsets, samples):
    """Allocate room for the distinct times of any of the samples, and the end."""
    return np.empty(int(np.diff(offsets)[samples].max(initial=0)) + 1, np.int64)


@inner
def _within(place, size):
    place = place if place > 0 else np.int64(0)
    return place if place < size else size


@inner
def reserve(columns, begin, end, sizes, windows, fields):
    """Set ``start`` and ``cursor`` of every position from the counts of a sample's spikes.

    A position's count is a box sum: four entries of the table whose ``[y, x]`` counts the spikes above and to the left.
    """
    below, wide = fields.below, sizes.width + 1
    for i in range(len(below)):
        below[i] = 0
    for e in range(begin, end):
        below[(np.int64(columns.y[e]) + 1) * wide + columns.x[e] + 1] += 1
    for y in range(1, sizes.height + 1):
        n = np.int64(0)
        for i in range(y * wide + 1, (y + 1) * wide):
            n += below[i]
            below[i] = below[i - wide] + n
    total, p = np.int64(0), np.int64(0)
    for oy in range(sizes.oh):
        y = oy * sizes.sh - sizes.ph
        top, bottom = _within(y, sizes.height) * wide, _within(y + sizes.kh, sizes.height) * wide
        for ox in range(sizes.ow):
            fields.start[p] = total
            fields.cursor[p] = total
            x = ox * sizes.sw - sizes.pw
            left, right = _within(x, sizes.width), _within(x + sizes.kw, sizes.width)
            total += below[bottom + right] - below[bottom + left] - below[top + right] + below[top + left]
            p += 1
    fields.start[p] = total


@inner
def add_spike(columns, e, group, sizes, windows, fields):
    """Append spike ``e`` to the list of every position that sees it."""
    y, x = np.int64(columns.y[e]), np.int64(columns.x[e])
    row = (np.int64(columns.channel[e]) * sizes.kh + y + sizes.ph) * sizes.kw + x + sizes.pw
    first, count = windows.x_low[x], windows.x_high[x] - windows.x_low[x]
    for oy in range(windows.y_low[y], windows.y_high[y]):
        begin = row - oy * sizes.sh * sizes.kw - first * sizes.sw
        append_to_lists(
            fields.cursor, oy * sizes.ow + first, count, fields.rows, begin, sizes.sw, fields.group, np.int64(group)
        )


@inner
def collect(columns, begin, end, sizes, windows, fields, times):
    """List a sample's spikes by position; fill ``times`` with its distinct times and return their number."""
    reserve(columns, begin, end, sizes, windows, fields)
    group = np.int64(-1)
    for e in range(begin, end):
        if group < 0 or columns.time[e] != times[group]:
            group += 1
            times[group] = columns.time[e]
        add_spike(columns, e, group, sizes, windows, fields)
    return group + 1
