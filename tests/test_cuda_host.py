"""The shipped kernels and their launcher without a GPU: compiled as C++, equal to the reference bit for bit."""

import gc
import warnings
from dataclasses import replace
from types import SimpleNamespace

import hostcuda
import hostcuda.examples
import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st

from eventsnn import (
    STDP,
    WTA,
    Conv,
    Dense,
    Events,
    FeatureInhibition,
    Network,
    PointwiseInhibition,
    Pool,
    decide,
    evaluate,
    fit,
    inf,
)
from eventsnn.backends import Geometry, device, get
from eventsnn.batches import fetch, put

pytestmark = pytest.mark.skipif(hostcuda.COMPILER is None, reason="no C++ compiler here; CXX may name one")
REFERENCE = get("reference")
FEW = settings(max_examples=25)


@pytest.fixture(scope="module", autouse=True)
def library():
    """Compile once, before examples are drawn: what does not compile is one error."""
    return hostcuda.build()


hosts = st.builds(
    hostcuda.backend, st.sampled_from([1, 2, 5, 8, 32]), st.sampled_from(sorted(hostcuda.ORDERS))
)  # odd launch shapes, permuted blocks


def same(found, expected):
    assert found.equals(expected), f"{found!r} differs from {expected!r}"


def run_conv(host, layer):
    spikes = host.conv(put(layer.events, host), host.pack(layer.weights), layer.neurons)
    return fetch(spikes, host)


def expected_conv(layer):
    return REFERENCE.conv(layer.events, layer.weights, layer.neurons)


@FEW
@given(strategies.layers(), hosts)
def test_conv_equals_reference(layer, host):
    same(run_conv(host, layer), expected_conv(layer))


@FEW
@given(strategies.layers(leaky=False), hosts)
def test_conv_equals_reference_where_potentials_meet_the_threshold(layer, host):
    # Each map's threshold is the largest potential that it ends with, then the float just below.
    ends = expected_conv(at_threshold(layer, np.full(len(layer.weights), np.inf, np.float32)))
    level = np.zeros(len(layer.weights), np.float32)
    np.maximum.at(level, ends.channel, ends.potential)
    for threshold in (level, np.maximum(np.nextafter(level, np.float32(-1)), 0)):
        met = at_threshold(layer, threshold)
        same(run_conv(host, met), expected_conv(met))


@pytest.mark.parametrize("largest", [1e-44, 0.0, -0.0, -2.0, 0.75])
def test_weights_however_small_make_neurons_fire(largest):
    layer = hostcuda.examples.layer()
    weights = np.minimum(layer.weights, 0)
    weights[3, 1, 1, 0] = largest
    layer = at_threshold(replace(layer, weights=weights), np.zeros(len(weights), np.float32))
    found, expected = run_conv(hostcuda.backend(5), layer), expected_conv(layer)
    same(found, expected)
    assert (expected.n_events > 0) == (largest > 0)


def at_threshold(layer, threshold):
    return replace(layer, neurons=replace(layer.neurons, threshold=threshold))


@FEW
@given(st.data(), hosts)
def test_pool_equals_reference(data, host):
    events = data.draw(strategies.outputs())
    geometry = data.draw(strategies.geometries(events.shape))
    same(fetch(host.pool(put(events, host), geometry), host), REFERENCE.pool(events, geometry))


@FEW
@given(strategies.outputs(), hosts)
def test_pointwise_equals_reference(events, host):
    same(fetch(host.pointwise(put(events, host)), host), REFERENCE.pointwise(events))


@FEW
@given(strategies.outputs(), st.integers(1, 8), st.integers(0, 3), hosts)
def test_winners_equal_reference(events, k, radius, host):
    assert np.array_equal(host.winners(put(events, host), k, radius), REFERENCE.winners(events, k, radius))


