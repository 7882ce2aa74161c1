"""Which epoch is best, what is kept of it, when training ends early, and the weights noted on the way."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from doubles import DeviceBackend, InBatches
from rows import row

from eventsnn import snapshots as snapshots_module
from eventsnn.evaluation import evaluate
from eventsnn.events import Events, concatenate
from eventsnn.history import History
from eventsnn.layers import Conv, Dense, Normal, Pool, inf
from eventsnn.network import Network
from eventsnn.plasticity import RSTDP, STDP, WTA, Doubling, ThresholdAdaptation
from eventsnn.snapshots import read_snapshots, write_snapshots
from eventsnn.train import fit

SHAPE = (2, 6, 6)
RULE = STDP(0.05, -0.04)
REWARD = RSTDP((0.2, -0.15), (-0.2, 0.05), adaptive=None)


def random_events(n_samples=20, seed=0, duration=9):
    rng = np.random.default_rng(seed)
    latency = rng.integers(-duration // 2, duration, (n_samples, *SHAPE)).clip(-1)
    return Events.from_latency(latency, duration=duration, labels=rng.integers(0, 3, n_samples))


def network(maps=5, backend="cpu"):
    layers = [
        Conv(maps, 3, padding=1, threshold=2.5, init=Normal(0.6, 0.2)), Pool(2),
        Dense(6, threshold=inf, init=Normal(0.5, 0.1)),
    ]  # fmt: skip
    return Network(layers, SHAPE, backend=backend)


def learn(net=None, layer=0, **fields):
    """Return a network and the history of its layer."""
    net = net or network()
    fields = {"data": random_events(), "rule": REWARD if layer else RULE} | fields
    return net, fit(net, layer=layer, **fields)


def scripted(*scores):
    """Return a score that says these, whatever the network."""
    left = list(scores)
    return lambda net: left.pop(0)


# The best epoch


@pytest.mark.parametrize("backend", ["reference", "cpu", DeviceBackend()], ids=["reference", "cpu", "device"])
@pytest.mark.parametrize("fields", [{}, {"memory": 0, "batch_size": 1}], ids=["cached", "streamed"])
def test_the_best_epoch_by_hand(backend, fields):
    """Two neurons see two inputs; the only training sample is the first input, of class 0.

    Start: (4, 4), (5, 3) eighths. Epoch 1: the second neuron wins and is wrong: (4, 4), (4, 4); of equals the first
    wins, so only the held-out sample of class 0 is right. Epoch 2: the first wins and is right: (5, 3), (4, 4), and
    both are right. Epochs 3 and 4: (6, 2), then (7, 1), no better.
    """
    net = Network([Dense(2, threshold=inf)], (1, 1, 2), backend=backend)
    net.set_weights(0, np.array([[[[4, 4]]], [[[5, 3]]]]) / 8)
    held_out = concatenate([row((0, 0), width=2, labels=[0]), row((0, 1), width=2, labels=[1])])
    rule = RSTDP((1 / 8, -1 / 8), (-1 / 8, 1 / 8), stabilizer=False, adaptive=None)
    data = row((0, 0), width=2, labels=[0])
    history = fit(net, data, layer=0, rule=rule, classes=[0, 1], epochs=4, validation=held_out, **fields)
    assert history.validation == (0.5, 1, 1, 1)
    assert [epoch.score for epoch in history.epochs] == [0.5, 1, 1, 1]
    assert history.best == 1
    assert (8 * net.weights[0]).reshape(2, 2).tolist() == [[5, 3], [4, 4]]
    assert history.to_dict()["validation"] == [0.5, 1, 1, 1]
    assert history.to_dict()["best"] == 1


def test_validation_is_what_evaluate_says_of_each_epoch():
    held_out, seen = random_events(30, seed=5), []
    net = network()
    _, history = learn(
        net, 2, epochs=6, validation=InBatches(held_out), select=False,
        on_epoch=lambda epoch: seen.append((evaluate(net, held_out).accuracy, epoch.validation, epoch.score)),
    )  # fmt: skip
    assert seen == [(a, a, a) for a in history.validation]
    assert len(set(history.validation)) > 1


def test_weights_and_thresholds_of_the_first_of_the_best_are_kept():
    fields = {"adaptation": ThresholdAdaptation(0.3, 0.6, floor=1.5), "dropout": 0.3, "seed": 2}
    net, history = learn(epochs=5, score=scripted(1, 3, -2, 3, 0), **fields)
    assert [epoch.score for epoch in history.epochs] == [1, 3, -2, 3, 0]
    assert (history.best, history.validation) == (1, ())
    expected, last = learn(epochs=2, **fields)[0], learn(epochs=5, **fields)[0]
    for of in ("weights", "thresholds"):
        np.testing.assert_array_equal(getattr(net, of)[0], getattr(expected, of)[0])
        assert not np.array_equal(getattr(expected, of)[0], getattr(last, of)[0])
    whole, noted = learn(epochs=5, score=scripted(1, 3, -2, 3, 0), select=False, **fields)
    assert noted.best == 1
    np.testing.assert_array_equal(whole.weights[0], last.weights[0])
    np.testing.assert_array_equal(whole.thresholds[0], last.thresholds[0])


@pytest.mark.parametrize("backend", ["reference", "cpu", DeviceBackend()], ids=["reference", "cpu", "device"])
@pytest.mark.parametrize("maps", [1, 4, 40])
def test_weights_of_one_input_are_kept_too(backend, maps):
    """One weight a map: turned over, their rows lie in memory as before, and may not be a view of what learns on."""
    latency = np.random.default_rng(0).integers(0, 6, (30, 1, 4, 4))
    net = Network([Conv(maps, 1, threshold=0.5)], (1, 4, 4), backend=backend)
    before, seen = net.weights[0], []
    initial = before.copy()
    score = scripted(3, 2, 1)
    note = lambda epoch: seen.append(net.weights[0].copy())  # noqa: E731
    learn(net, data=Events.from_latency(latency, duration=6), epochs=3, score=score, on_epoch=note)
    assert np.array_equal(before, initial)
    assert not np.array_equal(seen[0], seen[-1])
    assert np.array_equal(net.weights[0], seen[0])


def test_a_score_chooses_although_there_are_validation_data():
    held_out = random_events(30, seed=5)
    _, history = learn(layer=2, epochs=3, validation=held_out, score=scripted(-1, -3, -2))
    assert history.best == 0
    assert history.validation == learn(layer=2, epochs=3, validation=held_out)[1].validation
    assert [epoch.score for epoch in history.epochs] == [-1, -3, -2]


def test_judging_does_not_change_learning():
    plain, history = learn(layer=2, epochs=4)
    judged, _ = learn(layer=2, epochs=4, validation=random_events(7, seed=3), select=False)
    np.testing.assert_array_equal(plain.weights[2], judged.weights[2])
    assert (history.best, history.validation) == (None, ())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layer": 2, "validation": replace(random_events(4), labels=None)}, "validation expects samples with labels"),
        ({"layer": 2, "validation": random_events(4)[:0]}, "validation expects samples with labels, got none"),
        (
            {"layer": 2, "validation": Events.empty((2, 5, 6), 3, labels=np.zeros(3, int))},
            "validation: layer 0 .* expects a grid of 6x6, got 5x6",
        ),
        ({"validation": random_events(4)}, "validation expects a last layer that learns from reward"),
        (
            {"validation": random_events(4), "rule": REWARD, "classes": [0, 1, 2, 0, 1]},
            "validation expects a last layer that learns from reward",
        ),
        ({"score": 0.5}, "score expects a function of the network, got 0.5"),
    ],
)  # fmt: skip
def test_refuses_and_changes_nothing(fields, message, tmp_path):
    net = network()
    with pytest.raises(ValueError, match=message):
        learn(net, **fields)
    assert all(np.array_equal(net.weights[i], network().weights[i]) for i in net.trainable)
    assert net.classes is None


@pytest.mark.parametrize("score", [float("nan"), float("inf"), None, "high"])
def test_a_score_that_is_no_number_is_refused(score):
    with pytest.raises(ValueError, match=f"score expects a function that returns a finite number, got {score!r}"):
        learn(score=lambda net: score)


# The end


@pytest.mark.parametrize(("answer", "epochs"), [(True, 2), (np.True_, 2), (1, 4), ([0], 4), (None, 4), (False, 4)])
def test_only_a_plain_yes_ends_training(answer, epochs):
    seen = []
    net, history = learn(epochs=4, on_epoch=lambda epoch: seen.append(epoch) or (answer if len(seen) == 2 else None))
    assert len(history.epochs) == len(seen) == epochs
    assert not history.converged
    np.testing.assert_array_equal(net.weights[0], learn(epochs=epochs)[0].weights[0])


def test_on_epoch_knows_the_score_and_the_best_is_kept_when_it_ends():
    net, history = learn(epochs=9, score=scripted(1, 2, 0), on_epoch=lambda epoch: epoch.score == 0)
    assert (len(history.epochs), history.best) == (3, 1)
    np.testing.assert_array_equal(net.weights[0], learn(epochs=2)[0].weights[0])


# Snapshots


@pytest.mark.parametrize("fields", [{}, {"memory": 0, "batch_size": 33}], ids=["cached", "streamed"])
def test_snapshots_are_the_weights_after_so_many_presentations(fields):
    data, net = random_events(230), network(maps=20)
    rule = {"rule": RULE, "competition": WTA(2), "schedule": Doubling(every=70, limit=0.2)}
    start = net.weights[0]
    _, history = learn(net, data=data, epochs=2, **rule, **fields)
    assert list(history.snapshots) == [0, 100, 200, 400, 460]
    assert {weights.shape for weights in history.snapshots.values()} == {(16, 2, 3, 3)}
    np.testing.assert_array_equal(history.snapshots[0], start[:16])
    twice = concatenate([data, data])
    for n in (100, 200, 400, 460):
        expected, _ = learn(network(maps=20), data=twice[:n], **rule)
        np.testing.assert_array_equal(history.snapshots[n], expected.weights[0][:16])


def test_snapshots_leave_mini_batches_whole(monkeypatch):
    fields = {"data": random_events(230), "mini_batch": 7, "schedule": Doubling(every=70, limit=0.2)}
    net, history = learn(**fields)
    assert list(history.snapshots) == [0, 104, 202, 230]  # rates change after 69, 139, 209; then 5 and 9 mini-batches
    monkeypatch.setattr("eventsnn.learner.next_moment", lambda last: 10**9)
    without, history = learn(**fields)
    assert list(history.snapshots) == [0, 230]
    np.testing.assert_array_equal(net.weights[0], without.weights[0])


def test_snapshots_are_few():
    moments = [0]
    while moments[-1] < 10**9:
        moments.append(snapshots_module.next_moment(moments[-1]))
    assert moments[:5] == [0, 100, 200, 400, 800]
    assert len([moment for moment in moments if moment <= 10**6]) == 15
    assert len(moments) < 30
    assert snapshots_module.next_moment(105) == 200


def with_snapshots(layer, *moments):
    weights = {moment: np.full((2, 1, 1, 3), moment + layer, np.float32) for moment in moments}
    return History(layer, (), np.zeros((1, 2)), 0, True, snapshots=weights)


def test_snapshots_of_a_run_come_back_by_layer(tmp_path):
    path = tmp_path / "snapshots.h5"
    write_snapshots(path, [with_snapshots(0, 0, 100, 130), with_snapshots(2, 0), with_snapshots(0, 0, 50)])
    found = read_snapshots(path)
    assert {layer: list(moments) for layer, moments in found.items()} == {0: [0, 100, 130, 180], 2: [0]}
    assert [int(weights[0, 0, 0, 0]) for weights in found[0].values()] == [0, 100, 0, 50]
    assert list(tmp_path.iterdir()) == [path]
    write_snapshots(path, [])
    assert read_snapshots(path) == {}


def test_snapshots_are_read_without_trust(tmp_path):
    path = tmp_path / "snapshots.h5"
    with pytest.raises(FileNotFoundError, match=r"snapshots\.h5: no such file"):
        read_snapshots(path)
    network().save(path)
    with pytest.raises(ValueError, match=r"snapshots\.h5: .*format expects 'eventsnn-snapshots'"):
        read_snapshots(path)
    write_snapshots(path, [with_snapshots(0, 100, 0)])
    with pytest.raises(ValueError, match=r"snapshots\.h5: inconsistent snapshots: .*rising moments"):
        read_snapshots(path)
    write_snapshots(path, [with_snapshots(0, 0, 100)])
    with h5py.File(path, "r+") as file:
        del file["0/snapshots"]
    with pytest.raises(ValueError, match=r"snapshots\.h5: not a file that eventsnn can read: '0/snapshots' is missing"):
        read_snapshots(path)
