"""What a network decides, how well, and at what cost in spikes and synaptic operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from eventsnn.backends import Decision
from eventsnn.batches import BATCH, Data, batches
from eventsnn.layers import Conv, Dense
from eventsnn.network import Network, Stage, check_classes
from eventsnn.readout import FittedReadout, spike_features
from eventsnn.train import Progress


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
    found = [net.decide(batch, 0, len(net.layers)) for batch in batches(data, batch_size)]
    return np.concatenate([_classes_of(decision, table) for decision in found])


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
    tally = _Tally(net, last)
    decisions: list[np.ndarray] = []
    for batch in batches(data, batch_size):
        if table is None:
            stages = net.run_counted(batch, 0, last)
            tally.add(stages)
            output = stages[-1].events
            if readout is not None and output is not None:
                decisions.append(readout.predict(spike_features(output, readout.kind)))
        else:
            stages = net.run_counted(batch, 0, last - 1)
            features = stages[-1].events
            assert features is not None  # only what lies between a layer and its pool is not kept
            found = net.decide(features, max(last - 1, 0), last)
            tally.add([*stages[:last], Stage(found.spikes, None)])
            decisions.append(_classes_of(found, table))
        if progress is not None:
            progress(tally.samples, len(data), "evaluate")
    return _result(tally, data.labels, np.concatenate(decisions) if decisions else None)


class _Tally:
    """Sums over the batches: spikes and synaptic operations of the input and each layer, silent samples."""

    def __init__(self, net: Network, stop: int) -> None:
        self._net, self._stop = net, stop
        self.samples = self.silent = 0
        self._spikes, self._operations = np.zeros(stop + 1, np.int64), np.zeros(stop + 1, np.int64)

    def add(self, stages: Sequence[Stage]) -> None:
        """Add a batch: the input and what each layer made of it."""
        counts = stages[-1].counts
        self.samples += len(counts)
        self.silent += int((counts == 0).sum())
        self._spikes += [stage.counts.sum() for stage in stages]
        for i, (layer, stage) in enumerate(zip(self._net.layers[: self._stop], stages, strict=False), 1):
            if isinstance(layer, Conv | Dense) and stage.events is not None:
                self._operations[i] += layer.synaptic_operations(stage.events).sum()

    def activities(self) -> list[Activity]:
        names = ["input", *(str(layer) for layer in self._net.layers)]
        found = []
        for i, shape in enumerate(self._net.shapes[: self._stop + 1]):
            neurons, n = int(np.prod(shape)), max(self.samples, 1)
            spikes = float(self._spikes[i] / n)
            found.append(Activity(names[i], neurons, spikes, spikes / neurons, float(self._operations[i] / n)))
        return found


def _result(tally: _Tally, labels: np.ndarray | None, decisions: np.ndarray | None) -> Evaluation:
    accuracy, confusion = None, None
    if labels is not None and decisions is not None and len(labels):
        accuracy, confusion = float(np.mean(decisions == labels)), _confusion(labels, decisions)
    first, *rest = tally.activities()
    return Evaluation(tally.samples, tally.silent, accuracy, confusion, decisions, first, tuple(rest))


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
