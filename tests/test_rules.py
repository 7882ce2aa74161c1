"""Rules by hand, on every backend and called in Python; what they refuse; the tables that ``exp`` comes from."""

import math
import sys
from dataclasses import replace

import numba
import numpy as np
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st
from rows import learn_rows, row, row_neurons

from eventsnn.backends import Reward, get
from eventsnn.backends.changes import checked_weight
from eventsnn.backends.updates import ScaleTable
from eventsnn.events import Events, concatenate
from eventsnn.plasticity import (
    RSTDP,
    STDP,
    WTA,
    Adaptive,
    Annealing,
    Competition,
    Custom,
    Doubling,
    Suppression,
    ThresholdAdaptation,
)

E = math.exp

# Input x=0 fires at 1 and 3 (the last before the winner), x=1 at 4 (the winner's time), x=2 at 6 and 9 (the first
# after it), x=3 never. Weights 0.5 each; x=0 twice and x=1 once make 1.5 at t=4: above 1.2.
TIMED = row((1, 0), (3, 0), (4, 1), (6, 2), (9, 2), width=4, duration=10, labels=[5])
HALF = [[0.5, 0.5, 0.5, 0.5]]
DT = [1, 0, -2, -math.inf]
SPLIT = [[0.25, 0.5, 0.25, 0.75]]  # with bounds 0 and 1; 0.25 + 0.25 + 0.5 = 1.0 at t=4


def learnt(backend, rule, weights=HALF, threshold=1.2):
    if rule.rewarded:
        update, reward = rule.updates(np.array([5]), WTA(pointwise=False))
    else:
        update, reward = rule.update(len(weights)), None
    found, winners = learn_rows(backend, TIMED, weights, row_neurons(threshold, width=4), update, reward)
    assert winners == [[[0, 0, 0, 4]]]
    return found[0]


def called(rule, weights=HALF, **fields):
    changed = rule(np.array(weights, np.float32)[:, None, None], TIMED, np.array([[0, 0, 0, 4]]), **fields)
    return changed[0, 0, 0].tolist()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (STDP(0.25, -0.125, stabilizer=False), [0.75, 0.75, 0.375, 0.375]),
        (STDP(0.25, -0.125, dependence="additive"), [0.75, 0.75, 0.375, 0.375]),
        (STDP(0.25, -0.125), [0.5625, 0.5625, 0.46875, 0.46875]),
        (STDP(0.25, -0.125, dependence="proportional"), [0.625, 0.625, 0.4375, 0.4375]),
        (STDP(0.25, -0.125, bounds=(0, 2), dependence="proportional"), [0.875, 0.875, 0.4375, 0.4375]),
        (STDP(0.25, -0.125, dependence="multiplicative", beta=0), [0.75, 0.75, 0.375, 0.375]),
    ],
    ids=repr,
)
def test_rules_without_exp_by_hand(backend, rule, expected):
    assert learnt(backend, rule) == expected
    assert called(rule) == expected


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        # |dt| = 1, 0, 2 and infinite
        (STDP(0.25, -0.125, stabilizer=False, tau=2), [0.5 + 0.25 * E(-0.5), 0.75, 0.5 - 0.125 * E(-1), 0.5]),
        (STDP(0.25, -0.125, tau=2), [0.5 + 0.0625 * E(-0.5), 0.5625, 0.5 - 0.03125 * E(-1), 0.5]),
        (STDP(0.25, -0.125, tau=2, dependence="proportional"), [0.5 + 0.125 * E(-0.5), 0.625, 0.5 - E(-1) / 16, 0.5]),
        # u = 1/2 throughout, 1/4 and 3/4 with bounds 0.25 and 1.25
        (
            STDP(0.25, -0.125, dependence="multiplicative", beta=3),
            [0.5 + 0.25 * E(-1.5), 0.5 + 0.25 * E(-1.5), 0.5 - 0.125 * E(-1.5), 0.5 - 0.125 * E(-1.5)],
        ),
        (
            STDP(0.25, -0.125, bounds=(0.25, 1.25), dependence="multiplicative", beta=2, tau=4),
            [0.5 + 0.25 * E(-0.25 - 0.5), 0.5 + 0.25 * E(-0.5), 0.5 - 0.125 * E(-0.5 - 1.5), 0.5],
        ),
        (
            RSTDP((0.25, -0.125), (-0.25, 0.125), (0, 1), tau=2),
            [0.5 + 0.25 * E(-0.5), 0.75, 0.5 - 0.125 * E(-1), 0.5],
        ),
    ],
    ids=repr,
)
def test_rules_with_exp_by_hand(backend, rule, expected):
    assert learnt(backend, rule) == pytest.approx(expected, rel=1e-6)
    fields = {"classes": np.array([5])} if rule.rewarded else {}
    assert called(rule, **fields) == learnt(backend, rule)


