"""Signed intensities, whitening and what makes them, against definitions in plain NumPy."""

import dataclasses
import json
import math

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
    ImageEncoder,
    LateralInhibition,
    Linear,
    LocalNormalization,
    LoG,
    MaxPool,
    OnOff,
    PatchZCA,
    Rank,
    Standardize,
    spyker_mnist,
)
from eventsnn.events import concatenate
from eventsnn.io import EventDataset, write

SIGNED = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    elements=st.sampled_from([-2.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0]),
)


def apply(stage, maps):
    """One stage on one image's maps (C, H, W)."""
    found = stage.apply(np.ascontiguousarray(maps[..., None], np.float32))
    assert found.dtype == np.float32
    assert found.shape[:3] == stage.output_shape(maps.shape)
    return found[..., 0]


def photos(n, channels, side, seed=0):
    """Smooth grey values in [0, 1], so that neighbours are correlated as in photographs."""
    rng = np.random.default_rng(seed)
    noise = rng.random((n, channels, side + 2, side + 2))
    return sum(noise[:, :, i : i + side, j : j + side] for i in range(3) for j in range(3)) / 9


def inverse_root(rows, epsilon):
    """(covariance + epsilon)^(-1/2) by another way than eigh: the Denman-Beavers iteration."""
    covariance = np.cov(rows, rowvar=False, bias=True) + epsilon * np.eye(rows.shape[1])
    root, inverse = covariance, np.eye(len(covariance))
    for _ in range(60):
        root, inverse = (root + np.linalg.inv(inverse)) / 2, (inverse + np.linalg.inv(root)) / 2
    return inverse


# Kernels


@pytest.mark.parametrize(("window", "sigma"), [(3, 0.5), (7, 1.1), (13, 2.0)])
def test_log_is_its_formula(window, sigma):
    half = window // 2
    expected = np.array(
        [
            [
                (1 - (y * y + x * x) / (2 * sigma**2)) * math.exp(-(y * y + x * x) / (2 * sigma**2))
                for x in range(-half, half + 1)
            ]
            for y in range(-half, half + 1)
        ]
    )
    expected -= expected.mean()
    np.testing.assert_allclose(LoG(window, sigma).array(), expected / expected.max(), rtol=1e-5, atol=1e-6)


def test_log_is_the_limit_of_dog():
    close = DoG(15, 1.99, 2.01).array()
    np.testing.assert_allclose(LoG(15, 2).array(), close, atol=1e-4)


def test_dog_of_gaussians_of_sum_one():
    def gaussian(sigma):
        side = np.exp(-((np.arange(7) - 3) ** 2) / (2 * sigma**2))
        return np.outer(side, side) / np.outer(side, side).sum()

    kernel = DoG(7, 1, 4, "sum").array()
    np.testing.assert_allclose(kernel, gaussian(1) - gaussian(4), rtol=1e-5, atol=1e-7)
    assert abs(kernel.astype(float).sum()) < 1e-6


# Stages


@settings(deadline=None, max_examples=60)
@given(SIGNED, st.sampled_from([0.0, 0.25, 0.3]))
def test_on_off_is_its_definition(maps, threshold):
    on, off = np.where(maps > 0, maps, 0), np.where(maps < 0, -maps, 0)
    on[on < np.float32(threshold)], off[off < np.float32(threshold)] = 0, 0
    np.testing.assert_array_equal(apply(OnOff(threshold), maps), np.concatenate([on, off]))
    np.testing.assert_array_equal(apply(OnOff(threshold, "on"), maps), on)
    np.testing.assert_array_equal(apply(OnOff(threshold, "off"), maps), off)


@settings(deadline=None, max_examples=60)
@given(SIGNED)
def test_standardize_is_its_definition(maps):
    wide = maps.astype(float)
    expected = (wide - wide.mean()) / wide.std() if wide.std() > 0 else np.zeros(maps.shape)
    np.testing.assert_allclose(apply(Standardize(), maps), expected, rtol=1e-5, atol=1e-6)


def test_standardize_leaves_nothing_of_a_uniform_image():
    # 1/3 is no float32, and the mean of many of them is not quite it.
    assert not apply(Standardize(), np.full((1, 31, 33), 1 / 3)).any()
    assert not apply(Standardize(), np.zeros((2, 3, 3))).any()


