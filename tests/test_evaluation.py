import json
import math

import numpy as np
import pytest
from doubles import DeviceBackend, InBatches

from eventsnn.evaluation import decide, evaluate
from eventsnn.events import Events
from eventsnn.layers import Conv, Dense, Normal, Pool, inf
from eventsnn.network import Network
from eventsnn.readout import Feature, FittedReadout, LinearReadout, features, spike_features

LAYERS = (Conv(4, 3, padding=1, threshold=7), Pool(2), Dense(6, threshold=inf, init=Normal(0, 1)))
CLASSES = [0, 1, 2, 0, 1, 2]


def random_events(seed=0, n_samples=11):
    rng = np.random.default_rng(seed)
    latency = rng.integers(-5, 9, (n_samples, 2, 6, 6)).clip(-1)
    latency[3] = -1  # a silent sample
    return Events.from_latency(latency, duration=9, labels=rng.integers(0, 3, n_samples))


def network(backend="cpu"):
    return Network(LAYERS, (2, 6, 6), seed=1, backend=backend)


def decisions_by_hand(net, events):
    """Return the class of the largest potential: all neurons of the last layer fire at the same time."""
    found = []
    for i in range(len(events)):
        spikes = net.run(events[i])
        best = np.argmax(spikes.potential) if spikes.n_events else None
        found.append(-1 if best is None else CLASSES[spikes.channel[best]])
    return np.array(found)


def test_decide(backend):
    net, events = network(backend), random_events()
    decisions = decide(net, events, CLASSES)
    np.testing.assert_array_equal(decisions, decisions_by_hand(net, events))
    assert decisions[3] == -1
    assert len(set(decisions.tolist())) > 2
    net.classes = np.array(CLASSES)
    np.testing.assert_array_equal(decide(net, InBatches(events), batch_size=4), decisions)


def test_the_first_spike_decides():
    # Neuron 0 sees the input at time 0, neuron 1 a stronger one at time 1.
    net = Network([Dense(2, threshold=0)], (2, 1, 1), backend="reference")
    net.set_weights(0, np.array([[1, 0], [0, 5]]).reshape(2, 2, 1, 1))
    assert decide(net, Events.from_latency([[[0]], [[1]]]), [7, 8]).tolist() == [7]
    assert decide(net, Events.from_latency([[[1]], [[1]]]), [7, 8]).tolist() == [8]
    assert decide(net, Events.from_latency([[[-1]], [[-1]]]), [7, 8]).tolist() == [-1]


@pytest.mark.parametrize("low", [0.0, 0.25])
@pytest.mark.parametrize("size", [40, 512])
def test_a_decision_layer_found_through_bounds_is_evaluated_like_any_other(low, size):
    events = random_events(n_samples=100)
    here, there = (network(b) for b in ("cpu", "reference"))
    for net in (here, there):
        net.set_weights(2, net.weights[2].clip(low, 1))
    found, expected = (evaluate(net, events, classes=CLASSES, batch_size=size) for net in (here, there))
    assert found.to_dict() == expected.to_dict()
    assert found.layers[-1].spikes == here.run(events).n_events / 100
    assert found.silent == (np.diff(here.run(events).offsets) == 0).sum() > 0
    np.testing.assert_array_equal(found.decisions, decisions_by_hand(there, events))
    np.testing.assert_array_equal(decide(here, events, CLASSES, batch_size=size), found.decisions)
    bottom = evaluate(here, events, stop=0, classes=[0, 1])  # the stimulus itself decides
    assert bottom.silent == (np.diff(events.offsets) == 0).sum()
    assert (bottom.layers, bottom.input.spikes) == ((), events.n_events / 100)


