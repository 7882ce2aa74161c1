"""Features of a network's last layer in an HDF5 file, for classifiers of any program."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from eventsnn import store
from eventsnn.devices import Computed
from eventsnn.models import Trained
from eventsnn.readout import Feature, as_feature, features
from eventsnn.sources import Part, open_data
from eventsnn.train import Progress

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_KIND = ("eventsnn-features", 1)
_ARRAYS = ("data", "indices", "indptr", "labels")


class FeatureSet(NamedTuple):
    """What :func:`read_features` returns.

    Attributes
    ----------
    features : csr_array of float64, shape (n_samples, n_features)
        As of :func:`eventsnn.features`; ``.toarray()`` makes it dense.
    labels : ndarray of int64, shape (n_samples,), or None
    meta : dict
        JSON values: ``feature`` (kind, target, regions), ``grid`` (maps, rows, columns of the features), and what else
        the writer knew.
    """

    features: csr_array
    labels: np.ndarray | None
    meta: dict[str, Any]


def write_features(
    path: str | os.PathLike[str], matrix: csr_array, labels: Any = None, meta: Mapping[str, Any] | None = None
) -> None:
    """Write features and labels to an HDF5 file (``data/FORMAT.md``, "Feature files"), by rename.

    Parameters
    ----------
    path : path
        Target; replaced if it exists.
    matrix : csr_array, shape (n_samples, n_features)
        From :func:`eventsnn.features`.
    labels : array_like of int, shape (n_samples,), optional
    meta : mapping, optional
        JSON values to keep with them.

    Raises
    ------
    ValueError
        If there is not one label for each sample, or the folder does not exist; nothing is written then.
    OSError
        If the file cannot be written.
    """
    check_target(path)
    arrays = {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}
    if labels is not None:
        arrays["labels"] = np.asarray(labels, np.int64)
        if arrays["labels"].shape != matrix.shape[:1]:
            raise ValueError(f"labels expects one for each of {matrix.shape[0]} samples, got {np.shape(labels)}")
    # HDF5 keeps no chunk of nothing; the reader knows from the shape and indptr what is not there.
    arrays = {name: array for name, array in arrays.items() if array.size}
    fields = dict(meta or {}) | {"shape": [int(n) for n in matrix.shape], "labelled": labels is not None}
    store.write(path, _KIND, fields, arrays)


def read_features(path: str | os.PathLike[str]) -> FeatureSet:
    """Read what :func:`write_features` or ``eventsnn features`` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not one of features, newer than this program, corrupt or inconsistent.
    """
    meta, arrays = store.read(path, _KIND)
    try:
        return _restored(meta, arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: inconsistent features: {error}") from error


def check_target(path: str | os.PathLike[str]) -> None:
    """Raise ``ValueError`` unless a file can be made at ``path``."""
    if Path(path).is_dir() or not Path(os.path.realpath(path)).parent.is_dir():
        raise ValueError(f"{path}: expected the name of a file in an existing folder")


def extract(
    run: Path,
    source: str,
    out: Path,
    kind: Feature | None = None,
    *,
    part: Part = "train",
    progress: Progress | None = None,
    backend: str | None = None,
    computed: Computed = nullcontext,
) -> FeatureSet:
    """Run data through a run's network and write the features of its last layer.

    Parameters
    ----------
    run : Path
        Folder of a trained model.
    source : str
        An event file, images or recordings; see :func:`eventsnn.sources.open_data`.
    out : Path
        File to make or replace.
    kind : Feature, optional
        What each feature says. Default: what the run's own readout reads; without one, who fired.
    part : {"train", "test", "all"}
        Of images or recordings that have parts.
    progress : callable, optional
        Called as ``progress(done, total, phase)``.
    backend : str, optional
        What computes; see :func:`eventsnn.backends.get`.
    computed : callable, optional
        Takes the network, and is a context in which another takes its place that is computed elsewhere.

    Raises
    ------
    ValueError, OSError
        If something does not fit or cannot be written; an earlier file is as it was then.
    """
    check_target(out)
    if out.exists() and Path(source).exists() and os.path.samefile(out, source):
        raise ValueError(f"{out}: expected a file other than the data")
    trained = Trained.load(run, backend)
    feature = kind or as_feature(trained.readout.kind if trained.readout is not None else "fired")
    with (
        tempfile.TemporaryDirectory(prefix="eventsnn-") as scratch,
        open_data(source, part, trained.encoder, trained.size, Path(scratch), progress) as dataset,
        computed(trained.network) as net,
    ):
        if progress is not None:
            progress(0, 1, "features")
        matrix, labels = features(net, dataset, feature), dataset.labels
        meta: dict[str, Any] = {"feature": asdict(feature), "grid": list(feature.grid(trained.network.shapes[-1]))}
        meta |= {"model": trained.name, "source": source, "source_sha256": dataset.provenance.get("source_sha256")}
    write_features(out, matrix, labels, meta)
    if progress is not None:
        progress(1, 1, "features")
    return FeatureSet(matrix, labels, meta)


def _restored(meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> FeatureSet:
    from scipy.sparse import csr_array

    if unknown := sorted(set(arrays) - set(_ARRAYS)):
        raise ValueError(f"expected the arrays {', '.join(_ARRAYS)}, found {', '.join(unknown)} too")
    samples, size = (int(n) for n in meta.pop("shape"))
    labels = arrays.get("labels", np.empty(0, np.int64)) if meta.pop("labelled") else None
    if labels is not None and labels.shape != (samples,):
        raise ValueError(f"{samples} samples expect as many labels, found {labels.shape}")
    nothing = {"data": np.empty(0), "indices": np.empty(0, np.int32)}
    values, indices = (arrays.get(name, empty) for name, empty in nothing.items())
    matrix = csr_array((values, indices, arrays["indptr"]), shape=(samples, size))
    matrix.check_format(full_check=True)
    return FeatureSet(matrix, labels, meta)
