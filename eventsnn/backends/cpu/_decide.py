"""Deciding, and learning to: one winner at the end of the stimulus, found through bounds on all potentials.

With ``w <= upper - step * q`` for small integers ``q``, a neuron's potential is at most ``upper`` times the number of
its spikes less ``step`` times the sum of their ``q``. These sums take a byte per weight, in any order, so they can be
had for several samples in one pass over the table, before the samples' turn: by how much the updates in between may
have raised a map's potentials is kept account of. Only the few neurons whose bound reaches the best potential so far
are computed, in canonical order.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from eventsnn.backends.cpu._change import change_map, list_causal
from eventsnn.backends.cpu._deficits import (
    GROUP,
    LARGEST,
    STRIDE,
    WIDE,
    add_deficits,
    add_weights,
    byte_of,
    read_spikes,
)
from eventsnn.backends.cpu._fields import reserve
from eventsnn.backends.cpu._sift import _END, _WIDTH, sift
from eventsnn.jit import inner, lean_kernel
from eventsnn.memory import empty

#: ``weights`` (maps, rows) float32, none above ``upper``; ``deficits`` (block, row, WIDE maps): the integers ``q``;
#: ``rise`` (block, WIDE maps): by how many steps a potential may have grown since they were taken if no input spikes
#: twice, _NEVER for maps that may not fire; ``slack``: times half the square of a number of spikes, how far float32
#: sums may be off; ``tolerance``: a map whose rise is above it has its deficits taken anew
Tables = namedtuple("Tables", "weights deficits rise upper step slack tolerance")
#: samples whose bounds are summed together: ``rows[j, first[j, p]:]`` are the weight rows of the ``count[j, p]`` spikes
#: at position ``p``, relative to the position's own (``_own_row``), if ``listed``. The list of a position that sees all
#: spikes is the sample's own, which comes first; ``places`` are its (y, x), and room for those of some rows. ``sums`` of deficits by position and map; ``top``: least deficit at a
#: position, less its map's rise; ``often[j]``: how often a sample's busiest input spikes, counted in ``seen``,
#: 1 where it does not matter; ``pace``: about the best potential per spike, and how far below the highest bound it was;
#: ``group``: neurons to be computed
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
_NEVER = -(1 << 40)
_FINE = np.float64(1 << 20)
_byte_of = inner(byte_of)


def hold_for(offsets, samples, lower, upper):
    """Tell whether the bounds hold for some samples and weights within [lower, upper]."""
    most = np.diff(offsets)[samples].max(initial=0)
    return bool(most <= _MOST_SPIKES and most * max(abs(lower), abs(upper)) < _LARGEST_POTENTIAL)


def make_tables(weights, limit, lower, upper, spikes):
    """Allocate tables for weights (maps, rows), all within the bounds; deficits are taken when they are first used.

    ``spikes`` is about how many a sample has.
    """
    maps, rows = weights.shape
    blocks = -(-maps // WIDE)
    rise = np.full(blocks * WIDE, _NEVER, np.int64)
    rise[:maps][np.isfinite(limit[:maps])] = -_NEVER
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
        (
            *(np.empty((n, most + _WIDTH), np.int32) for _ in range(2)),
            *(np.empty(most + _WIDTH, np.int32) for _ in "xr"),
        ),
        np.zeros((n, positions * wide), np.int32),
        np.zeros(positions, np.int64),
        np.ones(n, np.int64),
        np.zeros(sizes.channels * sizes.height * sizes.width, np.int64),
        np.zeros(2),
        Group(*(np.zeros(GROUP, np.int64) for _ in range(3)), np.zeros(GROUP, np.float32)),
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
def _renew(tables):
    for f in range(len(tables.weights)):
        if tables.rise[f] > tables.tolerance:
            _take(tables, f)


@inner
def _own_row(sizes, p):
    return (p // sizes.ow) * sizes.sh * sizes.kw + (p % sizes.ow) * sizes.sw


@inner
def _slot(slots, j):
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
def _list(n, p, sizes, slot):
    """List a sample's spikes, ``n`` in all, at position ``p``: those of its rows, and of these those of its columns."""
    slot.listed[p] = True
    if slot.first[p] > 0:
        top, left, zero = (p // sizes.ow) * sizes.sh, (p % sizes.ow) * sizes.sw, np.int64(0)
        seen = sift(slot.y, n, top, sizes.kh, (slot.x, slot.rows), (slot.row_x, slot.row_rows), zero, zero)
        sift(slot.row_x, seen, left, sizes.kw, (slot.row_rows,), (slot.rows,), slot.first[p], zero)


@inner
def _sum(tables, b, p, own, slot):
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
def _together(left, most):
    """Return for how many of the samples that are left bounds are summed together."""
    return left if left < most else most


@inner
def _foresee(columns, offsets, order, first, tables, sizes, windows, slots, learning):
    """Sum deficits for samples from ``order[first]`` on, where there are spikes enough to win at the present pace."""
    positions, n = sizes.oh * sizes.ow, _together(len(order) - first, len(slots.count))
    counting = learning or _risen(tables.rise)  # else nothing is multiplied by how often an input spikes
    for j in range(n):
        begin, end, slot = offsets[order[first + j]], offsets[order[first + j] + 1], _slot(slots, j)
        reserve(columns, begin, end, sizes, windows, slots.fields)
        _list_all(columns, begin, end, sizes, slots.fields.start, slot)
        slots.often[j] = _busiest(columns, begin, end, sizes, slots.seen) if counting else 1
        most = _most(slot.count)
        for p in range(positions):
            if tables.upper * slot.count[p] >= slots.pace[0] * most:
                _list(end - begin, p, sizes, slot)
    for b in range(len(tables.rise) // WIDE):
        for j in range(n):
            slot = _slot(slots, j)
            for p in range(positions):
                if slot.listed[p]:
                    _sum(tables, b, p, _own_row(sizes, p), slot)


@inner
def _most(count):
    """Return the number of spikes at the position that sees most."""
    most = np.int64(0)
    for p in range(len(count)):
        most = count[p] if count[p] > most else most
    return most


@inner
def _limit(upper, slack, count):
    """Return what no potential of so many spikes is above: before deficits and rises, with room for rounding."""
    n = np.float64(count)
    return upper * n + slack * n * (n + 1) / 2


@inner
def _least(rise, p, sums, often):
    """Return the least deficit of all maps at a position, less what the map may have risen since."""
    least, at = np.int64(-_NEVER), p * len(rise)
    for f in range(len(rise)):
        own = sums[at + f] - rise[f] * often
        least = own if own < least else least
    return least


@inner
def _highest(tables, slot, top, often):
    """Return the highest bound of those summed, -inf if there is none, and note each position's least deficit."""
    highest = -np.inf
    for p in range(len(top)):
        if slot.listed[p]:
            top[p] = _least(tables.rise, p, slot.sums, often)
            bound = _limit(tables.upper, tables.slack, slot.count[p]) - tables.step * top[p]
            highest = bound if bound > highest else highest
    return highest


@inner
def _compute(weights, rows, first, count, positions, group, n, best, best_map, best_position):
    """Compute the first ``n`` neurons of a group, which see the same list of spikes; return who is best now."""
    for i in range(n, GROUP):
        group.at[i] = group.at[0]
    add_weights(weights, group.at, rows, first, first + count, group.potential)
    for i in range(n):
        value, f, p = group.potential[i], group.map[i], group.position[i]
        lower = f * positions + p < best_map * positions + best_position
        if value > best or (value == best and lower):
            best, best_map, best_position = value, f, p
    return best, best_map, best_position


@inner
def _winner(columns, begin, end, tables, sizes, slot, top, often, pace, group):
    """Return map, position and potential of the neuron with the largest potential; -1, -1, 0 if none is above 0.

    First the neurons whose bounds are near the highest one are computed, about all that are needed, then what is
    above the best of these.
    """
    positions, wide, n_rows = len(top), len(tables.rise), tables.weights.shape[1]
    sums, count, first, rows = slot.sums, slot.count, slot.first, slot.rows
    best, best_map, best_position = np.float32(0), np.int64(-1), np.int64(-1)
    highest = _highest(tables, slot, top, often)
    target = highest - pace[1] if highest > pace[1] else 0.0
    n, last = np.int64(0), np.int64(0)
    for turn in range(2):
        for p in range(positions):
            limit, own = _limit(tables.upper, tables.slack, count[p]), _own_row(sizes, p)
            done = -np.inf if turn == 0 else (limit - target) / tables.step
            room = (limit - (target if turn == 0 else best)) / tables.step  # more steps below the limit cannot win
            if count[p] == 0 or (not slot.listed[p] if turn == 0 else room < 0):
                continue
            if not slot.listed[p]:
                done = -np.inf
                _list(end - begin, p, sizes, slot)
                for b in range(wide // WIDE):
                    _sum(tables, b, p, own, slot)
                top[p] = _least(tables.rise, p, sums, often)
            if top[p] > room or room <= done:
                continue
            for f in range(wide):
                deficit = sums[p * wide + f] - tables.rise[f] * often
                if deficit > room or deficit <= done:
                    continue
                if n == GROUP or (n > 0 and first[p] != first[last]):
                    best, best_map, best_position = _compute(
                        tables.weights, rows, first[last], count[last], positions, group, n, best, best_map,
                        best_position,
                    )  # fmt: skip
                    n = np.int64(0)
                    room = room if turn == 0 else (limit - best) / tables.step
                group.map[n], group.position[n], group.at[n] = f, p, f * n_rows - own
                n, last = n + 1, p
        if n > 0:
            best, best_map, best_position = _compute(
                tables.weights, rows, first[last], count[last], positions, group, n, best, best_map, best_position
            )
            n = np.int64(0)
    pace[1] = 1.1 * (highest - best) if highest > best else 0.0
    return best_map, best_position, best


@inner
def _fires(weights, rows, own, first, count):
    """Tell whether a neuron with weights of 0 or more fires: one of its spikes has a weight above 0."""
    k, stop = first, first + count
    while k < stop and weights[rows[k] - own] == 0:
        k += 1
    return k < stop


@inner
def _count_fired(columns, begin, end, weights, positive, sizes, slot):
    """Return how many neurons fire; ``positive``: no weight is 0. None is negative."""
    maps, fired = len(weights), np.int64(0)
    for p in range(sizes.oh * sizes.ow):
        if slot.count[p] == 0:
            continue
        if positive:
            fired += maps
            continue
        if not slot.listed[p]:
            _list(end - begin, p, sizes, slot)
        for f in range(maps):
            fired += _fires(weights[f], slot.rows, _own_row(sizes, p), slot.first[p], slot.count[p])
    return fired


@inner
def _rise(old, new, step):
    """Return the sum of all increases in steps, rounded up; in integers, which compilers may add in any order."""
    total, scale = np.int64(0), np.float32(_FINE / step)
    for row in range(len(old)):
        total += np.int64((new[row] - old[row] if new[row] > old[row] else np.float32(0)) * scale) + 1
    return np.int64(np.float64(total) / _FINE * (1 + 1e-6)) + 1


@inner
def _decide(columns, begin, end, tables, sizes, slot, top, often, pace, group, time, winner):
    """Find the winner of a sample and write down map, y, x and time; return its potential, 0 if nobody wins."""
    f, p, best = _winner(columns, begin, end, tables, sizes, slot, top, often, pace, group)
    if f >= 0:
        winner[0], winner[1], winner[2], winner[3] = f, p // sizes.ow, p % sizes.ow, time
        pace[0] = 0.99 * best / _most(slot.count)
    return best


@lean_kernel
def decide_samples(
    columns, offsets, plan, labels, classes, tables, positive, sizes, windows, time, rates, scratch, result, fired
):  # fmt: skip
    """Present samples as ``learn_samples`` does, to neurons that fire at the end, for one winner, within bounds.

    Unless it is empty, ``fired`` gets the number of neurons that fire in each; then no weight may be negative, and
    ``positive`` tells whether none is 0.
    """
    slots, times, heard, old = scratch
    if plan.change:
        _renew(tables)
    for first in range(0, len(plan.order), len(slots.count)):
        n = _together(len(plan.order) - first, len(slots.count))
        if plan.find:
            _foresee(columns, offsets, plan.order, first, tables, sizes, windows, slots, plan.change)
        for j in range(n):
            i, s, slot = first + j, plan.order[first + j], _slot(slots, j)
            begin, end, winner = offsets[s], offsets[s + 1], result.winners[i, 0]
            if plan.find:
                result.potential[i, 0] = _decide(
                    columns, begin, end, tables, sizes, slot, slots.top, slots.often[j], slots.pace, slots.group,
                    time, winner,
                )  # fmt: skip
            if len(fired) > 0:
                fired[i] = _count_fired(columns, begin, end, tables.weights, positive, sizes, slot)
            if not plan.change or winner[0] < 0:
                continue
            pair, rewarded = np.int64(0), len(classes) > 0
            if rewarded and classes[winner[0]] != labels[s]:
                pair += 1
            p = winner[1] * sizes.ow + winner[2]
            rows, causal = slot.rows, (slot.first[p], slot.first[p] + slot.count[p], _own_row(sizes, p))
            if not plan.find:
                rows, causal = heard, (np.int64(0), list_causal(columns, begin, end, winner, sizes, heard), np.int64(0))
            weights = tables.weights[winner[0]]
            for row in range(len(old)):
                old[row] = weights[row]
            status = change_map(
                old, weights, rows, causal, columns, begin, end, winner, result.potential[i, 0], sizes, rates, pair,
                rewarded, times, result.failed,
            )  # fmt: skip
            if status != 0:
                return status
            rise = tables.rise[winner[0]] + _rise(old, weights, tables.step)
            tables.rise[winner[0]] = rise if rise < -_NEVER else -_NEVER
        if plan.change:
            _renew(tables)
    return np.int64(0)
