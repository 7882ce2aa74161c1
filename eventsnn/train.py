"""Layer-by-layer training on the cached spikes of the frozen layers below."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from eventsnn.backends import Reward, Update
from eventsnn.batches import BATCH, Collector, Data, batches, fetch, put
from eventsnn.events import Events
from eventsnn.history import Epoch, History
from eventsnn.network import Network, check_classes
from eventsnn.plasticity import RSTDP, STDP, WTA, Doubling, split_evenly

Progress = Callable[[int, int, str], object]

_CHUNK = 1000  # presentations between two calls of ``progress`` and two points of the convergence curve
_BYTES_PER_SPIKE = 14  # time int64, channel, y and x uint16


def fit(
    net: Network,
    data: Data,
    *,
    layer: int,
    rule: STDP | RSTDP,
    competition: WTA | None = None,
    epochs: int = 1,
    schedule: Doubling | None = None,
    classes: Any = None,
    dropout: float = 0.0,
    inhibit_input: bool = False,
    shuffle: bool = False,
    seed: int = 0,
    memory: int = 2 << 30,
    batch_size: int = BATCH,
    progress: Progress | None = None,
    on_epoch: Callable[[Epoch], object] | None = None,
) -> History:
    """Train one layer of a network, online: one stimulus after another; the layers below stay as they are.

    The frozen layers run once, and their spikes are cached. Same seed, same bits: results depend neither on the
    backend nor on its threads, ``memory`` or ``batch_size``.

    Parameters
    ----------
    net : Network
        Its layer ``layer`` changes in place. With :class:`RSTDP`, ``net.classes`` is set too.
    data : Events or EventDataset
        Stimuli on the grid ``net.shape``, with labels for :class:`RSTDP`.
    layer : int
        Index of the layer that learns.
    rule : STDP or RSTDP
        How the winners' weights change.
    competition : WTA, optional
        Who wins; default ``WTA()``: one winner.
    epochs : int
        Passes over the data.
    schedule : Doubling, optional
        How the rates of :class:`STDP` grow; counts from the start of this call.
    classes : array_like of int, shape (maps,), optional
        Class that each map decides for, with :class:`RSTDP`; default: classes up to the largest label, maps shared
        out evenly in order.
    dropout : float
        Probability with which a map is silent for a whole epoch, drawn anew for each (Mozafari et al. 2018).
    inhibit_input : bool
        Whether pointwise inhibition applies to what the layer learns from (Kheradpisheh et al. 2018). It does not
        apply when the network runs afterwards.
    shuffle : bool
        Whether each epoch presents the samples in a new random order; default: as they come.
    seed : int
        Of dropout and shuffling.
    memory : int
        Bytes that the cached spikes may take. If they would take more, each epoch reads the data and runs the
        frozen layers again, ``batch_size`` samples at a time.
    batch_size : int
        Samples at a time in the frozen layers.
    progress : callable, optional
        Called as ``progress(done, total, phase)``.
    on_epoch : callable, optional
        Called with the :class:`Epoch` after each one; ``net`` holds the weights of that moment.

    Returns
    -------
    History
        Winners, convergence, accuracy and speed of each epoch.

    Raises
    ------
    ValueError
        If data, layer, rule and the other arguments do not fit each other; nothing has changed then.
    """
    net.check_trainable(layer)
    net.check_input(data.shape)
    _check_numbers(epochs, dropout, seed)
    learner = _Learner(net, data, layer, rule, competition or WTA(), schedule, classes)
    report = progress or _ignore
    start = time.perf_counter()
    source = _Source(net, data, layer, inhibit_input, batch_size)
    cached = source.load(memory, report)
    if cached is None and shuffle:
        raise ValueError(f"shuffle expects the layer's input in memory, and it does not fit into {memory} bytes")
    prepared = time.perf_counter() - start
    if isinstance(rule, RSTDP):
        net.classes = learner.classes
    records = []
    for number in range(epochs):
        active = _rng(seed, number, 0).random(learner.maps) >= dropout if dropout else None
        order = _rng(seed, number, 1).permutation(len(data)) if shuffle else np.arange(len(data))
        blocks = source.stream() if cached is None else iter([_Block(cached, data.labels, order)])
        records.append(learner.epoch(blocks, active, partial(_advance, report, len(data), number, epochs)))
        if on_epoch is not None:
            on_epoch(records[-1])
    return History(layer, tuple(records), np.array(learner.curve), prepared, cached is not None)


class _Block(NamedTuple):
    """Input of the learning layer, labels in the host's memory, and the order of presentation."""

    events: Events
    labels: np.ndarray | None
    order: np.ndarray


