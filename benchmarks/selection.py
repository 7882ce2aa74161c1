"""What the epochs and the readout of a model for MNIST were chosen by: accuracy on held-out training images.

``python -m benchmarks.selection FOLDER MODEL`` with the folder of MNIST's idx files. The network learns from the first
50,000 training images; of each readout that is fitted on them the accuracy on the last 10,000 is recorded. The test
images are not read.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.record import append, environment
from eventsnn import Events, features
from eventsnn.io import load_images
from eventsnn.models import MODELS, Model
from eventsnn.readout import LinearReadout, as_feature

LEARNT = 50_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", choices=[name for name, make in MODELS.items() if make().readout is not None])
    parser.add_argument("--epochs", type=int, nargs="+", help="of the last layer that learns; default: the model's")
    parser.add_argument("--C", type=float, nargs="+", default=[0.001, 0.01, 0.1, 1.0])
    parser.add_argument("--regions", type=int, nargs="+", help="a side, of a readout of regions; default: the model's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    given = parser.parse_args()
    model, images = MODELS[given.model](), load_images(given.folder, "train")
    events = model.encoder.encode(images.pixels, images.labels)
    for seed, epochs in product(given.seeds, given.epochs or [model.steps[-1].epochs]):
        chosen = model.with_epochs([*(step.epochs for step in model.steps[:-1]), epochs])
        for line in lines(chosen, events, seed, given.C, given.regions):
            append("selection", environment() | line)


def lines(
    model: Model, events: Events, seed: int, strengths: Sequence[float], sides: Sequence[int] | None
) -> Iterator[dict[str, Any]]:
    """Train the layers once, and yield what each readout decides right of the held-out images."""
    learn, held_out = events[:LEARNT], events[LEARNT:]
    start = time.perf_counter()
    network = replace(model, readout=None).train(learn, seed=seed).network
    trained = time.perf_counter() - start
    assert model.readout is not None
    usual = as_feature(model.readout.kind)
    for feature in [replace(usual, regions=(n, n)) for n in sides] if sides else [usual]:
        known, new = (features(network, part, feature) for part in (learn, held_out))
        for strength in strengths:
            start = time.perf_counter()
            readout = LinearReadout(strength, feature).fit(known, learn.labels)
            yield {
                "benchmark": "selection",
                "model": model.name,
                "seed": seed,
                "training_images": len(learn),
                "held_out_images": len(held_out),
                "epochs": [step.epochs for step in model.steps],
                "C": strength,
                "regions": feature.regions,
                "held_out_accuracy": float((readout.predict(new) == held_out.labels).mean()),
                "seconds": {"train": trained, "fit": time.perf_counter() - start},
            }


if __name__ == "__main__":
    main()
