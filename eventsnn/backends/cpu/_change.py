"""What winners do to weights and thresholds; ``backends/changes.py`` says the same in NumPy."""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from eventsnn.backends.cpu._conv import leak_factor
from eventsnn.backends.cpu._user import call_rule
from eventsnn.jit import inner

#: row 0 of the rates, bounds and dependences: the usual (or reward) ones, row 1: the punishing ones. ``coarse``,
#: ``fine``: exp(-dt / tau), empty without a tau; ``scale``: exp(-beta u); ``address`` of a user's rule, or 0
Rates = namedtuple("Rates", "plus minus lower upper dependence coarse fine scale address")
#: ``rate`` 0 or more, -1 for thresholds that stay; ``share``: by how much a winner's rivals fall
Levels = namedtuple("Levels", "rate target share floor duration")
NEVER = np.int64(1) << 60
_ADDITIVE, _STABILIZED, _MULTIPLICATIVE = range(3)  # the rest is proportional


@inner
def list_causal(columns, begin, end, winner, sizes, rows):
    """List the weight rows of the spikes that a winner (map, y, x, time) heard by its time; return their number."""
    top, left, n = winner[1] * sizes.sh - sizes.ph, winner[2] * sizes.sw - sizes.pw, np.int64(0)
    for e in range(begin, end):
        y, x = np.int64(columns.y[e]) - top, np.int64(columns.x[e]) - left
        if 0 <= y < sizes.kh and 0 <= x < sizes.kw and columns.time[e] <= winner[3]:
            rows[n] = (np.int64(columns.channel[e]) * sizes.kh + y) * sizes.kw + x
            n += 1
    return n


@inner
def note_times(columns, begin, end, oy, ox, time, sizes, times):
    """Put the time of the input that decides for each synapse of the neurons at (oy, ox) into ``times``."""
    for row in range(len(times)):
        times[row] = NEVER
    top, left = oy * sizes.sh - sizes.ph, ox * sizes.sw - sizes.pw
    for e in range(begin, end):
        y, x = np.int64(columns.y[e]) - top, np.int64(columns.x[e]) - left
        if 0 <= y < sizes.kh and 0 <= x < sizes.kw:
            row = (np.int64(columns.channel[e]) * sizes.kh + y) * sizes.kw + x
            if columns.time[e] <= time or times[row] == NEVER:
                times[row] = columns.time[e]


@inner
def _in_time(rates, dt):
    """Return exp(-dt / tau), and 0 if there is no spike."""
    if dt > NEVER // 2:
        return np.float32(0)
    return leak_factor(rates.coarse, rates.fine, dt)


@inner
def _clipped(w, lower, upper):
    """Return ``min(max(w, lower), upper)``; written so, each function of Numba's would be compiled for each type."""
    w = lower if lower > w else w
    return upper if upper < w else w


@inner
def _scale(table, u):
    """Return exp(-beta u) as ``ScaleTable.factors`` does."""
    x = _clipped(u, np.float32(0), np.float32(1)) * np.float32(len(table) - 1)
    i = np.int64(x)
    i = i if i < len(table) - 2 else len(table) - 2
    return table[i] + (x - np.float32(i)) * (table[i + 1] - table[i])


@inner
def _dependence(kind, causal, w, lower, upper, table):
    """Return what a change of weight ``w`` is multiplied by."""
    if kind == _ADDITIVE:
        return np.float32(1)
    below, above = w - lower, upper - w
    if kind == _STABILIZED:
        return below * above
    if kind == _MULTIPLICATIVE:
        return _scale(table, (below if causal else above) / (upper - lower))
    return above if causal else below


@inner
def change_by_order(old, new, rows, causal, f, rates, pair):
    """Put the changed weights of map ``f`` into ``new``.

    With ``causal = (first, last, own)``, the weight rows ``rows[first:last] - own`` are causal, the others are not.
    """
    lower, upper, kind = rates.lower[pair], rates.upper[pair], rates.dependence[pair]
    plus, minus = rates.plus[pair, f], rates.minus[pair, f]
    for row in range(len(old)):
        if kind == _STABILIZED:
            w = old[row] + minus * ((old[row] - lower) * (upper - old[row]))
        else:
            w = old[row] + minus * _dependence(kind, np.bool_(False), old[row], lower, upper, rates.scale)
        new[row] = _clipped(w, lower, upper)
    first, last, own = causal
    for k in range(first, last):
        row = rows[k] - own
        w = old[row] + plus * _dependence(kind, np.bool_(True), old[row], lower, upper, rates.scale)
        new[row] = _clipped(w, lower, upper)


@inner
def change_in_time(old, new, time, times, f, rates, pair):
    """Put the changed weights of map ``f``, whose winner fired at ``time``, into ``new``."""
    lower, upper, kind = rates.lower[pair], rates.upper[pair], rates.dependence[pair]
    for row in range(len(times)):
        w, causal = old[row], times[row] <= time
        a = rates.plus[pair, f] if causal else rates.minus[pair, f]
        a = a * _in_time(rates, abs(time - times[row]))
        w = w + a * _dependence(kind, causal, w, lower, upper, rates.scale)
        new[row] = _clipped(w, lower, upper)


@inner
def change_map(
    old, new, rows, causal, columns, begin, end, winner, potential, sizes, rates, pair, rewarded, times, failed
):  # fmt: skip
    """Put the changed weights of a winner's map into ``new``; return 0, or what went wrong with a user's rule.

    ``rows`` and ``causal`` are for rules that ask for order alone; see :func:`change_by_order`.
    """
    if rates.address == 0 and len(rates.fine) == 0:
        change_by_order(old, new, rows, causal, winner[0], rates, pair)
        return np.int64(0)
    note_times(columns, begin, end, winner[1], winner[2], winner[3], sizes, times)
    if rates.address == 0:
        change_in_time(old, new, winner[3], times, winner[0], rates, pair)
        return np.int64(0)
    for row in range(len(old)):
        new[row] = old[row]
    reward = np.float64(1 - 2 * pair if rewarded else 0)
    lower, upper = rates.lower[pair], rates.upper[pair]
    return call_rule(rates.address, new, times, winner[3], np.float64(potential), reward, lower, upper, failed)


@inner
def adapt(limit, f, time, levels):
    """Move all finite limits after map ``f`` won at ``time``, as ``ThresholdAdaptation`` does."""
    shift = levels.rate * (np.float32(time) / levels.duration - levels.target)
    for g in range(len(limit)):
        if limit[g] < np.inf:
            moved = limit[g] - shift
            moved = moved + levels.rate if g == f else moved - levels.share
            limit[g] = levels.floor if levels.floor > moved else moved


@inner
def clip(weights, lower, upper):
    """Clip all weights."""
    for i in range(len(weights)):
        weights[i] = _clipped(weights[i], lower, upper)
