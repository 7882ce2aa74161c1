"""Spikes found in tiles of sites and images, at their edges too, with vectors that compress and without."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from eventsnn.encode import EqualBins, ImageEncoder, Linear, LocalNormalization

N_IMAGES = (1, 15, 16, 17, 33, 80)


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
    assert f"{5 * len(N_IMAGES)} passed" in run.stdout