class _Source:
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

    def stream(self) -> Iterator[_Block]:
        """Yield block after block."""
        for batch in batches(self._data, self._batch_size):
            yield _Block(self._prepare(batch), batch.labels, np.arange(len(batch)))

    def _prepare(self, batch: Events) -> Events:
        spikes = put(self._net.run(batch, stop=self._layer, batch_size=max(len(batch), 1)), self._net.backend)
        return self._net.backend.pointwise(spikes) if self._inhibit else spikes


class _Learner:
    """State of one ``fit``: how many samples were presented, and the latest decisions."""

    def __init__(
        self,
        net: Network,
        data: Data,
        layer: int,
        rule: STDP | RSTDP,
        competition: WTA,
        schedule: Doubling | None,
        classes: Any,
    ) -> None:
        self.maps = net.weights_shape(layer)[0]
        self.classes = _classes(rule, data, classes, self.maps)
        if schedule is not None and not isinstance(rule, STDP):
            raise ValueError("schedule expects STDP; RSTDP has its own, adaptive")
        self._net, self._layer, self._rule = net, layer, rule
        self._competition, self._schedule = competition, schedule
        self._presented = 0
        n_classes = max(len(np.unique(self.classes)), 1)
        self._hit, self._miss = 1 / n_classes, 1 - 1 / n_classes  # of guessing, as in the published programs
        self._window = np.zeros(3, np.int64)  # hits, misses and silent samples since the rates last changed
        self._kernel_arguments(None)  # so that what does not fit is refused before the frozen layers run
        self.curve = [(0, self._convergence())]

    def epoch(self, blocks: Iterator[_Block], active: np.ndarray | None, report: Callable[[int], object]) -> Epoch:
        """Present all blocks once."""
        start, before = time.perf_counter(), self._presented
        decisions, winners = np.zeros(3, np.int64), np.zeros(self.maps, np.int64)
        for block in blocks:
            left = block.order
            while len(left):
                chunk, left = np.split(left, [self._chunk(before)])
                decided, won = self._present(block._replace(order=chunk), active)
                decisions += decided
                winners += won
                if (self._presented - before) % _CHUNK == 0:
                    self.curve.append((self._presented, self._convergence()))
                    report(self._presented - before)
        self._end_epoch(decisions)
        if self.curve[-1][0] != self._presented:
            self.curve.append((self._presented, self._convergence()))
            report(self._presented - before)
        hits, misses, silent = decisions.tolist()
        rewarded = isinstance(self._rule, RSTDP)
        return Epoch(
            presented=self._presented - before,
            silent=silent,
            hits=hits if rewarded else None,
            misses=misses if rewarded else None,
            winners=winners,
            convergence=self.curve[-1][1],
            seconds=time.perf_counter() - start,
        )

    def _chunk(self, before: int) -> int:
        """Return for how many presentations nothing changes but the weights."""
        steps = _CHUNK - (self._presented - before) % _CHUNK
        if self._schedule is not None:
            steps = min(steps, self._schedule.steps(self._presented))
        if isinstance(self._rule, RSTDP) and self._rule.adaptive is not None and self._rule.adaptive.every is not None:
            steps = min(steps, self._rule.adaptive.every - int(self._window.sum()))
        return steps

    def _present(self, block: _Block, active: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Learn from samples between two changes of the rates; return decisions and how often each map won."""
        net, layer = self._net, self._layer
        update, reward = self._kernel_arguments(active)
        winners = net.backend.learn(block.events, block.order, net.packed(layer), net.neurons(layer), update, reward)
        self._presented += len(winners)
        decisions = self._decisions(winners[:, 0, 0], block)
        self._adapt(decisions)
        chosen = winners[:, :, 0]
        return decisions, np.bincount(chosen[chosen >= 0], minlength=self.maps)

    def _kernel_arguments(self, active: np.ndarray | None) -> tuple[Update, Reward | None]:
        rule = self._rule
        if isinstance(rule, RSTDP):
            return rule.adapted(self._hit, self._miss).updates(self.classes, self._competition, active)
        now = rule if self._schedule is None else self._schedule.rule(rule, self._presented)
        return now.update(self.maps, self._competition, active), None

    def _decisions(self, first: np.ndarray, block: _Block) -> np.ndarray:
        """Return the numbers of hits, misses and silent samples, given the map of each first winner."""
        silent = int((first < 0).sum())
        if isinstance(self._rule, STDP) or block.labels is None:
            return np.array([0, 0, silent])
        hits = int(((first >= 0) & (self.classes[first] == block.labels[block.order])).sum())
        return np.array([hits, len(first) - hits - silent, silent])

    def _adapt(self, decisions: np.ndarray) -> None:
        self._window += decisions
        rule = self._rule
        if isinstance(rule, RSTDP) and rule.adaptive is not None and rule.adaptive.every == self._window.sum():
            self._take_ratios(self._window)

    def _end_epoch(self, decisions: np.ndarray) -> None:
        rule = self._rule
        if isinstance(rule, RSTDP) and rule.adaptive is not None and rule.adaptive.every is None:
            self._take_ratios(decisions)

    def _take_ratios(self, decisions: np.ndarray) -> None:
        if decisions.sum():
            self._hit, self._miss = (decisions[:2] / decisions.sum()).tolist()
        self._window = np.zeros(3, np.int64)

    def _convergence(self) -> float:
        lower, upper = self._rule.bounds
        unit = (self._net.weights[self._layer] - np.float32(lower)) / np.float32(upper - lower)
        np.clip(unit, 0, 1, out=unit)  # initial weights may lie outside
        return float(np.mean(unit * (1 - unit), dtype=np.float64))


def _ignore(done: int, total: int, phase: str) -> None:
    pass


def _advance(report: Progress, total: int, number: int, epochs: int, done: int) -> None:
    report(done, total, f"epoch {number + 1}/{epochs}")


def _rng(seed: int, epoch: int, purpose: int) -> np.random.Generator:
    """Return a stream of its own for each purpose in each epoch, so that none moves another."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch, purpose)))


def _check_numbers(epochs: int, dropout: float, seed: int) -> None:
    if epochs < 1:
        raise ValueError(f"epochs expects at least 1, got {epochs}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout expects a probability from 0 to below 1, got {dropout}")
    if seed < 0:
        raise ValueError(f"seed expects 0 or more, got {seed}")


def _classes(rule: STDP | RSTDP, data: Data, classes: Any, maps: int) -> np.ndarray:
    """Return the class of each map for reward-modulated learning; none otherwise."""
    if isinstance(rule, STDP):
        if classes is not None:
            raise ValueError("classes expects RSTDP; STDP does not look at labels")
        return np.empty(0, np.int64)
    labels = data.labels
    if labels is None or len(labels) == 0:
        raise ValueError("RSTDP expects data with labels, got none")
    if labels.min() < 0:
        raise ValueError(f"RSTDP expects labels of 0 or more, got {labels.min()}")
    chosen = split_evenly(maps, int(labels.max()) + 1) if classes is None else check_classes(classes, maps)
    if unknown := sorted(set(np.unique(labels).tolist()) - set(chosen.tolist())):
        raise ValueError(f"classes expects a map for every label, none has {unknown}")
    return chosen