@pytest.mark.parametrize("make", [lambda e: e, InBatches], ids=["events", "file"])
@pytest.mark.parametrize("size", [1, 4, 100])
def test_evaluate(make, size):
    net, events = network(), random_events()
    result = evaluate(net, make(events), classes=CLASSES, batch_size=size)
    decisions = decisions_by_hand(net, events)
    np.testing.assert_array_equal(result.decisions, decisions)
    assert result.accuracy == np.mean(decisions == events.labels)
    assert (result.samples, result.silent) == (11, (decisions == -1).sum())
    pairs = list(zip(events.labels, decisions, strict=True))
    assert result.confusion.tolist() == [[pairs.count((i, j)) for j in range(3)] for i in range(3)]


def test_activity_is_counted():
    net, events = network(), random_events()
    result, outputs = evaluate(net, events, batch_size=3), net.run(events, record=True)
    assert (result.accuracy, result.decisions, result.confusion) == (None, None, None)
    assert [a.layer for a in (result.input, *result.layers)] == ["input", "Conv(4, kernel=3)", "Pool(2)", "Dense(6)"]
    assert [a.neurons for a in (result.input, *result.layers)] == [72, 144, 36, 6]
    assert [a.spikes for a in result.layers] == [o.n_events / 11 for o in outputs]
    assert result.layers[0].active == pytest.approx(outputs[0].n_events / 11 / 144)
    conv, dense = LAYERS[0].synaptic_operations(events).sum(), 6 * outputs[1].n_events
    assert [a.synaptic_operations * 11 for a in result.layers] == pytest.approx([conv, 0, dense])
    assert result.synaptic_operations == pytest.approx((conv + dense) / 11)


def test_evaluation_as_text_and_json():
    result = evaluate(network(), random_events(), classes=CLASSES)
    text = str(result)
    assert f"accuracy {result.accuracy:.2%}" in text
    assert "Conv(4, kernel=3)" in text
    fields = json.loads(json.dumps(result.to_dict()))
    assert fields["layers"][0]["spikes"] == result.layers[0].spikes
    assert fields["confusion"] == result.confusion.tolist()


def test_without_labels_there_are_decisions_but_no_accuracy():
    events = Events.from_latency(random_events().to_latency(), duration=9)
    result = evaluate(network(), events, classes=CLASSES)
    assert result.accuracy is None
    assert "no accuracy" in str(result)
    np.testing.assert_array_equal(result.decisions, decisions_by_hand(network(), events))


def test_stop_evaluates_the_lower_layers():
    net = network()
    net.classes = np.array(CLASSES)
    result = evaluate(net, random_events(), stop=2)
    assert [a.layer for a in result.layers] == ["Conv(4, kernel=3)", "Pool(2)"]
    assert result.decisions is None  # the classes belong to the last layer


def test_progress():
    calls = []
    evaluate(network(), random_events(), batch_size=5, progress=lambda *call: calls.append(call))
    assert calls == [(5, 11, "evaluate"), (10, 11, "evaluate"), (11, 11, "evaluate")]


def test_a_backend_with_arrays_of_its_own_is_evaluated():
    events = random_events()
    there, here = (evaluate(network(b), events, classes=CLASSES) for b in (DeviceBackend(), "reference"))
    assert there.to_dict() == here.to_dict()
    np.testing.assert_array_equal(decide(network(DeviceBackend()), events, CLASSES), here.decisions)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda net, events: decide(net, events), "decide expects classes"),
        (lambda net, events: decide(net, events, [0, 1]), "classes expects 6 class numbers"),
        (lambda net, events: evaluate(net, events, classes=[0.5] * 6), "classes expects 6 class numbers"),
        (lambda net, events: evaluate(net, net.run(events, stop=1)), "layer 0 .* expects 2 input channels, got 4"),
        (lambda net, events: evaluate(net, events, stop=9), "stop expects 0 to 3, got 9"),
        (lambda net, events: features(net, events, stop=0), "stop expects 1 to 3, got 0"),
        (
            lambda net, events: features(net, events, "rate"),
            "kind expects one of fired, latency, potential, counts, target-time, got 'rate'",
        ),
        (
            lambda net, events: features(net, events, "potential", stop=2),
            "kind 'potential' expects the output of a conv",
        ),
        (lambda net, events: LinearReadout(C=0), "C > 0"),
        (lambda net, events: LinearReadout(kind="rate"), "kind expects one of"),
        (lambda net, events: Feature(target=1), "target expects a part of the duration, 0 to below 1, got 1"),
        (lambda net, events: Feature(regions=(0, 2)), r"regions expects rows and columns of at least 1, got \(0, 2\)"),
        (lambda net, events: Feature(regions=2), "regions expects rows and columns"),
        (lambda net, events: Feature(regions=(1.5, 2)), "regions expects rows and columns"),
        (lambda net, events: features(net, events, Feature(regions=(4, 1)), stop=2), "regions expects at most 3 x 3"),
    ],
)
def test_refuses(act, message):
    with pytest.raises(ValueError, match=message):
        act(network(), random_events())


