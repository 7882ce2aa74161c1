"""What mini-batches do to what is learnt: accuracy on scikit-learn's digits beside online learning.

``python -m benchmarks.mini_batch``: the network of ``eventsnn demo``, both layers learning in mini-batches; mean and
spread over three seeds, on digits held out from training, and the seconds that learning took.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from sklearn.datasets import load_digits

from benchmarks.record import append, environment
from eventsnn.events import Events
from eventsnn.models import Model, digits

SIZES, SEEDS = (1, 2, 4, 16, 64), 3


def main() -> None:
    data = load_digits()
    images = np.kron(data.images / 16 * 255, np.ones((2, 2))).astype(np.uint8)
    model = digits()
    events = model.encoder.encode(images, data.target.astype(np.int64))
    held_out = np.random.default_rng(0).permutation(len(events)) < len(events) // 4
    train, test = events[np.flatnonzero(~held_out)], events[np.flatnonzero(held_out)]
    for size in SIZES:
        batched = replace(model, steps=tuple(replace(step, mini_batch=size) for step in model.steps))
        found = [run(batched, train, test, seed) for seed in range(SEEDS)]
        accuracy, seconds, convergence = np.array(found).T
        line = {
            "benchmark": "mini_batch",
            "mini_batch": size,
            "accuracy": accuracy.tolist(),
            "learning_seconds": seconds.tolist(),
            "convergence": convergence.tolist(),
        }
        print(f"{size:3}: {accuracy.mean():.2%} +- {accuracy.std():.2%}, {seconds.mean():.1f} s")
        append("mini_batch", environment() | line)


def run(model: Model, train: Events, test: Events, seed: int) -> tuple[float, float, float]:
    """Return accuracy, seconds of learning and the second layer's convergence."""
    trained = model.train(train, seed=seed)
    accuracy = trained.evaluate(test).accuracy
    assert accuracy is not None
    epochs = [epoch for record in trained.records for epoch in record.epochs]
    return accuracy, sum(epoch.seconds for epoch in epochs), epochs[-1].convergence


if __name__ == "__main__":
    main()
