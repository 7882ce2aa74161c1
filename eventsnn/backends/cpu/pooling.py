"""One call of ``conv_pool``: neurons and the pool after them in one pass, where that is to be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eventsnn.backends import Geometry, Pooled
from eventsnn.backends.cpu._conv import quiet_spikes
from eventsnn.backends.cpu._emit import Output, fill, make_pending, make_sites
from eventsnn.backends.cpu._fields import make_sizes, make_times, make_windows
from eventsnn.backends.cpu._pooled import conv_pool_samples, make_panes, row_bits
from eventsnn.backends.cpu._sieve import for_task, make_sieve
from eventsnn.backends.cpu._sift import make_lists
from eventsnn.backends.cpu._simd import LANES, NEVER
from eventsnn.events import Events

if TYPE_CHECKING:
    from eventsnn.backends.cpu import CpuBackend, Packed, Prepared


def conv_pool(
    backend: CpuBackend, events: Events, packed: Packed, layer: Prepared, geometry: Geometry, counted: bool
) -> Pooled | None:
    """Return what ``Backend.conv_pool`` does, or None where neurons and pool must run one after the other."""
    bits = row_bits(layer.sizes)
    if not _can(events, packed, layer, bits):
        return None
    grid = (layer.sizes.maps, layer.sizes.oh, layer.sizes.ow)
    pool = make_sizes(grid, geometry.kernel, geometry.stride, geometry.padding, geometry.output(*grid[1:]), grid[0])
    panes, sizes = make_panes(pool), layer.sizes
    if not counted:  # no window holds what lies beyond
        sizes = sizes._replace(oh=max(1, int(panes.y_end.max())), ow=max(1, int(panes.x_end.max())))
    windows, sites = make_windows(sizes), make_sites(pool.maps, pool.oh, pool.ow)
    whole, quiet = (sizes, layer.cells.limit), quiet_spikes(packed.blocks, layer.cells)
    weights, counts = packed.blocks.ravel(), np.zeros(len(events), np.int64)
    spikes = np.zeros(len(events) if counted else 0, np.int64)
    most = pool.maps * pool.oh * pool.ow
    sieve = make_sieve(packed.blocks, layer.cells.limit, sizes, len(events))

    def task(first: int, last: int) -> list[Output]:
        samples = np.arange(first, last)
        lists = make_lists(sizes, windows, int(np.diff(events.offsets)[samples].max(initial=0)))
        times = make_times(events.offsets, samples)
        found = np.empty(sizes.oh * sizes.ow * LANES, np.int32), np.empty(LANES, np.int32)
        scratch = (lists, for_task(sieve), sites, make_pending(most), times, *found)

        def run(s: int, output: Output) -> int:
            return conv_pool_samples(
                *(layer.columns, events.offsets, s, last, weights, quiet, whole, panes, bits),
                *(scratch, output, counts, spikes),
            )

        return fill(run, first, last, most, counts)

    pooled = backend.joined(task, events, (pool.maps, pool.oh, pool.ow), counts, with_potential=False)
    return Pooled(pooled, spikes if counted else None)


def _can(events: Events, packed: Packed, layer: Prepared, bits: int) -> bool:
    """Return whether thresholds are finite, no weight negative, nothing leaks, and time and row fit 31 bits."""
    times = min(int(np.diff(events.offsets).max(initial=0)), events.duration)
    simple = not layer.cells.at_end and not len(layer.cells.fine)
    return simple and (times + 1) << bits <= NEVER and packed.blocks.min(initial=0) >= 0
