"""The kernels on examples worked by hand, and what they refuse."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import strategies
from hypothesis import example, given
from hypothesis import strategies as st
from rows import learn_rows, rates, row, row_neurons

from eventsnn.backends import Geometry, LeakTable, Neurons, Reward, Update, get
from eventsnn.events import Events


def winner_rows(rows):
    return [tuple(row) for row in rows.tolist() if row[0] >= 0]


# Worked by hand. One row of inputs, one neuron per map over all of it; numbers are sums of powers of two, so exact.


# Potential: 0.5 at t=0, 1.25 at t=1 (fires, above 1.2); the input x=1 comes at t=2, too late.
EXAMPLE = row((0, 0), (1, 2), (2, 1))
START = [[0.5, 0.25, 0.75]]


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        # 0.5 + 0.5 * 0.5 * 0.5; 0.25 - 0.25 * 0.25 * 0.75; 0.75 + 0.5 * 0.75 * 0.25
        (rates(0.5, -0.25), [0.625, 0.203125, 0.84375]),
        (rates(0.125, -0.125, dependence="additive"), [0.625, 0.125, 0.875]),
        # 1.0, 0.0 and 1.25, clipped
        (rates(0.5, -0.25, lower=0.125, upper=0.875, dependence="additive"), [0.875, 0.125, 0.875]),
        # (w - lower) * (upper - w) with bounds -1 and 1: 0.75, 0.9375, 0.4375
        (rates(0.5, -0.25, lower=-1.0, upper=1.0), [0.875, 0.015625, 0.96875]),
        # anti-STDP
        (rates(-0.5, 0.25), [0.375, 0.296875, 0.65625]),
        (rates(-0.5, 0.5, lower=0.25, upper=0.5, dependence="additive"), [0.25, 0.5, 0.25]),
        # a winning map whose weights lie outside the bounds comes inside: 0.5 and 0.75 clipped to 0.375
        (rates(0.0, 0.0, upper=0.375), [0.375, 0.25, 0.375]),
    ],
)
def test_stdp_by_hand(backend, update, expected):
    learnt, winners = learn_rows(backend, EXAMPLE, START, row_neurons(1.2), update)
    assert learnt == [expected]
    assert winners == [[[0, 0, 0, 1]]]


def test_the_threshold_is_strict(backend):
    for level, time in ((1.25, 2), (np.nextafter(np.float32(1.25), np.float32(0)), 1)):
        out = backend.conv(EXAMPLE, backend.pack(np.array(START, np.float32)[:, None, None]), row_neurons(level))
        assert out.time.tolist() == [time]
        assert out.potential.tolist() == [1.25 if time == 1 else 1.5]


def test_repeated_spikes_add_up_and_count_from_the_first(backend):
    # x=0 fires at 0 and 4, x=1 at 4 twice, x=2 at 5: 0.5, then 0.5 + 0.5 + 0.25 + 0.25 = 1.5 at t=4
    events = row((0, 0), (4, 0), (4, 1), (4, 1), (5, 2))
    learnt, winners = learn_rows(backend, events, START, row_neurons(1.4), rates(0.5, -0.25))
    assert winners == [[[0, 0, 0, 4]]]
    assert learnt == [[0.625, 0.25 + 0.5 * 0.1875, 0.75 - 0.25 * 0.1875]]


def test_infinite_threshold_counts_every_input_as_causal(backend):
    learnt, winners = learn_rows(backend, EXAMPLE, START, row_neurons(np.inf), rates(0.5, -0.25))
    assert winners == [[[0, 0, 0, 9]]]
    assert learnt == [[0.625, 0.25 + 0.5 * 0.1875, 0.84375]]


def test_infinite_threshold_needs_a_positive_potential_at_the_end(backend):
    events = row((0, 0), (1, 1))
    weights = np.array([[0.5, -0.5, 9], [0.5, -0.25, 9], [0.5, -0.75, 9], [-0.25, 0.5, 9]], np.float32)
    out = backend.conv(events, backend.pack(weights[:, None, None]), row_neurons(*[np.inf] * 4))
    assert out.channel.tolist() == [1, 3]
    assert out.time.tolist() == [9, 9]
    assert out.potential.tolist() == [0.25, 0.25]


def test_synapses_in_the_padding_have_no_spike(backend):
    # Kernel 3 centred on the only input: 0.5 arrives, both neighbours lie in the padding.
    neurons = Neurons(Geometry((1, 3), padding=(0, 1)), np.array([0.25], np.float32))
    learnt, _ = learn_rows(backend, row((3, 0), width=1), [[0.25, 0.5, 0.75]], neurons, rates(0.5, -0.25))
    assert learnt == [[0.25 - 0.25 * 0.1875, 0.625, 0.75 - 0.25 * 0.1875]]


def test_learning_is_online(backend):
    # First 0.5 + 0.75 = 1.25 at t=1. Then the causal weights are 0.625 and 0.84375, and t=0 alone is above 0.6.
    learnt, winners = learn_rows(backend, EXAMPLE, START, row_neurons(0.6), rates(0.5, -0.25), order=(0, 0))
    assert [w[0][3] for w in winners] == [1, 0]
    x0, x1, x2 = 0.625, 0.203125, 0.84375
    expected = [x0 + 0.5 * x0 * (1 - x0), x1 - 0.25 * x1 * (1 - x1), x2 - 0.25 * x2 * (1 - x2)]
    assert learnt == [np.array(expected, np.float32).tolist()]


def test_rates_per_map_and_only_the_winners_learn(backend):
    # Map 1 fires first (0.75 at t=0), map 2 second (0.5 + 0.25 at t=1), map 0 never.
    weights = [[0.125, 0.125, 0.125], [0.75, 0.5, 0.5], [0.5, 0.5, 0.25]]
    update = Update(
        np.array([8, 0.125, 0.25], np.float32), np.array([8, -0.125, -0.25], np.float32), dependence="additive", k=3
    )
    learnt, winners = learn_rows(backend, EXAMPLE, weights, row_neurons(0.6, 0.6, 0.6), update)
    assert winners == [[[1, 0, 0, 0], [2, 0, 0, 1], [-1, -1, -1, -1]]]
    assert learnt == [[0.125, 0.125, 0.125], [0.875, 0.375, 0.375], [0.75, 0.25, 0.5]]


def test_inactive_maps_do_not_fire_and_let_others_through_pointwise_inhibition(backend):
    weights = [[0.75, 0.5, 0.5], [0.5, 0.5, 0.25]]
    for active, expected in ((None, [0]), ([True, True], [0]), ([False, True], [1]), ([False, False], [])):
        mask = None if active is None else np.array(active)
        update = rates(0.125, -0.125, maps=2, dependence="additive", k=2, pointwise=True, active=mask)
        learnt, winners = learn_rows(backend, EXAMPLE, weights, row_neurons(0.6, 0.6), update)
        assert [w[0] for w in winners[0] if w[0] >= 0] == expected
        assert [f for f in range(2) if learnt[f] != weights[f]] == expected


@pytest.mark.parametrize(
    ("label", "classes", "expected"),
    [
        (5, [5, 3], [0.625, 0.125, 0.875]),  # correct: rewarded by +-0.125
        (4, [5, 4], [0.4375, 0.3125, 0.6875]),  # wrong: punished by -+0.0625
    ],
)
def test_reward_by_hand(backend, label, classes, expected):
    events = row((0, 0), (1, 2), (2, 1), labels=[label])
    weights = [START[0], [0.25, 0.25, 0.25]]  # map 1 stays below the threshold
    update = rates(0.125, -0.125, maps=2, dependence="additive")
    reward = Reward(np.array(classes), rates(-0.0625, 0.0625, maps=2, dependence="additive"))
    learnt, _ = learn_rows(backend, events, weights, row_neurons(1.2, 1.2), update, reward)
    assert learnt == [expected, weights[1]]


def test_the_first_winner_decides_for_all(backend):
    # Map 1 (class 7) fires at t=0 before map 0 (class 8) at t=1: right for label 7, and both are rewarded.
    weights = [[0.5, 0.25, 0.75], [0.75, 0.25, 0.5]]
    reward = Reward(np.array([8, 7]), rates(-0.25, 0.25, maps=2, dependence="additive"))
    for label, sign in ((7, 1), (8, -2)):
        events = row((0, 0), (1, 2), (2, 1), labels=[label])
        update = rates(0.125, -0.125, maps=2, dependence="additive", k=2)
        learnt, winners = learn_rows(backend, events, weights, row_neurons(0.6, 0.6), update, reward)
        assert [w[0] for w in winners[0]] == [1, 0]
        change = 0.125 * sign
        assert learnt[0] == np.clip([0.5 + change, 0.25 - change, 0.75 + change], 0, 1).tolist()
        assert learnt[1] == np.clip([0.75 + change, 0.25 - change, 0.5 - change], 0, 1).tolist()


def test_silence_changes_nothing(backend):
    reward = Reward(np.array([0]), rates(-0.5, 0.5))
    for given_reward in (None, reward):
        learnt, winners = learn_rows(
            backend, row((0, 0), labels=[1]), [[2.0, -3.0, 0.5]], row_neurons(2.5), rates(0.5, -0.5), given_reward
        )
        assert learnt == [[2.0, -3.0, 0.5]]
        assert winners == [[[-1, -1, -1, -1]]]


def test_leak_by_hand(backend):
    # tau = 4: x=0 adds 1 at t=0; at t=4 it has decayed to exp(-1) and x=1 adds 1; neuron fires there only if
    # 1.3678795 is above the threshold. Without the leak it holds 2.
    events = row((0, 0), (4, 1))
    packed = backend.pack(np.ones((1, 1, 1, 3), np.float32))
    for level, leak, fires in ((1.36, 4.0, True), (1.37, 4.0, False), (1.99, None, True)):
        table = None if leak is None else LeakTable(leak)
        out = backend.conv(events, packed, replace(row_neurons(level), leak=table))
        assert out.n_events == fires
    end = backend.conv(row((0, 0), duration=9), packed, replace(row_neurons(np.inf), leak=LeakTable(4.0)))
    assert end.time.tolist() == [8]
    assert end.potential[0] == pytest.approx(np.exp(-2), rel=1e-6)


def test_of_inputs_that_repeat_the_last_before_the_winner_decides(backend):
    # Microseconds, leak 20 ms. x=0 fires at 0, 30 and 60 ms, x=1 at 40 ms, x=2 at 50 ms; at 40 ms the potential is
    # ((0.5 exp(-1.5) + 0.5) exp(-0.5)) + 0.5 = 0.87. What is learnt depends on 10 ms since x=0, not 40, and not -20.
    ms = 1000
    events = row((0, 0), (30 * ms, 0), (40 * ms, 1), (50 * ms, 2), (60 * ms, 0), duration=105 * ms)
    events = replace(events, unit="us")
    neurons = replace(row_neurons(0.85), leak=LeakTable(20.0 * ms))
    update = rates(0.25, -0.125, dependence="additive", tau=10.0 * ms)
    learnt, winners = learn_rows(backend, events, [[0.5, 0.5, 0.5]], neurons, update)
    assert winners == [[[0, 0, 0, 40 * ms]]]
    assert learnt[0] == pytest.approx([0.5 + 0.25 * np.exp(-1), 0.75, 0.5 - 0.125 * np.exp(-1)], rel=1e-6)
    # By order alone every input that came before counts the same, however often it comes; x=2 came later.
    learnt, _ = learn_rows(backend, events, [[0.5, 0.5, 0.5]], neurons, rates(0.25, -0.125, dependence="additive"))
    assert learnt == [[0.75, 0.75, 0.375]]
    _, winners = learn_rows(backend, events.first_spikes(), [[0.5, 0.5, 0.5]], neurons, update)
    assert winners == [[[-1, -1, -1, -1]]]


def test_order_of_additions_is_canonical(backend):
    # In float32, 1 + 2**-24 + 2**-24 is 1 from left to right, but 2**-24 + 2**-24 + 1 is above 1.
    tiny = 2.0**-24
    events = Events.from_columns([0, 0, 0], [0, 0, 0], [0, 0, 0], [2, 1, 0], shape=(1, 1, 3), duration=1)
    for weights, potential in (([1, tiny, tiny], 1.0), ([tiny, tiny, 1], 1 + 2.0**-23)):
        packed = backend.pack(np.array(weights, np.float32).reshape(1, 1, 1, 3))
        assert backend.conv(events, packed, row_neurons(0)).potential.tolist() == [potential]


def test_ties_go_to_potential_then_to_the_lowest_map_then_row_then_column(backend):
    # (time, map, y, x, potential)
    spikes = [(1, 1, 0, 0, 2), (1, 0, 1, 1, 2), (1, 0, 0, 1, 2), (1, 2, 1, 0, 3), (2, 3, 0, 0, 9)]
    time, f, y, x, potential = zip(*spikes, strict=True)
    events = Events.from_columns(time, f, y, x, shape=(4, 2, 2), potential=potential)
    assert winner_rows(backend.winners(events, 9, 0)[0]) == [(2, 1, 0, 1), (0, 0, 1, 1), (1, 0, 0, 1), (3, 0, 0, 2)]
    # radius 1 covers the whole grid; without potentials map 0 leads
    assert winner_rows(backend.winners(events, 9, 1)[0]) == [(2, 1, 0, 1)]
    assert winner_rows(backend.winners(replace(events, potential=None), 1, 1)[0]) == [(0, 0, 1, 1)]


# Leak tables


@given(st.floats(0.01, 1e7), st.integers(0, 2 * strategies.HUGE))
@example(5.0, 0)
@example(1.0, 104)
def test_leak_table_is_the_exponential(tau, dt):
    factor = LeakTable(tau).factor(dt)
    assert isinstance(factor, np.float32)
    assert factor == pytest.approx(np.exp(-dt / tau), rel=3e-7, abs=1e-37)


def test_leak_table_does_not_grow():
    table = LeakTable(7.5)
    factors = [table.factor(dt) for dt in range(1000)]
    assert factors[0] == 1
    assert factors[-1] == 0
    assert all(later <= earlier for earlier, later in itertools.pairwise(factors))


# What is refused


@pytest.mark.parametrize(
    ("error", "message", "make"),
    [
        (TypeError, "threshold expects a 1-D float32 array", lambda: Neurons(Geometry((1, 1)), np.zeros(3))),
        (TypeError, "threshold expects", lambda: Neurons(Geometry((1, 1)), np.zeros((1, 3), np.float32))),
        (TypeError, "threshold expects", lambda: Neurons(Geometry((1, 1)), [1.0])),
        (ValueError, "0 or more, got -1", lambda: row_neurons(1, -1)),
        (ValueError, "0 or more, got nan", lambda: row_neurons(1, np.nan)),
        (ValueError, "finite or all infinite, got a mixture", lambda: row_neurons(1, np.inf)),
        (ValueError, "positive time constant, got 0", lambda: LeakTable(0)),
        (ValueError, "positive time constant, got -2", lambda: LeakTable(-2.0)),
        (ValueError, "positive time constant, got nan", lambda: LeakTable(np.nan)),
        (ValueError, "positive time constant, got inf", lambda: LeakTable(np.inf)),
        (TypeError, "plus expects a 1-D float32", lambda: Update(np.zeros(2), np.zeros(2, np.float32))),
        (TypeError, "minus expects a 1-D float32", lambda: Update(np.zeros(2, np.float32), 0.5)),
        (ValueError, "plus has 2 rates, minus has 3", lambda: Update(*(np.zeros(n, np.float32) for n in (2, 3)))),
        (ValueError, "lower < upper, got 1.0 and 1.0", lambda: rates(0, 0, lower=1.0)),
        (ValueError, "lower < upper, got nan", lambda: rates(0, 0, lower=np.nan)),
        (ValueError, "k >= 1 and radius >= 0, got 0 and 0", lambda: rates(0, 0, k=0)),
        (ValueError, "k >= 1 and radius >= 0, got 1 and -1", lambda: rates(0, 0, radius=-1)),
        (ValueError, "active expects 1 booleans", lambda: rates(0, 0, active=np.ones(1, int))),
        (ValueError, "active expects 1 booleans", lambda: rates(0, 0, active=np.ones(2, bool))),
        (ValueError, r"kernel \(4, 2\) does not fit into 3x5 padded by \(0, 1\)",
         lambda: Geometry((4, 2), padding=(0, 1)).output(3, 5)),
        (ValueError, "backend expects one of cpu, reference, cuda, .* got 'abacus'", lambda: get("abacus")),
    ],
)  # fmt: skip
def test_values_that_make_no_sense_are_refused(error, message, make):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    "weights",
    [np.zeros((1, 1, 1, 3)), np.zeros((1, 1, 3), np.float32), np.zeros((1, 1, 1, 3), np.int32), [[[[1.0]]]]],
)
def test_pack_refuses_other_dtypes_and_shapes(backend, weights):
    with pytest.raises(TypeError, match="weights expects a 4-D array of float32, got"):
        backend.pack(weights)


@pytest.mark.parametrize("shape", [(2, 1, 1, 3), (1, 2, 1, 3), (1, 1, 3, 1), (1, 1, 1, 2)])
def test_weights_must_fit(backend, shape):
    packed = backend.pack(np.ones(shape, np.float32))
    message = r"weights expects shape \(maps, channels, kernel\) = \(1, 1, 1, 3\), got " + f"\\{shape}"[:-1]
    with pytest.raises(ValueError, match=message):
        backend.conv(EXAMPLE, packed, row_neurons(1))
    with pytest.raises(ValueError, match=message):
        backend.learn(EXAMPLE, np.array([0]), packed, row_neurons(1), rates(0, 0))


def test_kernels_must_fit_into_the_grid(backend):
    packed = backend.pack(np.ones((1, 1, 1, 4), np.float32))
    message = r"kernel \(1, 4\) does not fit into 1x3 padded by \(0, 0\)"
    with pytest.raises(ValueError, match=message):
        backend.conv(EXAMPLE, packed, row_neurons(1, width=4))
    with pytest.raises(ValueError, match=message):
        backend.pool(EXAMPLE, Geometry((1, 4)))


LABELLED = row((0, 0), labels=[0])


@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (TypeError, "order expects a 1-D array of int64, got int32", {"order": np.array([0], np.int32)}),
        (TypeError, "order expects a 1-D array of int64, got float64", {"order": np.array([])}),
        (TypeError, "order expects a 1-D array of int64", {"order": np.zeros((1, 1), np.int64)}),
        (TypeError, "order expects a 1-D array of int64, got <class 'list'>", {"order": [0]}),
        (ValueError, "order expects indices of 1 samples, got 0 to 1", {"order": np.array([0, 1])}),
        (ValueError, "order expects indices of 1 samples, got -1 to 0", {"order": np.array([0, -1])}),
        (ValueError, "rates for 2 maps, the layer has 1", {"update": rates(0, 0, maps=2)}),
        (ValueError, "rates for 2 maps, the layer has 1", {"reward": Reward(np.array([0]), rates(0, 0, maps=2))}),
        (ValueError, "reward.classes has 2 entries, the layer has 1", {"reward": Reward(np.zeros(2), rates(0, 0))}),
        (ValueError, "expects events with labels, got none",
         {"events": EXAMPLE, "reward": Reward(np.array([0]), rates(0, 0))}),
    ],
)  # fmt: skip
def test_lessons_that_do_not_fit_are_refused_before_anything_changes(backend, error, message, change):
    packed = backend.pack(np.ones((1, 1, 1, 3), np.float32))
    lesson = {"events": LABELLED, "order": np.array([0]), "packed": packed, "neurons": row_neurons(0.5)}
    with pytest.raises(error, match=message):
        backend.learn(**(lesson | {"update": rates(0.5, 0.5), "reward": None} | change))
    assert (backend.unpack(packed) == 1).all()


def test_the_environment_chooses_the_default_backend(monkeypatch):
    for name in ("reference", "cpu"):
        monkeypatch.setenv("EVENTSNN_BACKEND", name)
        assert get().name == name
        assert get() is get(name)
    monkeypatch.delenv("EVENTSNN_BACKEND")
    assert get().name == "cpu"
