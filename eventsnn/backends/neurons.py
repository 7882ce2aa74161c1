"""What kernels are told about neurons: geometry, thresholds and leak, as plain values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Geometry:
    """Window of a convolution or pooling: kernel, stride and padding, each ``(vertical, horizontal)``."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if min(self.kernel) < 1 or min(self.stride) < 1 or min(self.padding) < 0:
            raise ValueError(f"geometry expects kernel and stride of 1 or more, padding of 0 or more, got {self}")

    def output(self, height: int, width: int) -> tuple[int, int]:
        """Return the output grid ``(OH, OW)``, floor division as in a usual cross-correlation.

        Raises
        ------
        ValueError
            If the kernel does not fit into the padded grid.
        """
        sizes = []
        for size, k, s, p in zip((height, width), self.kernel, self.stride, self.padding, strict=True):
            if size + 2 * p < k:
                raise ValueError(f"kernel {self.kernel} does not fit into {height}x{width} padded by {self.padding}")
            sizes.append((size + 2 * p - k) // s + 1)
        return sizes[0], sizes[1]

    def windows(self, height: int, width: int) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Return who sees what: windows ``low[y]:high[y]`` hold input row ``y``; for columns likewise.

        Returns
        -------
        ((low, high), (low, high)) : ndarray of int64, shape (height,) and (width,)
            For rows and for columns; ``low == high`` where no window holds it.
        """
        found = []
        for axis, (size, count) in enumerate(zip((height, width), self.output(height, width), strict=True)):
            place = np.arange(size, dtype=np.int64) + self.padding[axis]
            low = np.maximum(-((self.kernel[axis] - 1 - place) // self.stride[axis]), 0)  # rounded up
            found.append((low, np.maximum(np.minimum(place // self.stride[axis] + 1, count), low)))
        return found[0], found[1]


@dataclass(frozen=True, eq=False)
class LeakTable:
    """Decay ``exp(-dt / tau)`` as two float32 tables, the same bits on every machine.

    ``exp(-(a * m + b) / tau) = coarse[a] * fine[b]`` with ``m = len(fine)``; beyond the tables the decay is 0.

    Parameters
    ----------
    tau : float
        Time constant in the unit of the events' times.
    """

    tau: float
    coarse: np.ndarray = field(init=False)
    fine: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.tau) and self.tau > 0):
            raise ValueError(f"leak expects a positive time constant, got {self.tau}")
        if self.tau > 1e12:
            raise ValueError(f"leak expects a time constant up to 1e12 time units, got {self.tau}; None is no leak")
        vanishes = math.ceil(104 * self.tau)  # exp(-104) is below half of the smallest float32
        m = math.isqrt(vanishes) + 1
        coarse = np.exp(-np.arange(vanishes // m + 1) * m / self.tau).astype(np.float32)
        object.__setattr__(self, "coarse", coarse)
        object.__setattr__(self, "fine", np.exp(-np.arange(m) / self.tau).astype(np.float32))

    def factor(self, dt: int) -> np.float32:
        """Return the decay over ``dt >= 0`` time units."""
        a, b = divmod(int(dt), len(self.fine))
        return self.coarse[a] * self.fine[b] if a < len(self.coarse) else np.float32(0)

    def factors(self, dt: np.ndarray) -> np.ndarray:
        """Return the decay over each ``dt >= 0``, float32."""
        a, b = np.divmod(dt, len(self.fine))
        within = a < len(self.coarse)
        return np.where(within, self.coarse[np.where(within, a, 0)] * self.fine[b], np.float32(0))


@dataclass(frozen=True, eq=False)
class Neurons:
    """The neurons of a convolutional layer.

    Parameters
    ----------
    geometry : Geometry
        Receptive fields.
    threshold : ndarray of float32, shape (maps,)
        Firing threshold of each map, at least 0; all finite or all infinite.
    leak : LeakTable, optional
        Decay of the potential between arrivals.
    """

    geometry: Geometry
    threshold: np.ndarray
    leak: LeakTable | None = None

    def __post_init__(self) -> None:
        threshold = self.threshold
        if not isinstance(threshold, np.ndarray) or threshold.dtype != np.float32 or threshold.ndim != 1:
            raise TypeError(f"threshold expects a 1-D float32 array, got {threshold!r}")
        if len(threshold) == 0:
            raise ValueError("threshold expects at least one map, got none")
        if np.isnan(threshold).any() or (threshold < 0).any():
            raise ValueError(f"threshold expects values of 0 or more, got {threshold.min()}")
        if np.isinf(threshold).any() and not np.isinf(threshold).all():
            raise ValueError("threshold expects all maps finite or all infinite, got a mixture")

    @property
    def at_end(self) -> bool:
        """Whether the neurons fire at the end of the stimulus (infinite threshold)."""
        return bool(np.isinf(self.threshold[0]))


def weights_shape(neurons: Neurons, channels: int) -> tuple[int, int, int, int]:
    """Return (maps, channels, kernel height, kernel width)."""
    return len(neurons.threshold), channels, *neurons.geometry.kernel
