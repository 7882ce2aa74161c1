"""From the events of a sample to its spikes: every event, the first of each pixel, or a rank by recency or number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from eventsnn.encode import _values
from eventsnn.encode._cutting import Piece
from eventsnn.encode.intensity import ImageEncoder
from eventsnn.encode.latency import Latency
from eventsnn.events import Events, Shape, TimeUnit

#: Turns one sample's events into its spikes.
Emit = Callable[[Piece], Events]


class EventLatency(Protocol):
    """What :class:`CameraEncoder` takes as a latency rule; any frozen dataclass with these methods may be one."""

    def duration(self, length: int | None, shape: Shape) -> int:
        """Return the duration of every sample, which lasts ``length`` microseconds at most (None: not known)."""

    def start(self, length: int | None, shape: Shape) -> Emit:
        """Return what turns one sample after another, on the grid ``shape``, into spikes."""


@dataclass(frozen=True)
class EveryEvent:
    """Every event is a spike, at its time from the start of the sample.

    Parameters
    ----------
    bins : int, optional
        Then times are bins: ``floor((t - start) * bins / length)``, of the length of the sample itself. Events of a
        pixel in one bin stay as many. Default: microseconds.
    """

    bins: int | None = None

    def __post_init__(self) -> None:
        if self.bins is not None:
            _values.integer(self, "bins", 1)

    def duration(self, length: int | None, shape: Shape) -> int:
        """Return the number of bins, or the length."""
        return _duration(self, self.bins, length)

    def start(self, length: int | None, shape: Shape) -> Emit:
        """Return what turns samples into spikes."""
        duration = self.duration(length, shape)
        return lambda piece: _spikes(piece, self.bins, duration, shape)


@dataclass(frozen=True)
class FirstSpike:
    """The first event of each pixel and channel in a sample is a spike, at its time from the start of the sample.

    Parameters
    ----------
    bins : int, optional
        As of :class:`EveryEvent`.
    """

    bins: int | None = None

    def __post_init__(self) -> None:
        if self.bins is not None:
            _values.integer(self, "bins", 1)

    def duration(self, length: int | None, shape: Shape) -> int:
        """Return the number of bins, or the length."""
        return _duration(self, self.bins, length)

    def start(self, length: int | None, shape: Shape) -> Emit:
        """Return what turns samples into spikes."""
        from eventsnn.encode._camera_kernels import first_of_site

        duration = self.duration(length, shape)
        seen, stamp = np.zeros(_n_sites(shape), np.int64), 0

        def emit(piece: Piece) -> Events:
            nonlocal stamp
            stamp += 1
            sites = _sites(piece, shape)
            keep = np.empty(len(sites), bool)
            first_of_site(sites, seen, stamp, keep)
            return _spikes(piece._replace(block=piece.block.take(keep)), self.bins, duration, shape)

        return emit


@dataclass(frozen=True)
class TimeSurface:
    """The more recent the last event of a pixel and channel, the earlier its spike.

    The time surface of Lagorce et al. (2017), ``S = exp(-(end - 1 - t) / tau)`` of the last event in the sample,
    computed in float64 and rounded to float32, is the intensity that becomes a latency as an image's does. A pixel
    without an event in the sample, or whose S is rounded to 0, does not fire. (X. Lagorce et al., "HOTS: A hierarchy of
    event-based time-surfaces for pattern recognition", IEEE TPAMI 39(7), 2017.)

    Parameters
    ----------
    tau : float
        Time constant in microseconds, above 0.
    rule : EqualBins, Linear or Rank
        How S becomes a time.
    """

    tau: float
    rule: Latency

    def __post_init__(self) -> None:
        _values.number(self, "tau", above=0)
        _check_rule(self, self.rule)

    def duration(self, length: int | None, shape: Shape) -> int:
        """Return the duration that the rule has on this grid."""
        return self.rule.duration(shape)

    def start(self, length: int | None, shape: Shape) -> Emit:
        """Return what turns samples into spikes."""

        def surface(piece: Piece) -> np.ndarray:
            last = np.full(_n_sites(shape), -1, np.int64)
            last[_sites(piece, shape)] = piece.block.t - piece.start  # of several the last stays
            fired = np.flatnonzero(last >= 0)
            surface = np.zeros(len(last), np.float32)
            surface[fired] = np.exp((last[fired] - (piece.length - 1)) / self.tau)
            return surface

        return _ranked(surface, self.rule, shape)


@dataclass(frozen=True)
class EventCount:
    """The more events a pixel and channel had in a sample, the earlier its spike.

    Parameters
    ----------
    rule : EqualBins, Linear or Rank
        How the number becomes a time. Its intensity is ``min(number, saturation) / saturation`` in float32.
    saturation : int, optional
        Numbers from here on are the same. Default: the largest number in the sample.
    """

    rule: Latency
    saturation: int | None = None

    def __post_init__(self) -> None:
        _check_rule(self, self.rule)
        if self.saturation is not None:
            _values.integer(self, "saturation", 1)

    def duration(self, length: int | None, shape: Shape) -> int:
        """Return the duration that the rule has on this grid."""
        return self.rule.duration(shape)

    def start(self, length: int | None, shape: Shape) -> Emit:
        """Return what turns samples into spikes."""

        def share(piece: Piece) -> np.ndarray:
            counts = np.bincount(_sites(piece, shape), minlength=_n_sites(shape))
            most = max(int(counts.max()), 1) if self.saturation is None else self.saturation
            return np.minimum(counts, most).astype(np.float32) / np.float32(most)

        return _ranked(share, self.rule, shape)


EVENT_LATENCIES = (EveryEvent, FirstSpike, TimeSurface, EventCount)


def _check_rule(owner: object, rule: Latency) -> None:
    if isinstance(rule, type) or not callable(getattr(rule, "times", None)):
        raise ValueError(f"{type(owner).__name__}: rule expects EqualBins, Linear or Rank, got {rule!r}")


def _duration(owner: object, bins: int | None, length: int | None) -> int:
    if bins is not None:
        return bins
    if length is None:
        raise ValueError(f"{owner} expects samples of a known length; cut by time, or give it bins")
    return length


def _n_sites(shape: Shape) -> int:
    return shape[0] * shape[1] * shape[2]


def _sites(piece: Piece, shape: Shape) -> np.ndarray:
    """Return the flat index of each event's channel, row and column, int64."""
    block = piece.block
    return (block.p.astype(np.int64) * shape[1] + block.y) * shape[2] + block.x


def _spikes(piece: Piece, bins: int | None, duration: int, shape: Shape) -> Events:
    """Return events as one sample in canonical order."""
    time, (_, x, y, p, _) = piece.block.t - piece.start, piece.block
    unit: TimeUnit = "us"
    if bins is not None:
        time, unit = _binned(time, bins, piece.length), "bin"
    time, p, y, x = _sorted(time, p, y, x, [(n - 1).bit_length() for n in (duration, *shape)])
    offsets = np.array([0, len(time)], np.int64)
    return Events.unchecked(time=time, channel=p, y=y, x=x, offsets=offsets, shape=shape, duration=duration, unit=unit)


def _sorted(time: np.ndarray, p: np.ndarray, y: np.ndarray, x: np.ndarray, bits: list[int]) -> tuple[np.ndarray, ...]:
    """Return columns in canonical order; where they fit into 63 bits they are sorted as one number, much faster."""
    if sum(bits) > 63:
        order = np.lexsort((x, y, p, time))
        return time[order], p[order], y[order], x[order]
    key = time.copy()
    for column, n in zip((p, y, x), bits[1:], strict=True):
        key <<= n
        key |= column
    key.sort()
    found: list[np.ndarray] = []
    for n in bits[:0:-1]:
        found.append((key & ((1 << n) - 1)).astype(np.uint16))
        key >>= n
    return key, *found[::-1]


def _binned(time: np.ndarray, bins: int, length: int) -> np.ndarray:
    if length * bins < 1 << 63:
        return time * bins // length
    return np.array([t * bins // length for t in time.tolist()], np.int64)


def _ranked(intensity: Callable[[Piece], np.ndarray], rule: Latency, shape: Shape) -> Emit:
    image = ImageEncoder((), rule)
    return lambda piece: image.encode(intensity(piece).reshape(1, *shape))
