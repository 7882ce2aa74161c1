"""How rates change while a layer learns, and which maps rest."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from eventsnn import checks
from eventsnn.rules import STDP


@dataclass(frozen=True)
class Doubling:
    """Both rates of :class:`STDP` grow by a factor every so many samples, until ``a_plus`` reaches a limit.

    The ratio ``a_minus / a_plus`` stays. As in SpykeTorch's networks, the counter goes up before a sample is
    learnt: with ``every=500`` the first 499 samples are learnt with the initial rates, the 500th already with
    doubled ones. It counts on across the epochs of one ``fit``.

    Parameters
    ----------
    every : int
        Samples between two steps.
    limit : float
        Largest ``abs(a_plus)``; a larger initial rate stays as it is.
    factor : float
        What the rates are multiplied with at each step.
    """

    every: int = 500
    limit: float = 0.15
    factor: float = 2.0

    def __post_init__(self) -> None:
        checks.integer("Doubling: every", self.every, 1)
        checks.number("Doubling: limit", self.limit, above=0)
        checks.number("Doubling: factor", self.factor, 1)

    def rule(self, rule: STDP, presented: int) -> STDP:
        """Return the rule for the next sample after ``presented`` samples."""
        a_plus, a_minus = np.asarray(rule.a_plus, np.float64), np.asarray(rule.a_minus, np.float64)
        if (a_plus == 0).any():
            raise ValueError("Doubling expects an a_plus other than 0, to which its limit applies")
        with np.errstate(over="ignore"):
            growth = np.float64(self.factor) ** ((presented + 1) // self.every)
        size = np.abs(a_plus)
        grown = np.copysign(np.maximum(np.minimum(size * growth, self.limit), size), a_plus)
        return replace(rule, a_plus=grown.tolist(), a_minus=(a_minus * (grown / a_plus)).tolist())

    def steps(self, presented: int) -> int:
        """Return for how many samples the rule stays what :meth:`rule` returns."""
        return self.every - (presented + 1) % self.every


@dataclass(frozen=True)
class Annealing:
    """All rates, those of threshold adaptation too, are multiplied by a factor after each epoch (Falez et al. 2019).

    Parameters
    ----------
    factor : float
        Above 0.
    """

    factor: float = 0.95

    def __post_init__(self) -> None:
        checks.number("Annealing: factor", self.factor, above=0)


@dataclass(frozen=True)
class Suppression:
    """Homeostasis: maps that win too often rest for a while, so that others come to learn.

    After every so many presentations, counted on across epochs, a map that won more than ``factor`` times as often as
    maps do on average stays silent until the next time.

    Parameters
    ----------
    factor : float
        At least 1.
    every : int
        Presentations between two decisions.
    """

    factor: float = 2.0
    every: int = 500

    def __post_init__(self) -> None:
        checks.number("Suppression: factor", self.factor, 1)
        checks.integer("Suppression: every", self.every, 1)

    def rested(self, wins: np.ndarray) -> np.ndarray:
        """Return which maps may fire next, bool of shape (maps,), given how often each has won."""
        return wins <= self.factor * wins.mean()
