"""Stages of the image encoders as values: what makes intensities of images."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np

from eventsnn.encode import _values
from eventsnn.encode.filters import Bank, Kernel, bank_of
from eventsnn.events import Shape
from eventsnn.memory import scratch_empty

Polarity = Literal["both", "on", "off"]


class Stage(Protocol):
    """One step from intensities to intensities; any frozen dataclass with these methods may be one.

    Between stages intensities may be negative; where they become latencies they may not.
    """

    def output_shape(self, shape: Shape) -> Shape:
        """Return what grid (C, H, W) comes out for the grid that goes in; raise ValueError if none does."""

    def apply(self, block: np.ndarray) -> np.ndarray:
        """Return the stage's output of a block, float32 of shape (C, H, W, n_images), each image on its own.

        A stage keeps no reference to the block, and may write over it: its memory is used again for the next one.
        """


@dataclass(frozen=True)
class Scale:
    """Multiply by a constant, as ``Scale(1 / 255)`` takes uint8 images to grey in [0, 1].

    Parameters
    ----------
    factor : float
        Above 0.
    """

    factor: float

    def __post_init__(self) -> None:
        _values.number(self, "factor", above=0)

    def output_shape(self, shape: Shape) -> Shape:
        """Return ``shape``."""
        return shape

    def apply(self, block: np.ndarray) -> np.ndarray:
        """Return the scaled block."""
        # In float64, so that Scale(1 / 255) of a whole number is the float32 next to the true quotient.
        out = scratch_empty(block.shape)
        return np.multiply(block, self.factor, out=out, dtype=np.float64, casting="same_kind")


@dataclass(frozen=True)
class DivideByMax:
    """Divide each image by its largest magnitude over all maps, so that it lies in [-1, 1]; zeros stay zeros."""

    def output_shape(self, shape: Shape) -> Shape:
        """Return ``shape``."""
        return shape

    def apply(self, block: np.ndarray) -> np.ndarray:
        """Return the divided block."""
        largest = np.maximum(block.max(axis=(0, 1, 2)), -block.min(axis=(0, 1, 2)))
        return np.divide(block, np.where(largest > 0, largest, np.float32(1)), out=scratch_empty(block.shape))


@dataclass(frozen=True)
class Standardize:
    """Subtract each image's mean and divide by its standard deviation, over all its maps; signed.

    An image of one grey value becomes 0. Both are taken in float64.
    """

    def output_shape(self, shape: Shape) -> Shape:
        """Return ``shape``."""
        return shape

    def apply(self, block: np.ndarray) -> np.ndarray:
        """Return the standardized block."""
        from eventsnn.encode._kernels import moments

        mean, spread = moments(block.reshape(-1, block.shape[3]))
        # Of one grey value only rounding errors of the mean remain.
        flat = spread <= 1e-9 * np.abs(mean)
        return np.where(flat, 0, (block - mean) / np.where(flat, 1, spread)).astype(np.float32)


@dataclass(frozen=True)
class OnOff:
    """Split signed intensities: their positive parts, then their negative parts turned positive, as maps of their own.

    Map ``c`` of ``C`` becomes the maps ``c`` (on) and ``C + c`` (off).

    Parameters
    ----------
    threshold : float
        Parts below this become 0; at least 0.
    polarity : {"both", "on", "off"}
        Which parts to keep; with one of them the number of maps stays.
    """

    threshold: float = 0.0
    polarity: Polarity = "both"

    def __post_init__(self) -> None:
        _values.number(self, "threshold", least=0)
        _values.choice(self, "polarity", get_args(Polarity))

    def output_shape(self, shape: Shape) -> Shape:
        """Return ``shape``, with twice as many maps if both parts are kept."""
        return (2 * shape[0] if self.polarity == "both" else shape[0], *shape[1:])

    def apply(self, block: np.ndarray) -> np.ndarray:
        """Return the parts."""
        from eventsnn.encode._kernels import split

        channels = len(block)
        out = scratch_empty((*self.output_shape(block.shape[:3]), block.shape[3]))
        first = 0 if self.polarity == "off" else channels
        split(rows(block), np.float32(self.threshold), rows(out[:first]), rows(out[first:]))
        return out


@dataclass(frozen=True)
class Filter:
    """Cross-correlate grey images with a bank of kernels, one map each, and rectify (unless ``signed``).

    Smaller kernels are centred in the largest one's window. Beyond the border the image is 0.

    Parameters
    ----------
    kernels : sequence of DoG, LoG or Gabor
        At least one.
    padding : int
        Zeros added on every side, in pixels.
    absolute : bool
        Take absolute values.
    threshold : float
        Then outputs below this become 0; at least 0.
    signed : bool
        Keep negative outputs; those become 0 whose magnitude is below the threshold. :class:`OnOff` splits them.

    Notes
    -----
    On a patch of uniform grey the kernels, whose mean is 0, leave rounding errors rather than 0: of the published
    encoders up to 3e-6 of the grey value, off-centre ones, divided by their small maximum, up to 3e-5; of kernels with
    windows of up to 31 pixels and Gaussians of up to 50 up to 2e-4 and 4e-4. Where images have uniform backgrounds,
    a small threshold removes them. :func:`~eventsnn.encode.filters.bank_of` says in which order terms are added;
    results are the same bits on every backend and machine.

    Sums of values above about ``1e38 / window^2`` may overflow. Encoders refuse outputs that are then infinite or no
    number; without ``signed`` one of minus infinity becomes 0, as others below 0 do.

    Raises
    ------
    ValueError
        If a parameter is out of range, or a kernel cannot be summed (:func:`~eventsnn.encode.filters.bank_of`).
    """

    kernels: Sequence[Kernel]
    padding: int = 0
    absolute: bool = False
    threshold: float = 0.0
    signed: bool = False

    def __post_init__(self) -> None:
        _values.members(self, "kernels", "array")
        _values.integer(self, "padding", 0)
        _values.flag(self, "absolute")
        _values.number(self, "threshold", least=0)
        _values.flag(self, "signed")
        if self.absolute and self.signed:
            raise ValueError("Filter: signed expects absolute=False, absolute values have no sign")
        self.bank  # noqa: B018 - refuses kernels that cannot be summed

    @functools.cached_property
    def bank(self) -> Bank:
        """How the kernels are summed."""
        return bank_of(self.kernels)

    @property
    def mode(self) -> tuple[bool, bool, np.float32]:
        """What becomes of the sums: whether of their magnitudes, whether with signs, the threshold."""
        return self.absolute, self.signed, np.float32(self.threshold)

    @functools.cached_property
    def window(self) -> int:
        """Side length of the largest kernel, in pixels."""
        return max(kernel.window for kernel in self.kernels)

    def output_shape(self, shape: Shape) -> Shape:
        """Return one map per kernel, smaller by the window less one and larger by twice the padding."""
        channels, height, width = shape
        if channels != 1:
            raise ValueError(f"Filter expects grey images of 1 channel, got {channels} channels")
        grow = 2 * self.padding - self.window + 1
        if min(height, width) + grow < 1:
            raise ValueError(
                f"Filter expects images of at least {1 - grow} pixels a side (window {self.window}, "
                f"padding {self.padding}), got {height} x {width}"
            )
        return len(self.kernels), height + grow, width + grow

    def apply(self, block: np.ndarray) -> np.ndarray:
        """Return the filter outputs."""
        from eventsnn.encode._correlate import correlate

        n_images = block.shape[3]
        channels, height, width = self.output_shape(block.shape[:3])
        out = scratch_empty((channels, height, width, n_images))
        correlate(rows(block), self.padding, self.bank, n_images, self.mode, rows(out))
        return out


@dataclass(frozen=True)
class LocalNormalization:
    """Divide each intensity by the mean over the ``(2 radius + 1)^2`` pixels around it, in its own map.

    Beyond the border intensities count as 0; 1e-12 is added to the mean. Intensities must be at least 0.

    Parameters
    ----------
    radius : int
        In pixels, at least 1.

    Notes
    -----
    In float32, along rows and then down columns: a sum of 2, 4, 8, ... values is that of its left half plus that of its
    right half, and a window of ``2 radius + 1`` is, from the left, those that its binary digits say, the shortest
    first (17 are 1 and 16). The mean is the sum times the float32 ``1 / (2 radius + 1)^2``.
    """

    radius: int

    def __post_init__(self) -> None:
        _values.integer(self, "radius", 1)

    def output_shape(self, shape: Shape) -> Shape:
        """Return ``shape``."""
        return shape

    def apply(self, block: np.ndarray) -> np.ndarray:
        """Return the block, normalized in place."""
        from eventsnn.encode._normalize import normalize

        if not normalize(rows(block), self.radius, block.shape[3]):
            _refuse_negative(self, block)
        return block


@dataclass(frozen=True)
class MaxPool:
    """Take the maximum over windows, without ceil mode; what lies beyond the border never wins.

    Parameters
    ----------
    kernel : int
        Side length of the window.
    stride : int, optional
        Distance between windows. Default: ``kernel``.
    padding : int
        Border on every side, at most half the window.
    """

    kernel: int
    stride: int | None = None
    padding: int = 0

    def __post_init__(self) -> None:
        _values.integer(self, "kernel", 1)
        if self.stride is None:
            object.__setattr__(self, "stride", self.kernel)
        _values.integer(self, "stride", 1)
        _values.integer(self, "padding", 0)
        if self.padding > self.kernel // 2:
            raise ValueError(f"MaxPool: padding expects at most half of kernel {self.kernel}, got {self.padding}")

    def output_shape(self, shape: Shape) -> Shape:
        """Return the number of whole windows."""
        channels, height, width = shape
        if min(height, width) + 2 * self.padding < self.kernel:
            raise ValueError(f"{self} expects maps that hold one window, got {height} x {width}")
        stride = self.stride or self.kernel
        rows, columns = ((n + 2 * self.padding - self.kernel) // stride + 1 for n in (height, width))
        return channels, rows, columns

    def apply(self, block: np.ndarray) -> np.ndarray:
        """Return the pooled block."""
        from eventsnn.encode._kernels import max_pool

        n_images = block.shape[3]
        out = scratch_empty((*self.output_shape(block.shape[:3]), n_images))
        max_pool(rows(block), self.kernel, self.stride, self.padding, n_images, rows(out))
        return out


@dataclass(frozen=True)
class LateralInhibition:
    """Let strong cells push weaker neighbours of their map back, relative to themselves (Mozafari 2018).

    Each cell is multiplied by ``1 + sum of factors[d - 1]`` over the neighbours of Chebyshev distance ``d`` that
    are weaker than it; beyond the border they are 0. Intensities must be at least 0.

    Parameters
    ----------
    factors : sequence of float
        For distance 1, 2, ...; each at least 0.
    """

    factors: Sequence[float]

    def __post_init__(self) -> None:
        _values.numbers(self, "factors", least=0)

    def output_shape(self, shape: Shape) -> Shape:
        """Return ``shape``."""
        return shape

    def apply(self, block: np.ndarray) -> np.ndarray:
        """Return the inhibited block."""
        from eventsnn.encode._kernels import lateral_inhibition

        _refuse_negative(self, block)
        out = scratch_empty(block.shape)
        factors = np.array(self.factors, np.float32)
        lateral_inhibition(_pad(block, len(factors)), factors, block.shape[3], rows(out))
        return out


STAGES = (
    Scale,
    DivideByMax,
    Standardize,
    Filter,
    OnOff,
    LocalNormalization,
    MaxPool,
    LateralInhibition,
)


def _refuse_negative(stage: object, block: np.ndarray) -> None:
    if block.size and (least := block.min()) < 0:
        raise ValueError(
            f"{type(stage).__name__} expects intensities of at least 0, found {least:g}; put OnOff() before"
        )


def contiguous(block: np.ndarray) -> np.ndarray:
    """Return a block as kernels take it: float32, contiguous, and writable, since stages may return any."""
    fits = block.dtype == np.float32 and block.flags.carray
    return block if fits else np.require(block, np.float32, ["C", "W"])


def rows(block: np.ndarray) -> np.ndarray:
    """Return a block (C, H, W, N) as the kernels take it, (C, H, W * N)."""
    channels, height, width, n_images = block.shape
    return block.reshape(channels, height, width * n_images)


def _pad(block: np.ndarray, border: int) -> np.ndarray:
    """Return the rows of a block with ``border`` zero pixels on every side."""
    channels, height, width, n_images = block.shape
    padded = scratch_empty((channels, height + 2 * border, width + 2 * border, n_images))
    padded.fill(0)
    padded[:, border : border + height, border : border + width] = block
    return rows(padded)
