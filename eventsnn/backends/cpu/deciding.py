"""One call of ``decide``: who wins in a decision layer, found through bounds where these hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from eventsnn.backends import Decision
from eventsnn.backends.cpu._decide import Tables, find_samples, hold_for, make_slots, make_tables, take_deficits
from eventsnn.backends.cpu._fields import make_fields
from eventsnn.events import Events
from eventsnn.threads import spread

if TYPE_CHECKING:
    from eventsnn.backends.cpu import CpuBackend, Packed, Prepared

_WORTH_TABLES = 32  # samples; for fewer, making tables of deficits takes longer than doing without


class Bounds(NamedTuple):
    """Tables of a layer's weights; ``positive``: whether all weights are, so that any spike makes a neuron fire."""

    tables: Tables
    positive: bool


def decide(
    backend: CpuBackend, events: Events, packed: Packed, layer: Prepared, ranges: list[tuple[int, int]]
) -> Decision | None:
    """Return what ``Backend.decide`` does, or None where potentials must be computed; threads share the ranges."""
    if not layer.cells.at_end or len(layer.cells.fine) or (not packed.bounds and len(events) < _WORTH_TABLES):
        return None
    if not packed.bounds:
        packed.bounds.append(_bounds(backend.unpack(packed), layer))
    bounds = packed.bounds[0]
    if bounds is None or not hold_for(events.offsets, slice(None), 0, bounds.tables.upper):
        return None
    found = Decision(np.full((len(events), 4), -1, np.int64), np.zeros(len(events), np.int64))

    def task(part: tuple[int, int]) -> None:
        samples = np.arange(*part)
        fields = make_fields(layer.sizes, layer.windows, events.offsets, samples)
        slots = make_slots(layer.sizes, fields, int(np.diff(events.offsets)[samples].max(initial=0)))
        find_samples(
            layer.columns, events.offsets, samples, *bounds, layer.sizes, layer.windows, layer.cells.end, slots, *found
        )

    list(spread(task, ranges, backend.threads))
    return found


def _bounds(weights: np.ndarray, layer: Prepared) -> Bounds | None:
    """Return the bounds of weights (maps, ...); None if one is negative, or none above 0: they would show nothing."""
    lowest, upper = float(weights.min()), float(weights.max())
    if lowest < 0 or upper == 0:
        return None
    lower = lowest if lowest < upper else 0.0
    tables = make_tables(weights.reshape(layer.sizes.maps, -1), layer.cells.limit, lower, upper, 0)
    take_deficits(tables)
    return Bounds(tables, lowest > 0)
