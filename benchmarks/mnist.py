"""Whole MNIST through the published networks: accuracy, time of each stage, memory.

``python -m benchmarks.mnist FOLDER [MODEL ...]`` with the folder of MNIST's four idx files. Everything that is chosen
is chosen on a twelfth of the training images, held out; the test set is looked at once, at the end.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.record import append, environment, peak_memory_gib
from eventsnn.io import EventDataset, load_images
from eventsnn.models import MODELS, Model, Trained
from eventsnn.runs import VALIDATION
from eventsnn.sources import hold_out, write_encoded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="*", default=["mozafari2019_mnist_svm", "mozafari2019_mnist_quick"])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name in arguments.models:
        append("mnist", environment() | run(name, arguments.folder, arguments.seed))


def run(name: str, folder: Path, seed: int) -> dict[str, Any]:
    """Train one model on MNIST as ``eventsnn train`` does, and return what was measured."""
    model = MODELS[name]()
    with tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter()
        paths = {}
        for split in ("train", "test"):
            images = load_images(folder, split)
            paths[split] = Path(scratch) / f"{split}.h5"
            write_encoded(paths[split], images, model.encoder)
        written = time.perf_counter()
        with EventDataset(paths["train"]) as data, EventDataset(paths["test"]) as test:
            training, validation = hold_out(data, VALIDATION) if model.readout is None else (data, None)
            trained = model.train(training, validation=validation, seed=seed)
            learnt = time.perf_counter()
            result = trained.evaluate(test)
            end = time.perf_counter()
            counts = len(training), 0 if validation is None else len(validation)
            input_spikes = test.n_events / len(test)
    return {
        "benchmark": "mnist",
        "model": name,
        "seed": seed,
        "training_images": counts[0],
        "validation_images": counts[1],
        "test_accuracy": result.accuracy,
        "steps": steps(trained),
        "seconds": {
            "encode_and_write_70000": written - start,
            "train": learnt - written,
            "evaluate_test": end - learnt,
            "total": end - start,
        },
        "peak_memory_gib": peak_memory_gib(),
        "encode_60000_seconds": encoding_seconds(model, folder),
        "input_spikes": input_spikes,
        "test_activity": result.to_dict()["layers"],
    }


def encoding_seconds(model: Model, folder: Path) -> float:
    """Return the time that the 60,000 training images take to become events in memory, 1,000 at a time."""
    pixels = load_images(folder, "train").pixels
    start = time.perf_counter()
    for first in range(0, len(pixels), 1000):
        model.encoder.encode(pixels[first : first + 1000])
    return time.perf_counter() - start


def steps(trained: Trained) -> list[dict[str, Any]]:
    """Return for each layer that learnt the seconds of its epochs, convergence and accuracies."""
    return [
        {
            "layer": record.layer,
            "preparation_seconds": record.preparation_seconds,
            "epoch_seconds": [epoch.seconds for epoch in record.epochs],
            "convergence": record.epochs[-1].convergence,
            "training_accuracy": [epoch.accuracy for epoch in record.epochs],
            "validation_accuracy": list(record.validation),
        }
        for record in trained.records
    ]


if __name__ == "__main__":
    main()
