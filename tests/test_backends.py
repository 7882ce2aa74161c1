"""Every backend against the oracles, the CPU against the reference bit for bit, and the contract's edges."""

from dataclasses import replace

import numpy as np
import oracle
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from eventsnn.backends import Geometry, LeakTable, Neurons, Reward, ThresholdAdaptation, Update, get
from eventsnn.backends.cpu import CpuBackend
from eventsnn.events import Events, concatenate

REFERENCE = get("reference")
CPUS = [CpuBackend(threads=n) for n in (1, 2)]
FEW_MAPS = (1, 2, 3)


def spikes_of(sample):
    columns = (sample.time, sample.channel, sample.y, sample.x)
    return list(zip(*(c.tolist() for c in columns), strict=True))


def samples_of(events):
    return [events[i] for i in range(len(events))]


def dense(sample):
    """Return latency and potential maps of one sample of first spikes."""
    potential = np.zeros(sample.shape, np.float32)
    if sample.potential is not None:
        potential[sample.channel, sample.y, sample.x] = sample.potential
    return sample.to_latency()[0], potential


def winner_rows(rows):
    return [tuple(row) for row in rows.tolist() if row[0] >= 0]


def same(found, expected):
    assert found.equals(expected), f"{found!r} differs from {expected!r}"


def run_conv(backend, layer, events=None):
    return backend.conv(layer.events if events is None else events, backend.pack(layer.weights), layer.neurons)


# Against the oracles


@given(st.data())
def test_conv_equals_dense_correlation(backend, data):
    shape, maps = data.draw(strategies.grids), data.draw(st.sampled_from(FEW_MAPS))
    neurons = data.draw(strategies.neurons(shape, maps, leaky=False))
    geometry = neurons.geometry
    weights = strategies.dyadic(data.draw(strategies.seeds), (maps, shape[0], *geometry.kernel))
    events = data.draw(strategies.stimuli(shape).filter(lambda e: e.duration < 100))
    out = backend.conv(events, backend.pack(weights), neurons)
    assert (len(out), out.duration, out.unit) == (len(events), events.duration, events.unit)
    for given_, found in zip(samples_of(events), samples_of(out), strict=True):
        wave = oracle.waves(spikes_of(given_), shape, events.duration)
        potential = oracle.potentials(wave, weights, geometry.stride, geometry.padding)
        latency, at_spike = oracle.fire(potential, neurons.threshold)
        assert np.array_equal(found.to_latency()[0], latency)
        assert np.array_equal(dense(found)[1], at_spike)


@given(strategies.layers(maps=FEW_MAPS, max_samples=2))
def test_conv_equals_following_each_neuron(backend, layer):
    out = run_conv(backend, layer)
    Events(**{name: getattr(out, name) for name in Events.__dataclass_fields__})  # canonical, in the grid
    for given_, found in zip(samples_of(layer.events), samples_of(out), strict=True):
        latency, at_spike = follow_layer(layer, spikes_of(given_), layer.weights)
        assert np.array_equal(found.to_latency()[0], latency)
        assert np.array_equal(dense(found)[1], at_spike)


def follow_layer(layer, spikes, weights):
    geometry, leak = layer.neurons.geometry, layer.neurons.leak
    decay = None if leak is None else leak.factor
    fields = (layer.neurons.threshold, geometry.stride, geometry.padding, decay, layer.events.duration)
    return oracle.layer(spikes, layer.events.shape, weights, *fields)


@given(st.data())
def test_pool_equals_oracle(backend, data):
    shape = data.draw(strategies.grids)
    events, geometry = data.draw(strategies.stimuli(shape)), data.draw(strategies.geometries(shape))
    out = backend.pool(events, geometry)
    assert out.potential is None
    for given_, found in zip(samples_of(events.first_spikes()), samples_of(out), strict=True):
        expected = oracle.pool(given_.to_latency()[0], geometry.kernel, geometry.stride, geometry.padding)
        assert np.array_equal(found.to_latency()[0], expected)


