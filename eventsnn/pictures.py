"""``eventsnn plot``: every picture of a run, written at once."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eventsnn import plot
from eventsnn.encode import ImageEncoder
from eventsnn.events import Events
from eventsnn.io import EventDataset
from eventsnn.models import Trained
from eventsnn.reconstruct import can_reconstruct
from eventsnn.runs import SNAPSHOTS, Say, evaluated, read_log
from eventsnn.snapshots import read_snapshots
from eventsnn.sources import Part, open_data
from eventsnn.train import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    Pictures = Iterator[tuple[str, Figure]]

_AVERAGED = 200  # samples whose spikes are drawn over time


def draw(
    run: Path,
    out: Path,
    source: str | None = None,
    *,
    sample: int = 0,
    part: Part = "test",
    progress: Progress | None = None,
    say: Say = print,
) -> list[Path]:
    """Draw a run into a folder, as PNG files that replace those of the same names.

    Parameters
    ----------
    run : Path
        Folder of a trained model.
    out : Path
        Folder to draw into; made if there is none.
    source : str, optional
        An event file, or images, to show spikes and decisions of; see :func:`eventsnn.sources.open_data`.
    sample : int
        Whose spikes the raster and the latency maps show.
    part : {"train", "test", "all"}
        Of the images.
    progress : callable, optional
        Called as ``progress(done, total, phase)``.
    say : callable, optional
        Takes lines for people: what there is no picture of, and why.

    Returns
    -------
    list of Path
        The files: ``features-I.png`` and ``weights-I.png`` for each layer ``I`` with weights; ``evolution-I.png`` for
        each that learnt, if the run has snapshots; ``convergence.png`` and ``accuracy.png`` as far as the log knows
        them; with ``source`` also ``raster.png``, ``latency-input.png``,
        ``latency-I.png`` for each layer with weights, ``spikes.png``, and ``confusion.png`` where there are decisions.

    Raises
    ------
    IndexError
        If there is no such sample.
    ValueError, OSError
        If something does not fit or cannot be written; what was there before is as it was then.
    """
    _check_folder(out)
    trained = Trained.load(run)
    with tempfile.TemporaryDirectory(prefix="eventsnn-") as scratch:
        folder, data = Path(scratch) / "pictures", Path(scratch)
        folder.mkdir()
        _save(folder, _of_model(trained))
        _save(folder, _of_snapshots(run, trained, say))
        _save(folder, _of_log(run))
        if source is not None:
            with open_data(source, part, trained.encoder, trained.size, data, progress) as dataset:
                _save(folder, _of_data(trained, dataset, sample, progress))
        return _publish(folder, out)


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: expected a folder, found a file")
    if not out.exists() and not Path(os.path.realpath(out)).parent.is_dir():
        raise ValueError(f"{out}: expected a name in an existing folder")


def _save(folder: Path, pictures: Pictures) -> None:
    for name, figure in pictures:
        figure.savefig(folder / f"{name}.png")


def _of_model(trained: Trained) -> Pictures:
    net, encoder = trained.network, _in_pixels(trained)
    for layer in net.trainable:
        yield f"features-{layer}", plot.features(net, layer, encoder)
        yield f"weights-{layer}", _figure(plot.weights_histogram(net, layer))


def _of_snapshots(run: Path, trained: Trained, say: Say) -> Pictures:
    if not (run / SNAPSHOTS).is_file():
        say(f"{run}: no picture of how features came about, since there is no {SNAPSHOTS}")
        return
    net, encoder = trained.network, _in_pixels(trained)
    for layer, snapshots in read_snapshots(run / SNAPSHOTS).items():
        recorded: dict[Any, np.ndarray] = dict(snapshots)
        last, kept = list(snapshots.values())[-1], net.weights[layer]
        if not np.array_equal(kept[: len(last)], last):
            recorded["kept"] = kept  # of an earlier epoch, which was better
        yield f"evolution-{layer}", plot.evolution(net, layer, recorded, encoder)


def _in_pixels(trained: Trained) -> ImageEncoder | None:
    """Return the encoder; whitening of whole images has no features in pixels: those on the network's grid remain."""
    return trained.encoder if can_reconstruct(trained.encoder) else None


def _of_log(run: Path) -> Pictures:
    log = read_log(run)
    if log.get("steps"):
        yield "convergence", _figure(plot.convergence(log))
        if plot.has_accuracy(log):
            yield "accuracy", _figure(plot.accuracy(log))


def _of_data(trained: Trained, dataset: EventDataset, sample: int, progress: Progress | None) -> Pictures:
    if not -len(dataset) <= sample < len(dataset):
        raise IndexError(f"sample expects an index into {len(dataset)} samples, got {sample}")
    net, names = trained.network, ["input", *(f"{i}: {layer}" for i, layer in enumerate(trained.network.layers))]
    one = dataset[[sample % len(dataset)]]
    layers: list[Events] = [one, *net.run(one, record=True)]
    yield "raster", plot.raster(layers, names=names)
    for layer in (0, *(i + 1 for i in net.trainable)):
        name = f"latency-{layer - 1}" if layer else "latency-input"
        axes = plot.latency_map(layers[layer])
        axes.set_title(f"{names[layer]}: {axes.get_title()}", fontsize=9)
        yield name, _figure(axes)
    some = dataset[:_AVERAGED]
    yield "spikes", _figure(plot.spikes_over_time([some, *net.run(some, record=True)], names=names))
    evaluation = evaluated(trained, dataset, progress)
    if evaluation.confusion is not None:
        classes = dataset.provenance.get("extra", {}).get("classes")
        fits = classes is not None and len(classes) == len(evaluation.confusion)
        yield "confusion", _figure(plot.confusion(evaluation, names=[str(name) for name in classes] if fits else None))


def _figure(axes: object) -> Figure:
    figure: Figure = axes.figure  # type: ignore[attr-defined]
    return figure


def _publish(folder: Path, out: Path) -> list[Path]:
    """Move all pictures to ``out``, each by rename."""
    out.mkdir(exist_ok=True)
    done = []
    for picture in sorted(folder.iterdir()):
        beside = out / f".{picture.name}.{os.getpid()}.tmp"
        try:
            shutil.copyfile(picture, beside)
            os.replace(beside, out / picture.name)
        finally:
            beside.unlink(missing_ok=True)
        done.append(out / picture.name)
    return done