# Features and readout


@pytest.mark.parametrize("size", [1, 4, 100])
def test_features(backend, size):
    net, events = network(backend), random_events()
    latency = net.run(events, stop=2).to_latency().reshape(11, -1)
    fired = features(net, events, stop=2, batch_size=size)
    np.testing.assert_array_equal(fired.toarray(), latency >= 0)
    early = features(net, InBatches(events), "latency", stop=2, batch_size=size)
    np.testing.assert_array_equal(early.toarray(), np.where(latency >= 0, 9 - latency, 0))
    for matrix in (fired, early):
        assert (matrix.dtype, matrix.indices.dtype, matrix.indptr.dtype) == (np.float64, np.int32, np.int32)
        assert matrix.has_sorted_indices


def test_potentials_as_features():
    net, events = network(), random_events()
    spikes = net.run(events)
    expected = np.zeros((11, 6))
    expected[spikes.sample_index(), spikes.channel] = spikes.potential
    np.testing.assert_array_equal(features(net, events, "potential").toarray(), expected)


def separable(n_classes, n_samples=60):
    """Return features whose class is where most of them are, with its labels."""
    rng = np.random.default_rng(0)
    labels = np.arange(n_samples) % n_classes + 5
    centres = rng.random((n_classes, 40)) < 0.5
    return (centres[labels - 5] ^ (rng.random((n_samples, 40)) < 0.1)).astype(float), labels


@pytest.mark.parametrize("n_classes", [2, 3])
def test_linear_readout_is_scikit_learns(n_classes):
    from scipy.sparse import csr_array
    from sklearn.svm import LinearSVC

    table, labels = separable(n_classes)
    readout = LinearReadout(C=0.5).fit(csr_array(table[:30]), labels[:30])
    model = LinearSVC(C=0.5, dual=False).fit(table[:30], labels[:30])
    np.testing.assert_allclose(readout.coefficients, model.coef_, atol=1e-6)
    for form in (table, csr_array(table)):
        np.testing.assert_array_equal(readout.predict(form), model.predict(table))
    assert np.mean(readout.predict(table[30:]) == labels[30:]) > 0.9


def naive_features(spikes, feature):
    """Spike by spike, by the definitions."""
    channels, height, width = spikes.shape
    rows, columns = feature.regions or (height, width)
    table = np.zeros((len(spikes), channels, rows, columns))
    for i, sample in enumerate(spikes[j] for j in range(len(spikes))):
        for t, c, y, x in zip(sample.time, sample.channel, sample.y, sample.x, strict=True):
            region = (
                next(r for r in range(rows) if (r + 1) * height > y * rows),
                next(r for r in range(columns) if (r + 1) * width > x * columns),
            )
            relative = t / spikes.duration
            early = 1 - (relative - feature.target) / (1 - feature.target)
            value = {"target-time": min(max(early, 0), 1), "latency": spikes.duration - t}.get(feature.kind, 1)
            table[(i, c, *region)] += value
    return table.reshape(len(spikes), -1)


