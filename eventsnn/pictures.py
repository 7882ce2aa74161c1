"""``eventsnn plot``: every picture of a run, written at once."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from eventsnn import plot
from eventsnn.encode import Filter, Gabor, ImageEncoder
from eventsnn.events import Events
from eventsnn.io import EventDataset
from eventsnn.models import Trained
from eventsnn.plot.spikes import LATENCIES
from eventsnn.plot.style import png, short, title
from eventsnn.reconstruct import can_reconstruct
from eventsnn.runs import SNAPSHOTS, TRAINED_ON, describe_data, evaluated, read_log, trained_on
from eventsnn.snapshots import Snapshots, first_maps, read_snapshots
from eventsnn.sources import Part, open_data
from eventsnn.targets import hidden
from eventsnn.train import Progress
from eventsnn.unfinished import Say

Pictures = Iterator[tuple[str, Any]]  # names, and axes of each

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

    They appear once all are drawn and written. A folder that is made appears with all of them at once. In one that is
    there they get their names one after another: an error on the way puts back those of before; a kill in the middle
    of it, which takes some milliseconds, leaves some of each, and a hidden folder among them with the others.

    Parameters
    ----------
    run : Path
        Folder of a trained model.
    out : Path
        Folder to draw into; made if there is none.
    source : str, optional
        An event file, images or recordings, to show spikes and decisions of; see :func:`eventsnn.sources.open_data`.
    samples : sequence of int
        Whose spikes the rasters and the latency maps show; negative from the end. Default: the first sample of each of
        the first three classes.
    part : {"train", "test", "all"}
        Of images or recordings that have parts.
    progress : callable, optional
        Called as ``progress(done, total, phase)``.
    say : callable, optional
        Takes lines for people: what there is no picture of, and why; and that decisions are about samples that the
        run was trained on, which the title of their picture says too.

    Returns
    -------
    list of Path
        The files: ``features-I.png`` and ``weights-I.png`` for each layer ``I`` with weights; ``evolution-I.png`` for
        each that learnt, if the run has snapshots; ``convergence.png`` and ``accuracy.png`` as far as the log knows
        them; with ``source`` also ``spikes.png``, ``confusion.png`` where there are decisions, and of each sample ``N``
        ``raster-N.png``, ``latency-input-N.png`` and ``latency-I-N.png`` for each layer with weights. Features have
        their dark parts too, unless the encoder has Gabor filters.

    Raises
    ------
    IndexError
        If there is no such sample.
    ValueError, OSError
        If something does not fit or cannot be written, which names the file; what was there before is as it was.
    """
    _check_folder(out)
    trained = Trained.load(run)
    files = _png(_of_model(trained)) | _png(_of_snapshots(run, trained, say)) | _png(_of_log(run))
    if source is not None:
        with (
            tempfile.TemporaryDirectory(prefix="eventsnn-") as scratch,
            open_data(source, part, trained.encoder, trained.size, Path(scratch), progress) as dataset,
        ):
            files |= _png(_of_samples(trained, dataset, samples))
            seen = trained_on(run, describe_data(source, dataset))
            files |= _png(_of_decisions(trained, dataset, seen, progress, say))
    return _publish(files, out)


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: expected a folder, found a file")
    if not out.exists() and not Path(os.path.realpath(out)).parent.is_dir():
        raise ValueError(f"{out}: expected a name in an existing folder")


def _png(pictures: Pictures) -> dict[str, bytes]:
    """Return files, by name: some tens of kilobytes each."""
    return {f"{name}.png": png(axes) for name, axes in pictures}


def _of_model(trained: Trained) -> Pictures:
    net, encoder = trained.network, _in_pixels(trained)
    for layer in net.trainable:
        yield f"features-{layer}", plot.features(net, layer, encoder, signed=_signed(encoder))
        yield f"weights-{layer}", plot.weights_histogram(net, layer)


def _of_snapshots(run: Path, trained: Trained, say: Say) -> Pictures:
    if not (run / SNAPSHOTS).is_file():
        say(f"{run}: no picture of how features came about, since there is no {SNAPSHOTS}")
        return
    net, encoder = trained.network, _in_pixels(trained)
    for layer, snapshots in read_snapshots(run / SNAPSHOTS).items():
        _check_snapshots(run / SNAPSHOTS, trained, layer, snapshots)
        recorded: dict[Any, np.ndarray] = dict(snapshots)
        last, kept = list(snapshots.values())[-1], net.weights[layer]
        if not np.array_equal(kept[: len(last)], last):
            recorded["kept"] = kept  # of an earlier epoch, which was better
        yield f"evolution-{layer}", plot.evolution(net, layer, recorded, encoder, signed=_signed(encoder))