@given(strategies.layers(), st.data())
def test_a_layer_and_its_pool_in_one_pass_equal_one_after_the_other(layer, data):
    spikes = run_conv(REFERENCE, layer)
    geometry, counted = data.draw(strategies.geometries(spikes.shape)), data.draw(st.booleans())
    for backend in (REFERENCE, *CPUS):
        found = backend.conv_pool(layer.events, backend.pack(layer.weights), layer.neurons, geometry, counted)
        same(found.events, REFERENCE.pool(spikes, geometry))
        if counted:
            assert found.spikes.tolist() == np.diff(spikes.offsets).tolist()


@given(strategies.layers(leaky=False).filter(lambda layer: layer.weights.min() >= 0 and not layer.neurons.at_end))
def test_positive_weights_take_one_pass(layer):
    backend, geometry = CPUS[0], Geometry((1, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CpuBackend, "_conv", None)
        backend.conv_pool(layer.events, backend.pack(layer.weights), layer.neurons, geometry)


@pytest.mark.parametrize("channels", [1, 300])
def test_one_pass_is_left_where_time_and_row_do_not_fit_into_an_entry(channels):
    n = 1 << 15  # distinct times: 15 bits; 300 channels of kernels of 16 x 16 take 17
    events = Events.from_columns(np.arange(n), *np.zeros((3, n), int), shape=(channels, 16, 16), unit="us")
    layer = strategies.Layer(
        events, np.ones((1, channels, 16, 16), np.float32), Neurons(Geometry((16, 16)), np.full(1, n - 0.5, np.float32))
    )
    found = CPUS[0].conv_pool(events, CPUS[0].pack(layer.weights), layer.neurons, Geometry((1, 1)))
    assert found.events.time.tolist() == [n - 1]


@given(strategies.outputs())
def test_pointwise_equals_oracle(backend, events):
    first = events.first_spikes()
    out = backend.pointwise(first)
    for given_, found in zip(samples_of(first), samples_of(out), strict=True):
        latency, potential = dense(given_)
        expected = oracle.pointwise(latency, potential)
        assert np.array_equal(found.to_latency()[0], expected)
        assert np.array_equal(dense(found)[1], np.where(expected >= 0, potential, 0))


@given(strategies.outputs(), st.integers(1, 6), st.integers(0, 3))
def test_winners_equal_oracle(backend, events, k, radius):
    first = events.first_spikes()
    found = backend.winners(first, k, radius)
    assert found.shape == (len(first), k, 4)
    assert found.dtype == np.int64
    for given_, rows in zip(samples_of(first), found, strict=True):
        expected = oracle.winners(*dense(given_), k, radius)
        assert winner_rows(rows) == expected
        assert (rows[len(expected) :] == -1).all()


@given(strategies.lessons(maps=FEW_MAPS, max_samples=3))
def test_learn_equals_oracle(backend, lesson):
    layer, update = lesson.layer, lesson.update
    geometry = layer.neurons.geometry
    weights, threshold, expected = oracle.learn(
        [spikes_of(layer.events[int(i)]) for i in lesson.order],
        layer.weights,
        layer.neurons.threshold,
        lambda spikes, weights, threshold: follow_layer(at_threshold(layer, threshold), spikes, weights),
        lambda i, latency, potential: chosen(lesson, i, latency, potential),
        lambda i, winner: what_follows(lesson, i, winner),
        geometry.stride,
        geometry.padding,
        lesson.batch,
    )
    learnt, level, winners = lesson.learn(backend)
    assert winners.shape == (len(lesson.order), update.k, 4)
    assert [winner_rows(rows) for rows in winners] == expected
    assert np.array_equal(learnt, weights)
    assert np.array_equal(level, threshold)


def chosen(lesson, i, latency, potential):
    """Return the winners of presentation ``i``."""
    update, elsewhere = lesson.update, np.zeros(latency.shape, bool)
    if update.active is not None:
        elsewhere[~update.active] = True
    if lesson.positions is not None:
        height, width = latency.shape[1:]
        elsewhere[:, np.arange(height * width).reshape(height, width) != lesson.positions[i]] = True
    fired = np.where(elsewhere, oracle.NEVER, latency)
    return oracle.winners(
        oracle.pointwise(fired, potential) if update.pointwise else fired, potential, update.k, update.radius
    )


def what_follows(lesson, i, winner):
    """Return the rule, the reward and the adaptation of thresholds if map ``winner`` wins first."""
    update, used, reward = lesson.update, lesson.update, 0
    if lesson.reward is not None:
        correct = lesson.reward.classes[winner] == lesson.layer.events.labels[lesson.order[i]]
        used, reward = (update, 1) if correct else (lesson.reward.punish, -1)
    fields = {name: getattr(used, name) for name in ("plus", "minus", "lower", "upper", "dependence", "beta")}
    rule = fields | {
        "decay": None if used.tau is None else LeakTable(used.tau).factor,
        "function": None if used.function is None else strategies.all_arguments(used.function),
    }

    def adapted(threshold, won):
        if (a := update.thresholds) is None:
            return threshold
        return oracle.adapt(threshold, won, lesson.layer.events.duration, update.active, a.rate, a.target, a.floor)

    return rule, reward, adapted


# The CPU against the reference, bit for bit


cpus = st.sampled_from(CPUS)


@given(strategies.layers(), cpus)
def test_cpu_conv_equals_reference(layer, cpu):
    same(run_conv(cpu, layer), run_conv(REFERENCE, layer))


@given(strategies.layers(leaky=False), cpus)
def test_cpu_conv_equals_reference_where_potentials_meet_the_threshold(layer, cpu):
    # Each map's threshold is the largest potential that it ends with, then the float just below.
    ends = run_conv(REFERENCE, at_threshold(layer, np.full(len(layer.weights), np.inf, np.float32)))
    level = np.zeros(len(layer.weights), np.float32)
    np.maximum.at(level, ends.channel, ends.potential)
    for threshold in (level, np.maximum(np.nextafter(level, np.float32(-1)), 0)):
        met = at_threshold(layer, threshold)
        same(run_conv(cpu, met), run_conv(REFERENCE, met))


def at_threshold(layer, threshold):
    return replace(layer, neurons=replace(layer.neurons, threshold=threshold))


@given(st.data(), cpus)
def test_cpu_pool_equals_reference(data, cpu):
    events = data.draw(strategies.outputs())
    geometry = data.draw(strategies.geometries(events.shape))
    same(cpu.pool(events, geometry), REFERENCE.pool(events, geometry))


@given(strategies.outputs(), cpus)
def test_cpu_pointwise_equals_reference(events, cpu):
    same(cpu.pointwise(events), REFERENCE.pointwise(events))


@given(strategies.outputs(), st.integers(1, 8), st.integers(0, 3), cpus)
def test_cpu_winners_equal_reference(events, k, radius, cpu):
    assert np.array_equal(cpu.winners(events, k, radius), REFERENCE.winners(events, k, radius))


@given(strategies.lessons(), cpus)
def test_cpu_learn_equals_reference(lesson, cpu):
    for found, expected in zip(lesson.learn(cpu), lesson.learn(REFERENCE), strict=True):
        assert np.array_equal(found, expected)
        assert found.dtype == expected.dtype


@given(strategies.layers(maps=(2, 33)), st.integers(0, 4))
def test_any_split_of_a_batch_gives_the_same(backend, layer, cut):
    whole, parts = run_conv(backend, layer), [layer.events[:cut], layer.events[cut:]]
    same(concatenate(run_conv(backend, layer, part) for part in parts), whole)
    for kernel in (backend.pointwise, lambda e: backend.pool(e, Geometry((1, 1), (2, 1)))):
        same(concatenate([kernel(whole[:cut]), kernel(whole[cut:])]), kernel(whole))
    winners = [backend.winners(part, 2, 1) for part in (whole[:cut], whole[cut:])]
    assert np.array_equal(np.concatenate(winners), backend.winners(whole, 2, 1))


@given(strategies.lessons(maps=(2, 33)), st.integers(0, 3))
def test_learning_in_two_calls_is_learning_in_one(backend, lesson, cut):
    cut *= lesson.batch
    both = [None, None] if lesson.positions is None else [lesson.positions[:cut], lesson.positions[cut:]]
    first = replace(lesson, order=lesson.order[:cut], positions=both[0])
    weights, threshold, winners = first.learn(backend)
    layer = replace(at_threshold(lesson.layer, threshold), weights=weights)
    later, level, more = replace(lesson, layer=layer, order=lesson.order[cut:], positions=both[1]).learn(backend)
    expected, last, every = lesson.learn(backend)
    assert np.array_equal(later, expected)
    assert np.array_equal(level, last)
    assert np.array_equal(np.concatenate([winners, more]), every)


@pytest.fixture(scope="module")
def large():
    """Return a layer with more maps, spikes and samples than any block of the kernels holds."""
    rng = np.random.default_rng(7)
    shape, sizes = (3, 13, 11), [200, 0, 400, 1, 150, 90]
    n = sum(sizes)
    columns = [rng.integers(0, size, n) for size in (15, *shape)]
    labels = rng.integers(0, 3, len(sizes))
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    events = Events.from_columns(*columns, shape=shape, offsets=offsets, duration=15, labels=labels)
    weights = rng.normal(0.3, 0.4, (70, 3, 4, 5)).astype(np.float32)
    neurons = Neurons(Geometry((4, 5), (1, 2), (2, 1)), rng.uniform(2, 6, 70).astype(np.float32))
    return strategies.Layer(events, weights, neurons)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("leak", [None, LeakTable(6.0)])
@pytest.mark.parametrize("at_end", [False, True])
def test_cpu_equals_reference_on_a_large_layer(large, threads, leak, at_end):
    cpu = CpuBackend(threads=threads)
    threshold = np.full(70, np.inf, np.float32) if at_end else large.neurons.threshold
    layer = at_threshold(replace(large, neurons=replace(large.neurons, leak=leak)), threshold)
    spikes = run_conv(REFERENCE, layer)
    assert spikes.n_events > 5000
    same(run_conv(cpu, layer), spikes)
    pooled = Geometry((3, 2), (2, 2), (1, 0))
    same(cpu.pool(spikes, pooled), REFERENCE.pool(spikes, pooled))
    same(cpu.pointwise(spikes), REFERENCE.pointwise(spikes))
    winners = REFERENCE.winners(spikes, 40, 1)
    assert np.array_equal(cpu.winners(spikes, 40, 1), winners)
    assert (winners[0] >= 0).any()


@pytest.mark.parametrize("rewarded", [False, True])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"dependence": "multiplicative", "tau": 3.0, "beta": 2.0},
        {"function": strategies.by_time, "thresholds": ThresholdAdaptation(0.3, 0.7, 1.5)},
    ],
    ids=["order", "time", "own"],
)
@pytest.mark.parametrize("batch", [1, 10])
def test_cpu_learns_as_reference_on_a_large_layer(large, rewarded, fields, batch):
    rng = np.random.default_rng(8)
    plus, minus = (rng.uniform(0, 0.2, 70).astype(np.float32) for _ in range(2))
    update = Update(plus, -minus, k=8, radius=2, pointwise=True, active=rng.random(70) < 0.8, **fields)
    punish = replace(update, plus=-plus, minus=minus, lower=0.2, upper=0.8)
    reward = Reward(rng.integers(0, 3, 70), punish) if rewarded else None
    lesson = strategies.Lesson(large, rng.integers(0, len(large.events), 12), update, reward, batch=batch)
    *expected, winners = lesson.learn(REFERENCE)
    assert len(np.unique(winners[..., 0])) > 10
    for cpu in CPUS:
        *learnt, found = lesson.learn(cpu)
        assert np.array_equal(found, winners)
        assert all(np.array_equal(a, b) for a, b in zip(learnt, expected, strict=True))


@given(strategies.weights(33, (2, 4, 4), (3, 2)))
def test_pack_and_unpack_keep_the_weights(backend, weights):
    before = weights.copy()
    packed = backend.pack(weights)
    weights[:] = 7
    unpacked = backend.unpack(packed)
    assert unpacked.dtype == np.float32
    assert np.array_equal(unpacked, before)
    unpacked[:] = 8
    assert np.array_equal(backend.unpack(packed), before)


def test_pack_takes_any_memory_layout(backend):
    weights = np.arange(48, dtype=np.float32).reshape(2, 3, 4, 2)
    turned = np.ascontiguousarray(weights.transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0)
    assert np.array_equal(backend.unpack(backend.pack(turned)), weights)
