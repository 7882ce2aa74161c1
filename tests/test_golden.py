"""Every group of SpykeTorch's outputs, whatever the number and shapes of the cases in the file.

Weights there are multiples of 1/256, so float32 sums are exact in any order and spikes, potentials and winners must be
equal; weights to within 1e-6, front ends to within 1e-4.
"""

import dataclasses

import h5py
import numpy as np
import pytest
from conftest import GOLDEN
from doubles import bank

from eventsnn.backends import Geometry, Neurons, Reward, Update
from eventsnn.encode import DoG, EqualBins, Gabor, ImageEncoder, MaxPool, mozafari2018, mozafari2019_mnist
from eventsnn.events import Events
from eventsnn.layers import Conv, Pool
from eventsnn.network import Network
from eventsnn.plasticity import STDP
from eventsnn.reconstruct import reconstruct


def cases(group):
    """Return the names of a group's cases for ``parametrize``, or one skipped case where the file is absent."""
    if not GOLDEN.exists():
        return [pytest.param("", marks=pytest.mark.skip(reason=f"{GOLDEN} is absent; EVENTSNN_GOLDEN may name it"))]
    with h5py.File(GOLDEN) as file:
        return sorted(file[group], key=lambda name: (len(name), name)) if group in file else []


def read(group, name):
    """Return one case's arrays and attributes; those of the group itself count for every case."""
    with h5py.File(GOLDEN) as file:
        case = file[group][name]
        attributes = dict(file[group].attrs) | dict(case.attrs)
        arrays = {key: values[()] for key, values in case.items()}
        return arrays, attributes, {key: dict(values.attrs) for key, values in case.items()}


def pair(value):
    vertical, horizontal = np.broadcast_to(value, 2).tolist()
    return vertical, horizontal


class Layer:
    """One case of ``layers``, its input and neurons."""

    def __init__(self, name):
        self.arrays, self.attrs, self.array_attrs = read("layers", name)
        a = self.attrs
        self.weights = self.arrays["weights"]
        self.events = Events.from_latency(self.arrays["input_latency"], duration=int(a["bins"]))
        self.geometry = Geometry(self.weights.shape[2:], pair(a.get("stride", 1)), pair(a["padding"]))
        self.pooling = Geometry(*(pair(a[f"pool_{n}"]) for n in ("kernel", "stride", "padding")))

    def neurons(self, threshold):
        return Neurons(self.geometry, np.full(len(self.weights), threshold, np.float32))

    def run(self, backend):
        return backend.conv(self.events, backend.pack(self.weights), self.neurons(self.attrs["threshold"]))

    def winners(self, backend, spikes):
        rows = backend.winners(spikes, int(self.attrs["k_winners"]), int(self.attrs["inhibition_radius"]))[0]
        return rows[rows[:, 0] >= 0, :3]


@pytest.fixture(params=cases("layers"))
def layer(request):
    return Layer(request.param)


def latency_of(events):
    return events.to_latency()[0]


def potential_of(events):
    out = np.zeros(events.shape, np.float32)
    out[events.channel, events.y, events.x] = events.potential
    return out


def test_spikes_and_potentials(backend, layer):
    spikes = layer.run(backend)
    assert np.array_equal(latency_of(spikes), layer.arrays["latency"])
    assert np.array_equal(potential_of(spikes), layer.arrays["potential_at_spike"])


def test_final_potential(backend, layer):
    # Infinite thresholds show the potentials above 0; the same with negated weights shows those below.
    final, infinite = layer.arrays["final_potential"], layer.neurons(np.inf)
    for sign in (1, -1):
        spikes = backend.conv(layer.events, backend.pack(np.float32(sign) * layer.weights), infinite)
        assert np.array_equal(latency_of(spikes), np.where(sign * final > 0, layer.events.duration - 1, -1))
        assert np.array_equal(potential_of(spikes), np.maximum(sign * final, 0))


