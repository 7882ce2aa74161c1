"""Several devices share samples: the same bits as one, whoever fails and whenever."""

import threading
import warnings
from dataclasses import replace

import numpy as np
import pytest
from doubles import DeviceBackend, InBatches
from hypothesis import given, settings
from hypothesis import strategies as st

from eventsnn.backends.cpu import CpuBackend
from eventsnn.batches import batches
from eventsnn.checkpoint import Checkpoint
from eventsnn.devices import reached
from eventsnn.evaluation import decide, evaluate
from eventsnn.events import Events
from eventsnn.layers import Conv, Dense, Normal, PointwiseInhibition, Pool, inf
from eventsnn.network import Network
from eventsnn.plasticity import RSTDP, STDP, WTA, Annealing, Competition, Custom, Doubling, ThresholdAdaptation
from eventsnn.readout import Feature, features
from eventsnn.threads import balanced
from eventsnn.train import fit

SHAPE = (2, 6, 6)
LAYERS = (
    Conv(5, 3, padding=1, threshold=3.5, init=Normal(0.5, 0.2)),
    Pool(2),
    PointwiseInhibition(),
    Dense(6, threshold=inf, init=Normal(0, 1)),
)
CLASSES = [0, 1, 2, 0, 1, 2]


def random_events(n_samples=23, seed=0, duration=9):
    rng = np.random.default_rng(seed)
    latency = rng.integers(-duration // 2, duration, (n_samples, *SHAPE)).clip(-1)
    latency[3 % n_samples] = -1
    return Events.from_latency(latency, duration=duration, labels=rng.integers(0, 3, n_samples))


def network(devices=None, layers=LAYERS, seed=1):
    where = {"backend": "cpu"} if devices is None else {"devices": devices}
    return Network(layers, SHAPE, seed=seed, **where)


class DeviceError(Exception):
    """What a driver raises."""


class Failing(CpuBackend):
    """A device that fails at its ``after``-th call of a kernel, and at all later ones; None: never."""

    failures = (DeviceError,)

    def __init__(self, after=None):
        super().__init__(threads=1)
        self.left, self.threads_seen, self.failed = after, set(), False

    def _call(self, name, *arguments):
        self.threads_seen.add(threading.get_ident())
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self._fail(f"lost in {name}")
        return getattr(CpuBackend, name)(self, *arguments)

    def _fail(self, message):
        self.failed = True
        raise DeviceError(message)

    def _pack(self, *arguments):
        return self._call("_pack", *arguments)

    def _conv(self, *arguments):
        return self._call("_conv", *arguments)

    def pool(self, *arguments):
        return self._call("pool", *arguments)

    def _decide(self, *arguments):
        return self._call("_decide", *arguments)

    def _find(self, *arguments):
        return self._call("_find", *arguments)

    def _change(self, events, found, packed, lesson):
        after = self._call("_change", events, found, packed, lesson)
        if self.left == 0:  # it fails when its weights have changed already
            self._fail("lost after a change")
        return after


def outcome(net, data):
    """Return what a network says of data, in every way, as arrays."""
    spikes = net.run(data, record=True, batch_size=4)
    columns = ("time", "channel", "y", "x", "offsets", "potential", "labels")
    held = [getattr(events, name) for events in spikes for name in columns]
    result = evaluate(net, data, classes=CLASSES, batch_size=5)
    numbers = [a.spikes for a in (result.input, *result.layers)] + [a.synaptic_operations for a in result.layers]
    matrix = features(net, data, Feature("potential", regions=(1, 1)), stop=1, batch_size=3)
    sparse = [matrix.data, matrix.indices, matrix.indptr]
    decisions = [result.decisions, result.confusion, decide(net, data, CLASSES, batch_size=7)]
    return [np.asarray(a) for a in (*held, *numbers, result.accuracy, *sparse, *decisions) if a is not None]


def same(found, expected):
    assert len(found) == len(expected)
    assert all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


DEVICES = {
    "one": ["cpu:0"],
    "two": ["cpu:0", "cpu:1"],
    "the same twice": ["cpu:0", "cpu:0"],
    "of several kinds": ["reference", "cpu:3", "cpu"],
    "more than samples": ["cpu"] * 30,
    "with memory of its own": [DeviceBackend(), "cpu", DeviceBackend()],
}


@pytest.mark.parametrize("devices", DEVICES.values(), ids=DEVICES)
@pytest.mark.parametrize("make", [lambda events: events, InBatches], ids=["in memory", "from a file"])
def test_several_devices_are_as_one(devices, make):
    same(outcome(network(devices), make(random_events())), outcome(network(), random_events()))


@pytest.mark.parametrize("n_samples", [0, 1])
def test_hardly_any_samples(n_samples):
    events = random_events()[:n_samples]
    assert network(["cpu", "cpu"]).run(events).equals(network().run(events))
    assert evaluate(network(["cpu", "cpu"]), events).samples == n_samples


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(1, 6), st.data())
def test_shares_are_contiguous_and_balanced(counts, parts, data):
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    start = data.draw(st.integers(0, len(counts)))
    stop = data.draw(st.integers(start, len(counts)))
    shares = balanced(offsets, parts, start, stop)
    assert [sample for share in shares for sample in range(*share)] == list(range(start, stop))
    assert len(shares) <= parts
    assert shares[0][0] == start
    assert shares[-1][1] == stop
    fair, most = (offsets[stop] - offsets[start]) / parts, max([0, *counts])
    assert all(offsets[b] - offsets[a] <= fair + most for a, b in shares)


