"""In which order filters and local normalization add, against NumPy, bit for bit; and how far that is from float64."""

from dataclasses import dataclass

import hostcuda
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventsnn.batches import fetch
from eventsnn.encode import (
    DoG,
    EqualBins,
    Filter,
    Gabor,
    ImageEncoder,
    LocalNormalization,
    LoG,
    OnOff,
    Rank,
    falez2019_mnist,
    kheradpisheh2018_mnist,
    mozafari2019_mnist,
    spyker_mnist,
)
from eventsnn.encode.filters import Terms
from eventsnn.encoding import encoded

MOST = settings(deadline=None, max_examples=40)


@dataclass(frozen=True)
class Steps:
    """A kernel of no symmetry, which has no terms."""

    window: int

    def array(self):
        return np.random.default_rng(self.window).normal(size=(self.window, self.window)).astype(np.float32)


@dataclass(frozen=True)
class Several:
    """A sum of any number of symmetric outer products, minus a number that is not its mean."""

    window: int
    count: int

    def terms(self):
        factors = np.random.default_rng(self.count).normal(size=(2, self.count, self.window))
        down, across = factors + factors[:, :, ::-1]
        return Terms(down, across, 0.75, -0.5)

    def array(self):
        down, across, mean, scale = self.terms()
        return (scale * (down.T @ across - mean)).astype(np.float32)


# What is to come out


def fma(factor, term, total):
    # The 64 bits of an x86's extended numbers hold the product, and all but never round the sum to a tie of float32.
    return (np.longdouble(factor) * term.astype(np.longdouble) + total).astype(np.float32)


def folded(planes, factors):
    """Weigh planes, those at the same distance from the middle together, the outermost first."""
    total = np.zeros_like(planes[0])
    for k, (plane, factor) in enumerate(zip(planes, factors, strict=True)):
        if 2 * k + 1 < len(planes):
            plane = plane + planes[-1 - k]
        elif 2 * k + 1 > len(planes):
            break
        total = plane + total if factor is None else fma(factor, plane, total)
    return total