def test_a_lone_weight_of_each_kind(backend):
    # causal: 0.25 + 0.25 * (1 - 0.25) and 0.5 + 0.25 * 0.5; others: 0.25 - 0.125 * 0.25 and 0.75 - 0.125 * 0.75
    rule = STDP(0.25, -0.125, dependence="proportional")
    assert learnt(backend, rule, SPLIT, 0.9) == [0.4375, 0.625, 0.21875, 0.65625]


def test_own_rule_by_hand(backend):
    # The winner's potential is 1.5. The last input never came, and dt is -inf.
    def rule(w, dt, potential):
        return 0.25 if dt < -100 else w + dt / 8 - potential / 16

    expected = [0.5 + 1 / 8 - 3 / 32, 0.5 - 3 / 32, 0.5 - 2 / 8 - 3 / 32, 0.25]
    assert learnt(backend, Custom(rule)) == expected
    assert called(Custom(rule), potential=np.array([1.5], np.float32)) == expected


def test_own_rule_computes_in_float64_and_is_clipped(backend):
    third = 1 / 3

    def rule(w, dt):
        return w + third if dt >= 0 else (w - 0.1) * 10

    expected = [np.float32(0.5 + third), np.float32(0.5 + third), 0.875, 0.875]
    assert learnt(backend, Custom(rule, bounds=(-1, 0.875))) == [float(w) for w in expected]


@pytest.mark.parametrize(("label", "sign"), [(5, 1), (4, -1)])
def test_own_rule_is_told_the_reward(backend, label, sign):
    def rule(w, dt, reward):
        return w + reward / 8

    events = TIMED.with_labels([label])
    update, reward = Custom(rule).updates(np.array([5]), WTA(pointwise=False))
    found, _ = learn_rows(backend, events, HALF, row_neurons(1.2, width=4), update, reward)
    assert found == [[0.5 + sign / 8] * 4]


def test_own_rule_without_labels_has_reward_zero(backend):
    def rule(w, dt, reward):
        return reward + 0.25

    update = Custom(rule).update(1, WTA(pointwise=False))
    assert learn_rows(backend, TIMED, HALF, row_neurons(1.2, width=4), update)[0] == [[0.25] * 4]


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda w, dt: w / 0.0, ZeroDivisionError, "division"),
        (lambda w, dt: w + 1e300, ValueError, "the rule gave the weight inf for w=0.5, dt=1.0"),
        (lambda w, dt: w * 0 * dt, ValueError, "the rule gave the weight nan for w=0.5, dt=-inf"),
    ],
)
def test_errors_of_own_rules_come_up(backend, function, error, message):
    with pytest.raises(error, match=message):
        learnt(backend, Custom(function))


def test_own_rule_that_numba_cannot_compile():
    with pytest.raises(TypeError, match="cannot be compiled by Numba"):
        learnt(get("cpu"), Custom(lambda w, dt: open(w)))  # noqa: SIM115


def test_checked_weight_is_float32():
    assert checked_weight(lambda *_: 0.1, 0, 0, 0, 0) == np.float32(0.1)


RATE = 0.125
TABLE = np.array([0.125])


