"""What mini-batches do to what is learnt: accuracy beside online learning.

``python -m benchmarks.mini_batch``: the network of ``eventsnn demo`` on scikit-learn's digits; with
``--mnist FOLDER`` (of MNIST's four idx files) the two STDP layers of ``mozafari2019_mnist_svm``, at its published rates
and epochs, on the first 12,000 training images. Every layer learns in mini-batches; mean and spread over three seeds,
on images held out from training, and the seconds that learning took.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from benchmarks.record import append, environment
from eventsnn.events import Events
from eventsnn.io import load_images
from eventsnn.models import Model, digits, mozafari2019_mnist_svm

SIZES, SEEDS = (1, 2, 4, 16, 64), 3
TRAINING, HELD_OUT = slice(0, 12_000), slice(50_000, 60_000)  # of MNIST's training images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mnist", type=Path, metavar="FOLDER")
    folder = parser.parse_args().mnist
    model, train, test = on_digits() if folder is None else on_mnist(folder)
    for size in SIZES:
        batched = replace(model, steps=tuple(replace(step, mini_batch=size) for step in model.steps))
        found = [run(batched, train, test, seed) for seed in range(SEEDS)]
        accuracy, seconds, convergence = np.array(found).T
        line = {
            "benchmark": "mini_batch",
            "model": model.name,
            "training_images": len(train),
            "test_images": len(test),
            "mini_batch": size,
            "accuracy": accuracy.tolist(),
            "learning_seconds": seconds.tolist(),
            "convergence": convergence.tolist(),
        }
        print(f"{size:3}: {accuracy.mean():.2%} +- {accuracy.std(ddof=1):.2%}, {seconds.mean():.1f} s")
        append("mini_batch", environment() | line)


def on_digits() -> tuple[Model, Events, Events]:
    """Return the demo's network, and digits to train and to test with."""
    data, model = load_digits(), digits()
    images = np.kron(data.images / 16 * 255, np.ones((2, 2))).astype(np.uint8)
    events = model.encoder.encode(images, data.target.astype(np.int64))
    held_out = np.random.default_rng(0).permutation(len(events)) < len(events) // 4
    return model, events[np.flatnonzero(~held_out)], events[np.flatnonzero(held_out)]


def on_mnist(folder: Path) -> tuple[Model, Events, Events]:
    """Return the two-layer network, and training images of MNIST to train and to test with."""
    images, model = load_images(folder, "train"), mozafari2019_mnist_svm()
    train, test = (model.encoder.encode(images.pixels[part], images.labels[part]) for part in (TRAINING, HELD_OUT))
    return model, train, test


def run(model: Model, train: Events, test: Events, seed: int) -> tuple[float, float, float]:
    """Return accuracy, seconds of learning and the second layer's convergence."""
    trained = model.train(train, seed=seed)
    accuracy = trained.evaluate(test).accuracy
    assert accuracy is not None
    epochs = [epoch for record in trained.records for epoch in record.epochs]
    return accuracy, sum(epoch.seconds for epoch in epochs), epochs[-1].convergence


if __name__ == "__main__":
    main()
