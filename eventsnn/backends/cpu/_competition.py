"""Pooling, pointwise inhibition and the choice of winners, on the spikes of a batch."""

from __future__ import annotations

import numpy as np
from numba import njit

from eventsnn.backends.cpu._emit import emit, grown, make_output, make_pending, make_sites
from eventsnn.backends.cpu._fields import longest, make_windows


@njit(cache=True, nogil=True)
def pool_samples(columns, offsets, first, last, sizes):
    """Pool samples ``first`` to ``last - 1``; return the output columns and the number of spikes of each sample."""
    windows = make_windows(sizes)
    sites = make_sites(sizes.channels, sizes.oh, sizes.ow)
    pending = make_pending(sizes.channels * sizes.oh * sizes.ow)
    fired_in = np.full((sizes.channels, sizes.oh * sizes.ow), -1, np.int64)
    times = np.empty(longest(offsets, np.arange(first, last)) + 1, np.int64)
    counts = np.zeros(last - first, np.int64)
    output, used = make_output(1024), 0
    for s in range(first, last):
        n, group = 0, -1
        for e in range(offsets[s], offsets[s + 1]):
            if group < 0 or columns.time[e] != times[group]:
                group += 1
                times[group] = columns.time[e]
            n = _pool_spike(columns, e, s, group, sizes, windows, sites, fired_in, pending, n)
        output = grown(output, used, used + n)
        emit(pending, n, times, group + 1, sites, output, used)
        counts[s - first] = n
        used += n
    return output, counts


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def pointwise_keep(columns, potential, offsets, height, width):
    """Return which spikes survive pointwise inhibition; an empty ``potential`` counts as all equal."""
    keep = np.zeros(len(columns.time), np.bool_)
    best = np.full(height * width, -1, np.int64)
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
    return keep


@njit(cache=True, nogil=True)
def choose_winners(columns, potential, offsets, k, radius, maps):
    """Return the winners (map, y, x, time) of every sample, -1 where there is none."""
    winners = np.full((len(offsets) - 1, k, 4), -1, np.int64)
    won_in = np.full(maps, -1, np.int64)
    for s in range(len(offsets) - 1):
        for i in range(k):
            e = _best(columns, potential, offsets[s], offsets[s + 1], winners[s, :i], radius, won_in, s)
            if e < 0:
                break
            winners[s, i, 0] = columns.channel[e]
            winners[s, i, 1] = columns.y[e]
            winners[s, i, 2] = columns.x[e]
            winners[s, i, 3] = columns.time[e]
            won_in[columns.channel[e]] = s
    return winners


@njit(cache=True, nogil=True)
def _best(columns, potential, begin, end, winners, radius, won_in, s):
    """Return the earliest spike that is not excluded, then the largest potential, then the first; -1 if none."""
    best = -1
    for e in range(begin, end):
        if best >= 0 and columns.time[e] != columns.time[best]:
            break
        if won_in[columns.channel[e]] == s or _near(columns, e, winners, radius):
            continue
        if best < 0 or (len(potential) > 0 and potential[e] > potential[best]):
            best = e
    return best


@njit(cache=True, nogil=True)
def _near(columns, e, winners, radius):
    if radius == 0:
        return False
    for i in range(len(winners)):
        dy, dx = abs(np.int64(columns.y[e]) - winners[i, 1]), abs(np.int64(columns.x[e]) - winners[i, 2])
        if dy <= radius and dx <= radius:
            return True
    return False
