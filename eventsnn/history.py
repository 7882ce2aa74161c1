"""What training did, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Epoch:
    """What happened in one pass over the data.

    Attributes
    ----------
    number : int
        Which one, counted from 1.
    presented : int
        Samples presented.
    silent : int
        Samples without a winner.
    hits, misses : int or None
        Samples decided rightly and wrongly, with reward-modulated learning; while learning, before the update.
    winners : ndarray of int64, shape (maps,)
        How often each map won.
    convergence : float
        Mean of ``u (1 - u)`` over the layer's weights after the epoch, where ``u`` runs from 0 to 1 between the
        bounds: 0 once all weights have reached a bound (Kheradpisheh et al. 2018, equation 3).
    seconds : float
        Time that the epoch took.
    validation : float or None
        Ratio of right decisions on the validation data after the epoch, silent samples included.
    score : float or None
        By which the best epoch is chosen: of ``score``, else ``validation``.
    """

    number: int
    presented: int
    silent: int
    hits: int | None
    misses: int | None
    winners: np.ndarray
    convergence: float
    seconds: float
    validation: float | None = None
    score: float | None = None

    @property
    def accuracy(self) -> float | None:
        """Ratio of right decisions among all samples, silent ones included."""
        return None if self.hits is None else self.hits / max(self.presented, 1)

    @property
    def samples_per_second(self) -> float:
        """Samples presented in a second."""
        return self.presented / max(self.seconds, 1e-9)


@dataclass(frozen=True, eq=False, repr=False)
class History:
    """Record of one :func:`fit`.

    Attributes
    ----------
    layer : int
        Index of the layer that learnt.
    epochs : tuple of Epoch
    curve : ndarray of float64, shape (n_points, 2)
        Number of presentations and convergence, before the first and about every 1,000.
    preparation_seconds : float
        Time for running the frozen layers once, or for loading the data.
    cached : bool
        Whether the layer's input was held in memory, or came from a file for want of it.
    converged : bool
        Whether ``stop_below`` ended it.
    best : int or None
        Index of the epoch with the highest score, the first of equals, where there are scores: the one whose weights
        the network has, unless ``select`` is off.
    snapshots : dict of int to ndarray, float32 of shape (maps, channels, kernel height, kernel width)
        Weights of the layer's first maps, at most sixteen, by the number of presentations before: 0, 100, 200, 400,
        800, ... and the last; whole mini-batches. :func:`eventsnn.plot.evolution` draws them.
    """

    layer: int
    epochs: tuple[Epoch, ...]
    curve: np.ndarray
    preparation_seconds: float
    cached: bool
    converged: bool = False
    best: int | None = None
    snapshots: Mapping[int, np.ndarray] = field(default_factory=dict)

    @property
    def validation(self) -> tuple[float, ...]:
        """Ratio of right decisions on the validation data after each epoch; empty without such data."""
        return tuple(epoch.validation for epoch in self.epochs if epoch.validation is not None)

    def __repr__(self) -> str:
        """Return layer, epochs and how the last one ended, in one line."""
        if not self.epochs:
            return f"History(layer {self.layer}, no epochs)"
        last = self.epochs[-1]
        right = "" if last.accuracy is None else f", {last.accuracy:.2%} right"
        return f"History(layer {self.layer}, {len(self.epochs)} epochs, convergence {last.convergence:.4f}{right})"

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the snapshots as JSON values."""
        extra = ("accuracy", "samples_per_second")
        rows = [asdict(e) | {"winners": e.winners.tolist()} | {n: getattr(e, n) for n in extra} for e in self.epochs]
        return {
            "layer": self.layer,
            "epochs": rows,
            "curve": self.curve.tolist(),
            "preparation_seconds": self.preparation_seconds,
            "cached": self.cached,
            "converged": self.converged,
            "validation": list(self.validation),
            "best": self.best,
        }
