"""Where a network computes that several machines run: shards of event files go to the workers of a cluster."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

import eventsnn
from eventsnn import checks
from eventsnn.backends import Lesson
from eventsnn.batches import BATCH, Data, put
from eventsnn.devices import Device, Place, Report, Work, asks_for_times, joined
from eventsnn.events import Events, Shape, concatenate
from eventsnn.io import EventDataset, EventWriter
from eventsnn.network import Network
from eventsnn.parallel import _tasks
from eventsnn.sources import Samples
from eventsnn.targets import hidden
from eventsnn.threads import balanced

if TYPE_CHECKING:
    from distributed import Client, Future

R = TypeVar("R")

SHARD = 1 << 22  #: events of a shard, at most about, where a caller does not say: a second or two of a thread
_SHARDS_PER_THREAD = 4  # so that a slow worker does not keep the others waiting
_AHEAD = 2  # tasks handed out for each thread of the cluster; what they return waits in the workers' memory


class Cluster:
    """A :class:`eventsnn.devices.Place`: what comes from event files is computed by workers, all else as before."""

    def __init__(
        self,
        client: Client,
        local: Place,
        backend: str | None,
        folder: str | os.PathLike[str] | None,
        shard: int,
        cleanup: ExitStack,
    ) -> None:
        checks.integer("shard", shard, 1)
        self._client, self._local, self._backend, self._shard = client, local, backend, shard
        self._folder = None if folder is None else Path(folder).absolute()
        self._cleanup = cleanup

    @property
    def first(self) -> Device:
        return self._local.first

    def set_weights(self, layer: int, weights: np.ndarray) -> None:
        self._local.set_weights(layer, weights)

    def hold(self, events: Events) -> Events:
        return self._local.hold(events)

    def each(self, net: Network, work: Work[R], data: Data, batch_size: int) -> Iterator[R]:
        found = _file_and_samples(data)
        if found is None:
            yield from self._local.each(net.on(self._local), work, data, batch_size)
            return
        dataset, samples = found
        threads = sum(self._client.nthreads().values())
        events = np.append(0, np.cumsum(np.diff(dataset.offsets)[samples]))
        shards = balanced(events, max(_SHARDS_PER_THREAD * threads, int(events[-1]) // self._shard + 1))
        common = _tasks.Common(dataset, _tasks.Sent.of(net, self._backend), work, batch_size)
        for results in in_order(self._client, _tasks.shard, common, (samples[a:b] for a, b in shards)):
            yield from results

    def prepared(self, net: Network, data: Data, layer: int, inhibit: bool, report: Report) -> Data | None:
        found = _file_and_samples(data)
        if found is None:
            return None
        if layer == 0 and not inhibit:
            return data
        beside = Path(os.path.realpath(self._folder or found[0].path.parent)) / "eventsnn-spikes"
        spikes = self._cleanup.enter_context(hidden(beside, folder=True)) / "spikes.h5"
        work = partial(_tasks.spikes_of, 0, layer, inhibit)
        write(net, data, spikes, work, net.shapes[layer], BATCH, lambda done, of: report(done, of, "frozen layers"))
        return self._cleanup.enter_context(EventDataset(spikes))

    def learn(self, layer: int, events: Any, order: np.ndarray, lesson: Lesson) -> np.ndarray:
        found = _file_and_samples(events)
        if found is None:
            return self._local.learn(layer, events, order, lesson)
        checks.integer("mini_batch", lesson.batch, 2)
        dataset, samples = found
        winners = np.full((len(order), lesson.update.k, 4), -1, np.int64)
        for start in range(0, len(order), lesson.batch):
            part = slice(start, start + lesson.batch)
            positions = None if lesson.positions is None else lesson.positions[part]
            winners[part] = self._mini_batch(layer, dataset, samples[order[part]], lesson, positions)
        return winners

    def _mini_batch(
        self, layer: int, dataset: EventDataset, samples: np.ndarray, lesson: Lesson, positions: np.ndarray | None
    ) -> np.ndarray:
        one = self.first
        counts = np.append(0, np.cumsum(np.diff(dataset.offsets)[samples]))
        parts = balanced(counts, max(sum(self._client.nthreads().values()), 1))
        weights, timed = one.backend.unpack(one.packed[layer]), asks_for_times(lesson.update)
        common = _tasks.Mini(dataset, weights, _tasks.to_find(lesson), timed, self._backend)
        items = ((samples[a:b], None if positions is None else positions[a:b]) for a, b in parts)
        results = list(in_order(self._client, _tasks.find, common, items))
        found, near = joined([found for found, _ in results]), concatenate([near for _, near in results])
        whole = lesson._replace(positions=positions)
        after = one.backend.change(put(near, one.backend), found, one.packed[layer], whole)
        self._local.set_weights(layer, one.backend.unpack(after))
        return found.winners


def write(
    net: Network,
    data: Data,
    out: Path,
    work: Work[Events],
    shape: Shape,
    batch_size: int,
    report: Callable[[int, int], object],
) -> None:
    """Write what the work gives for each batch to an event file, with labels and groups of the data."""
    dataset, samples = _file_and_samples(data) or (None, None)
    groups = None if dataset is None or dataset.groups is None else dataset.groups[samples]
    origin: dict[str, Any] = {} if dataset is None else dataset.provenance
    origin = {name: origin.get(name) for name in ("source", "source_sha256")}
    done = 0
    with EventWriter(out, shape, data.duration, data.unit, **origin) as writer:
        for spikes in net.each(work, data, batch_size):
            writer.append(spikes, None if groups is None else groups[done : done + len(spikes)])
            done += len(spikes)
            report(done, len(data))


def in_order(client: Client, function: Callable[[Any, Any], R], common: Any, items: Iterable[Any]) -> Iterator[R]:
    """Yield ``function(common, item)`` for all items in order; workers are a few of them ahead."""
    from dask import config

    ahead = max(_AHEAD * sum(client.nthreads().values()), 1)
    waiting: deque[Future] = deque()
    with config.set({"distributed.admin.large-graph-warning-threshold": "1 GiB"}):
        # A task of its own, so that it is sent once to each worker, and made again should all that hold it be lost.
        held = client.submit(_tasks.hold, eventsnn.__version__, common, pure=False)
        try:
            for item in items:
                waiting.append(client.submit(function, held, item, pure=False))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            client.cancel(list(waiting))


def _file_and_samples(data: Any) -> tuple[EventDataset, np.ndarray] | None:
    """Return an event file and the numbers of its samples, if that is what the data are."""
    if isinstance(data, Samples):
        return data.dataset, data.indices
    return (data, np.arange(len(data))) if isinstance(data, EventDataset) else None
