"""N-MNIST: what two models decide right beside linear machines on the input, what learning adds, and how fast.

``python -m benchmarks.nmnist FOLDER [--seeds 0 1 2 3 4]`` with the folder that holds ``Train/<digit>/*.bin`` and
``Test/<digit>/*.bin``. C of every support vector machine but the model's own is chosen by five-fold cross-validation on
the training recordings. ``shuffled`` is the learnt layer with the weights of each map shuffled, and one threshold at
which as many neurons fire.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import append, environment, peak_memory_gib
from eventsnn import Events, Feature, Network, concatenate, features
from eventsnn import open as open_recording
from eventsnn.models import Model, Trained, nmnist, nmnist_rstdp
from eventsnn.readout import LinearReadout, spike_features

STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
EARLY = Feature("target-time", 0.0)
LONGEST = 320_000  # microseconds; what few recordings have later is left out


def recordings(folder: Path) -> Events:
    """Return recordings, each a sample, with their digits."""
    paths = sorted(folder.glob("*/*.bin"))
    parts = [open_recording(path).between(0, LONGEST).to_events(origin=0, duration=LONGEST) for path in paths]
    return replace(concatenate(parts), labels=np.array([int(path.parent.name) for path in paths]))


def linear(
    learn: Any, labels: np.ndarray, test: Any, truth: np.ndarray, strengths: Sequence[float] = STRENGTHS
) -> dict[str, Any]:
    """Return the accuracy of a linear machine whose C is chosen on the training set."""
    from sklearn.model_selection import cross_val_score
    from sklearn.svm import LinearSVC

    found = [cross_val_score(LinearSVC(C=c, dual=True, max_iter=3000), learn, labels, cv=5).mean() for c in strengths]
    best = int(np.argmax(found))
    fitted = LinearReadout(C=strengths[best]).fit(learn, labels)
    accuracy = float((fitted.predict(test) == truth).mean())
    return {"C": strengths[best], "cross_validated": float(found[best]), "test_accuracy": accuracy}


def shuffled(trained: Trained, learn: Events, seed: int) -> Network:
    """Return the first layer and its pool with shuffled weights, firing as often."""
    rng = np.random.default_rng(seed)
    learnt = trained.network
    net = Network(learnt.layers[:2], learnt.shape, seed=seed)
    weights = learnt.weights[0].reshape(len(learnt.weights[0]), -1)
    net.set_weights(0, rng.permuted(weights, axis=1).reshape(learnt.weights[0].shape))
    some = learn[::10]
    wanted, low, high = learnt.run_through(some, 0, 2).n_events, 0.5, 60.0
    for _ in range(12):
        net.set_thresholds(0, np.full(len(weights), (low + high) / 2, np.float32))
        low, high = ((low + high) / 2, high) if net.run(some).n_events > wanted else (low, (low + high) / 2)
    return net


def speed(trained: Trained, test: Events, seconds: float) -> dict[str, Any]:
    """Return spikes a second of processor time through the network, and the factor over the recordings' time."""
    trained.network.run(test)  # compiled by now
    start, repeats = time.process_time(), 0
    while repeats < 3:
        trained.network.run(test)
        repeats += 1
    taken = (time.process_time() - start) / repeats
    return {"spikes_a_second": test.n_events / taken, "times_real_time": seconds / taken}


def run(model: Model, seed: int, parts: dict[str, Events], events: int) -> dict[str, Any]:
    """Train on all training recordings, test once."""
    learn, test = parts["train"], parts["test"]
    start = time.process_time()
    trained = model.train(learn, seed=seed)
    learnt = time.process_time() - start
    result = trained.evaluate(test)
    line = {
        "model": model.name,
        "seed": seed,
        "test_accuracy": result.accuracy,
        "test_silent": result.silent,
        "train_cpu_seconds": learnt,
        "input_spikes": result.input.spikes,
        "test_activity": result.to_dict()["layers"],
        "speed": speed(trained, test, 0.315 * len(test)),
        "events_a_recording": events / len(test),
        "peak_memory_gib": peak_memory_gib(),
    }
    if model.readout is not None:
        own = [features(trained.network, part, EARLY) for part in (learn, test)]
        line["cross_validated"] = linear(own[0], learn.labels, own[1], test.labels, [model.readout.C])[
            "cross_validated"
        ]
        random = shuffled(trained, learn, seed)
        line["shuffled"] = linear(
            features(random, learn, EARLY), learn.labels, features(random, test, EARLY), test.labels
        )
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    arguments = parser.parse_args()
    sources = {part: recordings(arguments.folder / part.title()) for part in ("train", "test")}
    common = {"benchmark": "nmnist"} | {f"{part}_recordings": len(found) for part, found in sources.items()}
    models = (nmnist(), nmnist_rstdp())
    parts = {part: models[0].encoder.encode(found) for part, found in sources.items()}
    inputs = {
        "counts": {part: spike_features(found, "counts") for part, found in sources.items()},
        "first spikes": {part: spike_features(found.first_spikes(), EARLY) for part, found in sources.items()},
        "first spikes of each saccade": {part: spike_features(found, EARLY) for part, found in parts.items()},
    }
    load = {"load": os.getloadavg()[0]}
    for name, found in inputs.items():
        line = linear(found["train"], sources["train"].labels, found["test"], sources["test"].labels)
        append("nmnist", environment() | common | load | {"input": name} | line)
    for seed in arguments.seeds:
        for model in models:
            line = run(model, seed, parts, sources["test"].n_events)
            append("nmnist", environment() | common | {"load": os.getloadavg()[0]} | line)


if __name__ == "__main__":
    main()
