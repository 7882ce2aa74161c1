"""What the CPU's kernels do for a layer, counted: the regressors of the cost model."""

from __future__ import annotations

import numpy as np

from eventsnn.events import Events
from eventsnn.network import Network
from eventsnn.study.profiling import profile
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
        In bins, at most one spike of each input.

    Returns
    -------
    dict
        ``events``, ``operations``, ``stopped`` and ``macs`` as :func:`eventsnn.study.profile` counts them.
        ``listings``: spikes times the positions that see them. ``additions``, what is really added: blocks of 32 maps
        run until the last of their maps has fired, and not at all where too few spikes come for one to fire; a layer
        that decides leaves out positions where nobody can reach the largest potential.
        ``spikes`` that leave the layer and its pool. ``positions``: blocks of 32 maps times positions of the output.
        ``sites``: pixels of the input.
    """
    layer = profile(net, events, stop=1, intervals=1).layers[0]
    arrived = _arrived(net, events)
    blocks = -(-case.conv.features // LANES)
    listings = int(arrived[:, -1].sum())
    fired = net.run(events, stop=1)
    rows = blocks * _hopeful(net, arrived[:, -1], fired) if case.decides else _rows(net, arrived, _latency(fired))
    return {
        "events": events.n_events / len(events),
        "operations": float(layer.operations.mean()),
        "stopped": float(layer.stopped.mean()),
        "macs": float(layer.macs.mean()),
        "listings": listings / len(events),
        "additions": LANES * rows / len(events),
        "spikes": net.run(events).n_events / len(events),
        "positions": blocks * arrived.shape[2],
        "sites": case.shape[1] * case.shape[2],
    }


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


def _latency(fired: Events) -> np.ndarray:
    """Return when each neuron fires, the last time where it does not; int64 of shape (samples, maps, positions)."""
    latency = fired.to_latency().reshape(len(fired), fired.shape[0], -1)
    return np.where(latency < 0, fired.duration - 1, latency)


def _hopeful(net: Network, arrived: np.ndarray, fired: Events) -> int:
    """Return how many spikes (samples, positions) come where a neuron may reach the sample's largest potential."""
    assert fired.potential is not None
    best = np.zeros(len(fired))
    np.maximum.at(best, fired.sample_index(), fired.potential)
    return int(arrived[arrived * float(net.weights[0].max()) >= best[:, None]].sum())


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
