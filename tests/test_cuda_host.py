"""The shipped kernels and their launcher without a GPU: compiled as C++, equal to the reference bit for bit."""

import hostcuda
import hostcuda.examples
import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st

from eventsnn.backends import device, get
from eventsnn.batches import fetch, put

pytestmark = pytest.mark.skipif(hostcuda.COMPILER is None, reason="no C++ compiler here; CXX may name one")
REFERENCE = get("reference")
FEW = settings(max_examples=40)

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
