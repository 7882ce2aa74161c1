import json
from dataclasses import replace

import numpy as np
import pytest
from doubles import DeviceBackend, InBatches

from eventsnn.backends import get
from eventsnn.events import Events
from eventsnn.layers import Conv, Dense, Normal, Pool, inf
from eventsnn.network import Network
from eventsnn.plasticity import RSTDP, STDP, WTA, Adaptive, Doubling
from eventsnn.train import fit

REFERENCE = get("reference")
LAYERS = (
    Conv(5, 3, padding=1, threshold=2.5, init=Normal(0.6, 0.2)),
    Pool(2),
    Conv(6, 2, padding=1, threshold=1.5, init=Normal(0.6, 0.2)),
    Dense(6, threshold=inf, init=Normal(0.5, 0.1)),
)
REWARD = RSTDP((0.04, -0.03), (-0.04, 0.005), adaptive=Adaptive(every=9))


def random_events(seed=0, shape=(2, 6, 6), n_samples=23, duration=9):
    rng = np.random.default_rng(seed)
    latency = rng.integers(-duration // 2, duration, (n_samples, *shape)).clip(-1)
    return Events.from_latency(latency, duration=duration, labels=rng.integers(0, 3, n_samples))


def network(backend="cpu", **fields):
    return Network(LAYERS, (2, 6, 6), backend=backend, **fields)


def same(a, b):
    """Tell whether two networks have the same weights."""
    return all(np.array_equal(a.weights[i], b.weights[i]) for i in a.trainable)


def record(history):
    """Return what of a history must not depend on how it was computed."""
    rows = [(e.presented, e.silent, e.hits, e.misses, e.winners.tolist(), e.convergence) for e in history.epochs]
    return rows, history.curve.tolist()


def train_all(net, data, **fields):
    """Train layer by layer and return what the histories say."""
    schedule = Doubling(every=7, limit=0.15)
    steps = [
        fit(net, data, layer=0, rule=STDP(0.04, -0.03), competition=WTA(2, 1), epochs=2, schedule=schedule, **fields),
        fit(net, data, layer=2, rule=STDP(0.05, -0.03), competition=WTA(2), inhibit_input=True, dropout=0.3, **fields),
        fit(net, data, layer=3, rule=REWARD, epochs=3, dropout=0.3, seed=4, **fields),
    ]
    return [record(history) for history in steps]


@pytest.fixture(scope="module")
def trained():
    """Return a network trained on the reference, and its histories."""
    net = network("reference")
    return net, train_all(net, random_events())


@pytest.mark.parametrize(
    ("make", "fields"),
    [
        (lambda events: events, {"batch_size": 1}),
        (lambda events: events, {"batch_size": 5, "memory": 100}),
        (InBatches, {}),
        (InBatches, {"memory": 0, "batch_size": 4}),
    ],
    ids=["batch size", "uncached", "from a file", "streamed from a file"],
)
def test_results_do_not_depend_on_how_the_data_come(trained, backend, make, fields):
    net = network(backend)
    assert train_all(net, make(random_events()), **fields) == trained[1]
    assert same(net, trained[0])


def test_a_backend_with_arrays_of_its_own_learns(trained):
    net = network(DeviceBackend())
    assert train_all(net, random_events()) == trained[1]
    assert same(net, trained[0])


def test_cached_spikes_are_what_run_gives():
    """Learning a deep layer equals learning it alone on the lower layers' output."""
    events, net = random_events(), network()
    alone = Network(LAYERS[2:], net.shapes[2], backend="cpu")
    alone.set_weights(0, net.weights[2])
    fields = {"rule": STDP(0.05, -0.03), "competition": WTA(3), "epochs": 2}
    first = fit(net, events, layer=2, **fields)
    second = fit(alone, net.run(events, stop=2), layer=0, **fields)
    assert record(first) == record(second)
    np.testing.assert_array_equal(net.weights[2], alone.weights[0])
    np.testing.assert_array_equal(net.weights[0], network().weights[0])  # frozen


def test_inhibited_input_is_pointwise_inhibition():
    events, net, alone = random_events(), network(), Network(LAYERS[2:], (5, 3, 3), backend="cpu")
    alone.set_weights(0, net.weights[2])
    fit(net, events, layer=2, rule=STDP(0.05, -0.03), inhibit_input=True)
    fit(alone, REFERENCE.pointwise(net.run(events, stop=2)), layer=0, rule=STDP(0.05, -0.03))
    np.testing.assert_array_equal(net.weights[2], alone.weights[0])
    first, second = network(), Network(LAYERS[:1], (2, 6, 6), backend="cpu")
    fit(first, events, layer=0, rule=STDP(0.05, -0.03), inhibit_input=True)
    fit(second, REFERENCE.pointwise(events), layer=0, rule=STDP(0.05, -0.03))
    np.testing.assert_array_equal(first.weights[0], second.weights[0])


def test_cached_says_so():
    events, rule = random_events(), STDP(0.1, -0.1)
    size = network().run(events, stop=2).n_events * 14
    assert fit(network(), events, layer=2, rule=rule, memory=size).cached
    assert not fit(network(), events, layer=2, rule=rule, memory=size - 14).cached
    assert fit(network(), events, layer=0, rule=rule, memory=0).cached  # they are in memory already
    assert fit(network(), InBatches(events), layer=0, rule=rule, memory=events.n_events * 14).cached
    assert not fit(network(), InBatches(events), layer=0, rule=rule, memory=events.n_events * 14 - 1).cached


STREAMED = {
    "in order": {},
    "shuffled": {"shuffle": True},
    "mini-batches": {"mini_batch": 4},
    "mini-batches, rates that change": {"mini_batch": 4, "schedule": Doubling(every=7, limit=0.15)},
    "mini-batches larger than what is read": {"mini_batch": 9, "shuffle": True},
    "inhibited": {"inhibit_input": True, "shuffle": True},
}


@pytest.mark.parametrize("name", STREAMED)
@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize("make", [lambda events: events, InBatches], ids=["in memory", "from a file"])
def test_what_does_not_fit_into_memory_teaches_the_same(name, layer, epochs, make):
    fields = {"layer": layer, "rule": STDP(0.05, -0.03), "competition": WTA(2), "epochs": epochs, "dropout": 0.3}
    events, whole, small = random_events(), network("cpu"), network("cpu")
    expected = fit(whole, events, **fields, **STREAMED[name])
    found = fit(small, make(events), memory=0, batch_size=5, **fields, **STREAMED[name])
    assert record(found) == record(expected)
    assert same(small, whole)


@pytest.mark.parametrize("memory", [0, 200, 2000])
def test_frozen_layers_run_once_when_their_spikes_go_to_a_file(memory, monkeypatch):
    """However soon it shows that the spikes are too many."""
    events, net, seen = random_events(), network(), []
    monkeypatch.setattr(
        net, "run_through", lambda batch, *layers: seen.append(len(batch)) or Network.run_through(net, batch, *layers)
    )
    history = fit(net, events, layer=2, rule=STDP(0.05, -0.03), epochs=4, batch_size=5, memory=memory)
    assert not history.cached
    assert seen == [5, 5, 5, 5, 3]


def files_of(folder):
    return [str(path) for path in folder.rglob("*")]


@pytest.mark.parametrize("failing", [None, "learning", "frozen layers"])
def test_temporary_files_are_removed(failing, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen = []

    def progress(done, total, phase):
        seen.extend(files_of(tmp_path))
        if failing is not None and (phase == "frozen layers") == (failing == "frozen layers") and done > 10:
            raise KeyboardInterrupt

    fields = {"layer": 2, "rule": STDP(0.05, -0.03), "epochs": 2, "memory": 0, "batch_size": 5, "progress": progress}
    if failing is None:
        fit(network(), random_events(), **fields)
    else:
        with pytest.raises(KeyboardInterrupt):
            fit(network(), random_events(), **fields)
    assert any("eventsnn-" in name for name in seen)
    assert files_of(tmp_path) == []


def test_a_temporary_file_that_cannot_be_written_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    net = network()
    with pytest.raises(FileNotFoundError):
        fit(net, random_events(), layer=2, rule=STDP(0.05, -0.03), memory=0, shuffle=True)
    assert same(net, network())


def test_schedule_is_applied_to_the_sample():
    """Of ten samples with every=4, numbers 0-2 learn at the initial rate, 3-6 at twice and 7-9 at four times it."""
    events, net, by_hand = random_events(n_samples=10), network(), network("reference")
    fit(net, events, layer=0, rule=STDP(0.01, -0.005), schedule=Doubling(every=4, limit=1))
    for factor, order in ((1, range(3)), (2, range(3, 7)), (4, range(7, 10))):
        update = STDP(0.01 * factor, -0.005 * factor).update(5, WTA())
        REFERENCE.learn(events, np.array(order), by_hand.packed(0), by_hand.neurons(0), update)
    np.testing.assert_array_equal(net.weights[0], by_hand.weights[0])


def test_schedule_counts_on_across_epochs():
    events = random_events()
    fields = {"layer": 0, "rule": STDP(0.01, -0.005), "schedule": Doubling(every=15, limit=1)}
    twice, once = network(), network()
    fit(twice, events, epochs=2, **fields)
    fit(once, events[[*range(23), *range(23)]], **fields)
    assert same(twice, once)


def test_adaptive_rates_by_epoch():
    """With every=None the first epoch learns at the rates of guessing, the second at those of the first's ratios."""
    events = random_events()
    rule = RSTDP((0.04, -0.03), (-0.04, 0.005), adaptive=Adaptive(low=0.1, span=0.5, every=None))
    net, by_hand = network(), network("reference")
    history = fit(net, events, layer=3, rule=rule, epochs=2)
    first = history.epochs[0]
    spikes, classes = by_hand.run(events, stop=3), np.array([0, 0, 1, 1, 2, 2])
    for hit, miss in ((1 / 3, 2 / 3), (first.hits / 23, first.misses / 23)):
        reward, punish = 0.1 + 0.5 * miss, 0.1 + 0.5 * hit
        scaled = RSTDP((0.04 * reward, -0.03 * reward), (-0.04 * punish, 0.005 * punish))
        REFERENCE.learn(spikes, np.arange(23), by_hand.packed(3), by_hand.neurons(3), *scaled.updates(classes, WTA()))
    np.testing.assert_array_equal(net.weights[3], by_hand.weights[3])


def test_dropped_maps_do_not_learn():
    events, net = random_events(), network()
    before = net.weights[0]
    history = fit(net, events, layer=0, rule=STDP(0.1, -0.1), competition=WTA(5), dropout=0.5, seed=1)
    changed = (net.weights[0] != before).any(axis=(1, 2, 3))
    assert 0 < changed.sum() < 5
    np.testing.assert_array_equal(history.epochs[0].winners > 0, changed)


def test_dropout_is_drawn_anew_for_each_epoch_from_the_seed():
    def winners(seed):
        rule = STDP(0, 0)
        history = fit(
            network(), random_events(), layer=0, rule=rule, competition=WTA(5), dropout=0.5, epochs=6, seed=seed
        )
        return [tuple(e.winners > 0) for e in history.epochs]

    assert len(set(winners(0))) > 1
    assert winners(0) == winners(0)
    assert winners(0) != winners(1)


def test_shuffle_presents_every_sample_once_in_another_order():
    events = random_events()
    plain, shuffled, again = network(), network(), network()
    fields = {"layer": 0, "rule": STDP(0.05, -0.03), "competition": WTA(2)}
    fit(plain, events, **fields)
    history = fit(shuffled, events, shuffle=True, seed=3, **fields)
    fit(again, events, shuffle=True, seed=3, **fields)
    assert history.epochs[0].presented == 23
    assert same(shuffled, again)
    assert not same(shuffled, plain)
    order = np.random.default_rng(np.random.SeedSequence(3, spawn_key=(0, 1))).permutation(23)
    assert sorted(order) == list(range(23))
    by_hand = network()
    fit(by_hand, events[order], **fields)
    assert same(shuffled, by_hand)


def test_classes_by_hand_and_by_default():
    events = random_events()
    default, explicit, other = network(), network(), network()
    fit(default, events, layer=3, rule=REWARD)
    fit(explicit, events, layer=3, rule=REWARD, classes=[0, 0, 1, 1, 2, 2])
    fit(other, events, layer=3, rule=REWARD, classes=[2, 1, 0, 2, 1, 0])
    assert same(default, explicit)
    assert not same(default, other)
    assert other.classes.tolist() == [2, 1, 0, 2, 1, 0]


def test_history():
    events, net = random_events(), network()
    events = events.where(events.sample_index() > 3)  # four silent samples
    before = net.weights[0]
    history = fit(net, events, layer=0, rule=STDP(0.05, -0.05), competition=WTA(1), epochs=2)
    first, last = history.epochs
    assert (history.layer, first.presented, first.silent) == (0, 23, 4)
    assert first.winners.sum() == 19
    assert (first.hits, first.misses, first.accuracy) == (None, None, None)
    clipped = before.clip(0, 1).astype(float)
    assert history.curve[0] == pytest.approx([0, (clipped * (1 - clipped)).mean()], rel=1e-5)
    w = net.weights[0].astype(float)
    assert last.convergence == pytest.approx((w * (1 - w)).mean(), rel=1e-5)
    assert history.curve[:, 0].tolist() == [0, 23, 46]
    text = json.loads(json.dumps(history.to_dict()))
    assert text["epochs"][1]["winners"] == last.winners.tolist()
    assert text["epochs"][0]["samples_per_second"] > 0


def test_convergence_is_relative_to_the_bounds():
    net = Network([Conv(1, 1, threshold=0, init=Normal(0.35, 0))], (1, 1, 1), backend="reference")
    events = Events.empty((1, 1, 1), 1, labels=np.array([0]))
    assert fit(net, events, layer=0, rule=RSTDP((0, 0), (0, 0))).curve[0, 1] == pytest.approx(0.25 * 0.75)


def test_accuracy_counts_silent_samples():
    events = random_events()
    events = events.where(events.sample_index() != 0)
    epoch = fit(network(), events, layer=3, rule=REWARD).epochs[0]
    assert epoch.silent == 1
    assert epoch.hits + epoch.misses == 22
    assert epoch.accuracy == epoch.hits / 23


def test_progress():
    calls = []
    fit(
        network(), random_events(), layer=2, rule=STDP(0.1, -0.1), epochs=2, batch_size=10,
        progress=lambda *call: calls.append(call),
    )  # fmt: skip
    frozen = [(10, 23, "frozen layers"), (20, 23, "frozen layers"), (23, 23, "frozen layers")]
    assert calls == [*frozen, (23, 23, "epoch 1/2"), (23, 23, "epoch 2/2")]


def test_progress_within_long_epochs():
    calls = []
    events = random_events(shape=(1, 1, 1), n_samples=2100)
    net = Network([Conv(1, 1, threshold=0)], (1, 1, 1), backend="reference")
    history = fit(net, events, layer=0, rule=STDP(0, 0), progress=lambda *call: calls.append(call))
    assert calls == [(n, 2100, "epoch 1/1") for n in (1000, 2000, 2100)]
    assert history.curve[:, 0].tolist() == [0, 1000, 2000, 2100]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layer": 1}, r"layer expects one that has weights, \[0, 2, 3\], got 1"),
        ({"epochs": 0}, "epochs expects an integer of at least 1, got 0"),
        ({"dropout": 1.0}, "dropout expects a probability"),
        ({"seed": -1}, "seed expects an integer of at least 0"),
        ({"batch_size": 0, "layer": 2}, "batch_size expects an integer of at least 1, got 0"),
        ({"data": random_events(shape=(3, 6, 6))}, r"layer 0 \(Conv\(5, kernel=3\)\) expects 2 input channels, got 3"),
        ({"rule": STDP([0.1, 0.2], -0.1)}, "a_plus has 2 rates, the layer has 5 maps"),
        ({"classes": [0, 1, 2, 0, 1]}, "classes expects RSTDP"),
        ({"rule": REWARD, "layer": 3, "schedule": Doubling()}, "schedule expects STDP"),
        ({"rule": REWARD}, "5 maps cannot be split evenly among 3 classes"),
        ({"rule": REWARD, "classes": [0, 1]}, "classes expects 5 class numbers"),
        ({"rule": REWARD, "classes": [0, 1, 0, 1, 0]}, r"a map for every label, none has \[2\]"),
        ({"rule": REWARD, "layer": 3, "data": replace(random_events(), labels=None)}, "data with labels, got none"),
        ({"schedule": Doubling(), "rule": STDP(0, -0.1)}, "a_plus other than 0"),
        ({"layer": 0.0}, "layer expects one that has weights, .*, got 0.0"),
        ({"patches": "no"}, "patches expects True or False, got 'no'"),
        ({"shuffle": 1}, "shuffle expects True or False, got 1"),
        ({"inhibit_input": "yes"}, "inhibit_input expects True or False, got 'yes'"),
        ({"select": None}, "select expects True or False, got None"),
        ({"stop_below": float("nan")}, "stop_below expects a finite number of at least 0, got nan"),
        ({"stop_below": -1}, "stop_below expects a finite number of at least 0, got -1"),
        ({"memory": 1.5}, "memory expects an integer of at least 0, got 1.5"),
        ({"mini_batch": True}, "mini_batch expects an integer of at least 1, got True"),
        ({"dropout": "0"}, "dropout expects a finite number of at least 0, got '0'"),
        ({"data": random_events()[:0]}, "data expects at least one sample, got none"),
    ],
)
def test_refuses_and_changes_nothing(fields, message):
    net = network()
    arguments = {"data": random_events(), "layer": 0, "rule": STDP(0.1, -0.1)} | fields
    data = arguments.pop("data")
    with pytest.raises(ValueError, match=message):
        fit(net, data, **arguments)
    assert same(net, network())
    assert net.classes is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schedule": STDP(0.1, -0.1)}, r"schedule expects Doubling, Annealing or None, got STDP\(a_plus=0.1"),
        ({"rule": None}, "rule expects STDP, RSTDP or Custom, got None"),
        ({"rule": same}, "rule expects STDP, RSTDP or Custom, got <function same"),
        ({"competition": 5}, "competition expects WTA, Competition or None, got 5"),
        ({"adaptation": 1}, "adaptation expects ThresholdAdaptation or None, got 1"),
        ({"suppression": 2.0}, "suppression expects Suppression or None, got 2.0"),
        ({"checkpoint": "x.h5"}, "checkpoint expects Checkpoint or None, got 'x.h5'"),
        ({"progress": 3}, "progress expects a function or None, got 3"),
        ({"on_epoch": "stop"}, "on_epoch expects a function or None, got 'stop'"),
        ({"data": [1, 2]}, r"data expects Events or an EventDataset, got \[1, 2\]"),
    ],
)
def test_refuses_other_kinds_of_values(fields, message):
    arguments = {"data": random_events(), "layer": 0, "rule": STDP(0.1, -0.1)} | fields
    data = arguments.pop("data")
    with pytest.raises(TypeError, match=message):
        fit(network(), data, **arguments)


