"""After each epoch: how well the network decides on held-out stimuli, its score, and the weights of the best epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from eventsnn.batches import Data
from eventsnn.checkpoint import State, same_kind
from eventsnn.events import Events
from eventsnn.history import Epoch
from eventsnn.network import Network
from eventsnn.plausible import refuse_unless
from eventsnn.presentation import Source

Score = Callable[[Network], float]

_WEIGHTS, _THRESHOLDS = "best_weights", "best_thresholds"


class Validation:
    """Decisions of a network on held-out stimuli while its last layer with weights learns.

    Parameters
    ----------
    net : Network
        Has classes by the time that it is asked for decisions.
    layer : int
        Index of the layer that learns; those below do not change any more.
    data : Events or EventDataset
        Labelled stimuli on the grid ``net.shape``.
    memory : int
        Bytes that the spikes of the layers below may take; if they would take more, they go to a temporary file.
    batch_size : int
        Samples at a time.

    Raises
    ------
    ValueError
        If the layer does not decide, or the data have no labels or do not fit.
    """

    def __init__(self, net: Network, layer: int, data: Data, memory: int, batch_size: int) -> None:
        if data.labels is None or len(data) == 0:
            raise ValueError("validation expects samples with labels, got none")
        try:
            net.check_input(data.shape)
        except ValueError as error:
            raise ValueError(f"validation: {error}") from None
        self._net, self._layer, self._data = net, layer, data
        self._source = Source(net, data, layer, False, batch_size, memory)
        self._cached: Data | None = None

    def prepare(self) -> None:
        """Run the layers below, once for all epochs, and keep their spikes in memory or in a file."""
        self._cached = self._source.load(lambda done, total, phase: None, in_order=True, once=False)

    def accuracy(self) -> float:
        """Return the ratio of right decisions among all samples, silent ones included."""
        if self._cached is None:
            hits = sum(
                self._hits(block.events, block.labels) for block in self._source.stream(np.arange(len(self._data)))
            )
        else:
            hits = self._hits(self._cached, self._data.labels)
        return hits / len(self._data)

    def _hits(self, spikes: Data, labels: np.ndarray | None) -> int:
        """Return the number of right decisions, given the spikes that go into the layer."""
        net, stop = self._net, len(self._net.layers)
        assert net.classes is not None
        with net.backend.here():
            first = np.concatenate(list(net.each(partial(_first, self._layer, stop), spikes)))
        return int(np.sum((first >= 0) & (net.classes[first] == labels)))


class Selection:
    """Judges the network after each epoch, and keeps weights and thresholds of the best.

    Parameters
    ----------
    net : Network
        Its layer ``layer`` learns.
    layer : int
        Index of the layer.
    validation : Validation, optional
        Whose accuracy is noted.
    score : callable, optional
        Given the network, returns a number: the more the better. Default: the accuracy of ``validation``. With neither,
        nothing is noted and nothing kept.
    keep : bool
        Whether to keep the best.

    Raises
    ------
    ValueError
        If ``score`` cannot be called.
    """

    def __init__(
        self, net: Network, layer: int, validation: Validation | None, score: Score | None, keep: bool
    ) -> None:
        if score is not None and not callable(score):
            raise ValueError(f"score expects a function of the network, got {score!r}")
        self._net, self._layer, self._keep = net, layer, keep
        self._validation, self._score = validation, score
        self._highest: float | None = None
        self._best: tuple[np.ndarray, np.ndarray] | None = None

    def prepare(self) -> None:
        """Do what is done once for all epochs."""
        if self._validation is not None:
            self._validation.prepare()

    def judge(self, epoch: Epoch) -> Epoch:
        """Return an epoch that has just ended with its accuracy and score; keep the weights if it is the best so far.

        Raises
        ------
        ValueError
            If the score is not a finite number.
        """
        accuracy = None if self._validation is None else self._validation.accuracy()
        score = accuracy if self._score is None else _finite(self._score(self._net))
        if score is not None and (self._highest is None or score > self._highest):
            self._highest = score
            if self._keep:
                self._best = self._net.weights[self._layer], self._net.thresholds[self._layer]
        return replace(epoch, validation=accuracy, score=score)

    def state(self) -> State:
        """Return the highest score, and the weights and thresholds that had it."""
        arrays = {} if self._best is None else dict(zip((_WEIGHTS, _THRESHOLDS), self._best, strict=True))
        return {"highest": self._highest}, arrays

    def set_state(self, values: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Take what :meth:`state` returned.

        Raises
        ------
        ValueError, KeyError, TypeError
            If that is not such a state; nothing has changed then.
        """
        highest, best = values["highest"], None
        scores = [row["score"] for row in values["epochs"] if row["score"] is not None]
        refuse_unless(highest == max(scores, default=None), f"the highest score of {scores}", highest)
        if highest is not None:
            highest = float(highest)
            if self._keep:
                weights = same_kind(_WEIGHTS, self._net.weights[self._layer], arrays[_WEIGHTS])
                best = weights, same_kind(_THRESHOLDS, self._net.thresholds[self._layer], arrays[_THRESHOLDS])
        self._highest, self._best = highest, best

    def restore(self) -> None:
        """Give the network the best weights and thresholds."""
        if self._best is not None:
            self._net.set_weights(self._layer, self._best[0])
            self._net.set_thresholds(self._layer, self._best[1])


def _first(start: int, stop: int, net: Network, batch: Events) -> np.ndarray:
    """Return the map that wins first in each sample, -1 where none does."""
    return net.decide(batch, start, stop).winners[:, 0]


def best_of(epochs: Iterable[Epoch]) -> int | None:
    """Return the index of the first epoch with the highest score; None where none has a score."""
    scores = [(epoch.score, -i) for i, epoch in enumerate(epochs) if epoch.score is not None]
    return -max(scores)[1] if scores else None


def _finite(score: Any) -> float:
    try:
        number = float(score)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"score expects a function that returns a finite number, got {score!r}")
    return number
