"""ZCA whitening, of whole images and of patches: stages that are fitted to images once, and how they are to be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from eventsnn.encode import _values
from eventsnn.encode.filters import bank_of_arrays
from eventsnn.encode.stages import rows
from eventsnn.events import Shape

_CHUNK = 2**23  # float64 values at a time while the covariance is summed up


@dataclass(frozen=True)
class ZCA:
    """Whitening of whole images: ``W (x - mean)``, where ``W = U diag(1 / sqrt(s + epsilon)) U^T`` (Falez et al. 2020).

    ``U diag(s) U^T`` is the covariance of the pixels, all channels together, over the images it was fitted to. The
    output is as large as the image, and signed: :class:`~eventsnn.encode.stages.OnOff` splits it.

    Parameters
    ----------
    mean : array_like of float32, shape (C, H, W)
        Mean image.
    weights : array_like of float32, shape (C*H*W, C*H*W)
        ``W``; row ``i`` makes the output of flat index ``i``.

    Raises
    ------
    ValueError
        If the shapes do not fit each other or a value is not finite.
    """

    mean: Any
    weights: Any

    def __post_init__(self) -> None:
        _values.table(self, "mean", 3)
        _values.table(self, "weights", 2)
        size = int(np.prod(self.mean.shape))
        if self.weights.shape != (size, size):
            raise ValueError(f"ZCA: weights expects shape {(size, size)} for {size} pixels, got {self.weights.shape}")

    @classmethod
    def fit(cls, images: Any, epsilon: float = 0.01) -> ZCA:
        """Learn the whitening of images.

        Parameters
        ----------
        images : array_like of numbers, shape (n_images, H, W) or (n_images, C, H, W)
            What will come to the stage: the images, or ``encoder.intensities(images)`` of the stages before it.
        epsilon : float
            Added to the variances; above 0. Small against theirs, so it depends on the scale: 0.01 suits [0, 1].

        Raises
        ------
        ValueError
            If the shape or epsilon does not fit.
        """
        batch = _images(images)
        mean, weights = _whitening(lambda: _flat(batch), epsilon)
        return cls(mean.reshape(batch.shape[1:]), weights)

    def output_shape(self, shape: Shape) -> Shape:
        """Return ``shape``, having checked that it is the one of the images it was fitted to."""
        if tuple(shape) != self.mean.shape:
            raise ValueError(f"ZCA expects images of shape {self.mean.shape} (C, H, W), got {tuple(shape)}")
        return shape

    def apply(self, block: np.ndarray) -> np.ndarray:
        """Return the whitened block."""
        from eventsnn.encode._kernels import transform

        out = np.empty_like(block)
        centred = block - self.mean.array[..., None]
        transform(centred.reshape(-1, block.shape[3]), self.weights.array, out.reshape(-1, block.shape[3]))
        return out


@dataclass(frozen=True)
class PatchZCA:
    """Whitening of each pixel by the patch around it, a convolution, for images of any size (Falez et al. 2020).

    The weights are the rows of the patches' ZCA matrix (see :class:`ZCA`) that make the centre pixels, minus their
    mean, so that a uniform patch gives 0. Beyond the border the image continues with its outermost pixels. The output
    is as large as the image, and signed: :class:`~eventsnn.encode.stages.OnOff` splits it.

    Parameters
    ----------
    weights : array_like of float32, shape (C, C, window, window)
        The weights of each output channel over the input channels; the window is odd.

    Raises
    ------
    ValueError
        If the shape is another or a value is not finite.
    """

    weights: Any

    def __post_init__(self) -> None:
        _values.table(self, "weights", 4)
        outputs, channels, height, width = self.weights.shape
        if outputs != channels or height != width or height % 2 == 0:
            raise ValueError(f"PatchZCA: weights expects shape (C, C, odd window, window), got {self.weights.shape}")

    @classmethod
    def fit(cls, images: Any, epsilon: float = 0.01, *, window: int = 9, stride: int = 2) -> PatchZCA:
        """Learn the whitening of the patches of images.

        Parameters
        ----------
        images : array_like of numbers, shape (n_images, H, W) or (n_images, C, H, W)
            What will come to the stage; some thousand patches for each of their pixels are enough.
        epsilon : float
            Added to the variances; above 0.
        window : int
            Odd side length of the patches in pixels.
        stride : int
            Distance between the patches that are learnt from.

        Raises
        ------
        ValueError
            If the shape or a parameter does not fit.
        """
        batch = _images(images)
        if window < 1 or window % 2 == 0 or window > min(batch.shape[2:]) or stride < 1:
            size = f"images of {batch.shape[2]} x {batch.shape[3]}"
            raise ValueError(f"PatchZCA expects an odd window within {size} and stride >= 1, got {window}, {stride}")
        channels = batch.shape[1]
        weights = _whitening(lambda: _patches(batch, window, stride), epsilon)[1]
        kernels = weights.reshape(channels, window, window, channels, window, window)[:, window // 2, window // 2]
        return cls(kernels - kernels.mean(axis=(1, 2, 3), keepdims=True))

    def output_shape(self, shape: Shape) -> Shape:
        """Return ``shape``, having checked the number of channels."""
        if shape[0] != len(self.weights.array):
            raise ValueError(f"PatchZCA expects images of {len(self.weights.array)} channels, got {shape[0]}")
        return shape

    def apply(self, block: np.ndarray) -> np.ndarray:
        """Return the whitened block."""
        from eventsnn.encode._correlate import correlate

        bank, n_images = bank_of_arrays(self.weights.array), block.shape[3]
        border = bank.window // 2
        padded = np.pad(block, ((0, 0), (border, border), (border, border), (0, 0)), mode="edge")
        out = np.empty_like(block)
        correlate(rows(padded), 0, bank, n_images, (False, True, np.float32(0)), rows(out))
        return out


@dataclass(frozen=True)
class FitZCA:
    """How a :class:`ZCA` is to be fitted; :meth:`ImageEncoder.fit` puts the fitted one in its place.

    Parameters
    ----------
    epsilon : float
        Added to the variances; above 0.
    images : int
        How many images to learn from at most, spread evenly over those given; at least 1.
    """

    epsilon: float = 0.01
    images: int = 2000

    def __post_init__(self) -> None:
        _values.number(self, "epsilon", above=0)
        _values.integer(self, "images", 1)

    def fit(self, images: Any) -> ZCA:
        """Return the stage, fitted to images as :meth:`ZCA.fit` takes them."""
        return ZCA.fit(images, self.epsilon)

    def output_shape(self, shape: Shape) -> Shape:
        """Return ``shape``."""
        return shape

    def apply(self, block: np.ndarray) -> np.ndarray:
        """Refuse: raise ``ValueError``."""
        raise _unfitted(self)


@dataclass(frozen=True)
class FitPatchZCA:
    """How a :class:`PatchZCA` is to be fitted; :meth:`ImageEncoder.fit` puts the fitted one in its place.

    Parameters
    ----------
    epsilon : float
        Added to the variances; above 0.
    window : int
        Odd side length of the patches in pixels.
    stride : int
        Distance between the patches that are learnt from.
    images : int
        How many images to learn from at most, spread evenly over those given; at least 1.
    """

    epsilon: float = 0.01
    window: int = 9
    stride: int = 2
    images: int = 2000

    def __post_init__(self) -> None:
        _values.number(self, "epsilon", above=0)
        for name in ("window", "stride", "images"):
            _values.integer(self, name, 1)
        if self.window % 2 == 0:
            raise ValueError(f"FitPatchZCA: window expects an odd number of pixels, got {self.window}")

    def fit(self, images: Any) -> PatchZCA:
        """Return the stage, fitted to images as :meth:`PatchZCA.fit` takes them."""
        return PatchZCA.fit(images, self.epsilon, window=self.window, stride=self.stride)

    def output_shape(self, shape: Shape) -> Shape:
        """Return ``shape``, having checked that patches are no larger."""
        if self.window > min(shape[1:]):
            raise ValueError(
                f"FitPatchZCA of window {self.window} expects images as large, got {tuple(shape)} (C, H, W)"
            )
        return shape

    def apply(self, block: np.ndarray) -> np.ndarray:
        """Refuse: raise ``ValueError``."""
        raise _unfitted(self)


def _unfitted(stage: object) -> ValueError:
    return ValueError(f"{type(stage).__name__} is not fitted yet: ImageEncoder.fit(images) returns an encoder that is")


def _images(images: Any) -> np.ndarray:
    batch = np.asarray(images)
    if batch.ndim == 3:
        batch = batch[:, None]
    if batch.ndim != 4 or batch.size == 0 or batch.dtype.kind not in "iuf" or not np.isfinite(batch).all():
        found = f"{batch.dtype} of shape {np.shape(images)}"
        raise ValueError(f"fit expects finite numbers of shape (n_images, H, W) or (n_images, C, H, W), got {found}")
    return batch


def _flat(batch: np.ndarray) -> Iterator[np.ndarray]:
    size = batch[0].size
    step = max(1, _CHUNK // size)
    for start in range(0, len(batch), step):
        yield batch[start : start + step].reshape(-1, size).astype(np.float64)


def _patches(batch: np.ndarray, window: int, stride: int) -> Iterator[np.ndarray]:
    """Yield all patches, float64 of shape (n_patches, C * window * window), some images at a time."""
    size = batch.shape[1] * window**2
    step = max(1, _CHUNK // (size * batch.shape[2] * batch.shape[3]))
    for start in range(0, len(batch), step):
        views = np.lib.stride_tricks.sliding_window_view(batch[start : start + step], (window, window), axis=(2, 3))
        chosen = views[:, :, ::stride, ::stride].transpose(0, 2, 3, 1, 4, 5)
        yield chosen.reshape(-1, size).astype(np.float64)


def _whitening(parts: Any, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the ZCA matrix of the rows of ``parts()``, which is run through twice."""
    if not (np.isfinite(epsilon) and epsilon > 0):
        raise ValueError(f"epsilon expects a finite number above 0, got {epsilon!r}")
    total, count = 0.0, 0
    for part in parts():
        total, count = total + part.sum(axis=0), count + len(part)
    mean = total / count
    # Centred before the products are summed, or a bright image would drown its variances in rounding errors.
    covariance = sum((part - mean).T @ (part - mean) for part in parts()) / count
    variances, axes = np.linalg.eigh(covariance)
    return np.asarray(mean), (axes / np.sqrt(np.maximum(variances, 0) + epsilon)) @ axes.T


UNFITTED = (FitZCA, FitPatchZCA)
WHITENING = (ZCA, PatchZCA, *UNFITTED)
