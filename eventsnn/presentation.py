"""What a learning layer receives: the spikes of the frozen layers below, cached or block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from eventsnn.batches import Collector, Data, batches, fetch, put
from eventsnn.events import Events
from eventsnn.network import Network

Progress = Callable[[int, int, str], object]

_BYTES_PER_SPIKE = 14  # time int64, channel, y and x uint16


class Block(NamedTuple):
    """Input of the learning layer, labels in the host's memory, and the order of presentation."""

    events: Events
    labels: np.ndarray | None
    order: np.ndarray


class Source:
    """What the learning layer receives, whole or in blocks."""

    def __init__(self, net: Network, data: Data, layer: int, inhibit_input: bool, batch_size: int) -> None:
        self._net, self._data, self._layer = net, data, layer
        self._inhibit, self._batch_size = inhibit_input, batch_size
        self._as_is = layer == 0 and not inhibit_input

    def load(self, memory: int, report: Progress) -> Events | None:
        """Return everything, or None if it would take more than ``memory`` bytes."""
        backend = self._net.backend
        if self._as_is and isinstance(self._data, Events):
            return put(self._data, backend)
        if self._as_is and not isinstance(self._data, Events):
            fits = self._data.n_events * _BYTES_PER_SPIKE <= memory
            return put(self._data.load(), backend) if fits else None
        collector, done = Collector(len(self._data), potential=False), 0
        for batch in batches(self._data, self._batch_size):
            collector.add(fetch(self._prepare(batch), backend))
            if collector.estimated_bytes() > memory:
                return None
            done += len(batch)
            report(done, len(self._data), "frozen layers")
        return put(collector.result(), backend)

    def stream(self, skip: int = 0) -> Iterator[Block]:
        """Yield block after block, without the first ``skip`` samples."""
        for whole in batches(self._data, self._batch_size):
            batch = whole[skip:] if skip else whole
            skip = max(skip - len(whole), 0)
            if len(whole) and not len(batch):
                continue
            yield Block(self._prepare(batch), batch.labels, np.arange(len(batch)))

    def _prepare(self, batch: Events) -> Events:
        spikes = put(self._net.run(batch, stop=self._layer, batch_size=max(len(batch), 1)), self._net.backend)
        return self._net.backend.pointwise(spikes) if self._inhibit else spikes