def test_each_device_has_one_thread():
    devices = [Failing() for _ in range(3)]
    events = random_events()
    network(devices).run(events)
    seen = [device.threads_seen - {threading.get_ident()} for device in devices]  # weights are packed by the caller
    assert [len(threads) for threads in seen] == [1, 1, 1]
    assert len(set.union(*seen)) == 3


def test_a_batch_is_of_so_many_samples_for_each_device():
    sizes = [list(network(devices).each(lambda net, batch: len(batch), random_events(20), 5)) for devices in
             (["cpu"], ["cpu"] * 3)]  # fmt: skip
    assert sizes[0] == [5, 5, 5, 5]
    assert sum(sizes[1]) == 20
    assert len(sizes[1]) == 6  # each device has its part of all, in two batches
    assert max(sizes[1]) == 5
    wide = list(batches(random_events(20), 5, parts=3))
    assert [len(batch) for batch in wide] == [15, 5]


class Uploads(DeviceBackend):
    """Lets others wait until a second batch has come."""

    def __init__(self):
        self.offsets, self.second = 0, threading.Event()

    def put(self, array):
        self.offsets += array.dtype == np.int64 and len(array) == 3  # of two samples
        if self.offsets >= 2:
            self.second.set()
        return super().put(array)


@pytest.mark.parametrize("number", [1, 2])
def test_each_device_gets_its_next_batch_while_it_works_on_one(number):
    events = Events.from_latency(np.zeros((16, *SHAPE), int), duration=2)
    devices = [Uploads() for _ in range(number)]
    waited = list(network(devices).each(lambda net, batch: net.backend.second.wait(20), events, 2))
    assert waited == [True] * 8


TRAININGS = {
    "order": {"rule": STDP(0.05, -0.04)},
    "time": {"rule": STDP(0.05, -0.04, tau=3.0), "competition": WTA(3, radius=1), "schedule": Annealing(0.8)},
    "own rule": {"rule": Custom(lambda w, dt, potential: w + 0.01 * potential if dt >= 0 else w - 0.02)},
    "own competition": {
        "rule": STDP(0.05, -0.04),
        "competition": Competition(lambda spikes: [0] * bool(len(spikes.time))),
    },
    "thresholds": {"rule": STDP(0.1, -0.04), "adaptation": ThresholdAdaptation(0.3, 0.6, floor=1.5), "patches": True},
    "doubling": {"rule": STDP(0.01, -0.01), "schedule": Doubling(every=7, limit=0.2)},
    "shuffled": {"rule": STDP(0.05, -0.04), "shuffle": True, "dropout": 0.3, "inhibit_input": True},
    "streamed": {"rule": STDP(0.05, -0.04), "memory": 0, "batch_size": 5},
}


def learnt(devices, options, layer=0, epochs=2):
    net = network(devices)
    arguments = {"mini_batch": 6, "competition": WTA(2, radius=1), "seed": 4} | options
    history = fit(net, random_events(), layer=layer, epochs=epochs, **arguments)
    winners = [epoch.winners for epoch in history.epochs]
    return [*net.weights.values(), *net.thresholds.values(), *winners, history.curve]


