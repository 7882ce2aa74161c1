"""Rules that turn ranked intensities into latencies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from eventsnn.encode import _values
from eventsnn.events import Shape


class Latency(Protocol):
    """What turns ranked intensities into times; any frozen dataclass with these methods may be one."""

    def duration(self, shape: Shape) -> int:
        """Return the length of every sample on a grid (C, H, W)."""

    def times(self, intensities: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Return the time of every intensity, or -1 for no spike.

        Parameters
        ----------
        intensities : ndarray of float32, shape (n,)
            Above 0; those of image ``i`` are ``offsets[i]:offsets[i + 1]``, in descending order.

        Returns
        -------
        ndarray of int64, shape (n,)
            Never falling within an image, except for -1.
        """


@dataclass(frozen=True)
class EqualBins:
    """Equally many spikes in each time bin, the strongest intensities first, as SpykeTorch encodes.

    Of ``n`` intensities above 0, ``n // bins`` go to each bin and the weakest ``n mod bins`` are dropped; with
    ``n < bins`` every spike has a bin of its own. Equal intensities go by flat index ``(c*H + y)*W + x``.

    Parameters
    ----------
    bins : int
        At least 1; the duration of a sample.
    """

    bins: int

    def __post_init__(self) -> None:
        _values.integer(self, "bins", 1)

    def duration(self, shape: Shape) -> int:
        """Return ``bins``."""
        return self.bins

    def times(self, intensities: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Return the bin of every intensity, -1 for the dropped."""
        counts = np.diff(offsets)
        sizes = np.repeat(np.maximum(1, counts // self.bins), counts)
        times = _ranks(offsets) // sizes
        return np.where(times < self.bins, times, -1)


@dataclass(frozen=True)
class Linear:
    """Latency falls linearly with intensity: bin ``floor((1 - intensity) * bins)``, at most ``bins - 1``.

    Intensities must lie in [0, 1]; 0 never fires.

    Parameters
    ----------
    bins : int
        At least 1; the duration of a sample. Many bins approach continuous time.
    """

    bins: int

    def __post_init__(self) -> None:
        _values.integer(self, "bins", 1)

    def duration(self, shape: Shape) -> int:
        """Return ``bins``."""
        return self.bins

    def times(self, intensities: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Return the bin of every intensity."""
        if intensities.size and intensities.max() > 1:
            raise ValueError(
                f"Linear expects intensities in [0, 1], found {intensities.max():g}; "
                "end the stages with Scale(...) or DivideByMax()"
            )
        # Exact in float64, so that the bin depends on nothing but the float32 intensity.
        times = ((1.0 - intensities.astype(np.float64)) * self.bins).astype(np.int64)
        return np.minimum(times, self.bins - 1)


@dataclass(frozen=True)
class Rank:
    """Exact rank order: every spike has a time of its own, the strongest intensity 0, the next 1, ...

    Equal intensities go by flat index. A sample lasts as many bins as the grid has sites, whatever its images.
    """

    def duration(self, shape: Shape) -> int:
        """Return the number of sites."""
        return int(np.prod(shape, dtype=np.int64))

    def times(self, intensities: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Return the rank of every intensity."""
        return _ranks(offsets)


LATENCIES = (EqualBins, Linear, Rank)


def _ranks(offsets: np.ndarray) -> np.ndarray:
    """Return 0, 1, 2, ... within each image."""
    return np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets))
