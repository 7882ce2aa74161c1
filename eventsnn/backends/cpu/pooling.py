"""One call of ``conv_pool``: neurons and the pool after them in one pass, where that is to be had."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eventsnn.backends import Geometry, Pooled
from eventsnn.backends.cpu._emit import Output, Sites, collected, make_pending
from eventsnn.backends.cpu._fields import Sizes, Windows, make_windows
from eventsnn.backends.cpu._pooled import Panes, conv_pool_samples, make_panes, row_bits
from eventsnn.backends.cpu._sieve import Sieve, make_marks, make_sieve, with_room
from eventsnn.backends.cpu._sift import make_lists
from eventsnn.backends.cpu._simd import LANES, NEVER
from eventsnn.backends.cpu.plans import Plan, columns_of, grid_of, most_spikes, room_for
from eventsnn.events import Events, Shape
from eventsnn.memory import empty, kept

if TYPE_CHECKING:
    from eventsnn.backends.cpu import Packed


@dataclass(frozen=True, eq=False)
class _Joint:
    """A layer, without what no window holds unless all is counted, and a pool; ``most`` distinct times at most."""

    sizes: Sizes
    windows: Windows
    panes: Panes
    sites: Sites
    bits: int
    grid: Shape
    most: int
    sieve: Sieve


def conv_pool(events: Events, packed: Packed, plan: Plan, geometry: Geometry, counted: bool) -> Pooled | None:
    """Return what ``Backend.conv_pool`` does, or None where neurons and pool must run one after the other."""
    joint = packed.keep((plan, geometry, counted), lambda: _joint(packed, plan, geometry, counted))
    spikes = most_spikes(events)
    if min(spikes, events.duration) > joint.most:
        return None
    columns, last, whole = columns_of(events), len(events), (joint.sizes, plan.cells.limit)
    fired, room = np.zeros(last if counted else 0, np.int64), room_for(spikes)
    lists, marks, *rest = kept(("conv pool", joint.sizes, joint.grid, room), lambda: _scratch(joint, room))
    scratch = (lists, with_room(joint.sieve, marks), joint.sites, *rest)

    def run(s: int, output: Output, counts: np.ndarray) -> int:
        return conv_pool_samples(
            *(columns, events.offsets, s, last, plan.weights, plan.quiet, whole, joint.panes, joint.bits),
            *(scratch, output, counts, fired),
        )

    pooled = collected(run, events, joint.grid, with_potential=False)
    return Pooled(pooled, fired if counted else None)


def _joint(packed: Packed, plan: Plan, geometry: Geometry, counted: bool) -> _Joint:
    sizes, windows = plan.sizes, plan.windows
    pool, _, sites = grid_of((sizes.maps, sizes.oh, sizes.ow), geometry, sizes.maps)
    panes, bits = make_panes(pool), row_bits(sizes)
    if not counted:
        sizes = sizes._replace(oh=max(1, int(panes.y_end.max())), ow=max(1, int(panes.x_end.max())))
        windows = make_windows(sizes)
    # Thresholds must be finite, no weight negative, nothing may leak, and time and row must fit 31 bits.
    simple = not plan.cells.at_end and not len(plan.cells.fine) and packed.blocks.min(initial=0) >= 0
    most = (NEVER >> bits) - 1 if simple else -1
    sieve = make_sieve(packed.blocks, plan.cells.limit, sizes)
    return _Joint(sizes, windows, panes, sites, bits, (pool.maps, pool.oh, pool.ow), most, sieve)


def _scratch(joint: _Joint, room: int) -> tuple[Any, ...]:
    """Return what the kernel writes to, but for the output, with room for so many spikes of a sample."""
    # What is written all the time begins at a cache line, and fills it: no other thread writes there.
    found = empty(joint.sizes.oh * joint.sizes.ow * LANES, np.int32), empty(LANES, np.int32)
    pending = make_pending(joint.grid[0] * joint.grid[1] * joint.grid[2])
    lists, marks = make_lists(joint.sizes, joint.windows, room), make_marks(joint.sizes)
    return lists, marks, pending, np.empty(room + 1, np.int64), *found
