import h5py
import numpy as np
import pytest

from eventsnn.backends import Geometry, get
from eventsnn.events import Events
from eventsnn.layers import Conv, Normal, inf
from eventsnn.network import Network
from eventsnn.plasticity import RSTDP, STDP, WTA, Adaptive, Doubling, split_evenly
from eventsnn.train import fit

REFERENCE = get("reference")


def random_events(seed=0, shape=(2, 5, 6), n_samples=25, duration=8):
    rng = np.random.default_rng(seed)
    latency = rng.integers(-duration // 2, duration, (n_samples, *shape)).clip(-1)
    return Events.from_latency(latency, duration=duration, labels=rng.integers(0, 3, n_samples))


# One winner by hand: inputs of one row fire at 0, 3 and never; the neuron fires at 2.
INPUT = Events.from_latency(np.array([[[0, 3, -1]]]), duration=5)
WINNER = np.array([[0, 0, 0, 2]])
WEIGHTS = np.array([[[[0.25, 0.5, 0.75]]], [[[0.25, 0.5, 0.75]]]], np.float32)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        # Only the first synapse is causal: 0.25 + 0.5 * 0.25 * 0.75, 0.5 - 0.25 * 0.25, 0.75 - 0.25 * 0.1875
        (STDP(0.5, -0.25), [0.34375, 0.4375, 0.703125]),
        (STDP(0.5, -0.25, stabilizer=False), [0.75, 0.25, 0.5]),
        (STDP(0.5, -0.25, bounds=(0, 2)), [0.46875, 0.3125, 0.515625]),
        (STDP(0.5, -0.25, bounds=(0.3125, 0.6875), stabilizer=False), [0.6875, 0.3125, 0.5]),
        (STDP(0.5, -0.25, stabilizer=False).anti(), [0, 0.75, 1]),
        (STDP([0.5, 9], [-0.25, 9], stabilizer=False), [0.75, 0.25, 0.5]),
    ],
    ids=repr,
)
def test_stdp_by_hand(rule, expected):
    changed = rule(WEIGHTS, INPUT, WINNER)
    assert changed[0, 0, 0].tolist() == pytest.approx(expected, abs=1e-7)
    np.testing.assert_array_equal(changed[1], WEIGHTS[1].clip(*rule.bounds))  # the other map did not win
    assert WEIGHTS[0, 0, 0].tolist() == [0.25, 0.5, 0.75]


def test_simultaneous_input_is_causal_and_padding_is_not():
    # Padding 1: the neuron at x=0 sees (padding, input 0 at time 2, input 1 at time 2).
    inputs = Events.from_latency(np.array([[[2, 2, 0]]]), duration=5)
    rule = STDP(0.25, -0.25, stabilizer=False)
    changed = rule(WEIGHTS, inputs, WINNER, Geometry((1, 3), padding=(0, 1)))
    assert changed[0, 0, 0].tolist() == [0.0, 0.75, 1.0]


def test_the_first_of_many_spikes_of_a_pixel_counts():
    inputs = Events.from_columns([0, 4], [0, 0], [0, 0], [1, 1], shape=(1, 1, 3), duration=5)
    changed = STDP(0.25, -0.25, stabilizer=False)(WEIGHTS, inputs, WINNER)
    assert changed[0, 0, 0].tolist() == [0.0, 0.75, 0.5]


def test_the_first_winner_brings_all_maps_into_the_bounds():
    changed = STDP(0, 0, bounds=(0.375, 0.625))(WEIGHTS, INPUT, WINNER)
    assert changed[1, 0, 0].tolist() == [0.375, 0.5, 0.625]


def test_no_winner_no_change():
    nobody = np.full((3, 4), -1)
    np.testing.assert_array_equal(STDP(0.5, -0.5, bounds=(0.4, 0.6))(WEIGHTS, INPUT, nobody), WEIGHTS)
    rule = RSTDP((0.5, -0.5), (-0.5, 0.5))
    np.testing.assert_array_equal(rule(WEIGHTS, INPUT.with_labels([0]), nobody, classes=np.array([0, 1])), WEIGHTS)


