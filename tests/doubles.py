"""Stand-ins for what the package is told of only by a contract: data in a file, a backend with a memory of its own."""

import types
from dataclasses import dataclass

import numpy as np

from eventsnn.backends import Backend, get
from eventsnn.encode import EqualBins, Filter, ImageEncoder
from eventsnn.events import replace_fields

REFERENCE = get("reference")


class InBatches:
    """Data as they come from a file: only batch by batch."""

    def __init__(self, events):
        self._events = events
        self.shape, self.unit, self.duration = events.shape, events.unit, events.duration
        self.labels, self.n_events = events.labels, events.n_events

    def __len__(self):
        return len(self._events)

    def batches(self, size):
        return (self._events[i : i + size] for i in range(0, len(self), size))

    def load(self):
        return self._events


class DeviceArray(np.ndarray):
    """Stands for an array in another memory."""


class DeviceBackend(Backend):
    """The reference, behind arrays of a type of its own; everything else is refused."""

    name = "device"
    xp = types.SimpleNamespace(
        asarray=lambda a: np.array(a).view(DeviceArray), asnumpy=lambda a: np.asarray(a).view(np.ndarray)
    )

    def _in(self, events):
        assert all(isinstance(getattr(events, n), DeviceArray) for n in ("time", "channel", "y", "x", "offsets"))
        return self._map(events, self.xp.asnumpy)

    def _out(self, events):
        return self._map(events, self.xp.asarray)

    def _map(self, events, convert):
        names = ("time", "channel", "y", "x", "offsets", "labels", "potential")
        arrays = {n: getattr(events, n) for n in names}
        return replace_fields(events, **{n: None if a is None else convert(a) for n, a in arrays.items()})

    def _pack(self, weights):
        return self.xp.asarray(weights)

    def unpack(self, packed):
        return self.xp.asnumpy(packed).copy()

    def _packed_shape(self, packed):
        return packed.shape

    def _conv(self, events, packed, neurons):
        return self._out(REFERENCE.conv(self._in(events), np.asarray(packed), neurons))

    def pool(self, events, geometry):
        return self._out(REFERENCE.pool(self._in(events), geometry))

    def pointwise(self, events):
        return self._out(REFERENCE.pointwise(self._in(events)))

    def winners(self, events, k, radius):
        return REFERENCE.winners(self._in(events), k, radius)

    def _learn(self, events, order, packed, lesson):
        neurons, update, reward, positions, batch = lesson
        return REFERENCE.learn(
            self._in(events), order, packed.view(np.ndarray), neurons, update, reward, positions=positions, batch=batch
        )


@dataclass(frozen=True)
class Taps:
    """A kernel with given values."""

    values: tuple

    @property
    def window(self):
        return len(self.values)

    def array(self):
        return np.array(self.values, np.float32)


def bank(kernels, *more):
    taps = [Taps(tuple(map(tuple, kernel[0].tolist()))) for kernel in kernels]
    return ImageEncoder((Filter(taps), *more), EqualBins(15))
