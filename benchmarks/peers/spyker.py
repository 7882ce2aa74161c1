"""Spyker from PyPI, its dense path (oneDNN) and its sparse one, in batches as its own examples use it."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.peers.tasks import (
    Absent,
    Job,
    Lesson,
    NotOffered,
    Task,
    check_steps,
    cumulative,
    fires_again,
    winners_array,
)
from eventsnn import RSTDP, Pool
from eventsnn.encode import published

BATCH = 64
_SIGMAS = [0.471404521, 1.099943882, 2.042752923]  # of its example rezghi_mnist_sparse.py
_TIES = "among winners of one time bin it takes the lowest map, not the largest potential"
_BINS = "its bins are fractions of the number of spikes, rounded; the weakest n mod T are kept"


def load(sparse: bool) -> Spyker:
    """Import the dense or the sparse path.

    Raises
    ------
    Absent
        If it is not installed.
    """
    try:
        module: Any = importlib.import_module("spyker")
    except ImportError as error:
        raise Absent("pip install spyker") from error
    module.set_max_threads(1)
    return Spyker(importlib.metadata.version("spyker"), module, sparse)


@dataclass(frozen=True)
class Spyker:
    """One of its two paths."""

    version: str
    module: Any
    sparse: bool
    threads: int = 1

    @property
    def name(self) -> str:
        """What records call it."""
        return f"Spyker {'sparse' if self.sparse else 'dense'}"

    def prepare(self, task: Task) -> Job:
        """Return the job, batch by batch."""
        self._check(task)
        source = self._source(task)
        layers = [self._layer(layer, weights) for layer, weights in task.stack.parts()]
        steps = task.steps

        def forward(batch: Any) -> Any:
            for layer in layers:
                batch = layer(batch)
            return batch

        if task.lesson is not None:
            return self._learning(task.lesson, source, forward)

        def work(_: Any) -> Iterator[Any]:
            yield from map(forward, source())

        read = _decision if task.stack.decides else lambda spikes: self._latency(spikes, steps)
        return Job(work, read, differs=_BINS if task.images is not None else "")

    def _check(self, task: Task) -> None:
        if fires_again(task):
            raise NotOffered("an input fires at most once")
        check_steps(task)
        if task.images is not None and task.encoder != published.spyker_mnist():
            raise NotOffered("another front end, without local normalization")
        if self.sparse and (task.stack.decides or (task.lesson and np.isinf(task.lesson.layer.threshold))):
            raise NotOffered("no infinite threshold")
        if task.lesson is not None and isinstance(task.lesson.rule, RSTDP):
            raise NotOffered("reward-modulated learning is not compared")

    def _source(self, task: Task) -> Any:
        """Return a function that yields input batches; images are encoded when they are asked for."""
        starts = range(0, task.samples, BATCH)
        if task.images is None:
            assert task.events is not None
            waves = cumulative(task.events).astype(np.uint8)
            ready = [self._spikes(np.ascontiguousarray(waves[s : s + BATCH])) for s in starts]
            return lambda: iter(ready)
        filters, images, steps = self.module.LoG(3, _SIGMAS, pad=3), task.images, task.steps
        code = self.module.sparse.code if self.sparse else self.module.code

        def encode(start: int) -> Any:
            batch = images[start : start + BATCH, None].astype(np.float32) / np.float32(255)
            return code(self.module.threshold(filters(batch), 0.01), steps)

        return lambda: map(encode, starts)

    def _spikes(self, waves: np.ndarray) -> Any:
        return self.module.SparseTensor(self.module.to_tensor(waves), 0.0) if self.sparse else waves

    def _convolution(self, layer: Any, weights: np.ndarray) -> Any:
        maps, channels, height, width = weights.shape
        vertical, horizontal = layer.padding
        convolution = self.module.Conv(channels, maps, (width, height), pad=(horizontal, vertical))
        self.module.to_tensor(np.ascontiguousarray(weights)).to(convolution.kernel)
        return convolution

    def _layer(self, layer: Any, weights: np.ndarray | None) -> Any:
        spyker, sparse = self.module, self.module.sparse
        if isinstance(layer, Pool):
            if self.sparse and layer.stride != layer.kernel:
                raise NotOffered("its pooling windows do not overlap")
            kernel, stride, padding = (tuple(reversed(pair)) for pair in (layer.kernel, layer.stride, layer.padding))  # type: ignore[call-overload]
            pool = sparse.pool if self.sparse else spyker.pool
            return lambda spikes: pool(spikes, kernel, stride, padding)
        if weights is None:
            return sparse.inhibit if self.sparse else spyker.inhibit
        convolution = self._convolution(layer, weights)
        if self.sparse:
            return lambda spikes: convolution(spikes, layer.threshold)
        if np.isinf(layer.threshold):
            return lambda spikes: spyker.convwta(spyker.infinite(convolution(spikes)), 0, 1)
        return lambda spikes: spyker.fire(convolution(spikes), layer.threshold)

    def _learning(self, lesson: Lesson, source: Any, forward: Any) -> Job:
        spyker, k, radius = self.module, lesson.competition.k, lesson.competition.radius
        threshold, rule = lesson.layer.threshold, lesson.rule
        assert not isinstance(rule, RSTDP)

        def setup() -> Any:
            convolution = self._convolution(lesson.layer, lesson.weights)
            convolution.stdpconfig = [spyker.STDPConfig(rule.a_plus, rule.a_minus)]
            return convolution

        def present(convolution: Any, batch: Any) -> Any:
            if self.sparse:
                winners = spyker.sparse.convwta(spyker.sparse.inhibit(convolution(batch, threshold)), radius, k)
                convolution.stdp(batch, winners)
                return winners
            potential = spyker.inhibit(spyker.threshold(convolution(batch), threshold))
            winners = spyker.convwta(potential, radius, k)
            convolution.stdp(batch, winners, spyker.fire(potential))
            return winners

        def work(convolution: Any) -> Iterator[Any]:
            for batch in source():
                yield present(convolution, forward(batch))

        def read(winners: Any) -> np.ndarray:
            return winners_array([[(w.z, w.y, w.x) for w in chosen] for chosen in winners], k)

        note = f"mini-batches of {BATCH} on the same weights, as its examples"
        return Job(work, read, setup, BATCH, note, _TIES if self.sparse else "")

    def _latency(self, spikes: Any, steps: int) -> np.ndarray:
        gathered = (
            self.module.to_numpy(self.module.sparse.gather(spikes)) if self.sparse else self.module.gather(spikes)
        )
        latency = gathered.astype(np.int16)
        return np.where(latency == steps, np.int16(-1), latency)


def _decision(winners: Any) -> np.ndarray:
    return np.array([chosen[0].z if chosen else -1 for chosen in winners], np.int64)
