import json

import h5py
import numpy as np
import pytest
from doubles import DeviceArray, DeviceBackend, InBatches

from eventsnn.backends import get
from eventsnn.batches import Collector, batches
from eventsnn.events import Events, concatenate, replace_fields
from eventsnn.layers import Conv, Dense, FeatureInhibition, Normal, PointwiseInhibition, Pool, inf
from eventsnn.network import Network

REFERENCE = get("reference")
LAYERS = (
    Conv(4, 3, padding=1, threshold=2.5),
    Pool(2),
    PointwiseInhibition(),
    Conv(6, 2, stride=(1, 2), threshold=(1, 1, 2, 2, 3, 3), leak=30.0, init=Normal(0.5, 0.3)),
    Dense(3, threshold=inf),
)


def random_events(seed=0, shape=(2, 6, 6), n_samples=7, duration=12):
    rng = np.random.default_rng(seed)
    latency = rng.integers(-duration // 2, duration, (n_samples, *shape)).clip(-1)
    return Events.from_latency(latency, duration=duration, labels=rng.integers(0, 3, n_samples))


def network(backend="reference", **fields):
    return Network(LAYERS, (2, 6, 6), backend=backend, **fields)


# Shapes, weights, thresholds


def test_shapes_follow_the_layers():
    net = network()
    assert net.shapes == ((2, 6, 6), (4, 6, 6), (4, 3, 3), (4, 3, 3), (6, 2, 1), (3, 1, 1))
    assert net.trainable == (0, 3, 4)
    assert {i: w.shape for i, w in net.weights.items()} == {0: (4, 2, 3, 3), 3: (6, 4, 2, 2), 4: (3, 6, 2, 1)}
    assert net.thresholds[3].tolist() == [1, 1, 2, 2, 3, 3]


def test_each_layer_has_its_own_stream():
    whole, first = network(seed=3), Network(LAYERS[:1], (2, 6, 6), seed=3, backend="reference")
    np.testing.assert_array_equal(whole.weights[0], first.weights[0])
    # A layer without weights in front of another does not move that one's stream either.
    bare = Network([LAYERS[0], LAYERS[1], LAYERS[3]], (2, 6, 6), seed=3, backend="reference")
    np.testing.assert_array_equal(whole.weights[3], bare.weights[2])
    wide = (Conv(3, 3, threshold=1), Conv(3, 3, threshold=1))
    twin = Network(wide, (3, 9, 9), backend="reference")
    assert (twin.weights[0] != twin.weights[1]).mean() > 0.9


def test_seed_decides_the_weights():
    np.testing.assert_array_equal(network(seed=1).weights[3], network(seed=1).weights[3])
    assert (network(seed=1).weights[3] != network(seed=2).weights[3]).any()


def test_weights_are_copies():
    net = network()
    for arrays in (net.weights, net.thresholds):
        with pytest.raises(ValueError, match="read-only"):
            arrays[0][:] = 7
    before = net.weights[0]
    net.set_weights(0, np.zeros_like(before))
    assert before.all()
    assert not net.weights[0].any()
    with pytest.raises(KeyError, match=r"layer 1 has no weights; layers with weights are \[0, 3, 4\]"):
        net.weights[1]


def test_set_weights_and_thresholds(backend):
    net = network(backend)
    weights = np.random.default_rng(0).random((6, 4, 2, 2))
    net.set_weights(3, weights)
    np.testing.assert_array_equal(net.weights[3], weights.astype(np.float32))
    net.set_thresholds(3, 1.5)
    assert net.thresholds[3].tolist() == [1.5] * 6
    net.set_thresholds(3, range(6))
    assert net.neurons(3).threshold.tolist() == [0, 1, 2, 3, 4, 5]
    silent = network(backend)
    silent.set_thresholds(0, 1e9)
    assert silent.run(random_events(), stop=1).n_events == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda net: net.set_weights(3, np.zeros((6, 5, 2, 2))),
            r"layer 3 \(Conv\(6, kernel=2\)\) expects 4 input channels, got 5",
        ),
        (
            lambda net: net.set_weights(3, np.zeros((6, 4, 3, 2))),
            r"expects weights of shape \(6, 4, 2, 2\), got \(6, 4, 3, 2\)",
        ),
        (lambda net: net.set_weights(0, np.full((4, 2, 3, 3), np.nan)), "expects finite weights, got nan"),
        (lambda net: net.set_weights(0, np.full((4, 2, 3, 3), "a")), "weights that are numbers"),
        (lambda net: net.set_weights(1, np.zeros(1)), r"layer expects one that has weights, \[0, 3, 4\], got 1"),
        (lambda net: net.set_thresholds(0, [1, 2]), r"layer 0 .* expects 4 thresholds, got \(2,\)"),
        (lambda net: net.set_thresholds(0, -1), "0 or more, got -1"),
        (lambda net: net.set_thresholds(0, [1, 1, 1, inf]), "mixture"),
        (lambda net: net.neurons(1), "has weights"),
    ],
)
def test_refuses_parameters(change, message):
    net = network()
    with pytest.raises(ValueError, match=message):
        change(net)


