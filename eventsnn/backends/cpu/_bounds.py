"""Bounds on the potentials of all neurons at the end of a stimulus, for several samples at a time.

With ``w <= upper - step * q`` for small integers ``q``, a neuron's potential is at most ``upper`` times the number of
its spikes less ``step`` times the sum of their ``q``. These sums take a byte per weight, in any order, so they can be
had for several samples in one pass over the table, before the samples' turn: by how much the updates in between may
have raised a map's potentials is kept account of.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from eventsnn.backends.cpu._deficits import GROUP, LARGEST, STRIDE, WIDE, add_deficits, byte_of, read_spikes
from eventsnn.backends.cpu._fields import reserve
from eventsnn.backends.cpu._sift import _END, _WIDTH, sift
from eventsnn.jit import inner
from eventsnn.memory import empty

#: ``weights`` (maps, rows) float32, none above ``upper``; ``deficits`` (block, row, WIDE maps): the integers ``q``;
#: ``rise`` (block, WIDE maps): by how many steps a potential may have grown since they were taken if no input spikes
#: twice, NEVER for maps that may not fire; ``slack``: times half the square of a number of spikes, how far float32
#: sums may be off; ``tolerance``: a map whose rise is above it has its deficits taken anew
Tables = namedtuple("Tables", "weights deficits rise upper step slack tolerance")
#: samples whose bounds are summed together: ``rows[j, first[j, p]:]`` are the weight rows of the ``count[j, p]`` spikes
#: at position ``p``, relative to the position's own (``own_row``), if ``listed``. The list of a position that sees all
#: spikes is the sample's own, which comes first; ``places`` are its (y, x), and room for (x, row) of some. ``sums`` of
#: deficits by position and map; ``top``: least deficit at a position, less its map's rise; ``often[j]``: how often a
#: sample's busiest input spikes, counted in ``seen``, 1 where it does not matter; ``pace``: about the best potential
#: per spike, and how far below the highest bound it was; ``group``: neurons to be computed
Slots = namedtuple("Slots", "fields first count rows listed places sums top often seen pace group")
#: one sample's part of them. Inner functions take no more than they need: each array of an argument is taken apart and
#: put together in some 20 instructions, all of which are compiled
Slot = namedtuple("Slot", "count first rows listed y x row_x row_rows sums")
#: map and position of some neurons, where their weights begin, and potentials
Group = namedtuple("Group", "map position at potential")
_TOGETHER = 8
_FEW = 20_000  # weights that are looked at to choose the step
_USUAL = 2.5  # standard deviations above the mean
_ROOM = 1 << 25  # bytes that sums of deficits may take, and lists of rows
_MOST_SPIKES = 300_000  # beyond some 385,000 spikes float32 sums may be further off than ``slack`` allows for
_LARGEST_POTENTIAL = 1e38  # well below infinity, where all potentials are equal
NEVER = -(1 << 40)
_byte_of = inner(byte_of)


def hold_for(offsets, samples, lower, upper):
    """Tell whether the bounds hold for some samples and weights within [lower, upper]."""
    return hold_up_to(np.diff(offsets)[samples].max(initial=0), lower, upper)


def hold_up_to(most, lower, upper):
    """Tell whether the bounds hold for samples of at most so many spikes, and weights within [lower, upper]."""
    return bool(most <= _MOST_SPIKES and most * max(abs(lower), abs(upper)) < _LARGEST_POTENTIAL)


def make_tables(weights, limit, lower, upper, spikes):
    """Allocate tables for weights (maps, rows), all within the bounds; deficits are taken when they are first used.

    ``spikes`` is about how many a sample has.
    """
    maps, rows = weights.shape
    blocks = -(-maps // WIDE)
    rise = np.full(blocks * WIDE, NEVER, np.int64)
    rise[:maps][np.isfinite(limit[:maps])] = -NEVER
    step = min(max(_usual_pair(weights, upper), 1e-3 * (upper - lower)), 2 * (upper - lower)) / LARGEST
    slack = 6.1e-8 * max(abs(lower), abs(upper))
    own, deficits = empty((maps, rows), np.float32), empty(blocks * rows * WIDE, np.uint8)
    own[:], deficits[:] = weights, 0
    return Tables(own, deficits, rise, upper, step, slack, int(spikes) // 8)


def _usual_pair(weights, upper):
    """Return what the deficits of two weights rarely exceed together; maps where they do are rarely near the best."""
    few = upper - weights.ravel()[:: 1 + weights.size // _FEW].astype(np.float64)
    return float(2 * few.mean() + _USUAL * np.sqrt(2) * few.std())


def make_slots(sizes, fields, most):
    """Allocate room for the bounds of some samples, of at most ``most`` spikes each."""
    positions, wide = sizes.oh * sizes.ow, -(-sizes.maps // WIDE) * WIDE
    n_rows = len(fields.rows) + most + (positions + 1) * _WIDTH
    n = max(1, min(_TOGETHER, _ROOM // (4 * max(positions * wide, n_rows))))
    return Slots(
        fields,
        np.zeros((n, positions), np.int64),
        np.zeros((n, positions), np.int64),
        np.empty((n, n_rows), np.int32),
        np.zeros((n, positions), np.bool_),
        tuple(np.empty((*some, most + _WIDTH), np.int32) for some in ((n,), (n,), (), ())),
        np.zeros((n, positions * wide), np.int32),
        np.zeros(positions, np.int64),
        np.ones(n, np.int64),
        np.zeros(sizes.channels * sizes.height * sizes.width, np.int64),
        np.zeros(2),
        Group(*(empty(GROUP, np.int64) for _ in range(3)), empty(GROUP, np.float32)),
    )


@inner
def _take(tables, f):
    """Take the deficits of map ``f``."""
    weights = tables.weights[f]
    at = (f // WIDE) * len(weights) * WIDE + _byte_of(f)
    scale = (1 - 1e-9) / tables.step
    for row in range(len(weights)):
        q = np.int64((tables.upper - weights[row]) * scale)
        tables.deficits[at + row * WIDE] = q if q < LARGEST else LARGEST
    tables.rise[f] = 0


@inner
def renew(tables):
    for f in range(len(tables.weights)):
        if tables.rise[f] > tables.tolerance:
            _take(tables, f)


@inner
def own_row(sizes, p):
    return (p // sizes.ow) * sizes.sh * sizes.kw + (p % sizes.ow) * sizes.sw


@inner
def slot_of(slots, j):
    y, x, row_x, row_rows = slots.places
    return Slot(
        slots.count[j], slots.first[j], slots.rows[j], slots.listed[j], y[j], x[j], row_x, row_rows, slots.sums[j]
    )  # fmt: skip


@inner
def _list_all(columns, begin, end, sizes, start, slot):
    """Count a sample's spikes at all positions, and list all of them."""
    n = end - begin
    read_spikes(
        columns.channel, columns.y, columns.x, begin, n, sizes.kh, sizes.kw, sizes.ph, sizes.pw, slot.rows, slot.y,
        slot.x,
    )  # fmt: skip
    for k in range(n, n + _WIDTH):
        slot.y[k] = _END
    for p in range(sizes.oh * sizes.ow):
        slot.count[p] = start[p + 1] - start[p]
        slot.first[p] = 0 if slot.count[p] == n else n + start[p] + (p + 1) * _WIDTH
        slot.listed[p] = False


