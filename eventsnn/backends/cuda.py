"""The CUDA backend: whole batches on a GPU, the same bits as the reference.

Kernels are in ``kernels.cu``; this launches them. Nothing here calls NumPy on what lies on the device.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from eventsnn.backends import Backend, Decision, Found, Geometry, LeakTable, Lesson, Neurons, Pooled
from eventsnn.backends.cuda_structures import (
    CANDIDATE,
    COLUMNS,
    LAYER,
    LEAK,
    NEVER,
    SPIKES,
    STAGED,
    WIDTH,
    Batch,
    Fields,
    Leak,
    Packed,
    dense_shape,
    grid_of,
    limits_of,
    pack_rows,
    positions_of,
    sizes_of,
    tables_of,
    too_large,
)
from eventsnn.backends.device import Device, cuda_device, structure
from eventsnn.events import Events, replace_fields

if TYPE_CHECKING:
    from eventsnn.backends.cuda_images import CudaImages
    from eventsnn.backends.cuda_learning import Learning

_DIGIT = 4  # bits of a radix pass
_BLOCKS = 1024  # that look for a layer's largest weight
_STRETCH = 64  # positions in which a thread finds the neurons of a map that fired

T = TypeVar("T")


def _there(method: Callable[..., T]) -> Callable[..., T]:
    """Let a method of the backend work on its device, which need not be the process's present one."""

    @wraps(method)
    def run(self: CudaBackend, *args: Any, **kwargs: Any) -> T:
        with self.here():
            return method(self, *args, **kwargs)

    return run


