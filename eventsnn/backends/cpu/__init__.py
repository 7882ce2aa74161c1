"""The CPU backend: Numba loops over whole batches."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from eventsnn.backends import Backend, Decision, Geometry, Lesson, Neurons, Pooled
from eventsnn.backends.competition import Found
from eventsnn.backends.cpu._competition import choose_winners, pointwise_keep, pool_samples
from eventsnn.backends.cpu._conv import conv_samples
from eventsnn.backends.cpu._emit import Output, collected, make_pending
from eventsnn.backends.cpu._fields import fields_for
from eventsnn.backends.cpu._simd import LANES, aligned
from eventsnn.backends.cpu.deciding import Held, decide
from eventsnn.backends.cpu.learning import Learning
from eventsnn.backends.cpu.plans import (
    Plan,
    Prepared,
    columns_of,
    grid_of,
    most_spikes,
    plan_of,
    prepared,
    room_for,
)
from eventsnn.backends.cpu.pooling import conv_pool
from eventsnn.events import Events
from eventsnn.memory import kept
from eventsnn.threads import default_threads

__all__ = ["CpuBackend", "Packed", "Prepared"]

T = TypeVar("T")
_MOST_PLANS = 16  # of a layer; thresholds or durations that change at each call must not fill the memory


@dataclass(frozen=True, eq=False)
class Packed:
    """Weights as blocks of LANES maps: ``blocks[b, ((c * KH + ky) * KW + kx) * LANES + lane]``, padded with 0.

    ``held`` is what ``decide`` made of these weights.
    """

    blocks: np.ndarray
    shape: tuple[int, int, int, int]
    held: Held = field(default_factory=Held)
    _plans: dict[Hashable, Any] = field(default_factory=dict)

    def keep(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what ``make`` makes of these weights, the same at each call with the same key."""
        known: T | None = self._plans.get(key)
        if known is None:
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            known = self._plans[key] = make()
        return known

    def forget(self) -> None:
        """Let go what was made of weights that have changed in place."""
        self.held.clear()
        self._plans.clear()