def by_terms(images, kernel):
    n = kernel.window
    down, across, mean, scale = kernel.terms()
    height, width = images.shape[1] - n + 1, images.shape[2] - n + 1
    rows, total = [images[:, k : k + height] for k in range(n)], np.zeros((len(images), height, width), np.float32)

    def along(sums, factors):
        nonlocal total
        for k in range(n // 2 + 1):
            one = sums[:, :, k : k + width]
            value = one if 2 * k + 1 == n else one + sums[:, :, n - 1 - k : n - 1 - k + width]
            total = fma(factors[k], value, total)

    for r, (one, other) in enumerate(zip(down, across, strict=True)):
        along(folded(rows, one.astype(np.float32)), other.astype(np.float32))
        if r == 1 or r == len(down) - 1 == 0:
            along(folded(rows, [None] * n), np.full(n, -mean, np.float32))
    return np.float32(scale) * total + np.float32(0)


def window_by_window(images, weights, scale=1.0):
    n = len(weights)
    height, width = images.shape[1] - n + 1, images.shape[2] - n + 1
    total = np.zeros((len(images), height, width), np.float32)
    for (i, j), weight in np.ndenumerate(weights):
        total = fma(weight, images[:, i : i + height, j : j + width], total)
    return np.float32(scale) * total + np.float32(0)


def cancels(kernel):
    """Tell whether terms add up to far more than the kernel's responses."""
    down, across, mean, scale = kernel.terms()
    products = [np.outer(*factors) for factors in zip(down, across, strict=True)]
    mass = abs(scale) * (np.abs(products).sum() + kernel.window**2 * abs(mean))
    return mass > 40 * np.linalg.norm(kernel.array().astype(float))


def expected_filter(images, stage):
    largest, maps = max(kernel.window for kernel in stage.kernels), []
    padded = np.pad(images.astype(np.float32), ((0, 0), *[(stage.padding, stage.padding)] * 2))
    for kernel in stage.kernels:
        edge = (largest - kernel.window) // 2
        inside = padded[:, edge : padded.shape[1] - edge, edge : padded.shape[2] - edge]
        if not hasattr(kernel, "terms") or cancels(kernel):
            response = window_by_window(inside, kernel.array())
        elif kernel.window <= 5:
            down, across, mean, scale = kernel.terms()
            response = window_by_window(inside, (down.T @ across - mean).astype(np.float32), scale)
        else:
            response = by_terms(inside, kernel)
        response = abs(response) if stage.absolute else response
        size = abs(response) if stage.signed else response
        maps.append(np.where(size < np.float32(stage.threshold), np.float32(0), response))
    return np.stack(maps, axis=1)


def window_sums(line, radius):
    """Sums along the last axis of 1, 2, 4, ... values as the binary digits of a window's length say."""
    length, at = line.shape[-1], 0
    block, size = np.pad(line, [(0, 0)] * (line.ndim - 1) + [(radius, radius)]), 1
    total = np.zeros_like(line)
    while True:
        if (2 * radius + 1) & size:
            total, at = total + block[..., at : at + length], at + size
        if 2 * size > 2 * radius + 1:
            return total
        block, size = block[..., : block.shape[-1] - size] + block[..., size:], 2 * size


def expected_normalization(maps, radius):
    sums = window_sums(window_sums(maps, radius).swapaxes(2, 3), radius).swapaxes(2, 3)
    share = np.float32(1) / np.float32((2 * radius + 1) ** 2)
    return maps / (sums * share + np.float32(1e-12))


# What comes out


def images_with_dark_parts(data, shape):
    n, *size = shape
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    images = rng.integers(0, 256, shape) * (rng.random(shape) < data.draw(st.sampled_from([0.05, 0.5, 1.0])))
    ends = [sorted(rng.integers(0, length + 1, 2)) for length in size]
    images[:, : ends[-2][0]] = images[:, ends[-2][1] + 1 :] = 0
    images[..., : ends[-1][0]] = images[..., ends[-1][1] + 1 :] = 0
    images[n // 2] = 0
    return images.astype(np.float32)


GAUSSIANS = [DoG(3, 1 / 3, 2 / 3), DoG(5, 2, 1), DoG(7, 1, 2), DoG(7, 2, 1), DoG(7, 1, 4, "sum"), DoG(13, 3, 1.5)]
OTHERS = [LoG(7, 1.5), LoG(11, 1), LoG(3, 1), Gabor(5, 67.5), Gabor(9, 20), Steps(3), Steps(7)]
CANCELLING = [
    LoG(7, 20),
    DoG(21, 3.3, 3),
    LoG(3, 1000),
    DoG(3, 100, 1000, "sum"),
    DoG(9, 0.05, 0.1, "sum"),
    LoG(31, 50),
]
KERNELS = st.sampled_from(
    [*GAUSSIANS, *OTHERS, *CANCELLING[:4], DoG(13, 1.5, 3), Several(7, 1), Several(9, 3), Several(7, 4)]
)
N_IMAGES = st.sampled_from([1, 2, 3, 15, 16, 17, 33])


def filters():
    rest = st.integers(0, 9), st.sampled_from(["plain", "absolute", "signed"]), st.sampled_from([0.0, 20.0])
    kernels = st.lists(KERNELS, min_size=1, max_size=5)
    return st.builds(
        lambda k, padding, how, threshold: Filter(k, padding, how == "absolute", threshold, how == "signed"),
        kernels,
        *rest,
    )


@MOST
@given(filters(), N_IMAGES, st.data())
def test_filters_add_in_this_order_on_every_backend(stage, n, data):
    least = max(1, stage.window - 2 * stage.padding)
    images = images_with_dark_parts(data, (n, *(data.draw(st.integers(least, least + 11)) for _ in range(2))))
    if data.draw(st.booleans()):
        images *= -1
    found = ImageEncoder([stage], Rank()).intensities(images)
    expected = expected_filter(images, stage)
    np.testing.assert_array_equal(found, expected)
    assert not np.signbit(found[found == 0]).any()
    mode = stage.absolute, stage.signed, stage.threshold
    if hostcuda.COMPILER is not None:
        host = hostcuda.backend(5)
        values = host.images.correlate(host.put(images[:, None]), stage.bank, stage.padding, mode)
        np.testing.assert_array_equal(np.asarray(values), expected)


@MOST
@given(st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 16, 31]), N_IMAGES, st.integers(1, 3), st.data())
def test_windows_of_a_normalization_add_in_this_order_on_every_backend(radius, n, channels, data):
    maps = images_with_dark_parts(data, (n, channels, *(data.draw(st.integers(1, 21)) for _ in range(2)))) / np.float32(
        7
    )
    found = ImageEncoder([LocalNormalization(radius)], Rank()).intensities(maps)
    expected = expected_normalization(maps, radius)
    np.testing.assert_array_equal(found, expected)
    if hostcuda.COMPILER is not None:
        host = hostcuda.backend(5)
        np.testing.assert_array_equal(np.asarray(host.images.normalize(host.put(maps), radius)), expected)


PLAIN = [DoG(7, 1, 2), DoG(13, 26 / 9, 13 / 9), DoG(7, 4, 1, "sum"), DoG(21, 1, 9), LoG(9, 1.2), LoG(15, 3)]


