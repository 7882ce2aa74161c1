"""Deciding, and learning to: one winner at the end of the stimulus.

Only the few neurons whose bound (``_bounds.py``) reaches the best potential so far are computed, in canonical order.
"""

from __future__ import annotations

import numpy as np

from eventsnn.backends.cpu._bounds import (
    NEVER,
    foresee,
    list_position,
    most_of,
    own_row,
    renew,
    slot_of,
    sum_deficits,
    together,
)
from eventsnn.backends.cpu._change import change_map, list_causal
from eventsnn.backends.cpu._deficits import GROUP, WIDE, add_weights
from eventsnn.jit import inner, lean_kernel

_FINE = np.float64(1 << 20)


@inner
def _limit(upper, slack, count):
    """Return what no potential of so many spikes is above: before deficits and rises, with room for rounding."""
    n = np.float64(count)
    return upper * n + slack * n * (n + 1) / 2


@inner
def _least(rise, p, sums, often):
    """Return the least deficit of all maps at a position, less what the map may have risen since."""
    least, at = np.int64(-NEVER), p * len(rise)
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
            limit, own = _limit(tables.upper, tables.slack, count[p]), own_row(sizes, p)
            done = -np.inf if turn == 0 else (limit - target) / tables.step
            room = (limit - (target if turn == 0 else best)) / tables.step  # more steps below the limit cannot win
            if count[p] == 0 or (not slot.listed[p] if turn == 0 else room < 0):
                continue
            if not slot.listed[p]:
                done = -np.inf
                list_position(end - begin, p, sizes, slot)
                for b in range(wide // WIDE):
                    sum_deficits(tables, b, p, own, slot)
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
            list_position(end - begin, p, sizes, slot)
        for f in range(maps):
            fired += _fires(weights[f], slot.rows, own_row(sizes, p), slot.first[p], slot.count[p])
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
        pace[0] = 0.99 * best / most_of(slot.count)
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
        renew(tables)
    for first in range(0, len(plan.order), len(slots.count)):
        n = together(len(plan.order) - first, len(slots.count))
        if plan.find:
            foresee(columns, offsets, plan.order, first, tables, sizes, windows, slots, plan.change)
        for j in range(n):
            i, s, slot = first + j, plan.order[first + j], slot_of(slots, j)
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
            rows, causal = slot.rows, (slot.first[p], slot.first[p] + slot.count[p], own_row(sizes, p))
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
            tables.rise[winner[0]] = rise if rise < -NEVER else -NEVER
        if plan.change:
            renew(tables)
    return np.int64(0)
