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


def deciding(spikes, synapse, winner, stride, padding):
    """Return the time of the input that decides about synapse (c, ky, kx) of a winner, None without input.

    The last one no later than the winner, without one the first after it.
    """
    (c, ky, kx), (_, oy, ox, t) = synapse, winner
    place = (c, oy * stride[0] + ky - padding[0], ox * stride[1] + kx - padding[1])
    times = [pre for pre, channel, y, x in spikes if (channel, y, x) == place]
    before = [pre for pre in times if pre <= t]
    return max(before) if before else min(times, default=None)


def exponential(beta, u):
    """Return exp(-beta u) as it is between two of 4097 float32 values, in float32."""
    one = np.float32
    x = min(max(u, one(0)), one(1)) * one(4096)
    i = min(int(x), 4095)
    low, high = (one(np.exp(-beta * j / 4096)) for j in (i, i + 1))
    return low + (x - one(i)) * (high - low)


def new_weight(w, dt, f, rule, potential, reward):
    """Return one weight after a winner of map ``f``, not clipped; ``dt = t - t_pre``, None without input.

    ``rule`` has plus, minus, lower, upper, dependence, beta, decay (a function of ``|dt|`` or None) and function (a
    user's, of (w, dt, potential, reward), or None).
    """
    one = np.float32
    if rule["function"] is not None:
        return one(rule["function"](float(w), -np.inf if dt is None else float(dt), float(potential), reward))
    lower, upper = one(rule["lower"]), one(rule["upper"])
    causal = dt is not None and dt >= 0
    a = rule["plus"][f] if causal else rule["minus"][f]
    if rule["decay"] is not None:
        a = a * (one(0) if dt is None else rule["decay"](abs(dt)))
    below, above = w - lower, upper - w
    match rule["dependence"]:
        case "additive":
            return w + a
        case "stabilized":
            return w + a * (below * above)
        case "multiplicative":
            return w + a * exponential(rule["beta"], (below if causal else above) / (upper - lower))
        case "proportional":
            return w + a * (above if causal else below)


def plasticity(weights, spikes, winner, potential, stride, padding, rule, reward=0.0):
    """Return new weights after one winner, clipped."""
    f, t = winner[0], winner[3]
    out = weights.copy()
    for synapse in np.ndindex(weights.shape[1:]):
        pre = deciding(spikes, synapse, winner, stride, padding)
        dt = None if pre is None else t - pre
        w = new_weight(weights[(f, *synapse)], dt, f, rule, potential, reward)
        out[(f, *synapse)] = min(max(w, np.float32(rule["lower"])), np.float32(rule["upper"]))
    return out


def adapt(threshold, winner, duration, active, rate, target, floor):
    """Return the thresholds after one winner: toward the target time, the winner's up, its rivals' down."""
    one = np.float32
    maps = [f for f in range(len(threshold)) if active is None or active[f]]
    out = threshold.copy()
    for f in maps:
        level = threshold[f] - one(rate) * (one(winner[3]) / one(duration) - one(target))
        level = level + one(rate) if f == winner[0] else level - one(rate / (len(maps) - 1))
        out[f] = max(level, one(floor))
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


def learn(samples, weights, threshold, simulate, compete, change, stride, padding, batch=1):
    """Present samples; return weights, thresholds and the winners of each presentation.

    ``simulate(spikes, weights, threshold)`` gives latency and potential, ``compete(i, latency, potential)`` the winners
    of presentation ``i``; ``change(i, map)`` says what follows if ``map`` wins first: rule, reward, and a function
    that adapts thresholds to one winner. Of each ``batch`` the winners are found before anything changes.
    """
    history = []
    for start in range(0, len(samples), batch):
        part = range(start, min(start + batch, len(samples)))
        outputs = [simulate(samples[i], weights, threshold) for i in part]
        chosen = [compete(i, *output) for i, output in zip(part, outputs, strict=True)]
        for i, (_, potential), won in zip(part, outputs, chosen, strict=True):
            for winner in won:
                rule, reward, adapted = change(i, won[0][0])
                value = potential[winner[:3]]
                weights = plasticity(weights, samples[i], winner, value, stride, padding, rule, reward)
                threshold = adapted(threshold, winner)
            if won:  # as in SpykeTorch also the maps that did not win
                weights = np.clip(weights, np.float32(rule["lower"]), np.float32(rule["upper"]))
        history += chosen
    return weights, threshold, history
