"""Running a network layer by layer, and counting what each does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import numpy as np

from eventsnn import running
from eventsnn.batches import Collector, Data, fetch
from eventsnn.events import Events
from eventsnn.layers import Conv, Dense, Layer
from eventsnn.profile import Costs, LayerProfile, Profile

if TYPE_CHECKING:
    from eventsnn.network import Network

INTERVALS = 64  #: of time at most, in which spikes are counted
_MILLISECOND = 1000  # in microseconds: the step of dense simulations of camera events
_FLOAT = 4  # bytes of a weight and of a potential
_PER_SAMPLE = ("inputs", "spikes", "operations", "stopped", "macs", "bytes_moved", "seconds", "spikes_over_time")

Keep = Literal["nothing", "last", "all"]
P = TypeVar("P", Profile, LayerProfile)


class _How(NamedTuple):
    """What is wanted of each batch."""

    start: int
    stop: int
    keep: Keep
    edges: np.ndarray
    steps: int
    costs: Costs


def profiled(
    net: Network,
    data: Data,
    start: int,
    stop: int,
    *,
    keep: Keep,
    batch_size: int,
    steps: int | None = None,
    intervals: int = INTERVALS,
    costs: Costs | None = None,
    progress: Callable[[int, int], object] = lambda done, of: None,
) -> tuple[list[Events], Profile]:
    """Run data through ``layers[start:stop]`` and count, batch by batch, what each layer does.

    Parameters
    ----------
    net, data, start, stop, batch_size
        As of :meth:`Network.run`.
    keep : {"nothing", "last", "all"}
        Whose spikes to return: of no layer, of the last one (the input where none is), of each.
    steps : int, optional
        Of the dense computation; default the duration in bins, or in milliseconds if it is in microseconds.
    intervals : int
        Of time, at most, in which spikes are counted.
    costs : Costs, optional
        Default: ``Costs()``.
    progress : callable
        Called as ``progress(done, total)``.

    Raises
    ------
    ValueError
        If a number of steps or intervals is not positive.
    """
    for name, value in (("steps", steps), ("intervals", intervals)):
        if value is not None and value < 1:
            raise ValueError(f"{name} expects at least 1, got {value}")
    steps = steps or -(-data.duration // (1 if data.unit == "bin" else _MILLISECOND))
    how = _How(start, stop, keep, _edges(data.duration, intervals), steps, costs or Costs())
    collectors = [Collector(len(data)) for _ in range({"nothing": 0, "last": 1, "all": stop - start}[keep])]
    parts, done = [], 0
    for outputs, part in net.each(partial(_counted, how), data, batch_size):
        for collector, output in zip(collectors, outputs, strict=True):
            collector.add(output)
        parts.append(part)
        done += part.samples
        progress(done, len(data))
    return [collector.result() for collector in collectors], _joined(parts)


def _counted(how: _How, net: Network, batch: Events) -> tuple[list[Events], Profile]:
    """Profile some samples, layer by layer, in one thread: so each thread of the host knows its own time."""
    nothing = Events.empty(batch.shape, 1, duration=batch.duration, unit=batch.unit)
    running.through(net, nothing, how.start, how.stop)  # so that nothing is compiled while time is taken
    whole, spikes, index = fetch(batch, net.backend), net.there(batch), how.start
    given, outputs, layers = whole, list[Events](), list[LayerProfile]()
    while index < how.stop:
        for made, seconds, fused in _timed(net, index, how.stop, spikes):
            here = fetch(made, net.backend)
            layers.append(_layer(how, net, index, given, here, seconds, fused))
            outputs = [*outputs, here] if how.keep == "all" else [here]
            given, spikes, index = here, made, index + 1
    kept = {"nothing": [], "last": outputs or [whole], "all": outputs}[how.keep]
    counts, over_time = np.diff(whole.offsets), _over_time(whole, how.edges)
    profile = Profile(batch.unit, how.edges, how.steps, batch.shape, counts, over_time, tuple(layers), how.costs)
    return kept, profile


def _timed(net: Network, layer: int, stop: int, spikes: Events) -> list[tuple[Events, float, bool]]:
    """Run a layer, and the pool that shares its pass; return what each gives, its time, and whether that is elsewhere.

    Time is that of the shared pass; the spikes between the two, which nobody sees in it, are computed once more.
    """
    backend = net.backend
    if not running.pooled_next(net, layer, stop):
        out, seconds = backend.timed(lambda: running.one(net, layer, spikes))
        return [(out, seconds, False)]
    pooled, seconds = backend.timed(lambda: running.with_pool(net, layer, spikes).events)
    return [(running.one(net, layer, spikes), seconds, False), (pooled, 0.0, True)]


def _layer(
    how: _How, net: Network, index: int, given: Events, made: Events, seconds: float, fused: bool
) -> LayerProfile:
    layer, samples = net.layers[index], len(made)
    inputs, spikes = np.diff(given.offsets), np.diff(made.offsets)
    operations, stopped = running.operations(layer, given, samples), _stopped(layer, given, made)
    moved = inputs * _width(given) + spikes * _width(made) + _FLOAT * (operations - stopped)
    macs = 0
    if isinstance(layer, Conv | Dense):
        moved += 2 * _FLOAT * math.prod(made.shape)
        macs = how.steps * math.prod(made.shape) * math.prod(net.weights_shape(index)[1:])
    return LayerProfile(
        layer=index,
        name=str(layer),
        shape=made.shape,
        fused=fused,
        inputs=inputs,
        spikes=spikes,
        operations=operations,
        stopped=stopped,
        macs=np.full(samples, macs, np.int64),
        bytes_moved=moved,
        seconds=np.full(samples, seconds / max(samples, 1)),
        spikes_over_time=_over_time(made, how.edges),
        costs=how.costs,
    )


def _stopped(layer: Layer, given: Events, made: Events) -> np.ndarray:
    """Return how many of the operations of each sample come later than the spike of their neuron, int64."""
    stopped = np.zeros(len(given), np.int64)
    if not isinstance(layer, Conv | Dense):
        return stopped
    from eventsnn.profile._kernels import count_stopped

    _, height, width = made.shape
    rows, columns = layer.geometry(given.shape).windows(*given.shape[1:])
    spikes, fired = ((events.time, events.y, events.x) for events in (given, made))
    arrived = np.zeros(height * width, np.int64)
    count_stopped(spikes, given.offsets, fired, made.offsets, rows, columns, width, arrived, stopped)
    return stopped


def _width(events: Events) -> int:
    """Return the bytes of a spike."""
    columns = (events.time, events.channel, events.y, events.x, events.potential)
    return sum(column.itemsize for column in columns if column is not None)


def _edges(duration: int, intervals: int) -> np.ndarray:
    """Return the bounds of so many intervals of about equal length, fewer where there are fewer times."""
    count = min(duration, intervals)
    return np.arange(count + 1, dtype=np.int64) * duration // count


def _over_time(events: Events, edges: np.ndarray) -> np.ndarray:
    """Return the spikes of each sample in each interval; times are in order."""
    counts = np.empty((len(events), len(edges) - 1), np.int32)
    for sample, (begin, end) in zip(counts, pairwise(events.offsets.tolist()), strict=True):
        sample[:] = np.diff(np.searchsorted(events.time[begin:end], edges))
    return counts


def _joined(parts: Sequence[Profile]) -> Profile:
    """Return the profiles of several batches as one."""
    layers = tuple(_concatenated(_PER_SAMPLE, some) for some in zip(*(part.layers for part in parts), strict=True))
    return replace(_concatenated(("inputs", "inputs_over_time"), parts), layers=layers)


def _concatenated(names: Sequence[str], parts: Sequence[P]) -> P:
    """Return the first of several dataclasses with the fields of these names, arrays, of all of them."""
    arrays: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return replace(parts[0], **arrays)