@pytest.mark.parametrize("kernel", [*PLAIN, *CANCELLING, LoG(31, 4), DoG(31, 2, 8)])
def test_terms_are_the_kernel(kernel):
    down, across, mean, scale = kernel.terms()
    values = scale * (down.T @ across - mean)
    largest = max(abs(values).max(), *(abs(scale * np.outer(*f)).max() for f in zip(down, across, strict=True)))
    np.testing.assert_allclose(values, kernel.array(), rtol=0, atol=3e-7 * largest)
    assert abs(values.mean()) < 1e-12 * largest
    for factors in (down, across):
        np.testing.assert_array_equal(factors, factors[:, ::-1])


@pytest.mark.parametrize("kernel", CANCELLING)
def test_kernels_whose_terms_cancel_go_window_by_window(kernel):
    responses, weights, _, scales = Filter([kernel]).bank.arrays
    np.testing.assert_array_equal(responses, [[kernel.window, 0, 0, 0, 0, 1]])
    np.testing.assert_array_equal(weights.reshape((kernel.window,) * 2), kernel.array())
    assert scales == 1


@pytest.mark.parametrize("encoder", [mozafari2019_mnist(), kheradpisheh2018_mnist(), spyker_mnist(), falez2019_mnist()])
def test_kernels_of_published_encoders_go_down_and_across(encoder):
    (stage,) = (stage for stage in encoder.stages if isinstance(stage, Filter))
    for window, parts, *_ in stage.bank.arrays[0]:
        assert parts == (window > 5)


@pytest.mark.parametrize(
    "kernel",
    [DoG(3, 1 / 3, 2 / 3), *PLAIN, *CANCELLING, DoG(31, 6, 9), LoG(31, 20), LoG(21, 10), Several(9, 3), Steps(7)],
)
def test_filters_are_close_to_float64(kernel):
    image = np.random.default_rng(2).integers(0, 256, (44, 41))
    expected = np.zeros(np.array(image.shape) + 1 - kernel.window)
    for (i, j), weight in np.ndenumerate(kernel.array().astype(float)):
        expected += weight * image[i : i + expected.shape[0], j : j + expected.shape[1]]
    found = ImageEncoder([Filter([kernel], signed=True)], Rank()).intensities(image)[0, 0]
    assert abs(found - expected).max() <= 1e-5 * abs(expected).max()


@dataclass(frozen=True)
class Given:
    """A kernel of given parts, right or wrong."""

    window: object
    values: object
    parts: object = None

    def array(self):
        return self.values

    def terms(self):
        return self.parts


@dataclass(frozen=True)
class Named:
    """A kernel with a field that is no method."""

    window: int
    terms: int = 3

    def array(self):
        return np.ones((self.window, self.window), int)


ONES, ROW = np.ones((7, 7)), np.ones((1, 7))
FINE = Terms(ROW, ROW, 0.0, 1.0)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (Given(7, np.ones((5, 5))), r"array\(\) expects shape \(7, 7\), got shape \(5, 5\)"),
        (Given(7, np.ones((7, 7, 1))), r"array\(\) expects shape \(7, 7\), got shape \(7, 7, 1\)"),
        (Given(7, [["a"]]), r"array\(\) expects numbers"),
        (Given(4, np.ones((4, 4))), "window expects an odd number of pixels, got 4"),
        (Given(7.0, ONES), "window expects an odd number of pixels, got 7.0"),
        (Given(7, ONES * np.nan), "finite numbers in the range of float32"),
        (Given(7, ONES * 1e39), "finite numbers in the range of float32"),
        (Given(7, ONES, 3), "expects Terms, got 3"),
        (Given(7, ONES, FINE._replace(down=ROW[:0])), r"down expects shape \(terms, 7\), got shape \(0, 7\)"),
        (Given(7, ONES, FINE._replace(down=ROW[0])), r"down expects shape \(terms, 7\), got shape \(7,\)"),
        (Given(7, ONES, FINE._replace(across=ROW[:, 1:])), r"across expects shape \(1, 7\), got shape \(1, 6\)"),
        (Given(7, ONES, FINE._replace(across=ROW * np.arange(7))), "across expects symmetric factors"),
        (Given(7, ONES, FINE._replace(mean=ROW)), r"mean expects shape \(\), got shape \(1, 7\)"),
        (Given(7, ONES, FINE._replace(scale=np.nan)), "scale expects finite numbers"),
        (Given(7, ONES, FINE._replace(scale=2.0)), "expects those of array"),
    ],
)
def test_kernels_that_cannot_be_summed_are_refused(kernel, message):
    with pytest.raises(ValueError, match=rf"kernel 1 \(Given\).*{message}"):
        Filter([DoG(7, 1, 2), kernel])


