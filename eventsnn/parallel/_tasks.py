"""What the workers do: everything that a task needs comes with it, so that it can be done again anywhere."""

from __future__ import annotations

import copy
import os
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

import eventsnn
from eventsnn.backends import Backend, Found, Lesson
from eventsnn.batches import fetch, put
from eventsnn.devices import Work, device, reached
from eventsnn.events import Events, Shape, replace_fields
from eventsnn.io import EventDataset
from eventsnn.layers import Layer
from eventsnn.network import Network
from eventsnn.sources import Samples

R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class Sent:
    """A network on its way to workers."""

    layers: tuple[Layer, ...]
    shape: Shape
    weights: dict[int, np.ndarray]
    thresholds: dict[int, np.ndarray]
    backend: str | None
    key: str = field(default_factory=lambda: secrets.token_hex(8))

    @classmethod
    def of(cls, net: Network, backend: str | None) -> Sent:
        return cls(net.layers, net.shape, dict(net.weights), dict(net.thresholds), backend)

    def network(self) -> Network:
        net = Network(self.layers, self.shape, backend=_backend(self.backend))
        for layer, weights in self.weights.items():
            net.set_weights(layer, weights)
            net.set_thresholds(layer, self.thresholds[layer])
        return net


@dataclass(frozen=True, eq=False)
class Common:
    """What all shards of one pass over data have in common."""

    dataset: EventDataset
    net: Sent
    work: Work[Any]
    batch_size: int


@dataclass(frozen=True, eq=False)
class Mini:
    """What all parts of a mini-batch have in common."""

    dataset: EventDataset
    weights: np.ndarray
    lesson: Lesson
    timed: bool
    backend: str | None
    key: str = field(default_factory=lambda: secrets.token_hex(8))

    def packed(self) -> tuple[Backend, Any]:
        backend = _backend(self.backend)
        return backend, backend.pack(self.weights)


def shard(common: Common, samples: np.ndarray) -> list[Any]:
    """On a worker: return what the work gives for each batch of a shard."""
    net = _kept("network", common.net.key, common.net.network)
    with copy.copy(common.dataset) as dataset:  # other threads of this worker close their own
        part = Samples(dataset, samples)
        return list(net.each(common.work, part, common.batch_size))


def find(common: Mini, item: tuple[np.ndarray, np.ndarray | None]) -> tuple[Found, Events]:
    """On a worker: return who wins in some samples, and the input in the winners' receptive fields."""
    samples, positions = item
    backend, packed = _kept("layer", common.key, common.packed)
    with copy.copy(common.dataset) as dataset:  # other threads of this worker close their own
        events = dataset[samples]
    lesson = common.lesson._replace(positions=positions)
    found = backend.find(put(events, backend), packed, lesson)
    return found, reached(events, found.winners, lesson.neurons.geometry, common.timed)


def spikes_of(start: int, stop: int, inhibit: bool, net: Network, batch: Events) -> Events:
    spikes = net.run_through(batch, start, stop)
    if inhibit:
        spikes = fetch(net.backend.pointwise(put(spikes, net.backend)), net.backend)
    return replace_fields(spikes, potential=None)


def to_find(lesson: Lesson) -> Lesson:
    """Return a lesson without what only matters for the change: a rule of the user's need not be compiled."""
    return lesson._replace(update=replace(lesson.update, function=None, thresholds=None), reward=None)


def hold(version: str, common: R) -> R:
    if version != eventsnn.__version__:
        raise RuntimeError(f"workers expect the client's version of eventsnn, {version}, found {eventsnn.__version__}")
    return common


_known = threading.local()  # of each thread of a worker, since kernels may keep scratch of their own


def _kept(kind: str, key: str, make: Callable[[], R]) -> R:
    """Return what was made for this key, if it is the last one of its kind in this thread; else make it."""
    last: tuple[str, R] | None = getattr(_known, kind, None)
    if last is None or last[0] != key:
        last = key, make()
        setattr(_known, kind, last)
    return last[1]


def _backend(name: str | None) -> Backend:
    return device(name or os.environ.get("EVENTSNN_BACKEND") or "cpu")
