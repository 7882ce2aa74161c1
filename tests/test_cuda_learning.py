"""Learning on a host that stands for a GPU, equal to the reference bit for bit; rules of one's own, translated."""

import gc
from bisect import bisect_left
from dataclasses import replace

import hostcuda
import hostcuda.examples
import numpy as np
import pytest
import strategies
import test_find_and_change
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import row, row_neurons

from eventsnn import RSTDP, STDP, WTA, Conv, Custom, Network, Pool, ThresholdAdaptation, fit
from eventsnn.backends import cuda_learning, device, get
from eventsnn.backends.cuda import CudaBackend
from eventsnn.batches import put
from eventsnn.events import concatenate

pytestmark = pytest.mark.skipif(hostcuda.COMPILER is None, reason="no C++ compiler here; CXX may name one")
REFERENCE = get("reference")
LESSONS = hostcuda.examples.lessons()

hosts = st.builds(
    hostcuda.backend,
    st.sampled_from([1, 2, 5, 8, 32]),
    st.sampled_from(sorted(hostcuda.ORDERS)),
    processors=st.integers(1, 4),
)  # odd launch shapes, permuted blocks


def same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one, other)
        assert one.dtype == other.dtype


@settings(max_examples=30)
@given(strategies.lessons(), hosts, st.sampled_from([1, 3, 16, cuda_learning.ROUND]))
def test_learning_equals_reference(lesson, host, spikes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_learning, "ROUND", spikes)  # of a round: winners come in any of them
        same(lesson.learn(host), lesson.learn(REFERENCE))


@settings(max_examples=25)
@given(strategies.lessons(maps=(2, 33)), hosts)
def test_own_competitions_equal_reference(lesson, host):
    def latest(spikes):
        return np.argsort(-spikes.time, kind="stable")[: spikes.labels[0] % 2]

    lesson = replace(lesson, update=replace(lesson.update, choose=latest))
    same(lesson.learn(host), lesson.learn(REFERENCE))


@settings(max_examples=30)
@given(strategies.lessons(maps=(1, 33)), hosts, st.booleans())
def test_finding_and_changing_are_a_mini_batch(lesson, host, first):
    pair = (host, REFERENCE) if first else (REFERENCE, host)
    found = test_find_and_change.in_two_steps(lesson, *pair)
    same(found, replace(lesson, batch=max(len(lesson.order), 1)).learn(REFERENCE))


@settings(max_examples=15)
@given(strategies.lessons(maps=(3,)), st.integers(0, 3))
def test_learning_in_two_calls_is_learning_in_one(lesson, cut):
    cut, host = cut * lesson.batch, hostcuda.backend(5)
    both = [None, None] if lesson.positions is None else [lesson.positions[:cut], lesson.positions[cut:]]
    weights, threshold, winners = replace(lesson, order=lesson.order[:cut], positions=both[0]).learn(host)
    layer = replace(lesson.layer, weights=weights, neurons=replace(lesson.layer.neurons, threshold=threshold))
    *later, more = replace(lesson, layer=layer, order=lesson.order[cut:], positions=both[1]).learn(host)
    same([*later, np.concatenate([winners, more])], lesson.learn(host))


def test_networks_learn_on_the_device():
    events = hostcuda.examples.layer().events
    learnt = []
    for backend in (REFERENCE, hostcuda.backend(8)):
        layers = [Conv(5, 3, padding=1, threshold=2), Pool(2), Conv(5, 2, threshold=2)]
        net = Network(layers, events.shape, seed=3, backend=backend)
        first = {"competition": WTA(2, 1), "adaptation": ThresholdAdaptation(0.2, 0.5), "epochs": 3}
        fit(net, events, layer=0, rule=STDP(0.2, -0.1), **first)
        second = {"dropout": 0.3, "mini_batch": 2, "seed": 4}
        history = fit(net, events, layer=2, rule=RSTDP((0.1, -0.1), (-0.1, 0.1)), classes=[0, 1, 2, 3, 4], **second)
        learnt.append((*net.weights, *net.thresholds, history.epochs[-1].convergence))
    for one, other in zip(*learnt, strict=True):
        assert np.array_equal(one, other)


