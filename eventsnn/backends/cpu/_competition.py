"""Pooling, pointwise inhibition and the choice of winners, on the spikes of a batch."""

from __future__ import annotations

import numpy as np

from eventsnn.backends.cpu._simd import lowest_bit
from eventsnn.jit import inner, lean_kernel


@lean_kernel
def pool_samples(columns, offsets, first, last, sizes, windows, sites, fired, fresh, output, counts):
    """Pool samples from ``first`` on, until ``last`` or until the output is full; return the next sample to pool.

    Spikes of one time and channel mark the positions that see them in ``fresh``, one bit each; those that are not in
    ``fired``, which has as many bits for each channel, fire. So the pooled spikes come in canonical order.
    ``counts[s]`` becomes their number.
    """
    used = np.int64(0)
    for s in range(first, last):
        for c in range(len(fired)):
            fired[c] = 0
        n, e = used, offsets[s]
        while e < offsets[s + 1]:
            begin, low, high = e, len(fresh), np.int64(-1)
            while e < offsets[s + 1] and _together(columns, begin, e):
                y, x = columns.y[e], columns.x[e]
                for oy in range(windows.y_low[y], windows.y_high[y]):
                    for ox in range(windows.x_low[x], windows.x_high[x]):
                        p = oy * sizes.ow + ox
                        word = p >> 6
                        low, high = word if word < low else low, word if word > high else high
                        fresh[word] |= np.int64(1) << (p & 63)
                e += 1
            n = _fire_marked(columns, begin, low, high, sites, fired, fresh, output, n)
            if n < 0:
                return s
        counts[s] = n - used
        used = n
    return last


@inner
def _together(columns, i, j):
    return columns.time[i] == columns.time[j] and columns.channel[i] == columns.channel[j]


@inner
def _fire_marked(columns, e, low, high, sites, fired, fresh, output, n):
    """Write the marked positions that have not fired, with time and channel of spike ``e``, and unmark all.

    Returns the new number of spikes, -1 if the output is full.
    """
    time, c = columns.time[e], columns.channel[e]
    for word in range(low, high + 1):
        own = np.int64(c) * len(fresh) + word
        bits = fresh[word] & ~fired[own]
        fired[own] |= bits
        fresh[word] = 0
        while bits != 0:
            if n >= len(output.time):
                for later in range(low, high + 1):
                    fresh[later] = 0
                return np.int64(-1)
            p = (word << 6) + lowest_bit(bits)
            bits &= bits - 1
            output.time[n], output.channel[n], output.y[n], output.x[n] = time, c, sites.y[p], sites.x[p]
            n += 1
    return n


@lean_kernel
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


@lean_kernel
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
