"""The kernels in plain NumPy, as their contract reads: slow, and meant to be obviously right.

Vectorised over neurons only. The spikes that reach one neuron are added one after another, because the order of
float32 additions is part of the contract.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from eventsnn.backends import Backend, Geometry, LeakTable, Lesson, Neurons
from eventsnn.backends.changes import apply_lesson
from eventsnn.backends.competition import Found, compete, nobody
from eventsnn.events import Events

_NEVER = np.iinfo(np.int64).max


class ReferenceBackend(Backend):
    """Every kernel literally as :class:`Backend` words it; packed weights are the plain array."""

    name = "reference"
    xp = np

    def _pack(self, weights: np.ndarray) -> np.ndarray:
        """Copy float32 weights of shape (maps, channels, kernel height, kernel width).

        Raises
        ------
        TypeError
            If they are not a four-dimensional float32 array.
        """
        if not isinstance(weights, np.ndarray) or weights.dtype != np.float32 or weights.ndim != 4:
            found = f"{weights.dtype} of shape {weights.shape}" if isinstance(weights, np.ndarray) else type(weights)
            raise TypeError(f"weights expects a 4-D array of float32, got {found}")
        return weights.copy()

    def unpack(self, packed: np.ndarray) -> np.ndarray:
        """Return a copy of the weights."""
        return packed.copy()

    def _packed_shape(self, packed: np.ndarray) -> tuple[int, int, int, int]:
        maps, channels, height, width = packed.shape
        return maps, channels, height, width

    def _conv(self, events: Events, packed: np.ndarray, neurons: Neurons) -> Events:
        shape = (len(packed), *neurons.geometry.output(*events.shape[1:]))
        latency = np.empty((len(events), *shape), np.int64)
        potential = np.empty(latency.shape, np.float32)
        for i, sample in enumerate(_samples(events)):
            latency[i], potential[i] = _integrate_and_fire(sample, packed, neurons, shape)
        return _fired(events, latency, potential)

    def pool(self, events: Events, geometry: Geometry) -> Events:
        """Let each pooled neuron fire at the earliest spike in its window; see :meth:`Backend.pool`."""
        channels, height, width = events.shape
        shape = (channels, *geometry.output(height, width))
        latency = np.full((len(events), *shape), _NEVER)
        for earliest, sample in zip(latency, _samples(events), strict=True):
            for t, c, y, x in _spikes(sample):
                window = (c, *_windows(geometry, shape, y, x)[0])
                earliest[window] = np.minimum(earliest[window], t)
        return _fired(events, latency)

    def pointwise(self, events: Events) -> Events:
        """Keep one spike of all maps at each position; see :meth:`Backend.pointwise`."""
        best: dict[tuple[int, int, int], tuple[int, float, int]] = {}
        chosen: dict[tuple[int, int, int], int] = {}
        columns = (events.sample_index(), events.y, events.x, events.time, _potential(events), events.channel)
        for i, (sample, y, x, t, potential, f) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
            place, rank = (sample, y, x), (t, -potential, f)
            if place not in best or rank < best[place]:
                best[place], chosen[place] = rank, i
        keep = np.zeros(events.n_events, bool)
        keep[list(chosen.values())] = True
        return events.where(keep)

    def winners(self, events: Events, k: int, radius: int) -> np.ndarray:
        """Choose up to ``k`` winners of every sample; see :meth:`Backend.winners`."""
        chosen = np.full((len(events), k, 4), -1, np.int64)
        for sample, rows in zip(_samples(events), chosen, strict=True):
            _choose(sample, rows, radius)
        return chosen

    def _learn(self, events: Events, order: np.ndarray, packed: np.ndarray, lesson: Lesson) -> np.ndarray:
        found = nobody(len(order), lesson.update.k)
        for start in range(0, len(order), lesson.batch):
            part = slice(start, start + lesson.batch)
            spikes = self._conv(events[order[part]], packed, lesson.neurons)
            positions = None if lesson.positions is None else lesson.positions[part]
            compete(self, spikes, lesson.update, positions, Found(found.winners[part], found.potential[part]))
            for index, winners, potential in zip(order[part], found.winners[part], found.potential[part], strict=True):
                apply_lesson(events[int(index)], winners, potential, packed, lesson)
        return found.winners


def _samples(events: Events) -> list[Events]:
    return [events[i] for i in range(len(events))]


def _spikes(sample: Events) -> Sequence[tuple[int, int, int, int]]:
    """Return the spikes as (t, c, y, x), in canonical order."""
    columns = (sample.time, sample.channel, sample.y, sample.x)
    return list(zip(*(c.tolist() for c in columns), strict=True))


def _windows(geometry: Geometry, shape: tuple[int, int, int], y: int, x: int) -> tuple[Any, Any]:
    """Return the output positions whose window holds input (y, x), and where in each window it lies.

    Both as open meshes, ``(oy, ox)`` and ``(ky, kx)``.
    """
    outputs, inside = [], []
    for axis, place in enumerate((y, x)):
        o = np.arange(shape[1 + axis])
        k = place - o * geometry.stride[axis] + geometry.padding[axis]
        reached = (k >= 0) & (k < geometry.kernel[axis])
        outputs.append(o[reached])
        inside.append(k[reached])
    return np.ix_(*outputs), np.ix_(*inside)


def _integrate_and_fire(
    sample: Events, weights: np.ndarray, neurons: Neurons, shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return latency (``_NEVER`` if silent) and potential at the spike of every neuron of one sample."""
    potential, at_spike = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    latency = np.full(shape, _NEVER)
    last = np.zeros(shape[1:], np.int64)  # before the first arrival the potential is 0, and decay leaves it so
    for t, spikes in groupby(_spikes(sample), key=itemgetter(0)):
        arrivals = [(c, *_windows(neurons.geometry, shape, y, x)) for _, c, y, x in spikes]
        reached = np.zeros(shape[1:], bool)
        for _, outputs, _ in arrivals:
            reached[outputs] = True
        _decay(potential, last, reached, t, neurons.leak)
        for c, (oy, ox), (ky, kx) in arrivals:
            potential[:, oy, ox] += weights[:, c, ky, kx]
        fires = (potential > neurons.threshold[:, None, None]) & (latency == _NEVER)
        latency[fires], at_spike[fires] = t, potential[fires]
    if neurons.at_end:
        _decay(potential, last, np.ones(shape[1:], bool), sample.duration - 1, neurons.leak)
        latency[potential > 0] = sample.duration - 1
        at_spike = potential
    return latency, at_spike


