"""Encoders against definitions written out as loops, and against the golden file."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eventsnn.encode import (
    ZCA,
    DivideByMax,
    DoG,
    EqualBins,
    Filter,
    Gabor,
    ImageEncoder,
    LateralInhibition,
    Linear,
    LocalNormalization,
    MaxPool,
    OnOff,
    Rank,
    Scale,
    kheradpisheh2018_mnist,
    mozafari2018,
    mozafari2019_mnist,
)
from eventsnn.events import concatenate
from eventsnn.models import MODELS

SHARED = Path(__file__).parents[1].parent / "shared"
GOLDEN = Path(os.environ.get("EVENTSNN_GOLDEN", SHARED / "golden" / "spyketorch.h5"))


# The obvious definitions, in float64


def naive_dog(window, sigma1, sigma2):
    half = window // 2
    kernel = np.empty((window, window))
    for row in range(window):
        for column in range(window):
            squared = (row - half) ** 2 + (column - half) ** 2
            first, second = (math.exp(-squared / (2 * s * s)) / (2 * math.pi * s * s) for s in (sigma1, sigma2))
            kernel[row, column] = first - second
    kernel -= kernel.mean()
    return kernel / kernel.max()


def naive_gabor(window, orientation, div=4.0):
    half, angle = window // 2, math.radians(orientation)
    wavelength = 2 * window / div
    kernel = np.empty((window, window))
    for row in range(window):
        for column in range(window):
            u = (column - half) * math.sin(angle) + (row - half) * math.cos(angle)
            v = (column - half) * math.cos(angle) - (row - half) * math.sin(angle)
            envelope = math.exp(-(u * u + 0.3**2 * v * v) / (2 * (0.8 * wavelength) ** 2))
            kernel[row, column] = envelope * math.cos(2 * math.pi * u / wavelength)
    kernel -= kernel.mean()
    return kernel / kernel.max()


def at(image, y, x):
    height, width = image.shape
    return float(image[y, x]) if 0 <= y < height and 0 <= x < width else 0.0


def naive_filter(image, kernels, padding, absolute, threshold):
    largest = max(len(kernel) for kernel in kernels)
    height, width = (n + 2 * padding - largest + 1 for n in image.shape)
    out = np.zeros((len(kernels), height, width))
    for k, kernel in enumerate(kernels):
        margin = (largest - len(kernel)) // 2 - padding
        for y in range(height):
            for x in range(width):
                value = sum(
                    kernel[i, j] * at(image, y + i + margin, x + j + margin)
                    for i in range(len(kernel))
                    for j in range(len(kernel))
                )
                value = abs(value) if absolute else value
                out[k, y, x] = value if value >= threshold else 0.0
    return out


def naive_normalization(maps, radius):
    out = np.zeros(maps.shape)
    reach = range(-radius, radius + 1)
    for c, y, x in np.ndindex(maps.shape):
        total = sum(at(maps[c], y + i, x + j) for i in reach for j in reach)
        out[c, y, x] = maps[c, y, x] / (total / (2 * radius + 1) ** 2 + 1e-12)
    return out


def naive_pool(maps, kernel, stride, padding):
    channels, height, width = maps.shape
    rows, columns = ((n + 2 * padding - kernel) // stride + 1 for n in (height, width))
    out = np.zeros((channels, rows, columns))
    for c, y, x in np.ndindex(out.shape):
        top, left = y * stride - padding, x * stride - padding
        out[c, y, x] = max(
            float(maps[c, i, j])
            for i in range(top, top + kernel)
            for j in range(left, left + kernel)
            if 0 <= i < height and 0 <= j < width
        )
    return out


def naive_lateral(maps, factors):
    out = np.zeros(maps.shape)
    reach = range(-len(factors), len(factors) + 1)
    for c, y, x in np.ndindex(maps.shape):
        value = float(maps[c, y, x])
        weaker = [max(abs(i), abs(j)) for i in reach for j in reach if at(maps[c], y + i, x + j) < value]
        out[c, y, x] = value * (1 + sum(factors[d - 1] for d in weaker))
    return out


def naive_latency(intensity, latency, pointwise=False):
    """Sort, deal out times, inhibit: latency maps with -1 for never."""
    sites = [site for site in np.ndindex(intensity.shape) if intensity[site] > 0]
    sites.sort(key=lambda site: -float(intensity[site]))  # stable: ties stay in flat order
    n, times = len(sites), np.full(intensity.shape, -1)
    for place, site in enumerate(sites):
        if isinstance(latency, Rank):
            times[site] = place
        elif isinstance(latency, Linear):
            times[site] = min(int((1 - float(intensity[site])) * latency.bins), latency.bins - 1)
        elif n < latency.bins:
            times[site] = place
        elif place // (n // latency.bins) < latency.bins:
            times[site] = place // (n // latency.bins)
    if pointwise:
        for y, x in np.ndindex(intensity.shape[1:]):
            fired = [c for c in range(len(intensity)) if times[c, y, x] >= 0]
            fired.sort(key=lambda c: (times[c, y, x], -intensity[c, y, x], c))
            times[fired[1:], y, x] = -1
    return times


NAIVE = {
    Filter: lambda s, maps: naive_filter(
        maps[0], [k.array().astype(float) for k in s.kernels], s.padding, s.absolute, s.threshold
    ),
    LocalNormalization: lambda s, maps: naive_normalization(maps, s.radius),
    MaxPool: lambda s, maps: naive_pool(maps, s.kernel, s.stride, s.padding),
    LateralInhibition: lambda s, maps: naive_lateral(maps, s.factors),
    Scale: lambda s, maps: maps * s.factor,
    DivideByMax: lambda s, maps: maps / maps.max() if maps.max() > 0 else maps,
}


def apply(stage, maps):
    """One stage on one image's maps (C, H, W)."""
    return stage.apply(np.array(maps[..., None], np.float32, order="C"))[..., 0]


