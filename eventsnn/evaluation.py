"""What a network decides, how well, and at what cost in spikes and synaptic operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from eventsnn import running
from eventsnn.backends import Decision
from eventsnn.batches import BATCH, Data
from eventsnn.events import Events
from eventsnn.network import Network
from eventsnn.readout import FittedReadout, spike_features
from eventsnn.running import Stage
from eventsnn.train import Progress
from eventsnn.wiring import check_classes


@dataclass(frozen=True)
class Activity:
    """What one layer did, on average over the samples.

    Attributes
    ----------
    layer : str
        The layer in short, or ``"input"``.
    neurons : int
        Number of neurons (of input lines).
    spikes : float
        Spikes in a sample.
    active : float
        Ratio of spikes to neurons: for layers, of the neurons that fired.
    synaptic_operations : float
        In a sample: each spike that comes in counts once for each synapse that it reaches. 0 without weights.
    """

    layer: str
    neurons: int
    spikes: float
    active: float
    synaptic_operations: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Result of :func:`evaluate`; ``print`` shows a table.

    Attributes
    ----------
    samples, silent : int
        Number of samples, and of those for which the last layer did not fire.
    accuracy : float or None
        Ratio of right decisions among all samples; None without labels or without decisions.
    confusion : ndarray of int64, shape (n_classes, n_classes), or None
        Samples by label (row) and decision (column), undecided ones left out.
    decisions : ndarray of int64, shape (n_samples,), or None
        Class decided for, -1 for none.
    input : Activity
    layers : tuple of Activity
        Of each layer run.
    """

    samples: int
    silent: int
    accuracy: float | None
    confusion: np.ndarray | None
    decisions: np.ndarray | None
    input: Activity
    layers: tuple[Activity, ...]

    @property
    def synaptic_operations(self) -> float:
        """Of all layers together, in a sample."""
        return sum(layer.synaptic_operations for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the single decisions as JSON values."""
        return {
            "samples": self.samples,
            "silent": self.silent,
            "accuracy": self.accuracy,
            "confusion": None if self.confusion is None else self.confusion.tolist(),
            "input": asdict(self.input),
            "layers": [asdict(layer) for layer in self.layers],
            "synaptic_operations": self.synaptic_operations,
        }

    def __str__(self) -> str:
        """Return accuracy and a table of the layers."""
        accuracy = "no accuracy" if self.accuracy is None else f"accuracy {self.accuracy:.2%}"
        lines = [f"{self.samples} samples, {accuracy}, {self.silent} silent"]
        lines.append(f"{'per sample':<28}{'neurons':>9}{'spikes':>11}{'active':>9}{'synaptic operations':>21}")
        lines += [
            f"{a.layer:<28}{a.neurons:>9}{a.spikes:>11.1f}{a.active:>9.2%}{a.synaptic_operations:>21.0f}"
            for a in (self.input, *self.layers)
        ]
        return "\n".join(lines)


def decide(net: Network, data: Data, classes: Any = None, *, batch_size: int = BATCH) -> np.ndarray:
    """Let the first spike of the last layer decide: the earliest, then the largest potential, then the lowest index.

    Parameters
    ----------
    net : Network
        Its last layer's maps stand for classes.
    data : Events or EventDataset
        Stimuli on the grid ``net.shape``.
    classes : array_like of int, shape (maps,), optional
        Class that each map decides for; default ``net.classes``, as reward-modulated learning left it.
    batch_size : int
        Samples at a time.

    Returns
    -------
    ndarray of int64, shape (n_samples,)
        Class of each sample, -1 where the last layer was silent.

    Raises
    ------
    ValueError
        If the classes are not known or do not fit, or the data do not fit the network.
    """
    table = _class_table(net, classes, len(net.layers))
    if table is None:
        raise ValueError("decide expects classes, one per map of the last layer; the network has none")
    net.check_input(data.shape)
    return np.concatenate(list(net.each(partial(_decided, table), data, batch_size)))


def evaluate(
    net: Network,
    data: Data,
    readout: FittedReadout | None = None,
    *,
    classes: Any = None,
    stop: int | None = None,
    batch_size: int = BATCH,
    progress: Progress | None = None,
) -> Evaluation:
    """Run a network over data and report decisions and activity.

    Parameters
    ----------
    net : Network
        What the data are run through.
    data : Events or EventDataset
        Stimuli on the grid ``net.shape``; with labels there is an accuracy.
    readout : FittedReadout, optional
        Decides from the last layer's spikes. Default: the first winner decides, see :func:`decide`, if classes are
        known.
    classes : array_like of int, shape (maps,), optional
        Class that each map of the last layer decides for; default ``net.classes``.
    stop : int, optional
        Run ``net.layers[:stop]`` only.
    batch_size : int
        Samples at a time.
    progress : callable, optional
        Called as ``progress(done, total, phase)``.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        If data, classes or readout do not fit the network.
    """
    last = len(net.layers) if stop is None else stop
    if not 0 <= last <= len(net.layers):
        raise ValueError(f"stop expects 0 to {len(net.layers)}, got {last}")
    net.check_input(data.shape)
    table = _class_table(net, classes, last) if readout is None else None
    parts: list[_Part] = []
    for part in net.each(partial(_looked_at, last, table, readout), data, batch_size):
        parts.append(part)
        if progress is not None:
            progress(sum(one.samples for one in parts), len(data), "evaluate")
    return _result(net, last, parts, data.labels)


class _Part(NamedTuple):
    """Of one batch: samples, silent ones, spikes and synaptic operations of the input and each layer, decisions."""

    samples: int
    silent: int
    spikes: np.ndarray
    operations: np.ndarray
    decisions: np.ndarray | None


def _decided(table: np.ndarray, net: Network, batch: Events) -> np.ndarray:
    return _classes_of(net.decide(batch, 0, len(net.layers)), table)


def _looked_at(
    last: int, table: np.ndarray | None, readout: FittedReadout | None, net: Network, batch: Events
) -> _Part:
    """Run a batch through ``layers[:last]``; the first winner decides if there is a table, or a readout."""
    stages = running.counted(net, batch, 0, last if table is None else last - 1)
    output = stages[-1].events
    assert output is not None  # the last one's are kept
    if table is not None:
        found = net.decide(output, max(last - 1, 0), last)
        return _part(net, [*stages[:last], Stage(found.spikes, None)], _classes_of(found, table))
    return _part(net, stages, None if readout is None else readout.predict(spike_features(output, readout.kind)))


def _part(net: Network, stages: Sequence[Stage], decisions: np.ndarray | None) -> _Part:
    """Sum up a batch: the input, and what each layer made of it."""
    pairs = zip(net.layers, stages[:-1], strict=False)
    operations = [running.operations(layer, stage.events, len(stage.counts)).sum() for layer, stage in pairs]
    counts, last = np.array([stage.counts.sum() for stage in stages], np.int64), stages[-1].counts
    return _Part(len(last), int((last == 0).sum()), counts, np.array([0, *operations], np.int64), decisions)


def _activities(net: Network, parts: Sequence[_Part], stop: int) -> list[Activity]:
    names, samples = ["input", *(str(layer) for layer in net.layers)], max(sum(part.samples for part in parts), 1)
    spikes, operations = (np.sum([getattr(part, name) for part in parts], axis=0) for name in ("spikes", "operations"))
    found = []
    for name, shape, count, work in zip(names, net.shapes[: stop + 1], spikes, operations, strict=False):
        neurons, mean = int(np.prod(shape)), float(count / samples)
        found.append(Activity(name, neurons, mean, mean / neurons, float(work / samples)))
    return found


def _result(net: Network, stop: int, parts: Sequence[_Part], labels: np.ndarray | None) -> Evaluation:
    accuracy, confusion = None, None
    made = [part.decisions for part in parts if part.decisions is not None]
    decisions = np.concatenate(made) if made else None
    if labels is not None and decisions is not None and len(labels):
        accuracy, confusion = float(np.mean(decisions == labels)), _confusion(labels, decisions)
    first, *rest = _activities(net, parts, stop)
    samples, silent = sum(part.samples for part in parts), sum(part.silent for part in parts)
    return Evaluation(samples, silent, accuracy, confusion, decisions, first, tuple(rest))


def _confusion(labels: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    if labels.min() < 0:
        raise ValueError(f"a confusion matrix expects labels of 0 or more, got {labels.min()}")
    n = int(max(labels.max(), decisions.max())) + 1
    decided = decisions >= 0
    return np.bincount(labels[decided] * n + decisions[decided], minlength=n * n).reshape(n, n)


def _class_table(net: Network, classes: Any, stop: int) -> np.ndarray | None:
    """Return the class of each map of the output of ``layers[:stop]``, or None if it is not known."""
    if classes is not None:
        return check_classes(classes, net.shapes[stop][0])
    whole = stop == len(net.layers)
    return check_classes(net.classes, net.shapes[stop][0]) if whole and net.classes is not None else None


def _classes_of(found: Decision, classes: np.ndarray) -> np.ndarray:
    first = found.winners[:, 0]
    return np.where(first >= 0, classes[first], -1)