def test_pooling(backend, layer):
    pooled = backend.pool(layer.run(backend), layer.pooling)
    assert np.array_equal(latency_of(pooled), layer.arrays["pooled_latency"])


def test_pointwise_inhibition(backend, layer):
    spikes = backend.pointwise(layer.run(backend))
    assert np.array_equal(latency_of(spikes), layer.arrays["pointwise_latency"])
    kept = np.where(layer.arrays["pointwise_latency"] >= 0, layer.arrays["potential_at_spike"], 0)
    assert np.array_equal(potential_of(spikes), kept)


def test_winners(backend, layer):
    spikes = layer.run(backend)
    assert np.array_equal(layer.winners(backend, spikes), layer.arrays["winners"])
    assert np.array_equal(layer.winners(backend, backend.pointwise(spikes)), layer.arrays["pointwise_winners"])


def test_winners_after_feature_inhibition(backend, layer):
    # Feature inhibition of the layer's spikes, without pointwise inhibition before it.
    spikes = layer.run(backend)
    active = ~np.isin(np.arange(len(layer.weights)), layer.attrs["inhibited_features"])
    found = layer.winners(backend, spikes.where(active[spikes.channel]))
    assert np.array_equal(found, layer.arrays["feature_inhibited_winners"])


def plasticity(attrs, maps, rates=None, **competition):
    """Return the update that a case's attributes describe; ``rates`` replaces ``a_plus`` and ``a_minus``."""
    plus, minus = (attrs["a_plus"], attrs["a_minus"]) if rates is None else rates
    bounds = float(attrs["lower"]), float(attrs["upper"])
    full = [np.full(maps, rate, np.float32) for rate in (plus, minus)]
    return Update(*full, *bounds, "stabilized" if attrs.get("stabilizer", False) else "additive", **competition)


def learnt_cases(wanted=lambda name, key: True):
    names = [n for n in cases("layers") if isinstance(n, str)]
    found = [(n, key) for n in names for key in read("layers", n)[0] if key.startswith("weights_after_")]
    absent = [pytest.param("", "", marks=pytest.mark.skip(reason=f"{GOLDEN} is absent or has no such weights"))]
    return [case for case in found if wanted(*case)] or absent


def at_learning(name, key):
    """Return the layer, the attributes of the rule, the weights it starts from and those it should end with."""
    layer = Layer(name)
    attrs = layer.array_attrs[key]
    start = np.clip(layer.weights, np.float32(attrs["lower"]), np.float32(attrs["upper"]))
    return layer, attrs, start, layer.arrays[key]


@pytest.mark.parametrize(("name", "key"), learnt_cases())
def test_weights_after_given_winners(backend, name, key):
    # The file's winners come from weights before they were clipped to the rule's bounds. So that each wins again,
    # its map and receptive field are cut out, and the threshold lies between the potentials before and at its time.
    layer, attrs, start, expected = at_learning(name, key)
    bins, latency = layer.events.duration, layer.arrays["latency"]
    learnt = start.copy()
    for f, y, x in layer.arrays["pointwise_winners"]:
        t = int(latency[f, y, x])
        field, packed = receptive_field(layer, y, x), backend.pack(start[f : f + 1])
        before, at = (start[f][(field >= 0) & (field < end)].sum(dtype=np.float64) for end in (t, t + 1))
        threshold = (before + at) / 2 if np.isfinite(layer.attrs["threshold"]) else np.inf
        neuron = Neurons(Geometry(start.shape[2:]), np.array([threshold], np.float32))
        events = Events.from_latency(field, duration=bins)
        won = backend.learn(events, np.array([0]), packed, neuron, plasticity(attrs, 1))
        assert won.tolist() == [[[0, 0, 0, t]]]
        learnt[f] = backend.unpack(packed)[0]
    np.testing.assert_allclose(learnt, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "key"), learnt_cases())
