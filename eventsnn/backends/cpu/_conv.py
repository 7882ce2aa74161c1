"""Integrate-and-fire neurons over the samples of a batch."""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from eventsnn.backends.cpu._emit import emit
from eventsnn.backends.cpu._fields import collect
from eventsnn.backends.cpu._simd import LANES, advance, lowest_bit, seek
from eventsnn.jit import inner, lean_kernel

#: ``limit`` (blocks * LANES): thresholds, or 0 if neurons fire ``at_end``; inf for maps that may not fire and
#: where there is no map. ``end``: last time of the stimulus. ``coarse``, ``fine``: leak tables, empty without a leak
Cells = namedtuple("Cells", "limit at_end end coarse fine")
ALL = (1 << LANES) - 1
_NEVER = np.int64(1) << 60


@inner
def leak_factor(coarse, fine, dt):
    """Return the decay over ``dt`` time units, as ``LeakTable.factor`` does."""
    a = dt // len(fine)
    if a >= len(coarse):
        return np.float32(0)
    return coarse[a] * fine[dt - a * len(fine)]


def quiet_spikes(weights, cells):
    """Return for every block how many spikes surely leave all its potentials at or below their thresholds.

    No weight is above the block's largest. Float32 sums may be rounded up once per addition, which the factor allows
    for. With neurons that fire at the end, or leak, every spike counts.
    """
    if cells.at_end or len(cells.fine):
        return np.zeros(len(weights), np.int64)
    largest = weights.max(axis=1).astype(np.float64)
    lowest = cells.limit.reshape(len(weights), LANES).min(axis=1).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        n = np.where(largest > 0, np.minimum(lowest / largest, 1e6), 1e6)
    n = np.floor(n * (1 - n * 2e-7)).clip(0).astype(np.int64)
    return np.where(largest > 0, n, _NEVER)


@inner
def decay(potential, at, factor):
    """Multiply LANES potentials by a leak factor."""
    for lane in range(at, at + LANES):
        potential[lane] = potential[lane] * factor


@inner
def _same_time(fields, e, end):
    """Return the index after the last listed spike that is simultaneous with spike ``e - 1``."""
    while e < end and fields.group[e] == fields.group[e - 1]:
        e += 1
    return e


@inner
def _fire(weights, b, p, sizes, cells, fields, sites, potential, pending, n):
    """Run one block of maps at one position through a sample; append its spikes to ``pending``, return their number.

    Whoever is above its threshold after the last spike of a time was so right after that spike, so it is enough
    to look closely where somebody crosses.
    """
    base, rows, limit, edge = b * sizes.block, fields.rows, cells.limit, b * LANES
    e, end, alive = fields.start[p], fields.cursor[p], np.int64(ALL)
    fresh = True
    while e < end and alive != 0:
        crossed = seek(weights, base, rows, potential, np.int64(0), limit, edge, fresh, e, end, alive)
        fresh = False
        e = _same_time(fields, crossed, end)
        hits = alive & advance(weights, base, rows, potential, np.int64(0), limit, edge, fresh, crossed, e)
        alive ^= hits
        n = _append(hits, np.int64(fields.group[e - 1]), b, p, potential, sites, pending, n)
    return n


@inner
def _fire_leaky(weights, b, p, sizes, cells, fields, times, sites, potential, pending, n):
    """Like :func:`_fire`, for potentials that decay between arrivals."""
    base, rows, limit, edge = b * sizes.block, fields.rows, cells.limit, b * LANES
    begin, end, alive = fields.start[p], fields.cursor[p], np.int64(ALL)
    e = begin
    while e < end and alive != 0:
        if e > begin:
            dt = times[fields.group[e]] - times[fields.group[e - 1]]
            decay(potential, np.int64(0), leak_factor(cells.coarse, cells.fine, dt))
        stop = _same_time(fields, e + 1, end)
        hits = alive & advance(weights, base, rows, potential, np.int64(0), limit, edge, e == begin, e, stop)
        alive ^= hits
        n = _append(hits, np.int64(fields.group[e]), b, p, potential, sites, pending, n)
        e = stop
    return n


@inner
def _append(hits, group, b, p, potential, sites, pending, n):
    """Append the neurons of a mask to the pending spikes; return the new number."""
    while hits != 0:
        lane = lowest_bit(hits)
        hits &= hits - 1
        pending.key[n] = (group << sites.bits) | ((b * LANES + lane) << sites.position_bits) | p
        pending.potential[n] = potential[lane]
        n += 1
    return n


@inner
def settle(weights, b, p, sizes, cells, fields, times, potential):
    """Put the potentials at the end of the stimulus into ``potential``; return the mask of those above the limit."""
    begin, end = fields.start[p], fields.cursor[p]
    base, rows, limit, edge = b * sizes.block, fields.rows, cells.limit, b * LANES
    if len(cells.fine) == 0:
        return advance(weights, base, rows, potential, np.int64(0), limit, edge, True, begin, end)
    e = begin
    while e < end:
        if e > begin:
            dt = times[fields.group[e]] - times[fields.group[e - 1]]
            decay(potential, np.int64(0), leak_factor(cells.coarse, cells.fine, dt))
        stop = _same_time(fields, e + 1, end)
        advance(weights, base, rows, potential, np.int64(0), limit, edge, e == begin, e, stop)
        e = stop
    if end > begin:
        dt = cells.end - times[fields.group[end - 1]]
        decay(potential, np.int64(0), leak_factor(cells.coarse, cells.fine, dt))
    return advance(weights, base, rows, potential, np.int64(0), limit, edge, end == begin, end, end)


@inner
def _sample(weights, quiet, sizes, cells, fields, times, n_times, sites, potential, pending):
    """Run all neurons through one collected sample; return the number of pending spikes."""
    n = np.int64(0)
    for b in range(sizes.blocks):
        for p in range(sizes.oh * sizes.ow):
            if cells.at_end:
                hits = settle(weights, b, p, sizes, cells, fields, times, potential)
                n = _append(hits, n_times, b, p, potential, sites, pending, n)
            elif len(cells.fine) > 0:
                n = _fire_leaky(weights, b, p, sizes, cells, fields, times, sites, potential, pending, n)
            elif fields.cursor[p] - fields.start[p] > quiet[b]:  # fewer spikes cannot make any of these maps fire
                n = _fire(weights, b, p, sizes, cells, fields, sites, potential, pending, n)
    return n


@lean_kernel
def conv_samples(columns, offsets, first, last, weights, quiet, sizes, windows, cells, scratch, output, counts):
    """Run samples from ``first`` on, until ``last`` or until the output is full; return the next sample to run.

    ``counts[s]`` becomes the number of spikes of sample ``s``.
    """
    fields, sites, pending, times, potential = scratch
    used = np.int64(0)
    for s in range(first, last):
        n_times = collect(columns, offsets[s], offsets[s + 1], sizes, windows, fields, times)
        times[n_times] = cells.end
        n = _sample(weights, quiet, sizes, cells, fields, times, n_times, sites, potential, pending)
        if used + n > len(output.time):
            return s
        emit(pending, n, times, n_times + 1, sites, output, used)
        counts[s] = n
        used += n
    return last
