"""The CUDA backend: whole batches on a GPU, the same bits as the reference.

Kernels are in ``kernels.cu``; this launches them. Nothing here calls NumPy on what lies on the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from eventsnn.backends import Backend, Geometry, LeakTable, Lesson, Neurons
from eventsnn.backends.device import Device, cuda_device, record, structure
from eventsnn.events import Events

WIDTH = 4  # maps that a thread computes, as in kernels.cu
_DIGIT = 4  # bits of a radix pass
_NEVER = 0xFFFFFFFF
_STAGED = 24  # bytes of shared memory for each spike that a block looks at, and its scan

_SIZES = record("channels height width kh kw sh sw ph pw oh ow maps padded")
_SPIKES = record(pointers="time channel y x offsets rank")
_LEAK = record("n_coarse n_fine", "coarse fine")
_LAYER = record("", "starts rows spikes decay weights limit largest", ("lowest", "f4"))
_COLUMNS = record(pointers="time channel y x potential")


@dataclass(frozen=True, eq=False)
class Packed:
    """Weights on the device, ``rows[(c * KH + ky) * KW + kx, map]``, maps padded with 0 to a multiple of WIDTH."""

    rows: Any
    shape: tuple[int, int, int, int]


class Batch(NamedTuple):
    """A batch as kernels take it; ``spikes`` is the C structure of the arrays."""

    events: Events
    rank: Any
    spikes: np.ndarray


class Leak(NamedTuple):
    """A leak's tables on the device; ``tables`` is the C structure of them."""

    arrays: tuple[Any, Any]
    tables: np.ndarray


