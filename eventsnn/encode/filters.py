"""Filter kernels as values: difference of Gaussians, Laplacian of Gaussian and Gabor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np

from eventsnn.encode import _values

Normalization = Literal["maximum", "sum"]


class Kernel(Protocol):
    """What :class:`~eventsnn.encode.stages.Filter` needs of a kernel; any frozen dataclass may be one."""

    @property
    def window(self) -> int:
        """Odd side length of the square kernel, in pixels."""

    def array(self) -> np.ndarray:
        """Return the kernel, float32 of shape (window, window), rows first."""


@dataclass(frozen=True)
class DoG:
    """Difference of two Gaussians, as retinal ganglion cells respond.

    ``G(sigma) = exp(-r^2 / (2 sigma^2)) / (2 pi sigma^2)``; the kernel is ``G(sigma1) - G(sigma2)``, minus its
    mean, divided by its maximum, as SpykeTorch has it; or, with ``normalization="sum"``, the difference of Gaussians
    that are each divided by their sum over the window, as Falez and Spyker have it, so that responses of different
    sizes compare. ``sigma1 < sigma2`` gives an on-centre cell, the swap an off-centre one.

    Parameters
    ----------
    window : int
        Odd side length in pixels, at least 3.
    sigma1, sigma2 : float
        Standard deviations of the two Gaussians in pixels; they differ.
    normalization : {"maximum", "sum"}
        Of the kernel, or of each Gaussian.

    Raises
    ------
    ValueError
        If the window is even or below 3, or a sigma is not positive, or the kernel is flat.
    """

    window: int
    sigma1: float
    sigma2: float
    normalization: Normalization = "maximum"

    def __post_init__(self) -> None:
        _check_window(self)
        _values.number(self, "sigma1", above=0)
        _values.number(self, "sigma2", above=0)
        _values.choice(self, "normalization", get_args(Normalization))
        self.array()

    def array(self) -> np.ndarray:
        """Return the kernel, float32 of shape (window, window)."""
        row, column = _offsets(self.window)
        squared = row**2 + column**2
        narrow, wide = (np.exp(-squared / (2 * s**2)) / (2 * np.pi * s**2) for s in (self.sigma1, self.sigma2))
        if self.normalization == "maximum":
            return _normalized(self, narrow - wide)
        return _checked(self, narrow / narrow.sum() - wide / wide.sum()).astype(np.float32)


@dataclass(frozen=True)
class LoG:
    """Laplacian of a Gaussian with its sign turned, so that it is an on-centre cell: the limit of close :class:`DoG`.

    ``(1 - r^2 / (2 sigma^2)) exp(-r^2 / (2 sigma^2))``, minus its mean, divided by its maximum.
    A signed :class:`~eventsnn.encode.stages.Filter` with :class:`~eventsnn.encode.stages.OnOff` makes a bank
    of on- and off-centre cells of it.

    Parameters
    ----------
    window : int
        Odd side length in pixels, at least 3.
    sigma : float
        Standard deviation of the Gaussian in pixels; the response changes its sign at ``sqrt(2) sigma``.

    Raises
    ------
    ValueError
        If the window is even or below 3, or sigma is not positive, or the kernel is flat.
    """

    window: int
    sigma: float

    def __post_init__(self) -> None:
        _check_window(self)
        _values.number(self, "sigma", above=0)
        self.array()

    def array(self) -> np.ndarray:
        """Return the kernel, float32 of shape (window, window)."""
        row, column = _offsets(self.window)
        scaled = (row**2 + column**2) / (2 * self.sigma**2)
        return _normalized(self, (1 - scaled) * np.exp(-scaled))


@dataclass(frozen=True)
class Gabor:
    """Gabor kernel, as simple cells of V1 respond to bars and edges.

    With ``u = column sin(a) + row cos(a)``, ``v = column cos(a) - row sin(a)``, wavelength
    ``lambda = 2 window / div``, ``sigma = 0.8 lambda`` and aspect ratio 0.3:
    ``exp(-(u^2 + 0.09 v^2) / (2 sigma^2)) cos(2 pi u / lambda)``, minus its mean, divided by its maximum
    (the constants of Mozafari 2018).

    Parameters
    ----------
    window : int
        Odd side length in pixels, at least 3.
    orientation : float
        Angle ``a`` in degrees.
    div : float
        Wavelengths per two windows.

    Raises
    ------
    ValueError
        If the window is even or below 3, or ``div`` is not positive, or the kernel is flat.
    """

    window: int
    orientation: float
    div: float = 4.0

    def __post_init__(self) -> None:
        _check_window(self)
        _values.number(self, "orientation")
        _values.number(self, "div", above=0)
        self.array()

    def array(self) -> np.ndarray:
        """Return the kernel, float32 of shape (window, window)."""
        row, column = _offsets(self.window)
        angle = np.deg2rad(self.orientation)
        across = column * np.sin(angle) + row * np.cos(angle)
        along = column * np.cos(angle) - row * np.sin(angle)
        wavelength = 2 * self.window / self.div
        envelope = np.exp(-(across**2 + 0.09 * along**2) / (2 * (0.8 * wavelength) ** 2))
        return _normalized(self, envelope * np.cos(2 * np.pi * across / wavelength))


KERNELS = (DoG, LoG, Gabor)


def _check_window(kernel: object) -> None:
    _values.integer(kernel, "window", 3)
    window = kernel.window  # type: ignore[attr-defined]
    if window % 2 == 0:
        raise ValueError(f"{type(kernel).__name__}: window expects an odd number of pixels, got {window}")


def _offsets(window: int) -> tuple[np.ndarray, np.ndarray]:
    side = np.arange(window) - window // 2
    return side[:, None].astype(np.float64), side[None, :].astype(np.float64)


def _normalized(kernel: object, values: np.ndarray) -> np.ndarray:
    centred = _checked(kernel, values)
    return (centred / centred.max()).astype(np.float32)


def _checked(kernel: object, values: np.ndarray) -> np.ndarray:
    """Return values minus their mean."""
    centred = values - values.mean()
    # A peak of mere rounding error would be blown up into a kernel of noise.
    if not centred.max() > 1e-9 * np.abs(values).max():
        raise ValueError(f"{kernel!r} is flat: its values do not differ from their mean")
    return centred
