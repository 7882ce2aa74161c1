"""Online learning: samples one after another, each only as far as its winners need it."""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from eventsnn.backends.cpu._change import adapt, change_map, clip, list_causal
from eventsnn.backends.cpu._conv import ALL, decay, leak_factor
from eventsnn.backends.cpu._fields import look_at, reserve
from eventsnn.backends.cpu._simd import LANES, advance, lowest_bit
from eventsnn.jit import inner, lean_kernel

#: who wins: number, radius, pointwise inhibition before
Contest = namedtuple("Contest", "k radius pointwise")
#: presentations, and what of them this call does. ``positions``: the one that takes part in each, empty for all
Plan = namedtuple("Plan", "order positions find change")
#: what is found: rows (map, y, x, time) of winners, their potentials; arguments with which a user's rule ``failed``
Result = namedtuple("Result", "winners potential failed")
#: one sample's neurons, by position ``p`` (and block ``b``). ``done[p]``: spikes already added to the potentials;
#: ``ripe[p]``: a spike listed at this index or later may make a neuron fire; ``last[p]``: time of the latest arrival
State = namedtuple("State", "potential alive done ripe last touched best_map best_potential blocked won")
#: neurons that fired at the present time
Candidates = namedtuple("Candidates", "map position potential")
_NEVER = np.int64(1) << 60


def make_state(positions, blocks, maps):
    """Allocate the state of one sample."""
    return State(
        np.zeros(positions * blocks * LANES, np.float32),
        np.zeros(positions * blocks, np.int64),
        np.zeros(positions, np.int64),
        np.zeros(positions, np.int64),
        np.zeros(positions, np.int64),
        np.zeros(positions, np.int64),
        np.zeros(positions, np.int64),
        np.zeros(positions, np.float32),
        np.zeros(positions, np.bool_),
        np.zeros(maps, np.bool_),
    )


def make_candidates(capacity):
    """Allocate room for neurons that fire at one time."""
    return Candidates(np.empty(capacity, np.int64), np.empty(capacity, np.int64), np.empty(capacity, np.float32))


# Inner functions take no more arrays than they need: each is taken apart and put together again in some 20 instructions
# for each call and each function, and that is compiled too.
@inner
def _reset(done, ripe, blocked, alive, won, start, quiet):
    for p in range(len(done)):
        done[p] = start[p]
        ripe[p] = start[p] + quiet
        blocked[p] = False
    for i in range(len(alive)):
        alive[i] = ALL
    for f in range(len(won)):
        won[f] = False


@inner
def _arrive(columns, e, end, sizes, windows, cursor, rows, ripe, touched):
    """List the spikes that share the time of spike ``e``; return the next spike and the number of ``touched``."""
    time, n = columns.time[e], np.int64(0)
    while e < end and columns.time[e] == time:
        y, x = np.int64(columns.y[e]), np.int64(columns.x[e])
        row = (np.int64(columns.channel[e]) * sizes.kh + y + sizes.ph) * sizes.kw + x + sizes.pw
        for oy in range(windows.y_low[y], windows.y_high[y]):
            for ox in range(windows.x_low[x], windows.x_high[x]):
                p = oy * sizes.ow + ox
                k = cursor[p]
                rows[k] = row - oy * sizes.sh * sizes.kw - ox * sizes.sw
                cursor[p] = k + 1
                if k >= ripe[p]:
                    ripe[p] = _NEVER
                    touched[n] = p
                    n += 1
        e += 1
    return e, n


@inner
def _fire(weights, sizes, n_touched, time, may_fire, pointwise, cells, fields, state, candidates):
    """Add what arrived at the touched positions and collect who fires now; return the number of candidates."""
    n = np.int64(0)
    for i in range(n_touched):
        state.best_map[i] = -1
        state.best_potential[i] = -np.inf
    for b in range(sizes.blocks):
        for i in range(n_touched):
            p = state.touched[i]
            at, begin, end = (p * sizes.blocks + b) * LANES, state.done[p], fields.cursor[p]
            fresh = begin == fields.start[p]
            if len(cells.fine) > 0 and not fresh:
                decay(state.potential, at, leak_factor(cells.coarse, cells.fine, time - state.last[p]))
            hits = advance(
                weights, b * sizes.block, fields.rows, state.potential, at, cells.limit, b * LANES, fresh, begin, end
            )
            if may_fire:
                n = _claim(hits, b, i, sizes.blocks, pointwise, state, candidates, n)
    for i in range(n_touched):
        p = state.touched[i]
        state.done[p] = fields.cursor[p]
        state.last[p] = time
        state.ripe[p] = 0
        if pointwise and state.best_map[i] >= 0:
            candidates.map[n], candidates.position[n] = state.best_map[i], p
            candidates.potential[n] = state.best_potential[i]
            state.ripe[p] = _NEVER  # one map fired here, so no other will
            n += 1
    return n


