"""eventsnn itself, by its public functions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import eventsnn
from benchmarks.peers.tasks import Job, Lesson, Task
from eventsnn import RSTDP, Events, Network
from eventsnn.backends import Backend
from eventsnn.backends.cpu import CpuBackend


@dataclass(frozen=True)
class Ours:
    """eventsnn with a number of threads."""

    threads: int = 1
    version: str = eventsnn.__version__

    @property
    def name(self) -> str:
        """What records call it."""
        return "eventsnn" if self.threads == 1 else f"eventsnn, {self.threads} threads"

    def prepare(self, task: Task, batch: int = 1) -> Job:
        """Return the job; ``batch`` samples learn from the same weights."""
        network, backend = _network(task, self.threads), CpuBackend(self.threads)

        def work(packed: Any) -> Iterator[Any]:
            events = _input(task, self.threads)
            if network is not None and task.stack.decides:
                yield eventsnn.decide(network, events, np.arange(network.shapes[-1][0]))
                return
            spikes = events if network is None else network.run(events)
            yield spikes if task.lesson is None else learn(task.lesson, backend, spikes, packed, batch)

        def setup() -> Any:
            return None if task.lesson is None else backend.pack(task.lesson.weights)

        return Job(work, _answer, setup, batch)


def _input(task: Task, threads: int) -> Events:
    if task.images is None or task.encoder is None:
        assert task.events is not None
        return task.events
    os.environ["EVENTSNN_THREADS"] = str(threads)
    return task.encoder.encode(task.images, None if task.events is None else task.events.labels)


def _network(task: Task, threads: int) -> Network | None:
    if not task.stack.layers:
        return None
    if task.events is None:
        assert task.images is not None
        assert task.encoder is not None
        shape = task.encoder.output_shape(*task.images.shape[1:])
    else:
        shape = task.events.shape
    network = Network(task.stack.layers, shape, backend=CpuBackend(threads))
    for layer, weights in (task.stack.weights or {}).items():
        network.set_weights(layer, weights)
    return network


def learn(lesson: Lesson, backend: Backend, events: Events, packed: Any, batch: int) -> np.ndarray:
    """Let a layer learn from the spikes that come to it; return the winners."""
    neurons, order = lesson.layer.neurons(events.shape), np.arange(len(events))
    if isinstance(lesson.rule, RSTDP):
        assert lesson.classes is not None
        update, reward = lesson.rule.updates(lesson.classes, lesson.competition)
        return backend.learn(events, order, packed, neurons, update, reward, batch=batch)
    update = lesson.rule.update(lesson.layer.features, lesson.competition)
    return backend.learn(events, order, packed, neurons, update, batch=batch)


def _answer(outcome: Any) -> np.ndarray:
    if isinstance(outcome, Events):
        return outcome.to_latency().astype(np.int32)
    return outcome[:, :, :3] if outcome.ndim == 3 else outcome