@pytest.mark.parametrize("kernel", [Given(7, ONES, FINE), Named(7), Given(7, ONES.astype(int).tolist(), FINE)])
def test_kernels_may_be_of_any_numbers(kernel):
    image = np.random.default_rng(4).integers(0, 256, (9, 9))
    found = ImageEncoder([Filter([kernel])], Rank()).intensities(image)
    assert found[0, 0, 1, 2] == image[1:8, 2:9].sum()


@pytest.mark.parametrize("encoder", [mozafari2019_mnist(), kheradpisheh2018_mnist()])
def test_filters_that_overflow_are_refused(encoder):
    with pytest.raises(ValueError, match="finite intensities"):
        encoder.encode(np.full((1, 28, 28), 1e38))


def test_normalization_is_close_to_float64():
    maps = np.random.default_rng(3).random((1, 1, 40, 50)).astype(np.float32)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(maps[0, 0].astype(float), 8), (17, 17)).mean(axis=(2, 3))
    found = ImageEncoder([LocalNormalization(8)], Rank()).intensities(maps)
    np.testing.assert_allclose(found[0, 0], maps[0, 0] / around, rtol=5e-7)


def test_on_and_off_centre_cells_are_one_response():
    stage = mozafari2019_mnist().stages[0]
    assert len(stage.bank.arrays[0]) == 3
    images = np.random.default_rng(5).integers(0, 256, (3, 28, 28))
    plain = Filter(stage.kernels, stage.padding, signed=True)
    on, off = (ImageEncoder([plain], Rank()).intensities(images)[:, first::2] for first in (0, 1))
    assert np.array_equal(on > 0, off < 0)
    assert np.array_equal(on < 0, off > 0)


@pytest.mark.parametrize("n", [1, 16])
@pytest.mark.parametrize(
    "stage", [Filter([DoG(7, 1, 2), LoG(9, 1.5), DoG(3, 0.5, 1)], signed=True, padding=4), LocalNormalization(2)]
)
def test_the_same_patch_gives_the_same_wherever_it_lies(stage, n):
    patch = np.random.default_rng(6).integers(1, 256, (9, 10)).astype(np.float32)
    images = np.zeros((n, 60, 60), np.float32)
    places = [(12, 12), (13, 35), (37, 14), (38, 37)]
    for y, x in places:
        images[:, y : y + 9, x : x + 10] = patch
    found = ImageEncoder([stage], Rank()).intensities(images)
    around = [found[:, :, y - 4 : y + 13, x - 4 : x + 14] for y, x in places]
    for other in around[1:]:
        np.testing.assert_array_equal(other, around[0])
    assert np.count_nonzero(found) <= len(places) * np.count_nonzero(around[0])  # 0 elsewhere


@pytest.mark.parametrize(
    "encoder",
    [
        mozafari2019_mnist(),
        kheradpisheh2018_mnist(),
        spyker_mnist(),
        ImageEncoder(
            [Filter([LoG(9, 1.5), Gabor(5, 30)], 2, signed=True), OnOff(4.0), LocalNormalization(5)], EqualBins(6)
        ),
    ],
    ids=["mozafari2019", "kheradpisheh2018", "spyker", "LoG and Gabor"],
)
def test_images_beside_an_image_and_threads_change_nothing(encoder, monkeypatch):
    rng = np.random.default_rng(7)
    images = rng.integers(0, 256, (130, 28, 28)) * (rng.random((130, 28, 28)) < 0.4)
    images[:, :5] = images[::3, :, 20:] = images[40] = 0
    whole = encoder.encode(images)
    for size in (1, 7, 16, 64):
        for threads in ("1", "2"):
            monkeypatch.setenv("EVENTSNN_THREADS", threads)
            start = 37
            assert encoder.encode(images[start : start + size]).equals(whole[start : start + size])


@pytest.mark.skipif(hostcuda.COMPILER is None, reason="no C++ compiler here; CXX may name one")
def test_laplacians_are_encoded_on_the_device():
    images = np.random.default_rng(8).integers(0, 256, (5, 21, 19))
    encoder = ImageEncoder(
        [Filter([LoG(7, 1.5), Several(9, 3)], 4, signed=True), OnOff(4.0), LocalNormalization(8)], EqualBins(6)
    )
    host = hostcuda.backend(7)
    (found,) = encoded(encoder, images, backend=host)
    assert fetch(found, host).equals(encoder.encode(images))
