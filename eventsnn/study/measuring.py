"""One run of a study of accuracy and cost: train, test, count and time."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from eventsnn.batches import Data
from eventsnn.environment import environment
from eventsnn.evaluation import decide
from eventsnn.events import Events
from eventsnn.io import EventDataset
from eventsnn.layers import FeatureInhibition, PointwiseInhibition
from eventsnn.models import Model, Trained
from eventsnn.network import Network
from eventsnn.profile import PICOJOULES, Costs, Profile
from eventsnn.readout import features
from eventsnn.sources import Samples
from eventsnn.study.profiling import profile

_COUNTED = 1000  # samples of those to test with that are counted closely and timed


@dataclass(frozen=True, eq=False)
class Task:
    """A training, what its network is tested with (``factors`` of thresholds, on event files), and energies."""

    model: Model
    seed: int
    factors: tuple[float, ...]
    train: str
    test: str
    costs: Costs


def measured(task: Task) -> list[dict[str, Any]]:
    """Train once, and return what is measured with each factor, as JSON values."""
    with EventDataset(task.train) as train, EventDataset(task.test) as test:
        start = time.process_time()
        trained = task.model.train(train, seed=task.seed)
        about = {"train_seconds": time.process_time() - start, "environment": environment()}
        learnt = {layer: array.copy() for layer, array in trained.network.thresholds.items()}
        found = []
        for factor in task.factors:
            _set_thresholds(trained.network, learnt, factor)
            found.append(_tested(trained, test, task.costs) | about)
    return found


def _set_thresholds(net: Network, learnt: dict[int, np.ndarray], factor: float) -> None:
    """Multiply those that are finite."""
    for layer, thresholds in learnt.items():
        if math.isfinite(thresholds[0]):
            net.set_thresholds(layer, thresholds * np.float32(factor))


def _tested(trained: Trained, test: EventDataset, costs: Costs) -> dict[str, Any]:
    result, some = trained.evaluate(test), _some_of(test).load()
    picojoules = {name: getattr(costs, name) for name in PICOJOULES}
    return {
        "accuracy": result.accuracy,
        "silent": result.silent,
        "counted": len(some),
        **_activity(trained.network, profile(trained.network, some, **picojoules)),
        "seconds": _seconds(trained, some),
    }


def _activity(net: Network, found: Profile) -> dict[str, Any]:
    """Return means over samples; spikes are those that leave layers: what is inhibited at once does not."""
    spikes: list[float] = []
    for layer, activity in zip(net.layers, found.layers, strict=True):
        if isinstance(layer, PointwiseInhibition | FeatureInhibition) and spikes:
            spikes.pop()
        spikes.append(float(activity.spikes.mean()))
    total = found.total()
    return {
        "spikes": sum(spikes),
        "spikes_by_layer": spikes,
        "input_spikes": float(found.inputs.mean()),
        **{name: total[name] for name in ("operations", "stopped", "energy", "dense_energy")},
    }


def _some_of(test: EventDataset) -> Samples:
    """Return so many samples, evenly from the whole."""
    count = min(len(test), _COUNTED)
    return Samples(test, np.arange(count) * len(test) // count)


def _seconds(trained: Trained, data: Events) -> float:
    """Return seconds of processor time from a sample's spikes to its decision."""
    _decisions(trained, data[:32])  # compiled by now
    start = time.process_time()
    _decisions(trained, data)
    return (time.process_time() - start) / len(data)


def _decisions(trained: Trained, data: Data) -> np.ndarray:
    if trained.readout is None:
        return decide(trained.network, data)
    return trained.readout.predict(features(trained.network, data, trained.readout.kind))