@inner
def _busiest(columns, begin, end, sizes, seen):
    """Return how often a sample's busiest input spikes."""
    often = np.int64(1)
    for e in range(begin, end):
        y, x = np.int64(columns.y[e]), np.int64(columns.x[e])
        pixel = (np.int64(columns.channel[e]) * sizes.height + y) * sizes.width + x
        seen[pixel] += 1
        if seen[pixel] > often:
            often = seen[pixel]
    for e in range(begin, end):
        y, x = np.int64(columns.y[e]), np.int64(columns.x[e])
        seen[(np.int64(columns.channel[e]) * sizes.height + y) * sizes.width + x] = 0
    return often


@inner
def _risen(rise):
    """Tell whether any map's potentials may have grown since its deficits were taken."""
    risen = False
    for f in range(len(rise)):
        risen |= rise[f] > 0
    return risen


@inner
def list_position(n, p, sizes, slot):
    """List a sample's spikes, ``n`` in all, at position ``p``: those of its rows, and of these those of its columns."""
    slot.listed[p] = True
    if slot.first[p] > 0:
        top, left, zero = (p // sizes.ow) * sizes.sh, (p % sizes.ow) * sizes.sw, np.int64(0)
        seen = sift(slot.y, n, top, sizes.kh, (slot.x, slot.rows), (slot.row_x, slot.row_rows), zero, zero)
        sift(slot.row_x, seen, left, sizes.kw, (slot.row_rows,), (slot.rows,), slot.first[p], zero)


@inner
def sum_deficits(tables, b, p, own, slot):
    """Sum the deficits of a block of maps at position ``p``, whose own row is ``own``."""
    at = p * len(tables.rise) + b * WIDE
    for i in range(at, at + WIDE):
        slot.sums[i] = 0
    base = (b * tables.weights.shape[1] - own) * WIDE
    stop = slot.first[p] + slot.count[p]
    for first in range(slot.first[p], stop, STRIDE):
        end = first + STRIDE if first + STRIDE < stop else stop
        add_deficits(tables.deficits, base, slot.rows, first, end, slot.sums, at)


@inner
def together(left, most):
    """Return for how many of the samples that are left bounds are summed together."""
    return left if left < most else most


@inner
def foresee(columns, offsets, order, first, tables, sizes, windows, slots, learning):
    """Sum deficits for samples from ``order[first]`` on, where there are spikes enough to win at the present pace."""
    positions, n = sizes.oh * sizes.ow, together(len(order) - first, len(slots.count))
    counting = learning or _risen(tables.rise)  # else nothing is multiplied by how often an input spikes
    for j in range(n):
        begin, end, slot = offsets[order[first + j]], offsets[order[first + j] + 1], slot_of(slots, j)
        reserve(columns, begin, end, sizes, windows, slots.fields)
        _list_all(columns, begin, end, sizes, slots.fields.start, slot)
        slots.often[j] = _busiest(columns, begin, end, sizes, slots.seen) if counting else 1
        most = most_of(slot.count)
        for p in range(positions):
            if tables.upper * slot.count[p] >= slots.pace[0] * most:
                list_position(end - begin, p, sizes, slot)
    for b in range(len(tables.rise) // WIDE):
        for j in range(n):
            slot = slot_of(slots, j)
            for p in range(positions):
                if slot.listed[p]:
                    sum_deficits(tables, b, p, own_row(sizes, p), slot)


@inner
def most_of(count):
    """Return the number of spikes at the position that sees most."""
    most = np.int64(0)
    for p in range(len(count)):
        most = count[p] if count[p] > most else most
    return most
