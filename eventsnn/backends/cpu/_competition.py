"""Pooling, pointwise inhibition and the choice of winners, on the spikes of a batch."""

from __future__ import annotations

import numpy as np

from eventsnn.backends.cpu._emit import emit
from eventsnn.jit import inner, kernel


@kernel
def pool_samples(columns, offsets, first, last, sizes, windows, fired_in, scratch, output, counts):
    """Pool samples from ``first`` on, until ``last`` or until the output is full; return the next sample to pool.

    ``fired_in[c, p]`` is the latest sample in which a pooled neuron fired; other than any of these at the start.
    """
    sites, pending, times = scratch
    used = np.int64(0)
    for s in range(first, last):
        n, group = np.int64(0), np.int64(-1)
        for e in range(offsets[s], offsets[s + 1]):
            if group < 0 or columns.time[e] != times[group]:
                group += 1
                times[group] = columns.time[e]
            n = _pool_spike(columns, e, s, group, sizes, windows, sites, fired_in, pending, n)
        if used + n > len(output.time):
            return s
        emit(pending, n, times, group + 1, sites, output, used)
        counts[s] = n
        used += n
    return last


@inner
def _pool_spike(columns, e, s, group, sizes, windows, sites, fired_in, pending, n):
    """Append the pooled neurons that fire first at spike ``e``; return the new number of pending spikes."""
    c, y, x = np.int64(columns.channel[e]), columns.y[e], columns.x[e]
    for oy in range(windows.y_low[y], windows.y_high[y]):
        for ox in range(windows.x_low[x], windows.x_high[x]):
            p = oy * sizes.ow + ox
            if fired_in[c, p] != s:
                fired_in[c, p] = s
                pending.key[n] = (group << sites.bits) | (c << sites.position_bits) | p
                pending.potential[n] = 0
                n += 1
    return n


@kernel
def pointwise_keep(columns, potential, offsets, width, best, keep):
    """Mark in ``keep`` which spikes survive pointwise inhibition; an empty ``potential`` counts as all equal.

    ``best`` is room for one index per position, -1 at the start.
    """
    for s in range(len(offsets) - 1):
        for e in range(offsets[s], offsets[s + 1]):
            p = np.int64(columns.y[e]) * width + columns.x[e]
            rival = best[p]
            none = rival < offsets[s]  # or a spike of an earlier sample
            tie = len(potential) > 0 and not none and columns.time[e] == columns.time[rival]
            if none or (tie and potential[e] > potential[rival]):
                best[p] = e
        for e in range(offsets[s], offsets[s + 1]):
            keep[e] = best[np.int64(columns.y[e]) * width + columns.x[e]] == e


@kernel
def choose_winners(columns, potential, offsets, radius, won_in, winners):
    """Fill in the winners (map, y, x, time) of every sample; ``winners`` and ``won_in`` (maps) are -1 at the start."""
    for s in range(len(offsets) - 1):
        for i in range(winners.shape[1]):
            e = _best(columns, potential, offsets[s], offsets[s + 1], winners[s], i, radius, won_in, s)
            if e < 0:
                break
            winners[s, i, 0] = columns.channel[e]
            winners[s, i, 1] = columns.y[e]
            winners[s, i, 2] = columns.x[e]
            winners[s, i, 3] = columns.time[e]
            won_in[columns.channel[e]] = s


@inner
def _best(columns, potential, begin, end, winners, found, radius, won_in, s):
    """Return the earliest spike that is not excluded, then the largest potential, then the first; -1 if none."""
    best = np.int64(-1)
    for e in range(begin, end):
        if best >= 0 and columns.time[e] != columns.time[best]:
            break
        if won_in[columns.channel[e]] == s or _near(columns, e, winners, found, radius):
            continue
        if best < 0 or (len(potential) > 0 and potential[e] > potential[best]):
            best = e
    return best


@inner
def _near(columns, e, winners, found, radius):
    if radius == 0:
        return False
    for i in range(found):
        dy, dx = abs(np.int64(columns.y[e]) - winners[i, 1]), abs(np.int64(columns.x[e]) - winners[i, 2])
        if dy <= radius and dx <= radius:
            return True
    return False