@inner
def _claim(hits, b, i, n_blocks, pointwise, state, candidates, n):
    """Take the neurons of a mask as candidates, or only the best of the position; return the new number."""
    p = state.touched[i]
    if not pointwise:
        hits &= state.alive[p * n_blocks + b]
        state.alive[p * n_blocks + b] ^= hits
    while hits != 0:
        lane = lowest_bit(hits)
        hits &= hits - 1
        value = state.potential[(p * n_blocks + b) * LANES + lane]
        if not pointwise:
            candidates.map[n], candidates.position[n], candidates.potential[n] = b * LANES + lane, p, value
            n += 1
        elif value > state.best_potential[i]:
            state.best_map[i], state.best_potential[i] = b * LANES + lane, value
    return n


@inner
def _choose(candidates, n, time, contest, sizes, cursor, blocked, ripe, won, winners, potentials, causal, found):
    """Take winners from those who fired at one time; return how many there are now."""
    positions = sizes.oh * sizes.ow
    while found < contest.k:
        best = np.int64(-1)
        for i in range(n):
            if won[candidates.map[i]] or blocked[candidates.position[i]]:
                continue
            if best < 0 or _beats(candidates, i, best, positions):
                best = i
        if best < 0:
            break
        f, p = candidates.map[best], candidates.position[best]
        winners[found, 0], winners[found, 1], winners[found, 2] = f, p // sizes.ow, p % sizes.ow
        winners[found, 3] = time
        potentials[found] = candidates.potential[best]
        causal[found] = cursor[p]
        won[f] = True
        _block(p, contest.radius, sizes, blocked, ripe)
        found += 1
    return found


@inner
def _beats(candidates, i, j, positions):
    """Tell whether candidate ``i`` wins over ``j`` of the same time."""
    if candidates.potential[i] != candidates.potential[j]:
        return candidates.potential[i] > candidates.potential[j]
    flat_i = candidates.map[i] * positions + candidates.position[i]
    return flat_i < candidates.map[j] * positions + candidates.position[j]


@inner
def _block(p, radius, sizes, blocked, ripe):
    """Exclude the neighbourhood of a winner in every map."""
    if radius == 0:
        return
    oy, ox = p // sizes.ow, p % sizes.ow
    top, bottom = oy - radius, oy + radius + 1
    left, right = ox - radius, ox + radius + 1
    for y in range(top if top > 0 else 0, bottom if bottom < sizes.oh else sizes.oh):
        for x in range(left if left > 0 else 0, right if right < sizes.ow else sizes.ow):
            blocked[y * sizes.ow + x] = True
            ripe[y * sizes.ow + x] = _NEVER


@inner
def _present(
    columns, begin, end, weights, quiet, sizes, windows, cells, contest, scratch, winners, potentials, causal
):  # fmt: skip
    """Run one sample until its winners are known; return their number."""
    fields, state, candidates = scratch
    found, e, last = np.int64(0), begin, False
    reserve(columns, begin, end, sizes, windows, fields)
    _reset(state.done, state.ripe, state.blocked, state.alive, state.won, fields.start, quiet)
    while found < contest.k and not last:
        last = e >= end
        if last and not cells.at_end:
            break
        if last:
            time, n_touched = cells.end, _touch_all(state.touched)
        else:
            time = columns.time[e]
            e, n_touched = _arrive(
                columns, e, end, sizes, windows, fields.cursor, fields.rows, state.ripe, state.touched
            )
        may_fire = last or not cells.at_end
        n = _fire(weights, sizes, n_touched, time, may_fire, contest.pointwise, cells, fields, state, candidates)
        found = _choose(
            candidates, n, time, contest, sizes, fields.cursor, state.blocked, state.ripe, state.won, winners,
            potentials, causal, found,
        )  # fmt: skip
    return found