@pytest.mark.parametrize(
    ("layers", "shape", "message"),
    [
        (
            [Pool(2), Conv(3, 5, threshold=1)],
            (2, 6, 6),
            r"layer 1 \(Conv\(3, kernel=5\)\) does not fit its input \(2, 3, 3\)",
        ),
        ([FeatureInhibition([2])], (2, 6, 6), r"layer 0 \(FeatureInhibition.* maps expects indices below 2"),
        ([], (2, 6), "shape expects"),
        ([], (0, 6, 6), "shape expects three sizes"),
    ],
)
def test_refuses_networks(layers, shape, message):
    with pytest.raises(ValueError, match=message):
        Network(layers, shape, backend="reference")


# Running


def test_run_is_the_chain_of_the_layers(backend):
    net, events = network(backend), random_events()
    expected, spikes = [], events
    for i, layer in enumerate(LAYERS):
        spikes = layer.run(spikes, REFERENCE, net.weights[i]) if i in net.trainable else layer.run(spikes, REFERENCE)
        expected.append(spikes)
    recorded = net.run(events, record=True)
    assert [a.equals(b) for a, b in zip(recorded, expected, strict=True)] == [True] * 5
    assert all(spikes.n_events for spikes in expected)
    assert net.run(events).equals(expected[-1])
    assert net.run(events, start=0, stop=2).equals(expected[1])
    assert net.run(expected[1], start=2, stop=4).equals(expected[3])
    assert net.run(events, stop=0).equals(events)


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_batch_size_does_not_matter(backend, size):
    net, events = network(backend), random_events()
    whole = net.run(events, record=True, batch_size=100)
    parts = net.run(events, record=True, batch_size=size)
    assert all(a.equals(b) for a, b in zip(whole, parts, strict=True))
    assert net.run(InBatches(events), batch_size=size).equals(whole[-1])


def test_labels_duration_and_unit_go_along():
    events = replace_fields(random_events(), duration=40, unit="us")
    out = network().run(events)
    assert (out.duration, out.unit) == (40, "us")
    np.testing.assert_array_equal(out.labels, events.labels)
    assert set(out.time) == {39}


def test_no_samples():
    out = network().run(Events.empty((2, 6, 6), 0, duration=5))
    assert (len(out), out.shape, out.duration) == (0, (3, 1, 1), 5)
    assert len(network().run(InBatches(Events.empty((2, 6, 6), 0, duration=5)))) == 0


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (
            lambda net: net.run(random_events(shape=(3, 6, 6))),
            r"layer 0 \(Conv\(4, kernel=3\)\) expects 2 input channels, got 3",
        ),
        (lambda net: net.run(random_events(shape=(2, 6, 7))), "layer 0 .* expects a grid of 6x6, got 6x7"),
        (lambda net: net.run(random_events(), start=3), "layer 3 .* expects 4 input channels, got 2"),
        (lambda net: net.run(random_events(), stop=6), "expects 0 <= start <= stop <= 5, got 0 and 6"),
        (lambda net: net.run(random_events(), start=2, stop=1), "got 2 and 1"),
        (lambda net: net.run(random_events(), batch_size=0), "batch_size expects at least 1 sample, got 0"),
    ],
)
def test_refuses_runs(run, message):
    with pytest.raises(ValueError, match=message):
        run(network())


def test_a_batch_with_another_duration_is_refused():
    data = InBatches(random_events())
    data.duration += 1
    with pytest.raises(ValueError, match="a batch has duration 12, its data set 13"):
        list(batches(data))


