"""What a learning layer receives, epoch by epoch: spikes of the frozen layers, from memory, a file or made anew."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from eventsnn.ahead import read_ahead
from eventsnn.batches import Collector, Data, batches, bounded, fetch, put
from eventsnn.events import Events, concatenate, replace_fields
from eventsnn.network import Network

if TYPE_CHECKING:
    from eventsnn.io import EventDataset

Progress = Callable[[int, int, str], object]

_BYTES_PER_SPIKE = 14  # time int64, channel, y and x uint16
_SHARE = 8  # of the budget that a block may take: it, the next one and what reading that takes stay within


class Block(NamedTuple):
    """Input of the learning layer as :meth:`Network.learn` takes it, labels, and the order of presentation."""

    events: Any
    labels: np.ndarray | None
    order: np.ndarray


def join(first: Block, second: Block, net: Network) -> Block:
    """Return the presentations of a block and then those of another as one block."""
    whole = concatenate([fetch(block.events, net.backend)[block.order] for block in (first, second)])
    return Block(net.hold(whole), whole.labels, np.arange(len(whole)))


class Source:
    """What the learning layer receives, whole or in blocks.

    Parameters
    ----------
    net : Network
        Its layers below ``layer`` run.
    data : Events or EventDataset
        What they receive.
    layer : int
        Index of the layer that learns.
    inhibit_input : bool
        Whether pointwise inhibition comes between.
    batch_size : int
        Samples at a time in the frozen layers.
    memory : int
        Bytes that spikes may take.
    """

    def __init__(self, net: Network, data: Data, layer: int, inhibit_input: bool, batch_size: int, memory: int) -> None:
        self._net, self._data, self._layer = net, data, layer
        self._inhibit, self._batch_size, self._memory = inhibit_input, batch_size, memory
        self._as_is = layer == 0 and not inhibit_input
        self._file: EventDataset | None = None

    def load(self, report: Progress, *, in_order: bool, once: bool) -> Data | None:
        """Return everything, or None if it would take too much memory; a data set where others hold it.

        What is then needed out of order, or more than ``once`` and is not in a file yet, goes to a temporary file.
        """
        data, net = self._data, self._net
        if (elsewhere := net.place.prepared(net, data, self._layer, self._inhibit, report)) is not None:
            return elsewhere
        if self._as_is and isinstance(data, Events):
            return net.hold(data)
        if self._as_is and not isinstance(data, Events) and data.n_events * _BYTES_PER_SPIKE <= self._memory:
            return net.hold(data.load())
        if self._as_is and in_order:
            return None
        collector, parts = Collector(len(data), potential=False), self._parts(report)
        for part in parts:
            collector.add(part)
            if collector.estimated_bytes() > self._memory:
                if not (once and in_order):
                    self._keep(chain(batches(collector.result(), self._batch_size), parts))
                return None
        return net.hold(collector.result())

    def stream(self, order: np.ndarray) -> Iterator[Block]:
        """Yield the samples of ``order`` block by block: the last of the data, or any if there is a temporary file."""
        if self._file is None:
            return self._afresh(len(self._data) - len(order))
        return self._stored(self._file, order)

    def _afresh(self, skip: int) -> Iterator[Block]:
        for whole in batches(self._data, self._batch_size):
            batch = whole[skip:] if skip else whole
            skip = max(skip - len(whole), 0)
            if len(whole) and not len(batch):
                continue
            yield Block(self._net.hold(self._prepare(batch)), batch.labels, np.arange(len(batch)))

    def _stored(self, file: EventDataset, order: np.ndarray) -> Iterator[Block]:
        share = self._memory // _SHARE * len(file) // max(file.n_events * _BYTES_PER_SPIKE, 1)
        size = max(bounded(file, self._batch_size), share)  # out of order, more at a time are read faster
        pieces = (order[start : start + size] for start in range(0, len(order), size))
        for batch in read_ahead(file[piece] for piece in pieces):
            yield Block(self._net.hold(batch), batch.labels, np.arange(len(batch)))

    def _parts(self, report: Progress) -> Iterator[Events]:
        """Yield what the frozen layers give, in the memory of the host."""
        done, phase = 0, "copying" if self._as_is else "frozen layers"
        for part in batches(self._data, self._batch_size) if self._as_is else self._prepared(self._data):
            yield part
            done += len(part)
            report(done, len(self._data), phase)

    def _prepared(self, data: Data) -> Iterator[Events]:
        """Yield what the layer receives of all samples, some at a time."""
        return self._net.each(partial(_through, self._layer, self._inhibit), data, self._batch_size)

    def _prepare(self, batch: Events) -> Events:
        parts = list(self._prepared(batch))
        return parts[0] if len(parts) == 1 else concatenate(parts)

    def _keep(self, parts: Iterator[Events]) -> None:
        """Write a temporary file, and open it.

        Where an open file can be read without its name it loses that at once, so that nothing is left, not even if
        the process is killed; elsewhere it goes with this object.
        """
        self._folder = TemporaryDirectory(prefix="eventsnn-", ignore_cleanup_errors=True)
        try:
            self._file = _written(Path(self._folder.name) / "spikes.h5", parts)
        finally:
            if self._file is None or os.name == "posix":
                self._folder.cleanup()


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
        self._whole: Data | None = None

    @property
    def cached(self) -> bool:
        """Whether the layer's input is in memory."""
        return self._whole is not None

    def load(self, report: Progress, *, once: bool) -> None:
        """Run the frozen layers; ``once`` if it is for one epoch only."""
        self._whole = self._source.load(report, in_order=not self._shuffle, once=once)

    def blocks(self, epoch: int, skip: int) -> Iterator[Block]:
        """Return the presentations of an epoch, without the first ``skip``."""
        n = len(self._data)
        order = (_rng(self._seed, epoch, 1).permutation(n) if self._shuffle else np.arange(n))[skip:]
        if self._whole is None:
            return self._source.stream(order)
        return iter([Block(self._whole, self._data.labels, order)])

    def active(self, epoch: int, maps: int) -> np.ndarray | None:
        """Return which maps are not silent in an epoch, bool of shape (maps,); None if all of them may fire."""
        return _rng(self._seed, epoch, 0).random(maps) >= self._dropout if self._dropout else None


def _through(layer: int, inhibit: bool, net: Network, batch: Events) -> Events:
    """Return what ``layer`` receives of some samples, all of them at once."""
    spikes, backend = net.run_through(batch, 0, layer), net.backend
    return fetch(backend.pointwise(put(spikes, backend)), backend) if inhibit else spikes


def _rng(seed: int, epoch: int, purpose: int) -> np.random.Generator:
    """Return a stream of its own for each purpose in each epoch, so that none moves another."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch, purpose)))


def _written(path: Path, parts: Iterator[Events]) -> EventDataset:
    from eventsnn.io import EventDataset, EventWriter  # with them h5py

    first = next(parts)
    with EventWriter(path, first.shape, first.duration, first.unit, compression="none") as writer:
        for part in chain([first], parts):
            writer.append(replace_fields(part, potential=None))
    return EventDataset(path)
