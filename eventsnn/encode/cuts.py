"""Cuts: which part of a stream of camera events is a sample."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Protocol

import numpy as np

from eventsnn.encode import _values

#: What a stream is cut by: times, the numbers of events in the recording, or of those that filters let through.
Key = Literal["time", "index", "count"]
#: An end that never comes.
END = 1 << 62


class Bounds(NamedTuple):
    """A sample is what lies from ``start`` up to before ``end``; ``label`` is its class, if the cut says so."""

    start: int
    end: int
    label: int | None = None


class Cut(Protocol):
    """What :class:`CameraEncoder` takes as a cut; any frozen dataclass with these attributes may be one."""

    @property
    def key(self) -> Key:
        """What the bounds count."""

    @property
    def open_ended(self) -> bool:
        """Whether the bounds go on for ever, so that there are as many samples as the stream lasts."""

    @property
    def incomplete(self) -> bool:
        """Whether samples are given that the stream ends in."""

    @property
    def length(self) -> int | None:
        """How long every sample is at most, in microseconds; None if nobody knows."""

    def bounds(self, origin: int) -> Iterator[Bounds]:
        """Yield bounds whose starts never fall; ``origin`` is the time of the recording's first event."""


@dataclass(frozen=True)
class Whole:
    """The whole recording is one sample, as in N-MNIST.

    Parameters
    ----------
    duration : int, optional
        Microseconds from the first event on; what comes later is left out. Default: to the last event, whenever that
        is, which takes a latency in bins.
    """

    key: ClassVar[Key] = "time"
    open_ended: ClassVar[bool] = False
    incomplete: ClassVar[bool] = True
    duration: int | None = None

    def __post_init__(self) -> None:
        if self.duration is not None:
            _values.integer(self, "duration", 1)

    @property
    def length(self) -> int | None:
        """The duration."""
        return self.duration

    def bounds(self, origin: int) -> Iterator[Bounds]:
        """Yield those of the one sample."""
        yield Bounds(origin, END if self.duration is None else origin + self.duration)


@dataclass(frozen=True)
class ByTime:
    """Time windows of one length: the k-th holds the events with ``k * step <= t - origin < k * step + length``.

    A window may be empty. The last ones are those that begin no later than the last event.

    Parameters
    ----------
    length : int
        In microseconds, at least 1.
    step : int, optional
        From the start of one window to that of the next; default ``length``. Windows overlap if it is shorter.
    origin : int, optional
        Where the first window starts, on the clock of the recording. Default: at the recording's first event.
    incomplete : bool
        Give those windows too that the recording ends in, which is so if no event is as late as their end.
    """

    key: ClassVar[Key] = "time"
    open_ended: ClassVar[bool] = True
    length: int
    step: int | None = None
    origin: int | None = None
    incomplete: bool = True

    def __post_init__(self) -> None:
        _values.integer(self, "length", 1)
        if self.step is not None:
            _values.integer(self, "step", 1)
        if self.origin is not None:
            _values.integer(self, "origin", -(1 << 60))
        _values.flag(self, "incomplete")

    def bounds(self, origin: int) -> Iterator[Bounds]:
        """Yield window after window."""
        first = origin if self.origin is None else self.origin
        starts = itertools.count(first, self.length if self.step is None else self.step)
        return (Bounds(start, start + self.length) for start in starts)


@dataclass(frozen=True)
class ByCount:
    """So many events each, of those that the filters let through. A sample's time begins with its first event.

    Parameters
    ----------
    n : int
        Events of a sample, at least 1.
    step : int, optional
        Events from the start of one sample to that of the next; default ``n``.
    incomplete : bool
        Give those samples too for which events are missing at the recording's end.
    """

    key: ClassVar[Key] = "count"
    open_ended: ClassVar[bool] = True
    length: ClassVar[None] = None
    n: int
    step: int | None = None
    incomplete: bool = True

    def __post_init__(self) -> None:
        _values.integer(self, "n", 1)
        if self.step is not None:
            _values.integer(self, "step", 1)
        _values.flag(self, "incomplete")

    def bounds(self, origin: int) -> Iterator[Bounds]:
        """Yield sample after sample."""
        return (Bounds(k, k + self.n) for k in itertools.count(0, self.n if self.step is None else self.step))


@dataclass(frozen=True)
class ByTable:
    """Samples as a table has them: from each start up to before its end, with its label.

    All of them are given, in the order of the table, with what the recording has of them.

    Parameters
    ----------
    starts, ends : sequence of int
        Starts never fall; no end is before its start. A sample of ``"us"`` begins, for its times, at its start, one of
        ``"index"`` with its first event.
    labels : sequence of int, optional
        The class of each.
    unit : {"us", "index"}
        Microseconds on the clock of the recording, or numbers of events in it, before any filter.
    """

    open_ended: ClassVar[bool] = False
    incomplete: ClassVar[bool] = True
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    labels: tuple[int, ...] | None = None
    unit: str = "us"

    def __post_init__(self) -> None:
        for name in ("starts", "ends") + ("labels",) * (self.labels is not None):
            object.__setattr__(self, name, _integers(name, getattr(self, name)))
        _values.choice(self, "unit", ("us", "index"))
        n = len(self.starts)
        if len(self.ends) != n or (self.labels is not None and len(self.labels) != n):
            found = f"{n} starts, {len(self.ends)} ends" + (
                "" if self.labels is None else f", {len(self.labels)} labels"
            )
            raise ValueError(f"ByTable expects columns of one length, got {found}")
        if any(b < a for a, b in itertools.pairwise(self.starts)):
            raise ValueError("ByTable: starts expects numbers that never fall; sort the table by them")
        if wrong := [pair for pair in zip(self.starts, self.ends, strict=True) if pair[1] < pair[0]]:
            raise ValueError(f"ByTable: no end expects to be before its start, got {wrong[0]}")

    @property
    def key(self) -> Key:
        """Times, or numbers of events before the filters."""
        return "time" if self.unit == "us" else "index"

    @property
    def length(self) -> int | None:
        """That of the longest sample; None if they are cut by index."""
        if self.unit == "index":
            return None
        return max((b - a for a, b in zip(self.starts, self.ends, strict=True)), default=1) or 1

    def bounds(self, origin: int) -> Iterator[Bounds]:
        """Yield row after row."""
        labels = self.labels or [None] * len(self.starts)
        return itertools.starmap(Bounds, zip(self.starts, self.ends, labels, strict=True))


CUTS = (Whole, ByTime, ByCount, ByTable)


def _integers(name: str, values: Iterable[int]) -> tuple[int, ...]:
    array = np.asarray(values if isinstance(values, np.ndarray) else list(values))
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(f"ByTable: {name} expects integers, got {array.dtype} of shape {array.shape}")
    whole = tuple(array.tolist())
    if whole and not -(1 << 60) <= min(whole) <= max(whole) <= 1 << 60:
        raise ValueError(f"ByTable: {name} expects -2**60 to 2**60, got {min(whole)} to {max(whole)}")
    return whole
