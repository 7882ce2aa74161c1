"""Spikes found in tiles of sites and images, and dealt out to bins, with the vectors of a large machine and without."""

import os
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from eventsnn.encode import DoG, EqualBins, Filter, Gabor, ImageEncoder, Linear, LocalNormalization, LoG, Scale

N_IMAGES = (1, 15, 32, 33, 80)


def images_with_dark_parts(n, shape):
    rng = np.random.default_rng(n)
    images = rng.integers(1, 200, (n, *shape)) * (rng.random((n, *shape)) < 0.3)
    images[:, :, : shape[1] // 3] = 0  # whole tiles of it, for several images
    images[n // 2] = 0
    return (images / 200).astype(np.float32)


@pytest.mark.parametrize("latency", [EqualBins(1), Linear(1)])
@pytest.mark.parametrize("n", N_IMAGES)
def test_what_is_not_0_fires(n, latency):
    images = images_with_dark_parts(n, (3, 9, 7))
    images[0, 0, -1, -1] = -0.0
    images[-1, -1, -1, -1] = 1e-45  # the least there is
    events = ImageEncoder((), latency).encode(images)
    image, channel, y, x = np.nonzero(images)
    np.testing.assert_array_equal(np.repeat(np.arange(n), np.diff(events.offsets)), image)
    for found, expected in ((events.channel, channel), (events.y, y), (events.x, x)):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("radius", [1, 4, 20])
@pytest.mark.parametrize("n", N_IMAGES)
def test_images_are_normalized_together_as_alone(n, radius):
    images = images_with_dark_parts(n, (2, 12, 25))
    images[1:, :, :, :5] = 0
    encoder = ImageEncoder((LocalNormalization(radius),), EqualBins(4))
    together = encoder.intensities(images)
    alone = np.concatenate([encoder.intensities(image[None]) for image in images])
    np.testing.assert_array_equal(together, alone)


SHAPES = [(2, 9, 7), (3, 33, 1), (1, 1, 40), (5, 1, 1), (2, 16, 64), (2, 187, 180)]  # the last has two pages of sites
INTENSITIES = {
    "many": lambda rng, shape: rng.random(shape) * (rng.random(shape) < 0.4),
    "ties": lambda rng, shape: rng.integers(0, 4, shape),
    "near": lambda rng, shape: 1 + 1e-3 * rng.random(shape),
    "apart": lambda rng, shape: 10.0 ** rng.integers(-44, 38, shape) * (rng.random(shape) < 0.5),
    "least": lambda rng, shape: rng.integers(0, 90_000, shape) * 2.0**-149,
    "alike": lambda rng, shape: np.full(shape, np.finfo(np.float32).max),
    "few": lambda rng, shape: rng.random(shape) * (rng.random(shape) < 0.005),
}


def equal_bins(intensity, bins):
    """Return time, channel, y and x of an image's spikes: the definition of ``EqualBins``."""
    flat = intensity.ravel()
    lit = np.flatnonzero(flat)
    size = max(1, len(lit) // bins)
    ranked = lit[np.argsort(-flat[lit].astype(np.float64), kind="stable")][: size * bins]
    spikes = sorted(zip(np.arange(len(ranked)) // size, ranked, strict=True))
    time, site = np.array(spikes, np.int64).reshape(-1, 2).T
    return time, *np.unravel_index(site, intensity.shape)


@pytest.mark.parametrize("kind", INTENSITIES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_spikes_of_equal_bins_are_their_definition(kind, shape):
    rng = np.random.default_rng(len(kind) + sum(shape))
    images = INTENSITIES[kind](rng, (3 if shape[1] > 100 else 35, *shape)).astype(np.float32)
    images[1] = 0
    images[0, 0, 0, 0] = -0.0
    for bins in (1, 2, 15, 16, 300, 40_000):
        events = ImageEncoder((), EqualBins(bins)).encode(images)
        columns = events.time, events.channel, events.y, events.x
        for image, (first, end) in zip(images, pairwise(events.offsets), strict=True):
            for found, expected in zip(columns, equal_bins(image, bins), strict=True):
                np.testing.assert_array_equal(found[first:end], expected)


FRONTS = {
    "centres": (
        Filter([DoG(w, *s) for w in (3, 7, 13) for s in ((w / 9, w / 4), (w / 4, w / 9))], padding=6, threshold=50),
    ),
    "normalized": (Filter([DoG(7, 1, 2), DoG(7, 2, 1)], padding=3, threshold=20), LocalNormalization(8)),
    "without border": (Filter([LoG(9, 1.5)]), LocalNormalization(8)),
    "wide border": (Filter([DoG(3, 0.5, 1), DoG(13, 1, 3)], padding=9), LocalNormalization(8)),
    "bars": (Scale(1 / 255), Filter([Gabor(5, 45), Gabor(5, 90)], padding=1, absolute=True), LocalNormalization(8)),
    "another radius": (Filter([DoG(7, 1, 2)], padding=3), LocalNormalization(3)),
}


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("n", [1, 15, 16, 17, 150])
@pytest.mark.parametrize("front", FRONTS)
def test_one_pass_gives_what_stages_give_one_after_another(front, n, dtype):
    images = 255 * images_with_dark_parts(n, (1, 17, 14))[:, 0]
    images[-1, -1, -1] = 255  # alone in its rows and columns, for some
    for bins in (1, 15, 16, 300):
        encoder = ImageEncoder(FRONTS[front], EqualBins(bins))
        events = encoder.encode(images.astype(dtype))
        expected = ImageEncoder((), EqualBins(bins)).encode(encoder.intensities(images.astype(dtype)))
        assert events.shape == expected.shape
        for name in ("time", "channel", "y", "x", "offsets"):
            np.testing.assert_array_equal(getattr(events, name), getattr(expected, name))


@dataclass(frozen=True)
class Set:
    """Stage that gives one image's last pixel a value."""

    value: float
    image: int

    def output_shape(self, shape):
        return shape

    def apply(self, block):
        changed = block.copy()
        changed[-1, -1, -1, self.image] = self.value
        return changed


@pytest.mark.parametrize("latency", [EqualBins(3), Linear(3)])
@pytest.mark.parametrize("bits", [0x7F800000, 0x7FC00000, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000001, 0xBF800000])
def test_what_is_no_intensity_is_refused(bits, latency, monkeypatch):
    monkeypatch.setenv("EVENTSNN_THREADS", "1")
    value = np.uint32(bits).view(np.float32)
    with pytest.raises(ValueError, match="finite intensities of at least 0, image 33 has"):
        ImageEncoder((Set(value, 33),), latency).encode(np.ones((40, 5, 7), np.uint8))


@pytest.mark.parametrize("front", ["centres", "normalized"])
def test_what_overflows_in_one_pass_is_refused(front, monkeypatch):
    monkeypatch.setenv("EVENTSNN_THREADS", "1")  # where NumPy's warning is asked not to come
    images = np.ones((150, 20, 20), np.float32)
    images[140, 5, 5] = 3e38
    with (
        np.errstate(over="ignore"),
        pytest.raises(ValueError, match="finite intensities of at least 0, image 140 has"),
    ):
        ImageEncoder((Scale(100), *FRONTS[front]), EqualBins(15)).encode(images)


@pytest.mark.skipif("GATHERING" in os.environ, reason="this is the other machine")
def test_a_machine_without_these_vectors_finds_the_same(tmp_path):
    machine = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", __file__]
    run = subprocess.run(
        command,
        cwd=Path(__file__).parents[1],
        env=os.environ | machine | {"GATHERING": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"{5 * len(N_IMAGES) + len(SHAPES) * len(INTENSITIES) + 10 * len(FRONTS) + 25} passed" in run.stdout


@dataclass(frozen=True)
class Returns:
    """Stage that returns its block as another type or shape."""

    kind: str

    def output_shape(self, shape):
        return shape

    def apply(self, block):
        return np.repeat(block, 2, axis=1) if self.kind == "larger" else block.astype(self.kind)


@pytest.mark.parametrize("kind", ["f8", "i8", "f2", ">f4"])
@pytest.mark.parametrize("stages", [FRONTS["normalized"], (*FRONTS["normalized"], Scale(2))], ids=["one pass", "steps"])
def test_a_stage_may_return_numbers_of_any_type(stages, kind):
    images = np.random.default_rng(0).integers(0, 256, (20, 12, 12))
    expected, found = (ImageEncoder(each, EqualBins(15)).encode(images) for each in (stages, (Returns(kind), *stages)))
    assert found.equals(expected)


@pytest.mark.parametrize("stages", [FRONTS["normalized"], ()], ids=["one pass", "steps"])
def test_a_stage_that_returns_another_shape_than_it_says_is_refused(stages):
    with pytest.raises(
        ValueError, match=r"Returns\(kind='larger'\): apply\(\) expects .*\(1, 9, 9, 2\).* got \(1, 18, 9, 2\)"
    ):
        ImageEncoder((Returns("larger"), *stages), EqualBins(15)).encode(np.ones((2, 9, 9), np.uint8))


class Coarse(Filter):
    """Filter whose outputs are of few values."""

    def apply(self, block):
        return np.round(super().apply(block), -2)


def test_what_overrides_a_filter_is_asked():
    images = np.random.default_rng(0).integers(0, 256, (3, 12, 12))
    encoder = ImageEncoder((Coarse([DoG(7, 1, 2)]),), EqualBins(4))
    expected = ImageEncoder((), EqualBins(4)).encode(encoder.intensities(images))
    assert encoder.encode(images).equals(expected)
    assert not ImageEncoder((Filter([DoG(7, 1, 2)]),), EqualBins(4)).encode(images).equals(expected)