@inner
def _touch_all(touched):
    """Touch every position; return their number."""
    for p in range(len(touched)):
        touched[p] = p
    return len(touched)


@inner
def _quiet_spikes(cells, bound):
    """Return how many spikes need not be added yet: they surely leave all potentials at or below their limits.

    See ``quiet_spikes``. No weight ever is above ``bound``. Without a leak, what fires at the end adds all spikes then.
    """
    if len(cells.fine) > 0:
        return np.int64(0)
    if cells.at_end or bound <= 0:
        return _NEVER
    lowest = np.float32(np.inf)
    for f in range(len(cells.limit)):
        lowest = cells.limit[f] if cells.limit[f] < lowest else lowest
    n = np.float64(lowest) / bound
    n = 1e6 if n > 1e6 else n
    return np.int64(n * (1 - n * 2e-7))


@inner
def _count(winners):
    n = np.int64(0)
    while n < len(winners) and winners[n, 0] >= 0:
        n += 1
    return n


@inner
def _apply(
    columns, begin, end, weights, sizes, rows, start, rates, pair, rewarded, found, known, room, winners, potential,
    failed,
):  # fmt: skip
    """Change the weights of a presentation's winners; ``known``: whether ``rows`` lists their causal inputs."""
    times, causal, heard, old, new = room
    for j in range(found):
        winner = winners[j]
        f, p = winner[0], winner[1] * sizes.ow + winner[2]
        inputs, part = rows, (start[p], causal[j], np.int64(0))
        if not known:
            inputs, part = heard, (np.int64(0), list_causal(columns, begin, end, winner, sizes, heard), np.int64(0))
        at = (f // LANES) * sizes.block + f % LANES
        for row in range(len(old)):
            old[row] = weights[at + row * LANES]
        status = change_map(
            old, new, inputs, part, columns, begin, end, winner, potential[j], sizes, rates, pair, rewarded, times,
            failed,
        )  # fmt: skip
        if status != 0:
            return status
        for row in range(len(old)):
            weights[at + row * LANES] = new[row]
    return np.int64(0)


@lean_kernel
def learn_samples(
    columns, offsets, plan, labels, classes, weights, bound, sizes, windows, cells, contest, rates, levels,
    scratch, result,
):  # fmt: skip
    """Present the samples of ``plan.order``: find their winners, or change weights and limits, or both.

    Without ``classes`` rewards play no part. Returns 0, or what went wrong with a user's rule.
    """
    run, times, causal, heard, old, new = scratch
    rows, start, room = run[0].rows, run[0].start, (times, causal, heard, old, new)
    lower, upper = np.float32(np.inf), np.float32(-np.inf)  # all weights lie within these
    quiet = _quiet_spikes(cells, bound)
    for i in range(len(plan.order)):
        s = plan.order[i]
        begin, end = offsets[s], offsets[s + 1]
        winners, potential = result.winners[i], result.potential[i]
        if plan.find:
            if len(plan.positions) > 0:
                look_at(plan.positions[i], sizes, windows)
            _present(
                columns, begin, end, weights, quiet, sizes, windows, cells, contest, run, winners, potential, causal
            )  # fmt: skip
        found = _count(winners)
        if found == 0 or not plan.change:
            continue
        pair = np.int64(0)
        if len(classes) > 0 and classes[winners[0, 0]] != labels[s]:
            pair += 1
        status = _apply(
            columns, begin, end, weights, sizes, rows, start, rates, pair, len(classes) > 0, found, plan.find, room,
            winners, potential, result.failed,
        )  # fmt: skip
        if status != 0:
            return status
        if lower != rates.lower[pair] or upper != rates.upper[pair]:
            lower, upper = rates.lower[pair], rates.upper[pair]
            clip(weights, lower, upper)
        for j in range(found if levels.rate >= 0 else 0):
            adapt(cells.limit, winners[j, 0], winners[j, 3], levels)
            quiet = _quiet_spikes(cells, bound)
    return np.int64(0)
