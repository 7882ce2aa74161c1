"""Filter kernels as values: difference of Gaussians and Gabor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from eventsnn.encode import _values


class Kernel(Protocol):
    """What :class:`~eventsnn.encode.intensity.Filter` needs of a kernel; any frozen dataclass may be one."""

    @property
    def window(self) -> int:
        """Odd side length of the square kernel, in pixels."""

    def array(self) -> np.ndarray:
        """Return the kernel, float32 of shape (window, window), rows first."""


@dataclass(frozen=True)
class DoG:
    """Difference of two Gaussians, as retinal ganglion cells respond.

    ``G(sigma) = exp(-r^2 / (2 sigma^2)) / (2 pi sigma^2)``; the kernel is ``G(sigma1) - G(sigma2)``, minus its
    mean, divided by its maximum. ``sigma1 < sigma2`` gives an on-centre cell, the swap an off-centre one.

    Parameters
    ----------
    window : int
        Odd side length in pixels, at least 3.
    sigma1, sigma2 : float
        Standard deviations of the two Gaussians in pixels; they differ.

    Raises
    ------
    ValueError
        If the window is even or below 3, or a sigma is not positive, or the kernel is flat.
    """

    window: int
    sigma1: float
    sigma2: float

    def __post_init__(self) -> None:
        _check_window(self)
        _values.number(self, "sigma1", above=0)
        _values.number(self, "sigma2", above=0)
        self.array()

    def array(self) -> np.ndarray:
        """Return the kernel, float32 of shape (window, window)."""
        row, column = _offsets(self.window)
        squared = row**2 + column**2
        narrow, wide = (np.exp(-squared / (2 * s**2)) / (2 * np.pi * s**2) for s in (self.sigma1, self.sigma2))
        return _normalized(self, narrow - wide)


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


KERNELS = (DoG, Gabor)


def _check_window(kernel: object) -> None:
    _values.integer(kernel, "window", 3)
    window = kernel.window  # type: ignore[attr-defined]
    if window % 2 == 0:
        raise ValueError(f"{type(kernel).__name__}: window expects an odd number of pixels, got {window}")


def _offsets(window: int) -> tuple[np.ndarray, np.ndarray]:
    side = np.arange(window) - window // 2
    return side[:, None].astype(np.float64), side[None, :].astype(np.float64)


def _normalized(kernel: object, values: np.ndarray) -> np.ndarray:
    centred = values - values.mean()
    # A peak of mere rounding error would be blown up into a kernel of noise.
    if not centred.max() > 1e-9 * np.abs(values).max():
        raise ValueError(f"{kernel!r} is flat: its values do not differ from their mean")
    return (centred / centred.max()).astype(np.float32)