@FEW
@given(strategies.layers(), hosts)
def test_decide_equals_reference(layer, host):
    found = host.decide(put(layer.events, host), host.pack(layer.weights), layer.neurons)
    expected = REFERENCE.decide(layer.events, layer.weights, layer.neurons)
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one, other)
        assert one.dtype == np.int64


@FEW
@given(st.data(), strategies.layers(), hosts)
def test_conv_and_pool_in_one_equal_reference(data, layer, host):
    spikes = expected_conv(layer)
    geometry = data.draw(strategies.geometries(spikes.shape))
    events, packed = put(layer.events, host), host.pack(layer.weights)
    expected = REFERENCE.pool(spikes, geometry)
    for counted in (False, True):
        found = host.conv_pool(events, packed, layer.neurons, geometry, counted)
        same(fetch(found.events, host), expected)
        assert not counted or np.array_equal(found.spikes, np.diff(spikes.offsets))


def test_networks_run_on_the_device():
    hidden = [Conv(5, 3, padding=1, threshold=1.5), FeatureInhibition([1, 4]), PointwiseInhibition(), Pool(2)]
    layers = [*hidden, Dense(3, threshold=inf)]
    events = hostcuda.examples.layer().events
    nets = [Network(layers, events.shape, seed=3, backend=b) for b in (REFERENCE, hostcuda.backend(5))]
    expected, found = ([*net.run(events, record=True), net.run(events, batch_size=2)] for net in nets)
    for one, other in zip(found, expected, strict=True):
        same(one, other)
        assert other.n_events
    assert np.array_equal(evaluate(nets[1], events, classes=[0, 1, 2]).decisions, decide(nets[0], events, [0, 1, 2]))
    nets[1].set_weights(0, nets[0].weights[0] * 2)
    assert np.array_equal(nets[1].weights[0], nets[0].weights[0] * 2)


def stimuli(n_samples):
    rng = np.random.default_rng(n_samples)
    latency = rng.integers(-6, 12, (n_samples, 2, 8, 8)).clip(-1)
    return Events.from_latency(latency, duration=12, labels=rng.integers(0, 3, n_samples))


def of_three_layers(**where):
    layers = [Conv(5, 3, padding=1, threshold=1.5), PointwiseInhibition(), Pool(2), Dense(3, threshold=inf)]
    return Network(layers, (2, 8, 8), seed=3, **where)


def outcome(net, events, batch_size):
    """Return what a network says of events, and then learns from them."""
    held = net.run(events, record=True, batch_size=batch_size)
    found = evaluate(net, events, classes=[0, 1, 2], batch_size=batch_size)
    fit(net, events, layer=0, rule=STDP(0.05, -0.04), mini_batch=6, competition=WTA(2, radius=1))
    return held, found.to_dict(), found.decisions, *net.weights.values()


def same_outcome(found, expected):
    for one, other in zip(found[0], expected[0], strict=True):
        same(one, other)
    assert found[1] == expected[1]
    assert all(np.array_equal(one, other) for one, other in zip(found[2:], expected[2:], strict=True))


@pytest.mark.parametrize("number", [1, 2])
def test_devices_compute_and_learn_as_the_reference(number):
    events, devices = stimuli(23), [hostcuda.backend(5) for _ in range(number)]
    expected = outcome(of_three_layers(backend=REFERENCE), events, 4)
    same_outcome(outcome(of_three_layers(devices=devices), events, 2), expected)
    assert not np.array_equal(expected[3], of_three_layers(backend=REFERENCE).weights[0])


def test_nothing_that_lies_on_the_host_is_fetched():
    fetched, arrays = [], hostcuda.HostArrays()
    asnumpy = arrays.asnumpy
    arrays.asnumpy = lambda array: (fetched.append(array.size), asnumpy(array))[1]
    events = stimuli(9)
    net = of_three_layers(devices=[hostcuda.backend(5, arrays=arrays)])
    evaluate(net, events, classes=[0, 1, 2])
    assert events.n_events not in fetched


# Memory


