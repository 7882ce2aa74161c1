"""What a profile counts, against a count neuron by neuron and synapse by synapse, and by hand."""

import json
import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import oracle
import pytest
import strategies
from doubles import DeviceBackend, InBatches
from hypothesis import given
from hypothesis import strategies as st
from rows import row

import eventsnn as es
from eventsnn import Conv, Dense, Events, FeatureInhibition, Network, Normal, PointwiseInhibition, Pool, inf
from eventsnn.backends.cpu import CpuBackend
from eventsnn.backends.reference import ReferenceBackend
from eventsnn.profile.table import number
from eventsnn.study import profile, results, vector_adds_per_second

COUNTS = ("inputs", "spikes", "operations", "stopped", "macs", "bytes_moved", "spikes_over_time")
LAYERS = (
    Conv(5, (3, 2), stride=(1, 2), padding=1, threshold=1.5, init=Normal(0.4, 0.4)),
    Pool(2),
    PointwiseInhibition(),
    Conv(4, 2, padding=(0, 1), threshold=(0.5, 0.5, 1, 1), leak=3.0, init=Normal(0.5, 0.3)),
    FeatureInhibition([1]),
    Dense(3, threshold=0.25, init=Normal(0.3, 0.2)),
)


def random_events(n_samples=11, seed=0, unit="bin", duration=9):
    """Return stimuli whose pixels fire several times, at times that repeat; one is silent."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(20, 80, n_samples)
    counts[3 % n_samples] = 0
    n = int(counts.sum())
    columns = [rng.integers(0, size, n) for size in (duration, 2, 7, 8)]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return Events.from_columns(*columns, shape=(2, 7, 8), offsets=offsets, duration=duration, unit=unit)


def network(backend="cpu", **where):
    where = where or {"backend": backend}
    return Network(LAYERS, (2, 7, 8), seed=2, **where)


def samples_of(events):
    """Return the spikes (time, channel, y, x) of each sample."""
    spikes = list(zip(*(c.tolist() for c in (events.time, events.channel, events.y, events.x)), strict=True))
    return [spikes[a:b] for a, b in pairwise(events.offsets.tolist())]


def count(spikes, latency, channels, kernel, stride, padding):
    """Follow each synapse of each neuron; return the spikes it gets, and those later than its neuron's own."""
    operations = stopped = 0
    for (_, oy, ox), fired in np.ndenumerate(latency):
        for c, ky, kx in np.ndindex(channels, *kernel):
            place = (c, oy * stride[0] + ky - padding[0], ox * stride[1] + kx - padding[1])
            arrivals = [t for t, *where in spikes if tuple(where) == place]
            operations += len(arrivals)
            stopped += sum(t > fired for t in arrivals) if fired != oracle.NEVER else 0
    return operations, stopped


@given(strategies.layers(maps=(1, 2, 3), max_samples=3), st.sampled_from(["cpu", "reference"]))
def test_operations_are_those_of_every_synapse(layer, backend):
    cells, shape = layer.neurons, layer.events.shape
    kernel, stride, padding = cells.geometry.kernel, cells.geometry.stride, cells.geometry.padding
    leak = None if cells.leak is None else cells.leak.tau
    conv = Conv(len(layer.weights), kernel, stride=stride, padding=padding, threshold=cells.threshold, leak=leak)
    net = Network([conv], shape, backend=backend)
    net.set_weights(0, layer.weights)
    found = profile(net, layer.events, batch_size=2).layers[0]
    decay = None if cells.leak is None else cells.leak.factor
    expected = []
    for spikes in samples_of(layer.events):
        args = (layer.weights, cells.threshold, stride, padding, decay, layer.events.duration)
        latency, _ = oracle.layer(spikes, shape, *args)
        expected.append(count(spikes, latency, shape[0], kernel, stride, padding))
    assert list(zip(found.operations.tolist(), found.stopped.tolist(), strict=True)) == expected
    if cells.at_end:
        assert not found.stopped.any()


def test_each_layer_of_a_network_is_counted():
    net, events = network(), random_events()
    found, outputs = profile(net, events), [events, *net.run(events, record=True)]
    for index, layer in enumerate(found.layers):
        given, made = samples_of(outputs[index]), outputs[index + 1]
        assert (layer.layer, layer.name, layer.shape) == (index, str(LAYERS[index]), made.shape)
        assert layer.inputs.tolist() == [len(spikes) for spikes in given]
        assert layer.spikes.tolist() == np.diff(made.offsets).tolist()
        np.testing.assert_array_equal(layer.active, layer.spikes / np.prod(made.shape))
        expected = [(0, 0)] * len(events)
        if index in net.trainable:
            cells = net.neurons(index).geometry
            sizes = (outputs[index].shape[0], cells.kernel, cells.stride, cells.padding)
            expected = [count(*pair, *sizes) for pair in zip(given, made.to_latency(), strict=True)]
        assert list(zip(layer.operations.tolist(), layer.stopped.tolist(), strict=True)) == expected
    assert all(found.layers[i].stopped.sum() > 0 for i in net.trainable)  # or nothing of this was tested


