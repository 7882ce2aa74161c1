"""What the CPU's kernels do for a layer, counted: the regressors of the cost model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from eventsnn.events import Events
from eventsnn.network import Network
from eventsnn.study.shapes import LANES, Case


def counted(case: Case, net: Network, events: Events) -> dict[str, float]:
    """Count the work of a layer, per sample.

    Parameters
    ----------
    case : Case
        The layer.
    net : Network
        With its weights; where it computes does not matter.
    events : Events
        At most one spike of each input.

    Returns
    -------
    dict
        ``events``, ``sites`` (pixels of the input), ``positions`` (blocks of 32 maps times positions of the output),
        ``operations`` (spikes times the synapses that they reach), ``stopped`` (those that reach a neuron after the time
        of its spike), ``listings`` (spikes times the positions that see them), ``additions`` (what is really added:
        blocks of 32 maps run until the last of their maps has fired, and not at all where too few spikes come for one
        to fire), ``spikes`` (that leave the layer and its pool), ``macs`` (multiply-accumulates of the dense layer, all
        bins).
    """
    fired = net.run(events, stop=1)
    arrived = _arrived(net, events)  # (samples, times, positions): how many spikes until then
    total = arrived[:, -1]
    latency = _latency(fired, len(arrived[0]))
    maps, positions, n = case.conv.features, total.shape[1], len(events)
    blocks = -(-maps // LANES)
    listings = int(total.sum())
    if case.decides:
        done = listings * maps
        rows = listings * blocks
    else:
        done = sum(int(np.take_along_axis(arrived, latency[:, [m]], 1).sum()) for m in range(maps))
        rows = _rows(net, arrived, latency)
    counts: Mapping[str, float] = {
        "events": events.n_events,
        "operations": int(case.conv.synaptic_operations(events).sum()),
        "stopped": listings * maps - done,
        "listings": listings,
        "additions": LANES * rows,
        "spikes": net.run(events).n_events,
    }
    fixed = {
        "sites": case.shape[1] * case.shape[2],
        "positions": blocks * positions,
        "macs": positions * net.weights[0].size * (1 if case.decides else events.duration),
    }
    return {name: count / n for name, count in counts.items()} | fixed


def _arrived(net: Network, events: Events) -> np.ndarray:
    """Return how many spikes each position has seen until each time, int64 of shape (samples, times, positions)."""
    geometry = net.neurons(0).geometry
    (kh, kw), (sh, sw), (ph, pw) = geometry.kernel, geometry.stride, geometry.padding
    _, height, width = events.shape
    seen = np.zeros((len(events), events.duration, height, width), np.int64)
    np.add.at(seen, (events.sample_index(), events.time, events.y, events.x), 1)
    table = np.pad(seen, ((0, 0), (0, 0), (ph + 1, ph), (pw + 1, pw))).cumsum(1).cumsum(2).cumsum(3)
    boxes = table[..., kh:, kw:] - table[..., kh:, :-kw] - table[..., :-kh, kw:] + table[..., :-kh, :-kw]
    return boxes[..., ::sh, ::sw].reshape(len(events), events.duration, -1)


def _latency(fired: Events, times: int) -> np.ndarray:
    """Return when each neuron fires, the last time where it does not; int64 of shape (samples, maps, positions)."""
    latency = fired.to_latency().reshape(len(fired), fired.shape[0], -1)
    return np.where(latency < 0, times - 1, latency)


def _rows(net: Network, arrived: np.ndarray, latency: np.ndarray) -> int:
    """Return how many rows of 32 weights are added."""
    weights, thresholds, rows = net.weights[0], net.thresholds[0], 0
    for first in range(0, len(weights), LANES):
        block = slice(first, first + LANES)
        until = np.take_along_axis(arrived, latency[:, block].max(1)[:, None], 1)[:, 0]
        largest = float(weights[block].max())
        quiet = float(thresholds[block].min()) / largest if largest > 0 else np.inf
        rows += int(until[arrived[:, -1] > quiet].sum())
    return rows
