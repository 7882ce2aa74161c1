"""Layer-by-layer training on the cached spikes of the frozen layers below."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from eventsnn.backends import Reward, Update
from eventsnn.batches import BATCH, Data
from eventsnn.history import Epoch, History
from eventsnn.network import Network, check_classes
from eventsnn.plasticity import (
    RSTDP,
    STDP,
    WTA,
    Annealing,
    Competition,
    Custom,
    Doubling,
    Rule,
    Suppression,
    ThresholdAdaptation,
    split_evenly,
)
from eventsnn.presentation import Block, Progress, Source

_CHUNK = 1000  # presentations between two calls of ``progress`` and two points of the convergence curve
_CLOSE = 100  # the same where convergence decides when to stop


def fit(
    net: Network,
    data: Data,
    *,
    layer: int,
    rule: Rule,
    competition: WTA | Competition | None = None,
    epochs: int = 1,
    schedule: Doubling | Annealing | None = None,
    classes: Any = None,
    adaptation: ThresholdAdaptation | None = None,
    suppression: Suppression | None = None,
    patches: bool = False,
    mini_batch: int = 1,
    stop_below: float | None = None,
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
        Its layer ``layer`` changes in place. With :class:`RSTDP` in the last layer with weights, ``net.classes`` is set
        too: the network then decides.
    data : Events or EventDataset
        Stimuli on the grid ``net.shape``, with labels for :class:`RSTDP`.
    layer : int
        Index of the layer that learns.
    rule : STDP, RSTDP or Custom
        How the winners' weights change.
    competition : WTA or Competition, optional
        Who wins; default ``WTA()``: one winner.
    epochs : int
        Passes over the data.
    schedule : Doubling or Annealing, optional
        How the rates change: of :class:`STDP`, with :class:`Annealing` also of :class:`RSTDP` and of ``adaptation``.
        Counts from the start of this call.
    classes : array_like of int, shape (maps,), optional
        Class that each map decides for, with :class:`RSTDP` or a rule that asks for the reward; default: classes up to
        the largest label, maps shared out evenly in order.
    adaptation : ThresholdAdaptation, optional
        How the layer's thresholds change; ``net.thresholds`` holds the result.
    suppression : Suppression, optional
        Homeostasis: which maps rest because they win too often.
    patches : bool
        Whether each presentation trains on one random patch, the receptive field of an output position drawn from the
        seed and the number of the presentation, as if the layer had no other (Falez et al. 2019). The layers below see
        whole stimuli.
    mini_batch : int
        Stimuli whose winners are found with the same weights, on all threads, before their updates are applied in
        order. Default 1: online, as published networks learn; more changes what is learnt (ARCHITECTURE.md has the
        accuracy measured beside it). A change of rates ends a mini-batch early.
    stop_below : float, optional
        Stop as soon as convergence (see :class:`Epoch`), looked at every 100 presentations, is below this.
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
        Winners, convergence, accuracy and speed of each epoch; the last is cut short where ``stop_below`` ended it.

    Raises
    ------
    ValueError
        If data, layer, rule and the other arguments do not fit each other; nothing has changed then.
    """
    net.check_trainable(layer)
    net.check_input(data.shape)
    _check_numbers(epochs, dropout, seed, mini_batch)
    recipe = _Recipe(
        rule, competition or WTA(), schedule, adaptation, suppression, patches, mini_batch, stop_below, seed
    )
    learner = _Learner(net, data, layer, recipe, classes)
    report = progress or _ignore
    start = time.perf_counter()
    source = Source(net, data, layer, inhibit_input, batch_size)
    cached = source.load(memory, report)
    if cached is None and (shuffle or mini_batch > 1):
        name = "shuffle" if shuffle else "mini_batch"
        raise ValueError(f"{name} expects the layer's input in memory, and it does not fit into {memory} bytes")
    prepared = time.perf_counter() - start
    if rule.rewarded and layer == net.trainable[-1]:
        net.classes = learner.classes
    records = []
    for number in range(epochs):
        active = _rng(seed, number, 0).random(learner.maps) >= dropout if dropout else None
        order = _rng(seed, number, 1).permutation(len(data)) if shuffle else np.arange(len(data))
        blocks = source.stream() if cached is None else iter([Block(cached, data.labels, order)])
        records.append(learner.epoch(number, blocks, active, partial(_advance, report, len(data), number, epochs)))
        if on_epoch is not None:
            on_epoch(records[-1])
        if learner.converged:
            break
    return History(layer, tuple(records), np.array(learner.curve), prepared, cached is not None, learner.converged)


