"""What is taken of a recording: a part of its time and of its sensor, at a lower resolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eventsnn.io.chunk import Chunk
from eventsnn.io.recording import Tally

# What is left out, as it reads after a number.
OUTSIDE_TIME = "events outside the time"
OUTSIDE_CROP = "events outside the crop"


@dataclass(frozen=True)
class Extract:
    """A part of a recording, in this order: of its time, of its sensor, then at a lower resolution.

    Parameters
    ----------
    crop : (int, int, int, int), optional
        ``x0, y0, x1, y1``: columns from ``x0`` to before ``x1``, rows from ``y0`` to before ``y1``; they become the
        sensor.
    time : (int, int or None), optional
        From when to before when, in microseconds from the origin; None is the end. The beginning becomes time 0.
    origin : int, optional
        When the recording begins, in microseconds on the clock of the file; events before are left out. Default: with
        the first event of the file.
    downsample : int
        So many columns and rows become one. No event is lost: a pixel has those of all that it was made of.

    Raises
    ------
    ValueError
        If a parameter is not as above.
    """

    crop: tuple[int, int, int, int] | None = None
    time: tuple[int, int | None] | None = None
    origin: int | None = None
    downsample: int = 1

    def __post_init__(self) -> None:
        if self.crop is not None:
            x0, y0, x1, y1 = self.crop
            if not (0 <= x0 < x1 <= 65536 and 0 <= y0 < y1 <= 65536):
                raise ValueError(f"crop expects x0,y0,x1,y1 with 0 <= x0 < x1 and 0 <= y0 < y1, got {self.crop}")
        if self.time is not None:
            start, stop = self.time
            if start < 0 or (stop is not None and stop <= start):
                raise ValueError(f"time expects 0 <= start < stop, got {start} and {stop} us")
        if not 1 <= self.downsample <= 65535:
            raise ValueError(f"downsample expects 1 to 65535, got {self.downsample}")

    def sensor(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of what is taken of a sensor.

        Raises
        ------
        ValueError
            If the crop is not within the sensor.
        """
        if self.crop is not None:
            x0, y0, x1, y1 = self.crop
            if x1 > width or y1 > height:
                raise ValueError(f"crop expects a part of the sensor of {width} x {height} pixels, got {self.crop}")
            width, height = x1 - x0, y1 - y0
        return -(-width // self.downsample), -(-height // self.downsample)

    def limits(self, first: int) -> tuple[int | None, int | None]:
        """Return the beginning and the end on the clock of a file whose first event is at ``first``; None is any."""
        if self.time is None and self.origin is None:
            return None, None
        base = first if self.origin is None else self.origin
        start, stop = self.time or (0, None)
        return base + start, None if stop is None else base + stop

    def of(self, chunk: Chunk, limits: tuple[int | None, int | None], tally: Tally) -> Chunk:
        """Return what is taken of a chunk, and count what is not."""
        start, stop = limits
        if start is not None:
            inside = chunk.t >= start if stop is None else (chunk.t >= start) & (chunk.t < stop)
            chunk = _kept(chunk, inside, OUTSIDE_TIME, tally)
        x, y = chunk.x, chunk.y
        if self.crop is not None:
            x0, y0, x1, y1 = self.crop
            chunk = _kept(chunk, (x >= x0) & (x < x1) & (y >= y0) & (y < y1), OUTSIDE_CROP, tally)
            x, y = chunk.x - np.uint16(x0), chunk.y - np.uint16(y0)
        if self.downsample > 1:
            step = np.uint16(self.downsample)
            x, y = x // step, y // step
        return Chunk(chunk.t, x, y, chunk.p)


def _kept(chunk: Chunk, inside: np.ndarray, name: str, tally: Tally) -> Chunk:
    if left := len(inside) - int(np.count_nonzero(inside)):
        tally.drop(name, left)
        return chunk[inside]
    return chunk