def kernels_of(host, layer):
    """Return by name what every kernel makes of a layer's events."""
    events, packed = put(layer.events, host), host.pack(layer.weights)
    return {
        "conv": fetch(host.conv(events, packed, layer.neurons), host),
        "pool": fetch(host.pool(events, Geometry((2, 2), (1, 1))), host),
        "pointwise": fetch(host.pointwise(events), host),
        "winners": host.winners(events, 3, 1),
        "decide": host.decide(events, packed, layer.neurons),
        "pooled": host.conv_pool(events, packed, layer.neurons, Geometry((2, 2), (2, 1)), counted=True),
    }


@pytest.mark.parametrize("at_end", [False, True])
def test_a_batch_that_does_not_fit_is_split(at_end):
    layer = hostcuda.examples.layer(at_end=at_end)
    arrays = hostcuda.HostArrays()
    whole = kernels_of(hostcuda.backend(5, arrays=arrays), layer)
    gc.collect()
    least = smallest_limit(layer)
    arrays = hostcuda.HostArrays(limit=least)
    parts = kernels_of(hostcuda.backend(5, arrays=arrays), layer)
    assert arrays.refused >= 1
    for name in ("conv", "pool", "pointwise"):
        same(parts[name], whole[name])
    assert np.array_equal(parts["winners"], whole["winners"])
    same(fetch(parts["pooled"].events, hostcuda.backend(5)), fetch(whole["pooled"].events, hostcuda.backend(5)))
    assert np.array_equal(parts["pooled"].spikes, whole["pooled"].spikes)
    assert all(np.array_equal(a, b) for a, b in zip(parts["decide"], whole["decide"], strict=True))


def smallest_limit(layer):
    """Return a number of bytes that a kernel's largest sample needs, and little more."""
    for limit in range(8_000, 200_000, 2_000):
        try:
            kernels_of(hostcuda.backend(5, arrays=hostcuda.HostArrays(limit)), layer)
        except MemoryError:
            continue
        return limit
    raise AssertionError("no limit suffices")


def test_one_sample_that_does_not_fit_is_an_error_with_the_sizes():
    layer, arrays = hostcuda.examples.layer(), hostcuda.HostArrays()
    host = hostcuda.backend(5, arrays=arrays)
    events, packed = put(layer.events, host), host.pack(layer.weights)
    arrays.limit = arrays.used + 2_000
    with pytest.raises(MemoryError, match=r"for one sample: 60 spikes for \d+ neurons need about [\d.]+ MiB"):
        host.conv(events, packed, layer.neurons)


@pytest.mark.parametrize("number", [1, 2])
def test_data_that_do_not_fit_go_through_in_parts(number):
    """Not even the input of all samples has room, though that of one has."""
    events, alone = stimuli(28), of_three_layers(backend=REFERENCE)
    expected = [alone.run(events), evaluate(alone, events, classes=[0, 1, 2])]
    arrays = [hostcuda.HostArrays() for _ in range(number)]
    net = of_three_layers(devices=[hostcuda.backend(5, arrays=each) for each in arrays])
    net.run(events[:2])  # all have the weights
    gc.collect()
    for each in arrays:
        each.limit = each.used + events.n_events * 14 // 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no device is left out
        same(net.run(events), expected[0])
        assert evaluate(net, events, classes=[0, 1, 2]).to_dict() == expected[1].to_dict()
    assert all(each.refused for each in arrays)
    for each in arrays:
        each.limit = each.used + 1000
    with pytest.raises(MemoryError, match=r"for one sample of \d+ spikes on a grid of 2x8x8: \d+ bytes"):
        net.run(events)


