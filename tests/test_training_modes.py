"""Ways of training beyond the usual one: thresholds that adapt, maps that rest, patches, mini-batches, own rules."""

from dataclasses import replace

import numpy as np
import pytest
from doubles import InBatches

from eventsnn.backends import get
from eventsnn.backends.cpu import CpuBackend
from eventsnn.events import Events
from eventsnn.layers import Conv, Dense, Normal, Pool, inf
from eventsnn.network import Network
from eventsnn.plasticity import (
    RSTDP,
    STDP,
    WTA,
    Annealing,
    Competition,
    Custom,
    Doubling,
    Suppression,
    ThresholdAdaptation,
)
from eventsnn.train import fit

REFERENCE = get("reference")
CONV = Conv(6, (3, 2), stride=(1, 2), padding=(1, 0), threshold=2.4, init=Normal(0.6, 0.2))
SHAPE = (2, 6, 6)
RULE = STDP(0.05, -0.04)
ADAPTATION = ThresholdAdaptation(0.3, 0.6, floor=1.5)
STILL = Doubling(every=7, limit=1, factor=1)  # cuts training into chunks of 7 and changes nothing


def random_events(n_samples=23, seed=0, duration=9):
    rng = np.random.default_rng(seed)
    latency = rng.integers(-duration // 2, duration, (n_samples, *SHAPE)).clip(-1)
    return Events.from_latency(latency, duration=duration, labels=rng.integers(0, 3, n_samples))


def network(backend="cpu", layers=(CONV,)):
    return Network(layers, SHAPE, backend=backend)


def trained(backend="cpu", events=None, **fields):
    """Return weights and thresholds of one layer after training, and the history."""
    net = network(backend)
    arguments = {"layer": 0, "rule": RULE, "competition": WTA(2, radius=1)} | fields
    history = fit(net, random_events() if events is None else events, **arguments)
    return net.weights[0], net.thresholds[0], history


def same(found, expected):
    return all(np.array_equal(a, b) for a, b in zip(found[:2], expected[:2], strict=True))


EVERYTHING = {
    "epochs": 3,
    "adaptation": ADAPTATION,
    "suppression": Suppression(1.2, every=9),
    "patches": True,
    "schedule": Annealing(0.8),
    "dropout": 0.2,
    "seed": 5,
}


@pytest.mark.parametrize("make", [lambda events: events, InBatches], ids=["in memory", "from a file"])
@pytest.mark.parametrize("limits", [{}, {"memory": 0, "batch_size": 4}], ids=["cached", "streamed"])
def test_results_do_not_depend_on_how_the_data_come(backend, make, limits):
    layers = (Conv(5, 3, padding=1, threshold=2.5), Pool(2), replace(CONV, threshold=1.5))
    nets = [network("reference", layers), network(backend, layers)]
    fit(nets[0], random_events(), layer=2, rule=RULE, **EVERYTHING)
    fit(nets[1], make(random_events()), layer=2, rule=RULE, **EVERYTHING, **limits)
    for arrays in ("weights", "thresholds"):
        first, second = (getattr(net, arrays) for net in nets)
        assert all(np.array_equal(first[i], second[i]) for i in (0, 2))
    assert np.array_equal(nets[1].thresholds[0], network("reference", layers).thresholds[0])  # frozen
    assert not np.array_equal(nets[1].thresholds[2], network("reference", layers).thresholds[2])


def test_adaptation_equals_the_loop_by_hand(backend):
    net, events, competition = network(backend), random_events(), WTA(2, radius=1)
    for sample in (events[i] for i in range(len(events))):
        winners = competition(net.run(sample), backend)
        weights = RULE(net.weights[0], sample, winners, net.neurons(0).geometry)
        net.set_thresholds(0, ADAPTATION(net.thresholds[0], winners, events.duration))
        net.set_weights(0, weights)
    assert same(trained(backend, adaptation=ADAPTATION), (net.weights[0], net.thresholds[0]))
    assert len(np.unique(net.thresholds[0])) > 1
    assert net.thresholds[0].min() >= 1.5


def test_annealing_multiplies_all_rates_after_each_epoch():
    net, other = network(), network()
    fit(net, random_events(), layer=0, rule=RULE, adaptation=ADAPTATION, epochs=3, schedule=Annealing(0.5))
    for factor in (1, 0.5, 0.25):
        fit(other, random_events(), layer=0, rule=RULE.scaled(factor), adaptation=ADAPTATION.scaled(factor))
    assert np.array_equal(net.weights[0], other.weights[0])
    assert np.array_equal(net.thresholds[0], other.thresholds[0])


def test_annealing_of_reward_and_punishment():
    rule = RSTDP((0.25, -0.125), (-0.25, 0.125), adaptive=None)
    assert rule.scaled(0.5) == RSTDP((0.125, -0.0625), (-0.125, 0.0625), adaptive=None)
    layers, nets = (Dense(6, threshold=inf),), []
    for run in ([(rule, 2, Annealing(0.5))], [(rule, 1, None), (rule.scaled(0.5), 1, None)]):
        nets.append(network(layers=layers))
        for now, epochs, schedule in run:
            fit(nets[-1], random_events(), layer=0, rule=now, epochs=epochs, schedule=schedule)
    assert np.array_equal(nets[0].weights[0], nets[1].weights[0])


def test_suppression_by_hand():
    wins = np.array([6, 1, 0, 5])  # 3 on average
    assert Suppression(2.0).rested(wins).tolist() == [True] * 4
    assert Suppression(1.9).rested(wins).tolist() == [False, True, True, True]
    assert Suppression(1.0).rested(np.zeros(3, int)).tolist() == [True] * 3


def test_suppressed_maps_rest_until_the_next_decision():
    events, rule, by_hand = random_events(), STDP(0.01, -0.01), network("reference")
    weights, _, history = trained(events=events, rule=rule, epochs=2, suppression=Suppression(1.5, every=10))
    order, active, rests = np.tile(np.arange(23), 2), np.ones(6, bool), []
    for start in range(0, 46, 10):
        update = rule.update(6, WTA(2, radius=1), active)
        part = order[start : start + 10]
        winners = REFERENCE.learn(events, part, by_hand.packed(0), by_hand.neurons(0), update)[..., 0]
        wins = np.bincount(winners[winners >= 0], minlength=6)
        assert wins[~active].sum() == 0
        active = wins <= 1.5 * wins.sum() / 6
        rests.append(int((~active).sum()))
    assert max(rests) > 0
    assert np.array_equal(weights, by_hand.weights[0])
    assert sum(epoch.winners.sum() for epoch in history.epochs) > 40


# Patches


def cut(events, position):
    """Return the receptive field of one output position, as a grid of its own."""
    y0, x0 = (position // 3) - 1, (position % 3) * 2
    y, x = events.y.astype(int) - y0, events.x.astype(int) - x0
    inside = (y >= 0) & (y < 3) & (x >= 0) & (x < 2)
    columns = events.time[inside], events.channel[inside], y[inside], x[inside]
    return Events.from_columns(*columns, shape=(2, 3, 2), duration=events.duration)


def test_patches_are_learnt_as_if_there_were_nothing_else(backend):
    """The same as cutting the patch out and showing it to neurons that see nothing but it."""
    seed, events = 3, random_events()
    stream = np.random.Philox(np.random.SeedSequence(seed, spawn_key=(0, 2)))
    drawn = (stream.random_raw(4 * 46)[::4] % np.uint64(18)).astype(int)  # output grid 6 x 3
    assert len(set(drawn)) > 12
    alone = Network([replace(CONV, padding=0, stride=1)], (2, 3, 2), backend=backend)
    alone.set_weights(0, network().weights[0])
    for i, position in enumerate(drawn):
        fit(alone, cut(events[i % 23], position), layer=0, rule=RULE)
    found = trained(backend, events, competition=WTA(1), epochs=2, patches=True, seed=seed)
    assert np.array_equal(found[0], alone.weights[0])


def test_patches_depend_on_the_seed_and_not_on_chunks(backend):
    fields = {"patches": True, "epochs": 2, "seed": 1}
    assert same(trained(backend, schedule=STILL, **fields), trained(**fields))
    assert not same(trained(**fields | {"seed": 2}), trained(**fields))
    assert not same(trained(**fields | {"patches": False}), trained(**fields))


# Mini-batches


@pytest.mark.parametrize("size", [1, 4, 11, 100])
@pytest.mark.parametrize("adaptation", [None, ADAPTATION])
def test_mini_batches_do_not_depend_on_threads(size, adaptation):
    fields = {"epochs": 2, "mini_batch": size, "adaptation": adaptation}
    expected = trained(**fields)
    for threads in (1, 2, 3):
        assert same(trained(CpuBackend(threads), **fields), expected)
    assert same(expected, trained(epochs=2, adaptation=adaptation)) == (size == 1)


def test_mini_batch_equals_the_loop_by_hand(backend):
    net, events, competition = network(backend), random_events(), WTA(2, radius=1)
    for start in range(0, len(events), 4):
        part = events[start : start + 4]
        weights, winners = net.weights[0], competition(net.run(part), backend)
        for i in range(len(part)):
            weights = RULE(weights, part[i], winners[i], net.neurons(0).geometry)
        net.set_weights(0, weights)
    assert np.array_equal(trained(backend, mini_batch=4)[0], net.weights[0])


def test_a_change_of_rates_ends_a_mini_batch():
    """With chunks of 6, 7, 7 and 3 presentations, batches of 4 are 4 2, 4 3, 4 3 and 3."""
    found, events, net = trained(mini_batch=4, schedule=STILL), random_events(), network()
    start = 0
    for size in (4, 2, 4, 3, 4, 3, 3):
        fit(net, events[start : start + size], layer=0, rule=RULE, competition=WTA(2, radius=1), mini_batch=4)
        start += size
    assert np.array_equal(found[0], net.weights[0])


# Convergence


def test_stops_when_converged():
    events = random_events(n_samples=450)
    fields = {"events": events, "rule": STDP(0.2, -0.2), "epochs": 3}
    whole = trained(**fields)[2]
    assert not whole.converged
    level = float(np.mean(whole.curve[1:3, 1]))  # between convergence after 450 and after 900
    *_, history = trained(**fields, stop_below=level)
    assert history.converged
    presented, convergence = history.curve.T
    assert convergence[-1] < level <= convergence[:-1].min()
    assert 450 < presented[-1] < 900
    assert (presented[-1] - 450) % 100 == 0
    assert [epoch.presented for epoch in history.epochs] == [450, presented[-1] - 450]
    assert history.to_dict()["converged"] is True


def test_stopping_early_changes_nothing_before():
    events = random_events(n_samples=250)
    assert same(trained(events=events, stop_below=0.0), trained(events=events))
    assert same(trained(events=events, stop_below=1.0), trained(events=events[:100]))


# Rules and competitions of one's own


def test_own_rule_equals_the_built_in_one(backend):
    def additive(w, dt):
        return w + (0.0625 if dt >= 0 else -0.03125)  # exact in float64 and float32

    own = trained(backend, rule=Custom(additive), epochs=2)
    assert same(own, trained(rule=STDP(0.0625, -0.03125, stabilizer=False), epochs=2))


def test_own_rule_with_reward_equals_the_built_in_one(backend):
    def rewarded(w, dt, reward):
        return w + reward * (0.0625 if dt >= 0 else -0.03125)

    layers, events = (Dense(6, threshold=inf, init=Normal(0.5, 0.1)),), random_events()
    nets = [network(backend, layers), network("reference", layers)]
    own = fit(nets[0], events, layer=0, rule=Custom(rewarded, bounds=(0.2, 0.8)), epochs=2)
    rule = RSTDP((0.0625, -0.03125), (-0.0625, 0.03125), bounds=(0.2, 0.8), adaptive=None)
    usual = fit(nets[1], events, layer=0, rule=rule, epochs=2)
    assert np.array_equal(nets[0].weights[0], nets[1].weights[0])
    assert [e.hits for e in own.epochs] == [e.hits for e in usual.epochs]
    assert nets[0].classes.tolist() == nets[1].classes.tolist() == [0, 0, 1, 1, 2, 2]


def test_own_competition_equals_the_built_in_one(backend):
    def first(spikes):
        return np.lexsort((spikes.x, spikes.y, spikes.channel, -spikes.potential, spikes.time))[:1]

    fields = {"patches": True, "mini_batch": 3, "adaptation": ADAPTATION, "dropout": 0.3}
    own = trained(backend, competition=Competition(first), **fields)
    assert same(own, trained(competition=WTA(1), **fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mini_batch": 0}, "mini_batch expects an integer of at least 1, got 0"),
        ({"rule": Custom(lambda w, dt: w), "schedule": Doubling()}, "schedule expects STDP"),
        ({"rule": Custom(lambda w, dt: w), "schedule": Annealing()}, "schedule expects a rule with rates"),
        ({"rule": Custom(lambda w, dt: w), "classes": [0] * 6}, "this Custom ignores labels"),
        (
            {"rule": Custom(lambda w, dt, reward: w), "events": Events.empty(SHAPE, 3)},
            "Custom expects data with labels",
        ),
    ],
)
def test_refuses(fields, message):
    with pytest.raises(ValueError, match=message):
        trained(**fields)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Annealing(0), "Annealing: factor expects a finite number above 0, got 0"),
        (lambda: Suppression(0.5), "Suppression: factor expects a finite number of at least 1, got 0.5"),
        (lambda: Suppression(every=0), "Suppression: every expects an integer of at least 1, got 0"),
    ],
)
def test_values_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_infinite_thresholds_cannot_adapt():
    with pytest.raises(ValueError, match="adaptation expects finite thresholds"):
        fit(network(layers=(Dense(6, threshold=inf),)), random_events(), layer=0, rule=RULE, adaptation=ADAPTATION)
