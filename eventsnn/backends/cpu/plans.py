"""What kernels are told of a layer: all that does not depend on spikes is made once and kept as long as it holds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from eventsnn.backends import Geometry, Neurons
from eventsnn.backends.cpu._conv import Cells, quiet_spikes
from eventsnn.backends.cpu._emit import Sites, make_sites
from eventsnn.backends.cpu._fields import Columns, Sizes, Windows, make_sizes, make_windows
from eventsnn.backends.cpu._simd import LANES
from eventsnn.events import Events, Shape

if TYPE_CHECKING:
    from eventsnn.backends.cpu import Packed

_NOTHING = np.empty(0, np.float32)


class Prepared(NamedTuple):
    """A layer and a batch as kernels take them."""

    sizes: Sizes
    windows: Windows
    cells: Cells
    columns: Columns


@dataclass(frozen=True, eq=False)
class Plan:
    """A layer on a grid; ``quiet`` and ``weights`` as kernels take them."""

    sizes: Sizes
    windows: Windows
    cells: Cells
    sites: Sites
    quiet: np.ndarray
    weights: np.ndarray

    def prepared(self, events: Events) -> Prepared:
        """Return the layer and a batch."""
        return Prepared(self.sizes, self.windows, self.cells, columns_of(events))


def plan_of(events: Events, packed: Packed, neurons: Neurons) -> Plan:
    """Return what kernels are told of a layer, for events on a grid; it is kept with the weights.

    Thresholds are compared, since learning changes them in place.
    """
    key = neurons, neurons.threshold.tobytes(), events.shape, events.duration
    return packed.keep(key, lambda: _plan(events, packed, neurons))


def _plan(events: Events, packed: Packed, neurons: Neurons) -> Plan:
    sizes, windows, sites = grid_of(events.shape, neurons.geometry, len(neurons.threshold))
    cells = _cells(neurons, events.duration)
    return Plan(sizes, windows, cells, sites, quiet_spikes(packed.blocks, cells), packed.blocks.ravel())


def prepared(events: Events, neurons: Neurons, active: np.ndarray | None) -> Prepared:
    """Return a layer and a batch for learning, which may change the thresholds; only ``active`` maps may fire."""
    sizes, windows, _ = grid_of(events.shape, neurons.geometry, len(neurons.threshold))
    return Prepared(sizes, windows, _cells(neurons, events.duration, active), columns_of(events))


@lru_cache(maxsize=256)
def grid_of(shape: Shape, geometry: Geometry, maps: int) -> tuple[Sizes, Windows, Sites]:
    """Return the sizes of a layer on a grid, which outputs see what, and how keys of outputs are built."""
    output = geometry.output(*shape[1:])
    sizes = make_sizes(shape, geometry.kernel, geometry.stride, geometry.padding, output, maps)
    return sizes, make_windows(sizes), make_sites(maps, *output)


def columns_of(events: Events) -> Columns:
    """Return the columns of a batch."""
    return Columns(events.time, events.channel, events.y, events.x)


def most_spikes(events: Events) -> int:
    """Return how many spikes the largest sample has."""
    return events.n_events if len(events) == 1 else int(np.diff(events.offsets).max(initial=0))


def room_for(spikes: int) -> int:
    """Return a number of spikes to make room for, one of a few, so that the same memory serves many samples."""
    return 1 << max(8, (spikes - 1).bit_length())


def _cells(neurons: Neurons, duration: int, active: np.ndarray | None = None) -> Cells:
    maps = len(neurons.threshold)
    limit = np.full(-(-maps // LANES) * LANES, np.inf, np.float32)
    limit[:maps] = 0 if neurons.at_end else neurons.threshold
    if active is not None:
        limit[:maps][~active] = np.inf
    leak = neurons.leak
    tables = (_NOTHING, _NOTHING) if leak is None else (leak.coarse, leak.fine)
    return Cells(limit, neurons.at_end, duration - 1, *tables)
