"""Trainings that can be cut and continued: where they keep how far they are, of what training, and one at a time."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from eventsnn.checkpoint import Checkpoint
from eventsnn.models import Model, write_text
from eventsnn.targets import shown_as

Say = Callable[[str], object]

_TRAINING = "training.json"  # beside the checkpoints: what they are of
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}  # some network file systems
_LONG = 100  # characters of a text, from which on its hash says whether it is the same
_SHOWN = 3  # differences in an error


def absolute(path: Path) -> Path:
    """Return a path without links, the same for all names of a file."""
    return Path(os.path.realpath(path))


def check_parent(run: Path) -> None:
    """Refuse a folder to make that would lie in none.

    Raises
    ------
    ValueError
        If so.
    """
    parent = absolute(run).parent
    if not parent.is_dir():
        raise ValueError(f"{run}: expected a name in an existing folder, {parent} is none")


@contextmanager
def locked(run: Path, work: str = "train") -> Iterator[None]:
    """Keep other processes from the same ``work`` on ``run`` while the block runs.

    A file beside ``run`` is locked, and removed in the end. The kernel releases the lock of a process that is killed:
    a file that such a one leaves behind is in nobody's way. Windows has no such locks, and nothing is locked there.

    Raises
    ------
    ValueError
        If another process is at work on ``run``, or it would lie in no folder.
    """
    check_parent(run)
    if sys.platform == "win32":
        yield
        return
    target = absolute(run)
    path = target.with_name(f".{target.name}.lock")
    with shown_as(path, target):
        file = _lock(path, run, work)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is locked: afterwards it might be another's
        os.close(file)


def _lock(path: Path, run: Path, work: str) -> int:
    """Return the descriptor of a locked file of that name."""
    import fcntl

    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file), path.stat()):
                return file
        except FileNotFoundError:
            pass  # as below
        except BlockingIOError:
            os.close(file)
            raise ValueError(f"{run}: another process is {work}ing it now; wait for its end, or stop it") from None
        except OSError as error:
            if error.errno in _NO_LOCKS:
                warnings.warn(
                    f"{run}: files cannot be locked here, see to it that nobody else {work}s it", stacklevel=4
                )
                return file
            os.close(file)
            raise
        os.close(file)  # whoever had it locked has removed it meanwhile: another one has to be made


def describe_training(
    model: Model, data: str, *, seed: int, backend: str | None, validation: float | None
) -> dict[str, Any]:
    """Return all that decides what a training makes, as JSON values: the experiment, and options of the command line.

    A text of more than 100 characters, such as the numbers of a whitening, is there as its SHA-256.
    """
    from eventsnn.experiment import Experiment

    options = {"--data": data, "--backend": backend, "--validation": validation}
    described: dict[str, Any] = _plain(options | Experiment(model, seed).to_dict())
    return described


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str) and len(value) > _LONG:
        return f"sha256 {hashlib.sha256(value.encode()).hexdigest()}"
    if isinstance(value, float):
        whole = value.is_integer()  # 15.0 and 15 are the same
        return int(value) if whole else str(value) if math.isinf(value) else value
    return value


def check_same(where: Path, then: dict[str, Any], now: dict[str, Any], remedy: str) -> None:
    """Refuse to take one training for another.

    Parameters
    ----------
    where : Path
        What holds the one that was.
    then, now : dict
        From :func:`describe_training`.
    remedy : str
        What to do if they differ, for the error.

    Raises
    ------
    ValueError
        If they differ; it names the keys, with both values.
    """
    old, new = dict(_leaves(then)), dict(_leaves(now))
    differing = [key for key in old | new if key not in old or key not in new or old[key] != new[key]]
    if not differing:
        return
    listed = "; ".join(f"{key}: then {_shown(old, key)}, now {_shown(new, key)}" for key in differing[:_SHOWN])
    more = f"; and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
    raise ValueError(f"{where}: of another training than this one ({listed}{more}); {remedy}")


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value of a table that is none itself, with its place: ``steps[0].rule.tau``."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, f"{key}.{name}" if key else name)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for i, item in enumerate(value):
            yield from _leaves(item, f"{key}[{i}]")
    else:
        yield key, value


def _shown(leaves: dict[str, Any], key: str) -> str:
    if key not in leaves:
        return "absent"
    text = json.dumps(leaves[key])
    return text if len(text) <= _LONG else text[: _LONG - 3] + "..."


def checkpoints_of(run: Path) -> Path:
    """Return the folder where a training of ``run`` keeps its checkpoints until it has ended."""
    return run.with_name(f"{run.name}.checkpoint")


def check_checkpoints(run: Path, training: dict[str, Any], resume: bool) -> None:
    """Refuse to begin where a training of ``run`` was cut, or to continue another one.

    Raises
    ------
    ValueError
        If so.
    """
    folder = checkpoints_of(run)
    if not resume:
        if folder.is_dir() and any(folder.iterdir()):
            raise ValueError(f"{folder}: a training of {run} has not ended; --resume continues it, --force begins anew")
    elif (known := folder / _TRAINING).is_file():
        try:
            then = json.loads(known.read_text(encoding="utf-8"))
            if not isinstance(then, dict):
                raise ValueError(f"expected a JSON object, found {type(then).__name__}")
        except ValueError as error:
            raise ValueError(f"{known}: not the description of a training: {error}") from None
        check_same(folder, then, training, "--force without --resume begins anew")


def begin(checkpoint: Checkpoint, training: dict[str, Any], resume: bool) -> None:
    """Make the folder of checkpoints, which says what they are of; unless ``resume``, what is there is removed first.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    folder = Path(checkpoint.path)
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    if not any(folder.glob("*.h5")):  # checkpoints without it are of we know not what; they know it themselves
        write_text(folder / _TRAINING, json.dumps(training, indent=1, allow_nan=False) + "\n")


@contextmanager
def kept(checkpoint: Checkpoint | None, say: Say) -> Iterator[None]:
    """Remove checkpoints when the block ends well."""
    if checkpoint is None:
        yield
        return
    folder = Path(checkpoint.path)
    try:
        yield
    except BaseException:
        with suppress(OSError):
            if [path.name for path in folder.iterdir()] == [_TRAINING]:
                shutil.rmtree(folder)
            folder.rmdir()  # unless there is something in it
        if folder.exists():
            with suppress(OSError):
                say(f"{folder} holds how far training has come: --resume continues it")
        raise
    shutil.rmtree(folder, ignore_errors=True)