def _decay(potential: np.ndarray, last: np.ndarray, where: np.ndarray, t: int, leak: LeakTable | None) -> None:
    """Let the potentials at the positions ``where`` decay from their last arrival to ``t``, in place."""
    if leak is not None:
        for y, x in np.argwhere(where):
            potential[:, y, x] *= leak.factor(t - last[y, x])
        last[where] = t


def _fired(events: Events, latency: np.ndarray, potential: np.ndarray | None = None) -> Events:
    """Return latency maps (n, F, OH, OW), and potentials at the spikes, as a batch with the rest as ``events``."""
    sample, channel, y, x = np.nonzero(latency < _NEVER)
    return Events.from_columns(
        latency[sample, channel, y, x],
        channel,
        y,
        x,
        shape=latency.shape[1:],
        offsets=np.searchsorted(sample, np.arange(len(latency) + 1)),
        duration=events.duration,
        unit=events.unit,
        labels=events.labels,
        potential=None if potential is None else potential[sample, channel, y, x],
    )


def _potential(events: Events) -> np.ndarray:
    return np.zeros(events.n_events, np.float32) if events.potential is None else events.potential


def _choose(sample: Events, rows: np.ndarray, radius: int) -> None:
    """Write the winners of one sample into ``rows`` (k, 4)."""
    _, height, width = sample.shape
    time, f, y, x = (c.astype(np.int64) for c in (sample.time, sample.channel, sample.y, sample.x))
    flat = (f * height + y) * width + x
    order = np.lexsort((flat, -_potential(sample), time))
    excluded = np.zeros(len(order), bool)
    for row in rows:
        left = order[~excluded[order]]
        if len(left) == 0:
            return
        best = left[0]
        row[:] = f[best], y[best], x[best], time[best]
        excluded |= f == f[best]
        if radius > 0:
            excluded |= (abs(y - y[best]) <= radius) & (abs(x - x[best]) <= radius)
