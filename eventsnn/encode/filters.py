"""Filter kernels as values: difference of Gaussians, Laplacian of Gaussian and Gabor; in which order they are summed.

A kernel that is a sum of outer products, down a column times along a row, is summed down and then across: 3 times 2
times 13 weights in place of 13 times 13, and half as many multiplications, since factors are symmetric. On- and
off-centre cells of the same two Gaussians are one response, times a scale of either sign.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np

from eventsnn.encode import _values

Normalization = Literal["maximum", "sum"]


class Terms(NamedTuple):
    """A kernel as ``scale`` times (the sum of the outer products of ``down[r]`` and ``across[r]``, minus a mean).

    Both are float64 of shape (terms, window), of at least one term, and symmetric to 1e-6 of their largest magnitude.
    """

    down: np.ndarray
    across: np.ndarray
    mean: float
    scale: float


class Kernel(Protocol):
    """What :class:`~eventsnn.encode.stages.Filter` needs of a kernel; any frozen dataclass may be one.

    One that also has a method ``terms()``, which returns :class:`Terms` of the same kernel, is summed by these where
    they do not cancel (:func:`bank_of`).
    """

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
        narrow, wide = (np.outer(*factors) for factors in self._gaussians(self.sigma1, self.sigma2))
        if self.normalization == "maximum":
            return _normalized(self, narrow - wide)
        return _checked(self, narrow - wide).astype(np.float32)

    def terms(self) -> Terms:
        """Return the on-centre response of both Gaussians, and this cell's scale."""
        narrow, wide = self._gaussians(*sorted((self.sigma1, self.sigma2)))
        terms = _centred([narrow, (-wide[0], wide[1])], divide=self.normalization == "maximum")
        if self.sigma1 < self.sigma2:
            return terms
        lowest = _outer_sum(terms.down, terms.across).min() - terms.mean if self.normalization == "maximum" else -1.0
        return terms._replace(scale=1 / lowest)

    def _gaussians(self, *sigmas: float) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return for each sigma the factors down and across of its Gaussian."""
        side, pairs = _offsets(self.window)[1][0], []
        for sigma in sigmas:
            curve = np.exp(-(side**2) / (2 * sigma**2))
            area = 2 * np.pi * sigma**2 if self.normalization == "maximum" else curve.sum() ** 2
            pairs.append((curve / area, curve))
        return pairs


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

    def terms(self) -> Terms:
        """Return the kernel as two terms."""
        scaled = _offsets(self.window)[1][0] ** 2 / (2 * self.sigma**2)
        curve = np.exp(-scaled)
        return _centred([((0.5 - scaled) * curve, curve), (curve, (0.5 - scaled) * curve)])


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


_DIRECT = 5  # pixels a side up to which going through the window takes no longer than its terms
_CANCEL = (
    40  # times the root of a kernel's sum of squares, of which responses are, that terms' magnitudes may sum up to
)
_TOGETHER = 2  # terms that the compiled sums take at a time


class Bank(NamedTuple):
    """How a bank of kernels is summed: responses, each for the maps that are it times a scale.

    Parameters
    ----------
    arrays : tuple of ndarray
        Responses, int64 of shape (responses, 6): window, number of pairs of terms, from where in the largest window on,
        first weight, first map, one past the last. Weights, float32: the terms down, (pairs, 2, window), then across
        (pairs, 3, window) with that of the sums without factors; without terms the window itself, (channels, window,
        window).
        The maps' numbers, int64, in the order of their responses, and their scales, float32.
    window : int
        Side length of the largest kernel.
    parts : int
        Largest number of pairs of a response, at least 1.
    """

    arrays: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
    window: int
    parts: int


def bank_of(kernels: Sequence[Kernel]) -> Bank:
    """Return how kernels are summed: in float32, from 0, all terms in a stated order.

    A kernel with terms is ``scale * response``. Beyond 5 pixels a side the response is made of two terms, then the
    mean's (the sum of the window, times ``-mean``), then further terms. Each is summed down a column, and this across a
    row: ``sum = fma(factor, one + other, sum)`` from the outermost two values inwards, then the middle one; the mean's
    without factors down the column. Up to 5 pixels the response is the window that the terms describe.

    Terms that cancel would leave their rounding errors: where the magnitudes of all outer products and of the mean
    over the window, times the scale, sum up to more than 40 times the root of the sum of the kernel's squares, as of
    two Gaussians of nearly the same size or ones much larger than the window, the response is the window of
    ``array()``, as of kernels without terms. Windows are summed row by row: ``sum = fma(weight, value, sum)``. Either
    way responses to an image are within 1e-5 of the largest of what float64 gives, for windows of up to 31 pixels.

    Raises
    ------
    ValueError
        If a kernel's window is not an odd number, its array or terms are of other shapes or not finite in float32, or
        terms are not symmetric or describe another kernel than the array.
    """
    shared: dict[tuple[Any, ...], list[tuple[int, float]]] = {}
    for number, kernel in enumerate(kernels):
        parts, weights, scale = _summed(kernel, f"kernel {number} ({type(kernel).__name__})")
        shared.setdefault((kernel.window, parts, weights.tobytes()), []).append((number, scale))
    return _packed([(*key[:2], np.frombuffer(key[2], np.float32)) for key in shared], list(shared.values()))


def bank_of_arrays(kernels: np.ndarray) -> Bank:
    """Return how kernels, float32 of shape (K, C, window, window), are summed: window by window, as :func:`bank_of`."""
    return _packed(
        [(kernels.shape[3], 0, kernel.ravel()) for kernel in kernels], [[(k, 1.0)] for k in range(len(kernels))]
    )


def _packed(responses: list[tuple[int, int, np.ndarray]], shared: list[list[tuple[int, float]]]) -> Bank:
    largest, table = max(window for window, _, _ in responses), list[tuple[int, ...]]()
    weight = first = 0
    for (window, parts, weights), users in zip(responses, shared, strict=True):
        table.append((window, parts, (largest - window) // 2, weight, first, first + len(users)))
        weight, first = weight + len(weights), first + len(users)
    numbers, scales = zip(*(user for users in shared for user in users), strict=True)
    weights = np.concatenate([weights for _, _, weights in responses])
    arrays = np.array(table, np.int64), weights, np.array(numbers, np.int64), np.array(scales, np.float32)
    return Bank(arrays, largest, max(1, *(parts for _, parts, _ in responses)))


def _summed(kernel: Kernel, who: str) -> tuple[int, np.ndarray, float]:
    """Return the number of pairs of terms, the weights as a bank has them, and the scale."""
    window = _array_of(kernel, who)
    if not callable(getattr(kernel, "terms", None)):
        return 0, window.ravel(), 1.0
    down, across, mean, scale = _terms_of(kernel, len(window), who)
    response = _outer_sum(down, across) - mean
    sizes = np.abs(down).sum(axis=1) * np.abs(across).sum(axis=1)
    mass = abs(scale) * (sizes.sum() + abs(mean) * window.size)
    # Of factors rounded to float32 no more can be asked.
    if not np.abs(scale * response - window).max() <= 1e-6 * mass:
        raise ValueError(f"{who}: terms() expects those of array(), got another kernel's")
    if mass > _CANCEL * np.sqrt(np.square(window, dtype=np.float64).sum()):
        return 0, window.ravel(), 1.0
    if len(window) <= _DIRECT:
        return 0, response.astype(np.float32).ravel(), scale
    missing = -len(down) % _TOGETHER
    down, across = (np.pad(factors, ((0, missing), (0, 0))) for factors in (down, across))
    plain = np.zeros((len(down) // _TOGETHER, 1, len(window)))
    plain[0] = -mean
    across = np.concatenate([across.reshape(len(plain), _TOGETHER, -1), plain], axis=1)
    return len(plain), np.concatenate([down.ravel(), across.ravel()]).astype(np.float32), scale


def _array_of(kernel: Kernel, who: str) -> np.ndarray:
    """Return a kernel's array as float32, or say what is wrong with it: compiled code reads what it is told to."""
    window = getattr(kernel, "window", None)
    if isinstance(window, bool) or not isinstance(window, Integral) or window < 1 or window % 2 == 0:
        raise ValueError(f"{who}: window expects an odd number of pixels, got {window!r}")
    return _finite(kernel.array(), f"{who}: array()", int(window), int(window))