def helped(w):
    return w + RATE


compiled_helper = numba.njit(helped)


def helped_twice(w):
    return helped(w)


def set_global(rate):
    globals()["RATE"] = rate


def set_table(rate):
    TABLE[0] = rate


def own_attribute(w, dt):
    return w + module.RATE


module = sys.modules[__name__]


# What a rule takes from outside: the rule, and what changes it
OUTSIDE = {
    "global": (lambda w, dt: w + RATE, set_global),
    "array": (lambda w, dt: w + TABLE[0], set_table),
    "attribute": (own_attribute, set_global),
    "helper": (lambda w, dt: helped(w), set_global),
    "helper's helper": (lambda w, dt: helped_twice(w), set_global),
    "compiled helper": (lambda w, dt: compiled_helper(w), set_global),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_own_rule_takes_from_outside_what_is_there_now(backend, name):
    function, change = OUTSIDE[name]
    found = []
    for rate in (0.125, 0.25, 0.125):
        change(rate)
        found.append(learnt(backend, Custom(function))[0])
    assert found == [0.625, 0.75, 0.625]


def test_own_rule_is_compiled_once_for_each_state():
    from eventsnn.backends.cpu._user import compile_rule

    def compiled(rate):
        set_global(rate)
        return compile_rule(OUTSIDE["global"][0])

    first, second = compiled(0.25), compiled(0.125)
    assert compiled(0.25) is first
    assert compiled(0.125) is second is not first


def test_own_rule_that_cannot_be_told_apart_is_compiled_each_time():
    from eventsnn.backends.cpu._user import compile_rule

    double = numba.vectorize(lambda w: 2 * w)

    def rule(w, dt):
        return double(w)

    assert compile_rule(rule) is not compile_rule(rule)
    assert learnt(get("cpu"), Custom(rule)) == [1, 1, 1, 1]


# Thresholds


def test_threshold_adaptation_by_hand(backend):
    # Map 1 wins at t=4 of 10: all fall by 0.5 * (0.4 - 0.9), that is, rise by 0.25; map 1 rises by 0.5, the two
    # others fall by 0.25; map 3 is silenced and takes no part.
    adaptation = ThresholdAdaptation(rate=0.5, target=0.9, floor=1)
    neurons = row_neurons(4, 1.25, 0.875, 3, width=4)
    before = neurons.threshold.copy()
    weights = [[0.5] * 4, [0.5] * 4, [0.125] * 4, [1] * 4]
    update = STDP(0.25, -0.25).update(4, WTA(pointwise=False), np.array([True, True, True, False]))
    _, winners = learn_rows(backend, TIMED, weights, neurons, replace(update, thresholds=adaptation))
    assert winners == [[[1, 0, 0, 4]]]
    assert neurons.threshold.tolist() == pytest.approx([4, 2, 1, 3], abs=1e-6)
    by_hand = adaptation(before, np.array(winners[0]), 10, update.active)
    assert by_hand.tolist() == neurons.threshold.tolist()


def test_a_fallen_threshold_is_crossed_by_few_spikes(backend):
    # Map 0 wins the first sample with five spikes at t=9; map 1 falls by 2 * 0.9 + 2 to 0.7, and the one spike of the
    # second sample takes it above. Map 0 went to 4 - 1.8 + 2 = 4.2.
    first, second = row(*((9, x) for x in range(5)), width=5), row((3, 1), width=5)
    update = replace(STDP(0, 0).update(2), thresholds=ThresholdAdaptation(rate=2, target=0, floor=0.5))
    events, neurons = concatenate([first, second]), row_neurons(4, 4.5, width=5)
    _, winners = learn_rows(backend, events, [[1] * 5] * 2, neurons, update, order=(0, 1))
    assert winners == [[[0, 0, 0, 9]], [[1, 0, 0, 3]]]


def test_thresholds_stay_without_a_winner(backend):
    neurons = row_neurons(9, width=4)
    update = replace(STDP(0.25, -0.25).update(1), thresholds=ThresholdAdaptation(1, 0.5))
    learn_rows(backend, TIMED, HALF, neurons, update)
    assert neurons.threshold.tolist() == [9]


# A competition of your own


def test_own_competition_by_hand(backend):
    # Maps 0 and 1 fire, at 0 and 1; the usual competition takes the earliest, this one the latest.
    events, weights = row((0, 0), (1, 2), (2, 1)), [[0.5, 0.25, 0.75], [0.75, 0.5, 0.5]]
    competition = Competition(lambda spikes: [int(spikes.time.argmax())], pointwise=False)
    update = STDP(0.25, -0.25, stabilizer=False).update(2, competition)
    found, winners = learn_rows(backend, events, weights, row_neurons(0.6, 0.6), update)
    assert winners == [[[0, 0, 0, 1]]]
    assert found == [[0.75, 0.0, 1.0], weights[1]]


@given(strategies.lessons(maps=(1, 3, 33), max_samples=3))
def test_the_usual_competition_written_by_hand_is_the_usual_one(backend, lesson):
    def first(spikes):
        return np.lexsort((spikes.x, spikes.y, spikes.channel, -spikes.potential, spikes.time))[:1]

    usual = replace(lesson.update, k=1)
    pair = [replace(lesson, update=u).learn(backend) for u in (usual, replace(usual, choose=first))]
    assert all(np.array_equal(a, b) for a, b in zip(*pair, strict=True))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ([0, 1, 2], "up to 2 indices of spikes"),
        ([[0]], "up to 2 indices of spikes"),
        ([0.5], "up to 2 indices of spikes"),
        ([2], "indices of 2 spikes, got"),
        ([-1], "indices of 2 spikes, got"),
        ([0, 0], "winners of different maps"),
    ],
)
def test_choices_that_make_no_sense_are_refused(backend, choice, message):
    events = Events.from_columns([0, 1], [0, 1], [0, 0], [0, 0], shape=(2, 1, 1), duration=2)
    with pytest.raises(ValueError, match=message):
        Competition(lambda spikes: choice, k=2, pointwise=False)(events, backend)


