"""Values and C structures in which the kernels of ``kernels.cu`` are told of layers, batches and lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from eventsnn.backends.device import record, structure
from eventsnn.backends.neurons import Geometry, Neurons
from eventsnn.events import Events, Shape

WIDTH = 4  #: maps that a thread computes, as in kernels.cu
NEVER = 0xFFFFFFFF  #: in place of a spike: the neuron is silent
STAGED = 24  #: bytes of shared memory for each spike that a block looks at, and its scan
CANDIDATE = 16  #: bytes of a spike that may win

SIZES = record("channels height width kh kw sh sw ph pw oh ow maps padded")
SPIKES = record(pointers="time channel y x offsets rank")
LEAK = record("n_coarse n_fine", "coarse fine")
LAYER = record(pointers="starts rows spikes decay weights limit quiet")
COLUMNS = record(pointers="time channel y x potential")


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


def _padded(maps: int) -> int:
    return -(-maps // WIDTH) * WIDTH


def pack_rows(weights: np.ndarray) -> np.ndarray:
    """Return weights (maps, channels, kernel height, kernel width) in the layout of :class:`Packed`, on the host."""
    maps = len(weights)
    rows = np.zeros((int(np.prod(weights.shape[1:])), _padded(maps)), np.float32)
    rows[:, :maps] = weights.reshape(maps, -1).T
    return rows


def sizes_of(shape: Shape, geometry: Geometry, maps: int) -> np.ndarray:
    """Return the sizes of a layer as kernels take them; ``shape`` is that of its input."""
    output = geometry.output(*shape[1:])
    window = (*geometry.kernel, *geometry.stride, *geometry.padding)
    return structure(SIZES, *shape, *window, *output, maps, _padded(maps))


def grid_of(sizes: np.ndarray) -> Shape:
    """Return the output grid (maps, rows, columns) of a layer."""
    return int(sizes["maps"][0]), int(sizes["oh"][0]), int(sizes["ow"][0])


def positions_of(sizes: np.ndarray) -> int:
    """Return the number of positions of a layer's output."""
    return int(sizes["oh"][0]) * int(sizes["ow"][0])


def dense_shape(sizes: np.ndarray, events: Events) -> tuple[int, int]:
    """Return the shape (places, padded maps) of dense scratch for a batch."""
    return len(events) * positions_of(sizes), int(sizes["padded"][0])


def too_large(events: Events, sizes: np.ndarray) -> str:
    """Return what to say if the device has not enough memory for one sample."""
    neurons = int(sizes["maps"][0]) * positions_of(sizes)
    (kh, kw), (sh, sw) = ((int(sizes[a][0]), int(sizes[b][0])) for a, b in (("kh", "kw"), ("sh", "sw")))
    synapses = events.n_events * -(-kh // sh) * -(-kw // sw)
    return (
        f"the device has not enough memory for one sample: {events.n_events} spikes for {neurons} neurons need about "
        f"{dense_shape(sizes, events)[1] * positions_of(sizes) * 8 / 2**20:.1f} MiB for the neurons and up to "
        f"{synapses * 8 / 2**20:.1f} MiB for their receptive fields"
    )


def tables_of(leak: Leak | None) -> np.ndarray:
    """Return the C structure of a leak's tables, of none without a leak."""
    return structure(LEAK, 0, 0, 0, 0) if leak is None else leak.tables


def limits_of(neurons: Neurons) -> np.ndarray:
    """Return the padded limits of a layer: thresholds, or 0 if its neurons fire at the end."""
    limit = np.full(_padded(len(neurons.threshold)), np.inf, np.float32)
    limit[: len(neurons.threshold)] = 0 if neurons.at_end else neurons.threshold
    return limit