class _Recipe(NamedTuple):
    """How a layer learns."""

    rule: Rule
    competition: WTA | Competition
    schedule: Doubling | Annealing | None
    adaptation: ThresholdAdaptation | None
    suppression: Suppression | None
    patches: bool
    mini_batch: int
    stop_below: float | None
    seed: int

    def check(self) -> None:
        """Refuse what does not go together."""
        if isinstance(self.schedule, Doubling) and not isinstance(self.rule, STDP):
            raise ValueError("schedule expects STDP; RSTDP has its own, adaptive")
        if isinstance(self.schedule, Annealing) and isinstance(self.rule, Custom):
            raise ValueError("schedule expects a rule with rates, and one of your own has none")

    def annealing(self, epoch: int) -> float:
        """Return what rates are multiplied with in an epoch."""
        return self.schedule.factor**epoch if isinstance(self.schedule, Annealing) else 1.0


class _Learner:
    """State of one ``fit``: how many samples were presented, the latest decisions, who rests."""

    def __init__(self, net: Network, data: Data, layer: int, recipe: _Recipe, classes: Any) -> None:
        self.maps = net.weights_shape(layer)[0]
        self.classes = _classes(recipe.rule, data, classes, self.maps)
        recipe.check()
        if recipe.adaptation is not None and net.neurons(layer).at_end:
            raise ValueError("adaptation expects finite thresholds, got infinite ones")
        self._net, self._layer, self._recipe = net, layer, recipe
        self._presented = self._epoch = 0
        n_classes = max(len(np.unique(self.classes)), 1)
        self._hit, self._miss = 1 / n_classes, 1 - 1 / n_classes  # of guessing, as in the published programs
        self._window = np.zeros(3, np.int64)  # hits, misses and silent samples since the rates last changed
        self._wins, self._since = np.zeros(self.maps, np.int64), 0  # since maps were last suppressed
        self._rested = np.ones(self.maps, bool)
        step = _CHUNK if recipe.stop_below is None else _CLOSE
        self._step = -(-step // recipe.mini_batch) * recipe.mini_batch
        self._kernel_arguments(None)  # so that what does not fit is refused before the frozen layers run
        self.curve = [(0, self._convergence())]
        self.converged = False

    def epoch(
        self, number: int, blocks: Iterator[Block], active: np.ndarray | None, report: Callable[[int], object]
    ) -> Epoch:
        """Present all blocks once, or until convergence."""
        start, before = time.perf_counter(), self._presented
        self._epoch = number
        decisions, winners = np.zeros(3, np.int64), np.zeros(self.maps, np.int64)
        for chunk in self._chunks(blocks, before):
            decided, won = self._present(chunk, active)
            decisions += decided
            winners += won
            if (self._presented - before) % self._step == 0:
                self._look(report, before)
            if self.converged:
                break
        self._end_epoch(decisions)
        if self.curve[-1][0] != self._presented:
            self._look(report, before)
        hits, misses, silent = decisions.tolist()
        rewarded = self._recipe.rule.rewarded
        return Epoch(
            presented=self._presented - before,
            silent=silent,
            hits=hits if rewarded else None,
            misses=misses if rewarded else None,
            winners=winners,
            convergence=self.curve[-1][1],
            seconds=time.perf_counter() - start,
        )

    def _look(self, report: Callable[[int], object], before: int) -> None:
        """Note how far learning has come."""
        self.curve.append((self._presented, self._convergence()))
        stop_below = self._recipe.stop_below
        self.converged = stop_below is not None and self.curve[-1][1] < stop_below
        report(self._presented - before)

    def _chunks(self, blocks: Iterator[Block], before: int) -> Iterator[Block]:
        """Yield presentations during which nothing changes but weights and thresholds."""
        for block in blocks:
            left = block.order
            while len(left):
                now, left = np.split(left, [self._chunk(before)])
                yield block._replace(order=now)

    def _chunk(self, before: int) -> int:
        """Return for how many presentations nothing changes but weights and thresholds."""
        recipe = self._recipe
        steps = self._step - (self._presented - before) % self._step
        if isinstance(recipe.schedule, Doubling):
            steps = min(steps, recipe.schedule.steps(self._presented))
        if (
            isinstance(recipe.rule, RSTDP)
            and recipe.rule.adaptive is not None
            and recipe.rule.adaptive.every is not None
        ):
            steps = min(steps, recipe.rule.adaptive.every - int(self._window.sum()))
        if recipe.suppression is not None:
            steps = min(steps, recipe.suppression.every - self._since)
        return steps

    def _present(self, block: Block, active: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Learn from samples between two changes of the rates; return decisions and how often each map won."""
        net, layer, recipe = self._net, self._layer, self._recipe
        if recipe.suppression is not None:
            active = self._rested if active is None else active & self._rested
        update, reward = self._kernel_arguments(active)
        neurons = net.neurons(layer)
        if recipe.adaptation is not None:
            neurons = replace(neurons, threshold=neurons.threshold.copy())
        positions = self._positions(len(block.order)) if recipe.patches else None
        winners = net.backend.learn(
            block.events, block.order, net.packed(layer), neurons, update, reward, positions=positions,
            batch=recipe.mini_batch,
        )  # fmt: skip
        if recipe.adaptation is not None:
            net.set_thresholds(layer, neurons.threshold)
        self._presented += len(winners)
        decisions = self._decisions(winners[:, 0, 0], block)
        self._adapt(decisions)
        chosen = winners[:, :, 0]
        won = np.bincount(chosen[chosen >= 0], minlength=self.maps)
        self._suppress(won, len(winners))
        return decisions, won

    def _kernel_arguments(self, active: np.ndarray | None) -> tuple[Update, Reward | None]:
        recipe, reward, factor = self._recipe, None, self._recipe.annealing(self._epoch)
        rule = recipe.rule
        if isinstance(recipe.schedule, Doubling) and isinstance(rule, STDP):
            rule = recipe.schedule.rule(rule, self._presented)
        if not isinstance(rule, Custom) and factor != 1:
            rule = rule.scaled(factor)
        if isinstance(rule, RSTDP):
            rule = rule.adapted(self._hit, self._miss)
        if isinstance(rule, RSTDP) or (isinstance(rule, Custom) and rule.rewarded):
            update, reward = rule.updates(self.classes, recipe.competition, active)
        else:
            update = rule.update(self.maps, recipe.competition, active)
        if recipe.adaptation is None:
            return update, reward
        return replace(update, thresholds=recipe.adaptation.scaled(factor)), reward

    def _positions(self, n: int) -> np.ndarray:
        """Draw an output position for each of the next presentations, whichever way they come in chunks."""
        geometry, shape = self._net.neurons(self._layer).geometry, self._net.shapes[self._layer]
        height, width = geometry.output(*shape[1:])
        stream = np.random.Philox(np.random.SeedSequence(self._recipe.seed, spawn_key=(0, 2)))
        stream.advance(self._presented)  # each step of the counter gives four numbers
        return (stream.random_raw(4 * n)[::4] % np.uint64(height * width)).astype(np.int64)

    def _suppress(self, won: np.ndarray, presented: int) -> None:
        suppression = self._recipe.suppression
        self._wins += won
        self._since += presented
        if suppression is not None and self._since == suppression.every:
            self._rested = suppression.rested(self._wins)
            self._wins, self._since = np.zeros_like(self._wins), 0

    def _decisions(self, first: np.ndarray, block: Block) -> np.ndarray:
        """Return the numbers of hits, misses and silent samples, given the map of each first winner."""
        silent = int((first < 0).sum())
        if not self._recipe.rule.rewarded or block.labels is None:
            return np.array([0, 0, silent])
        hits = int(((first >= 0) & (self.classes[first] == block.labels[block.order])).sum())
        return np.array([hits, len(first) - hits - silent, silent])

    def _adapt(self, decisions: np.ndarray) -> None:
        self._window += decisions
        rule = self._recipe.rule
        if isinstance(rule, RSTDP) and rule.adaptive is not None and rule.adaptive.every == self._window.sum():
            self._take_ratios(self._window)

    def _end_epoch(self, decisions: np.ndarray) -> None:
        rule = self._recipe.rule
        if isinstance(rule, RSTDP) and rule.adaptive is not None and rule.adaptive.every is None:
            self._take_ratios(decisions)

    def _take_ratios(self, decisions: np.ndarray) -> None:
        if decisions.sum():
            self._hit, self._miss = (decisions[:2] / decisions.sum()).tolist()
        self._window = np.zeros(3, np.int64)

    def _convergence(self) -> float:
        lower, upper = self._recipe.rule.bounds
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


def _check_numbers(epochs: int, dropout: float, seed: int, mini_batch: int) -> None:
    for name, value, least in (("epochs", epochs, 1), ("seed", seed, 0), ("mini_batch", mini_batch, 1)):
        if not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name} expects an integer of at least {least}, got {value!r}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout expects a probability from 0 to below 1, got {dropout}")


def _classes(rule: Rule, data: Data, classes: Any, maps: int) -> np.ndarray:
    """Return the class of each map for reward-modulated learning; none otherwise."""
    name = type(rule).__name__
    if not rule.rewarded:
        if classes is not None:
            raise ValueError(f"classes expects RSTDP or a rule that asks for the reward; this {name} ignores labels")
        return np.empty(0, np.int64)
    labels = data.labels
    if labels is None or len(labels) == 0:
        raise ValueError(f"{name} expects data with labels, got none")
    if labels.min() < 0:
        raise ValueError(f"{name} expects labels of 0 or more, got {labels.min()}")
    chosen = split_evenly(maps, int(labels.max()) + 1) if classes is None else check_classes(classes, maps)
    if unknown := sorted(set(np.unique(labels).tolist()) - set(chosen.tolist())):
        raise ValueError(f"classes expects a map for every label, none has {unknown}")
    return chosen
