"""What kernels are told about learning: who wins, and how weights and thresholds change, as plain values."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from eventsnn import checks
from eventsnn.events import Events

#: how a change depends on the weight; the index of a name is its code in compiled kernels
DEPENDENCES = ("additive", "stabilized", "multiplicative", "proportional")
#: a user's rule: the new weight from ``(w, dt)`` and, by name, ``potential`` and ``reward``
RuleFunction = Callable[..., float]
#: a user's competition: indices of the winning spikes of one sample, in the order of choice
Choice = Callable[[Events], Any]

_CELLS = 4096


@dataclass(frozen=True, eq=False)
class ScaleTable:
    """``exp(-beta * u)`` for ``u`` from 0 to 1 as a float32 table, the same bits on every machine.

    With ``u`` clipped to 0..1, ``x = u * 4096``, ``i = min(floor(x), 4095)`` and ``r = x - i`` the factor is
    ``values[i] + r * (values[i + 1] - values[i])``, every operation in float32. The relative error of interpolating is
    about ``(beta / 4096)**2 / 8``.

    Parameters
    ----------
    beta : float
        0 to 100.
    """

    beta: float
    values: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        checks.number("beta", self.beta, 0, most=100)
        values = np.exp(-self.beta * np.arange(_CELLS + 1) / _CELLS).astype(np.float32)
        object.__setattr__(self, "values", values)

    def factors(self, u: np.ndarray) -> np.ndarray:
        """Return the factor of each float32 ``u``."""
        x = np.clip(u, np.float32(0), np.float32(1)) * np.float32(_CELLS)
        i = np.minimum(x.astype(np.int64), _CELLS - 1)
        low = self.values[i]
        return low + (x - i.astype(np.float32)) * (self.values[i + 1] - low)


@dataclass(frozen=True)
class ThresholdAdaptation:
    """Thresholds that follow who wins and when (Falez et al. 2019, "Multi-layered spiking neural network...").

    After a sample, for each of its winners: with ``u = t / duration`` every active map's threshold falls by
    ``rate * (u - target)``, so that neurons come to fire at the target time; the winner's map's rises by ``rate``, and
    each of the ``n - 1`` others' falls by ``rate / (n - 1)``; none falls below the floor. In float32, in this order.

    Parameters
    ----------
    rate : float
        In units of the threshold.
    target : float
        Time at which neurons should fire, as a fraction of the stimulus: 0 to 1.
    floor : float
        Smallest threshold.
    """

    rate: float
    target: float
    floor: float = 1.0

    def __post_init__(self) -> None:
        checks.number("ThresholdAdaptation: rate", self.rate, 0)
        checks.number("ThresholdAdaptation: target", self.target, 0, most=1)
        checks.number("ThresholdAdaptation: floor", self.floor, 0)

    def scaled(self, factor: float) -> ThresholdAdaptation:
        """Return the same with its rate multiplied."""
        return replace(self, rate=self.rate * factor)

    def __call__(
        self, thresholds: np.ndarray, winners: np.ndarray, duration: int, active: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the thresholds after one sample.

        Parameters
        ----------
        thresholds : ndarray of float32, shape (maps,)
            Not changed.
        winners : ndarray of int64, shape (k, 4) or (1, k, 4)
            From a competition.
        duration : int
            Of the stimulus.
        active : ndarray of bool, shape (maps,), optional
            Maps that take part; default all.
        """
        rate, target, floor = (np.float32(v) for v in (self.rate, self.target, self.floor))
        maps = np.ones(len(thresholds), bool) if active is None else active
        share = self.share(int(maps.sum()))
        level = thresholds.copy()
        for f, _, _, t in winners.reshape(-1, 4).tolist():
            if f < 0:
                break
            moved = level - rate * (np.float32(t) / np.float32(duration) - target)
            moved = np.where(np.arange(len(level)) == f, moved + rate, moved - share)
            level = np.where(maps, np.maximum(moved, floor), level)
        return level

    def share(self, maps: int) -> np.float32:
        """Return by how much the threshold of each of a winner's rivals falls, of ``maps`` maps."""
        return np.float32(self.rate / (maps - 1)) if maps > 1 else np.float32(0)


