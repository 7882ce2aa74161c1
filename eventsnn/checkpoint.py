"""Checkpoints: everything that changes while a layer learns, in one HDF5 file that is replaced by rename."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from eventsnn import functions, store
from eventsnn.batches import Data, batches
from eventsnn.layers import layer_to_dict
from eventsnn.network import Network

_KIND = ("eventsnn-checkpoint", 1)
_EXTRA = "extra/"
_SAMPLES = 4096  # hashed at a time

State = tuple[dict[str, Any], dict[str, np.ndarray]]  # JSON values, and arrays that are not empty


class Stateful(Protocol):
    """What can be put into a checkpoint beside the training's own state."""

    def state(self) -> dict[str, np.ndarray]:
        """Return arrays of numbers, none of them empty, by name."""

    def set_state(self, arrays: Mapping[str, np.ndarray]) -> object:
        """Take what :meth:`state` returned."""


@dataclass(frozen=True)
class Checkpoint:
    """Where :func:`eventsnn.fit` keeps its state, how often, and from where it continues.

    If the file exists, training continues from it, and ends with the bits of a training that was never interrupted;
    else it begins, and the file is written at once. It is replaced by rename: whatever happens meanwhile, an old one
    or a new one is there, whole; of a link, what it leads to is replaced. When training has ended the file stays and
    holds the result; whoever has that elsewhere may delete it.

    Functions of your own (rule, competition, score) count by their code and by what they take from outside: globals,
    closures, defaults and helpers, as they are when ``fit`` begins. One that takes anything else than numbers, strings,
    arrays, events and functions, a random generator for instance, is refused.

    Parameters
    ----------
    path : path
        The file; with :meth:`eventsnn.models.Model.train` a folder, with one file for each step.
    every_seconds : float
        Seconds between two checkpoints; ``inf`` for none by the clock.
    every_samples : int, optional
        Presentations between two checkpoints. Whichever comes first counts. Neither changes what is learnt.
    data : str, optional
        What identifies the data, those for validation included. Default: the SHA-256 of all their spikes and labels,
        for which they are read once.
    extra : Stateful, optional
        What else changes in ``on_epoch`` and must be as it was: an object with ``state()``, which returns arrays by
        name, and ``set_state(arrays)``.

    Raises
    ------
    ValueError
        If an interval is not positive.
    """

    path: str | os.PathLike[str]
    every_seconds: float = 60.0
    every_samples: int | None = None
    data: str | None = None
    extra: Stateful | None = None

    def __post_init__(self) -> None:
        if not self.every_seconds >= 0:
            raise ValueError(f"every_seconds expects 0 or more, got {self.every_seconds}")
        if self.every_samples is not None and self.every_samples < 1:
            raise ValueError(f"every_samples expects at least 1, got {self.every_samples}")


class Learning(Protocol):
    """What a :class:`Keeper` keeps."""

    @property
    def presented(self) -> int:
        """Samples presented so far."""

    def state(self) -> State:
        """Return everything that changes."""

    def set_state(self, values: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> object:
        """Take what :meth:`state` returned, or raise without having changed anything."""


class Keeper:
    """Writes checkpoints of one training, and continues from the one that is there.

    Parameters
    ----------
    checkpoint : Checkpoint
        Where and how often.
    learning : Learning
        What is kept.
    identity : mapping of str to str
        What must be equal for a training to continue another.

    Raises
    ------
    OSError
        If the file cannot be written or read.
    ValueError
        If there is a checkpoint that is broken, newer than this program or of another training, which stays as it is;
        or a folder.
    """

    def __init__(self, checkpoint: Checkpoint, learning: Learning, identity: Mapping[str, str]) -> None:
        self._checkpoint, self._learning, self._identity = checkpoint, learning, dict(identity)
        self._path = Path(checkpoint.path)
        self._at, self._when = learning.presented, time.monotonic()
        if self._path.is_dir():
            raise ValueError(f"{self._path}: the checkpoint expects a file, this is a folder")
        if self._path.exists():
            self._resume()
        else:
            self.write()  # now, so that a place that cannot be written is known before the work

    def keep(self) -> None:
        """Write a checkpoint if it is time."""
        every = self._checkpoint.every_samples
        enough = every is not None and self._learning.presented - self._at >= every
        if enough or time.monotonic() - self._when >= self._checkpoint.every_seconds:
            self.write()

    def write(self) -> None:
        """Write a checkpoint."""
        values, arrays = self._learning.state()
        extra = {} if self._checkpoint.extra is None else self._checkpoint.extra.state()
        arrays |= {_EXTRA + name: array for name, array in extra.items()}
        store.write(self._path, _KIND, {"of": self._identity, "values": values}, arrays)
        self._at, self._when = self._learning.presented, time.monotonic()

    def _resume(self) -> None:
        meta, arrays = store.read(self._path, _KIND)
        extra = {n.removeprefix(_EXTRA): array for n, array in arrays.items() if n.startswith(_EXTRA)}
        try:
            self._check(meta["of"])
            self._learning.set_state(meta["values"], arrays)
            if self._checkpoint.extra is not None:
                self._checkpoint.extra.set_state(extra)
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"{self._path}: inconsistent checkpoint: {error!r}") from error
        except ValueError as error:
            raise ValueError(f"{self._path}: {error}") from error
        self._at = self._learning.presented

    def _check(self, found: Mapping[str, str]) -> None:
        for name, wanted in self._identity.items():
            if found[name] == wanted:
                continue
            if name in ("data", "network"):
                what = {"data": "other data", "network": "another network, of other layers or initial weights"}[name]
                raise ValueError(f"a checkpoint of a training that began with {what}")
            raise ValueError(f"a checkpoint of a training with {name} {found[name]}, this one has {wanted}")


