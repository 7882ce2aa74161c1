"""Classifiers on what a network's last layer says: feature matrices and a linear readout."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from eventsnn import store
from eventsnn.batches import BATCH, Data
from eventsnn.events import Events, Shape
from eventsnn.network import Network

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Kind = Literal["fired", "latency", "potential", "counts", "target-time"]
_KIND = ("eventsnn-readout", 1)


@dataclass(frozen=True)
class Feature:
    """What a classifier is told about a neuron, or about the neurons of one map in one part of the grid.

    Parameters
    ----------
    kind : {"fired", "latency", "potential", "counts", "target-time"}
        1 where the neuron fired; ``duration - time`` of its spike, which is larger the earlier; its potential when it
        fired; its number of spikes, where there may be several; or how early it fired before the time that its
        threshold was adapted to, ``1 - (t / duration - target) / (1 - target)`` clipped to [0, 1] (Falez et al. 2019).
        0 for a silent neuron.
    target : float
        Target time as a part of the duration, at least 0 and below 1; for ``"target-time"``.
    regions : (int, int), optional
        Rows and columns of regions into which each map is divided, as equally as whole positions allow; the values
        of a region are summed. Default: one feature per neuron.

    Raises
    ------
    ValueError
        If the kind is not known or a number is out of range.
    """

    kind: Kind = "fired"
    target: float = 0.75
    regions: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind expects one of {', '.join(get_args(Kind))}, got {self.kind!r}")
        if not 0 <= self.target < 1:
            raise ValueError(f"target expects a part of the duration, 0 to below 1, got {self.target!r}")
        if self.regions is not None:
            whole = np.asarray(self.regions)
            if whole.shape != (2,) or whole.dtype.kind not in "iu" or whole.min() < 1:
                raise ValueError(f"regions expects rows and columns of at least 1, got {self.regions!r}")
            object.__setattr__(self, "regions", (int(whole[0]), int(whole[1])))

    def grid(self, shape: Shape) -> Shape:
        """Return (maps, rows, columns) of the features of spikes on a grid (C, H, W).

        Raises
        ------
        ValueError
            If there are more regions than positions.
        """
        if self.regions is None:
            return shape
        if self.regions[0] > shape[1] or self.regions[1] > shape[2]:
            raise ValueError(f"regions expects at most {shape[1]} x {shape[2]}, got {self.regions}")
        return (shape[0], *self.regions)


def features(
    net: Network, data: Data, kind: Kind | Feature = "fired", *, stop: int | None = None, batch_size: int = BATCH
) -> csr_array:
    """Return one feature per neuron (or region) of a layer's output, sparse as the spikes are, for any classifier.

    Parameters
    ----------
    net : Network
        What the data are run through, batch by batch.
    data : Events or EventDataset
        Stimuli on the grid ``net.shape``.
    kind : Feature or its kind
        What each feature says.
    stop : int, optional
        Take the output of ``net.layers[stop - 1]``; default the last layer's.
    batch_size : int
        Samples at a time.

    Returns
    -------
    scipy.sparse.csr_array of float64, shape (n_samples, n_features)
        In the order of the flat index ``(f * H + y) * W + x`` of the neurons or regions; ``.toarray()`` makes it dense.
        Float64, because scikit-learn's linear models would otherwise copy it.

    Raises
    ------
    ValueError
        If the data do not fit the network, no such kind is known, or the layer has no potentials.
    """
    from scipy.sparse import csr_array

    feature = as_feature(kind)
    last = len(net.layers) if stop is None else stop
    if not 1 <= last <= len(net.layers):
        raise ValueError(f"stop expects 1 to {len(net.layers)}, got {last}")
    net.check_input(data.shape)
    size = math.prod(feature.grid(net.shapes[last]))
    parts: tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]] = ([], [], [])
    for rows in net.each(partial(_rows, feature, last), data, batch_size):
        for part, array in zip(parts, rows, strict=True):
            part.append(array)
    indices, counts = (np.concatenate(part) for part in parts[1:])
    parts[1].clear()  # before the largest array is made
    values = np.concatenate(parts[0], dtype=np.float64)
    bounds = np.append(0, np.cumsum(counts, dtype=np.int64)).astype(_index_type(len(values)))
    return csr_array((values, indices, bounds), shape=(len(counts), size))


def _rows(feature: Feature, stop: int, net: Network, batch: Events) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return values, their columns and how many each sample has, of one batch."""
    matrix = spike_features(net.run_through(batch, 0, stop), feature)
    return matrix.data, matrix.indices, np.diff(matrix.indptr)