# Memory


@pytest.mark.parametrize("name", ["online", "mini-batches", "patches", "own"])
def test_presentations_that_do_not_fit_are_split(name):
    lesson, least = LESSONS[name], range(3_000, 200_000, 500)

    def learnt(limit):
        gc.collect()
        arrays = hostcuda.HostArrays(limit)
        try:
            return lesson.learn(hostcuda.backend(5, arrays=arrays)), arrays.refused
        except MemoryError:
            return None

    found, refused = learnt(least[bisect_left(least, True, key=lambda limit: learnt(limit) is not None)])
    assert refused > 0
    same(found, lesson.learn(REFERENCE))


def test_one_presentation_that_does_not_fit_is_an_error_with_the_sizes():
    lesson, arrays = LESSONS["online"], hostcuda.HostArrays()
    order = np.array([0, 0])
    events = hostcuda.examples.layer().events[:1]
    one = replace(lesson, order=order, layer=replace(lesson.layer, events=events))
    one.learn(hostcuda.backend(5, arrays=arrays))
    with pytest.raises(MemoryError, match=r"for one sample: 60 spikes for \d+ neurons need about [\d.]+ MiB"):
        one.learn(hostcuda.backend(5, arrays=hostcuda.HostArrays(limit=5_000)))


# Rules of one's own


def fails_late(w, dt, reward):
    if reward < 0:
        return 1 / (dt - 1)
    return w + (1e300 if dt == 2 else 0.125)


@pytest.mark.parametrize(
    ("labels", "times", "error", "message"),
    [
        # dt is 1 only in the second presentation, whose decision is wrong
        ([5, 4], [(1, 4), (3, 4)], ZeroDivisionError, "division"),
        ([5, 5], [(3, 4), (2, 4)], ValueError, "the rule gave the weight inf for w=0.625, dt=2.0, .* reward=1.0"),
    ],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_errors_of_own_rules_come_up(labels, times, error, message, batch):
    samples = [
        row(*zip(pair, (0, 1), strict=True), width=2, labels=[label]) for pair, label in zip(times, labels, strict=True)
    ]
    update, reward = Custom(fails_late).updates(np.array([5]), WTA(pointwise=False))
    host, weights = hostcuda.backend(5), np.full((1, 1, 1, 2), 0.5, np.float32)
    events, order = put(concatenate(samples), host), np.arange(2)
    with pytest.raises(error, match=message):
        host.learn(events, order, host.pack(weights), row_neurons(0.75, width=2), update, reward, batch=batch)


def test_a_device_without_a_compiler_says_so():
    module = hostcuda.HostModule(hostcuda.build())
    backend = CudaBackend(device.Device(hostcuda.HostArrays(), module, 5))
    with pytest.raises(RuntimeError, match="has no compiler"):
        LESSONS["own"].learn(backend)


# What goes wrong is seen


@pytest.mark.parametrize("name", LESSONS)
@pytest.mark.parametrize(
    ("threads", "order", "processors"), [(1, "descending", 5), (7, "scattered", 3), (64, "scattered", 1)]
)
def test_lessons_are_equal_for_every_launch_shape(name, threads, order, processors):
    assert hostcuda.examples.learns_alike(LESSONS[name], hostcuda.backend(threads, order, processors=processors))


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("        if (phase < 2) __syncthreads();\n", "", "online"),  # between noting spikes and changing weights
        ("blockDim.x);\n        sync_blocks(team);\n", "blockDim.x);\n        __syncthreads();\n", "online"),
        pytest.param("from <= quiet", "from < quiet", "waiting", marks=pytest.mark.slow),
        pytest.param("rank[least - 1] + 1", "rank[least - 1]", "waiting", marks=pytest.mark.slow),
    ],
    ids=["barrier", "barrier of blocks", "quiet", "rounds"],
)
def test_what_is_planted_is_caught(old, new, name):
    source = device.source()
    assert source.count(old) == 1
    host = hostcuda.backend(5, source=source.replace(old, new), processors=3)
    try:
        assert not hostcuda.examples.learns_alike(LESSONS[name], host)
    except RuntimeError as error:
        assert "ended while others waited" in str(error)  # noqa: PT017
