"""``eventsnn demo``: the bundled digits from images to decisions, with everything kept to look at."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from eventsnn.io import EventDataset
from eventsnn.models import Model, Trained, digits
from eventsnn.runs import SNAPSHOTS, describe_data, evaluated, staged, write_log
from eventsnn.snapshots import write_snapshots
from eventsnn.sources import Part, read_images, write_encoded
from eventsnn.train import Progress
from eventsnn.unfinished import Say

SEED = 0

_WHAT = """\
Learns to read the digits that come with scikit-learn: 8x8 grey images, a fifth of them held out.
Encode: on- and off-centre cells fire where the image changes, the sooner the stronger the contrast.
Learn:  two convolutional layers by STDP, from the spikes alone; then a linear readout (a support vector machine)
        is fitted to the latencies of the second layer's pooled neurons, with the labels."""

_MEANS = """\
Active is the share of neurons that fired, each at most once. A synaptic operation is one spike arriving at one synapse:
silent neurons cost nothing."""


def run(
    out: Path,
    *,
    log: dict[str, Any],
    model: Model | None = None,
    progress: Progress | None = None,
    say: Say = print,
) -> dict[str, Any]:
    """Encode, learn, test and draw; write the folder ``out``.

    Parameters
    ----------
    out : Path
        Folder to make, or of an earlier demo: its files are replaced.
    log : dict
        From :func:`eventsnn.runs.start_log`; the rest is added and written along.
    model : Model, optional
        Default :func:`eventsnn.models.digits`.
    progress : callable, optional
        Called as ``progress(done, total, phase)``.
    say : callable, optional
        Takes lines for people.

    Returns
    -------
    dict
        JSON values: test accuracy, activity of the layers, seconds of each stage, and the files.

    Raises
    ------
    OSError, ValueError
        If something cannot be written; nothing is left behind then.
    """
    recipe, start = model or digits(), time.perf_counter()
    say(_WHAT)
    with staged(out) as folder:
        for part in ("train", "test"):
            _encode(folder / f"{part}.h5", part, recipe, progress)
        encoded = time.perf_counter()
        with EventDataset(folder / "train.h5") as data, EventDataset(folder / "test.h5") as test:
            trained = recipe.train(data, seed=SEED, progress=progress)
            learnt = time.perf_counter()
            result = evaluated(trained, test, progress)
            tested = time.perf_counter()
            _draw(folder, trained, test)
            log |= {"data": describe_data("digits", data), "test": describe_data("digits", test)}
        trained.save(folder)
        write_snapshots(folder / SNAPSHOTS, trained.records)
        seconds = {"encode": encoded - start, "learn": learnt - encoded, "test": tested - learnt}
        seconds |= {"draw": time.perf_counter() - tested, "total": time.perf_counter() - start}
        log |= {"seed": SEED, "backend": trained.network.backend.name, "model": recipe.name}
        log |= {"steps": [record.to_dict() for record in trained.records], "seconds": seconds}
        log |= {"result": result.to_dict()}
        write_log(folder, log)
        files = [str(out / path.name) for path in sorted(folder.iterdir())]
    say(f"\nHeld-out digits: {result}\n{_MEANS}\n")
    return {"out": str(out), "model": recipe.name, **result.to_dict(), "seconds": seconds, "files": files}


def _encode(path: Path, part: Part, recipe: Model, progress: Progress | None) -> None:
    write_encoded(path, read_images("digits", part, recipe.size, progress), recipe.image_encoder, progress)


def _draw(folder: Path, trained: Trained, test: EventDataset) -> None:
    """Draw the spikes of the first test sample in every layer, and what each layer with weights prefers."""
    from eventsnn import plot
    from eventsnn.plot.style import png

    net, sample = trained.network, test[:1]
    names = ["input", *(str(layer) for layer in net.layers)]
    panels = plot.raster([sample, *net.run(sample, record=True)], names=names)
    (folder / "raster.png").write_bytes(png(panels[0]))
    for layer in net.trainable:
        (folder / f"features-layer-{layer}.png").write_bytes(png(plot.features(net, layer, trained.image_encoder)))