@pytest.mark.parametrize(
    ("threshold", "leak", "stopped"),
    [
        (1, None, 2),  # fires at 1, together with all that comes at 1; 2 and 5 are too late
        (4, None, 0),  # fires at 5
        (9, None, 0),  # never fires
        (2.75, 1.5, 0),  # without the leak it would fire at 1
        (inf, None, 0),  # fires at the end, after everything
    ],
)
def test_stopped_by_hand(backend, threshold, leak, stopped):
    events = row((0, 0), (1, 0), (1, 0), (2, 1), (5, 0), duration=6, width=2)
    net = Network([Dense(1, threshold=threshold, leak=leak, init=Normal(1, 0))], (1, 1, 2), backend=backend)
    layer = profile(net, events).layers[0]
    assert (layer.operations.tolist(), layer.stopped.tolist()) == ([5], [stopped])
    assert layer.effective.tolist() == [5 - stopped]


@pytest.mark.parametrize(
    ("intervals", "edges"), [(64, [*range(10)]), (9, [*range(10)]), (4, [0, 2, 4, 6, 9]), (1, [0, 9])]
)
def test_spikes_over_time(intervals, edges):
    net, events = network(), random_events()
    found = profile(net, events, intervals=intervals, batch_size=4)
    assert found.edges.tolist() == edges
    counted = [found.inputs_over_time, *(layer.spikes_over_time for layer in found.layers)]
    for over_time, spikes in zip(counted, [events, *net.run(events, record=True)], strict=True):
        for i in range(len(events)):
            assert over_time[i].tolist() == np.histogram(spikes[i].time, [*edges[:-1], 9.5])[0].tolist()
    for layer in found.layers:
        assert layer.spikes_over_time.sum(axis=1).tolist() == layer.spikes.tolist()
    assert found.inputs_over_time.sum(axis=1).tolist() == found.inputs.tolist()


def test_microseconds_are_counted_in_intervals_and_computed_densely_in_milliseconds():
    events = random_events(unit="us", duration=9_001)
    found = profile(network(), events)
    assert (len(found.edges), found.edges[0], found.edges[-1], found.steps) == (65, 0, 9_001, 10)
    assert np.diff(found.edges).max() - np.diff(found.edges).min() == 1
    assert found.inputs_over_time.sum(axis=1).tolist() == np.diff(events.offsets).tolist()


def by_hand(backend="cpu"):
    """Return a network of nine neurons at three positions, of which the middle one sees both inputs, and a stimulus."""
    layers = [Conv(3, (1, 2), padding=(0, 1), threshold=1.5, init=Normal(1, 0)), Pool((1, 3))]
    events = row((0, 0), (1, 0), (1, 0), (2, 1), (5, 0), duration=6, width=2)
    return Network(layers, (1, 1, 2), backend=backend), events


def test_costs_by_hand():
    net, events = by_hand()
    found = profile(net, events, pj_per_operation=2, pj_per_mac=10)
    conv, pool = found.layers
    # Left and middle fire at 1: the inputs at 5, and at 2 and 5, come too late. The right one gets one input only.
    assert conv.operations.tolist() == [3 * (4 + 5 + 1)]
    assert conv.stopped.tolist() == [3 * (1 + 2)]
    assert conv.macs.tolist() == [6 * 9 * 2]
    assert conv.energy == pytest.approx(21 * 2e-12)
    assert conv.dense_energy == pytest.approx(108 * 10e-12)
    assert conv.bytes_moved.tolist() == [5 * 14 + 6 * 18 + 4 * 21 + 8 * 9]
    assert (pool.inputs.tolist(), pool.spikes.tolist()) == ([6], [3])
    assert pool.bytes_moved.tolist() == [6 * 18 + 3 * 14]
    for array in (pool.operations, pool.stopped, pool.macs, pool.energy, pool.dense_energy):
        assert not array.any()
    other = found.costing(pj_per_operation=1).layers[0]
    assert (other.energy[0], other.dense_energy[0]) == pytest.approx((21e-12, 1080e-12))
    default = profile(net, events, steps=4).layers[0]
    assert (default.macs[0], default.energy[0], default.dense_energy[0]) == pytest.approx((72, 18.9e-12, 331.2e-12))


class Clocked(ReferenceBackend):
    """A backend on which any work takes two seconds."""

    def timed(self, work):
        return work(), 2.0