@settings(deadline=None, max_examples=40)
@given(SIGNED)
def test_divide_by_max_keeps_signs(maps):
    largest = np.abs(maps).max()
    np.testing.assert_array_equal(apply(DivideByMax(), maps), maps / largest if largest else maps)


def test_signed_filter_keeps_what_the_rectified_ones_lose():
    image = np.random.default_rng(0).integers(0, 256, (1, 14, 15))
    kernel, opposite = DoG(7, 1, 2, "sum"), DoG(7, 2, 1, "sum")
    signed = apply(Filter([kernel], 3, threshold=4, signed=True), image)
    on, off = (apply(Filter([k], 3, threshold=4), image) for k in (kernel, opposite))
    np.testing.assert_allclose(signed, on - off, rtol=1e-5, atol=1e-4)
    assert (signed > 0).sum() > 10
    assert (signed < 0).sum() > 10
    assert np.abs(signed[signed != 0]).min() >= 4
    np.testing.assert_array_equal(apply(OnOff(), signed)[0], np.maximum(signed[0], 0))


def test_spyker_front_end_is_its_definition():
    image = np.zeros((20, 22))
    image[6:14, 8:13] = np.random.default_rng(1).integers(1, 256, (8, 5))
    padded = np.pad(image / 255, 3)
    offsets = np.arange(-3, 4)
    expected = np.zeros((6, 20, 22))
    for k, sigma in enumerate((0.471404521, 1.099943882, 2.042752923)):
        squared = offsets[:, None] ** 2 + offsets[None, :] ** 2
        narrow, wide = (np.exp(-0.5 * squared / s**2) for s in (sigma / 2**0.5, sigma * 2**0.5))
        kernel = narrow / narrow.sum() - wide / wide.sum()
        for y, x in np.ndindex(20, 22):
            value = (kernel * padded[y : y + 7, x : x + 7]).sum()
            expected[k, y, x], expected[k + 3, y, x] = max(value, 0), max(-value, 0)
    expected[expected < 0.01] = 0
    found = spyker_mnist().intensities(image)[0]
    near = np.abs(np.maximum(found, expected) - 0.01) < 1e-5  # where rounding decides
    np.testing.assert_allclose(found[~near], expected[~near], rtol=1e-4, atol=1e-7)
    assert spyker_mnist().output_shape(28, 28) == (6, 28, 28)


# Whitening


@pytest.mark.parametrize(("channels", "epsilon"), [(1, 0.01), (2, 1e-3)])
def test_zca_is_its_definition(channels, epsilon):
    images = photos(300, channels, 5)
    stage = ZCA.fit(images, epsilon)
    flat = images.reshape(300, -1)
    expected = (flat - flat.mean(axis=0)) @ inverse_root(flat, epsilon)
    found = ImageEncoder([stage], Rank()).intensities(images).reshape(300, -1)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(stage.weights.array, stage.weights.array.T, atol=1e-5)


def test_zca_whitens():
    images = photos(4000, 1, 6)
    found = ImageEncoder([ZCA.fit(images, 1e-9)], Rank()).intensities(images).reshape(4000, -1).astype(float)
    np.testing.assert_allclose(np.cov(found, rowvar=False, bias=True), np.eye(36), atol=2e-3)
    # Of all whitenings, the one that changes the images least: each pixel stays most like itself.
    likeness = np.corrcoef(found.T, images.reshape(4000, -1).T)[:36, 36:]
    assert (likeness.argmax(axis=1) == np.arange(36)).all()


@pytest.mark.parametrize(("channels", "window"), [(1, 5), (2, 3)])
def test_patch_zca_is_its_definition(channels, window):
    images, half = photos(60, channels, 9), window // 2
    patches = [
        image[:, y : y + window, x : x + window].ravel()
        for image in images
        for y in range(0, 9 - window + 1, 2)
        for x in range(0, 9 - window + 1, 2)
    ]
    weights = inverse_root(np.array(patches), 0.01).reshape(channels, window, window, channels, window, window)
    kernels = weights[:, half, half]
    kernels = kernels - kernels.mean(axis=(1, 2, 3), keepdims=True)
    stage = PatchZCA.fit(images, 0.01, window=window, stride=2)
    np.testing.assert_allclose(stage.weights.array, kernels, rtol=1e-4, atol=1e-4)
    image = photos(1, channels, 12, seed=1)[0][:, :, :10]  # of another size than those it was fitted to
    expected = np.zeros(image.shape)
    for k, y, x in np.ndindex(image.shape):
        for c, i, j in np.ndindex(channels, window, window):
            row, column = min(max(y + i - half, 0), 11), min(max(x + j - half, 0), 9)
            expected[k, y, x] += kernels[k, c, i, j] * image[c, row, column]
    np.testing.assert_allclose(apply(stage, image), expected, rtol=1e-3, atol=1e-4)


