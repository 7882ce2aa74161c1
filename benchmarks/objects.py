"""Faces and motorbikes, and ETH-80, through the network of Mozafari 2018: accuracy, time, spikes.

``python -m benchmarks.objects FOLDER [caltech] [eth80] [--seeds 0 1 2]`` with the folder that holds ``caltech/Faces``,
``caltech/Motorbikes`` and ``eth80/eth80_gray128.npz``. For each seed a split is drawn: 200 training images a class
(Caltech), or all views of nine objects in ten (ETH-80). The number of epochs is chosen on a part held out of the
training images (50 a class; one object), then the network learns from all of them, and tests once.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.record import append, environment, peak_memory_gib
from eventsnn import Events
from eventsnn.io import load_images
from eventsnn.models import MODELS, Model

SMOOTH = 25  # epochs over which the held-out accuracy is averaged before the best is chosen


class Task(NamedTuple):
    """Images of a data set, and how to draw the parts: 0 to learn from, 1 to choose on, 2 to test on."""

    model: str
    most_epochs: int
    load: Callable[[Path, tuple[int, int]], tuple[np.ndarray, np.ndarray, np.ndarray]]
    chosen: int
    tested: int | None


def caltech(folder: Path, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return images, labels and the unit that is drawn: the image."""
    images = load_images(folder / "caltech", size=size)
    return images.pixels, images.labels, np.arange(len(images))


def eth80(folder: Path, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return images, labels and the unit that is drawn: the object."""
    images = load_images(folder / "eth80" / "eth80_gray128.npz", size=size)
    assert images.groups is not None
    return images.pixels, images.labels, images.groups


TASKS = {
    "caltech": Task("mozafari2018_caltech", 1200, caltech, chosen=50, tested=None),
    "eth80": Task("mozafari2018_eth80", 250, eth80, chosen=1, tested=1),
}
LEARNT = 200  # training images a class where units are images, those to choose on included


def draw(task: Task, labels: np.ndarray, units: np.ndarray, seed: int) -> np.ndarray:
    """Return the part of each image."""
    rng = np.random.default_rng(seed)
    parts = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        members = rng.permutation(np.unique(units[labels == label]))
        tested = len(members) - LEARNT if task.tested is None else task.tested
        for part, some in ((2, members[:tested]), (1, members[tested : tested + task.chosen])):
            parts[(labels == label) & np.isin(units, some)] = part
    return parts


def choose_epochs(model: Model, learn: Events, choose: Events, seed: int) -> tuple[int, list[float]]:
    """Return the number of epochs with the best smoothed accuracy on what was held out, and that accuracy by epoch."""
    accuracy = model.train(learn, validation=choose, seed=seed).records[0].validation
    smooth = np.convolve(accuracy, np.ones(SMOOTH) / SMOOTH, mode="valid")
    return int(np.argmax(np.round(smooth, 6))) + (SMOOTH + 1) // 2, list(accuracy)


def run(name: str, folder: Path, seed: int) -> dict[str, Any]:
    """Choose the epochs, train on all training images, test once."""
    task = TASKS[name]
    model = MODELS[task.model]().with_epochs([task.most_epochs])
    pixels, labels, units = task.load(folder, model.size)
    start = time.perf_counter()
    events = model.encoder.encode(pixels, labels)
    encoded = time.perf_counter()
    parts = draw(task, labels, units, seed)
    epochs, accuracies = choose_epochs(model, events[parts == 0], events[parts == 1], seed)
    chosen = time.perf_counter()
    trained = model.with_epochs([epochs]).train(events[parts < 2], seed=seed)
    learnt = time.perf_counter()
    result = trained.evaluate(events[parts == 2])
    tested = time.perf_counter()
    assert result.confusion is not None
    return {
        "benchmark": "objects",
        "model": model.name,
        "seed": seed,
        "training_images": int((parts < 2).sum()),
        "test_images": int((parts == 2).sum()),
        "epochs": epochs,
        "held_out_accuracy": float(np.mean(accuracies[epochs - SMOOTH // 2 - 1 : epochs + SMOOTH // 2])),
        "held_out_by_25_epochs": accuracies[24::25],
        "test_accuracy": result.accuracy,
        "test_silent": result.silent,
        "test_by_class": (np.diag(result.confusion) / np.bincount(labels[parts == 2])).tolist(),
        "seconds": {
            "encode": encoded - start,
            "choose": chosen - encoded,
            "train": learnt - chosen,
            "train_per_sample": (learnt - chosen) / (epochs * int((parts < 2).sum())),
            "test": tested - learnt,
        },
        "peak_memory_gib": peak_memory_gib(),
        "input_spikes": result.input.spikes,
        "test_activity": result.to_dict()["layers"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    for name in arguments.tasks:
        for seed in arguments.seeds:
            append("objects", environment() | run(name, arguments.folder, seed))


if __name__ == "__main__":
    main()
