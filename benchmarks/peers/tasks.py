"""What every program is asked to do, in terms that belong to none of them, and what it answers with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np

from eventsnn import RSTDP, STDP, WTA, Conv, Events
from eventsnn.encode import ImageEncoder
from eventsnn.layers import Layer

Answer = Literal["spikes", "decisions", "winners"]
_MOST_STEPS = 1000  # of a dense axis of time: of microseconds one recording would fill 10 GB


class NotOffered(Exception):  # noqa: N818  # it is no error
    """A program has no such thing, or defines it otherwise; the text says which."""


class Absent(Exception):  # noqa: N818
    """A program is not installed here; the text says what was looked for."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Layers with the weights of those that have some, by the index of the layer."""

    layers: tuple[Layer, ...] = ()
    weights: dict[int, np.ndarray] | None = None

    def parts(self) -> Iterator[tuple[Any, np.ndarray | None]]:
        """Yield each layer with its weights, or None."""
        for index, layer in enumerate(self.layers):
            yield layer, (self.weights or {}).get(index)

    @property
    def decides(self) -> bool:
        """Whether the last layer has an infinite threshold."""
        last = self.layers[-1] if self.layers else None
        return isinstance(last, Conv) and bool(np.isinf(last.threshold))


@dataclass(frozen=True, eq=False)
class Lesson:
    """A layer that learns, online, from the initial ``weights``; the events' labels go with :class:`RSTDP`."""

    layer: Conv
    weights: np.ndarray
    rule: STDP | RSTDP
    competition: WTA
    classes: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Task:
    """Encode ``images`` or take ``events``, run ``stack``, let ``lesson`` learn from what comes out of it.

    Answers are arrays: latencies of the last layer's neurons (-1: silent), the map that decides for each sample
    (-1: none), or (map, y, x) of the winners of each sample (-1: none).
    """

    stage: str
    stack: Stack = Stack()
    events: Events | None = None
    images: np.ndarray | None = None
    encoder: ImageEncoder | None = None
    lesson: Lesson | None = None
    additions: float | None = None  #: synaptic additions that the definition asks for, all samples together
    alone: bool = False  #: only eventsnn does it, with one thread and with two

    @property
    def answer(self) -> Answer:
        """What the program answers with."""
        if self.lesson is not None:
            return "winners"
        return "decisions" if self.stack.decides else "spikes"

    @property
    def samples(self) -> int:
        """Number of images or recordings."""
        return len(self.images) if self.images is not None else len(self._events())

    @property
    def steps(self) -> int:
        """Number of time bins."""
        if self.encoder is not None and self.events is None:
            return self.encoder.latency.duration((1, 1, 1))
        return self._events().duration

    def first(self, samples: int, start: int = 0) -> Task:
        """Return the same with few samples."""
        some = slice(start, start + samples)
        events, images = (None if data is None else data[some] for data in (self.events, self.images))
        return replace(self, events=events, images=images)

    def rounded(self) -> Task:
        """Return the same with weights that are multiples of 1/256: float32 sums are exact, in any order."""
        weights = {i: _rounded(w) for i, w in (self.stack.weights or {}).items()}
        lesson = None if self.lesson is None else replace(self.lesson, weights=_rounded(self.lesson.weights))
        return replace(self, stack=replace(self.stack, weights=weights), lesson=lesson)

    def _events(self) -> Events:
        assert self.events is not None
        return self.events


@dataclass(frozen=True, eq=False)
class Job:
    """A task as one program does it. ``setup`` is not timed, ``work`` is, piece by piece; ``answer`` reads a piece."""

    work: Callable[[Any], Iterator[Any]]
    answer: Callable[[Any], np.ndarray]
    setup: Callable[[], Any] = lambda: None
    batch: int = 1  #: samples that learn from the same weights
    note: str = ""  #: how the program was used
    differs: str = ""  #: why its answers differ, where that is known

    def run(self) -> np.ndarray:
        """Return all answers."""
        return np.concatenate([self.answer(piece) for piece in self.work(self.setup())])


class Peer(Protocol):
    """A program."""

    name: str
    version: str
    threads: int

    def prepare(self, task: Task) -> Job:
        """Bring inputs and weights into the program's own form, or raise :class:`NotOffered`."""


def _rounded(weights: np.ndarray) -> np.ndarray:
    return np.round(weights * 256).astype(np.float32) / 256


def cumulative(events: Events) -> np.ndarray:
    """Return how often each input has fired until each time, float32 of shape (samples, time, *grid)."""
    counts = np.zeros((len(events), events.duration, *events.shape), np.float32)
    where = (events.sample_index(), events.time, events.channel, events.y, events.x)
    np.add.at(counts, where, np.float32(1))
    return np.cumsum(counts, axis=1, out=counts)


def fires_again(task: Task) -> bool:
    """Whether an input of the task fires more than once, as cameras' pixels do."""
    return task.events is not None and task.events.first_spikes().n_events < task.events.n_events


def check_steps(task: Task) -> None:
    """Raise :class:`NotOffered` where a dense axis of time would not fit in memory."""
    if task.steps > _MOST_STEPS:
        raise NotOffered("time is a dense axis: one step for each microsecond")


def latency_of_waves(waves: np.ndarray) -> np.ndarray:
    """Return first-spike times of cumulative waves (samples, time, ...), int16; -1 where there is no spike."""
    fired = (waves > 0).sum(axis=1, dtype=np.int16)
    return np.where(fired > 0, np.int16(waves.shape[1]) - fired, np.int16(-1))


def winners_array(winners: list[list[tuple[int, int, int]]], k: int) -> np.ndarray:
    """Return lists of (map, y, x) as int64 of shape (samples, k, 3), -1 where there is none."""
    array = np.full((len(winners), k, 3), -1, np.int64)
    for sample, chosen in enumerate(winners):
        for place, winner in enumerate(chosen):
            array[sample, place] = winner
    return array