def latencies(events):
    """Latency maps, having validated the events."""
    return dataclasses.replace(events).to_latency()


# Kernels


@pytest.mark.parametrize("kernel", [DoG(3, 1 / 3, 2 / 3), DoG(7, 2, 1), DoG(13, 13 / 9, 26 / 9), DoG(5, 0.5, 2)])
def test_dog_is_its_formula(kernel):
    expected = naive_dog(kernel.window, kernel.sigma1, kernel.sigma2)
    np.testing.assert_allclose(kernel.array(), expected, rtol=1e-5, atol=1e-6)
    assert kernel.array().dtype == np.float32


@pytest.mark.parametrize("kernel", [Gabor(5, 67.5), Gabor(7, 0), Gabor(9, 30, div=3), Gabor(5, 202.5)])
def test_gabor_is_its_formula(kernel):
    expected = naive_gabor(kernel.window, kernel.orientation, kernel.div)
    np.testing.assert_allclose(kernel.array(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kernel", [DoG(7, 1, 2), DoG(13, 3, 1), Gabor(5, 45), Gabor(11, 10, div=2.5)])
def test_kernels_have_mean_0_and_maximum_1(kernel):
    values = kernel.array().astype(float)
    assert values.max() == 1
    assert abs(values.mean()) < 1e-7


# Stages and whole encoders against the definitions

GREY = hnp.arrays(
    st.sampled_from([np.uint8, np.float32, np.float64]),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    elements=st.integers(0, 255),
)
MAPS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)),
    elements=st.sampled_from([0.0, 0.0, 0.25, 0.5, 0.75, 1.0]),
)
KERNELS = st.lists(
    st.sampled_from([DoG(3, 0.5, 1), DoG(5, 2, 1), DoG(7, 1, 2), Gabor(3, 20), Gabor(5, 112.5)]), min_size=1, max_size=3
)
RULES = st.one_of(st.builds(EqualBins, st.integers(1, 20)), st.builds(Linear, st.integers(1, 20)), st.just(Rank()))


