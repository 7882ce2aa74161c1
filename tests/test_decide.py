"""Learning to decide, one winner at the end of the stimulus: the CPU finds it through bounds, the reference without."""

import numpy as np
import pytest

from eventsnn.backends import Geometry, Neurons, Reward, Update, get
from eventsnn.backends.cpu import CpuBackend
from eventsnn.backends.cpu import learning as cpu_learning
from eventsnn.events import Events

PRESENTATIONS = 60  # enough for the CPU to make its tables
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
    expected_winners, expected = learnt(get("reference"), events, weights, update, reward, **kwargs)
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