class CudaBackend(Backend):
    """CUDA kernels over CuPy arrays.

    Parameters
    ----------
    device : int or Device
        Number of the CUDA device, or what stands for one.

    Raises
    ------
    RuntimeError
        If CuPy or the device is missing.
    """

    def __init__(self, device: int | Device = 0) -> None:
        self.name = "cuda" if isinstance(device, Device) or device == 0 else f"cuda:{device}"
        self._device = device if isinstance(device, Device) else cuda_device(device)
        self.xp, self.failures = self._device.xp, self._device.failures

    def here(self) -> AbstractContextManager[Any]:
        """See :meth:`Backend.here`."""
        return self._device.current()

    @_there
    def put(self, array: Any) -> Any:
        """See :meth:`Backend.put`."""
        return self._device.upload(array)

    @_there
    def timed(self, work: Callable[[], T]) -> tuple[T, float]:
        """See :meth:`Backend.timed`."""
        self._device.wait()
        start = time.perf_counter()
        result = work()
        self._device.wait()
        return result, time.perf_counter() - start

    @_there
    def fetch(self, array: Any) -> np.ndarray:
        """See :meth:`Backend.fetch`."""
        return self.xp.asnumpy(array)

    @_there
    def select(self, events: Events, active: np.ndarray) -> Events:
        """See :meth:`Backend.select`."""
        return super().select(events, active)

    @property
    def images(self) -> CudaImages:
        """See :attr:`Backend.images`."""
        from eventsnn.backends.cuda_images import CudaImages

        return CudaImages(self)

    @_there
    def _pack(self, weights: np.ndarray) -> Packed:
        return Packed(self.xp.asarray(pack_rows(weights)), weights.shape)

    @_there
    def unpack(self, packed: Packed) -> np.ndarray:
        """See :meth:`Backend.unpack`."""
        rows = self.xp.asnumpy(packed.rows)
        return np.array(rows[:, : packed.shape[0]].T, order="C").reshape(packed.shape)

    def _packed_shape(self, packed: Packed) -> tuple[int, int, int, int]:
        return packed.shape

    @_there
    def _conv(self, events: Events, packed: Packed, neurons: Neurons) -> Events:
        sizes = sizes_of(events.shape, neurons.geometry, len(neurons.threshold))
        last_time = events.duration - 1 if neurons.at_end else -1

        def run(part: Events) -> Events:
            batch = self._batch(part)
            return self.collect(sizes, part, batch.rank, *self._integrate(sizes, batch, packed, neurons), last_time)

        return self._halving(run, events, sizes, self._joined)

    @_there
    def _conv_pool(self, events: Events, packed: Packed, neurons: Neurons, geometry: Geometry, counted: bool) -> Pooled:
        sizes = sizes_of(events.shape, neurons.geometry, len(neurons.threshold))
        grid = grid_of(sizes)
        pools, last_time = sizes_of(grid, geometry, grid[0]), events.duration - 1 if neurons.at_end else -1

        def run(part: Events) -> Pooled:
            batch = self._batch(part)
            when, _ = self._integrate(sizes, batch, packed, neurons)
            starts, of_sample, _ = self._count(sizes, len(part), when) if counted else (None, 1, None)
            pooled = self.xp.empty(dense_shape(pools, part), np.uint32)
            quads = pooled.size // WIDTH
            self._device.for_each("pool_fired", quads, pools, when, np.int64(quads), pooled)
            spikes = None if starts is None else np.diff(self.xp.asnumpy(starts[:: int(of_sample)]))
            return Pooled(self.collect(pools, part, batch.rank, pooled, last_time=last_time), spikes)

        def join(first: Pooled, second: Pooled) -> Pooled:
            both = self._joined(first.events, second.events)
            if first.spikes is None or second.spikes is None:
                return Pooled(both, None)
            return Pooled(both, np.concatenate([first.spikes, second.spikes]))

        return self._halving(run, events, sizes, join)

    @_there
    def _decide(self, events: Events, packed: Packed, neurons: Neurons) -> Decision:
        if not neurons.at_end:
            return super()._decide(events, packed, neurons)
        sizes = sizes_of(events.shape, neurons.geometry, len(neurons.threshold))

        def run(part: Events) -> Decision:
            when, potential = self._integrate(sizes, self._batch(part), packed, neurons)
            winners, spikes = self.xp.empty((len(part), 4), np.int64), self.xp.empty(len(part), np.int64)
            last_time = np.int64(part.duration - 1)
            args = (sizes, when, potential, last_time, winners, spikes)
            self._device.launch("decide_at_end", len(part), *args, shared=CANDIDATE)
            return Decision(self.xp.asnumpy(winners), self.xp.asnumpy(spikes))

        def join(first: Decision, second: Decision) -> Decision:
            return Decision(*(np.concatenate(pair) for pair in zip(first, second, strict=True)))

        return self._halving(run, events, sizes, join)

    @_there
    def pool(self, events: Events, geometry: Geometry) -> Events:
        """See :meth:`Backend.pool`."""
        sizes = sizes_of(events.shape, geometry, events.shape[0])

        def run(part: Events) -> Events:
            batch, when = self._batch(part), self.xp.full(dense_shape(sizes, part), NEVER, np.uint32)
            self._device.launch("pool_earliest", len(part), sizes, batch.spikes, when)
            return self.collect(sizes, part, batch.rank, when)

        return self._halving(run, events, sizes, self._joined)

    @_there
    def pointwise(self, events: Events) -> Events:
        """See :meth:`Backend.pointwise`."""
        sizes, device = sizes_of(events.shape, Geometry((1, 1)), events.shape[0]), self._device

        def run(part: Events) -> Events:
            batch, n = self._batch(part), len(part)
            places = n * positions_of(sizes)
            best, chosen = (self.xp.full(places, ones, type(ones)) for ones in (~np.uint64(0), np.uint32(NEVER)))
            keep = self.xp.empty(part.n_events, bool)
            device.launch("pointwise_best", n, sizes, batch.spikes, part.potential, best)
            device.launch("pointwise_first", n, sizes, batch.spikes, part.potential, best, chosen)
            device.launch("pointwise_keep", n, sizes, batch.spikes, chosen, keep)
            return part.where(keep)

        return self._halving(run, events, sizes, self._joined)

    @_there
    def winners(self, events: Events, k: int, radius: int) -> np.ndarray:
        """See :meth:`Backend.winners`."""
        sizes = sizes_of(events.shape, Geometry((1, 1)), events.shape[0])

        def run(part: Events) -> np.ndarray:
            batch, winners = self._batch(part), self.xp.full((len(part), k, 4), -1, np.int64)
            excluded = self.xp.zeros(part.n_events, np.uint8)
            args = (sizes, batch.spikes, part.potential, np.int32(k), np.int32(radius), excluded, winners)
            self._device.launch("choose_winners", len(part), *args, shared=CANDIDATE)
            return self.xp.asnumpy(winners)

        return self._halving(run, events, sizes, lambda a, b: np.concatenate([a, b]))

    @_there
    def _learn(self, events: Events, order: np.ndarray, packed: Packed, lesson: Lesson) -> np.ndarray:
        return self._learning(events, order, packed, lesson).run()

    @_there
    def _find(self, events: Events, packed: Packed, lesson: Lesson) -> Found:
        return self._mini_batch(events, packed, lesson).find()

    @_there
    def _change(self, events: Events, found: Found, packed: Packed, lesson: Lesson) -> Packed:
        self._mini_batch(events, packed, lesson).change(found)
        return packed

    def _mini_batch(self, events: Events, packed: Packed, lesson: Lesson) -> Learning:
        whole = lesson._replace(batch=max(len(events), 2))  # 1 is online
        return self._learning(events, np.arange(len(events)), packed, whole)

    def _learning(self, events: Events, order: np.ndarray, packed: Packed, lesson: Lesson) -> Learning:
        from eventsnn.backends.cuda_learning import Learning

        return Learning(self, self._device, events, order, packed, lesson)

    def _halving(self, run: Callable[[Events], T], events: Events, sizes: np.ndarray, join: Callable[[T, T], T]) -> T:
        """Run a batch; where the device has not enough memory for that, one half and then the other."""
        try:
            return run(events)
        except MemoryError as error:
            if len(events) <= 1:
                raise MemoryError(too_large(events, sizes)) from error
        # Here the error is gone, and with it the arrays of what failed.
        middle = len(events) // 2
        halves = (self._halving(run, part, sizes, join) for part in (events[:middle], events[middle:]))
        return join(*halves)

    def _joined(self, first: Events, second: Events) -> Events:
        join, columns = self.xp.concatenate, {}
        for name in ("time", "channel", "y", "x", "labels", "potential"):
            pair = [getattr(events, name) for events in (first, second)]
            columns[name] = None if pair[0] is None else join(pair)
        offsets = join([first.offsets, second.offsets[1:] + first.n_events])
        return replace_fields(first, **columns, offsets=offsets)

    def _batch(self, events: Events) -> Batch:
        rank = self.xp.empty(events.n_events, np.int32)
        self._device.launch("rank_times", len(events), events.time, events.offsets, rank, shared=4)
        columns = (events.time, events.channel, events.y, events.x, events.offsets, rank)
        return Batch(events, rank, structure(SPIKES, *columns))

    def _leak(self, leak: LeakTable | None) -> Leak | None:
        if leak is None:
            return None
        coarse, fine = self.xp.asarray(leak.coarse), self.xp.asarray(leak.fine)
        return Leak((coarse, fine), structure(LEAK, coarse, fine, len(leak.coarse), len(leak.fine)))

    def _fields(self, sizes: np.ndarray, batch: Batch, leak: Leak | None) -> Fields:
        """List the spikes that each position sees."""
        xp, device, n = self.xp, self._device, len(batch.events)
        positions = positions_of(sizes)
        tiles = np.int32(-(-positions // device.threads))
        counts = xp.zeros(n * positions + 1, np.int64)
        device.launch("count_fields", n * int(tiles), sizes, batch.spikes, tiles, counts, shared=STAGED)
        starts = xp.cumsum(counts)
        total = device.last(starts)
        rows, spikes = xp.empty(total, np.int32), xp.empty(total, np.int32)
        decay = None if leak is None else xp.empty(total, np.float32)
        args = (sizes, batch.spikes, tiles, tables_of(leak), starts, rows, spikes, decay)
        device.launch("fill_fields", n * int(tiles), *args, shared=STAGED)
        return Fields(starts, rows, spikes, decay)

    def _integrate(self, sizes: np.ndarray, batch: Batch, packed: Packed, neurons: Neurons) -> tuple[Any, Any]:
        """Run all neurons; return after which spike each fires, and its potential then, by (place, padded map)."""
        leak = self._leak(neurons.leak)
        fields = self._fields(sizes, batch, leak)
        events, limit = batch.events, self.xp.asarray(limits_of(neurons))
        when = self.xp.empty(dense_shape(sizes, events), np.uint32)
        potential = self.xp.empty(dense_shape(sizes, events), np.float32)
        quiet = None if neurons.at_end or leak else self.quiet(packed, neurons.threshold.min())
        layer = structure(LAYER, *fields, packed.rows, limit, quiet)
        places, quads = len(events) * positions_of(sizes), int(sizes["padded"][0]) // WIDTH
        bits = min((quads - 1).bit_length(), self._device.threads.bit_length() - 1)
        blocks = (-(-(places << bits) // self._device.threads), -(-quads >> bits))
        name = "conv" + "_leaky" * (leak is not None) + "_at_end" * neurons.at_end
        last_time = np.int64(events.duration - 1)
        args = (sizes, batch.spikes, tables_of(leak), last_time, layer, np.int64(places), np.int32(bits))
        self._device.launch(name, blocks, *args, when, potential)
        return when, potential

    def quiet(self, packed: Packed, lowest: np.float32, upper: np.float32 | None = None) -> Any:
        """Return on the device how many spikes surely leave all potentials at or below the ``lowest`` threshold.

        No weight is above the largest of now and, if they may learn, ``upper``.
        """
        bound = -np.inf if upper is None else upper
        sign, bits = np.signbit(bound), int(np.float32(bound).view(np.uint32))
        largest = self.xp.full(1, bits ^ 0xFFFFFFFF if sign else bits | 1 << 31, np.uint32)
        quiet, each = self.xp.empty(1, np.int64), _STRETCH * self._device.threads
        blocks = min(-(-packed.rows.size // each), _BLOCKS)
        self._device.launch("find_largest", blocks, packed.rows, np.int64(packed.rows.size), largest)
        self._device.for_each("find_quiet", 1, largest, np.float32(lowest), quiet)
        return quiet

    def gather(self, sizes: np.ndarray, n: int, when: Any) -> tuple[Any, np.int32, Any]:
        """Find in dense scratch what fired in each of ``n`` samples.

        Returns
        -------
        starts, of_sample, fired
            Where the parts of ``fired`` begin, how many parts a sample has, and (flat index, spike) of each neuron that
            fired, by sample and flat index.
        """
        starts, of_sample, finding = self._count(sizes, n, when)
        fired = self.xp.empty((self._device.last(starts), 2), np.uint32)
        self._device.for_each("gather_fired", n * int(of_sample), *finding, starts, fired)
        return starts, of_sample, fired

    def _count(self, sizes: np.ndarray, n: int, when: Any) -> tuple[Any, np.int32, tuple[Any, ...]]:
        """Return the starts of :meth:`gather`, how many a sample has, and what tells kernels of these parts."""
        length = min(_STRETCH, self._device.threads)
        stretches = -(-positions_of(sizes) // length)
        each = n * int(sizes["maps"][0]) * stretches
        finding = (sizes, when, np.int64(each), np.int32(length), np.int32(stretches))
        counts = self.xp.zeros(each + 1, np.int64)
        self._device.for_each("count_fired", each, *finding, counts)
        return self.xp.cumsum(counts), np.int32(int(sizes["maps"][0]) * stretches), finding

    def sort(
        self, n: int, starts: Any, of_sample: np.int32, fired: Any, shift: int, by: tuple[Any, Any] = (None, None)
    ) -> Any:
        """Return ``fired`` sorted, stably, by four bits of its spike, or of its rank given ``by`` (offsets, ranks)."""
        to = self.xp.empty(fired.shape, np.uint32)
        args = (starts, of_sample, *by, np.int32(shift), fired, to)
        self._device.launch("sort_digit", n, *args, shared=4 * ((1 << _DIGIT) + 1))
        return to

    def collect(
        self, sizes: np.ndarray, events: Events, rank: Any, when: Any, potential: Any = None, last_time: int = -1
    ) -> Events:
        """Return who fired after which of ``events``, in canonical order; at ``last_time`` if that is not negative."""
        xp, n = self.xp, len(events)
        starts, of_sample, fired = self.gather(sizes, n, when)
        distinct = 1 if last_time >= 0 else min(events.duration, events.n_events)
        for shift in range(0, (distinct - 1).bit_length(), _DIGIT):
            fired = self.sort(n, starts, of_sample, fired, shift, (events.offsets, rank))
        columns = {"time": xp.empty(len(fired), np.int64)}
        columns |= {name: xp.empty(len(fired), np.uint16) for name in ("channel", "y", "x")}
        columns["potential"] = None if potential is None else xp.empty(len(fired), np.float32)
        fires = (fired, potential, events.time, events.offsets, np.int64(last_time))
        self._device.launch("emit", n, sizes, starts, of_sample, *fires, structure(COLUMNS, *columns.values()))
        return Events.unchecked(
            **columns,
            offsets=starts[:: int(of_sample)].copy(),
            shape=grid_of(sizes),
            duration=events.duration,
            unit=events.unit,
            labels=events.labels,
        )