@pytest.mark.parametrize("devices", [DEVICES["two"], DEVICES["with memory of its own"]], ids=["two", "memory"])
@pytest.mark.parametrize("options", TRAININGS.values(), ids=TRAININGS)
@pytest.mark.parametrize("mini_batch", [1, 6])
def test_several_devices_learn_as_one(devices, options, mini_batch):
    options = options | {"mini_batch": mini_batch}
    found, expected = learnt(devices, options), learnt(None, options)
    same(found, expected)
    assert not np.array_equal(found[0], network().weights[0])


REWARDED = {"rule": RSTDP(reward=(0.1, -0.05), punish=(-0.08, 0.04)), "classes": CLASSES, "competition": WTA(1)}


@pytest.mark.parametrize("options", [{}, {"validation": random_events(9, seed=5), "memory": 0, "shuffle": True}])
def test_several_devices_learn_from_reward_as_one(options):
    devices = ["cpu", DeviceBackend(), "cpu"]
    same(learnt(devices, REWARDED | options, layer=3), learnt(None, REWARDED | options, layer=3))


def test_all_devices_have_what_was_learnt():
    devices, events = [Failing(), Failing()], random_events()
    net, alone = network(devices), network()
    for each in (net, alone):
        each.run(events)  # gives every device its weights
        fit(each, events, layer=0, rule=STDP(0.1, -0.1), mini_batch=4)
        fit(each, events, layer=0, rule=STDP(0.1, -0.1))  # on the first alone
        each.set_weights(3, each.weights[3][::-1])
    same(outcome(net, events), outcome(alone, events))
    devices[0].left = 0
    with pytest.warns(RuntimeWarning, match=r"device 0 \(cpu\): DeviceError: lost in _conv; it is left out"):
        same(outcome(net, events), outcome(alone, events))
    same([*net.weights.values()], [*alone.weights.values()])


@settings(max_examples=30)
@given(st.lists(st.none() | st.integers(0, 25), min_size=1, max_size=4), st.integers(0, 5))
def test_devices_that_fail_at_any_moment_change_nothing(moments, place):
    """As long as one is left."""
    devices = [Failing() for _ in range(len(moments) + 1)]
    net, alone, events = network(devices), network(["cpu"]), random_events()
    others = [device for i, device in enumerate(devices) if i != place % len(devices)]
    for device, after in zip(others, moments, strict=True):
        device.left = after
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for each in (net, alone):
            fit(each, events, layer=0, rule=STDP(0.1, -0.1), mini_batch=8, competition=WTA(2))
        found, expected = outcome(net, events), outcome(alone, events)
    same([*found, *net.weights.values()], [*expected, *alone.weights.values()])
    assert [w.category for w in caught] == [RuntimeWarning] * sum(device.failed for device in devices)


def test_the_last_one_to_fail_is_an_error_that_names_all():
    devices = [Failing(), Failing(), Failing()]
    net, events = network(devices), random_events()
    net.run(events)
    for i, device in enumerate(devices):
        device.left = 2 * i
    expected = r"all devices have failed: .*0 \(cpu\): DeviceError: lost in .*; 2 \(cpu\): DeviceError: lost"
    with pytest.warns(RuntimeWarning, match="left out"), pytest.raises(RuntimeError, match=expected) as caught:
        _ = [net.run(events) for _ in range(9)]
    assert isinstance(caught.value.__cause__, DeviceError)


@pytest.mark.parametrize("make", [lambda: "cpu", Failing], ids=["threads", "devices"])
def test_an_error_of_the_caller_is_no_failure_of_a_device(make):
    def wrong(spikes):
        raise RuntimeError("my bug")

    net, events = network([make(), make()]), random_events()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="the rule gave the weight"):
            fit(net, events, layer=0, rule=Custom(lambda w, dt: w / 0 if w < 0 else w + dt * 1e300), mini_batch=8)
        with pytest.raises(ZeroDivisionError):
            fit(net, events, layer=0, rule=STDP(0.1, -0.1), mini_batch=8, competition=Competition(lambda s: 1 / 0))
        with pytest.raises(RuntimeError, match=r"^my bug$"):
            fit(net, events, layer=0, rule=STDP(0.1, -0.1), mini_batch=8, competition=Competition(wrong))
        with pytest.raises(ValueError, match="expects a grid"):
            net.run(Events.empty((2, 5, 5), 3))
    assert net.run(events).n_events


