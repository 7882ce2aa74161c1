"""Learning to decide: one winner at the end of the stimulus, found through bounds on all potentials.

With ``w <= upper - step * q`` for small integers ``q``, a neuron's potential is at most ``upper`` times the number of its
spikes less ``step`` times the sum of their ``q``. These sums take a byte per weight, in any order, so they can be had for
several samples in one pass over the table, before the samples' turn: by how much the updates in between may have raised
a map's potentials is kept account of. Only the few neurons whose bound reaches the best potential so far are computed, in
canonical order.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from eventsnn.backends.cpu._change import change_map, note_times
from eventsnn.backends.cpu._deficits import LARGEST, STRIDE, WIDE, add_deficits
from eventsnn.backends.cpu._fields import Fields, reserve
from eventsnn.jit import inner, kernel

#: ``weights`` (maps, rows) float32, none above ``upper``; ``deficits`` (block, row, WIDE maps): the integers ``q``;
#: ``rise`` (block, WIDE maps): by how much a potential may have grown since they were taken, -inf for maps that may not
#: fire; ``slack``: times a number of spikes squared, how far float32 sums may be off; ``tolerance``: a map whose rise is
#: above it has its deficits taken anew
Tables = namedtuple("Tables", "weights deficits rise upper step slack tolerance")
#: samples whose bounds are summed together: ``rows[j, start[j, p]:start[j, p + 1]]`` are the weight rows at position
#: ``p`` if ``listed``; ``sums`` of deficits by position and map; ``top`` bound at a position; ``pace``: the latest best
#: potential per spike
Slots = namedtuple("Slots", "fields start rows listed sums top pace")
_TOGETHER = 8
_ROOM = 1 << 25  # bytes that sums of deficits may take
_FINE = np.float64(1 << 20)


def make_tables(weights, limit, lower, upper, spikes):
    """Allocate tables for weights (maps, rows), all within the bounds; deficits are taken when they are first used.

    ``spikes`` is about how many a sample has.
    """
    maps, rows = weights.shape
    blocks = -(-maps // WIDE)
    rise = np.full(blocks * WIDE, -np.inf)
    rise[:maps][np.isfinite(limit[:maps])] = np.inf
    # weights beyond eight times the mean deficit share the largest integer: their maps rarely are near the best
    usual = 8 * max(float(upper - weights.mean(dtype=np.float64)), 1e-3 * (upper - lower))
    step = min(usual, upper - lower) / LARGEST
    slack = 6.1e-8 * max(abs(lower), abs(upper))
    return Tables(weights, np.zeros(blocks * rows * WIDE, np.uint8), rise, upper, step, slack, spikes * step / 8)


def make_slots(sizes, fields):
    """Allocate room for the bounds of some samples."""
    positions, wide = sizes.oh * sizes.ow, -(-sizes.maps // WIDE) * WIDE
    n = max(1, min(_TOGETHER, _ROOM // (4 * positions * wide)))
    return Slots(
        fields,
        np.zeros((n, positions + 1), np.int64),
        np.empty((n, len(fields.rows)), np.int32),
        np.zeros((n, positions), np.bool_),
        np.zeros((n, positions * wide), np.int32),
        np.zeros(positions),
        np.zeros(1),
    )


@inner
def _take(tables, f):
    """Take the deficits of map ``f``."""
    weights = tables.weights[f]
    at = (f // WIDE) * len(weights) * WIDE + f % WIDE
    scale = (1 - 1e-9) / tables.step
    for row in range(len(weights)):
        q = np.int64((tables.upper - weights[row]) * scale)
        tables.deficits[at + row * WIDE] = min(q, LARGEST)
    tables.rise[f] = 0


@inner
def _renew(tables):
    for f in range(len(tables.weights)):
        if tables.rise[f] > tables.tolerance:
            _take(tables, f)


@inner
def _list(columns, begin, end, p, sizes, start, rows):
    """List the weight rows of a sample's spikes at position ``p``."""
    top, left = (p // sizes.ow) * sizes.sh - sizes.ph, (p % sizes.ow) * sizes.sw - sizes.pw
    k = start[p]
    for e in range(begin, end):
        y, x = np.int64(columns.y[e]) - top, np.int64(columns.x[e]) - left
        if 0 <= y < sizes.kh and 0 <= x < sizes.kw:
            rows[k] = (np.int64(columns.channel[e]) * sizes.kh + y) * sizes.kw + x
            k += 1


@inner
def _sum(tables, b, p, start, rows, sums):
    """Sum the deficits of a block of maps at position ``p``."""
    at = (p * (len(tables.rise) // WIDE) + b) * WIDE
    for i in range(at, at + WIDE):
        sums[i] = 0
    base = b * tables.weights.shape[1] * WIDE
    for first in range(start[p], start[p + 1], STRIDE):
        add_deficits(tables.deficits, base, rows, first, min(first + STRIDE, start[p + 1]), sums, at)


@inner
def _foresee(columns, offsets, samples, tables, sizes, windows, slots):
    """Sum deficits for some samples, at positions that have spikes enough to win at the present pace."""
    positions = sizes.oh * sizes.ow
    old = slots.fields
    for j in range(len(samples)):
        begin, end, start = offsets[samples[j]], offsets[samples[j] + 1], slots.start[j]
        fields = Fields(start, old.cursor, old.rows, old.group, old.pixels, old.partial)
        reserve(columns, begin, end, sizes, windows, fields)
        most = np.int64(0)
        for p in range(positions):
            most = max(most, start[p + 1] - start[p])
        for p in range(positions):
            slots.listed[j, p] = tables.upper * (start[p + 1] - start[p]) >= slots.pace[0] * most
            if slots.listed[j, p]:
                _list(columns, begin, end, p, sizes, start, slots.rows[j])
    for b in range(len(tables.rise) // WIDE):
        for j in range(len(samples)):
            for p in range(positions):
                if slots.listed[j, p]:
                    _sum(tables, b, p, slots.start[j], slots.rows[j], slots.sums[j])


@inner
def _limit_at(tables, p, start):
    """Return what no potential at position ``p`` is above, before deficits and rises."""
    n = np.float64(start[p + 1] - start[p])
    return tables.upper * n + tables.slack * n * n


@inner
def _potential(weights, p, start, rows):
    total = np.float32(0)
    for k in range(start[p], start[p + 1]):
        total = total + weights[rows[k]]
    return total


@inner
def _most_promising(tables, positions, slots, j):
    """Return map and position with the highest bound, of those summed, and note each position's highest; or -1, -1."""
    top, f, at = -np.inf, np.int64(-1), np.int64(-1)
    sums, start, wide = slots.sums[j], slots.start[j], len(tables.rise)
    for p in range(positions):
        slots.top[p] = np.inf
        if not slots.listed[j, p]:
            continue
        limit, highest = _limit_at(tables, p, start), -np.inf
        for g in range(wide):
            bound = limit - tables.step * sums[p * wide + g] + tables.rise[g]
            if bound > highest:
                highest = bound
                if bound > top:
                    top, f, at = bound, g, p
        slots.top[p] = highest
    return f, at


@inner
def _winner(columns, begin, end, tables, sizes, slots, j):
    """Return map, position and potential of the neuron with the largest potential; -1, -1, 0 if none is above 0."""
    positions, wide = sizes.oh * sizes.ow, len(tables.rise)
    start, rows, sums = slots.start[j], slots.rows[j], slots.sums[j]
    best, best_map, best_position = np.float32(0), np.int64(-1), np.int64(-1)
    first_map, first_position = _most_promising(tables, positions, slots, j)
    if first_map >= 0:
        value = _potential(tables.weights[first_map], first_position, start, rows)
        if value > 0:
            best, best_map, best_position = value, first_map, first_position
    for p in range(positions):
        limit = _limit_at(tables, p, start)
        if start[p] == start[p + 1] or limit < best or slots.top[p] < best:
            continue
        if not slots.listed[j, p]:
            _list(columns, begin, end, p, sizes, start, rows)
            for b in range(wide // WIDE):
                _sum(tables, b, p, start, rows, sums)
        for f in range(wide):
            if limit - tables.step * sums[p * wide + f] + tables.rise[f] < best:
                continue
            value = _potential(tables.weights[f], p, start, rows)
            lower = f * positions + p < best_map * positions + best_position
            if value > best or (value == best and lower):
                best, best_map, best_position = value, f, p
    return best_map, best_position, best


@inner
def _rise(old, new, step):
    """Return the sum of all increases, rounded up; in integers, which compilers may add in any order."""
    total, scale = np.int64(0), np.float32(_FINE / step)
    for row in range(len(old)):
        total += np.int64(max(new[row] - old[row], np.float32(0)) * scale) + 1
    return np.float64(total) / _FINE * step * (1 + 1e-6)


@inner
def _decide(columns, begin, end, tables, sizes, slots, j, time, winner, potential):
    """Find the winner of a sample and write down map, y, x, time and potential."""
    f, p, best = _winner(columns, begin, end, tables, sizes, slots, j)
    if f < 0:
        return
    winner[0], winner[1], winner[2], winner[3] = f, p // sizes.ow, p % sizes.ow, time
    potential[0] = best
    most = np.int64(0)
    for q in range(sizes.oh * sizes.ow):
        most = max(most, slots.start[j, q + 1] - slots.start[j, q])
    slots.pace[0] = 0.99 * best / most


@kernel
def decide_samples(
    columns, offsets, plan, labels, classes, tables, sizes, windows, time, rates, scratch, result
):  # fmt: skip
    """Present samples as ``learn_samples`` does, to neurons that fire at the end, for one winner, within bounds."""
    slots, times, before = scratch
    if plan.change:
        _renew(tables)
    for first in range(0, len(plan.order), len(slots.start)):
        samples = plan.order[first : first + len(slots.start)]
        if plan.find:
            _foresee(columns, offsets, samples, tables, sizes, windows, slots)
        for j in range(len(samples)):
            i, s = first + j, samples[j]
            begin, end, winner = offsets[s], offsets[s + 1], result.winners[i, 0]
            if plan.find:
                _decide(columns, begin, end, tables, sizes, slots, j, time, winner, result.potential[i])
            if not plan.change or winner[0] < 0:
                continue
            note_times(columns, begin, end, winner[1], winner[2], time, sizes, times)
            weights, potential = tables.weights[winner[0]], result.potential[i, 0]
            pair, rewarded = np.int64(0), len(classes) > 0
            if rewarded and classes[winner[0]] != labels[s]:
                pair += 1
            before[:] = weights
            status = change_map(
                weights, time, times, winner[0], potential, rates, pair, rewarded, result.failed
            )  # fmt: skip
            if status != 0:
                return status
            tables.rise[winner[0]] += _rise(before, weights, tables.step)
        if plan.change:
            _renew(tables)
    return np.int64(0)
