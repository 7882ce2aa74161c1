"""Weights of a layer's first maps at moments of its training: what they are, and the file that keeps those of a run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import numpy as np

from eventsnn import store
from eventsnn.history import History

MAPS = 16  # the first maps of a layer, as many as a picture shows in a row

Snapshots = Mapping[int, np.ndarray]  # presentations before it, float32 of shape (maps, channels, kernel h, kernel w)

_FIRST = 100
_KIND = ("eventsnn-snapshots", 1)


def next_moment(last: int) -> int:
    """Return after how many presentations the next snapshot is due: at 100, 200, 400, 800, ...

    Features come about early, and however long a training is this leaves few: fifteen in a million presentations.
    """
    moment = _FIRST
    while moment <= last:
        moment *= 2
    return moment


def first_maps(weights: np.ndarray) -> np.ndarray:
    """Return of a layer's weights what a snapshot keeps."""
    return weights[:MAPS].copy()


def pack(snapshots: Snapshots) -> dict[str, np.ndarray]:
    """Return snapshots, at least one, as two arrays for a file."""
    return {"moments": np.array(list(snapshots), np.int64), "snapshots": np.stack(list(snapshots.values()))}


def unpack(moments: np.ndarray, snapshots: np.ndarray) -> dict[int, np.ndarray]:
    """Return what :func:`pack` packed.

    Raises
    ------
    ValueError
        If the arrays are not of that kind.
    """
    fits = moments.dtype == np.int64 and snapshots.dtype == np.float32 and (moments.ndim, snapshots.ndim) == (1, 5)
    if not fits or len(moments) != len(snapshots) or (np.diff(moments) <= 0).any():
        raise ValueError(
            f"snapshots expects rising moments and weights for each, found {moments.shape} {snapshots.shape}"
        )
    return dict(zip(moments.tolist(), snapshots, strict=True))


def write_snapshots(path: str | os.PathLike[str], histories: Iterable[History]) -> None:
    """Write the snapshots of a run to an HDF5 file, by rename.

    Parameters
    ----------
    path : path
        The file.
    histories : iterable of History
        What the layers did, in the order in which they learnt.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    steps = list(histories)
    arrays = {f"{i}/{n}": array for i, step in enumerate(steps) for n, array in pack(step.snapshots).items()}
    store.write(path, _KIND, {"layers": [step.layer for step in steps]}, arrays)


def read_snapshots(path: str | os.PathLike[str]) -> dict[int, dict[int, np.ndarray]]:
    """Read what :func:`write_snapshots` wrote.

    Returns
    -------
    dict of int to dict of int to ndarray
        By the index of the layer: by the number of presentations, the weights of the first maps. A layer that learnt
        in several steps has them one after another.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged or something else.
    """
    meta, arrays = store.read(path, _KIND)
    found: dict[int, dict[int, np.ndarray]] = {}
    try:
        for i, layer in enumerate(meta["layers"]):
            earlier = found.setdefault(int(layer), {})
            offset = max(earlier, default=0)
            later = unpack(arrays[f"{i}/moments"], arrays[f"{i}/snapshots"])
            earlier |= {offset + moment: weights for moment, weights in later.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: inconsistent snapshots: {error}") from error
    return found
