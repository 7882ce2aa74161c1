"""Several devices: a thread for each, samples shared out by events; the share of one that fails goes to the others."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from eventsnn.backends import Backend, Found, Geometry, Lesson, Update, get
from eventsnn.batches import Data, batches, by_halves, on_host, put, shared, worked
from eventsnn.events import Events
from eventsnn.threads import balanced

if TYPE_CHECKING:
    from eventsnn.network import Network

R = TypeVar("R")
Work = Callable[["Network", Events], R]
#: takes a network, and is a context in which another is in its place that is computed elsewhere
Computed = Callable[["Network"], AbstractContextManager["Network"]]
Report = Callable[[int, int, str], object]
Pools = Mapping[int, ThreadPoolExecutor]  # by the number of the device

_HOST = ("cpu", "reference")
_AHEAD = 4  # batches in a device's share: while it works on one, its next is uploaded
_ROOM = 4  # of the memory that is left, input in pieces takes up to this part: learning needs some too


def device(name: str) -> Backend:
    """Return a backend of its own for a device: ``"cpu"`` or ``"cpu:1"`` is one thread of the host.

    Raises
    ------
    ValueError
        If there is no such device.
    """
    kind, colon, number = name.partition(":")
    if kind not in _HOST or (colon and not number.isdecimal()):
        return get(name)
    if kind == "reference":
        from eventsnn.backends.reference import ReferenceBackend

        return ReferenceBackend()
    from eventsnn.backends.cpu import CpuBackend

    return CpuBackend(threads=1)


@dataclass(frozen=True, eq=False)
class Device:
    """A backend, what messages call it, and its copy of the weights of the layers that it has been given."""

    number: int
    name: str
    backend: Backend
    packed: dict[int, Any] = field(default_factory=dict)


class Place(Protocol):
    """Where a network computes; :class:`Devices` is one, several machines are another."""

    @property
    def first(self) -> Device:
        """The device whose weights count, and on which all happens that is not shared."""

    def set_weights(self, layer: int, weights: np.ndarray) -> None:
        """Replace the weights of a layer, float32."""

    def each(self, net: Network, work: Work[R], data: Data, batch_size: int) -> Iterator[R]:
        """Yield ``work(network, batch)`` for all samples in order; ``network`` is ``net`` wherever that is computed."""

    def hold(self, events: Events) -> Events:
        """Return the input of a layer that will learn, where :meth:`learn` wants it."""

    def prepared(self, net: Network, data: Data, layer: int, inhibit: bool, report: Report) -> Data | None:
        """Return a data set, for :meth:`learn`, of what a layer receives; None if it is to be made batch by batch."""

    def learn(self, layer: int, events: Any, order: np.ndarray, lesson: Lesson) -> np.ndarray:
        """Present samples, from :meth:`hold` or :meth:`prepared`, to a layer as :meth:`Backend.learn` does."""


class Devices:
    """Where a network computes: one device in the caller's thread, or several with a thread each.

    Samples are shared out in contiguous ranges of about equally many events, and results come back in order. If one
    of several devices fails (``Backend.failures``), it is left out from then on, with a ``RuntimeWarning``, and its
    samples go to the others; if all fail, that is a ``RuntimeError`` that names all of them. Where memory does not
    suffice (``MemoryError``), fewer samples go through at a time. Anything else that is raised comes up as it is.

    Parameters
    ----------
    chosen : sequence of Backend or str
        At least one; the same may come several times.

    Raises
    ------
    ValueError
        If there is none, or no device of such a name.
    """

    def __init__(self, chosen: Sequence[Backend | str]) -> None:
        if isinstance(chosen, str | Backend) or not len(chosen):
            raise ValueError(f"devices expects a list of at least one device, got {chosen!r}")
        self._working = [_device(number, one) for number, one in enumerate(chosen)]
        self._several = len(self._working) > 1
        self._lost: list[str] = []
        self._moved: tuple[Device, Events, Events] | None = None

    @classmethod
    def one(cls, backend: Backend, packed: dict[int, Any]) -> Devices:
        """Return a single device that has its weights already."""
        made = cls([backend])
        made._working[0].packed.update(packed)
        return made

    @property
    def first(self) -> Device:
        """See :class:`Place`."""
        return self._working[0]

    def set_weights(self, layer: int, weights: np.ndarray) -> None:
        """See :class:`Place`; the other devices get the weights when they next need them."""
        self.first.packed[layer] = self.first.backend.pack(weights)
        self._forget(layer)

    def hold(self, events: Events) -> Events:
        """See :class:`Place`: of several devices each takes its part of a mini-batch."""
        return events if self._several else self._if_there_is_room(events)

    def prepared(self, net: Network, data: Data, layer: int, inhibit: bool, report: Report) -> Data | None:
        """See :class:`Place`."""
        return None

    def each(self, net: Network, work: Work[R], data: Data, batch_size: int) -> Iterator[R]:
        """See :class:`Place`."""
        if not self._several:
            yield from self._on_one(net, work, data, batch_size)
            return

        def run(one: Device, part: Events) -> list[R]:
            alone = Devices.one(one.backend, one.packed)
            return list(alone.each(net.on(alone), work, part, batch_size))

        with self._threads() as pools:
            self._replicate(pools)
            for batch in batches(data, batch_size, _AHEAD * len(self._working)):
                for results in self._share(batch, pools, run):
                    yield from results

    def _on_one(self, net: Network, work: Work[R], data: Data, batch_size: int) -> Iterator[R]:
        """Do what :meth:`each` does on the first device; threads of the host carry their samples through all layers."""
        backend = self.first.backend
        if backend.xp is np:
            return shared(partial(work, net), data, backend.threads, batch_size)

        def know(batch: Events, there: Events) -> R:
            return work(net.with_copy(batch, there), batch)

        return worked(know, data, backend, batch_size)

    def learn(self, layer: int, events: Any, order: np.ndarray, lesson: Lesson) -> np.ndarray:
        """See :class:`Place`; online learning has no part that could be shared, and takes the first device alone."""
        if self._several and lesson.batch > 1:
            try:
                return self._in_mini_batches(layer, events, order, lesson)
            except BaseException:  # some may have changed their weights, and others not
                self._forget(layer)
                raise
        self._forget(layer)
        there = self._on_first(events)
        if self.first.backend.xp is np or not on_host(there):
            return self._present(layer, there, order, lesson)
        return self._in_pieces(layer, events, order, lesson)

    def _present(self, layer: int, events: Events, order: np.ndarray, lesson: Lesson) -> np.ndarray:
        neurons, update, reward, positions, batch = lesson
        packed, learn = self.first.packed[layer], self.first.backend.learn
        return learn(events, order, packed, neurons, update, reward, positions=positions, batch=batch)

    def _in_pieces(self, layer: int, events: Events, order: np.ndarray, lesson: Lesson) -> np.ndarray:
        """Present samples for which the first device has no room together, some mini-batches at a time."""
        size = len(order)
        while size > lesson.batch and on_host(self._if_there_is_room(events[order[:size]])):
            size //= 2
        size = max(size // _ROOM // lesson.batch, 1) * lesson.batch
        parts = [slice(start, start + size) for start in range(0, len(order), size)]
        winners = [np.empty((0, lesson.update.k, 4), np.int64)]
        for part in parts:
            there = put(events[order[part]], self.first.backend)
            winners.append(self._present(layer, there, np.arange(len(there)), _cut(lesson, part)))
        return np.concatenate(winners)

    def _in_mini_batches(self, layer: int, events: Events, order: np.ndarray, lesson: Lesson) -> np.ndarray:
        winners = np.full((len(order), lesson.update.k, 4), -1, np.int64)
        with self._threads() as pools:
            self._replicate(pools)
            for start in range(0, len(order), lesson.batch):
                part = slice(start, start + lesson.batch)
                winners[part] = self._mini_batch(layer, events[order[part]], _cut(lesson, part), pools)
        return winners

    def _mini_batch(self, layer: int, samples: Events, lesson: Lesson, pools: Pools) -> np.ndarray:
        """Find winners in shares, then let every device change its copy of the weights in the order of the samples."""

        def find(one: Device, part: Events, own: Lesson) -> Found:
            def look(some: slice) -> Found:
                return one.backend.find(put(part[some], one.backend), one.packed[layer], _cut(own, some))

            return joined(by_halves(look, part))

        found = joined(self._share(samples, pools, find, lesson))
        near = reached(samples, found.winners, lesson.neurons.geometry, asks_for_times(lesson.update))
        jobs = [(one, pools[one.number].submit(_changed, one, layer, near, found, lesson)) for one in self._working]
        thresholds = [threshold for _, threshold in self._results(jobs)]
        lesson.neurons.threshold[:] = thresholds[0]
        return found.winners

    def _share(self, samples: Events, pools: Pools, work: Callable[..., R], lesson: Lesson | None = None) -> list[R]:
        """Return ``work(device, part[, lesson of the part])`` of contiguous parts, in order."""
        done: dict[int, R] = {}
        todo = balanced(samples.offsets, len(self._working))
        while todo:
            jobs = []
            for i, (start, stop) in enumerate(todo):
                one, own = self._working[i % len(self._working)], slice(start, stop)
                more = () if lesson is None else (_cut(lesson, own),)
                jobs.append((one, pools[one.number].submit(work, one, samples[own], *more)))
            finished = dict(self._results(jobs))
            failed = [part for i, part in enumerate(todo) if i not in finished]
            done |= {todo[i][0]: result for i, result in finished.items()}
            todo = [piece for part in failed for piece in balanced(samples.offsets, len(self._working), *part)]
        return [done[start] for start in sorted(done)]

    def _results(self, jobs: list[tuple[Device, Future[R]]]) -> list[tuple[int, R]]:
        """Wait for all; return the results of those that did not fail, with their number."""
        finished = []
        for i, (one, future) in enumerate(jobs):
            try:
                finished.append((i, future.result()))
            except one.backend.failures as error:
                self._leave_out(one, error)
        return finished

    def _leave_out(self, failed: Device, error: Exception) -> None:
        if failed not in self._working:  # it had two parts
            return
        self._lost.append(f"{failed.name}: {type(error).__name__}: {error}")
        if len(self._working) == 1:
            raise RuntimeError(f"all devices have failed: {'; '.join(self._lost)}") from error
        self._working.remove(failed)
        message = f"device {self._lost[-1]}; it is left out, and its samples go to the others"
        warnings.warn(message, RuntimeWarning, stacklevel=2)

    def _replicate(self, pools: Pools) -> None:
        """Give every device the weights that it does not have."""
        first, others = self.first, self._working[1:]
        lacking = {i for one in others for i in first.packed if i not in one.packed}
        weights = {i: first.backend.unpack(first.packed[i]) for i in lacking}
        self._results([(one, pools[one.number].submit(_pack, one, weights)) for one in others])

    def _forget(self, layer: int) -> None:
        for one in self._working[1:]:
            one.packed.pop(layer, None)

    def _on_first(self, events: Events) -> Events:
        """Return events in the memory of the first device; the last ones asked for are kept there."""
        if not self._several:
            return events
        if self._moved is None or self._moved[0] is not self.first or self._moved[1] is not events:
            self._moved = self.first, events, self._if_there_is_room(events)
        return self._moved[2]

    def _if_there_is_room(self, events: Events) -> Events:
        """Return events in the memory of the first device, or as they are where that does not suffice."""
        with suppress(MemoryError):
            return put(events, self.first.backend)
        return events

    @contextmanager
    def _threads(self) -> Iterator[Pools]:
        """Yield a pool of one thread for each device."""
        with ExitStack() as stack:
            yield {
                one.number: stack.enter_context(ThreadPoolExecutor(1, f"eventsnn {one.name}")) for one in self._working
            }


@contextmanager
def computed_on(devices: Sequence[Backend | str], net: Network) -> Iterator[Network]:
    """Yield the same network with copies of its weights on several devices, to be run and not to learn."""
    place = Devices(devices)
    for layer, weights in net.weights.items():
        place.set_weights(layer, weights)
    yield net.on(place)


def place_of(backend: Backend | str | None, devices: Sequence[Backend | str] | None) -> Devices:
    """Return where a network computes that was given a backend, or devices, or neither."""
    if devices is None:
        return Devices([backend if isinstance(backend, Backend) else get(backend)])
    if backend is not None:
        raise ValueError(f"a network expects a backend or devices, got backend {backend!r} and devices {devices!r}")
    return Devices(devices)


def reached(samples: Events, winners: np.ndarray, geometry: Geometry, timed: bool) -> Events:
    """Return the samples with only the events that a change by their winners can depend on.

    These lie in the winners' receptive fields, and are no later than the last winner of their sample unless the rule
    asks for times.

    Parameters
    ----------
    samples : Events
        Input of a layer.
    winners : ndarray of int64, shape (n_samples, k, 4)
        ``(map, y, x, time)``, -1 where there is none.
    geometry : Geometry
        Of the layer.
    timed : bool
        From :func:`asks_for_times`.
    """
    height, width = samples.shape[1:]
    keep, inside = np.zeros(samples.n_events, bool), np.zeros((height, width), bool)
    latest = winners[:, :, 3].max(axis=1)
    for s, (begin, end) in enumerate(pairwise(samples.offsets.tolist())):
        windows = [_window(y, x, geometry) for f, y, x, _ in winners[s].tolist() if f >= 0]
        for window in windows:
            inside[window] = True
        stop = end if timed else begin + int(np.searchsorted(samples.time[begin:end], latest[s], side="right"))
        keep[begin:stop] = inside[samples.y[begin:stop], samples.x[begin:stop]]
        for window in windows:
            inside[window] = False
    return samples.where(keep)


def asks_for_times(update: Update) -> bool:
    """Tell whether a rule depends on when inputs fire, and not only on which fire no later than the winner."""
    return update.tau is not None or update.function is not None


def _window(y: int, x: int, geometry: Geometry) -> tuple[slice, slice]:
    """Return the rows and columns of the input that the neurons at (y, x) see."""
    (height, width), (down, right), (above, left) = geometry.kernel, geometry.stride, geometry.padding
    top, first = y * down - above, x * right - left
    return slice(max(top, 0), top + height), slice(max(first, 0), first + width)


def joined(parts: Sequence[Found]) -> Found:
    """Return the winners of several parts, one after another."""
    return Found(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _device(number: int, chosen: Backend | str) -> Device:
    if isinstance(chosen, Backend):
        return Device(number, f"{number} ({chosen.name})", chosen)
    return Device(number, f"{number} ({chosen})", device(chosen))


def _cut(lesson: Lesson, part: slice) -> Lesson:
    return lesson if lesson.positions is None else lesson._replace(positions=lesson.positions[part])


def _pack(one: Device, weights: Mapping[int, np.ndarray]) -> None:
    for layer, array in weights.items():
        if layer not in one.packed:
            one.packed[layer] = one.backend.pack(array)


def _changed(one: Device, layer: int, near: Events, found: Found, lesson: Lesson) -> np.ndarray:
    """Change a device's copy of the weights; return the thresholds afterwards."""
    own = replace(lesson.neurons, threshold=lesson.neurons.threshold.copy())
    events = put(near, one.backend)
    one.packed[layer] = one.backend.change(events, found, one.packed[layer], lesson._replace(neurons=own))
    return own.threshold
