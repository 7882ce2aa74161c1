"""``eventsnn plot``: every picture of a run, written at once."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eventsnn import plot
from eventsnn.encode import ImageEncoder
from eventsnn.events import Events
from eventsnn.io import EventDataset
from eventsnn.models import Trained
from eventsnn.reconstruct import can_reconstruct
from eventsnn.runs import SNAPSHOTS, evaluated, read_log
from eventsnn.snapshots import read_snapshots
from eventsnn.sources import Part, open_data
from eventsnn.train import Progress
from eventsnn.unfinished import Say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    Pictures = Iterator[tuple[str, Figure]]

_AVERAGED = 200  # samples whose spikes are drawn over time
_COMPARED = 3  # classes of which a sample is drawn, unless samples are chosen


def draw(
    run: Path,
    out: Path,
    source: str | None = None,
    *,
    samples: Sequence[int] = (),
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
    samples : sequence of int
        Whose spikes the rasters and the latency maps show; negative from the end. Default: the first sample of each of
        the first three classes.
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
        them; with ``source`` also ``spikes.png``, ``confusion.png`` where there are decisions, and of each sample ``N``
        ``raster-N.png``, ``latency-input-N.png`` and ``latency-I-N.png`` for each layer with weights.

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
                _save(folder, _of_data(trained, dataset, samples, progress))
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


def _of_data(trained: Trained, dataset: EventDataset, samples: Sequence[int], progress: Progress | None) -> Pictures:
    for number in samples:
        if not -len(dataset) <= number < len(dataset):
            raise IndexError(f"sample expects an index into {len(dataset)} samples, got {number}")
    net, names = trained.network, ["input", *(f"{i}: {layer}" for i, layer in enumerate(trained.network.layers))]
    for number in dict.fromkeys(n % len(dataset) for n in samples or _of_distinct_classes(dataset)):
        yield from _of_sample(trained, dataset, number, names)
    some = dataset[:_AVERAGED]
    yield "spikes", _figure(plot.spikes_over_time([some, *net.run(some, record=True)], names=names))
    evaluation = evaluated(trained, dataset, progress)
    if evaluation.confusion is not None:
        classes = dataset.provenance.get("extra", {}).get("classes")
        fits = classes is not None and len(classes) == len(evaluation.confusion)
        yield "confusion", _figure(plot.confusion(evaluation, names=[str(name) for name in classes] if fits else None))


def _of_sample(trained: Trained, dataset: EventDataset, number: int, names: Sequence[str]) -> Pictures:
    one = dataset[[number]]
    layers: list[Events] = [one, *trained.network.run(one, record=True)]
    which = f"sample {number}"
    if one.labels is not None:
        which += f", class {_class_name(dataset, one.labels[0])}"
    yield f"raster-{number}", plot.raster(layers, names=[f"{which}; {names[0]}", *names[1:]])
    for layer in (0, *(i + 1 for i in trained.network.trainable)):
        axes = plot.latency_map(layers[layer])
        axes.set_title(f"{which}; {names[layer]}\n{axes.get_title()}", fontsize=9)
        yield f"latency-{layer - 1 if layer else 'input'}-{number}", _figure(axes)


def _of_distinct_classes(dataset: EventDataset) -> list[int]:
    """Return the first sample of each of the first classes; the first of all where there are no labels."""
    if dataset.labels is None:
        return [0] if len(dataset) else []
    return np.unique(dataset.labels, return_index=True)[1][:_COMPARED].tolist()


def _class_name(dataset: EventDataset, label: int) -> str:
    names = dataset.provenance.get("extra", {}).get("classes") or ()
    return str(names[label] if 0 <= label < len(names) else label)


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