@pytest.mark.parametrize("potential", [True, False])
def test_collector_equals_concatenation(potential):
    events = random_events(n_samples=20)
    if potential:
        events = replace_fields(events, potential=np.arange(events.n_events, dtype=np.float32))
    # Ever larger batches, so that the estimate is too low, and again none, so that it is too high.
    parts = [events[:1], events[1:3], events[3:10], events[10:20], Events.empty(events.shape, 0, duration=12)]
    parts[-1] = replace_fields(events[:0])
    for n_samples in (1, 20, 1000):
        collector = Collector(n_samples)
        for part in parts:
            collector.add(part)
        assert collector.result().equals(concatenate(parts))
    assert collector.estimated_bytes() == pytest.approx(events.n_events * (18 if potential else 14) * 50, rel=0.01)


def test_collector_drops_potentials_if_asked():
    events = replace_fields(random_events(), potential=np.zeros(random_events().n_events, np.float32))
    for parts in ([events], [events[:2], events[2:]]):
        collector = Collector(len(events), potential=False)
        for part in parts:
            collector.add(part)
        assert collector.result().equals(replace_fields(events, potential=None))
    with pytest.raises(ValueError, match="at least one batch"):
        Collector(1).result()


def test_a_backend_with_arrays_of_its_own_runs():
    nets = [network(b) for b in (DeviceBackend(), REFERENCE)]
    there, here = (net.run(random_events(), record=True, batch_size=3) for net in nets)
    assert all(a.equals(b) for a, b in zip(there, here, strict=True))
    assert not any(isinstance(spikes.time, DeviceArray) for spikes in there)


# Files


def test_save_and_load(backend, tmp_path):
    net = network(backend, seed=5)
    net.set_weights(0, np.random.default_rng(0).normal(size=(4, 2, 3, 3)))
    net.set_thresholds(3, range(6))
    net.classes = np.array([0, 1, 1])
    net.save(tmp_path / "net.h5")
    again = Network.load(tmp_path / "net.h5", backend="reference")
    assert (again.layers, again.shapes, again.seed) == (net.layers, net.shapes, 5)
    for i in net.trainable:
        np.testing.assert_array_equal(again.weights[i], net.weights[i])
        np.testing.assert_array_equal(again.thresholds[i], net.thresholds[i])
    np.testing.assert_array_equal(again.classes, net.classes)
    assert again.run(random_events()).equals(net.run(random_events()))
    assert [p.name for p in tmp_path.iterdir()] == ["net.h5"]


def disk_full(*_, **__):
    raise OSError("disk full")


def test_save_replaces_whole_files_only(tmp_path, monkeypatch):
    path = tmp_path / "net.h5"
    network(seed=1).save(path)
    before = path.read_bytes()
    other = network(seed=2)
    with monkeypatch.context() as patch:
        patch.setattr(h5py.Group, "create_dataset", disk_full)
        with pytest.raises(OSError, match="disk full"):
            other.save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
    other.save(path)
    np.testing.assert_array_equal(Network.load(path, "reference").weights[0], network(seed=2).weights[0])


def edit_meta(file, change):
    meta = json.loads(file["meta"][()].tobytes())
    change(meta)
    replace_dataset(file, "meta", np.frombuffer(json.dumps(meta).encode(), np.uint8))


def replace_dataset(file, name, array):
    del file[name]
    file.create_dataset(name, data=array, chunks=True, fletcher32=True)


def external_link(file):
    with h5py.File(file.filename + ".other", "w") as other:
        other["weights"] = file["weights/0"][()]
    del file["weights/0"]
    file["weights/0"] = h5py.ExternalLink(file.filename + ".other", "/weights")


def external_storage(file):
    shape = file["weights/0"].shape
    del file["weights/0"]
    file.create_dataset("weights/0", shape, "f4", external=[("/dev/zero", 0, int(np.prod(shape)) * 4)])


def bomb(file):
    del file["weights/0"]
    file.create_dataset("weights/0", (4, 2, 3, 3 << 30), "f4", chunks=(4, 2, 3, 3))


def hole(file):
    del file["weights/0"]
    file.create_dataset("weights/0", (4, 2, 3, 3), "f4", chunks=(1, 2, 3, 3))[:3] = 1


def lose(file, name):
    del file[name]


def newer(file):
    file.attrs["format_version"] = 2