def _terms_of(kernel: Any, window: int, who: str) -> Terms:
    """Return a kernel's terms as float64, or say what is wrong with them."""
    found = kernel.terms()
    if not isinstance(found, tuple) or len(found) != len(Terms._fields):
        raise ValueError(f"{who}: terms() expects Terms, got {found!r}")
    terms, count = Terms(*found), len(_finite(found[0], f"{who}: terms().down", "terms", window))
    _finite(terms.across, f"{who}: terms().across", count, window)
    _finite(terms.mean, f"{who}: terms().mean")
    _finite(terms.scale, f"{who}: terms().scale")
    down, across = np.asarray(terms.down, np.float64), np.asarray(terms.across, np.float64)
    for name, values in (("down", down), ("across", across)):
        if not np.abs(values - values[:, ::-1]).max() <= 1e-6 * np.abs(values).max():
            raise ValueError(f"{who}: terms().{name} expects symmetric factors, got {values!r}")
    return Terms(down, across, float(terms.mean), float(terms.scale))


def _finite(values: Any, who: str, *shape: int | str) -> np.ndarray:
    """Return values as float32 if they are finite and of a shape, in which a word is any number above 0."""
    wanted = f"shape ({', '.join(map(str, shape))})"
    try:
        with np.errstate(over="ignore"):
            array = np.array(values, np.float32, order="C")
    except (TypeError, ValueError):
        raise ValueError(f"{who} expects numbers of {wanted}, got {values!r}") from None
    fits = len(array.shape) == len(shape)
    if not fits or any(n != m and (n == 0 or isinstance(m, int)) for n, m in zip(array.shape, shape, strict=True)):
        raise ValueError(f"{who} expects {wanted}, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{who} expects finite numbers in the range of float32, got {values!r}")
    return array


def _outer_sum(down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Return the sum of outer products, one after the other: a matrix product's order is the machine's."""
    total = np.zeros((down.shape[1], across.shape[1]))
    for column, row in zip(down, across, strict=True):
        total += np.outer(column, row)
    return total


def _mean(values: np.ndarray) -> float:
    """Return the mean, of which nothing but the division and the result of all additions is rounded."""
    return math.fsum(values.ravel()) / values.size


def _centred(pairs: list[tuple[np.ndarray, np.ndarray]], divide: bool = True) -> Terms:
    """Return outer products, rounded to float32, minus the mean of their sum; all divided by the maximum."""
    down, across = (np.array(factors) for factors in zip(*pairs, strict=True))
    values = _outer_sum(down, across)
    if divide:
        down = down / (values - _mean(values)).max()
    down, across = (factors.astype(np.float32).astype(np.float64) for factors in (down, across))
    # The mean of what is rounded, so that uniform grey gives as little as can be.
    return Terms(down, across, _mean(_outer_sum(down, across)), 1.0)


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
