"""Run folders: a trained model with its log, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from eventsnn import __version__
from eventsnn.batches import Data
from eventsnn.checkpoint import Checkpoint
from eventsnn.devices import Computed
from eventsnn.evaluation import Evaluation
from eventsnn.io import EventDataset
from eventsnn.models import Model, Trained, write_text
from eventsnn.plasticity import RSTDP
from eventsnn.snapshots import write_snapshots
from eventsnn.sources import Samples, encoder_of, hold_out, image_size, is_event_file, open_data, pictures
from eventsnn.targets import hidden, shown_as, sweep
from eventsnn.threads import default_threads
from eventsnn.train import Progress
from eventsnn.unfinished import Say, absolute, begin, check_parent, check_same, checkpoints_of, kept

LOG, SNAPSHOTS = "log.json", "snapshots.h5"
TRAINED_ON = "these are the samples that it was trained on: the accuracy says nothing about new ones"
VALIDATION = 1 / 12  # of the training samples, for models that choose an epoch: 5,000 of MNIST's 60,000

_FILES = {LOG, SNAPSHOTS, "model.json", "network.h5", "readout.h5", "train.h5", "test.h5", "raster.png"}
_PICTURES = "features-layer-*.png"  # as many as layers learn


def check_free(target: Path, replaced: str | None = None) -> None:
    """Refuse a folder to write that exists with something in it, unless ``replaced`` is the command that made it.

    Raises
    ------
    ValueError
        If the folder is not free, or there is none to make it in.
    """
    check_parent(target)
    if target.is_dir():
        if any(target.iterdir()) and (replaced is None or _made_by(target) != replaced):
            hint = (
                f"only what 'eventsnn {replaced}' made is replaced" if replaced else "--force replaces an earlier run"
            )
            raise ValueError(f"{target}: exists and is not empty; {hint}")
    elif target.exists():
        raise ValueError(f"{target}: expected a folder, found a file")


def _made_by(folder: Path) -> str | None:
    return read_log(folder).get("command") if (folder / LOG).is_file() else None


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Yield a new folder beside ``target``, whose files move there when the block ends well; else nothing is left.

    Files of an earlier run are replaced; what else lies in ``target`` stays. What killed processes left is removed.
    """
    target = absolute(target)
    with hidden(target, folder=True) as staging, shown_as(staging, target):
        yield staging
        _publish(staging, target)


def _publish(staging: Path, target: Path) -> None:
    if not target.exists():
        os.rename(staging, target)
        return
    (target / "model.json").unlink(missing_ok=True)  # no half of an old model passes for a whole one
    names = {path.name for path in staging.iterdir()}
    for name in (_FILES | {path.name for path in target.glob(_PICTURES)}) - names:
        (target / name).unlink(missing_ok=True)
    for name in sorted(names, key=lambda name: name == "model.json"):
        os.replace(staging / name, target / name)


def is_complete(run: Path, training: dict[str, Any]) -> bool:
    """Tell whether ``run`` holds what a training has made, and remove what a kill at its end left.

    Raises
    ------
    ValueError
        If another training has made it.
    """
    log = read_log(run) if (run / "model.json").is_file() else {}
    if log.get("command") != "train":
        return False
    check_same(run, log.get("training", {}), training, "--force replaces it")
    shutil.rmtree(checkpoints_of(run), ignore_errors=True)
    sweep(absolute(run))
    return True


def read_log(run: Path) -> dict[str, Any]:
    """Return the log of a run, empty if it has none.

    Raises
    ------
    ValueError
        If it is not a JSON object.
    """
    path = run / LOG
    if not path.is_file():
        return {}
    try:
        log = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    if not isinstance(log, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(log).__name__}")
    return log