def foreign(file):
    file.attrs["format"] = "eventsnn-events"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (foreign, "format expects 'eventsnn-network', got 'eventsnn-events'"),
        (newer, "format_version 2 is newer than 1"),
        (lambda f: f.attrs.__delitem__("format"), "got None"),
        (lambda f: f.attrs.__setitem__("format_version", "x"), "not a file that eventsnn can read"),
        (lambda f: lose(f, "meta"), "'meta' is missing"),
        (lambda f: lose(f, "weights/3"), "'weights/3' is missing"),
        (lambda f: replace_dataset(f, "meta", np.frombuffer(b"{not json", np.uint8)), "not a file that eventsnn can"),
        (lambda f: replace_dataset(f, "meta", np.frombuffer(b"[]", np.uint8)), "does not list the arrays"),
        (lambda f: replace_dataset(f, "weights/0", np.zeros((4, 2, 3, 4), "f4")), "was written as"),
        (lambda f: replace_dataset(f, "weights/0", np.zeros((4, 2, 3, 3))), "was written as"),
        (external_link, "link that is not followed"),
        (external_storage, "another file"),
        (bomb, "are stored"),
        (hole, "holes"),
        (lambda f: edit_meta(f, lambda m: m["arrays"].pop("weights/0")), "inconsistent network: expected the arrays"),
        (lambda f: edit_meta(f, lambda m: m["layers"].pop()), "inconsistent network"),
        (lambda f: edit_meta(f, lambda m: m["layers"][0].update(features=5)), "weights of layer 0 .* have shape"),
        (lambda f: edit_meta(f, lambda m: m["layers"][0].update(type="exec")), "layer expects a type"),
        (lambda f: edit_meta(f, lambda m: m.update(shape=[3, 6, 6])), "inconsistent network"),
        (lambda f: edit_meta(f, lambda m: m.update(layers=3)), "inconsistent network"),
        (lambda f: edit_meta(f, lambda m: m.pop("seed")), "inconsistent network"),
        (lambda f: replace_dataset(f, "thresholds/0", np.full(4, -1, "f4")), "inconsistent network: .* 0 or more"),
        (lambda f: replace_dataset(f, "weights/0", np.full((4, 2, 3, 3), np.nan, "f4")), "finite"),
        (lambda f: replace_dataset(f, "classes", np.array([0, 1, -1])), "classes expects 3"),
    ],
)
def test_refuses_files(damage, message, tmp_path):
    path, net = tmp_path / "net.h5", network()
    net.classes = np.array([0, 1, 2])
    net.save(path)
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(ValueError, match=message) as caught:
        Network.load(path, "reference")
    assert str(path) in str(caught.value)


def test_refuses_what_is_no_whole_file(tmp_path):
    path = tmp_path / "net.h5"
    network().save(path)
    whole = path.read_bytes()
    for broken in (b"", b"hello", whole[: len(whole) // 2], whole[:-100]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="not a file that eventsnn can read"):
            Network.load(path, "reference")
    with pytest.raises(FileNotFoundError, match="no such file"):
        Network.load(tmp_path / "none.h5")


def flip(path, whole, place, bit):
    broken = bytearray(whole)
    broken[place] ^= 1 << bit
    path.write_bytes(broken)


def test_flipped_bits_never_give_other_weights(tmp_path):
    path, net = tmp_path / "net.h5", network()
    net.save(path)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for place, bit in zip(rng.integers(0, len(whole), 100), rng.integers(0, 8, 100), strict=True):
        flip(path, whole, place, bit)
        try:
            again = Network.load(path, "reference")
        except ValueError:
            continue
        for i in net.trainable:
            np.testing.assert_array_equal(again.weights[i], net.weights[i])
            np.testing.assert_array_equal(again.thresholds[i], net.thresholds[i])


@pytest.mark.parametrize("name", ["meta", "weights/0", "thresholds/4"])
def test_a_flipped_bit_in_an_array_is_noticed(name, tmp_path):
    path = tmp_path / "net.h5"
    network().save(path)
    with h5py.File(path) as file:
        chunk = file[name].id.get_chunk_info(0)
    whole = path.read_bytes()
    for place in np.linspace(chunk.byte_offset, chunk.byte_offset + chunk.size - 1, 5).astype(int):
        flip(path, whole, place, 3)
        with pytest.raises(ValueError, match="not a file that eventsnn can read"):
            Network.load(path, "reference")


@pytest.mark.parametrize("record", [False, True])
def test_samples_without_a_spike_are_kept_in_every_batch(record):
    # 600 samples are two batches of the usual size, and nobody fires in either.
    events = Events.from_latency(np.ones((600, 1, 4, 4), int), duration=5, labels=list(range(600)))
    silent = Network([Conv(2, kernel=3, threshold=99)], (1, 4, 4)).run(events, record=record)
    for output in silent if record else [silent]:
        assert len(output) == 600
        assert output.n_events == 0
        assert output.labels.tolist() == list(range(600))