class Fields(NamedTuple):
    """Lists of spikes by place (sample, position), see ``fill_fields`` in kernels.cu."""

    starts: Any
    rows: Any
    spikes: Any
    decay: Any


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
        self.xp = self._device.xp

    def _pack(self, weights: np.ndarray) -> Packed:
        maps = len(weights)
        rows = np.zeros((int(np.prod(weights.shape[1:])), _padded(maps)), np.float32)
        rows[:, :maps] = weights.reshape(maps, -1).T
        return Packed(self.xp.asarray(rows), weights.shape)

    def unpack(self, packed: Packed) -> np.ndarray:
        """See :meth:`Backend.unpack`."""
        rows = self.xp.asnumpy(packed.rows)
        return np.array(rows[:, : packed.shape[0]].T, order="C").reshape(packed.shape)

    def _packed_shape(self, packed: Packed) -> tuple[int, int, int, int]:
        return packed.shape

    def _conv(self, events: Events, packed: Packed, neurons: Neurons) -> Events:
        sizes = _sizes(events, neurons.geometry, len(neurons.threshold))
        batch, leak = self._batch(events), self._leak(neurons.leak)
        fields = self._fields(sizes, batch, leak)
        when, potential = self._integrate(sizes, batch, leak, fields, packed, neurons)
        last_time = events.duration - 1 if neurons.at_end else -1
        return self._collect(sizes, batch, when, potential, last_time)

    def pool(self, events: Events, geometry: Geometry) -> Events:
        """See :meth:`Backend.pool`."""
        sizes, batch = _sizes(events, geometry, events.shape[0]), self._batch(events)
        when = self.xp.full(_dense(sizes, events), _NEVER, np.uint32)
        self._device.launch("pool_earliest", len(events), sizes, batch.spikes, when)
        return self._collect(sizes, batch, when, None, -1)

    def pointwise(self, events: Events) -> Events:
        """See :meth:`Backend.pointwise`."""
        sizes, batch, n = _sizes(events, Geometry((1, 1)), events.shape[0]), self._batch(events), len(events)
        places = n * events.shape[1] * events.shape[2]
        best, chosen = (self.xp.full(places, ones, type(ones)) for ones in (~np.uint64(0), np.uint32(_NEVER)))
        keep = self.xp.empty(events.n_events, bool)
        self._device.launch("pointwise_best", n, sizes, batch.spikes, events.potential, best)
        self._device.launch("pointwise_first", n, sizes, batch.spikes, events.potential, best, chosen)
        self._device.launch("pointwise_keep", n, sizes, batch.spikes, chosen, keep)
        return events.where(keep)

    def winners(self, events: Events, k: int, radius: int) -> np.ndarray:
        """See :meth:`Backend.winners`."""
        sizes, batch = _sizes(events, Geometry((1, 1)), events.shape[0]), self._batch(events)
        winners = self.xp.full((len(events), k, 4), -1, np.int64)
        excluded = self.xp.zeros(events.n_events, np.uint8)
        args = (sizes, batch.spikes, events.potential, np.int32(k), np.int32(radius), excluded, winners)
        self._device.launch("choose_winners", len(events), *args, shared=16)
        return self.xp.asnumpy(winners)

    def _learn(self, events: Events, order: np.ndarray, packed: Packed, lesson: Lesson) -> np.ndarray:
        raise RuntimeError("the cuda backend does not learn yet; use backend='cpu'")

    def _batch(self, events: Events) -> Batch:
        rank = self.xp.empty(events.n_events, np.int32)
        self._device.launch("rank_times", len(events), events.time, events.offsets, rank, shared=4)
        columns = (events.time, events.channel, events.y, events.x, events.offsets, rank)
        return Batch(events, rank, structure(_SPIKES, *columns))

    def _leak(self, leak: LeakTable | None) -> Leak | None:
        if leak is None:
            return None
        coarse, fine = self.xp.asarray(leak.coarse), self.xp.asarray(leak.fine)
        return Leak((coarse, fine), structure(_LEAK, coarse, fine, len(leak.coarse), len(leak.fine)))

    def _fields(self, sizes: np.ndarray, batch: Batch, leak: Leak | None) -> Fields:
        """List the spikes that each position sees."""
        xp, device, n = self.xp, self._device, len(batch.events)
        positions = _positions(sizes)
        tiles = np.int32(-(-positions // device.threads))
        counts = xp.zeros(n * positions + 1, np.int64)
        device.launch("count_fields", n * int(tiles), sizes, batch.spikes, tiles, counts, shared=_STAGED)
        starts = xp.cumsum(counts)
        total = device.last(starts)
        rows, spikes = xp.empty(total, np.int32), xp.empty(total, np.int32)
        decay = None if leak is None else xp.empty(total, np.float32)
        args = (sizes, batch.spikes, tiles, _tables(leak), starts, rows, spikes, decay)
        device.launch("fill_fields", n * int(tiles), *args, shared=_STAGED)
        return Fields(starts, rows, spikes, decay)

    def _integrate(
        self, sizes: np.ndarray, batch: Batch, leak: Leak | None, fields: Fields, packed: Packed, neurons: Neurons
    ) -> tuple[Any, Any]:
        """Run all neurons; return after which spike each fires, and its potential then, by (place, padded map)."""
        events, limit = batch.events, self.xp.asarray(_limit(neurons))
        when = self.xp.empty(_dense(sizes, events), np.uint32)
        potential = self.xp.empty(_dense(sizes, events), np.float32)
        largest = packed.rows.max()
        layer = structure(_LAYER, *fields, packed.rows, limit, largest, float(_limit(neurons).min()))
        places, quads = len(events) * _positions(sizes), int(sizes["padded"][0]) // WIDTH
        lanes = min(1 << (quads - 1).bit_length(), self._device.threads)
        blocks = (-(-places * lanes // self._device.threads), -(-quads // lanes))
        name = "conv" + "_leaky" * (leak is not None) + "_at_end" * neurons.at_end
        last_time = np.int64(events.duration - 1)
        args = (sizes, batch.spikes, _tables(leak), last_time, layer, np.int64(places), np.int32(lanes))
        self._device.launch(name, blocks, *args, when, potential)
        return when, potential

    def _collect(self, sizes: np.ndarray, batch: Batch, when: Any, potential: Any, last_time: int) -> Events:
        """Return the neurons that fired, in canonical order; all at ``last_time`` if that is not negative."""
        xp, device, events = self.xp, self._device, batch.events
        maps, n = int(sizes["maps"][0]), len(events)
        counts = xp.zeros(n * maps + 1, np.int64)
        device.for_each("count_fired", n * maps, sizes, when, np.int64(n * maps), counts)
        starts = xp.cumsum(counts)
        total = device.last(starts)
        fired, other = xp.empty((total, 2), np.uint32), xp.empty((total, 2), np.uint32)
        device.for_each("gather_fired", n * maps, sizes, when, np.int64(n * maps), starts, fired)
        distinct = 1 if last_time >= 0 else min(events.duration, events.n_events)
        for shift in range(0, (distinct - 1).bit_length(), _DIGIT):
            args = (starts, np.int32(maps), events.offsets, batch.rank, np.int32(shift), fired, other)
            device.launch("sort_digit", n, *args, shared=4 * ((1 << _DIGIT) + 1))
            fired, other = other, fired
        columns = {name: xp.empty(total, np.uint16) for name in ("channel", "y", "x")}
        columns = {"time": xp.empty(total, np.int64)} | columns
        columns["potential"] = None if potential is None else xp.empty(total, np.float32)
        out = structure(_COLUMNS, *columns.values())
        fires = (events.time, events.offsets, np.int64(last_time))
        device.launch("emit", n, sizes, starts, fired, potential, *fires, out)
        shape = tuple(int(sizes[name][0]) for name in ("maps", "oh", "ow"))
        return Events.unchecked(
            **columns,
            offsets=starts[::maps].copy(),
            shape=shape,
            duration=events.duration,
            unit=events.unit,
            labels=events.labels,
        )


def _padded(maps: int) -> int:
    return -(-maps // WIDTH) * WIDTH


def _sizes(events: Events, geometry: Geometry, maps: int) -> np.ndarray:
    output = geometry.output(*events.shape[1:])
    window = (*geometry.kernel, *geometry.stride, *geometry.padding)
    return structure(_SIZES, *events.shape, *window, *output, maps, _padded(maps))


def _positions(sizes: np.ndarray) -> int:
    return int(sizes["oh"][0]) * int(sizes["ow"][0])


def _dense(sizes: np.ndarray, events: Events) -> tuple[int, int]:
    return len(events) * _positions(sizes), int(sizes["padded"][0])


def _tables(leak: Leak | None) -> np.ndarray:
    return structure(_LEAK, 0, 0, 0, 0) if leak is None else leak.tables


def _limit(neurons: Neurons) -> np.ndarray:
    limit = np.full(_padded(len(neurons.threshold)), np.inf, np.float32)
    limit[: len(neurons.threshold)] = 0 if neurons.at_end else neurons.threshold
    return limit
