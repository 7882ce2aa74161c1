"""Winners found and weights changed in NumPy, for backends that have no kernels for either of the two alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from eventsnn.backends.changes import apply_lesson
from eventsnn.backends.competition import Found, compete, nobody
from eventsnn.events import Events, replace_fields

if TYPE_CHECKING:
    from eventsnn.backends import Backend, Lesson

_ARRAYS = ("time", "channel", "y", "x", "offsets", "labels", "potential")


def find(backend: Backend, kernels: Backend, events: Events, packed: Any, lesson: Lesson) -> Found:
    """Return who wins in each sample of what :meth:`Backend.conv` gives; ``kernels`` compete on the host."""
    found = nobody(len(events), lesson.update.k)
    spikes = _fetched(backend.conv(events, packed, lesson.neurons), backend)
    compete(kernels, spikes, lesson.update, lesson.positions, found)
    return found


def change(backend: Backend, events: Events, found: Found, packed: Any, lesson: Lesson) -> Any:
    """Return new packed weights, changed as the winners of each sample say."""
    weights, samples = backend.unpack(packed), _fetched(events, backend)
    for i, (winners, potential) in enumerate(zip(*found, strict=True)):
        apply_lesson(samples[i], winners, potential, weights, lesson)
    return backend.pack(weights)


def _fetched(events: Events, backend: Backend) -> Events:
    if backend.xp is np:
        return events
    arrays = {name: getattr(events, name) for name in _ARRAYS}
    return replace_fields(events, **{n: None if a is None else backend.xp.asnumpy(a) for n, a in arrays.items()})