def test_time_is_shared_by_the_samples_of_a_batch():
    net, events = network(Clocked()), random_events()
    found = profile(net, events, batch_size=4, peak=100.0)
    for index, layer in enumerate(found.layers):
        assert layer.fused == (index == 1)  # the pool after a layer with weights
        expected = np.repeat([2 / 4, 2 / 4, 2 / 3], [4, 4, 3])
        np.testing.assert_allclose(layer.seconds, 0 if layer.fused else expected)
    conv, pool = found.layers[:2]
    assert conv.additions_per_second == pytest.approx((conv.operations - conv.stopped).sum() / 6)
    assert conv.share_of_peak == pytest.approx(conv.additions_per_second / 100)
    assert (pool.additions_per_second, pool.share_of_peak) == (None, None)
    assert profile(net, events).layers[0].share_of_peak is None
    assert found.total()["seconds"] == pytest.approx(5 * 6 / 11)


def test_time_is_measured():
    found = profile(network(CpuBackend(threads=2)), random_events(), peak=True)
    assert found.costs.peak > 1e8
    assert all((layer.seconds > 0).all() for layer in found.layers if not layer.fused)
    assert 0 < found.layers[0].share_of_peak < 100


def test_the_cores_own_rate_is_that_of_additions():
    assert vector_adds_per_second() > 1e8


# Where it runs


