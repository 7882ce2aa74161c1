"""Encoders on a device give what they give on the CPU, bit for bit; the device is this machine's CPU."""

import hostcuda
import numpy as np
import pytest

from eventsnn import Events
from eventsnn.backends import get
from eventsnn.batches import fetch
from eventsnn.encode import (
    DivideByMax,
    DoG,
    EqualBins,
    Filter,
    ImageEncoder,
    Linear,
    MaxPool,
    OnOff,
    Rank,
    Scale,
    falez2019_mnist,
    goupy2022_mnist,
    kheradpisheh2018_mnist,
    mozafari2018,
    mozafari2019_mnist,
    spyker_mnist,
)
from eventsnn.encoding import encoded
from eventsnn.events import concatenate

pytestmark = pytest.mark.skipif(hostcuda.COMPILER is None, reason="no C++ compiler here; CXX may name one")
PUBLISHED = (mozafari2019_mnist, kheradpisheh2018_mnist, spyker_mnist, falez2019_mnist, goupy2022_mnist)


@pytest.fixture(scope="module")
def images():
    """Return a dark image, a bright one, strokes, and noise, in which many intensities are equal."""
    rng = np.random.default_rng(3)
    pixels = np.zeros((5, 14, 12), np.uint8)
    pixels[1] = 255
    pixels[2, 3:9, 4:6], pixels[2, 8, 2:10] = 200, 90
    pixels[3] = rng.integers(0, 256, pixels.shape[1:])
    pixels[4] = rng.integers(0, 3, pixels.shape[1:]) * 100
    return pixels


def over_device(encoder, images, labels=None, threads=7, **how):
    host = hostcuda.backend(threads, "scattered")
    return concatenate([fetch(batch, host) for batch in encoded(encoder, images, labels, backend=host, **how)])


@pytest.mark.parametrize("encoder", [make() for make in PUBLISHED], ids=[make.__name__ for make in PUBLISHED])
@pytest.mark.parametrize("threads", [7, 64])
def test_published_front_ends_are_equal(encoder, images, threads):
    expected = encoder.encode(images, np.arange(5))
    found = over_device(encoder, images, np.arange(5), threads, batch_size=2)
    assert found.equals(expected)
    assert expected.n_events
    Events(**{name: getattr(found, name) for name in Events.__dataclass_fields__})  # canonical, in the grid


@pytest.mark.parametrize(
    "encoder",
    [
        ImageEncoder((Filter((DoG(3, 0.5, 1), DoG(7, 1, 2)), padding=1, absolute=True, threshold=5.0),), EqualBins(4)),
        ImageEncoder((Filter((DoG(5, 1, 2),), signed=True, threshold=3.0), OnOff(1.0, "off")), EqualBins(1000)),
        ImageEncoder((Filter((DoG(3, 1, 2),), signed=True), OnOff(2.0, "on"), DivideByMax()), Linear(7)),
        ImageEncoder((Scale(1 / 3),), EqualBins(1)),
    ],
    ids=["two windows", "off", "on", "one bin"],
)
def test_variants_are_equal(encoder, images):
    assert over_device(encoder, images).equals(encoder.encode(images))


@pytest.mark.parametrize(
    "encoder", [mozafari2018(3, 2), ImageEncoder((MaxPool(2),), EqualBins(3)), ImageEncoder((), Rank())]
)
def test_what_a_device_has_not_runs_on_the_host(encoder, images):
    assert over_device(encoder, images).equals(encoder.encode(images))


def test_other_backends_encode_on_the_host(images):
    (found,) = encoded(goupy2022_mnist(), images, backend=get("reference"))
    assert found.equals(goupy2022_mnist().encode(images))


def test_no_images(images):
    assert over_device(kheradpisheh2018_mnist(), images[:0]).equals(kheradpisheh2018_mnist().encode(images[:0]))


@pytest.mark.parametrize(
    ("encoder", "error"),
    [
        (ImageEncoder((Filter((DoG(3, 1, 2),), signed=True),), EqualBins(3)), "finite intensities of at least 0"),
        (ImageEncoder((), Linear(3)), r"intensities in \[0, 1\], found 255"),
        (ImageEncoder((Filter((DoG(99, 1, 2),)),), EqualBins(3)), "images of at least 99 pixels"),
    ],
)
def test_what_does_not_fit_is_refused(encoder, error, images):
    with pytest.raises(ValueError, match=error):
        over_device(encoder, images)


def test_batches_hold_images(images):
    with pytest.raises(ValueError, match="at least 1 image, got 0"):
        encoded(goupy2022_mnist(), images, backend=get("reference"), batch_size=0)
