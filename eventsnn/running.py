"""One batch through some layers of a network, all of it at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from eventsnn.backends import Decision, Pooled
from eventsnn.batches import fetch
from eventsnn.events import Events
from eventsnn.layers import Conv, Dense, Layer, Pool

if TYPE_CHECKING:
    from eventsnn.network import Network


class Stage(NamedTuple):
    """What a layer makes of a batch: how many spikes in each sample, and these, where they are kept."""

    counts: np.ndarray
    events: Events | None


def recorded(net: Network, batch: Events, start: int, stop: int) -> list[Events]:
    """Return the spikes of each of ``layers[start:stop]``."""
    outputs, spikes = [], net.there(batch)
    for layer in range(start, stop):
        spikes = one(net, layer, spikes)
        outputs.append(fetch(spikes, net.backend))
    return outputs


def counted(net: Network, batch: Events, start: int, stop: int) -> list[Stage]:
    """Return the batch and what each of ``layers[start:stop]`` makes of it.

    Spikes are kept of the batch, of the last layer and where the next one has weights; others are counted.
    """
    whole = fetch(batch, net.backend)
    stages = [Stage(np.diff(whole.offsets), whole)]
    spikes, layer = net.there(batch), start
    while layer < stop:
        if pooled_next(net, layer, stop):
            spikes, counts = with_pool(net, layer, spikes, counted=True)
            assert counts is not None
            stages.append(Stage(counts, None))
            layer += 1
        else:
            spikes = one(net, layer, spikes)
        layer += 1
        kept = fetch(spikes, net.backend) if layer in (stop, *net.trainable) else None
        stages.append(Stage(np.diff(net.backend.fetch(spikes.offsets) if kept is None else kept.offsets), kept))
    return stages


def through(net: Network, batch: Events, start: int, stop: int) -> Events:
    """Return the spikes of the last of ``layers[start:stop]``, in the memory of the backend."""
    spikes, layer = net.there(batch), start
    while layer < stop:
        if pooled_next(net, layer, stop):
            spikes, layer = with_pool(net, layer, spikes).events, layer + 2
        else:
            spikes, layer = one(net, layer, spikes), layer + 1
    return spikes


def decide(net: Network, batch: Events, start: int, stop: int) -> Decision:
    """Return who wins first in the last of ``layers[start:stop]``."""
    last = stop - 1
    if last < start or last not in net.trainable:
        return net.backend.first_winners(through(net, batch, start, stop))
    return net.backend.decide(through(net, batch, start, last), net.packed(last), net.neurons(last))


def pooled_next(net: Network, layer: int, stop: int) -> bool:
    """Return whether spikes of a layer go straight into the pool after it."""
    return layer in net.trainable and layer + 1 < stop and isinstance(net.layers[layer + 1], Pool)


def with_pool(net: Network, layer: int, spikes: Events, counted: bool = False) -> Pooled:
    """Run a layer and the pool after it, in the memory of the backend."""
    pool = net.layers[layer + 1]
    assert isinstance(pool, Pool)
    geometry = pool.geometry(net.shapes[layer + 1])
    return net.backend.conv_pool(spikes, net.packed(layer), net.neurons(layer), geometry, counted)


def one(net: Network, layer: int, spikes: Events) -> Events:
    """Run a layer, in the memory of the backend."""
    what = net.layers[layer]
    if isinstance(what, Conv | Dense):
        return net.backend.conv(spikes, net.packed(layer), net.neurons(layer))
    return what.run(spikes, net.backend)


def operations(layer: Layer, events: Events | None, samples: int) -> np.ndarray:
    """Return the synaptic operations of each sample that a layer receives, int64; 0 where it has no synapses."""
    if isinstance(layer, Conv | Dense):
        assert events is not None  # kept where the next layer has weights
        return layer.synaptic_operations(events)
    return np.zeros(samples, np.int64)