# Tables


@given(st.floats(0, 20), st.floats(0, 1, width=32))
def test_scale_table_is_the_exponential(beta, u):
    factor = ScaleTable(beta).factors(np.array([u], np.float32))
    assert factor.dtype == np.float32
    assert factor[0] == pytest.approx(math.exp(-beta * u), rel=5e-7 + (beta / 4096) ** 2 / 8)


def test_scale_table_is_constant_beyond_the_bounds():
    table = ScaleTable(2.0)
    assert table.factors(np.array([-3, 0, 1, 7], np.float32)).tolist() == [
        1, 1, np.float32(math.exp(-2)), np.float32(math.exp(-2)),
    ]  # fmt: skip


# What is refused


@pytest.mark.parametrize(
    ("error", "message", "make"),
    [
        (ValueError, "dependence expects one of additive, stabilized", lambda: STDP(1, -1, dependence="none")),
        (ValueError, "dependence expects one of", lambda: RSTDP((1, 1), (1, 1), dependence="none")),
        (ValueError, "tau expects a finite number above 0 and at most 1e.12, got 0", lambda: STDP(1, -1, tau=0)),
        (
            ValueError,
            "beta expects a finite number of at least 0 and at most 100, got -1",
            lambda: STDP(1, -1, beta=-1),
        ),
        (ValueError, "beta expects a finite number .*, got nan", lambda: STDP(1, -1, beta=math.nan)),
        (TypeError, "expects a Python function", lambda: Custom(3)),
        (TypeError, r"expects \(w, dt", lambda: Custom(lambda w: w)),
        (TypeError, r"expects \(w, dt", lambda: Custom(lambda w, dt, time: w)),
        (ValueError, "bounds expects finite lower < upper", lambda: Custom(lambda w, dt: w, (1, 0))),
        (TypeError, "function of a sample's spikes", lambda: Competition(3)),
        (ValueError, "Competition: k expects an integer of at least 1, got 0", lambda: Competition(len, k=0)),
        (ValueError, "Competition: k expects an integer", lambda: Competition(len, k=1.5)),
        (ValueError, "Competition: pointwise expects True or False, got 1", lambda: Competition(len, pointwise=1)),
        (ValueError, "WTA: k expects an integer of at least 1, got True", lambda: WTA(True)),
        (ValueError, "Doubling: every expects an integer of at least 1, got 1.5", lambda: Doubling(1.5)),
        (ValueError, "Doubling: limit expects a finite number above 0, got '1'", lambda: Doubling(limit="1")),
        (
            ValueError,
            "Doubling: factor expects a finite number of at least 1, got nan",
            lambda: Doubling(factor=math.nan),
        ),
        (ValueError, "Suppression: every expects an integer", lambda: Suppression(2, 1.5)),
        (ValueError, "Annealing: factor expects a finite number above 0, got '1'", lambda: Annealing("1")),
        (ValueError, "Adaptive: every expects an integer", lambda: Adaptive(0, 1, 1.5)),
        (ValueError, "Adaptive: low expects a finite number, got nan", lambda: Adaptive(math.nan)),
        (ValueError, "Adaptive: span expects a finite number, got inf", lambda: Adaptive(0, math.inf)),
        (TypeError, "RSTDP: adaptive expects Adaptive or None, got True", lambda: RSTDP((1, 1), (1, 1), adaptive=True)),
        (ValueError, "tau expects a finite number .*, got '1'", lambda: STDP(1, -1, tau="1")),
        (ValueError, "beta expects a finite number .*, got '1'", lambda: STDP(1, -1, beta="1")),
        (ValueError, "a_plus expects a finite rate or one per map, got 'x'", lambda: STDP("x", -1)),
        (ValueError, "bounds expects finite lower < upper, got 3", lambda: STDP(1, -1, bounds=3)),
        (ValueError, "stabilizer expects True or False, got 'additive'", lambda: STDP(1, -1, stabilizer="additive")),
        (ValueError, "rate expects a finite number of at least 0, got '1'", lambda: ThresholdAdaptation("1", 0.5)),
        (ValueError, "rate expects a finite number", lambda: ThresholdAdaptation(-1, 0.5)),
        (
            ValueError,
            "target expects a finite number of at least 0 and at most 1, got 1.5",
            lambda: ThresholdAdaptation(1, 1.5),
        ),
        (ValueError, "floor expects a finite number", lambda: ThresholdAdaptation(1, 0.5, math.nan)),
    ],
)
def test_values_that_make_no_sense_are_refused(error, message, make):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (ValueError, "batch expects at least 1 sample, got 0", {"batch": 0}),
        (ValueError, "positions expects indices of 1 output positions, got 1 to 1", {"positions": np.array([1])}),
        (TypeError, "positions expects a 1-D array of int64", {"positions": [0]}),
        (ValueError, "one for each of 1 presentations, got 2", {"positions": np.array([0, 0])}),
        (ValueError, "share tau, beta and function",
         {"reward": Reward(np.array([0]), STDP(1, -1, tau=3).update(1))}),
    ],
)  # fmt: skip
def test_lessons_that_do_not_fit_are_refused(backend, error, message, change):
    packed, order = backend.pack(np.full((1, 1, 1, 4), 0.5, np.float32)), np.array([0])
    arguments = {"neurons": row_neurons(1.2, width=4), "update": STDP(1, -1).update(1)} | change
    with pytest.raises(error, match=message):
        backend.learn(TIMED, order, packed, **arguments)
    assert (backend.unpack(packed) == 0.5).all()


def test_infinite_thresholds_cannot_adapt(backend):
    update = replace(STDP(1, -1).update(1), thresholds=ThresholdAdaptation(1, 0.5))
    with pytest.raises(ValueError, match="expects finite thresholds"):
        learn_rows(backend, TIMED, HALF, row_neurons(np.inf, width=4), update)