def same(found, expected):
    assert (found.steps, found.shape, found.unit) == (expected.steps, expected.shape, expected.unit)
    for name in ("edges", "inputs", "inputs_over_time"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for layer, other in zip(found.layers, expected.layers, strict=True):
        for name in COUNTS:
            np.testing.assert_array_equal(getattr(layer, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize(
    "where",
    [
        {"backend": "cpu"},
        {"backend": CpuBackend(threads=3)},
        {"backend": DeviceBackend()},
        {"devices": ["cpu:0", "cpu:1"]},
        {"devices": ["reference", CpuBackend(threads=2), DeviceBackend()]},
    ],
    ids=["cpu", "threads", "device", "devices", "mixed"],
)
@pytest.mark.parametrize("size", [1, 4, 512])
def test_counts_do_not_depend_on_where_and_how(where, size):
    events = random_events()
    same(profile(network(**where), InBatches(events), batch_size=size), profile(network("reference"), events))


def test_a_file_is_profiled_like_what_is_in_it(tmp_path):
    events = random_events()
    es.io.write(tmp_path / "events.h5", events)
    calls = []
    with es.EventDataset(tmp_path / "events.h5") as data:
        found = es.study.profile(network(), data, batch_size=4, progress=lambda *call: calls.append(call))
    same(found, profile(network(), events))
    assert calls == [(4, 11, "profile"), (8, 11, "profile"), (11, 11, "profile")]


@pytest.mark.parametrize("where", [{"backend": "cpu"}, {"devices": ["cpu:0", "reference"]}], ids=["one", "two"])
def test_a_run_with_a_profile_has_the_spikes_of_one_without(where):
    net, events = network(**where), random_events()
    spikes, found = net.run(events, profile=True, batch_size=4)
    assert spikes.equals(net.run(events))
    same(found, profile(net, events))
    every, _ = net.run(events, record=True, profile=True)
    assert len(every) == len(LAYERS)
    assert all(a.equals(b) for a, b in zip(every, net.run(events, record=True), strict=True))


def test_a_run_of_some_layers_has_a_profile_of_these():
    net, events = network(), random_events()
    outputs, found = net.run(events, record=True), profile(net, events)
    middle, part = net.run(outputs[1], start=2, stop=4, profile=True)
    assert middle.equals(outputs[3])
    assert [layer.layer for layer in part.layers] == [2, 3]
    np.testing.assert_array_equal(part.layers[1].stopped, found.layers[3].stopped)
    nothing, empty = net.run(events, stop=0, profile=True)
    assert nothing.equals(events)
    assert (empty.layers, empty.inputs.tolist()) == ((), np.diff(events.offsets).tolist())
    assert net.run(events, stop=0, record=True, profile=True)[0] == []


def test_without_samples_there_is_an_empty_profile():
    found = profile(network(), random_events()[:0])
    assert (found.samples, found.layers[0].operations.tolist()) == (0, [])
    assert found.rows()[0]["operations"] == 0
    assert "0 samples" in str(found)


def test_without_a_profile_nothing_is_counted_or_timed(monkeypatch):
    def refuse(*args, **fields):
        raise AssertionError("called")

    for name in ("eventsnn.network.profiled", "eventsnn.running.operations"):
        monkeypatch.setattr(name, refuse)
    monkeypatch.setattr(CpuBackend, "timed", refuse)
    net, events = network(), random_events()
    assert net.run(events).n_events == net.run(events, record=True)[-1].n_events > 0
    with pytest.raises(AssertionError, match="called"):
        net.run(events, profile=True)


def test_it_agrees_with_evaluate():
    net, events = network(), random_events()
    found, activity = profile(net, events), es.evaluate(net, events)
    for layer, other in zip(found.layers, activity.layers, strict=True):
        assert (layer.name, layer.neurons) == (other.layer, other.neurons)
        assert (layer.spikes.mean(), layer.operations.mean()) == (other.spikes, other.synaptic_operations)
    assert found.total()["operations"] == pytest.approx(activity.synaptic_operations)


# What is shown of it


def test_rows(tmp_path):
    found = profile(network(), random_events())
    rows = found.rows("tiny")
    results.write(tmp_path / "profile.jsonl", rows)
    assert results.read(tmp_path / "profile.jsonl") == rows
    for line, layer in zip(rows, found.layers, strict=True):
        assert (line["study"], line["network"], line["layer"]) == ("profile", "tiny", layer.layer)
        assert (line["name"], line["shape"]) == (layer.name, "x".join(map(str, layer.shape)))
        names = ("inputs", "spikes", "active", "operations", "stopped", "macs", "bytes_moved", "seconds")
        for name in (*names, "energy", "dense_energy"):
            assert line[name] == pytest.approx(getattr(layer, name).mean())
        assert line["times"] == list(range(10))
        assert sum(line["spikes_over_time"]) == pytest.approx(line["spikes"])


def test_as_json():
    found = profile(network(), random_events())
    whole = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert whole["layers"] == found.rows()
    assert whole["total"] == found.total()
    assert whole["total"]["energy"] == pytest.approx(sum(line["energy"] for line in whole["layers"]))
    assert whole["input"]["spikes"] == pytest.approx(found.inputs.mean())
    assert sum(whole["input"]["spikes_over_time"]) == pytest.approx(found.inputs.mean())


def test_the_table_as_text_and_in_a_notebook():
    found = profile(*by_hand(Clocked()), peak=105.0)
    caption, head, conv, pool, whole = str(found).splitlines()
    assert caption.startswith("1 samples, means of a sample; dense: 6 steps; 0.9 pJ an operation")
    assert head.split()[:2] == ["layer", "neurons"]
    numbers = "9|5|6|66.67%|30|9|108|334 B|2 s|10.5|10%|18.9 pJ|496.8 pJ"
    assert " ".join(conv.split()) == f"0 Conv(3, kernel=(1, 2)) {numbers.replace('|', ' ')}"
    assert " ".join(pool.split()) == "1 Pool((1, 3)) 3 6 3 100.00% 150 B ↑"
    assert " ".join(whole.split()) == "all layers 5 9 30 9 108 484 B 2 s 18.9 pJ 496.8 pJ"
    element = ET.fromstring(found._repr_html_())
    table = [["".join(cell.itertext()) for cell in line] for line in element.iter("tr")]
    assert "|".join(table[1]) == f"0 Conv(3, kernel=(1, 2))|{numbers}"
    assert [len(line) for line in table] == [14] * 4


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0, "J", "0 J"),
        (2.5e-7, "s", "250 ns"),
        (3.21e-14, "J", "0.0321 pJ"),
        (999.96, "B", "1 kB"),
        (1234, "", "1234"),
        (123456, "", "123.5 k"),
        (9999.96, "", "10 k"),
        (4.2e15, "", "4200 T"),
        (0.25, "", "0.25"),
    ],
)
def test_numbers_have_prefixes(value, unit, expected):
    assert number(value, unit) == expected


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda net, e: profile(net, e, steps=0), "steps expects at least 1, got 0"),
        (lambda net, e: profile(net, e, intervals=0), "intervals expects at least 1, got 0"),
        (lambda net, e: profile(net, e, peak=-1.0), "peak expects additions a second, above 0, got -1.0"),
        (lambda net, e: profile(net, e, pj_per_mac=inf), "pj_per_mac expects a finite number"),
        (lambda net, e: profile(net, e, pj_per_operation=-1), "pj_per_operation expects a finite number"),
        (lambda net, e: profile(net, e, stop=9), "layers expects 0 <= start <= stop <= 6"),
        (lambda net, e: profile(net, net.run(e)), "layer 0 .* expects 2 input channels, got 3"),
        (lambda net, e: profile(net, e, batch_size=0), "batch_size expects at least 1 sample, got 0"),
        (lambda net, e: net.run(net.run(e), profile=True), "layer 0 .* expects 2 input channels, got 3"),
    ],
)
def test_refuses(act, message):
    with pytest.raises(ValueError, match=message):
        act(network(), random_events())