@dataclass(frozen=True, eq=False)
class Update:
    """Who wins, and how the winners' weights change; see :meth:`Backend.learn`.

    Parameters
    ----------
    plus, minus : ndarray of float32, shape (maps,)
        Change of causal and of the other synapses.
    lower, upper : float
        Bounds of the weights, rounded to float32.
    dependence : str
        How a change depends on the weight, one of :data:`DEPENDENCES`.
    k, radius : int
        Number of winners per sample and radius of their inhibition.
    pointwise : bool
        Whether pointwise inhibition comes before the competition.
    active : ndarray of bool, shape (maps,), optional
        Maps that may fire (feature inhibition, dropout); default all.
    tau : float, optional
        Time constant of ``exp(-|dt| / tau)``; default: only the order of spikes matters.
    beta : float
        Of the multiplicative dependence.
    function : callable, optional
        A user's rule instead of all that, see :class:`eventsnn.Custom`.
    thresholds : ThresholdAdaptation, optional
        How the thresholds change.
    choose : callable, optional
        A user's competition instead of the ``k`` winners with a radius, see :class:`eventsnn.Competition`.
    """

    plus: np.ndarray
    minus: np.ndarray
    lower: float = 0.0
    upper: float = 1.0
    dependence: str = "stabilized"
    k: int = 1
    radius: int = 0
    pointwise: bool = False
    active: np.ndarray | None = None
    tau: float | None = None
    beta: float = 1.0
    function: RuleFunction | None = None
    thresholds: ThresholdAdaptation | None = None
    choose: Choice | None = None

    def __post_init__(self) -> None:
        for name in ("plus", "minus"):
            rates = getattr(self, name)
            if not isinstance(rates, np.ndarray) or rates.dtype != np.float32 or rates.ndim != 1:
                raise TypeError(f"{name} expects a 1-D float32 array, got {rates!r}")
            if not np.isfinite(rates).all():
                raise ValueError(f"{name} expects finite rates, got {rates}")
        if len(self.plus) != len(self.minus):
            raise ValueError(f"plus has {len(self.plus)} rates, minus has {len(self.minus)}")
        if not self.lower < self.upper:
            raise ValueError(f"bounds expects lower < upper, got {self.lower} and {self.upper}")
        if self.dependence not in DEPENDENCES:
            raise ValueError(f"dependence expects one of {', '.join(DEPENDENCES)}, got {self.dependence!r}")
        if self.k < 1 or self.radius < 0:
            raise ValueError(f"competition expects k >= 1 and radius >= 0, got {self.k} and {self.radius}")
        if self.active is not None and (self.active.dtype != bool or len(self.active) != len(self.plus)):
            raise ValueError(f"active expects {len(self.plus)} booleans, got {self.active!r}")


@dataclass(frozen=True, eq=False)
class Reward:
    """Reward modulation: which class each map stands for, and what a wrong decision does.

    Parameters
    ----------
    classes : ndarray of int64, shape (maps,)
        Class that a winner of this map decides for.
    punish : Update
        Plasticity after a wrong decision, with the ``tau``, ``beta`` and ``function`` of the usual one; its other
        fields but rates, bounds and dependence are not used.
    """

    classes: np.ndarray
    punish: Update


_FORMS: dict[tuple[str, ...], Callable[[Any], RuleFunction]] = {
    (): lambda f: lambda w, dt, potential, reward: f(w, dt),
    ("potential",): lambda f: lambda w, dt, potential, reward: f(w, dt, potential),
    ("reward",): lambda f: lambda w, dt, potential, reward: f(w, dt, reward),
    ("potential", "reward"): lambda f: lambda w, dt, potential, reward: f(w, dt, potential, reward),
    ("reward", "potential"): lambda f: lambda w, dt, potential, reward: f(w, dt, reward, potential),
}


def asks_for(function: RuleFunction) -> tuple[str, ...]:
    """Return what a user's rule takes beyond weight and timing, in its order.

    Raises
    ------
    TypeError
        If it is not a function of two arguments and, by name, ``potential`` and ``reward``.
    """
    if not inspect.isfunction(function):
        raise TypeError(f"a rule of your own expects a Python function, got {function!r}")
    names = tuple(inspect.signature(function).parameters)
    if len(names) < 2 or names[2:] not in _FORMS:
        raise TypeError(f"a rule of your own expects (w, dt[, potential][, reward]), got {function.__name__}{names}")
    return names[2:]


def with_all_arguments(function: Any, names: tuple[str, ...]) -> RuleFunction:
    """Return a function of ``(w, dt, potential, reward)`` that calls one which takes only ``names`` of the last two."""
    return _FORMS[names](function)
