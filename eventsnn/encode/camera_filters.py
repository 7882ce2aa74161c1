"""Filters on streams of camera events: they leave out noise, or change the grid."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from eventsnn.encode import _values
from eventsnn.encode._stream import NEVER, Block, Step
from eventsnn.events import Shape


class StreamFilter(Protocol):
    """What :class:`CameraEncoder` takes as a filter; any frozen dataclass with these methods may be one."""

    def output_shape(self, shape: Shape) -> Shape:
        """Return the grid (channels, height, width) of what it lets through of events on a grid."""

    def start(self, shape: Shape) -> Step:
        """Return a function that is called with one block of events after another and returns what is left.

        Its result does not depend on where blocks end.
        """


@dataclass(frozen=True)
class Refractory:
    """A pixel that fired is silent for a while, whatever the polarity.

    An event stays if it comes at least ``us`` after the last event of its pixel that stayed.

    Parameters
    ----------
    us : int
        The refractory period, in microseconds, at least 1.
    """

    us: int

    def __post_init__(self) -> None:
        _values.integer(self, "us", 1)

    def output_shape(self, shape: Shape) -> Shape:
        """Return the same grid."""
        return shape

    def start(self, shape: Shape) -> Step:
        """Return the filter at the beginning of a stream."""
        from eventsnn.encode._camera_kernels import refractory

        last = np.full(shape[1:], NEVER, np.int64)

        def step(block: Block) -> Block:
            keep = np.empty(len(block.t), bool)
            refractory(block.t, block.x, block.y, last, self.us, keep)
            return block.take(keep)

        return step


@dataclass(frozen=True)
class BackgroundActivity:
    """Leave out events that no neighbour supports: the background activity filter of Delbruck (2008).

    An event stays if another pixel at most ``radius`` rows and columns away fired at most ``us`` before it, whatever
    the polarity, and whether that event stayed or not. Of simultaneous events the later in the stream see the earlier.
    (T. Delbruck, "Frame-free dynamic digital vision", Int. Symp. on Secure-Life Electronics, 2008.)

    Parameters
    ----------
    us : int
        Microseconds, at least 0.
    radius : int
        At least 1; 1 means eight neighbours.
    """

    us: int
    radius: int = 1

    def __post_init__(self) -> None:
        _values.integer(self, "us", 0)
        _values.integer(self, "radius", 1)

    def output_shape(self, shape: Shape) -> Shape:
        """Return the same grid."""
        return shape

    def start(self, shape: Shape) -> Step:
        """Return the filter at the beginning of a stream."""
        from eventsnn.encode._camera_kernels import supported

        _, height, width = shape
        last = np.full((height + 2 * self.radius, width + 2 * self.radius), NEVER, np.int64)

        def step(block: Block) -> Block:
            keep = np.empty(len(block.t), bool)
            supported(block.t, block.x, block.y, last, self.us, self.radius, keep)
            return block.take(keep)

        return step


@dataclass(frozen=True)
class HotPixels:
    """Leave out all events of some pixels.

    Parameters
    ----------
    pixels : sequence of (int, int)
        Column x and row y of each. :class:`FindHotPixels` finds them.
    """

    pixels: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        pairs = tuple(tuple(pair) if isinstance(pair, Iterable) else pair for pair in self.pixels)
        for pair in pairs:
            whole = isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(n, int | np.integer) for n in pair)
            if not whole or min(pair) < 0:
                raise ValueError(f"HotPixels: pixels expects pairs (x, y) of integers of at least 0, got {pair!r}")
        object.__setattr__(self, "pixels", tuple((int(x), int(y)) for x, y in pairs))

    def output_shape(self, shape: Shape) -> Shape:
        """Return the same grid, or raise ``ValueError`` if a pixel is outside of it."""
        outside = [pixel for pixel in self.pixels if pixel[0] >= shape[2] or pixel[1] >= shape[1]]
        if outside:
            raise ValueError(f"HotPixels: pixels expects places on a grid {shape[2]}x{shape[1]}, got {outside[0]}")
        return shape

    def start(self, shape: Shape) -> Step:
        """Return the filter at the beginning of a stream."""
        sound = np.ones(shape[1:], bool)
        for x, y in self.pixels:
            sound[y, x] = False
        return lambda block: block.take(sound[block.y, block.x])


@dataclass(frozen=True)
class FindHotPixels:
    """Stands for the :class:`HotPixels` that :meth:`CameraEncoder.fit` makes of a recording.

    A pixel is hot if it fired more than ``times`` as often as the mean of the pixels that fired at all, counting what
    the filters before let through.

    Parameters
    ----------
    times : float
        Above 1.
    """

    times: float = 10.0

    def __post_init__(self) -> None:
        _values.number(self, "times", above=1)

    def output_shape(self, shape: Shape) -> Shape:
        """Return the same grid."""
        return shape

    def start(self, shape: Shape) -> Step:
        """Raise ``ValueError``: the pixels are still to be found."""
        raise ValueError("FindHotPixels has to be fitted first: encoder.fit(recording)")

    def found(self, counts: np.ndarray) -> HotPixels:
        """Return the hot pixels, given how often each fired, int64 of shape (height, width)."""
        limit = self.times * int(counts.sum()) / max(int(np.count_nonzero(counts)), 1)
        return HotPixels(tuple((int(x), int(y)) for y, x in np.argwhere(counts > limit)))


@dataclass(frozen=True)
class Crop:
    """Keep a rectangle, whose corner becomes the origin.

    Parameters
    ----------
    x, y : int
        Its first column and row.
    width, height : int
        At least 1; it must lie within the grid.
    """

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        for name, least in (("x", 0), ("y", 0), ("width", 1), ("height", 1)):
            _values.integer(self, name, least)

    def output_shape(self, shape: Shape) -> Shape:
        """Return the grid of the rectangle, or raise ``ValueError`` if it is not within ``shape``."""
        if self.x + self.width > shape[2] or self.y + self.height > shape[1]:
            raise ValueError(f"{self} expects a grid that holds it, got {shape[2]}x{shape[1]} (width x height)")
        return shape[0], self.height, self.width

    def start(self, shape: Shape) -> Step:
        """Return the filter at the beginning of a stream."""
        left, top = np.uint16(self.x), np.uint16(self.y)

        def step(block: Block) -> Block:
            x, y = block.x - left, block.y - top  # what is left or above becomes large
            kept = block._replace(x=x, y=y)
            return kept.take((x < self.width) & (y < self.height))

        return step


@dataclass(frozen=True)
class Downsample:
    """Let each square of ``factor`` by ``factor`` pixels be one, with the events of all of them.

    Squares at the right and lower border may be cut. A :class:`Refractory` after it thins out what falls together.

    Parameters
    ----------
    factor : int
        At least 1.
    """

    factor: int

    def __post_init__(self) -> None:
        _values.integer(self, "factor", 1)

    def output_shape(self, shape: Shape) -> Shape:
        """Return the grid of the squares."""
        return shape[0], -(-shape[1] // self.factor), -(-shape[2] // self.factor)

    def start(self, shape: Shape) -> Step:
        """Return the filter at the beginning of a stream."""
        by = np.uint16(min(self.factor, 65535))
        return lambda block: block._replace(x=block.x // by, y=block.y // by)


@dataclass(frozen=True)
class Polarity:
    """What becomes of polarity. Without this filter it is the channel: 0 darker, 1 brighter.

    Parameters
    ----------
    which : {"merged", "on", "off"}
        Events of both polarities in one channel, only those that are brighter (on), or only those that are darker.
    """

    which: str

    def __post_init__(self) -> None:
        _values.choice(self, "which", ("merged", "on", "off"))

    def output_shape(self, shape: Shape) -> Shape:
        """Return the grid with one channel, or raise ``ValueError`` if there are no two."""
        if shape[0] != 2:
            raise ValueError(f"{self} expects 2 channels, got {shape[0]}")
        return 1, shape[1], shape[2]

    def start(self, shape: Shape) -> Step:
        """Return the filter at the beginning of a stream."""

        def step(block: Block) -> Block:
            kept = block if self.which == "merged" else block.take(block.p == (self.which == "on"))
            return kept._replace(p=np.zeros(len(kept.t), np.uint16))

        return step


FILTERS = (Refractory, BackgroundActivity, HotPixels, FindHotPixels, Crop, Downsample, Polarity)
