"""One row of inputs and one neuron per map over all of it, for examples worked by hand."""

import numpy as np

from eventsnn.backends import Geometry, Neurons, Update
from eventsnn.batches import put
from eventsnn.events import Events


def row(*spikes, width=3, duration=10, labels=None):
    """Return one sample on a 1x1xwidth grid from (time, x) pairs."""
    time, x = ([s[i] for s in spikes] for i in (0, 1))
    zeros = [0] * len(spikes)
    labels = None if labels is None else np.array(labels)
    return Events.from_columns(time, zeros, zeros, x, shape=(1, 1, width), duration=duration, labels=labels)


def row_neurons(*thresholds, width=3):
    return Neurons(Geometry((1, width)), np.array(thresholds, np.float32))


def rates(plus, minus, maps=1, **fields):
    return Update(np.full(maps, plus, np.float32), np.full(maps, minus, np.float32), **fields)


def learn_rows(backend, events, weights, neurons, update, reward=None, order=(0,)):
    """Learn with weights given as rows (maps, width); return them, and the winners."""
    packed = backend.pack(np.array(weights, np.float32)[:, None, None])
    winners = backend.learn(put(events, backend), np.array(order, np.int64), packed, neurons, update, reward)
    return backend.unpack(packed)[:, 0, 0].tolist(), winners.tolist()
