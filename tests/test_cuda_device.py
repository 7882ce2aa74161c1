"""The same equalities on a real CUDA device; skipped where there is none, saying why."""

import hostcuda.examples
import numpy as np
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st

from eventsnn import STDP, WTA, Conv, Dense, FeatureInhibition, Network, PointwiseInhibition, Pool, decide, fit, inf
from eventsnn.backends import cuda_learning, get
from eventsnn.backends.cuda import CudaBackend
from eventsnn.backends.device import Device, cuda_device
from eventsnn.batches import fetch, put
from eventsnn.encode import falez2019_mnist, mozafari2019_mnist, spyker_mnist
from eventsnn.encoding import encoded

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


@pytest.mark.parametrize("threads", [1, 7, 32, 256])
def test_any_launch_shape_gives_the_same(cuda, threads):
    import cupy

    there = cuda_device(0)
    other = CudaBackend(
        Device(cupy, there.module, threads, compiled=there.compiled, processors=min(threads, there.processors))
    )
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


@settings(max_examples=300)
@given(lesson=strategies.lessons(), spikes=st.sampled_from([1, 16, cuda_learning.ROUND]))
def test_learning_equals_reference(cuda, lesson, spikes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_learning, "ROUND", spikes)
        for found, expected in zip(lesson.learn(cuda), lesson.learn(REFERENCE), strict=True):
            assert (found == expected).all()


@pytest.fixture
def images():
    """Return strokes and noise, in which many intensities are equal."""
    pixels = np.random.default_rng(5).integers(0, 3, (300, 28, 28), np.uint8) * 100
    pixels[1::2, ::2] = 0
    return pixels


@pytest.mark.parametrize("make", [mozafari2019_mnist, spyker_mnist, falez2019_mnist])
def test_encoders_are_equal(cuda, images, make):
    batches = encoded(make(), images, backend=cuda, batch_size=128)
    found = [fetch(batch, cuda) for batch in batches]
    for start, batch in zip(range(0, 300, 128), found, strict=True):
        assert batch.equals(make().encode(images[start : start + 128]))


HIDDEN = (Conv(30, 5, padding=2, threshold=15), FeatureInhibition([1]), PointwiseInhibition(), Pool(2))
LAYERS = (*HIDDEN, Dense(20, threshold=inf))


def test_networks_are_equal(cuda, images):
    events = mozafari2019_mnist().encode(images)
    nets = [Network(LAYERS, events.shape, seed=1, backend=b) for b in ("cpu", cuda)]
    expected, found = ([*net.run(events, record=True), net.run(events, batch_size=64)] for net in nets)
    assert all(one.equals(other) for one, other in zip(found, expected, strict=True))
    assert np.array_equal(*(decide(net, events, np.arange(20), batch_size=100) for net in nets))


def test_the_first_layer_of_mnist_learns_in_blocks_that_wait_for_each_other(cuda, images, monkeypatch):
    launch, together = Device.launch, []

    def noted(self, name, blocks, *args, **how):
        together.append(blocks if how.get("together") else 0)
        launch(self, name, blocks, *args, **how)

    monkeypatch.setattr(Device, "launch", noted)
    nets, before = mnist_learnt(["cpu", cuda], images)
    assert max(together) > 1  # one block has too few threads for 28x28 positions and 32 maps
    assert np.array_equal(nets[0].weights[0], nets[1].weights[0])
    assert (nets[0].weights[0] != before).any(axis=(1, 2, 3)).sum() > 5  # of 30 maps


def mnist_learnt(backends, images):
    """Return networks after learning online from images, and the weights before that."""
    events, nets = mozafari2019_mnist().encode(images), []
    for backend in backends:
        nets.append(Network([Conv(30, 5, padding=2, threshold=15)], events.shape, seed=1, backend=backend))
        before = nets[-1].weights[0].copy()
        fit(nets[-1], events, layer=0, rule=STDP(0.004, -0.003), competition=WTA(5, radius=3), epochs=1)
    return nets, before


def test_little_memory_gives_the_same(cuda, images):
    import cupy

    events = mozafari2019_mnist().encode(images)
    nets = [Network(LAYERS, events.shape, seed=1, backend=b) for b in ("cpu", cuda)]
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    pool.set_limit(size=pool.used_bytes() + (24 << 20))  # the scratch of all images takes 70 MiB
    try:
        found = nets[1].run(events, batch_size=300)
    finally:
        pool.set_limit(size=0)
    assert found.equals(nets[0].run(events))


def test_every_device_gives_the_same(cuda):
    import cupy

    for index in range(cupy.cuda.runtime.getDeviceCount()):
        assert hostcuda.examples.differences(get(f"cuda:{index}")) == []