@pytest.mark.parametrize("kind", ["fired", "latency", "counts", "target-time"])
@pytest.mark.parametrize("regions", [None, (1, 1), (2, 2), (3, 2)])
def test_features_are_their_definitions(kind, regions):
    net, events = network(), random_events()
    feature = Feature(kind, target=0.25, regions=regions)
    spikes = net.run(events, stop=1)  # on a grid of 6 x 6, so that regions of 1, 2 and 3 are whole
    found = features(net, events, feature, stop=1, batch_size=4)
    np.testing.assert_allclose(found.toarray(), naive_features(spikes, feature))
    assert found.shape[1] == 4 * math.prod(regions or (6, 6))
    assert found.dtype == np.float64


def test_regions_cover_what_does_not_divide():
    spikes = Events.from_latency(np.zeros((1, 1, 5, 3), np.int64), duration=2)
    assert spike_features(spikes, Feature(regions=(2, 2))).toarray().tolist() == [[6, 3, 4, 2]]


def test_counts_are_of_all_spikes():
    where = {"time": [0, 1, 1, 3], "channel": [0, 0, 1, 0], "y": [0, 0, 0, 0], "x": [1, 1, 0, 1]}
    spikes = Events(
        **{n: np.array(v, np.int64 if n == "time" else np.uint16) for n, v in where.items()},
        offsets=np.array([0, 3, 4]),
        shape=(2, 1, 2),
        duration=4,
    )
    counts = spike_features(spikes, "counts")
    assert counts.toarray().tolist() == [[0, 2, 1, 0], [0, 1, 0, 0]]
    assert counts.nnz == 3  # no entry twice, which some classifiers would not add up


def test_target_time_by_hand():
    spikes = Events.from_latency(np.array([[[[0, 15, 16, 18, 19, -1]]]]), duration=20)
    found = spike_features(spikes, Feature("target-time", target=0.75)).toarray()[0]
    np.testing.assert_allclose(found, [1, 1, 0.8, 0.4, 0.2, 0])


def test_readout_decides_in_evaluate():
    net, events = network(), random_events()
    for kind in ("fired", "latency", Feature("target-time", 0.5, (2, 2))):
        readout = LinearReadout(kind=kind).fit(features(net, events, kind, stop=2), events.labels)
        result = evaluate(net, events, readout, stop=2, batch_size=4)
        expected = readout.predict(features(net, events, kind, stop=2))
        np.testing.assert_array_equal(result.decisions, expected)
        assert result.accuracy == np.mean(expected == events.labels) > 0.5


def test_readout_of_regions_in_a_file(tmp_path):
    feature = Feature("target-time", 0.9, (2, 3))
    FittedReadout(np.zeros((3, 4)), np.zeros(3), np.arange(3), feature).save(tmp_path / "readout.h5")
    assert FittedReadout.load(tmp_path / "readout.h5").kind == feature


def test_readout_in_a_file(tmp_path):
    table, labels = separable(3)
    readout = LinearReadout(kind="latency").fit(table, labels)
    readout.save(tmp_path / "readout.h5")
    again = FittedReadout.load(tmp_path / "readout.h5")
    assert again.kind == "latency"
    for name, array in readout.to_arrays().items():
        np.testing.assert_array_equal(again.to_arrays()[name], array)
    network().save(tmp_path / "net.h5")
    with pytest.raises(ValueError, match="format expects 'eventsnn-readout', got 'eventsnn-network'"):
        FittedReadout.load(tmp_path / "net.h5")
    with pytest.raises(ValueError, match="format expects 'eventsnn-network', got 'eventsnn-readout'"):
        Network.load(tmp_path / "readout.h5")


def test_readout_refuses_what_does_not_fit():
    readout = LinearReadout().fit(*separable(3))
    with pytest.raises(ValueError, match=r"expects 40 features, got shape \(2, 39\)"):
        readout.predict(np.zeros((2, 39)))
    with pytest.raises(ValueError, match="one row per class"):
        FittedReadout(np.zeros((2, 4)), np.zeros(2), np.arange(3))


def test_features_of_one_batch_are_those_of_the_network():
    net, events = network(), random_events()
    whole, part = features(net, events, stop=2), spike_features(net.run(events, stop=2))
    np.testing.assert_array_equal(whole.toarray(), part.toarray())