@settings(deadline=None, max_examples=40)
@given(GREY, KERNELS, st.integers(0, 4), st.booleans(), st.sampled_from([0.0, 20.0]))
def test_filter_is_its_definition(image, kernels, padding, absolute, threshold):
    stage = Filter(kernels, padding, absolute, threshold)
    encoder = ImageEncoder([stage], Rank())
    if min(image.shape) + 2 * padding < stage.window:
        with pytest.raises(ValueError, match="at least"):
            encoder.intensities(image)
        return
    found = encoder.intensities(image)[0].astype(float)
    expected = NAIVE[Filter](stage, image[None].astype(float))
    assert found.shape == expected.shape == encoder.output_shape(*image.shape)
    # At the threshold rounding decides between 0 and the threshold.
    flips = (np.minimum(found, expected) == 0) & (np.abs(np.maximum(found, expected) - threshold) < 1e-2)
    np.testing.assert_allclose(found[~flips], expected[~flips], rtol=1e-5, atol=5e-3)


@pytest.mark.parametrize("n_images", [1, 32])
def test_kernels_of_one_window_filter_as_each_does_alone(n_images):
    images = np.random.default_rng(4).integers(-99, 256, (n_images, 17, 18))
    images[:, :5], images[:, :, 15:] = 0, 0
    kernels = [DoG(3, 1 / 3, 2 / 3), DoG(7, 1, 2), DoG(7, 2, 1), DoG(7, 1, 3), Gabor(5, 20), Gabor(5, 67.5)]
    together = ImageEncoder([Filter(kernels, padding=3, signed=True)], Rank()).intensities(images)
    for k, kernel in enumerate(kernels):
        alone = Filter([kernel], padding=kernel.window // 2, signed=True)
        np.testing.assert_array_equal(together[:, [k]], ImageEncoder([alone], Rank()).intensities(images))


def test_filter_keeps_what_equals_the_threshold_and_takes_absolute_values_first():
    image = np.zeros((3, 3))
    image[1, 1] = 50
    kernel = DoG(3, 1 / 3, 2 / 3)  # its centre is 1
    assert ImageEncoder([Filter([kernel], threshold=50)], Rank()).intensities(image).item() == 50
    assert ImageEncoder([Filter([kernel], threshold=50.001)], Rank()).intensities(image).item() == 0
    assert ImageEncoder([Filter([kernel])], Rank()).intensities(-image).item() == 0
    assert ImageEncoder([Filter([kernel], absolute=True, threshold=50)], Rank()).intensities(-image).item() == 50


@settings(deadline=None, max_examples=40)
@given(MAPS, st.integers(1, 4))
def test_local_normalization_is_its_definition(maps, radius):
    expected = naive_normalization(maps, radius)
    np.testing.assert_allclose(apply(LocalNormalization(radius), maps), expected, rtol=1e-5)


def test_local_normalization_is_exact_beside_bright_parts():
    # A running sum in float32 would keep an error of the bright part's last bits.
    maps = np.zeros((1, 1, 30), np.float32)
    maps[0, 0, :5] = 1e9 + np.arange(5) * 1e3
    maps[0, 0, 10:] = 1e-3
    np.testing.assert_allclose(apply(LocalNormalization(2), maps), naive_normalization(maps, 2), rtol=1e-5)


@settings(deadline=None, max_examples=40)
@given(MAPS, st.integers(1, 4), st.integers(1, 4), st.integers(0, 2))
def test_max_pool_is_its_definition(maps, kernel, stride, padding):
    padding = min(padding, kernel // 2)
    stage = MaxPool(kernel, stride, padding)
    if min(maps.shape[1:]) + 2 * padding < kernel:
        with pytest.raises(ValueError, match="one window"):
            apply(stage, maps)
        return
    for signed in (maps, -1 - maps):  # the border must not win over negative values
        expected = naive_pool(signed, kernel, stride, padding)
        np.testing.assert_array_equal(apply(stage, signed), expected)
        assert stage.output_shape(maps.shape) == expected.shape


@settings(deadline=None, max_examples=40)
@given(MAPS, st.lists(st.sampled_from([0.0, 0.125, 0.25, 0.5]), min_size=1, max_size=3))
def test_lateral_inhibition_is_its_definition(maps, factors):
    np.testing.assert_array_equal(apply(LateralInhibition(factors), maps), naive_lateral(maps, factors))


def test_lateral_inhibition_by_hand():
    maps = np.array([[[4.0, 2.0, 2.0]]])
    # The 4 has 7 weaker or absent neighbours at distance 1, where one is the 2, and all 16 at distance 2.
    expected = [4 * (1 + 8 * 0.5 + 16 * 0.25), 2 * (1 + 6 * 0.5 + 16 * 0.25), 2 * (1 + 7 * 0.5 + 15 * 0.25)]
    np.testing.assert_array_equal(apply(LateralInhibition([0.5, 0.25]), maps)[0, 0], expected)


def test_scaling_stages():
    images = np.array([[[0, 51], [255, 102]], [[0, 0], [0, 0]]], np.uint8)
    np.testing.assert_allclose(
        ImageEncoder([Scale(1 / 255)], Rank()).intensities(images)[0, 0], [[0, 0.2], [1, 0.4]], rtol=1e-6
    )
    divided = ImageEncoder([Scale(3), DivideByMax()], Rank()).intensities(images)
    np.testing.assert_allclose(divided[0, 0], [[0, 0.2], [1, 0.4]], rtol=1e-6)
    assert not divided[1].any()


@settings(deadline=None, max_examples=40)
@given(MAPS, RULES, st.booleans())
def test_spikes_are_their_definition_with_many_ties(maps, rule, pointwise):
    events = ImageEncoder([], rule, pointwise).encode(maps[None])
    np.testing.assert_array_equal(latencies(events)[0], naive_latency(maps, rule, pointwise))
    assert events.unit == "bin"
    assert events.duration == (maps.size if isinstance(rule, Rank) else rule.bins)


@settings(deadline=None, max_examples=40)
@given(GREY, KERNELS, RULES, st.booleans(), st.data())
def test_encode_is_its_definition(image, kernels, rule, pointwise, data):
    menu = st.sampled_from(
        [LocalNormalization(2), MaxPool(2, 1, 1), MaxPool(1, 2), LateralInhibition([0.2, 0.1]), Scale(0.1)]
    )
    stages = [Filter(kernels, 3, data.draw(st.booleans()), 5), *data.draw(st.lists(menu, max_size=3)), DivideByMax()]
    encoder = ImageEncoder(stages, rule, pointwise)
    # Rounding may swap intensities that are nearly equal, so each step starts from what the last one gave.
    for number, stage in enumerate(encoder.stages[1:], start=1):
        before, after = (encoder.intensities(image, stages=n)[0] for n in (number, number + 1))
        np.testing.assert_allclose(after, NAIVE[type(stage)](stage, before.astype(float)), rtol=1e-5)
    intensity = encoder.intensities(image)[0]
    assert intensity.shape == encoder.output_shape(*image.shape)
    found = latencies(encoder.encode(image))[0]
    np.testing.assert_array_equal(found, naive_latency(intensity, rule, pointwise))


def test_equal_bins_by_hand():
    # Seven intensities in three bins: two each, the weakest is dropped; 5 ties with 5 by position.
    intensity = np.array([[[9.0, 0, 5, 1], [5, 7, 2, 3]]])
    events = ImageEncoder([], EqualBins(3)).encode(intensity[None])
    np.testing.assert_array_equal(events.to_latency()[0, 0], [[0, -1, 1, -1], [1, 0, 2, 2]])
    few = ImageEncoder([], EqualBins(8)).encode(intensity[None])
    np.testing.assert_array_equal(few.to_latency()[0, 0], [[0, -1, 2, 6], [3, 1, 5, 4]])
    assert few.duration == 8


@pytest.mark.parametrize("bins", [1, 7, 15, 100, 399, 400, 10**6])
@pytest.mark.parametrize("outlier", [1.0, 1e30])
def test_equal_bins_of_many_intensities(bins, outlier):
    # The outlier puts all others into one bucket, so that all must be sorted.
    intensity = np.random.default_rng(0).random((2, 20, 20)).astype(np.float32)
    intensity[intensity < 0.5] = 0
    intensity[1, 3, 4] = outlier
    events = ImageEncoder([], EqualBins(bins)).encode(intensity[None])
    np.testing.assert_array_equal(latencies(events)[0], naive_latency(intensity, EqualBins(bins)))


def test_linear_by_hand():
    intensity = np.array([[1.0, 0.75, 0.5, 0.26, 0.25, 1e-30, 0.0]])
    events = ImageEncoder([], Linear(4)).encode(intensity)
    np.testing.assert_array_equal(events.to_latency()[0, 0, 0], [0, 1, 2, 2, 3, 3, -1])


def test_pointwise_keeps_the_stronger_then_the_lower_map():
    intensity = np.array([[[1.0, 4.0, 2.0]], [[3.0, 4.0, 2.5]]])
    events = ImageEncoder([], EqualBins(1), pointwise=True).encode(intensity[None])
    np.testing.assert_array_equal(events.to_latency()[0, :, 0], [[-1, 0, -1], [0, -1, 0]])


def test_dark_images_have_no_spikes():
    images = np.zeros((3, 28, 28), np.uint8)
    images[1, 10:15, 10:15] = 200
    events = mozafari2019_mnist().encode(images)
    assert np.diff(events.offsets).astype(bool).tolist() == [False, True, False]
    negative_zero = ImageEncoder([], Rank()).encode(np.full((2, 2), -0.0))
    assert negative_zero.n_events == 0


def test_one_pixel():
    events = ImageEncoder([], EqualBins(15)).encode(np.array([[7.0]]))
    assert (events.shape, events.time.tolist(), events.duration) == ((1, 1, 1), [0], 15)


# Batches, threads, inputs


def blobs(n, side, seed=0):
    """Images with dark borders and few grey values, so with ties."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 6, (n, side, side), dtype=np.uint8) * 51
    images[:, : side // 4] = 0
    return images


@pytest.mark.parametrize("encoder", [mozafari2019_mnist(), kheradpisheh2018_mnist(), mozafari2018(5, 4)])
def test_bits_do_not_depend_on_batch_or_threads(encoder, monkeypatch):
    images = blobs(70, 28)
    monkeypatch.setenv("EVENTSNN_THREADS", "1")
    whole, intensities = encoder.encode(images), encoder.intensities(images)
    assert whole.n_events > 1000
    single = concatenate(encoder.encode(image) for image in images)
    monkeypatch.setenv("EVENTSNN_THREADS", "3")
    assert encoder.encode(images).equals(whole)
    assert single.equals(whole)
    assert concatenate([encoder.encode(images[:41]), encoder.encode(images[41:])]).equals(whole)
    np.testing.assert_array_equal(encoder.intensities(images), intensities)
    np.testing.assert_array_equal(encoder.intensities(images[7]), intensities[7:8])
    dataclasses.replace(whole)  # validates


def test_large_images_go_one_by_one(monkeypatch):
    monkeypatch.setattr("eventsnn.encode.intensity._BLOCK", 100)
    encoder, images = kheradpisheh2018_mnist(), blobs(3, 28)
    single = concatenate(encoder.encode(image) for image in images)
    assert encoder.encode(images).equals(single)


def test_dtype_layout_and_labels():
    encoder, images = kheradpisheh2018_mnist(), blobs(5, 28)
    events = encoder.encode(images)
    for same in (images.astype(np.float64), images.astype(np.int64), images.astype(">f4"), np.asfortranarray(images)):
        assert encoder.encode(same).equals(events)
    assert encoder.encode(images.tolist()).equals(events)
    assert encoder.encode(images[::2]).equals(events[::2])
    assert encoder.encode(images, labels=[3, 1, 4, 1, 5]).labels.tolist() == [3, 1, 4, 1, 5]
    with pytest.raises(ValueError, match="5 samples, got 2"):
        encoder.encode(images, labels=[1, 2])


@pytest.mark.parametrize("name", MODELS)
def test_the_size_of_images_follows_from_their_grid(name):
    encoder = MODELS[name]().encoder
    for size in ((28, 28), (29, 41), (160, 33)):
        shape = encoder.output_shape(*size)
        assert encoder.image_size(shape, size) == size
        height, width = encoder.image_size(shape, (1, 1))
        assert encoder.output_shape(height, width) == shape
        assert height <= size[0]
        assert width <= size[1]
        assert all(encoder.output_shape(*less) != shape for less in ((height - 1, width), (height, width - 1)))
    assert encoder.image_size((9, 28, 28), (28, 28)) is None


def test_whitened_images_have_one_size():
    images = np.random.default_rng(0).random((20, 5, 6)).astype(np.float32)
    encoder = ImageEncoder((ZCA.fit(images), OnOff()), EqualBins(4))
    assert encoder.image_size((2, 5, 6), (5, 6)) == (5, 6)
    assert encoder.image_size((2, 6, 6), (5, 6)) is None


def test_no_images():
    events = mozafari2019_mnist().encode(np.empty((0, 28, 30), np.uint8))
    assert (len(events), events.n_events, events.shape, events.duration) == (0, 0, (6, 28, 30), 15)
    assert mozafari2019_mnist().intensities(np.empty((0, 28, 30))).shape == (0, 6, 28, 30)


def test_importing_does_not_compile():
    code = "import sys, eventsnn.encode as e; e.mozafari2018().to_dict(); sys.exit('numba' in sys.modules)"
    root = Path(__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


# Values


@pytest.mark.parametrize(
    "encoder",
    [
        mozafari2019_mnist(),
        kheradpisheh2018_mnist(),
        mozafari2018(pool=5, stride=4, bins=30),
        ImageEncoder([Scale(0.5), DivideByMax(), MaxPool(3)], Linear(1000), pointwise=True),
        ImageEncoder([], Rank()),
    ],
)
def test_round_trip_through_json(encoder):
    again = ImageEncoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
    assert again == encoder
    assert hash(again) == hash(encoder)


def test_encoders_are_values():
    assert mozafari2019_mnist() == mozafari2019_mnist() != kheradpisheh2018_mnist()
    assert DoG(np.int64(7), np.float32(1), 2) == DoG(7, 1.0, 2.0)
    assert MaxPool(2) == MaxPool(2, 2)
    assert dataclasses.replace(mozafari2018(), latency=Rank()) != mozafari2018()
    assert mozafari2019_mnist().to_dict()["stages"][1] == {"type": "LocalNormalization", "radius": 8}
    assert mozafari2018(5, 4, 30).stages[2] == MaxPool(5, 4, padding=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        mozafari2019_mnist().pointwise = True


def edited(change):
    data = mozafari2019_mnist().to_dict()
    change(data)
    return data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["stages"][0].update(type="Fliter"), "unknown stage 'Fliter'; the nearest known is 'Filter'"),
        (lambda d: d["stages"][1].update(radios=3), "LocalNormalization has no parameter 'radios'; .* is 'radius'"),
        (lambda d: d["stages"][1].pop("radius"), "LocalNormalization lacks the parameter 'radius'"),
        (lambda d: d["stages"][1].update(radius=0), "radius expects an integer of at least 1, got 0"),
        (lambda d: d["stages"][0]["kernels"][2].update(type="Dog"), "unknown kernel 'Dog'; .* is 'DoG'"),
        (lambda d: d["stages"][0].update(kernels=[]), "kernels expects at least 1, got 0"),
        (lambda d: d["stages"].append("Filter"), "stage expects a dict with the key 'type', got 'Filter'"),
        (lambda d: d["latency"].update(type="EqualBin"), "unknown latency 'EqualBin'; .* is 'EqualBins'"),
        (lambda d: d.update(latency=[]), "latency expects EqualBins, Linear or Rank"),
        (lambda d: d.update(stages=None), "stage expects a dict"),
        (lambda d: d.update(type="Encoder"), "unknown encoder 'Encoder'; .* is 'ImageEncoder'"),
        (lambda d: d.update(pointwise=1), "pointwise expects True or False, got 1"),
        (lambda d: d.pop("type"), "encoder expects a dict with the key 'type'"),
    ],
)
def test_wrong_dicts_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ImageEncoder.from_dict(edited(change))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DoG(4, 1, 2), "DoG: window expects an odd number of pixels, got 4"),
        (lambda: DoG(1, 1, 2), "window expects an integer of at least 3, got 1"),
        (lambda: DoG(3.0, 1, 2), "window expects an integer"),
        (lambda: DoG(3, 0, 2), "sigma1 expects a finite number above 0, got 0"),
        (lambda: DoG(3, 1, math.nan), "sigma2 expects a finite number above 0, got nan"),
        (lambda: DoG(7, 2, 2), "is flat"),
        (lambda: Gabor(6, 0), "Gabor: window expects an odd number"),
        (lambda: Gabor(5, math.inf), "orientation expects a finite number, got inf"),
        (lambda: Gabor(5, 0, -1), "div expects a finite number above 0"),
        (lambda: Filter([]), "kernels expects at least 1, got 0"),
        (lambda: Filter(DoG(3, 1, 2)), "kernels expects a sequence"),
        (lambda: Filter([DoG]), "expects values with array"),
        (lambda: Filter([DoG(3, 1, 2)], padding=-1), "padding expects an integer of at least 0, got -1"),
        (lambda: Filter([DoG(3, 1, 2)], threshold=-50), "threshold expects a finite number of at least 0, got -50"),
        (lambda: Filter([DoG(3, 1, 2)], absolute=1), "absolute expects True or False, got 1"),
        (lambda: LocalNormalization(0), "radius expects an integer of at least 1, got 0"),
        (lambda: LocalNormalization(True), "radius expects an integer"),
        (lambda: MaxPool(0), "kernel expects an integer of at least 1"),
        (lambda: MaxPool(3, 0), "stride expects an integer of at least 1"),
        (lambda: MaxPool(3, 1, 2), "padding expects at most half of kernel 3, got 2"),
        (lambda: LateralInhibition([]), "factors expects at least one number, got none"),
        (lambda: LateralInhibition([0.1, -0.1]), "factors expects a finite number of at least 0, got -0.1"),
        (lambda: LateralInhibition(0.1), "factors expects a sequence of numbers, got 0.1"),
        (lambda: Scale(0), "factor expects a finite number above 0, got 0"),
        (lambda: EqualBins(0), "bins expects an integer of at least 1, got 0"),
        (lambda: Linear(1.5), "bins expects an integer of at least 1, got 1.5"),
        (lambda: ImageEncoder([], 15), "latency expects EqualBins, Linear or Rank, got 15"),
        (lambda: ImageEncoder([], EqualBins), "latency expects EqualBins, Linear or Rank"),
        (lambda: ImageEncoder([DoG(3, 1, 2)], Rank()), "stages expects values with apply"),
    ],
)
def test_wrong_parameters_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (np.zeros(28), ValueError, r"images expects shape .*, got \(28,\)"),
        (np.zeros((1, 1, 1, 28, 28)), ValueError, "images expects shape"),
        (np.zeros((2, 0, 28)), ValueError, r"images expects shape .*, got \(2, 0, 28\)"),
        (np.zeros((2, 3, 28, 28)), ValueError, "Filter expects grey images of 1 channel, got 3"),
        (np.zeros((28, 28), complex), TypeError, "images expects integers or floats, got complex128"),
        (np.zeros((28, 28), bool), TypeError, "integers or floats, got bool"),
        (np.full((28, 28), "a"), TypeError, "integers or floats"),
    ],
)
def test_wrong_images_are_refused(images, error, message):
    with pytest.raises(error, match=message):
        mozafari2019_mnist().encode(images)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300])
def test_images_that_are_not_finite_are_refused(value):
    images = np.zeros((40, 9, 9))
    images[36, 3, 4] = value
    with pytest.raises(ValueError, match="finite values in the range of float32; image 36"):
        mozafari2019_mnist().encode(images)


def test_intensities_that_do_not_fit_are_refused():
    images = np.zeros((40, 5, 5))
    images[37, 2, 2] = -3
    with pytest.raises(ValueError, match="finite intensities of at least 0, image 37 has -3"):
        ImageEncoder([], Rank()).encode(images)
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="image 0 has inf"):
        ImageEncoder([Scale(1e30)], Rank()).encode(np.full((5, 5), 1e20))
    with pytest.raises(ValueError, match=r"Linear expects intensities in \[0, 1\], found 3"):
        ImageEncoder([], Linear(15)).encode(-images)
    with pytest.raises(ValueError, match="stages from 0 to 1, got 2"):
        ImageEncoder([Scale(2)], Rank()).intensities(images, stages=2)
    with pytest.raises(ValueError, match="hold one window, got 2 x 9"):
        ImageEncoder([MaxPool(3)], Rank()).encode(np.zeros((2, 9)))


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_wrong_number_of_threads_is_refused(value, monkeypatch):
    monkeypatch.setenv("EVENTSNN_THREADS", value)
    with pytest.raises(ValueError, match="EVENTSNN_THREADS expects a number of threads"):
        ImageEncoder([], Rank()).encode(np.zeros((2, 2)))