def test_patch_zca_sees_nothing_in_a_uniform_image():
    stage = PatchZCA.fit(photos(50, 1, 9), window=5)
    np.testing.assert_allclose(apply(stage, np.full((1, 9, 9), 0.7)), 0, atol=1e-5)


def test_fit_takes_grey_images_and_large_offsets():
    images = photos(200, 1, 4)
    assert ZCA.fit(images[:, 0]) == ZCA.fit(images)
    far = ZCA.fit(images + 1000)
    np.testing.assert_allclose(far.weights.array, ZCA.fit(images).weights.array, rtol=1e-4, atol=1e-4)


def encoders():
    images = photos(80, 1, 12)
    whole, patches = ZCA.fit(images), PatchZCA.fit(images, window=5)
    return [
        ImageEncoder([whole, OnOff()], EqualBins(15)),
        ImageEncoder([Standardize(), patches, OnOff(0.1), LocalNormalization(2)], EqualBins(7)),
        ImageEncoder([Filter([LoG(5, 1.0), DoG(3, 1, 2, "sum")], 2, signed=True), OnOff(0.01, "off")], Rank()),
        ImageEncoder([patches, MaxPool(2), OnOff(), DivideByMax()], Linear(100), pointwise=True),
    ]


@pytest.mark.parametrize("encoder", encoders())
def test_bits_do_not_depend_on_batch_or_threads(encoder, monkeypatch):
    images = photos(70, 1, 12, seed=5)
    monkeypatch.setenv("EVENTSNN_THREADS", "1")
    whole = encoder.encode(images)
    assert whole.n_events > 500
    intensities = encoder.intensities(images)
    monkeypatch.setenv("EVENTSNN_THREADS", "3")
    assert encoder.encode(images).equals(whole)
    assert concatenate(encoder.encode(image) for image in images[:, 0]).equals(whole)
    np.testing.assert_array_equal(encoder.intensities(images[7, 0]), intensities[7:8])
    dataclasses.replace(whole)  # validates


@pytest.mark.parametrize("encoder", encoders())
def test_round_trip_through_json_encodes_alike(encoder):
    again = ImageEncoder.from_dict(json.loads(json.dumps(encoder.to_dict(), allow_nan=False)))
    assert again == encoder
    assert hash(again) == hash(encoder)
    images = photos(3, 1, 12, seed=9)
    assert again.encode(images).equals(encoder.encode(images))


