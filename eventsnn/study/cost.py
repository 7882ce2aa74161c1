"""What a layer costs: a model fitted to measured times, its error, and the density at which the dense version wins.

The model is linear in what the kernels do, all per sample and with coefficients of at least 0:

``seconds = a + b * additions + c * positions + d * listings + e * spikes + f * events + g * sites + h / batch``

``additions`` and ``positions`` are the operations and positions of :data:`SIMPLE`, ``a + b * operations + c *
positions``, as the CPU does them: for 32 maps at once, until the last of these has fired, and not at all where too few
spikes come. ``listings`` (spikes times positions that see them) are written before anything is added; for few maps that
takes longer than the additions. ``spikes`` are those that go out, which are sorted; ``events`` are read, ``sites`` are
the pixels over which these are summed; a call with a ``batch`` has costs of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import numpy as np

Row = Mapping[str, Any]

#: the model of the module
TERMS = ("sample", "additions", "positions", "listings", "spikes", "events", "sites", "call")
#: time = a + b * operations + c * positions, where a is in part of a call, and shared by its samples
SIMPLE = ("call", "sample", "operations", "positions")

_ROUNDS = 30  # of reweighting
_CLOSE = 0.02  # relative error, below which all rows count the same


class Kind(NamedTuple):
    """What has coefficients of its own: where it was computed, and by which kernel."""

    backend: str
    threads: int
    kernel: str


class Error(NamedTuple):
    """Relative errors ``|predicted - measured| / measured`` of ``rows`` rows: median, 90th percentile, largest."""

    median: float
    most_of_them: float
    most: float
    rows: int


@dataclass(frozen=True)
class CostModel:
    """Coefficients in seconds, by kind and term, and how far predictions are off.

    Attributes
    ----------
    terms : tuple of str
    coefficients : mapping of Kind to dict of str to float
    error : Error
        On layers that the fit has not seen (``held_out``).
    fit_error : Error
        On those that it has.
    """

    terms: tuple[str, ...]
    coefficients: Mapping[Kind, Mapping[str, float]]
    error: Error
    fit_error: Error

    def predict(self, row: Row) -> float:
        """Return the seconds per sample of a row of the sparsity study.

        Raises
        ------
        ValueError
            If nothing was fitted for its backend, threads and kernel.
        """
        if (kind := kind_of(row)) not in self.coefficients:
            raise ValueError(f"the cost model has no rows of {kind}, only of {', '.join(map(str, self.coefficients))}")
        known = self.coefficients[kind]
        return float(sum(known[term] * _value(row, term) for term in self.terms))

    def relative_error(self, row: Row) -> float:
        """Return ``(predicted - measured) / measured`` of a row."""
        return self.predict(row) / row["seconds"] - 1


def kind_of(row: Row) -> Kind:
    """Return which coefficients are a row's."""
    return Kind(str(row["backend"]), int(row["threads"]), str(row.get("kernel", "fire")))


def fit(rows: Iterable[Row], terms: Sequence[str] = TERMS) -> CostModel:
    """Fit the model to the rows of a sparsity study that are not ``held_out``, and hold it against those that are.

    Coefficients make the sum of absolute relative errors as small as they can without being negative, so that a
    disturbed measurement does not count for more than the others.

    Parameters
    ----------
    rows : iterable of dict
        Rows of other studies are left out, and so are held-out rows of a kind that nothing was fitted for.
    terms : sequence of str
        :data:`TERMS` or :data:`SIMPLE`.

    Raises
    ------
    ValueError
        If there is no row to fit, or a term is not known.
    """
    for term in terms:
        if term not in (*TERMS, "operations"):
            raise ValueError(f"terms expects some of {', '.join((*TERMS, 'operations'))}, got {term!r}")
    mine = sorted((row for row in rows if row["study"] == "sparsity"), key=kind_of)
    seen = [row for row in mine if not row["held_out"]]
    if not seen:
        raise ValueError("the cost model expects rows of a sparsity study that are not held out, got none")
    found = {kind: _fitted(list(some), terms) for kind, some in groupby(seen, kind_of)}
    unseen = [row for row in mine if row["held_out"] and kind_of(row) in found]
    bare = CostModel(tuple(terms), found, _error([]), _error([]))
    errors = [_error([bare.relative_error(row) for row in some]) for some in (unseen, seen)]
    return CostModel(bare.terms, found, *errors)


def _value(row: Row, term: str) -> float:
    """Return a regressor; a row without additions has those of its neurons, and none of what else it lacks."""
    if term == "sample":
        return 1.0
    if term == "call":
        return 1.0 / row["batch"]
    if term == "additions" and term not in row:
        return float(row["operations"] - row.get("stopped", 0))
    return float(row.get(term, 0))


def _fitted(rows: Sequence[Row], terms: Sequence[str]) -> dict[str, float]:
    """Return coefficients by least absolute relative errors: non-negative least squares, reweighted."""
    from scipy.optimize import nnls

    parts = np.array([[_value(row, term) / row["seconds"] for term in terms] for row in rows])
    scale = np.where(parts.max(0) > 0, parts.max(0), 1)
    weights, found = np.ones(len(rows)), np.zeros(len(terms))
    for _ in range(_ROUNDS):
        found = nnls(parts / scale * weights[:, None], weights)[0] / scale
        weights = 1 / np.sqrt(np.maximum(np.abs(parts @ found - 1), _CLOSE))
    return dict(zip(terms, found.tolist(), strict=True))


def _error(errors: Sequence[float]) -> Error:
    if not errors:
        return Error(math.nan, math.nan, math.nan, 0)
    sizes = np.abs(errors)
    return Error(float(np.median(sizes)), float(np.quantile(sizes, 0.9)), float(sizes.max()), len(sizes))


#: what tells one curve of times over densities from another
_CURVE = ("source", "network", "layer", "pool", "shape", "batch", "threads", "backend", "dense")


def crossovers(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return for each layer the density from which on the dense version is quicker.

    Parameters
    ----------
    rows : iterable of dict
        Of a sparsity study; others are left out.

    Returns
    -------
    list of dict
        ``source``, ``network``, ``layer``, ``pool``, ``shape``, ``batch``, ``threads``, ``backend``, ``dense`` say
        whose curves; ``density`` is where they cross first, interpolated between the measured densities with logarithms
        of both, or None where one side is quicker at all of them; ``winner`` is then ``"events"`` or ``"dense"``, else
        None; ``lowest`` and ``highest`` are the measured densities.
    """
    mine = [row for row in rows if row["study"] == "sparsity"]
    curves: dict[tuple[Any, ...], list[Row]] = {}
    for row in mine:
        curves.setdefault(tuple(str(row.get(name)) for name in _CURVE), []).append(row)
    return [_crossover(sorted(curve, key=lambda row: row["density"])) for curve in curves.values()]


def _crossover(curve: Sequence[Row]) -> dict[str, Any]:
    points = [(math.log(row["density"]), math.log(row["seconds"] / row["dense_seconds"])) for row in curve]
    density = next((math.exp(_zero(*pair)) for pair in pairwise(points) if pair[0][1] <= 0 < pair[1][1]), None)
    winner = None if density is not None else "events" if points[0][1] <= 0 else "dense"
    ends = {"lowest": curve[0]["density"], "highest": curve[-1]["density"]}
    return {name: curve[0].get(name) for name in _CURVE} | {"density": density, "winner": winner} | ends


def _zero(left: tuple[float, float], right: tuple[float, float]) -> float:
    """Return where a line through two points is 0."""
    (x, y), (x_next, y_next) = left, right
    return x - y * (x_next - x) / (y_next - y)