def spike_features(spikes: Events, kind: Kind | Feature = "fired") -> csr_array:
    """Return the features of a layer's output spikes; see :func:`features`."""
    from scipy.sparse import csr_array

    feature = as_feature(kind)
    _, height, width = spikes.shape
    grid = feature.grid(spikes.shape)
    rows, columns = (np.arange(n) * parts // n for n, parts in ((height, grid[1]), (width, grid[2])))
    flat = (spikes.channel.astype(np.int64) * grid[1] + rows[spikes.y]) * grid[2] + columns[spikes.x]
    size = math.prod(grid)
    index_type = _index_type(max(size, spikes.n_events))
    indices, bounds = (array.astype(index_type) for array in (flat, spikes.offsets))
    matrix = csr_array((_values(spikes, feature), indices, bounds), shape=(len(spikes), size))
    matrix.sort_indices()
    if feature.kind == "counts" or feature.regions is not None:
        matrix.sum_duplicates()
    return matrix


def as_feature(kind: Any) -> Feature:
    """Return a feature given as such, by its kind or as a mapping of its fields; raise ``ValueError`` otherwise."""
    if isinstance(kind, Feature):
        return kind
    if not isinstance(kind, Mapping):
        return Feature(kind)
    try:
        return Feature(**kind)
    except TypeError as error:
        raise ValueError(f"a feature expects kind, target and regions, got {dict(kind)}: {error}") from None


@dataclass(frozen=True)
class LinearReadout:
    """A linear support vector machine, one class against the rest (scikit-learn's ``LinearSVC``).

    Parameters
    ----------
    C : float
        Inverse strength of the regularization.
    kind : Feature or its kind
        Features that it is meant for; see :func:`features`.
    """

    C: float = 2.4
    kind: Kind | Feature = "fired"

    def __post_init__(self) -> None:
        as_feature(self.kind)
        if not self.C > 0:
            raise ValueError(f"LinearReadout expects C > 0, got {self.C}")

    def fit(self, features: Any, labels: Any) -> FittedReadout:
        """Learn to tell the labels from the features.

        Parameters
        ----------
        features : csr_array or array_like, shape (n_samples, n_features)
            From :func:`features`.
        labels : array_like of int, shape (n_samples,)
            At least two classes.

        Raises
        ------
        ValueError
            If the lengths differ or there is only one class.
        """
        from sklearn.svm import LinearSVC

        # The primal solver draws nothing at random and converges in a few Newton steps.
        model = LinearSVC(C=self.C, dual=False).fit(features, labels)
        return FittedReadout(
            coefficients=np.asarray(model.coef_, np.float64),
            intercept=np.asarray(model.intercept_, np.float64),
            classes=np.asarray(model.classes_, np.int64),
            kind=self.kind,
        )


@dataclass(frozen=True, eq=False)
class FittedReadout:
    """A linear readout that has learnt.

    Parameters
    ----------
    coefficients : ndarray of float64, shape (n_classes, n_features), or (1, n_features) for two classes
        Weight of each feature.
    intercept : ndarray of float64, shape (n_classes,) or (1,)
        What is added.
    classes : ndarray of int64, shape (n_classes,)
        Labels, ascending.
    kind : Feature or its kind
        Features that it was fitted on.

    Raises
    ------
    ValueError
        If the shapes do not fit each other.
    """

    coefficients: np.ndarray
    intercept: np.ndarray
    classes: np.ndarray
    kind: Kind | Feature = "fired"

    def __post_init__(self) -> None:
        as_feature(self.kind)
        rows = 1 if len(self.classes) == 2 else len(self.classes)
        if self.coefficients.ndim != 2 or len(self.coefficients) != rows or self.intercept.shape != (rows,):
            shapes = (self.coefficients.shape, self.intercept.shape, self.classes.shape)
            raise ValueError(f"a readout expects one row per class (one for two), got shapes {shapes}")

    def predict(self, features: Any) -> np.ndarray:
        """Return the class of each sample, int64 of shape (n_samples,).

        Parameters
        ----------
        features : csr_array or ndarray, shape (n_samples, n_features)
            Of the kind that it was fitted on.

        Raises
        ------
        ValueError
            If the number of features differs.
        """
        expected = self.coefficients.shape[1]
        if features.ndim != 2 or features.shape[1] != expected:
            raise ValueError(f"the readout expects {expected} features, got shape {features.shape}")
        scores = features @ self.coefficients.T + self.intercept
        best = (scores[:, 0] > 0).astype(np.int64) if len(self.classes) == 2 else scores.argmax(axis=1)
        return self.classes[best]

    def check(self, shape: Shape) -> None:
        """Raise ``ValueError`` unless it was fitted on features of spikes on a grid (C, H, W)."""
        expected, found = self.coefficients.shape[1], math.prod(as_feature(self.kind).grid(shape))
        if found != expected:
            raise ValueError(f"the readout expects {expected} features, the network gives {found}")

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return coefficients, intercept and classes by name."""
        return {name: getattr(self, name) for name in ("coefficients", "intercept", "classes")}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], kind: Kind | Feature = "fired") -> FittedReadout:
        """Build a readout from what :meth:`to_arrays` returned."""
        return cls(arrays["coefficients"], arrays["intercept"], arrays["classes"], kind)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to an HDF5 file, by rename."""
        kind = asdict(self.kind) if isinstance(self.kind, Feature) else self.kind
        store.write(path, _KIND, {"kind": kind}, self.to_arrays())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FittedReadout:
        """Read what :meth:`save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is not a readout, newer than this program, corrupt or inconsistent.
        """
        meta, arrays = store.read(path, _KIND)
        try:
            kind = meta["kind"]
            return cls.from_arrays(arrays, as_feature(kind) if isinstance(kind, dict) else kind)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: inconsistent readout: {error}") from error


def _index_type(largest: int) -> type[np.signedinteger[Any]]:
    return np.int32 if largest < 2**31 else np.int64


def _values(spikes: Events, feature: Feature) -> np.ndarray:
    if feature.kind == "fired":
        return np.ones(spikes.n_events, np.uint8 if feature.regions is None else np.float64)
    if feature.kind == "counts":
        return np.ones(spikes.n_events)
    if feature.kind == "latency":
        return (spikes.duration - spikes.time).astype(np.float64)
    if feature.kind == "target-time":
        early = 1 - (spikes.time / spikes.duration - feature.target) / (1 - feature.target)
        return np.clip(early, 0, 1)
    if spikes.potential is None:
        raise ValueError("kind 'potential' expects the output of a convolution; these spikes have no potentials")
    return spikes.potential.astype(np.float64)
