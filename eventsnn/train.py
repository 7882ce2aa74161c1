"""Layer-by-layer training on the cached spikes of the frozen layers below."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from eventsnn import checks
from eventsnn.batches import BATCH, Data
from eventsnn.checkpoint import Checkpoint, Keeper, State, identify
from eventsnn.events import Events
from eventsnn.history import Epoch, History
from eventsnn.learner import Learner, Recipe
from eventsnn.network import Network
from eventsnn.plasticity import (
    WTA,
    Annealing,
    Competition,
    Doubling,
    Rule,
    Suppression,
    ThresholdAdaptation,
    split_evenly,
)
from eventsnn.plausible import refuse_unless
from eventsnn.presentation import Passes, Progress, Source
from eventsnn.selection import Score, Selection, Validation, best_of
from eventsnn.wiring import check_classes

OnEpoch = Callable[[Epoch], object]

_PIECE = 500  # presentations between two looks at the clock for a checkpoint


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
    validation: Data | None = None,
    score: Score | None = None,
    select: bool = True,
    seed: int = 0,
    memory: int = 2 << 30,
    batch_size: int = BATCH,
    progress: Progress | None = None,
    on_epoch: OnEpoch | None = None,
    checkpoint: Checkpoint | None = None,
) -> History:
    """Train one layer of a network, online: one stimulus after another; the layers below stay as they are.

    The frozen layers run once, and their spikes are cached, in memory or in a file. Same seed, same bits: results
    depend neither on the backend nor on its threads, ``memory`` or ``batch_size``.

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
    validation : Events or EventDataset, optional
        Labelled stimuli held out from ``data``, on which the network decides after each epoch: the last layer with
        weights must learn from reward. The accuracies are in ``History.validation``.
    score : callable, optional
        Called as ``score(net)`` after each epoch; returns a number, the more the better, from whatever you evaluate:
        a readout on the layer's features, for instance. Any layer may have one. Default: the accuracy on
        ``validation``.
    select : bool
        Where there is a score, whether the network ends with the weights and thresholds of the best epoch, the first
        of equals; else with those of the last.
    seed : int
        Of dropout, shuffling and patches.
    memory : int
        Bytes that the cached spikes may take. If they would take more, they come from a file, and the next ones are
        read while the layer learns: from the data set itself, or, if there are frozen layers or the order is another,
        from a temporary one in the folder that ``TMPDIR`` names. It is gone afterwards, also after an error.
    batch_size : int
        Samples at a time in the frozen layers; fewer where they have many spikes.
    progress : callable, optional
        Called as ``progress(done, total, phase)``.
    on_epoch : callable, optional
        Called with the :class:`Epoch` after each one, its score included; ``net`` holds the weights of that moment. If
        it returns ``True``, training ends; anything else is ignored.
    checkpoint : Checkpoint, optional
        Where everything that changes is kept at intervals. If there is a checkpoint already, training continues from
        it, bit for bit: give the arguments of the training that wrote it, and a network as it was when that began.
        Functions among them must be told apart, see :class:`Checkpoint`.
        ``on_epoch`` is not called again for epochs that had ended by then.

    Returns
    -------
    History
        Winners, convergence, accuracy, score and speed of each epoch, the last cut short where ``stop_below`` ended
        it; which was best; and the first maps' weights at moments of the training.

    Raises
    ------
    ValueError
        If data, layer, rule and the other arguments do not fit each other, or the checkpoint is broken or of another
        training; nothing has changed then. If a score is not a finite number.
    TypeError
        If a rule, a competition, a schedule and so on is something else.
    OSError
        If a checkpoint cannot be written, on a full disk for instance; the one before it is still there. Or if the
        temporary file cannot; nothing has changed then.
    """
    recipe = Recipe(
        rule, WTA() if competition is None else competition, schedule, adaptation, suppression, patches, mini_batch,
        stop_below, seed,
    )  # fmt: skip
    recipe.check()
    _check_numbers(epochs=epochs, batch_size=batch_size, memory=memory, dropout=dropout)
    _check_each(checks.switch, inhibit_input=inhibit_input, shuffle=shuffle, select=select)
    _check_each(checks.function, progress=progress, on_epoch=on_epoch)
    checks.kind("checkpoint", checkpoint, Checkpoint)
    _check_data(net, layer, data)
    chosen = _classes(rule, data, classes, net.weights_shape(layer)[0])
    learner = Learner(net, layer, recipe, chosen, _piece(checkpoint))
    decides = rule.rewarded and layer == net.trainable[-1]
    held_out = None if validation is None else _held_out(net, layer, decides, validation, memory, batch_size)
    selection = Selection(net, layer, held_out, score, select)
    passes = Passes(Source(net, data, layer, inhibit_input, batch_size, memory), data, dropout, shuffle, seed)
    course = _Course(learner, selection, passes, epochs, len(data))
    keeper = None
    if checkpoint is not None:
        extent = {"layer": layer, "epochs": epochs, "dropout": dropout, "shuffle": shuffle}
        judged = {"validation": validation is not None, "score": score, "select": select}
        settings = recipe._asdict() | extent | {"inhibit_input": inhibit_input, "classes": learner.classes} | judged
        keeper = Keeper(checkpoint, course, identify(net, (data, validation), checkpoint, settings))
    course.prepare(progress or ignore)
    if decides:
        net.classes = learner.classes
    course.run(partial(_advance, progress or ignore, len(data), epochs), on_epoch, keeper)
    history = course.history(layer)
    selection.restore()
    return history


class _Course:
    """One ``fit``: how the layer learns, what was best so far, whether it was told to end."""

    def __init__(self, learner: Learner, selection: Selection, passes: Passes, epochs: int, samples: int) -> None:
        self._learner, self._selection, self._passes = learner, selection, passes
        self._epochs, self._samples = epochs, samples
        self._stopped, self._prepared = False, 0.0

    @property
    def presented(self) -> int:
        return self._learner.presented

    @property
    def ended(self) -> bool:
        return self._stopped or self._learner.converged or len(self._learner.epochs) == self._epochs

    def prepare(self, report: Progress) -> None:
        """Load what is needed for what is left, and note how long it took."""
        start = time.perf_counter()
        if not self.ended:
            self._passes.load(report, once=len(self._learner.epochs) + 1 == self._epochs)
            self._selection.prepare()
        self._prepared = time.perf_counter() - start

    def run(self, advance: Callable[[int, int], object], on_epoch: OnEpoch | None, keeper: Keeper | None) -> None:
        """Do what is left."""
        if self.ended:
            return
        learner, passes, keep = self._learner, self._passes, _nothing if keeper is None else keeper.keep
        while not self.ended:
            number = len(learner.epochs)
            blocks, active = passes.blocks(number, learner.position), passes.active(number, learner.maps)
            record = self._selection.judge(learner.epoch(number, blocks, active, partial(advance, number), keep))
            learner.epochs[-1] = record
            answer = None if on_epoch is None else on_epoch(record)
            # Only a plain yes ends it, not what a lambda happens to return.
            self._stopped = isinstance(answer, bool | np.bool_) and bool(answer)
            keep()
        if keeper is not None:
            keeper.write()

    def state(self) -> State:
        values, arrays = self._learner.state()
        highest, best = self._selection.state()
        return values | highest | {"stopped": self._stopped}, arrays | best

    def set_state(self, values: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        stopped = values["stopped"]
        refuse_unless(isinstance(stopped, bool), "stopped or not", stopped)
        self._selection.set_state(values, arrays)
        # The last, since it changes the network.
        self._learner.set_state(values, arrays, epochs=self._epochs, samples=self._samples)
        self._stopped = stopped

    def history(self, layer: int) -> History:
        """Return what was done, while the network has the weights of the last epoch."""
        learner = self._learner
        epochs, curve, snapshots = tuple(learner.epochs), np.array(learner.curve), learner.snapshots()
        best = best_of(epochs)
        return History(layer, epochs, curve, self._prepared, self._passes.cached, learner.converged, best, snapshots)


def _piece(checkpoint: Checkpoint | None) -> int | None:
    return None if checkpoint is None else min(checkpoint.every_samples or _PIECE, _PIECE)


def _nothing() -> None:
    pass


def ignore(done: int, total: int, phase: str) -> None:
    """Stand for a ``progress`` that nobody asked for."""


def _advance(report: Progress, total: int, epochs: int, number: int, done: int) -> None:
    report(done, total, f"epoch {number + 1}/{epochs}")


def _check_each(check: Callable[[str, Any], None], **values: Any) -> None:
    for name, value in values.items():
        check(name, value)


def _check_numbers(epochs: int, batch_size: int, memory: int, dropout: float) -> None:
    for name, value, least in (("epochs", epochs, 1), ("batch_size", batch_size, 1), ("memory", memory, 0)):
        checks.integer(name, value, least)
    checks.number("dropout", dropout, 0)
    if dropout >= 1:
        raise ValueError(f"dropout expects a probability from 0 to below 1, got {dropout}")


def _check_data(net: Network, layer: int, data: Data) -> None:
    checks.kind("net", net, Network, or_none=False)
    net.check_trainable(layer)
    if not hasattr(data, "batches") and not isinstance(data, Events):
        raise TypeError(f"data expects Events or an EventDataset, got {data!r}")
    net.check_input(data.shape)
    if len(data) == 0:
        raise ValueError("data expects at least one sample, got none")


def _held_out(net: Network, layer: int, decides: bool, data: Data, memory: int, batch_size: int) -> Validation:
    if not decides:
        raise ValueError(
            "validation expects a last layer that learns from reward, and so decides; score may judge any other layer"
        )
    return Validation(net, layer, data, memory, batch_size)


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