def test_epochs_are_counted_from_1():
    numbers = []
    history = fit(
        network(), random_events(), layer=0, rule=STDP(0.1, -0.1), epochs=3, on_epoch=lambda e: numbers.append(e.number)
    )
    assert numbers == [epoch.number for epoch in history.epochs] == [1, 2, 3]
    assert [row["number"] for row in history.to_dict()["epochs"]] == [1, 2, 3]


def test_labels_below_zero_are_refused():
    events = random_events().with_labels(np.arange(23) - 1)
    with pytest.raises(ValueError, match="labels of 0 or more, got -1"):
        fit(network(), events, layer=3, rule=REWARD)


def test_a_rewarded_layer_below_the_last_does_not_decide_for_the_network(tmp_path):
    net = Network([Conv(6, kernel=3, threshold=2), Pool(2), Dense(4, threshold=inf)], (1, 6, 6))
    data = Events.from_latency(np.random.default_rng(0).integers(0, 5, (8, 1, 6, 6)), labels=[0, 1] * 4)
    fit(net, data, layer=0, rule=RSTDP(reward=(0.1, -0.1), punish=(-0.1, 0.1)))
    assert net.classes is None
    net.save(tmp_path / "net.h5")
    assert Network.load(tmp_path / "net.h5").classes is None
    fit(net, data, layer=2, rule=RSTDP(reward=(0.1, -0.1), punish=(-0.1, 0.1)))
    assert net.classes.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(("name", "value"), [("epochs", 1.5), ("epochs", 0), ("seed", -1), ("mini_batch", 2.0)])
def test_numbers_that_are_refused(name, value):
    net = Network([Conv(2, kernel=3, threshold=2)], (1, 6, 6))
    data = Events.from_latency(np.zeros((2, 1, 6, 6), int))
    with pytest.raises(ValueError, match=f"{name} expects an integer of at least"):
        fit(net, data, layer=0, rule=STDP(0.1, -0.1), **{name: value})
