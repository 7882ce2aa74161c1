"""The CPU backend: Numba loops over whole batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from eventsnn.backends import Backend, Decision, Geometry, Lesson, Neurons, Pooled
from eventsnn.backends.competition import Found
from eventsnn.backends.cpu._competition import choose_winners, pointwise_keep, pool_samples
from eventsnn.backends.cpu._conv import Cells, conv_samples, quiet_spikes
from eventsnn.backends.cpu._emit import Output, collected, make_pending, make_sites
from eventsnn.backends.cpu._fields import Columns, Sizes, Windows, make_fields, make_sizes, make_times, make_windows
from eventsnn.backends.cpu._simd import LANES, aligned
from eventsnn.backends.cpu.deciding import Bounds, decide
from eventsnn.backends.cpu.learning import Learning
from eventsnn.backends.cpu.pooling import conv_pool
from eventsnn.events import Events
from eventsnn.threads import default_threads


@dataclass(frozen=True, eq=False)
class Packed:
    """Weights as blocks of LANES maps: ``blocks[b, ((c * KH + ky) * KW + kx) * LANES + lane]``, padded with 0.

    ``bounds`` holds what ``decide`` made of these weights, None where it can make nothing; empty before.
    """

    blocks: np.ndarray
    shape: tuple[int, int, int, int]
    bounds: list[Bounds | None] = field(default_factory=list)


class Prepared(NamedTuple):
    """A layer and a batch as kernels take them."""

    sizes: Sizes
    windows: Windows
    cells: Cells
    columns: Columns


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

    def alone(self) -> Backend:
        """See :meth:`Backend.alone`."""
        return CpuBackend(threads=1)

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
        sizes = _sizes(events, neurons.geometry, len(neurons.threshold))
        windows, cells, columns = make_windows(sizes), _cells(neurons, events.duration), _columns(events)
        quiet, weights = quiet_spikes(packed.blocks, cells), packed.blocks.ravel()
        sites = make_sites(sizes.maps, sizes.oh, sizes.ow)
        counts, samples = np.zeros(len(events), np.int64), np.arange(len(events))
        fields = make_fields(sizes, windows, events.offsets, samples)
        pending = make_pending(sizes.maps * sizes.oh * sizes.ow)
        scratch = (fields, sites, pending, make_times(events.offsets, samples), np.zeros(LANES, np.float32))

        def run(s: int, output: Output) -> int:
            return conv_samples(
                columns, events.offsets, s, len(events), weights, quiet, sizes, windows, cells, scratch, output, counts
            )

        return collected(run, events, (sizes.maps, sizes.oh, sizes.ow), counts, with_potential=True)

    def _conv_pool(self, events: Events, packed: Packed, neurons: Neurons, geometry: Geometry, counted: bool) -> Pooled:
        found = conv_pool(events, packed, _prepared(events, neurons), geometry, counted)
        return super()._conv_pool(events, packed, neurons, geometry, counted) if found is None else found

    def pool(self, events: Events, geometry: Geometry) -> Events:
        """See :meth:`Backend.pool`."""
        sizes = _sizes(events, geometry, events.shape[0])
        windows, columns = make_windows(sizes), _columns(events)
        sites = make_sites(sizes.channels, sizes.oh, sizes.ow)
        counts, words = np.zeros(len(events), np.int64), -(-sizes.oh * sizes.ow // 64)
        fired, fresh = np.zeros(sizes.channels * words, np.int64), np.zeros(words, np.int64)

        def run(s: int, output: Output) -> int:
            return pool_samples(
                columns, events.offsets, s, len(events), sizes, windows, sites, fired, fresh, output, counts
            )

        return collected(run, events, (sizes.channels, sizes.oh, sizes.ow), counts, with_potential=False)

    def pointwise(self, events: Events) -> Events:
        """See :meth:`Backend.pointwise`."""
        _, height, width = events.shape
        keep, best = np.zeros(events.n_events, bool), np.full(height * width, -1, np.int64)
        pointwise_keep(_columns(events), _potential(events), events.offsets, width, best, keep)
        return events.where(keep)

    def winners(self, events: Events, k: int, radius: int) -> np.ndarray:
        """See :meth:`Backend.winners`."""
        winners = np.full((len(events), k, 4), -1, np.int64)
        won_in = np.full(events.shape[0], -1, np.int64)
        choose_winners(_columns(events), _potential(events), events.offsets, radius, won_in, winners)
        return winners

    def _decide(self, events: Events, packed: Packed, neurons: Neurons) -> Decision:
        found = decide(self, events, packed, _prepared(events, neurons), [(0, len(events))])
        return super()._decide(events, packed, neurons) if found is None else found

    def _learn(self, events: Events, order: np.ndarray, packed: Packed, lesson: Lesson) -> np.ndarray:
        packed.bounds.clear()
        return self._learning(events, order, packed, lesson).run()

    def _find(self, events: Events, packed: Packed, lesson: Lesson) -> Found:
        return self._learning(events, np.arange(len(events)), packed, lesson).find()

    def _change(self, events: Events, found: Found, packed: Packed, lesson: Lesson) -> Packed:
        packed.bounds.clear()
        self._learning(events, np.arange(len(events)), packed, lesson).change(found)
        return packed

    def _learning(self, events: Events, order: np.ndarray, packed: Packed, lesson: Lesson) -> Learning:
        return Learning(self, events, order, packed, lesson, _prepared(events, lesson.neurons, lesson.update.active))


def _columns(events: Events) -> Columns:
    return Columns(events.time, events.channel, events.y, events.x)


def _potential(events: Events) -> np.ndarray:
    return np.empty(0, np.float32) if events.potential is None else events.potential


def _prepared(events: Events, neurons: Neurons, active: np.ndarray | None = None) -> Prepared:
    sizes = _sizes(events, neurons.geometry, len(neurons.threshold))
    return Prepared(sizes, make_windows(sizes), _cells(neurons, events.duration, active), _columns(events))


def _sizes(events: Events, geometry: Geometry, maps: int) -> Sizes:
    output = geometry.output(*events.shape[1:])
    return make_sizes(events.shape, geometry.kernel, geometry.stride, geometry.padding, output, maps)


def _cells(neurons: Neurons, duration: int, active: np.ndarray | None = None) -> Cells:
    maps = len(neurons.threshold)
    limit = np.full(-(-maps // LANES) * LANES, np.inf, np.float32)
    limit[:maps] = 0 if neurons.at_end else neurons.threshold
    if active is not None:
        limit[:maps][~active] = np.inf
    nothing = np.empty(0, np.float32)
    tables: tuple[Any, Any] = (nothing, nothing)
    if neurons.leak is not None:
        tables = (neurons.leak.coarse, neurons.leak.fine)
    return Cells(limit, neurons.at_end, duration - 1, *tables)
