"""One call of ``decide``: who wins in a decision layer, found through bounds where these hold."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from eventsnn.backends import Decision
from eventsnn.backends.cpu._bounds import Tables, hold_up_to, make_slots, make_tables
from eventsnn.backends.cpu._change import Rates
from eventsnn.backends.cpu._decide import decide_samples
from eventsnn.backends.cpu._fields import fields_for
from eventsnn.backends.cpu._learn import Plan, Result
from eventsnn.backends.cpu.plans import most_spikes, room_for
from eventsnn.events import Events
from eventsnn.memory import kept

if TYPE_CHECKING:
    from eventsnn.backends.cpu import CpuBackend, Packed, Prepared

_WORTH_TABLES = 16  # samples, of all calls; for fewer, making tables of deficits takes longer than doing without
_NOBODY, _NOTHING = np.empty(0, np.int64), np.empty(0, np.float32)
_NO_TABLE = np.empty((0, 0), np.float32)
_NO_RATES = Rates(_NO_TABLE, _NO_TABLE, _NOTHING, _NOTHING, _NOBODY, _NOTHING, _NOTHING, _NOTHING, 0)


class Bounds(NamedTuple):
    """Tables of a layer's weights; ``positive``: whether all weights are, so that any spike makes a neuron fire.

    ``pace`` is what samples have shown about where to look first (``Slots``): no result depends on it, so threads may
    write over each other's.
    """

    tables: Tables
    positive: bool
    pace: np.ndarray


@dataclass(eq=False)
class Held:
    """What weights are held together with: bounds, or how many samples were decided without; for several threads.

    ``bounds`` is empty until they have been made, and holds None where the weights allow for none.
    """

    decided: int = 0
    bounds: list[Bounds | None] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def clear(self) -> None:
        """Forget all, since the weights will change."""
        with self.lock:
            self.decided = 0
            self.bounds.clear()


def decide(backend: CpuBackend, events: Events, packed: Packed, layer: Prepared) -> Decision | None:
    """Return what ``Backend.decide`` does, or None where potentials must be computed."""
    if not layer.cells.at_end or len(layer.cells.fine):
        return None
    bounds = _held(backend, events, packed, layer)
    most = most_spikes(events)
    if bounds is None or not hold_up_to(most, 0, bounds.tables.upper):
        return None
    found = Decision(np.full((len(events), 4), -1, np.int64), np.zeros(len(events), np.int64))
    _find(events, bounds, layer, found, room_for(most))
    return found


def _held(backend: CpuBackend, events: Events, packed: Packed, layer: Prepared) -> Bounds | None:
    """Return the bounds of some weights; the call that makes them worth their while makes them, and others wait."""
    held = packed.held
    with held.lock:
        if not held.bounds:
            held.decided += len(events)
            if held.decided < _WORTH_TABLES:
                return None
            held.bounds.append(_bounds(events, backend.unpack(packed), layer))
        return held.bounds[0]


def _find(events: Events, bounds: Bounds, layer: Prepared, found: Decision, room: int) -> None:
    """Find the winners of all samples with the kernel that learns to decide: no other needs to be compiled.

    Where ``found`` has no room for any, take the deficits instead. ``room``: for so many spikes of a sample.
    """
    n, sizes, windows = len(found.winners), layer.sizes, layer.windows
    slots = kept(("decide", sizes, room), lambda: make_slots(sizes, fields_for(sizes, windows, room), room))
    slots, samples = slots._replace(pace=bounds.pace), np.arange(n)
    plan = Plan(samples, _NOBODY, find=n > 0, change=n == 0)
    result = Result(found.winners[:, None], np.zeros((n, 1), np.float32), np.zeros(4))
    decide_samples(
        layer.columns, events.offsets, plan, _NOBODY, _NOBODY, bounds.tables, bounds.positive, sizes,
        windows, layer.cells.end, _NO_RATES, (slots, _NOBODY, np.empty(0, np.int32), _NOTHING), result,
        found.spikes,
    )  # fmt: skip


def _bounds(events: Events, weights: np.ndarray, layer: Prepared) -> Bounds | None:
    """Return the bounds of weights (maps, ...); None if one is negative, or none above 0: they would show nothing."""
    lowest, upper = float(weights.min()), float(weights.max())
    if lowest < 0 or upper == 0:
        return None
    lower = lowest if lowest < upper else 0.0
    tables = make_tables(weights.reshape(layer.sizes.maps, -1), layer.cells.limit, lower, upper, 0)
    bounds = Bounds(tables, lowest > 0, np.zeros(2))
    _find(events, bounds, layer, Decision(np.empty((0, 4), np.int64), _NOBODY), room_for(most_spikes(events)))
    return bounds
