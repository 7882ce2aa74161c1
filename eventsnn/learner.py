"""What changes while a layer learns: rates, decisions, who rests, how far it has come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np

from eventsnn import checks
from eventsnn.backends import Lesson, Reward, Update
from eventsnn.checkpoint import State, same_kind
from eventsnn.history import Epoch
from eventsnn.network import Network
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
)
from eventsnn.plausible import (
    check_counts,
    check_curve,
    check_epochs,
    check_ratios,
    check_thresholds,
    check_weights,
    refuse_unless,
)
from eventsnn.presentation import Block, join
from eventsnn.snapshots import first_maps, next_moment, pack, unpack

_CHUNK = 1000  # presentations between two calls of ``progress`` and two points of the convergence curve
_CLOSE = 100  # the same where convergence decides when to stop

# What a checkpoint holds beside weights, thresholds, epochs and curve: names, and attributes of the learner.
_VALUES = {
    "presented": "presented",
    "hit": "_hit",
    "miss": "_miss",
    "since": "_since",
    "seconds": "_seconds",
    "converged": "converged",
}
_ARRAYS = {"window": "_window", "wins": "_wins", "rested": "_rested", "decided": "_decided", "won": "_won"}
_COUNTS = _ARRAYS | {name: _VALUES[name] for name in ("since", "seconds")}


class Recipe(NamedTuple):
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
        """Refuse values of another kind, and what does not go together."""
        checks.kind("rule", self.rule, STDP, RSTDP, Custom, or_none=False)
        checks.kind("competition", self.competition, WTA, Competition)
        checks.kind("schedule", self.schedule, Doubling, Annealing)
        checks.kind("adaptation", self.adaptation, ThresholdAdaptation)
        checks.kind("suppression", self.suppression, Suppression)
        checks.switch("patches", self.patches)
        checks.integer("mini_batch", self.mini_batch, 1)
        checks.integer("seed", self.seed, 0)
        if self.stop_below is not None:
            checks.number("stop_below", self.stop_below, 0)
        if isinstance(self.schedule, Doubling) and not isinstance(self.rule, STDP):
            raise ValueError("schedule expects STDP; RSTDP has its own, adaptive")
        if isinstance(self.schedule, Annealing) and isinstance(self.rule, Custom):
            raise ValueError("schedule expects a rule with rates, and one of your own has none")

    def annealing(self, epoch: int) -> float:
        """Return what rates are multiplied with in an epoch."""
        return self.schedule.factor**epoch if isinstance(self.schedule, Annealing) else 1.0


class Learner:
    """State of one ``fit``: how many samples were presented, the latest decisions, who rests, what was recorded.

    Parameters
    ----------
    net : Network
        Its layer ``layer`` learns.
    layer : int
        Index of the layer.
    recipe : Recipe
        How it learns, checked.
    classes : ndarray of int64, shape (maps,)
        Class of each map; empty where labels play no part.
    piece : int, optional
        Largest number of presentations between two calls of ``keep``.
    """

    def __init__(self, net: Network, layer: int, recipe: Recipe, classes: np.ndarray, piece: int | None = None) -> None:
        self.maps = net.weights_shape(layer)[0]
        self.classes = classes
        if recipe.adaptation is not None and net.neurons(layer).at_end:
            raise ValueError("adaptation expects finite thresholds, got infinite ones")
        self._net, self._layer, self._recipe = net, layer, recipe
        self.epochs: list[Epoch] = []
        self.presented = self._epoch = 0
        self._before, self._seconds = 0, 0.0  # these and the next are of the present epoch
        self._decided, self._won = np.zeros(3, np.int64), np.zeros(self.maps, np.int64)
        n_classes = max(len(np.unique(self.classes)), 1)
        self._hit, self._miss = 1 / n_classes, 1 - 1 / n_classes  # of guessing, as in the published programs
        self._window = np.zeros(3, np.int64)  # hits, misses and silent samples since the rates last changed
        self._wins, self._since = np.zeros(self.maps, np.int64), 0  # since maps were last suppressed
        self._rested = np.ones(self.maps, bool)
        step = _CHUNK if recipe.stop_below is None else _CLOSE
        self._step = _whole(step, recipe.mini_batch)
        self._piece = self._step if piece is None else _whole(piece, recipe.mini_batch)
        self._kernel_arguments(None)  # so that what does not fit is refused before the frozen layers run
        self.curve = [(0, self._convergence())]
        self._snapshots = {0: first_maps(net.weights[layer])}
        self.converged = False

    @property
    def position(self) -> int:
        """Samples already presented in the epoch that has begun."""
        return self.presented - self._before

    def state(self) -> State:
        """Return everything that changes while the layer learns, as JSON values and arrays."""
        values: dict[str, Any] = {name: getattr(self, attribute) for name, attribute in _VALUES.items()}
        values["epochs"] = [asdict(epoch) | {"winners": epoch.winners.tolist()} for epoch in self.epochs]
        arrays = {name: getattr(self, attribute) for name, attribute in _ARRAYS.items()}
        learnt = {"weights": self._net.weights[self._layer], "thresholds": self._net.thresholds[self._layer]}
        return values, arrays | learnt | {"curve": np.array(self.curve, np.float64)} | pack(self._snapshots)

    def set_state(
        self, values: Mapping[str, Any], arrays: Mapping[str, np.ndarray], *, epochs: int, samples: int
    ) -> None:
        """Take what :meth:`state` returned, of a training of so many epochs with so many samples each.

        Raises
        ------
        ValueError, KeyError, TypeError
            If that is not such a state; nothing has changed then.
        """
        taken = {a: type(getattr(self, a))(values[name]) for name, a in _VALUES.items()}
        taken |= {a: same_kind(name, getattr(self, a), arrays[name]) for name, a in _ARRAYS.items()}
        ended = [Epoch(**row | {"winners": np.array(row["winners"], np.int64)}) for row in values["epochs"]]
        curve = [(int(presented), float(convergence)) for presented, convergence in arrays["curve"]]
        snapshots = unpack(arrays["moments"], arrays["snapshots"])
        presented, converged = taken["presented"], taken["converged"]
        check_epochs(ended, presented, samples, epochs, converged)
        check_curve(curve, presented, converged, self._recipe.stop_below)
        check_counts({name: taken[attribute] for name, attribute in _COUNTS.items()})
        check_ratios({name: taken[_VALUES[name]] for name in ("hit", "miss")})
        possible = min(snapshots, default=0) >= 0 and max(snapshots, default=0) <= presented
        refuse_unless(possible, f"snapshots from 0 up to {presented}", list(snapshots))
        refuse_unless(bool(np.isfinite(arrays["snapshots"]).all()), "finite weights in snapshots", "others")
        weights, thresholds = arrays["weights"], arrays["thresholds"]
        self._check_learnt(arrays)
        self._net.set_thresholds(self._layer, thresholds)  # may refuse what is no threshold; the weights are checked
        self._net.set_weights(self._layer, weights)
        for attribute, value in taken.items():
            setattr(self, attribute, value)
        self.epochs, self.curve, self._epoch = ended, curve, len(ended)
        self._before = sum(epoch.presented for epoch in ended)
        self._snapshots = snapshots

    def _check_learnt(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Check weights and thresholds of a checkpoint, those of the best epoch included."""
        adaptation, bounds = self._recipe.adaptation, self._recipe.rule.bounds
        weights, thresholds = self._net.weights[self._layer], self._net.thresholds[self._layer]
        for name in ("weights", "best_weights"):
            if name in arrays:
                check_weights(name, same_kind(name, weights, arrays[name]), weights, bounds)
        for name in ("thresholds", "best_thresholds"):
            if name in arrays:
                found = same_kind(name, thresholds, arrays[name])
                check_thresholds(name, found, thresholds, None if adaptation is None else adaptation.floor)

    def snapshots(self) -> dict[int, np.ndarray]:
        """Return the first maps' weights at moments of the training and now, by the number of presentations."""
        return self._snapshots | {self.presented: first_maps(self._net.weights[self._layer])}

    def epoch(
        self,
        number: int,
        blocks: Iterator[Block],
        active: np.ndarray | None,
        report: Callable[[int], object],
        keep: Callable[[], object],
    ) -> Epoch:
        """Present what is left of an epoch, or until convergence, and call ``keep`` where training may be taken up."""
        start = time.perf_counter() - self._seconds
        self._epoch = number
        for chunk in self._chunks(blocks):
            self._present(chunk, active)
            if self.presented >= next_moment(max(self._snapshots)):
                self._snapshots = self.snapshots()
            if self.position % self._step == 0:
                self._look(report)
            if self.converged:
                break
            self._seconds = time.perf_counter() - start
            keep()
        self._end_epoch()
        if self.curve[-1][0] != self.presented:
            self._look(report)
        hits, misses, silent = self._decided.tolist()
        rewarded = self._recipe.rule.rewarded
        record = Epoch(
            number=number + 1,
            presented=self.position,
            silent=silent,
            hits=hits if rewarded else None,
            misses=misses if rewarded else None,
            winners=self._won,
            convergence=self.curve[-1][1],
            seconds=time.perf_counter() - start,
        )
        self.epochs.append(record)
        self._begin_epoch()
        return record

    def _begin_epoch(self) -> None:
        self._before, self._seconds = self.presented, 0.0
        self._decided, self._won = np.zeros(3, np.int64), np.zeros(self.maps, np.int64)

    def _look(self, report: Callable[[int], object]) -> None:
        """Note how far learning has come."""
        self.curve.append((self.presented, self._convergence()))
        stop_below = self._recipe.stop_below
        self.converged = stop_below is not None and self.curve[-1][1] < stop_below
        report(self.position)

    def _chunks(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """Yield presentations during which nothing changes but weights and thresholds."""
        rest, mini_batch = None, self._recipe.mini_batch
        for part in blocks:
            block = part if rest is None else join(rest, part, self._net)
            left, rest = block.order, None
            while len(left):
                n = self._chunk()
                if n > len(left) and len(left) < mini_batch:  # the next block begins with the rest of the mini-batch
                    rest = block._replace(order=left)
                    break
                now, left = np.split(left, [n if n <= len(left) else len(left) // mini_batch * mini_batch])
                yield block._replace(order=now)
        if rest is not None:
            yield rest

    def _chunk(self) -> int:
        """Return for how many presentations nothing changes but weights and thresholds."""
        recipe = self._recipe
        due = next_moment(max(self._snapshots)) - self.presented
        steps = min(self._step - self.position % self._step, self._piece, _whole(due, recipe.mini_batch))
        if isinstance(recipe.schedule, Doubling):
            steps = min(steps, recipe.schedule.steps(self.presented))
        if (
            isinstance(recipe.rule, RSTDP)
            and recipe.rule.adaptive is not None
            and recipe.rule.adaptive.every is not None
        ):
            steps = min(steps, recipe.rule.adaptive.every - int(self._window.sum()))
        if recipe.suppression is not None:
            steps = min(steps, recipe.suppression.every - self._since)
        return steps

    def _present(self, block: Block, active: np.ndarray | None) -> None:
        """Learn from samples between two changes of the rates."""
        net, layer, recipe = self._net, self._layer, self._recipe
        if recipe.suppression is not None:
            active = self._rested if active is None else active & self._rested
        update, reward = self._kernel_arguments(active)
        neurons = net.neurons(layer)
        if recipe.adaptation is not None:
            neurons = replace(neurons, threshold=neurons.threshold.copy())
        positions = self._positions(len(block.order)) if recipe.patches else None
        lesson = Lesson(neurons, update, reward, positions, recipe.mini_batch)
        winners = net.learn(layer, block.events, block.order, lesson)
        if recipe.adaptation is not None:
            net.set_thresholds(layer, neurons.threshold)
        self.presented += len(winners)
        decisions = self._decisions(winners[:, 0, 0], block)
        self._adapt(decisions)
        chosen = winners[:, :, 0]
        won = np.bincount(chosen[chosen >= 0], minlength=self.maps)
        self._suppress(won, len(winners))
        self._decided += decisions
        self._won += won

    def _kernel_arguments(self, active: np.ndarray | None) -> tuple[Update, Reward | None]:
        recipe, reward, factor = self._recipe, None, self._recipe.annealing(self._epoch)
        rule = recipe.rule
        if isinstance(recipe.schedule, Doubling) and isinstance(rule, STDP):
            rule = recipe.schedule.rule(rule, self.presented)
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
        stream.advance(self.presented)  # each step of the counter gives four numbers
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

    def _end_epoch(self) -> None:
        rule = self._recipe.rule
        if isinstance(rule, RSTDP) and rule.adaptive is not None and rule.adaptive.every is None:
            self._take_ratios(self._decided)

    def _take_ratios(self, decisions: np.ndarray) -> None:
        if decisions.sum():
            self._hit, self._miss = (decisions[:2] / decisions.sum()).tolist()
        self._window = np.zeros(3, np.int64)

    def _convergence(self) -> float:
        lower, upper = self._recipe.rule.bounds
        unit = (self._net.weights[self._layer] - np.float32(lower)) / np.float32(upper - lower)
        np.clip(unit, 0, 1, out=unit)  # initial weights may lie outside
        return float(np.mean(unit * (1 - unit), dtype=np.float64))


def _whole(count: int, mini_batch: int) -> int:
    """Return the least number of presentations from ``count`` on that are whole mini-batches."""
    return -(-count // mini_batch) * mini_batch