def test_rule_called_with_given_winners(name, key):
    layer, attrs, start, expected = at_learning(name, key)
    places = layer.arrays["pointwise_winners"]
    winners = np.column_stack([places, layer.arrays["latency"][tuple(places.T)]]).astype(np.int64)
    bounds = float(attrs["lower"]), float(attrs["upper"])
    rule = STDP(float(attrs["a_plus"]), float(attrs["a_minus"]), bounds, bool(attrs["stabilizer"]))
    learnt = rule(start, layer.events, winners, layer.geometry)
    np.testing.assert_allclose(learnt, expected, rtol=0, atol=1e-6)


def receptive_field(layer, y, x):
    """Return the input latencies (C, KY, KX) that the neurons at (y, x) see, -1 in the padding."""
    (py, px), (sy, sx), (ky, kx) = layer.geometry.padding, layer.geometry.stride, layer.geometry.kernel
    padded = np.pad(layer.arrays["input_latency"], ((0, 0), (py, py), (px, px)), constant_values=-1)
    return padded[:, y * sy : y * sy + ky, x * sx : x * sx + kx]


def within_bounds(name, key):
    """Tell whether the weights lie within the rule's bounds, so that the file's winners are those of its start."""
    layer, _, start, _ = at_learning(name, key)
    return np.array_equal(start, layer.weights)


