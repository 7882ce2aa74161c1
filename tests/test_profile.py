"""What a profile counts, against a count neuron by neuron and synapse by synapse, and by hand."""

import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import oracle
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st

from eventsnn import Conv, Dense, Events, FeatureInhibition, Network, Normal, PointwiseInhibition, Pool, inf
from eventsnn.backends import get
from eventsnn.study import profile

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


@settings(max_examples=60)
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
            numbers = "9|5|6|66.67%|30|9|108|334 B|2 s|10.5|10%|18.9 pJ|496.8 pJ"
    assert " ".join(conv.split()) == f"0 Conv(3, kernel=(1, 2)) {numbers.replace('|', ' ')}"
    assert " ".join(pool.split()) == "1 Pool((1, 3)) 3 6 3 100.00% 150 B ↑"
    assert " ".join(whole.split()) == "all layers 5 9 30 9 108 484 B 2 s 18.9 pJ 496.8 pJ"
    element = ET.fromstring(found._repr_html_())
    table = [["".join(cell.itertext()) for cell in line] for line in element.iter("tr")]
    assert "|".join(table[1]) == f"0 Conv(3, kernel=(1, 2))|{numbers}"
    assert [len(line) for line in table] == [14] * 4


def test_large_and_small_numbers_have_prefixes():
    found = profile(network(get("reference")), random_events(), pj_per_operation=1e6, pj_per_mac=0)
    text = str(found)
    assert " µJ" in text
    assert " 0 J" in text


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