@pytest.mark.parametrize(
    ("number", "options"),
    [(1, {}), (1, {"mini_batch": 3}), (1, {"shuffle": True, "patches": True}), (1, {"inhibit_input": True}), (2, {})],
)
def test_a_layer_learns_from_data_that_do_not_fit(options, number):
    """Pieces are whole mini-batches, so weights are the same."""
    events = stimuli(80)
    arrays = [hostcuda.HostArrays() for _ in range(number)]
    nets = [
        of_three_layers(backend=REFERENCE),
        of_three_layers(devices=[hostcuda.backend(5, arrays=a) for a in arrays]),
    ]
    for each in arrays:
        each.limit = each.used + events.n_events * 14 // 2
    winners = [fit(net, events, layer=0, rule=STDP(0.05, -0.04), **options).epochs[0].winners for net in nets]
    assert np.array_equal(*winners)
    assert np.array_equal(nets[0].weights[0], nets[1].weights[0])
    assert arrays[0].refused


class Uploading:
    """Stands for what an upload uses of CuPy; notes in which order things happen."""

    ndarray = hostcuda.HostArray

    def __init__(self):
        self.done, upload = [], self

        class Stream:
            def __init__(self, non_blocking=False):
                self.non_blocking = non_blocking

            def record(self):
                upload.done.append("kernels so far")
                return "event"

            def wait_event(self, event):
                upload.done.append(f"wait for {event}")

            def synchronize(self):
                upload.done.append("wait for the copy")

        class There(hostcuda.HostArray):
            def set(self, array, stream):
                assert stream.non_blocking
                upload.done.append("copy")
                self.view(np.ndarray)[...] = array

        self.empty = lambda shape, dtype: np.empty(shape, dtype).view(There)
        self.cuda = SimpleNamespace(Stream=Stream, get_current_stream=Stream, alloc_pinned_memory=bytearray)


@pytest.mark.parametrize("array", [np.arange(6).reshape(2, 3)[:, ::2], np.zeros(0, np.uint16), np.ones(3, bool)])
def test_an_upload_waits_for_kernels_that_used_its_memory_and_for_its_end(array):
    cupy = Uploading()
    there = device.uploader(cupy)(array)
    assert np.array_equal(there.view(np.ndarray), array)
    assert there.dtype == array.dtype
    assert cupy.done == (["kernels so far", "wait for event", "copy", "wait for the copy"] if array.size else [])
    assert device.uploader(cupy)(there) is there


# What goes wrong is seen


def with_change(old, new):
    source = device.source()
    assert source.count(old) == 1, old
    return source.replace(old, new)


def test_examples_are_equal_for_every_order_of_blocks():
    for threads, order in ((1, "descending"), (5, "scattered"), (64, "ascending")):
        assert hostcuda.examples.differences(hostcuda.backend(threads, order)) == []


def test_an_off_by_one_is_caught():
    source = with_change("ky < 0 || ky >= z.kh", "ky < 0 || ky > z.kh")
    assert "conv" in hostcuda.examples.differences(hostcuda.backend(5, source=source))


def test_a_missing_barrier_is_caught():
    line = "        if (seen) staged[slot] = {in.channel[e], y, in.x[e], FILL ? in.rank[e] : 0, (int)(e - begin)};\n"
    source = with_change(line + "        __syncthreads();\n", line)
    assert hostcuda.examples.differences(hostcuda.backend(5, source=source))


def test_a_profile_counts_what_the_device_does_and_waits_for_it():
    host, waits = hostcuda.backend(5), []
    host._device.wait = lambda: waits.append(1)
    layers = [Conv(5, 3, padding=1, threshold=3), Pool(2), PointwiseInhibition(), Dense(3, threshold=inf)]
    rng = np.random.default_rng(0)
    events = Events.from_latency(rng.integers(-5, 9, (6, 2, 6, 6)).clip(-1), duration=9)
    found, expected = (Network(layers, (2, 6, 6), backend=b).run(events, profile=True) for b in (host, "reference"))
    assert found[0].equals(expected[0])
    assert len(waits) == 2 * 3  # before and after each pass, of which layer and pool share one
    for layer, other in zip(found[1].layers, expected[1].layers, strict=True):
        for name in ("operations", "stopped", "bytes_moved", "spikes_over_time"):
            assert np.array_equal(getattr(layer, name), getattr(other, name))