@pytest.mark.parametrize(("name", "key"), learnt_cases(within_bounds))
def test_weights_after_the_whole_competition(backend, name, key):
    layer, attrs, start, expected = at_learning(name, key)
    competition = {"k": int(layer.attrs["k_winners"]), "radius": int(layer.attrs["inhibition_radius"])}
    update = plasticity(attrs, len(start), **competition, pointwise=True)
    packed = backend.pack(start)
    rows = backend.learn(layer.events, np.array([0]), packed, layer.neurons(layer.attrs["threshold"]), update)[0]
    assert np.array_equal(rows[rows[:, 0] >= 0, :3], layer.arrays["pointwise_winners"])
    np.testing.assert_allclose(backend.unpack(packed), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", cases("reward_modulated"))
def test_reward(backend, name):
    arrays, attrs, _ = read("reward_modulated", name)
    before, label = arrays["weights_before"], int(attrs["label"])
    maps = len(before)
    events = Events.from_latency(arrays["input_latency"], duration=int(attrs["bins"])).with_labels([label])
    neurons = Neurons(Geometry(before.shape[2:], (1, 1), pair(attrs["padding"])), np.full(maps, np.inf, np.float32))
    classes = np.arange(maps) // int(attrs["features_per_class"])
    reward = Reward(classes, plasticity(attrs, maps, attrs["punish"]))
    packed = backend.pack(before)
    won = backend.learn(events, np.array([0]), packed, neurons, plasticity(attrs, maps, attrs["reward"]), reward)[0, 0]
    after = backend.unpack(packed)
    if attrs["decision"] < 0:
        assert won.tolist() == [-1] * 4
        assert np.array_equal(after, before)
    else:
        assert won[:3].tolist() == arrays["winner"].tolist()
        assert classes[won[0]] == attrs["decision"]
    np.testing.assert_allclose(after, arrays["weights_after"], rtol=0, atol=1e-6)


def values(group, name):
    """Return a case that is one array, and its attributes."""
    with h5py.File(GOLDEN) as file:
        return file[group][name][()], dict(file[group][name].attrs)


# Front ends, kernels and encodings: to within 1e-4, latencies exactly but where two intensities are that close


def assert_close(found, expected):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def assert_latency(found, expected, intensity, bins):
    """Equal, unless a site's intensity is within 1e-4 relative of every bin boundary between the two."""
    strongest_first = np.sort(intensity[intensity > 0].astype(float))[::-1]
    size = len(strongest_first) // bins
    for site in zip(*np.nonzero(found != expected), strict=True):
        assert intensity[site] > 0
        first, last = sorted(int(t) if t >= 0 else bins for t in (found[site], expected[site]))
        for boundary in range(first + 1, last + 1):
            beside = strongest_first[boundary * size - 1 : boundary * size + 1]
            gap = np.abs(beside - float(intensity[site])).min()
            assert gap <= 1e-4 * intensity[site], f"{site} fires at {found[site]}, golden {expected[site]}"


@pytest.mark.parametrize("case", cases("kernels"))
def test_kernels(case):
    expected, attributes = values("kernels", case)
    window = int(attributes["window"])
    if "sigma1" in attributes:
        kernel = DoG(window, float(attributes["sigma1"]), float(attributes["sigma2"]))
    else:
        kernel = Gabor(window, float(attributes["orientation_deg"]), float(attributes["div"]))
    assert kernel.array().shape == expected.shape
    np.testing.assert_allclose(kernel.array(), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("case", cases("intensity_to_latency"))
def test_intensity_to_latency(case):
    arrays, attributes, _ = read("intensity_to_latency", case)
    events = ImageEncoder([], EqualBins(attributes["bins"])).encode(arrays["intensity"][None])
    np.testing.assert_array_equal(events.to_latency()[0], arrays["latency"])


@pytest.mark.parametrize("case", cases("mnist_front_end"))
def test_mnist_front_end(case):
    arrays, _, _ = read("mnist_front_end", case)
    encoder = mozafari2019_mnist()
    filtered, normalized = (encoder.intensities(arrays["image"], stages=n)[0] for n in (1, 2))
    assert_close(filtered, arrays["filtered"])
    assert_close(normalized, arrays["normalized"])
    assert_latency(encoder.encode(arrays["image"]).to_latency()[0], arrays["latency"], normalized, 15)


@pytest.mark.parametrize("case", cases("gabor_front_end"))
def test_gabor_front_end(case):
    arrays, _, _ = read("gabor_front_end", case)
    encoder = mozafari2018(pool=5, stride=4, bins=15)
    found = {n: encoder.intensities(arrays["image"], stages=n)[0] for n in (2, 3, 4)}
    for number, name in ((2, "filtered"), (3, "pooled"), (4, "inhibited")):
        assert_close(found[number], arrays[name])
    everyone = dataclasses.replace(encoder, pointwise=False)
    before = everyone.encode(arrays["image"]).to_latency()[0]
    assert_latency(before, arrays["latency_before_pointwise"], found[4], 15)
    after = encoder.encode(arrays["image"]).to_latency()[0]
    for y, x in set(zip(*np.nonzero(after != arrays["latency"])[1:], strict=True)):
        # Another map may win only where latencies differ, or the strongest intensities are as good as equal.
        moved = (before[:, y, x] != arrays["latency_before_pointwise"][:, y, x]).any()
        second, first = np.sort(found[4][:, y, x])[-2:]
        assert moved or first - second <= 1e-4 * first


# What deep maps prefer, in pixels


def features():
    """Return the groups that hold a feature: the group itself, or its members."""
    found = cases("feature_reconstruction")
    return ["feature_reconstruction"] if "feature" in found else found


@pytest.mark.parametrize("name", features())
def test_feature_as_spyketorch(name):
    group, case_name = ("/", name) if name == "feature_reconstruction" else ("feature_reconstruction", name)
    case, attrs, _ = read(group, case_name)
    weights, pool, stride = case["weights"], int(attrs["pool_kernel"]), int(attrs["pool_stride"])
    maps, channels, height, width = weights.shape
    conv = Conv(maps, kernel=(height, width), threshold=1)
    pooled = Network([conv], (channels, height, width))  # the encoder pools
    pooled.set_weights(0, weights)
    encoder = bank(case["gabor_kernels"], MaxPool(pool, stride))
    np.testing.assert_allclose(reconstruct(pooled, 0, encoder), case["feature"], rtol=0, atol=1e-4)

    grid = [pool + (n - 1) * stride for n in (height, width)]
    net = Network([Pool(pool, stride), conv], (channels, *grid))  # the network pools
    net.set_weights(1, weights)
    found = reconstruct(net, 1, bank(case["gabor_kernels"]))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, case["feature"], rtol=0, atol=1e-4)
