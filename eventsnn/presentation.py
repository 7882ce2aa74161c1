"""What a learning layer receives: the spikes of the frozen layers below, cached or block by block, epoch by epoch."""

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


class Passes:
    """Epochs over the data: which samples come in which order, and which maps are silent.

    Parameters
    ----------
    source : Source
        What the layer receives of ``data``.
    data : Events or EventDataset
        The stimuli.
    dropout : float
        Probability with which a map is silent for an epoch.
    shuffle : bool
        Whether each epoch has an order of its own.
    seed : int
        Of both.
    """

    def __init__(self, source: Source, data: Data, dropout: float, shuffle: bool, seed: int) -> None:
        self._source, self._data, self._dropout, self._shuffle, self._seed = source, data, dropout, shuffle, seed
        self._whole: Events | None = None

    @property
    def cached(self) -> bool:
        """Whether the layer's input is in memory."""
        return self._whole is not None

    def load(self, memory: int, report: Progress, mini_batch: int) -> None:
        """Run the frozen layers, once for all epochs, if what they send fits into so many bytes.

        Raises
        ------
        ValueError
            If it does not, and shuffling or mini-batches need it.
        """
        self._whole = self._source.load(memory, report)
        if self._whole is None and (self._shuffle or mini_batch > 1):
            name = "shuffle" if self._shuffle else "mini_batch"
            raise ValueError(f"{name} expects the layer's input in memory, and it does not fit into {memory} bytes")

    def blocks(self, epoch: int, skip: int) -> Iterator[Block]:
        """Return the presentations of an epoch, without the first ``skip``."""
        if self._whole is None:
            return self._source.stream(skip)
        n = len(self._data)
        order = _rng(self._seed, epoch, 1).permutation(n) if self._shuffle else np.arange(n)
        return iter([Block(self._whole, self._data.labels, order[skip:])])

    def active(self, epoch: int, maps: int) -> np.ndarray | None:
        """Return which maps are not silent in an epoch, bool of shape (maps,); None if all of them may fire."""
        return _rng(self._seed, epoch, 0).random(maps) >= self._dropout if self._dropout else None


def _rng(seed: int, epoch: int, purpose: int) -> np.random.Generator:
    """Return a stream of its own for each purpose in each epoch, so that none moves another."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch, purpose)))
