"""Whole MNIST through the published networks: accuracy, time of each stage, memory.

``python -m benchmarks.mnist FOLDER [MODEL ...]`` with the folder of MNIST's four idx files. Everything that is chosen
is chosen on the last 5,000 training images; the test set is looked at once, at the end.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from benchmarks.record import append, environment, peak_memory_gib
from eventsnn.io import load_images
from eventsnn.models import MODELS, Trained

HELD_OUT = 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="*", default=["mozafari2019_mnist_svm", "mozafari2019_mnist_quick"])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name in arguments.models:
        append("mnist", environment() | run(name, arguments.folder, arguments.seed))


def run(name: str, folder: Path, seed: int) -> dict[str, Any]:
    """Train one model on MNIST and return what was measured."""
    model = MODELS[name]()
    start = time.perf_counter()
    train, test = (load_images(folder, split) for split in ("train", "test"))
    loaded = time.perf_counter()
    events = model.encoder.encode(train.pixels, train.labels)
    encoded = time.perf_counter()
    rewarded = model.readout is None
    data, validation = (events[:-HELD_OUT], events[-HELD_OUT:]) if rewarded else (events, None)
    trained = model.train(data, validation=validation, seed=seed)
    learnt = time.perf_counter()
    result = trained.evaluate(model.encoder.encode(test.pixels, test.labels))
    return {
        "benchmark": "mnist",
        "model": name,
        "seed": seed,
        "training_images": len(data),
        "validation_images": 0 if validation is None else len(validation),
        "test_accuracy": result.accuracy,
        "steps": steps(trained),
        "seconds": {
            "load": loaded - start,
            "encode_60000": encoded - loaded,
            "train": learnt - encoded,
            "encode_and_evaluate_test": time.perf_counter() - learnt,
            "total": time.perf_counter() - start,
        },
        "peak_memory_gib": peak_memory_gib(),
        "test_activity": result.to_dict()["layers"],
    }


def steps(trained: Trained) -> list[dict[str, Any]]:
    """Return for each layer that learnt the seconds of its epochs, convergence and accuracies."""
    return [
        {
            "layer": record.history.layer,
            "preparation_seconds": record.history.preparation_seconds,
            "epoch_seconds": [epoch.seconds for epoch in record.history.epochs],
            "convergence": record.history.epochs[-1].convergence,
            "training_accuracy": [epoch.accuracy for epoch in record.history.epochs],
            "validation_accuracy": list(record.validation),
        }
        for record in trained.records
    ]


if __name__ == "__main__":
    main()
