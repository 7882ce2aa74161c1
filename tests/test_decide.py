"""Deciding, one winner at the end of the stimulus: the CPU finds it through bounds, the reference without."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import MAPS, layers, seeds

from eventsnn.backends import Geometry, Neurons, Reward, Update, get
from eventsnn.backends.cpu import CpuBackend, _bounds
from eventsnn.backends.cpu import deciding as cpu_deciding
from eventsnn.backends.cpu import learning as cpu_learning
from eventsnn.backends.cpu._deficits import STRIDE, WIDE, add_deficits, byte_of
from eventsnn.events import Events
from eventsnn.jit import lean_kernel

REFERENCE = get("reference")
BACKENDS = [CpuBackend(threads=1), CpuBackend(threads=2)]
PRESENTATIONS = 40  # enough for the CPU to make its tables
SHAPE = (3, 6, 7)


def stimuli(rng, density, first_only):
    counts = rng.poisson(np.prod(SHAPE) * density, 7)
    n, offsets = counts.sum(), np.concatenate([[0], np.cumsum(counts)])
    columns = [rng.integers(0, size, n) for size in (15, *SHAPE)]
    events = Events.from_columns(*columns, shape=SHAPE, offsets=offsets, duration=15, labels=rng.integers(0, 3, 7))
    return events.first_spikes() if first_only else events


def lesson(rng, maps, lower, upper, dependence="stabilized", tau=None, rate=0.3, active=None):
    plus, minus = (rng.random(maps) * rate).astype(np.float32), (-rng.random(maps) * rate).astype(np.float32)
    common = {"lower": lower, "upper": upper, "dependence": dependence, "tau": tau}
    reward = Reward(rng.integers(0, 3, maps), Update(-plus, -minus, **common))
    return Update(plus, minus, active=active, **common), reward


def weights_of(rng, maps, lower, upper, spread=1.0, kernel=(3, 2)):
    unit = rng.random((maps, SHAPE[0], *kernel)) * spread
    return (lower + (upper - lower) * unit).astype(np.float32)


def learnt(backend, events, weights, update, reward, batch=1, geometry=None):
    rng = np.random.default_rng(5)
    packed = backend.pack(weights)
    neurons = Neurons(
        geometry or Geometry(weights.shape[2:], (1, 1), (1, 0)), np.full(len(weights), np.inf, np.float32)
    )
    order = rng.integers(0, len(events), PRESENTATIONS)
    return backend.learn(events, order, packed, neurons, update, reward, batch=batch), backend.unpack(packed)


def assert_same(events, weights, update, reward, threads=1, **kwargs):
    winners, changed = learnt(CpuBackend(threads=threads), events, weights, update, reward, **kwargs)
    expected_winners, expected = learnt(REFERENCE, events, weights, update, reward, **kwargs)
    assert np.array_equal(winners, expected_winners)
    assert np.array_equal(changed, expected)
    return winners


@pytest.fixture
def decisions(monkeypatch):
    """Count the calls of the kernel that decides."""
    calls, kernel = [], cpu_learning.decide_samples

    def counted(*args):
        calls.append(len(args[2].order))
        return kernel(*args)

    monkeypatch.setattr(cpu_learning, "decide_samples", counted)
    return calls


@pytest.mark.parametrize("bounds", [(0.2, 0.8), (-1.0, 1.0), (-1.0, -0.25), (0.0, 1e-3), (-5.0, 300.0)])
@pytest.mark.parametrize("density", [0.05, 0.5, 2.0])
@pytest.mark.parametrize("first_only", [True, False])
def test_bounds_and_busy_inputs(decisions, bounds, density, first_only):
    rng = np.random.default_rng(int(density * 100) + first_only)
    events = stimuli(rng, density, first_only)
    for maps in (3, 70):
        assert_same(events, weights_of(rng, maps, *bounds), *lesson(rng, maps, *bounds))
    assert sum(decisions) == 2 * PRESENTATIONS


@pytest.mark.parametrize("dependence", ["additive", "stabilized", "multiplicative", "proportional"])
@pytest.mark.parametrize("tau", [None, 4.0])
@pytest.mark.parametrize("batch", [1, 3, 16])
def test_rules_and_mini_batches(decisions, dependence, tau, batch):
    rng = np.random.default_rng(batch)
    update, reward = lesson(rng, 33, 0.0, 1.0, dependence, tau, active=rng.random(33) < 0.7)
    assert_same(stimuli(rng, 0.4, True), weights_of(rng, 33, 0, 1), update, reward, threads=2, batch=batch)
    assert decisions


def test_equal_potentials_and_strides_beyond_the_kernel(decisions):
    rng = np.random.default_rng(0)
    weights = np.full((40, SHAPE[0], 2, 1), 0.5, np.float32)
    update, reward = lesson(rng, 40, 0.0, 1.0, rate=0.0)
    winners = assert_same(stimuli(rng, 0.5, True), weights, update, reward, geometry=Geometry((2, 1), (3, 2), (2, 1)))
    assert (winners[:, 0, 0] == 0).all()  # the lowest map
    assert decisions


def test_weights_outside_the_bounds_are_clipped_by_the_first_winner(decisions):
    rng = np.random.default_rng(1)
    events = stimuli(rng, 0.3, True)
    weights = weights_of(rng, 40, 0.0, 1.0, spread=1.5)
    assert_same(events, weights, *lesson(rng, 40, 0.0, 1.0))
    assert sum(decisions) == PRESENTATIONS - 1
    silent = events.where(np.zeros(events.n_events, bool))
    assert_same(silent, weights, *lesson(rng, 40, 0.0, 1.0))
    assert sum(decisions) == PRESENTATIONS - 1  # nobody ever won, so nothing was clipped


def test_rules_of_ones_own(decisions):
    def rule(w, dt, potential, reward):
        return w + 0.25 * (1 if dt >= 0 else -1) * (1 - w) * w * (1 + reward)

    rng = np.random.default_rng(2)
    update, reward = lesson(rng, 33, 0.0, 1.0)
    own = Update(update.plus, update.minus, function=rule)
    reward = Reward(reward.classes, Update(reward.punish.plus, reward.punish.minus, function=rule))
    assert_same(stimuli(rng, 0.5, False), weights_of(rng, 33, 0, 1), own, reward)
    assert decisions


def test_beyond_what_bounds_allow_for_learning_takes_the_other_path(decisions, monkeypatch):
    monkeypatch.setattr(_bounds, "_MOST_SPIKES", 20)
    rng = np.random.default_rng(3)
    events = stimuli(rng, 0.1, True)
    for few, expected in ((True, PRESENTATIONS), (False, 0)):
        decisions.clear()
        some = events if few else Events.from_latency(np.zeros((7, *SHAPE), int), duration=15, labels=events.labels)
        assert_same(some, weights_of(rng, 5, 0, 1), *lesson(rng, 5, 0.0, 1.0))
        assert sum(decisions) == expected


def test_deficits_add_up_two_by_two_and_no_lane_overflows():
    @lean_kernel
    def summed(table, rows, n, sums):
        add_deficits(table, 0, rows, 0, n, sums, 0)

    rng = np.random.default_rng(10)
    rows = rng.integers(0, 9, STRIDE).astype(np.int32)
    for largest, n in ((127, 0), (127, 1), (127, 6), (127, STRIDE - 1), (127, STRIDE), (255, 7), (255, STRIDE)):
        table = rng.integers(0, largest + 1, (9, WIDE)).astype(np.uint8)
        table[:, 0] = largest
        listed, sums = table[rows[:n]].astype(int), np.zeros(WIDE, np.int32)
        pairs = np.minimum(255, np.add.reduceat(listed, np.arange(0, n, 2)) if n else listed)
        summed(table.ravel(), rows, n, sums)
        expected = pairs.sum(axis=0)
        assert sums.tolist() == [expected[byte_of(f)] for f in range(WIDE)]


# Without learning


@pytest.fixture
def finds(monkeypatch):
    """Collect how many samples each call of the kernel that finds winners has."""
    calls, kernel = [], cpu_deciding.decide_samples

    def counted(*args):
        if args[2].find:
            calls.append(len(args[2].order))
        return kernel(*args)

    monkeypatch.setattr(cpu_deciding, "decide_samples", counted)
    return calls


MANY = 40  # samples, for which the CPU makes tables


def assert_decides(backend, events, weights, neurons, many=False):
    """Compare with the definition: the first winner among the reference's spikes, and their number.

    ``many`` shows the samples again and again, each a few times.
    """
    spikes = REFERENCE.conv(events, REFERENCE.pack(weights), neurons)
    shown = np.arange(MANY if many and len(events) else len(events)) % max(len(events), 1)
    decision = backend.decide(events[shown], backend.pack(weights), neurons)
    np.testing.assert_array_equal(decision.winners, REFERENCE.winners(spikes, 1, 0)[shown, 0])
    np.testing.assert_array_equal(decision.spikes, np.diff(spikes.offsets)[shown])
    return decision


def infinite(weights, kernel=(1, 1), **kwargs):
    return Neurons(Geometry(kernel, **kwargs), np.full(len(weights), np.inf, np.float32))


@given(layers(max_samples=3), st.sampled_from([*BACKENDS, REFERENCE]), st.booleans())
def test_any_layer_decides(layer, backend, many):
    assert_decides(backend, layer.events, layer.weights, layer.neurons, many)


@given(layers(MAPS, 3, leaky=False), seeds, st.sampled_from([0, 0.5, 0.95]), st.sampled_from(BACKENDS))
def test_decision_layers(layer, rng, zeros, backend):
    weights = np.abs(layer.weights) * (rng.random(layer.weights.shape) >= zeros)
    neurons = replace(layer.neurons, threshold=np.full(len(weights), np.inf, np.float32))
    assert_decides(backend, layer.events, weights.astype(np.float32), neurons, many=True)


@pytest.mark.parametrize("bounds", [(0.2, 0.8), (0.0, 1.0), (0.0, 1e-3), (5.0, 300.0), (1e-45, 1e-44)])
@pytest.mark.parametrize("density", [0.05, 0.5, 2.0])
@pytest.mark.parametrize("threads", [1, 3])
def test_bounds_are_found_for_any_weights_that_are_not_negative(finds, bounds, density, threads):
    rng = np.random.default_rng(int(density * 100))
    events = stimuli(rng, density, False)
    for maps in (3, 70):
        weights = weights_of(rng, maps, *bounds)
        assert_decides(CpuBackend(threads), events, weights, infinite(weights, (3, 2), padding=(1, 0)), many=True)
    assert sum(finds) == 2 * MANY
    assert len(finds) == 2  # in the thread that asks


@pytest.mark.parametrize("backend", [REFERENCE, *BACKENDS], ids=["reference", "cpu", "threads"])
def test_of_equal_potentials_the_lowest_map_and_then_the_first_position_wins(backend, finds):
    latency = np.full((40, 1, 2, 3), -1)
    latency[:, 0, 1, 0], latency[:, 0, 0, 2], latency[::4] = 3, 5, -1
    events, weights = Events.from_latency(latency, duration=9), np.full((35, 1, 1, 1), 0.5, np.float32)
    weights[:3] = [[[[0.25]]], [[[0.0]]], [[[0.5]]]]
    winners, spikes = backend.decide(events, backend.pack(weights), infinite(weights))
    assert winners[::4].tolist() == [[-1] * 4] * 10
    assert spikes[::4].tolist() == [0] * 10
    assert winners[1::4].tolist() == [[2, 0, 2, 8]] * 10
    assert spikes[1::4].tolist() == [34 * 2] * 10
    assert sum(finds) == (0 if backend is REFERENCE else 40)


def test_after_learning_decisions_are_those_of_the_new_weights(finds):
    rng = np.random.default_rng(4)
    events, weights = stimuli(rng, 0.5, True)[np.arange(MANY) % 7], weights_of(rng, 40, 0, 1)
    update, reward = lesson(rng, 40, 0.0, 1.0)
    backend, neurons = CpuBackend(1), infinite(weights, (3, 2))
    packed = backend.pack(weights)
    before = backend.decide(events, packed, neurons)
    backend.learn(events, np.arange(len(events)), packed, neurons, update, reward)
    after = backend.decide(events, packed, neurons)
    expected = assert_decides(backend, events, backend.unpack(packed), neurons)
    np.testing.assert_array_equal(after.winners, expected.winners)
    assert (before.winners != after.winners).any()
    assert sum(finds) == 3 * len(events)


def test_few_samples_take_the_tables_only_where_there_are_some(finds):
    rng = np.random.default_rng(5)
    events, weights = stimuli(rng, 0.5, True)[np.arange(MANY) % 7], weights_of(rng, 40, 0, 1)
    backend, neurons = CpuBackend(1), infinite(weights, (3, 2))
    packed = backend.pack(weights)
    first = backend.decide(events[:3], packed, neurons)
    assert finds == []
    whole, again = backend.decide(events, packed, neurons), backend.decide(events[:3], packed, neurons)
    assert finds == [40, 3]
    for some, all_, same in zip(first, whole, again, strict=True):
        np.testing.assert_array_equal(some, all_[:3])
        np.testing.assert_array_equal(some, same)


def test_small_calls_have_tables_once_they_are_worth_it_until_the_weights_change(finds):
    rng = np.random.default_rng(8)
    events, weights = stimuli(rng, 0.5, True)[np.arange(MANY) % 7], weights_of(rng, 40, 0, 1)
    update, reward = lesson(rng, 40, 0.0, 1.0)
    backend, neurons = CpuBackend(1), infinite(weights, (3, 2))
    packed = backend.pack(weights)
    for expected in ([], [5]):
        for first in range(0, 20, 5):
            part = events[first : first + 5]
            decision = backend.decide(part, packed, neurons)
            np.testing.assert_array_equal(
                decision.winners, REFERENCE.decide(part, REFERENCE.pack(backend.unpack(packed)), neurons).winners
            )
        assert finds == [5, *expected]
        backend.learn(events[:5], np.arange(5), packed, neurons, update, reward)


def test_threads_that_decide_with_the_same_weights_make_tables_once(finds, monkeypatch):
    made, make = [], cpu_deciding.make_tables

    def slowly(*args):
        made.append(args)
        time.sleep(0.05)  # so that the others come meanwhile
        return make(*args)

    monkeypatch.setattr(cpu_deciding, "make_tables", slowly)
    rng = np.random.default_rng(9)
    events, weights = stimuli(rng, 0.5, True)[np.arange(MANY) % 7], weights_of(rng, 40, 0, 1)
    backend, neurons = CpuBackend(1), infinite(weights, (3, 2))
    packed = backend.pack(weights)
    with ThreadPoolExecutor(4) as pool:
        decisions = list(pool.map(lambda _: backend.decide(events, packed, neurons), range(4)))
    assert len(made) == 1
    assert finds == [40] * 4
    expected = REFERENCE.decide(events, REFERENCE.pack(weights), neurons)
    for decision in decisions:
        np.testing.assert_array_equal(decision.winners, expected.winners)
        np.testing.assert_array_equal(decision.spikes, expected.spikes)


@pytest.mark.parametrize("values", [(-1.0, 1.0), (-1.0, 0.0), (0.0, 0.0), (3e38, 3e38), (1e37, 3e38)])
def test_where_there_are_no_bounds_potentials_are_computed(finds, values):
    rng = np.random.default_rng(6)
    events, weights = stimuli(rng, 0.5, False), weights_of(rng, 5, *values)
    with np.errstate(over="ignore"):
        assert_decides(BACKENDS[0], events, weights, infinite(weights, (3, 2)), many=True)
    assert finds == []


def test_beyond_what_bounds_allow_for_potentials_are_computed(finds, monkeypatch):
    monkeypatch.setattr(_bounds, "_MOST_SPIKES", 20)
    weights = weights_of(np.random.default_rng(7), 5, 0, 1)
    latency = np.full((40, np.prod(SHAPE)), -1)
    latency[:, :20] = 0
    assert_decides(BACKENDS[0], Events.from_latency(latency.reshape(40, *SHAPE)), weights, infinite(weights, (3, 2)))
    assert finds == [40]
    latency[7, 20] = 0
    assert_decides(BACKENDS[0], Events.from_latency(latency.reshape(40, *SHAPE)), weights, infinite(weights, (3, 2)))
    assert finds == [40]