@pytest.mark.parametrize("encoder", encoders()[:2])
def test_a_data_set_keeps_its_encoder(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr("eventsnn.io._storage.MAX_TEXT", 1000)  # so that the arrays go beyond it
    images = photos(5, 1, 12, seed=3)
    events = encoder.encode(images)
    write(tmp_path / "events.h5", events, encoder=encoder)
    with EventDataset(tmp_path / "events.h5") as dataset:
        again = ImageEncoder.from_dict(dataset.provenance["encoder"])
        assert dataset.load().equals(events)
    assert again == encoder
    assert again.encode(images).equals(events)


def test_an_encoder_beyond_an_attribute(tmp_path):
    encoder = ImageEncoder([ZCA(np.zeros((1, 12, 12)), np.eye(144)), OnOff()], Rank())
    assert len(json.dumps(encoder.to_dict())) > 64 * 1024
    write(tmp_path / "events.h5", encoder.encode(np.ones((2, 12, 12))), encoder=encoder)
    assert ImageEncoder.from_dict(EventDataset(tmp_path / "events.h5").provenance["encoder"]) == encoder


def test_fitted_stages_are_values():
    images = photos(40, 1, 5)
    one, other = ZCA.fit(images), ZCA.fit(images, 0.02)
    assert one == ZCA.fit(images.copy()) == ZCA(one.mean.array, one.weights.array.tolist())
    assert one != other
    assert len({one, other, ZCA.fit(images)}) == 2
    with pytest.raises(ValueError, match="read-only"):
        one.weights.array[0, 0] = 1
    assert len(repr(one)) < 200


# Bad input


def test_signed_intensities_do_not_become_latencies():
    images = photos(3, 1, 6)
    with pytest.raises(ValueError, match="intensities of at least 0, image 0 has -"):
        ImageEncoder([Standardize()], EqualBins(5)).encode(images)
    for stage in (LocalNormalization(2), LateralInhibition([0.1])):
        name = type(stage).__name__
        with pytest.raises(ValueError, match=rf"{name} expects intensities of at least 0, found -.*OnOff"):
            ImageEncoder([Standardize(), stage, OnOff()], EqualBins(5)).encode(images)


def damaged(change):
    plain = ImageEncoder([PatchZCA(np.ones((1, 1, 3, 3))), OnOff()], Rank()).to_dict()
    change(plain["stages"][0]["weights"])
    return ImageEncoder.from_dict(plain)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: damaged(lambda w: w.update(float32="B" + w["float32"][1:])), "does not have the SHA-256"),
        (
            lambda: damaged(lambda w: w.update(float32=w["float32"][4:])),
            r"shape \(1, 1, 3, 3\) expects 36 bytes, got 33",
        ),
        (lambda: damaged(lambda w: w.update(float32="?")), "expects shape, float32 .base64. and sha256"),
        (lambda: damaged(lambda w: w.pop("sha256")), "expects shape, float32 .base64. and sha256"),
        (lambda: damaged(lambda w: w.update(shape=[-1, -1, 3, 3])), "expects 36 bytes|of shape"),
        (lambda: damaged(lambda w: w.update(shape=[1, 3, 3])), "weights expects finite numbers with 4 axes"),
        (lambda: PatchZCA(np.ones((1, 1, 4, 4))), r"odd window, window\), got \(1, 1, 4, 4\)"),
        (lambda: PatchZCA(np.ones((2, 1, 3, 3))), "weights expects shape"),
        (lambda: PatchZCA(np.full((1, 1, 3, 3), np.nan)), "expects finite numbers"),
        (lambda: PatchZCA("kernels"), "PatchZCA: weights: could not convert"),
        (lambda: ZCA(np.ones((1, 2, 2)), np.eye(3)), r"weights expects shape \(4, 4\) for 4 pixels, got \(3, 3\)"),
        (lambda: ZCA.fit(np.ones((3, 3))), r"fit expects finite numbers of shape .*, got float64 of shape \(3, 3\)"),
        (lambda: ZCA.fit(np.full((2, 3, 3), np.inf)), "fit expects finite numbers"),
        (lambda: ZCA.fit(photos(5, 1, 3), 0), "epsilon expects a finite number above 0, got 0"),
        (lambda: PatchZCA.fit(photos(5, 1, 5), window=4), "an odd window within images of 5 x 5"),
        (lambda: PatchZCA.fit(photos(5, 1, 5), window=7), "an odd window within images of 5 x 5"),
        (lambda: PatchZCA.fit(photos(5, 1, 5), window=3, stride=0), "stride >= 1, got 3, 0"),
        (lambda: ZCA.fit(photos(9, 1, 5)).output_shape((1, 5, 6)), r"images of shape \(1, 5, 5\) .*, got \(1, 5, 6\)"),
        (lambda: PatchZCA(np.ones((1, 1, 3, 3))).output_shape((2, 5, 5)), "images of 1 channels, got 2"),
        (lambda: OnOff(-1), "OnOff: threshold expects a finite number of at least 0, got -1"),
        (lambda: OnOff(polarity="of"), "polarity expects one of both, on, off, got 'of'"),
        (lambda: DoG(3, 1, 2, "peak"), "normalization expects one of maximum, sum, got 'peak'"),
        (lambda: LoG(4, 1), "LoG: window expects an odd number of pixels, got 4"),
        (lambda: LoG(5, 0), "sigma expects a finite number above 0"),
        (lambda: LoG(3, 1e9), "is flat"),
        (lambda: Filter([LoG(5, 1)], absolute=True, signed=True), "signed expects absolute=False"),
    ],
)
def test_wrong_parameters_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