def _check_snapshots(path: Path, trained: Trained, layer: int, snapshots: Snapshots) -> None:
    """Refuse snapshots of another network."""
    if layer not in trained.network.trainable:
        raise ValueError(f"{path}: of another network, whose layer {layer} learns; here {trained.network.trainable} do")
    expected, found = first_maps(trained.network.weights[layer]).shape, next(iter(snapshots.values())).shape
    if found != expected:
        raise ValueError(f"{path}: of another network, layer {layer} expects snapshots of {expected}, found {found}")


def _in_pixels(trained: Trained) -> ImageEncoder | None:
    """Return the encoder of images; of a camera's events and whitened images, features on the network's grid remain."""
    encoder = trained.encoder
    return encoder if isinstance(encoder, ImageEncoder) and can_reconstruct(encoder) else None


def _signed(encoder: ImageEncoder | None) -> bool:
    """Tell whether features are clearer with their dark parts.

    Not those of bars: in several directions at one place they add up to a dot, whichever of them a map has learnt.
    """
    banks = [stage.kernels for stage in encoder.stages if isinstance(stage, Filter)] if encoder else []
    return not any(isinstance(kernel, Gabor) for kernels in banks for kernel in kernels)


def _of_log(run: Path) -> Pictures:
    if read_log(run).get("steps"):
        yield "convergence", plot.convergence(run)
        if plot.has_accuracy(run):
            yield "accuracy", plot.accuracy(run)


def _of_samples(trained: Trained, dataset: EventDataset, samples: Sequence[int]) -> Pictures:
    for number in samples:
        if not -len(dataset) <= number < len(dataset):
            raise IndexError(f"sample expects an index into {len(dataset)} samples, got {number}")
    net, names = trained.network, ["input", *(f"{i}: {layer}" for i, layer in enumerate(trained.network.layers))]
    for number in dict.fromkeys(n % len(dataset) for n in samples or _of_distinct_classes(dataset)):
        yield from _of_sample(trained, dataset, number, names)
    some = dataset[:_AVERAGED]
    yield "spikes", plot.spikes_over_time([some, *net.run(some, record=True)], names=names)


def _of_decisions(trained: Trained, dataset: EventDataset, seen: bool, progress: Progress | None, say: Say) -> Pictures:
    evaluation = evaluated(trained, dataset, progress)
    if evaluation.confusion is not None:
        classes = dataset.provenance.get("extra", {}).get("classes")
        fits = classes is not None and len(classes) == len(evaluation.confusion)
        if seen:
            say(TRAINED_ON)
        names = [str(name) for name in classes] if fits else None
        yield "confusion", plot.confusion(evaluation, names=names, trained_on=seen)


def _of_sample(trained: Trained, dataset: EventDataset, number: int, names: Sequence[str]) -> Pictures:
    one = dataset[[number]]
    layers: list[Events] = [one, *trained.network.run(one, record=True)]
    which = f"sample {number}"
    if one.labels is not None:
        which += f", class {_class_name(dataset, one.labels[0])}"
    yield f"raster-{number}", plot.raster(layers, names=[f"{which}; {names[0]}", *names[1:]])[0]
    for layer in (0, *(i + 1 for i in trained.network.trainable)):
        axes = plot.latency_map(layers[layer])
        title(axes, f"{which}; {names[layer]}\n{LATENCIES}")
        yield f"latency-{layer - 1 if layer else 'input'}-{number}", axes


def _of_distinct_classes(dataset: EventDataset) -> list[int]:
    """Return the first sample of each of the first classes; the first of all where there are no labels."""
    if dataset.labels is None:
        return [0] if len(dataset) else []
    return np.unique(dataset.labels, return_index=True)[1][:_COMPARED].tolist()


def _class_name(dataset: EventDataset, label: int) -> str:
    names = dataset.provenance.get("extra", {}).get("classes") or ()
    return short(str(names[label] if 0 <= label < len(names) else label))


def _publish(files: Mapping[str, bytes], out: Path) -> list[Path]:
    """Write all files into ``out`` or none."""
    target = Path(os.path.realpath(out))
    fresh = not target.exists()
    # Inside a folder that is there, since what lies beside it may be another disk.
    with ExitStack() as stack:
        with _named(out):
            staging = stack.enter_context(hidden(target if fresh else target / "pictures", folder=True))
        for name, content in files.items():
            with _named(out / name):
                (staging / name).write_bytes(content)
        if fresh:
            with _named(out):
                os.rename(staging, target)
        else:
            _replace(staging, sorted(files), out)
    return [out / name for name in sorted(files)]


def _replace(staging: Path, names: Sequence[str], out: Path) -> None:
    """Move files to ``out``, and if one cannot be moved, what was there before back."""
    before = staging / "before"
    with _named(out):
        before.mkdir()
    try:
        for name in names:
            with _named(out / name):
                if (out / name).is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                if os.path.lexists(out / name):
                    os.rename(out / name, before / name)
                os.rename(staging / name, out / name)
    except BaseException:
        for name in names:
            if (before / name).exists():
                os.replace(before / name, out / name)
            elif not (staging / name).exists():
                (out / name).unlink(missing_ok=True)
        raise


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let errors of the system name ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
