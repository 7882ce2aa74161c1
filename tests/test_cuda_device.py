"""The same equalities on a real CUDA device; skipped where there is none, saying why."""

import hostcuda.examples
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st

from eventsnn.backends import get
from eventsnn.backends.cuda import CudaBackend
from eventsnn.backends.device import Device, cuda_device
from eventsnn.batches import fetch, put

pytestmark = pytest.mark.gpu
REFERENCE = get("reference")


@pytest.fixture(scope="module")
def cuda():
    try:
        return get("cuda")
    except RuntimeError as error:
        pytest.skip(str(error))


def test_examples_equal_the_reference(cuda):
    assert hostcuda.examples.differences(cuda) == []


@pytest.mark.parametrize("threads", [1, 7, 32, 1024])
def test_any_launch_shape_gives_the_same(cuda, threads):
    import cupy

    other = CudaBackend(Device(cupy, cuda_device(0).module, threads))
    assert hostcuda.examples.differences(other) == []


@settings(max_examples=300)
@given(layer=strategies.layers())
def test_conv_equals_reference(cuda, layer):
    spikes = fetch(cuda.conv(put(layer.events, cuda), cuda.pack(layer.weights), layer.neurons), cuda)
    assert spikes.equals(REFERENCE.conv(layer.events, layer.weights, layer.neurons))


@settings(max_examples=300)
@given(data=st.data())
def test_pool_pointwise_and_winners_equal_reference(cuda, data):
    events = data.draw(strategies.outputs())
    geometry = data.draw(strategies.geometries(events.shape))
    there = put(events, cuda)
    assert fetch(cuda.pool(there, geometry), cuda).equals(REFERENCE.pool(events, geometry))
    assert fetch(cuda.pointwise(there), cuda).equals(REFERENCE.pointwise(events))
    assert (cuda.winners(there, 3, 1) == REFERENCE.winners(events, 3, 1)).all()
