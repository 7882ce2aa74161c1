"""What SEMANTICS.md and the papers say, written densely and neuron by neuron; imports nothing of eventsnn.

Two oracles that share no method with an event-driven simulator:

* the *dense* one counts spikes in cumulative waves ``(T, C, H, W)`` and correlates every wave anew, in float64. It is
  exact where every weight is a multiple of 1/256 and there is no leak;
* the *scalar* one follows each neuron alone through all spikes, one float32 operation after another, for any weights
  and leak.

Spikes of a sample are tuples ``(time, channel, y, x)``. Latencies are arrays of int64, -1 for never.
Kernels, strides and paddings are pairs ``(vertical, horizontal)``.
"""

import numpy as np

NEVER = -1


# The dense oracle


def waves(spikes, shape, bins):
    """Return how many spikes each input has had up to and including each bin, float64 (T, C, H, W)."""
    counts = np.zeros((bins, *shape))
    for t, c, y, x in spikes:
        counts[t:, c, y, x] += 1
    return counts


def potentials(wave, weights, stride, padding):
    """Return the potential after each bin, float64 (T, F, OH, OW): the cross-correlation of every wave."""
    (py, px), (sy, sx) = padding, stride
    padded = np.pad(wave, ((0, 0), (0, 0), (py, py), (px, px)))
    _, _, ky, kx = weights.shape
    bins, _, height, width = padded.shape
    out = np.zeros((bins, len(weights), (height - ky) // sy + 1, (width - kx) // sx + 1))
    for oy in range(out.shape[2]):
        for ox in range(out.shape[3]):
            field = padded[:, :, oy * sy : oy * sy + ky, ox * sx : ox * sx + kx]
            out[:, :, oy, ox] = np.einsum("tcij,fcij->tf", field, weights.astype(np.float64))
    return out


def fire(potential, threshold):
    """Return latency and potential at the spike, (F, OH, OW), of potentials (T, F, OH, OW).

    The first bin with a potential strictly above the map's threshold counts; an infinite threshold means the last
    bin and a potential above 0.
    """
    bins = len(potential)
    latency = np.full(potential.shape[1:], NEVER, np.int64)
    at_spike = np.zeros(potential.shape[1:])
    for f, level in enumerate(threshold):
        for t in range(bins):
            now = potential[t, f]
            above = (now > 0) & (t == bins - 1) if np.isinf(level) else now > level
            new = above & (latency[f] == NEVER)
            latency[f][new], at_spike[f][new] = t, now[new]
    return latency, at_spike


# Any latencies


def pool(latency, kernel, stride, padding):
    """Return the earliest latency in every window of every map."""
    channels, height, width = latency.shape
    sizes = zip((height, width), kernel, stride, padding, strict=True)
    out = np.full((channels, *((n + 2 * p - k) // s + 1 for n, k, s, p in sizes)), NEVER, np.int64)
    for c, oy, ox in np.ndindex(out.shape):
        times = []
        for ky, kx in np.ndindex(kernel):
            y, x = oy * stride[0] + ky - padding[0], ox * stride[1] + kx - padding[1]
            if 0 <= y < height and 0 <= x < width and latency[c, y, x] != NEVER:
                times.append(latency[c, y, x])
        if times:
            out[c, oy, ox] = min(times)
    return out


def pointwise(latency, potential):
    """Return the latencies that remain: at each position the earliest, then largest potential, then lowest map."""
    out = np.full_like(latency, NEVER)
    maps, height, width = latency.shape
    for y, x in np.ndindex(height, width):
        fired = [(latency[f, y, x], -potential[f, y, x], f) for f in range(maps) if latency[f, y, x] != NEVER]
        if fired:
            t, _, f = min(fired)
            out[f, y, x] = t
    return out


def winners(latency, potential, k, radius):
    """Return the list of (map, y, x, time) of at most ``k`` winners, in the order of choice."""
    left = {site: (t, -potential[site]) for site, t in np.ndenumerate(latency) if t != NEVER}
    chosen = []
    while left and len(chosen) < k:
        f, y, x = min(left, key=lambda site: (*left[site], site))  # tuples (f, y, x) sort as flat indices do
        chosen.append((f, y, x, int(latency[f, y, x])))

        def excluded(site, f=f, y=y, x=x):
            return site[0] == f or (radius > 0 and abs(site[1] - y) <= radius and abs(site[2] - x) <= radius)

        left = {site: rank for site, rank in left.items() if not excluded(site)}
    return chosen


def causal(spikes, synapse, winner, stride, padding):
    """Tell whether the input of synapse (c, ky, kx) of the winner fired no later than the winner."""
    (c, ky, kx), (_, oy, ox, t) = synapse, winner
    place = (c, oy * stride[0] + ky - padding[0], ox * stride[1] + kx - padding[1])
    return any(pre <= t and (channel, y, x) == place for pre, channel, y, x in spikes)


def stdp(weights, spikes, winner, stride, padding, rates):
    """Return new weights after one winner; ``rates`` is (plus, minus, lower, upper, stabilizer) in float32.

    ``dw = a (w - lower) (upper - w)``, or ``dw = a`` without the stabilizer, then clipped.
    """
    plus, minus, lower, upper, stabilizer = rates
    f, one = winner[0], np.float32
    lower, upper = one(lower), one(upper)
    out = weights.copy()
    for synapse in np.ndindex(weights.shape[1:]):
        w = weights[(f, *synapse)]
        a = one(plus[f] if causal(spikes, synapse, winner, stride, padding) else minus[f])
        dw = a * ((w - lower) * (upper - w)) if stabilizer else a
        out[(f, *synapse)] = min(max(w + dw, lower), upper)
    return out


# The scalar oracle


def follow(spikes, weights, threshold, decay, end):
    """Follow one neuron; return its (time, potential) or None.

    ``spikes`` are (time, synapse) in order of arrival, ``weights`` one map (C, KY, KX), ``decay`` a function of dt
    or None, ``end`` the last time of the stimulus.
    """
    potential, last = np.float32(0), None
    for t in sorted({t for t, _ in spikes}):
        if decay is not None and last is not None:
            potential = potential * decay(t - last)
        last = t
        for when, synapse in spikes:
            if when == t:
                potential = potential + weights[synapse]
        if potential > threshold:
            return t, potential
    if np.isinf(threshold):
        if decay is not None and last is not None:
            potential = potential * decay(end - last)
        if potential > 0:
            return end, potential
    return None


def layer(spikes, shape, weights, threshold, stride, padding, decay, duration):
    """Return latency and float32 potential at the spike of every neuron of one sample, one neuron at a time."""
    maps, _, ky, kx = weights.shape
    _, height, width = shape
    oh, ow = ((n + 2 * p - k) // s + 1 for n, k, s, p in zip((height, width), (ky, kx), stride, padding, strict=True))
    latency = np.full((maps, oh, ow), NEVER, np.int64)
    at_spike = np.zeros((maps, oh, ow), np.float32)
    for oy, ox in np.ndindex(oh, ow):
        arrivals = []
        for t, c, y, x in sorted(spikes):
            i, j = y - oy * stride[0] + padding[0], x - ox * stride[1] + padding[1]
            if 0 <= i < ky and 0 <= j < kx:
                arrivals.append((t, (c, i, j)))
        for f in range(maps):
            spike = follow(arrivals, weights[f], threshold[f], decay, duration - 1)
            if spike is not None:
                latency[f, oy, ox], at_spike[f, oy, ox] = spike
    return latency, at_spike


def learn(samples, weights, simulate, competition, rates, stride, padding, decide=None):
    """Present samples one after another; return the weights and the winners of each presentation.

    ``simulate(spikes, weights)`` gives latency and potential; ``competition`` is (active or None, pointwise, k,
    radius); ``decide(i, map)`` gives the rates after sample ``i`` when ``map`` won first (reward), default ``rates``.
    """
    active, with_pointwise, k, radius = competition
    history = []
    for i, spikes in enumerate(samples):
        latency, potential = simulate(spikes, weights)
        if active is not None:
            latency[~active] = NEVER
        if with_pointwise:
            latency = pointwise(latency, potential)
        chosen = winners(latency, potential, k, radius)
        for winner in chosen:
            used = rates if decide is None else decide(i, chosen[0][0])
            weights = stdp(weights, spikes, winner, stride, padding, used)
        if chosen:  # as in SpykeTorch also the maps that did not win
            weights = np.clip(weights, np.float32(used[2]), np.float32(used[3]))
        history.append(chosen)
    return weights, history