class CpuBackend(Backend):
    """Numba kernels over NumPy arrays.

    Parameters
    ----------
    threads : int, optional
        Threads that share what goes through a network, each a part of the samples through all layers, and mini-batches
        that a layer learns; default ``EVENTSNN_THREADS``, else the CPUs this process may use. The backend's own methods
        compute in the caller's thread, but for :meth:`learn` and :meth:`find`. Results do not depend on it.
    """

    name = "cpu"
    xp = np

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or default_threads()

    def _pack(self, weights: np.ndarray) -> Packed:
        maps = len(weights)
        n_blocks, n_rows = -(-maps // LANES), int(np.prod(weights.shape[1:]))
        padded = np.zeros((n_rows, n_blocks * LANES), np.float32)
        padded[:, :maps] = weights.reshape(maps, -1).T
        blocks = aligned(padded.size).reshape(n_blocks, n_rows, LANES)
        blocks[:] = padded.reshape(n_rows, n_blocks, LANES).transpose(1, 0, 2)
        return Packed(blocks.reshape(n_blocks, -1), weights.shape)

    def unpack(self, packed: Packed) -> np.ndarray:
        """See :meth:`Backend.unpack`."""
        n_blocks = len(packed.blocks)
        rows = packed.blocks.reshape(n_blocks, -1, LANES).transpose(1, 0, 2).reshape(-1, n_blocks * LANES)
        # A copy always: with one weight a map, the rows turned over are contiguous as they are.
        return np.array(rows[:, : packed.shape[0]].T, order="C").reshape(packed.shape)

    def _packed_shape(self, packed: Packed) -> tuple[int, int, int, int]:
        return packed.shape

    def _conv(self, events: Events, packed: Packed, neurons: Neurons) -> Events:
        plan, room = plan_of(events, packed, neurons), room_for(most_spikes(events))
        columns, sizes, last = columns_of(events), plan.sizes, len(events)
        rest = kept(("conv", sizes, room), lambda: _conv_scratch(plan, room))
        scratch = (rest[0], plan.sites, *rest[1:])

        def run(s: int, output: Output, counts: np.ndarray) -> int:
            return conv_samples(
                *(columns, events.offsets, s, last, plan.weights, plan.quiet, sizes, plan.windows, plan.cells),
                *(scratch, output, counts),
            )

        return collected(run, events, (sizes.maps, sizes.oh, sizes.ow), with_potential=True)

    def _conv_pool(self, events: Events, packed: Packed, neurons: Neurons, geometry: Geometry, counted: bool) -> Pooled:
        found = conv_pool(events, packed, plan_of(events, packed, neurons), geometry, counted)
        return super()._conv_pool(events, packed, neurons, geometry, counted) if found is None else found

    def pool(self, events: Events, geometry: Geometry) -> Events:
        """See :meth:`Backend.pool`."""
        sizes, windows, sites = grid_of(events.shape, geometry, events.shape[0])
        columns, last, words = columns_of(events), len(events), -(-sizes.oh * sizes.ow // 64)
        bits = kept(("pool", sizes), lambda: (np.zeros(sizes.maps * words, np.int64), np.zeros(words, np.int64)))

        def run(s: int, output: Output, counts: np.ndarray) -> int:
            return pool_samples(columns, events.offsets, s, last, sizes, windows, sites, *bits, output, counts)

        return collected(run, events, (sizes.maps, sizes.oh, sizes.ow), with_potential=False)

    def pointwise(self, events: Events) -> Events:
        """See :meth:`Backend.pointwise`."""
        _, height, width = events.shape
        keep, best = np.zeros(events.n_events, bool), np.full(height * width, -1, np.int64)
        pointwise_keep(columns_of(events), _potential(events), events.offsets, width, best, keep)
        return events.where(keep)

    def winners(self, events: Events, k: int, radius: int) -> np.ndarray:
        """See :meth:`Backend.winners`."""
        winners = np.full((len(events), k, 4), -1, np.int64)
        won_in = np.full(events.shape[0], -1, np.int64)
        choose_winners(columns_of(events), _potential(events), events.offsets, radius, won_in, winners)
        return winners

    def _decide(self, events: Events, packed: Packed, neurons: Neurons) -> Decision:
        layer = plan_of(events, packed, neurons).prepared(events)
        found = decide(self, events, packed, layer)
        return super()._decide(events, packed, neurons) if found is None else found

    def _learn(self, events: Events, order: np.ndarray, packed: Packed, lesson: Lesson) -> np.ndarray:
        return self._learning(events, order, packed, lesson).run()

    def _find(self, events: Events, packed: Packed, lesson: Lesson) -> Found:
        return self._learning(events, np.arange(len(events)), packed, lesson).find()

    def _change(self, events: Events, found: Found, packed: Packed, lesson: Lesson) -> Packed:
        self._learning(events, np.arange(len(events)), packed, lesson).change(found)
        return packed

    def _learning(self, events: Events, order: np.ndarray, packed: Packed, lesson: Lesson) -> Learning:
        return Learning(self, events, order, packed, lesson, prepared(events, lesson.neurons, lesson.update.active))


def _potential(events: Events) -> np.ndarray:
    return np.empty(0, np.float32) if events.potential is None else events.potential


def _conv_scratch(plan: Plan, room: int) -> tuple[Any, ...]:
    """Return what ``conv_samples`` writes to, but for the output, with room for so many spikes of a sample."""
    sizes = plan.sizes
    pending = make_pending(sizes.maps * sizes.oh * sizes.ow)
    return (
        fields_for(sizes, plan.windows, room),
        pending,
        np.empty(room + 1, np.int64),
        np.zeros(LANES, np.float32),
    )