@pytest.mark.parametrize(("label", "expected"), [(0, [0.5, 0.375, 0.625]), (1, [0.25, 0.5625, 0.75])])
def test_reward_and_punishment_by_hand(label, expected):
    rule = RSTDP(reward=(0.25, -0.125), punish=(-0.25, 0.0625), bounds=(0.25, 0.75))
    changed = rule(WEIGHTS, INPUT.with_labels([label]), WINNER, classes=np.array([0, 1]))
    assert changed[0, 0, 0].tolist() == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: STDP(np.nan, -1), "a_plus expects a finite rate"),
        (lambda: STDP([[1]], -1), "one per map"),
        (lambda: STDP(1, -1, bounds=(1, 0)), "bounds expects finite lower < upper"),
        (lambda: STDP([1, 2, 3], -1).update(2), "a_plus has 3 rates, the layer has 2 maps"),
        (lambda: RSTDP(0.1, (1, 2)), "reward expects a pair"),
        (lambda: RSTDP((1, -1), (-1, 1))(WEIGHTS, INPUT, WINNER, classes=np.array([0, 1])), "a sample with a label"),
        (lambda: STDP(1, -1)(WEIGHTS, random_events(), WINNER), "one sample, got 25 samples"),
        (lambda: STDP(1, -1)(WEIGHTS.astype(float), INPUT, WINNER), "float32 weights for 1 channels, got float64"),
        (lambda: STDP(1, -1)(WEIGHTS, INPUT, WINNER, Geometry((3, 1))), r"kernel \(3, 1\), the weights have \(1, 3\)"),
        (lambda: WTA(0), "k expects an integer of at least 1"),
        (lambda: WTA(1, radius=-1), "radius expects an integer of at least 0"),
        (lambda: Adaptive(every=0), "Adaptive: every expects an integer of at least 1, got 0"),
        (lambda: Doubling(0), "Doubling: every expects an integer of at least 1, got 0"),
        (lambda: Doubling().rule(STDP([0.1, 0], -1), 0), "a_plus other than 0"),
        (lambda: split_evenly(10, 3), "10 maps cannot be split evenly among 3 classes"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Competition


def test_winners_by_hand():
    # (time, map, y, x, potential): the earliest wins; its map and, with a radius, its neighbourhood are out.
    columns = np.array([(1, 2, 0, 0), (2, 0, 0, 1), (2, 1, 0, 4), (2, 2, 0, 4), (3, 3, 0, 4)]).T
    spikes = Events.from_columns(*columns, shape=(4, 1, 5), duration=4, potential=[1, 5, 6, 7, 9])
    free = WTA(4, pointwise=False)(spikes, REFERENCE)
    assert free[0].tolist() == [[2, 0, 0, 1], [1, 0, 4, 2], [0, 0, 1, 2], [3, 0, 4, 3]]
    near = WTA(4, radius=1, pointwise=False)(spikes, REFERENCE)
    assert near[0].tolist() == [[2, 0, 0, 1], [1, 0, 4, 2], [-1] * 4, [-1] * 4]
    # Pointwise inhibition leaves at x=4 only map 2 (larger potential at the same time), which map 2's win excludes.
    assert WTA(4)(spikes, REFERENCE)[0].tolist() == [[2, 0, 0, 1], [0, 0, 1, 2], [-1] * 4, [-1] * 4]


# Schedules


def test_doubling_by_hand():
    rule, schedule = STDP(0.004, -0.003), Doubling(every=500, limit=0.15)
    rates = {n: schedule.rule(rule, n) for n in (0, 498, 499, 998, 999, 1499, 1999, 2499, 2999, 10**9)}
    expected = [0.004, 0.004, 0.008, 0.008, 0.016, 0.032, 0.064, 0.128, 0.15, 0.15]
    assert [r.a_plus for r in rates.values()] == pytest.approx(expected, rel=1e-12)
    assert [r.a_minus / r.a_plus for r in rates.values()] == pytest.approx([-0.75] * 10, rel=1e-12)
    assert rates[0] == rule


def test_doubling_says_for_how_long_its_rule_holds():
    rule, schedule = STDP(0.001, -0.0005), Doubling(every=7, limit=0.1, factor=1.5)
    for presented in range(40):
        steps = schedule.steps(presented)
        now = schedule.rule(rule, presented)
        assert all(schedule.rule(rule, presented + i) == now for i in range(steps))
        assert schedule.rule(rule, presented + steps) != now or now.a_plus == pytest.approx(0.1)


def test_doubling_keeps_signs_rates_per_map_and_larger_rates():
    grown = Doubling(every=1, limit=0.1).rule(STDP([-0.02, 0.04, 0.3], [0.01, -0.04, -0.6]), 1)
    assert grown.a_plus == pytest.approx((-0.08, 0.1, 0.3))
    assert grown.a_minus == pytest.approx((0.04, -0.1, -0.6))


def test_adapted_rates():
    rule = RSTDP((0.004, -0.003), (-0.004, 0.0005), adaptive=Adaptive(low=0.2, span=0.8))
    adapted = rule.adapted(hit=0.5, miss=0.25)
    assert adapted.reward == pytest.approx((0.004 * 0.4, -0.003 * 0.4))
    assert adapted.punish == pytest.approx((-0.004 * 0.6, 0.0005 * 0.6))
    assert RSTDP((1, -1), (-1, 1), adaptive=None).adapted(0.1, 0.9) == RSTDP((1, -1), (-1, 1), adaptive=None)


def test_split_evenly():
    assert split_evenly(6, 3).tolist() == [0, 0, 1, 1, 2, 2]


# Against SpykeTorch


def test_decisions_are_rewarded_and_punished_as_in_spyketorch(golden_path):
    with h5py.File(golden_path) as file:
        root = file["reward_modulated"]
        per_class, pad = int(root.attrs["features_per_class"]), int(root.attrs["padding"])
        rule = RSTDP(
            tuple(root.attrs["reward"]), tuple(root.attrs["punish"]), (root.attrs["lower"], root.attrs["upper"])
        )
        for group in root.values():
            before = group["weights_before"][()]
            classes = np.repeat(np.arange(len(before) // per_class), per_class)
            inputs = Events.from_latency(
                group["input_latency"][()], duration=int(root.attrs["bins"]), labels=np.array([group.attrs["label"]])
            )
            conv = Conv(len(before), before.shape[2], padding=pad, threshold=inf)
            winners = WTA(pointwise=False)(conv.run(inputs, REFERENCE, before), REFERENCE)
            first = winners[0, 0, 0]
            assert (classes[first] if first >= 0 else -1) == group.attrs["decision"]
            if "winner" in group:
                assert winners[0, 0, :3].tolist() == group["winner"][()].tolist()
            changed = rule(before, inputs, winners, conv.geometry(inputs.shape), classes=classes)
            np.testing.assert_allclose(changed, group["weights_after"][()], rtol=0, atol=1e-6)


# The loop written by hand is what fit does


@pytest.mark.parametrize("init", [Normal(0.6, 0.1), Normal(0.9, 0.2)], ids=["inside", "outside"])
def test_stdp_loop_by_hand_equals_fit(backend, init):
    conv = Conv(6, (3, 2), stride=(1, 2), padding=(1, 0), threshold=2.4, init=init)
    events, rule = random_events(), STDP(np.linspace(0.05, 0.1, 6), -0.04)
    events = events.where(events.sample_index() > 1)  # the first samples are silent
    competition, schedule = WTA(2, radius=1), Doubling(every=10, limit=0.15)
    fitted, by_hand = (Network([conv], events.shape, backend=backend) for _ in range(2))
    assert (fitted.weights[0].max() > 1) == (init.mean == 0.9)
    history = fit(fitted, events, layer=0, rule=rule, competition=competition, schedule=schedule)

    wins = np.zeros(6, int)
    for i in range(len(events)):
        winners = competition(by_hand.run(events[i]), backend)
        now = schedule.rule(rule, i)
        by_hand.set_weights(0, now(by_hand.weights[0], events[i], winners, by_hand.neurons(0).geometry))
        wins += np.bincount(winners[0, :, 0][winners[0, :, 0] >= 0], minlength=6)

    np.testing.assert_array_equal(by_hand.weights[0], fitted.weights[0])
    assert (fitted.weights[0] != Network([conv], events.shape, backend=backend).weights[0]).any()
    np.testing.assert_array_equal(wins, history.epochs[0].winners)


@pytest.mark.parametrize("init", [Normal(0.5, 0.1), Normal(0.8, 0.05)], ids=["inside", "as published"])
def test_reward_modulated_loop_by_hand_equals_fit(backend, init):
    events = random_events()
    layer = Conv(6, 3, threshold=inf, init=init)
    rule = RSTDP((0.04, -0.03), (-0.04, 0.005), adaptive=Adaptive(every=10))
    fitted, by_hand = (Network([layer], events.shape, backend=backend) for _ in range(2))
    history = fit(fitted, events, layer=0, rule=rule, epochs=2)

    classes, hit, miss, seen = split_evenly(6, 3), 1 / 3, 2 / 3, []
    for i in [*range(25), *range(25)]:
        winners = WTA()(by_hand.run(events[i]), backend)
        now = rule.adapted(hit, miss)
        by_hand.set_weights(0, now(by_hand.weights[0], events[i], winners, classes=classes))
        decision = classes[winners[0, 0, 0]] if winners[0, 0, 0] >= 0 else -1
        seen.append((decision == events.labels[i], decision not in (-1, events.labels[i])))
        if len(seen) % 10 == 0:
            hit, miss = np.mean(seen[-10:], axis=0)

    np.testing.assert_array_equal(by_hand.weights[0], fitted.weights[0])
    assert [e.hits for e in history.epochs] == [sum(h for h, _ in seen[:25]), sum(h for h, _ in seen[25:])]
    assert sum(e.hits + e.misses + e.silent for e in history.epochs) == 50
    np.testing.assert_array_equal(fitted.classes, classes)
