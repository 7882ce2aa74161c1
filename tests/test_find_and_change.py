"""Winners found and weights changed in two steps, as devices that share a mini-batch do."""

from dataclasses import replace

import numpy as np
import pytest
import strategies
from doubles import REFERENCE, DeviceBackend
from hypothesis import given

from eventsnn.backends import Found, Lesson
from eventsnn.backends.cpu import CpuBackend
from eventsnn.batches import put

BACKENDS = (REFERENCE, CpuBackend(threads=1), CpuBackend(threads=2), DeviceBackend())


def in_two_steps(drawn, first, second):
    """Return weights, thresholds and winners after one mini-batch: found by a backend, applied by another."""
    layer = drawn.layer
    neurons = replace(layer.neurons, threshold=layer.neurons.threshold.copy())
    lesson = Lesson(neurons, drawn.update, drawn.reward, drawn.positions, 1)
    events, packed = layer.events[drawn.order], second.pack(layer.weights)
    found = first.find(put(events, first), first.pack(layer.weights), lesson)
    unchanged = second.unpack(packed), neurons.threshold.copy()
    assert np.array_equal(unchanged[0], layer.weights)
    assert np.array_equal(unchanged[1], layer.neurons.threshold)
    after = second.change(put(events, second), found, packed, lesson)
    return second.unpack(after), neurons.threshold, found.winners


@given(strategies.lessons())
def test_find_and_change_are_a_mini_batch(drawn):
    whole = replace(drawn, batch=max(len(drawn.order), 1))
    expected = whole.learn(REFERENCE)
    for first in BACKENDS:
        for second in BACKENDS:
            for found, wanted in zip(in_two_steps(drawn, first, second), expected, strict=True):
                assert np.array_equal(found, wanted)


@pytest.mark.parametrize("backend", BACKENDS, ids=["reference", "cpu", "cpu, two threads", "device"])
def test_labels_and_winners_are_checked(backend):
    rng = np.random.default_rng(0)
    events = strategies.Events.from_latency(rng.integers(0, 3, (2, 1, 3, 3)), duration=3)
    neurons = strategies.Neurons(strategies.Geometry((3, 3)), np.ones(2, np.float32))
    rates = np.ones(2, np.float32)
    update = strategies.Update(rates, -rates)
    packed = backend.pack(np.ones((2, 1, 3, 3), np.float32))
    rewarded = Lesson(neurons, update, strategies.Reward(np.arange(2), update), None, 1)
    with pytest.raises(ValueError, match="expects events with labels"):
        backend.find(put(events, backend), packed, rewarded)
    nobody = Found(np.full((2, 1, 4), -1), np.zeros((2, 1), np.float32))
    with pytest.raises(ValueError, match="expects events with labels"):
        backend.change(put(events, backend), nobody, packed, rewarded)
