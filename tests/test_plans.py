"""What is kept of a layer from call to call is let go as soon as weights or thresholds change."""

from dataclasses import replace

import numpy as np
import pytest

from eventsnn import (
    RSTDP,
    STDP,
    Competition,
    Conv,
    Custom,
    Events,
    Network,
    Normal,
    Pool,
    ThresholdAdaptation,
    fit,
    inf,
)
from eventsnn.backends.cpu import CpuBackend
from eventsnn.backends.reference import ReferenceBackend
from eventsnn.memory import kept

SHAPE = (2, 8, 7)
# Weights from which few spikes make nobody fire, until some are learnt.
LAYERS = [Conv(5, 3, threshold=0.9, padding=1, init=Normal(0.1, 0.02)), Pool(2)]


def stimuli(n_samples=6, seed=0, duration=9):
    rng = np.random.default_rng(seed)
    latency = rng.integers(0, duration, (n_samples, *SHAPE))
    latency[rng.random(latency.shape) < 0.7] = -1
    return Events.from_latency(latency, duration=duration, labels=rng.integers(0, 2, n_samples))


def pair(layers=LAYERS):
    """Return a network on the CPU, which has run, and the same on the reference."""
    nets = [Network(layers, SHAPE, seed=2, backend=backend) for backend in (CpuBackend(1), ReferenceBackend())]
    assert_same(nets)
    return nets


def assert_same(nets, events=None):
    """Compare each sample by itself, as a layer, and a layer with its pool, before and after."""
    for one in events or (stimuli()[i] for i in range(3)):
        cpu, reference = ([*net.run(one, record=True), net.run(one)] for net in nets)
        assert all(a.equals(b) for a, b in zip(cpu, reference, strict=True))


def test_weights_and_thresholds_that_are_set_count_from_then_on():
    nets = pair()
    for weights, threshold in ((0.9, 3.0), (0.9, 0.5), (-0.4, 0.1), (0.2, inf), (0.2, 1.0)):
        for net in nets:
            net.set_weights(0, np.full((5, 2, 3, 3), weights))
            net.set_thresholds(0, np.linspace(1, 1.5, 5) * threshold)
        assert_same(nets)


def test_grids_and_durations_do_not_mix():
    cpu, reference = pair()
    packed = [net.packed(0) for net in (cpu, reference)]
    neurons = replace(cpu.neurons(0), threshold=np.full(5, np.inf, np.float32))
    for duration, height in ((9, 8), (4, 8), (4, 6), (9, 6), (9, 8)):
        events = stimuli(duration=duration)
        events = Events.from_latency(events.to_latency()[:, :, :height], duration=duration)
        left, right = (net.backend.conv(events, p, neurons) for net, p in zip((cpu, reference), packed, strict=True))
        assert left.equals(right)


def test_thresholds_that_change_in_place_count_from_then_on():
    cpu, reference = pair()
    neurons, events = cpu.neurons(0), stimuli()
    for threshold in (0.9, 0.2, 3.0, 0.3):
        neurons.threshold[:] = threshold
        left, right = (net.backend.conv(events, net.packed(0), neurons) for net in (cpu, reference))
        assert left.equals(right)


LEARNING = {
    "online": {"rule": STDP(0.3, -0.2)},
    "mini-batches": {"rule": STDP(0.3, -0.2), "mini_batch": 2},
    "own rule": {"rule": Custom(lambda w, dt: w + 0.2 if dt >= 0 else w - 0.3)},
    "own competition": {
        "rule": STDP(0.3, -0.2),
        "competition": Competition(lambda s: [0] * bool(len(s.time))),
    },
    "thresholds": {"rule": STDP(0.3, -0.2), "adaptation": ThresholdAdaptation(0.5, 0.6, floor=0.5)},
}


@pytest.mark.parametrize("name", LEARNING)
def test_what_is_learnt_counts_from_then_on(name):
    nets = pair()
    for _ in range(2):
        for net in nets:
            fit(net, stimuli(), layer=0, **LEARNING[name])
        np.testing.assert_array_equal(*(net.weights[0] for net in nets))
        assert_same(nets)


def test_deciding_counts_what_was_learnt():
    nets = pair([*LAYERS, Conv(4, 2, threshold=inf)])
    many = stimuli(40)
    for _ in range(2):
        for net in nets:
            fit(net, many, layer=2, rule=RSTDP((0.2, -0.1), (-0.1, 0.02)), classes=[0, 0, 1, 1])
        np.testing.assert_array_equal(*(net.decide(many, 0, 3).winners for net in nets))
        assert_same(nets)


def test_a_thousand_thresholds_do_not_fill_the_memory():
    net = pair()[0]
    for threshold in np.linspace(1, 3, 200):
        net.set_thresholds(0, threshold)
        net.run(stimuli(1))
    assert len(net.packed(0)._plans) < 50


def test_results_keep_their_memory_when_the_next_are_made():
    net, events = pair()[0], stimuli()
    first = [net.run(events[i], record=True) for i in range(6)]
    copies = [[[a.time.copy(), a.channel.copy(), a.potential is None or a.potential.copy()] for a in r] for r in first]
    net.run(stimuli(6, seed=1))
    for results, before in zip(first, copies, strict=True):
        for a, (time, channel, potential) in zip(results, before, strict=True):
            np.testing.assert_array_equal(a.time, time)
            np.testing.assert_array_equal(a.channel, channel)
            np.testing.assert_array_equal(a.potential is None or a.potential, potential)


def test_small_memory_is_kept_and_large_is_not():
    small, large = ((lambda n=n: (np.empty(n, np.uint8), (np.empty(8),))) for n in (100, 2**25))
    assert kept("small, of a test", small) is kept("small, of a test", small)
    assert kept("large, of a test", large) is not kept("large, of a test", large)
    for i in range(40):
        kept(("many, of a test", i), lambda: np.empty(2**20, np.uint8))
    from eventsnn.memory import _kept

    assert _kept.size == sum(sum(x.nbytes for x in _flat(made)) for made in _kept.made.values()) <= 2**24


def _flat(made):
    return [made] if isinstance(made, np.ndarray) else [x for part in made for x in _flat(part)]