def start_log(command: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a log that is known before anything is done."""
    return {
        "command": command,
        "arguments": arguments,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": {"eventsnn": __version__, "python": platform.python_version()}
        | {name: version(name) for name in ("numpy", "numba", "h5py", "scikit-learn")},
        "platform": platform.platform(),
        "threads": default_threads(),
    }


def write_log(folder: Path, log: dict[str, Any]) -> None:
    """Write the log of a run, by rename."""
    write_text(folder / LOG, json.dumps(log, indent=1, allow_nan=False) + "\n")


def describe_data(source: str, dataset: EventDataset) -> dict[str, Any]:
    """Return what identifies a data set, as JSON values; a file given by the user is hashed."""
    given = Path(source)
    return {
        "source": source,
        "sha256": _sha256(given) if given.is_file() else None,
        "samples": len(dataset),
        "events": dataset.n_events,
        "shape": list(dataset.shape),
        "unit": dataset.unit,
        "duration": dataset.duration,
        "provenance": dataset.provenance,
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def train(
    model: Model,
    source: str,
    run: Path,
    *,
    log: dict[str, Any],
    seed: int = 0,
    backend: str | None = None,
    validation: float | None = None,
    checkpoint: Checkpoint | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    say: Say = print,
) -> dict[str, Any]:
    """Train a model and write the folder ``run``.

    Parameters
    ----------
    model : Model
        What to train.
    source : str
        An event file, images or recordings; see :func:`eventsnn.sources.open_data`.
    run : Path
        Folder to make, or to replace the earlier run of.
    log : dict
        From :func:`start_log`, with :func:`eventsnn.unfinished.describe_training` as ``training``; the rest is added.
    seed, backend, progress
        As :meth:`Model.train`.
    validation : float, optional
        Ratio of the samples of each class to hold out, or of its groups where there are groups. Default: 1/12 for a
        model that chooses the epoch of a reward-modulated layer, else none.
    checkpoint : Checkpoint, optional
        As of :meth:`Model.train`; the folder is removed when ``run`` is complete, and stays if training is cut.
    resume : bool
        Whether to continue from what the folder holds; else it is removed first.
    say : callable, optional
        Takes lines for people.

    Returns
    -------
    dict
        The log.

    Raises
    ------
    ValueError, OSError
        If something does not fit; nothing but checkpoints is left behind then.
    """
    start = time.perf_counter()
    with kept(checkpoint, say), staged(run) as folder:
        fraction = _held_out(model, validation)
        with open_data(source, "train", model.encoder, model.size, folder, progress, fraction=fraction) as dataset:
            opened = time.perf_counter()
            size = image_size(dataset, model.encoder, model.size)
            say(f"{_origin(source, dataset)}: {len(dataset):,} samples, {dataset.n_events:,} spikes")
            if size != model.size:
                say(
                    "from {} of {}x{} pixels, not {}x{} as published".format(
                        pictures(model.encoder), *size, *model.size
                    )
                )
                model = replace(model, size=size)
            model = replace(model, encoder=encoder_of(dataset, model.encoder))
            training, held_out, how = _parts(model, dataset, fraction)
            say(how)
            if checkpoint is not None:
                begin(checkpoint, log["training"], resume)
            options: dict[str, Any] = {"seed": seed, "backend": backend, "checkpoint": checkpoint}
            trained = model.train(training, validation=held_out, progress=progress, **options)
            learnt = time.perf_counter()
            checked = None if held_out is None else evaluated(trained, held_out, progress)
            log |= {"seed": seed, "backend": trained.network.backend.name, "data": describe_data(source, dataset)}
        held = {"samples": 0 if held_out is None else len(held_out), "how": how}
        log |= {"validation": held | {"accuracy": None if checked is None else checked.accuracy}}
        log |= {"model": model.name, "steps": [record.to_dict() for record in trained.records]}
        seconds = {"data": opened - start, "train": learnt - opened, "total": time.perf_counter() - start}
        log |= {"seconds": seconds}
        trained.save(folder)
        write_snapshots(folder / SNAPSHOTS, trained.records)
        write_log(folder, log)
    return log


def evaluated(trained: Trained, data: Data, progress: Progress | None) -> Evaluation:
    """Return :meth:`Trained.evaluate`, whose phase of the progress starts now and not with the first batch."""
    if progress is not None:
        progress(0, len(data), "evaluate")
    return trained.evaluate(data, progress)


def _classes(data: dict[str, Any]) -> list[str]:
    """Return the names of the classes in what :func:`describe_data` returned."""
    return [str(name) for name in data.get("provenance", {}).get("extra", {}).get("classes") or ()]


def _origin(source: str, dataset: EventDataset) -> str:
    """Name the images for people: ``digits (train)``."""
    return source if is_event_file(source) else dataset.provenance["source"]


def _chooses(model: Model) -> bool:
    return any(isinstance(step.rule, RSTDP) for step in model.steps)


def _held_out(model: Model, fraction: float | None) -> float:
    """Return what part of each class is held out."""
    return (VALIDATION if _chooses(model) else 0.0) if fraction is None else fraction


def _parts(model: Model, dataset: EventDataset, fraction: float) -> tuple[Samples | EventDataset, Samples | None, str]:
    """Return what to train on, what to hold out, and how for the log."""
    chooses = _chooses(model)
    if not fraction:
        return dataset, None, "trains on all of them" + (" and keeps the last epoch" if chooses else "")
    training, held_out = hold_out(dataset, fraction)
    purpose = "choose the epoch of the reward-modulated layer" if chooses else "are only decided on at the end"
    held = f"{len(held_out):,} are held out" + (", whole groups," if dataset.groups is not None else "")
    return training, held_out, f"trains on {len(training):,}; {held} and {purpose}"


def result_lines(log: dict[str, Any]) -> list[str]:
    """Return for people what the log of :func:`train` says of the result."""
    lines = [_learnt(step) for step in log["steps"]]
    if (accuracy := log["validation"]["accuracy"]) is not None:
        lines.append(f"held-out samples: {accuracy:.2%} right")
    return lines


def _learnt(step: dict[str, Any]) -> str:
    count, last, validation = len(step["epochs"]), step["epochs"][-1], step["validation"]
    line = f"layer {step['layer']}: {count} epoch{'s' * (count > 1)}, convergence {last['convergence']:.4f}"
    if last["accuracy"] is not None:
        line += f", {last['accuracy']:.2%} right while learning"
    if validation:
        best = max(validation)
        line += f", kept epoch {validation.index(best) + 1}, with {best:.2%} of the held-out samples right"
    return line


def trained_on(run: Path, data: dict[str, Any]) -> bool:
    """Tell whether a run learnt from these events, or from events of the same images, as far as its log knows.

    Parameters
    ----------
    run : Path
        Folder of a trained model.
    data : dict
        From :func:`describe_data`.

    Raises
    ------
    ValueError
        If the log is damaged.
    """
    then = read_log(run).get("data", {})
    if not isinstance(then, dict) or not isinstance(then.get("provenance", {}), dict):
        raise ValueError(f"{run / LOG}: data expects what was learnt from, found something else")
    known = then.get("provenance", {}).get("source_sha256"), then.get("sha256")
    now = data["provenance"].get("source_sha256"), data["sha256"]
    return any(old is not None and old == new for old, new in zip(known, now, strict=True))


def evaluate(
    run: Path,
    source: str,
    *,
    progress: Progress | None = None,
    say: Say = print,
    backend: str | None = None,
    computed: Computed = nullcontext,
) -> dict[str, Any]:
    """Evaluate a trained model on an event file or on the test part of images.

    Parameters
    ----------
    run : Path
        Folder of a trained model.
    source : str
        An event file, images or recordings; see :func:`eventsnn.sources.open_data`.
    progress : callable, optional
        Called as ``progress(done, total, phase)``.
    say : callable, optional
        Takes lines for people.
    backend : str, optional
        What computes; see :func:`eventsnn.backends.get`.
    computed : callable, optional
        As of :func:`eventsnn.feature_files.extract`.

    Returns
    -------
    dict
        JSON values: the model, the data, and :meth:`Evaluation.to_dict`.

    Raises
    ------
    ValueError, OSError
        If something does not fit.
    """
    trained, start = Trained.load(run, backend), time.perf_counter()
    with (
        tempfile.TemporaryDirectory(prefix="eventsnn-") as scratch,
        open_data(source, "test", trained.encoder, trained.size, Path(scratch), progress) as dataset,
        computed(trained.network) as net,
    ):
        result = evaluated(replace(trained, network=net), dataset, progress)
        data, origin = describe_data(source, dataset), _origin(source, dataset)
    say(f"{trained.name} on {origin}")
    say(str(result))
    seen = trained_on(run, data)
    if seen:
        say(TRAINED_ON)
    learnt, found = _classes(read_log(run).get("data", {})), _classes(data)
    if learnt and found and learnt != found:
        say(f"classes are compared by number; these are {', '.join(found)}, the learnt ones {', '.join(learnt)}")
    described = {"run": str(run), "model": trained.name, "data": data, "trained_on_these": seen}
    return described | result.to_dict() | {"seconds": time.perf_counter() - start}
