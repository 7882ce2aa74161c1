"""Integrate-and-fire neurons over the samples of a batch."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
from numba import njit

from eventsnn.backends.cpu._emit import emit, grown, make_output, make_pending, make_sites
from eventsnn.backends.cpu._fields import collect, longest, make_fields, make_windows, most_entries
from eventsnn.backends.cpu._simd import LANES, advance, lowest_bit, seek

#: ``limit`` (blocks * LANES): thresholds, or 0 if neurons fire ``at_end``; inf for maps that may not fire and
#: where there is no map. ``end``: last time of the stimulus. ``coarse``, ``fine``: leak tables, empty without a leak
Cells = namedtuple("Cells", "limit at_end end coarse fine")
ALL = (1 << LANES) - 1
_NEVER = np.int64(1) << 60


@njit(cache=True, nogil=True)
def leak_factor(cells, dt):
    """Return the decay over ``dt`` time units, as ``LeakTable.factor`` does."""
    a = dt // len(cells.fine)
    if a >= len(cells.coarse):
        return np.float32(0)
    return cells.coarse[a] * cells.fine[dt - a * len(cells.fine)]


@njit(cache=True, nogil=True)
def quiet_spikes(largest, threshold):
    """Return how many spikes, each of a weight up to ``largest``, surely leave a potential at or below threshold.

    Float32 sums may be rounded up once per addition, which the factor allows for.
    """
    if largest <= 0:
        return _NEVER
    n = np.int64(min(threshold / largest, 1e6))
    while n > 0 and n * largest * (1 + n * 1.2e-7) > threshold:
        n -= 1
    return n


@njit(cache=True, nogil=True)
def block_quiet(weights, cells, floor):
    """Return :func:`quiet_spikes` of every block; ``floor`` is the least that weights may grow to."""
    n_blocks = len(weights)
    quiet = np.zeros(n_blocks, np.int64)
    if cells.at_end or len(cells.fine) > 0:
        return quiet  # every spike counts for the final potential, and every arrival for the leak
    for b in range(n_blocks):
        largest = floor
        for i in range(weights.shape[1]):
            largest = max(largest, weights[b, i])
        lowest = np.float32(np.inf)
        for lane in range(LANES):
            lowest = min(lowest, cells.limit[b * LANES + lane])
        quiet[b] = quiet_spikes(np.float64(largest), np.float64(lowest))
    return quiet


@njit(cache=True, nogil=True)
def decay(potential, at, factor):
    """Multiply LANES potentials by a leak factor."""
    for lane in range(at, at + LANES):
        potential[lane] = potential[lane] * factor


@njit(cache=True, nogil=True)
def _same_time(fields, e, end):
    """Return the index after the last listed spike that is simultaneous with spike ``e - 1``."""
    while e < end and fields.group[e] == fields.group[e - 1]:
        e += 1
    return e


@njit(cache=True, nogil=True)
def _fire(weights, b, p, cells, fields, sites, potential, pending, n):
    """Run one block of maps at one position through a sample; append its spikes to ``pending``, return their number.

    Whoever is above its threshold after the last spike of a time was so right after that spike, so it is enough
    to look closely where somebody crosses.
    """
    flat, base, rows, limit, edge = weights.ravel(), b * weights.shape[1], fields.rows, cells.limit, b * LANES
    e, end, alive = fields.start[p], fields.cursor[p], np.int64(ALL)
    fresh = True
    while e < end and alive != 0:
        crossed = seek(flat, base, rows, potential, 0, limit, edge, fresh, e, end, alive)
        fresh = False
        e = _same_time(fields, crossed, end)
        hits = alive & advance(flat, base, rows, potential, 0, limit, edge, fresh, crossed, e)
        alive ^= hits
        n = _append(hits, np.int64(fields.group[e - 1]), b, p, potential, sites, pending, n)
    return n


@njit(cache=True, nogil=True)
def _fire_leaky(weights, b, p, cells, fields, times, sites, potential, pending, n):
    """Like :func:`_fire`, for potentials that decay between arrivals."""
    flat, base, rows, limit, edge = weights.ravel(), b * weights.shape[1], fields.rows, cells.limit, b * LANES
    begin, end, alive = fields.start[p], fields.cursor[p], np.int64(ALL)
    e = begin
    while e < end and alive != 0:
        if e > begin:
            decay(potential, 0, leak_factor(cells, times[fields.group[e]] - times[fields.group[e - 1]]))
        stop = _same_time(fields, e + 1, end)
        hits = alive & advance(flat, base, rows, potential, 0, limit, edge, e == begin, e, stop)
        alive ^= hits
        n = _append(hits, np.int64(fields.group[e]), b, p, potential, sites, pending, n)
        e = stop
    return n


@njit(cache=True, nogil=True)
def _append(hits, group, b, p, potential, sites, pending, n):
    """Append the neurons of a mask to the pending spikes; return the new number."""
    while hits != 0:
        lane = lowest_bit(hits)
        hits &= hits - 1
        pending.key[n] = (group << sites.bits) | ((b * LANES + lane) << sites.position_bits) | p
        pending.potential[n] = potential[lane]
        n += 1
    return n


@njit(cache=True, nogil=True)
def settle(weights, b, p, cells, fields, times, potential):
    """Put the potentials at the end of the stimulus into ``potential``; return the mask of those above the limit."""
    begin, end = fields.start[p], fields.cursor[p]
    flat, base, rows, limit, edge = weights.ravel(), b * weights.shape[1], fields.rows, cells.limit, b * LANES
    if len(cells.fine) == 0:
        return advance(flat, base, rows, potential, 0, limit, edge, True, begin, end)
    e = begin
    while e < end:
        if e > begin:
            decay(potential, 0, leak_factor(cells, times[fields.group[e]] - times[fields.group[e - 1]]))
        stop = _same_time(fields, e + 1, end)
        advance(flat, base, rows, potential, 0, limit, edge, e == begin, e, stop)
        e = stop
    if end > begin:
        decay(potential, 0, leak_factor(cells, cells.end - times[fields.group[end - 1]]))
    return advance(flat, base, rows, potential, 0, limit, edge, end == begin, end, end)


@njit(cache=True, nogil=True)
def _sample(weights, quiet, cells, fields, times, n_times, sites, potential, pending):
    """Run all neurons through one collected sample; return the number of pending spikes."""
    n = 0
    for b in range(len(weights)):
        for p in range(len(fields.cursor)):
            if cells.at_end:
                hits = settle(weights, b, p, cells, fields, times, potential)
                n = _append(hits, n_times, b, p, potential, sites, pending, n)
            elif len(cells.fine) > 0:
                n = _fire_leaky(weights, b, p, cells, fields, times, sites, potential, pending, n)
            elif fields.cursor[p] - fields.start[p] > quiet[b]:  # fewer spikes cannot make any of these maps fire
                n = _fire(weights, b, p, cells, fields, sites, potential, pending, n)
    return n


@njit(cache=True, nogil=True)
def conv_samples(columns, offsets, first, last, weights, sizes, cells):
    """Run samples ``first`` to ``last - 1``; return the output columns and the number of spikes of each sample."""
    windows = make_windows(sizes)
    samples = np.arange(first, last)
    fields = make_fields(sizes, most_entries(columns, offsets, samples, windows))
    sites = make_sites(sizes.maps, sizes.oh, sizes.ow)
    pending = make_pending(sizes.maps * sizes.oh * sizes.ow)
    times = np.empty(longest(offsets, samples) + 1, np.int64)
    quiet = block_quiet(weights, cells, np.float32(0))
    potential = np.zeros(LANES, np.float32)
    counts = np.zeros(last - first, np.int64)
    output, used = make_output(1024), 0
    for s in samples:
        n_times = collect(columns, offsets[s], offsets[s + 1], sizes, windows, fields, times)
        times[n_times] = cells.end
        n = _sample(weights, quiet, cells, fields, times, n_times, sites, potential, pending)
        output = grown(output, used, used + n)
        emit(pending, n, times, n_times + 1, sites, output, used)
        counts[s - first] = n
        used += n
    return output, counts