def identify(
    net: Network, data: Iterable[Data | None], checkpoint: Checkpoint, settings: Mapping[str, Any]
) -> dict[str, str]:
    """Return what must be equal for a training to continue another: settings, data, network, in this order."""
    described = {name: describe(value) for name, value in settings.items()}
    return described | {"data": checkpoint.data or fingerprints(data), "network": _fingerprint_of(net)}


def fingerprints(data: Iterable[Data | None]) -> str:
    """Return what identifies several data sets; None stands for one that is not there."""
    return " ".join(fingerprint(one) for one in data if one is not None)


def fingerprint(data: Data) -> str:
    """Return the SHA-256 of all spikes and labels; it depends neither on the file nor on how they come in batches."""
    columns = {name: hashlib.sha256() for name in ("time", "channel", "y", "x", "counts")}
    for batch in batches(data, _SAMPLES):
        for name, column in columns.items():
            array = np.diff(batch.offsets) if name == "counts" else getattr(batch, name)
            column.update(array.tobytes())
    labels = None if data.labels is None else np.asarray(data.labels, np.int64).tobytes()
    described = [list(map(int, data.shape)), data.unit, int(data.duration), labels is not None]
    parts = [json.dumps(described).encode(), *(column.digest() for column in columns.values()), labels or b""]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _fingerprint_of(net: Network) -> str:
    whole = hashlib.sha256(json.dumps([list(net.shape), [layer_to_dict(layer) for layer in net.layers]]).encode())
    for arrays in (net.weights, net.thresholds):
        for array in arrays.values():
            whole.update(array.tobytes())
    return whole.hexdigest()


def same_kind(name: str, present: np.ndarray, array: np.ndarray) -> np.ndarray:
    """Return an array of a checkpoint, or say in what it differs from the one whose place it shall take."""
    if array.dtype != present.dtype or array.shape != present.shape:
        expected, found = (f"{a.dtype} of shape {a.shape}" for a in (present, array))
        raise ValueError(f"{name!r} expects {expected}, found {found}")
    return array


def describe(value: Any) -> str:
    """Return a setting as text, the same in every process; refuse a function that cannot be told from others."""
    if is_dataclass(value):
        inside = ", ".join(f"{field.name}={describe(getattr(value, field.name))}" for field in fields(value))
        return f"{type(value).__name__}({inside})"
    if isinstance(value, np.ndarray | np.generic):
        return repr(value.tolist())
    return _describe_function(value) if callable(value) else repr(value)


def _describe_function(function: Callable[..., Any]) -> str:
    try:
        return functions.identify(function)
    except functions.UnknownError as error:
        raise ValueError(
            "a checkpoint expects functions that take numbers, strings, arrays, events and functions of these from "
            f"outside, got one that cannot be told from others: {error}"
        ) from None