def test_after_an_error_all_devices_have_the_weights_of_the_first():
    """Some change their weights in place, and others have new ones only after a whole mini-batch."""

    def late(w, dt):
        return w - 0.1 if w > 0.45 else 1 / (w - w)

    events, net = random_events(), network([DeviceBackend(), Failing(), Failing()])
    net.set_weights(0, np.full_like(net.weights[0], 0.6))
    net.run(events)
    with pytest.raises(ZeroDivisionError):
        fit(net, events, layer=0, rule=Custom(late), mini_batch=4, epochs=3)
    alone = network(["cpu"])
    alone.set_weights(0, net.weights[0])
    same(outcome(net, events), outcome(alone, events))


def test_devices_take_up_a_checkpoint_of_one(tmp_path):
    options = {"layer": 0, "rule": STDP(0.05, -0.04), "mini_batch": 6, "epochs": 3}
    whole, cut = network(["cpu"]), network(["cpu"])
    fit(whole, random_events(), **options)
    kept = Checkpoint(tmp_path / "kept.h5", every_samples=6)

    def interrupt(epoch):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(cut, random_events(), checkpoint=kept, on_epoch=interrupt, **options)
    several = network(["cpu", DeviceBackend(), "reference"])
    fit(several, random_events(), checkpoint=kept, **options)
    same([several.weights[0]], [whole.weights[0]])


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"devices": []}, r"devices expects a list of at least one device, got \[\]"),
        ({"devices": "cpu"}, "devices expects a list of at least one device, got 'cpu'"),
        ({"devices": ["cpu", "cpu:x"]}, "backend expects one of .*, got 'cpu:x'"),
        ({"devices": ["cpu"], "backend": "cpu"}, "expects a backend or devices"),
    ],
)
def test_devices_are_checked(where, message):
    with pytest.raises(ValueError, match=message):
        Network(LAYERS, SHAPE, **where)


def test_devices_of_a_file(tmp_path):
    net, events = network(), random_events()
    net.save(tmp_path / "net.h5")
    same(outcome(Network.load(tmp_path / "net.h5", devices=["cpu", "cpu:1"]), events), outcome(net, events))
    with pytest.raises(ValueError, match="got 'nothing'"):
        Network.load(tmp_path / "net.h5", devices=["nothing"])


@pytest.mark.parametrize("timed", [False, True])
def test_what_a_change_depends_on_lies_in_the_fields_of_winners(timed):
    events, rng = random_events(4), np.random.default_rng(0)
    geometry = replace(LAYERS[0], stride=(1, 2), padding=(0, 1)).neurons(SHAPE).geometry
    height, width = geometry.output(*SHAPE[1:])
    limits = ((-1, 5), (0, height), (0, width), (0, 7))
    winners = np.stack([rng.integers(*limit, (4, 3)) for limit in limits], axis=2)
    winners[winners[:, :, 0] < 0] = -1
    near = reached(events, winners, geometry, timed)
    columns = [(e.sample_index(), e.time, e.channel, e.y, e.x) for e in (near, events)]
    kept, every = ([tuple(map(int, row)) for row in zip(*column, strict=True)] for column in columns)
    expected = []
    for s, t, c, y, x in every:
        rows = [row for row in winners[s].tolist() if row[0] >= 0]
        inside = any(0 <= y - oy < 3 and 0 <= x + 1 - 2 * ox < 3 for _, oy, ox, _ in rows)
        if inside and (timed or t <= max(row[3] for row in rows)):
            expected.append((s, t, c, y, x))
    assert kept == expected
    assert 0 < near.n_events < events.n_events
    assert np.array_equal(near.labels, events.labels)


def gpus():
    """Return the names of all devices; skip where there is none."""
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        pytest.skip(f"no CUDA device: {error}")
    return [f"cuda:{number}" for number in range(count)] or pytest.skip("no CUDA device")


@pytest.mark.gpu
@pytest.mark.parametrize("choose", [lambda found: found[:1] * 2, lambda found: found], ids=["the same twice", "all"])
def test_several_gpus_are_as_one_thread(choose):
    devices = choose(gpus())
    same(outcome(network(devices), random_events(200)), outcome(network(["cpu"]), random_events(200)))
    for options in TRAININGS.values():
        same(learnt(devices, options), learnt(["cpu"], options))
