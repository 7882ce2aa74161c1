"""How a winner's weights change. A rule called by hand gives the bits of :meth:`eventsnn.backends.Backend.learn`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from eventsnn import checks
from eventsnn.backends import Geometry, Reward, Update
from eventsnn.backends.changes import changed_weights
from eventsnn.backends.updates import DEPENDENCES, RuleFunction, asks_for
from eventsnn.competition import WTA, Competition
from eventsnn.events import Events

Rates = tuple[float | Sequence[float], float | Sequence[float]]
Compete = WTA | Competition


@dataclass(frozen=True)
class STDP:
    """Spike-timing-dependent plasticity: by order alone, or by the time between input and winner.

    A synapse is causal if its input fired no later than the winner. With ``a`` for ``a_plus`` if it is and
    ``a_minus`` if not, the weight changes by

    ``"stabilized"``
        ``a (w - lower) (upper - w)`` (Kheradpisheh et al. 2018, equation 2),
    ``"additive"``
        ``a``,
    ``"multiplicative"``
        ``a exp(-beta (w - lower) / (upper - lower))`` if it is causal, ``a exp(-beta (upper - w) / (upper - lower))``
        if not (Querlioz et al. 2013; Falez et al. 2019),
    ``"proportional"``
        ``a (upper - w)`` if it is causal, ``a (w - lower)`` if not: soft bounds (van Rossum et al. 2000),

    each multiplied by ``exp(-|dt| / tau)`` if there is a ``tau``; then ``w`` is clipped to the bounds. As in SpykeTorch
    the first winner brings the weights of all maps into the bounds, if they start outside. Of inputs that fire many
    times the last spike no later than the winner's gives ``dt``, without one the first after it; a synapse without any
    spike does not change if there is a ``tau``.

    Parameters
    ----------
    a_plus, a_minus : float or sequence of float, shape (maps,)
        Rates, usually ``a_plus > 0 > a_minus``; anti-STDP has the opposite signs.
    bounds : (float, float)
        Lower and upper bound of the weights.
    stabilizer : bool
        ``True`` stands for the dependence "stabilized", ``False`` for "additive".
    dependence : str, optional
        How a change depends on the weight; default: as ``stabilizer`` says.
    tau : float, optional
        Time constant in the unit of the events' times; default: only the order matters.
    beta : float
        Of the dependence "multiplicative", 0 to 100.

    Raises
    ------
    ValueError
        If a rate is not finite, the bounds are not in order, or dependence, tau or beta make no sense.
    """

    rewarded: ClassVar[bool] = False  #: whether labels play a part

    a_plus: float | Sequence[float]
    a_minus: float | Sequence[float]
    bounds: tuple[float, float] = (0.0, 1.0)
    stabilizer: bool = True
    dependence: str | None = None
    tau: float | None = None
    beta: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "a_plus", _rate("a_plus", self.a_plus))
        object.__setattr__(self, "a_minus", _rate("a_minus", self.a_minus))
        object.__setattr__(self, "bounds", _bounds(self.bounds))
        _check_dependence(self.stabilizer, self.dependence, self.tau, self.beta)

    def __call__(
        self, weights: np.ndarray, inputs: Events, winners: np.ndarray, geometry: Geometry | None = None
    ) -> np.ndarray:
        """Return the weights after one sample.

        Parameters
        ----------
        weights : ndarray of float32, shape (maps, channels, kernel height, kernel width)
            Not changed.
        inputs : Events
            One sample: what the layer received.
        winners : ndarray of int64, shape (k, 4) or (1, k, 4)
            From a competition.
        geometry : Geometry, optional
            Stride and padding of the layer; default stride 1, no padding.

        Returns
        -------
        ndarray of float32
            New weights.
        """
        return changed_weights(weights, inputs, winners, self.update(len(weights)), geometry)

    def update(self, maps: int, competition: Compete | None = None, active: np.ndarray | None = None) -> Update:
        """Return rule and competition as kernels want them, for a layer of ``maps`` maps."""
        return Update(
            plus=_per_map("a_plus", self.a_plus, maps),
            minus=_per_map("a_minus", self.a_minus, maps),
            lower=self.bounds[0],
            upper=self.bounds[1],
            dependence=self.dependence or ("stabilized" if self.stabilizer else "additive"),
            tau=self.tau,
            beta=self.beta,
            active=active,
            **(competition or WTA()).fields(),
        )

    def anti(self) -> STDP:
        """Return anti-STDP: the same rule with both rates negated."""
        return self.scaled(-1.0)

    def scaled(self, factor: float) -> STDP:
        """Return the same rule with both rates multiplied."""
        return replace(self, a_plus=_times(self.a_plus, factor), a_minus=_times(self.a_minus, factor))


@dataclass(frozen=True)
class Adaptive:
    """Rates of :class:`RSTDP` that follow the latest performance.

    The reward pair is multiplied by ``low + span * miss ratio``, the punish pair by ``low + span * hit ratio``
    (Mozafari et al. 2018 and 2019). Ratios are over all presentations, silent ones included.

    Parameters
    ----------
    low, span : float
        Least factor, and how much is added to it at most.
    every : int or None
        Presentations between two changes, counted on across epochs, over which the ratios are taken. ``None``: an
        epoch.
    """

    low: float = 0.0
    span: float = 1.0
    every: int | None = 1000

    def __post_init__(self) -> None:
        checks.number("Adaptive: low", self.low)
        checks.number("Adaptive: span", self.span)
        if self.every is not None:
            checks.integer("Adaptive: every", self.every, 1)


@dataclass(frozen=True)
class RSTDP:
    """Reward-modulated STDP: a correct decision is rewarded, a wrong one punished, silence changes nothing.

    The decision is the class of the first winner's map (Mozafari et al. 2018, 2019).

    Parameters
    ----------
    reward, punish : (float, float)
        ``(a_plus, a_minus)`` after a correct and after a wrong decision; each a number or one per map. Punishment is
        usually anti-STDP, ``a_plus < 0 < a_minus``.
    bounds : (float, float)
        Lower and upper bound of the weights.
    stabilizer, dependence, tau, beta
        As of :class:`STDP`, for both pairs; by default the dependence is "additive".
    adaptive : Adaptive or None
        How :func:`eventsnn.fit` scales the rates while it learns.

    Raises
    ------
    ValueError
        If a rate is not finite, the bounds are not in order, or dependence, tau or beta make no sense.
    TypeError
        If ``adaptive`` is anything else.
    """

    rewarded: ClassVar[bool] = True  #: whether labels play a part

    reward: Rates
    punish: Rates
    bounds: tuple[float, float] = (0.2, 0.8)
    stabilizer: bool = False
    adaptive: Adaptive | None = Adaptive()
    dependence: str | None = None
    tau: float | None = None
    beta: float = 1.0

    def __post_init__(self) -> None:
        for name in ("reward", "punish"):
            pair = getattr(self, name)
            if not isinstance(pair, Sequence) or len(pair) != 2:
                raise ValueError(f"{name} expects a pair (a_plus, a_minus), got {pair!r}")
            object.__setattr__(self, name, (_rate(name, pair[0]), _rate(name, pair[1])))
        object.__setattr__(self, "bounds", _bounds(self.bounds))
        _check_dependence(self.stabilizer, self.dependence, self.tau, self.beta)
        checks.kind("RSTDP: adaptive", self.adaptive, Adaptive)

    def __call__(
        self,
        weights: np.ndarray,
        inputs: Events,
        winners: np.ndarray,
        geometry: Geometry | None = None,
        *,
        classes: np.ndarray,
    ) -> np.ndarray:
        """Return the weights after one sample; arguments as of :meth:`STDP.__call__`, and two more.

        The rates are taken as they are; :meth:`adapted` scales them.

        Parameters
        ----------
        inputs : Events
            One sample with its label.
        classes : ndarray of int64, shape (maps,)
            Class that each map decides for.

        Raises
        ------
        ValueError
            If the sample has no label.
        """
        if inputs.labels is None:
            raise ValueError("reward-modulated learning expects a sample with a label, got none")
        first = int(winners.reshape(-1, 4)[0, 0])
        if first < 0:
            return weights.copy()
        rule = self.rules()[0 if classes[first] == inputs.labels[0] else 1]
        return rule(weights, inputs, winners, geometry)

    def rules(self) -> tuple[STDP, STDP]:
        """Return what happens after a correct and after a wrong decision."""
        first, second = (
            STDP(*pair, self.bounds, self.stabilizer, self.dependence, self.tau, self.beta)
            for pair in (self.reward, self.punish)
        )
        return first, second

    def updates(
        self, classes: np.ndarray, competition: Compete, active: np.ndarray | None = None
    ) -> tuple[Update, Reward]:
        """Return rule and competition as kernels want them; ``classes`` as of :meth:`__call__`."""
        right, wrong = (rule.update(len(classes), competition, active) for rule in self.rules())
        return right, Reward(classes=classes, punish=wrong)

    def scaled(self, factor: float) -> RSTDP:
        """Return the same rule with all rates multiplied."""
        return replace(self, reward=_both_times(self.reward, factor), punish=_both_times(self.punish, factor))

    def adapted(self, hit: float, miss: float) -> RSTDP:
        """Return the rule with its rates scaled for the latest ratios of right and wrong decisions."""
        if self.adaptive is None:
            return self
        low, span = self.adaptive.low, self.adaptive.span
        return replace(
            self, reward=_both_times(self.reward, low + span * miss), punish=_both_times(self.punish, low + span * hit)
        )


@dataclass(frozen=True)
class Custom:
    """A rule of your own: one small Python function that gives the new weight of a synapse.

    The CPU backend compiles it with Numba when it is used, in about half a second, and anew when its code or what it
    takes from outside (globals and their attributes, closure, defaults, functions that it calls) has changed: what
    is there when :func:`eventsnn.fit` begins counts, and what ``on_epoch`` or ``progress`` changes counts from then on.
    Helpers may be plain Python functions. The GPU backend translates the function's source, so that must be in a file,
    and may consist of arithmetic, comparisons, conditions, assignments, ``min``, ``max``, ``abs``, ``math`` and such
    helpers. All arguments are Python floats, the function computes in float64, and its
    result is rounded to float32 and clipped to the bounds. With arithmetic and comparisons alone all backends give the
    same bits; ``math.exp`` and its like may differ in the last place.

    Parameters
    ----------
    function : callable
        ``function(w, dt)``, with ``dt = t_post - t_pre``: 0 or more if the synapse is causal, then of the last input
        at or before the winner's spike, else negative, of the first after it, and ``-inf`` if there was no input. It
        may also ask for ``potential``, the winner's at its spike, and ``reward``: 1 if the decision was right, -1 if
        it was wrong, with labelled data and the classes of :class:`RSTDP`.
    bounds : (float, float)
        Lower and upper bound of the weights.

    Raises
    ------
    TypeError
        If it is not such a function.

    Examples
    --------
    ::

        def rule(w, dt):
            return w + 0.01 * (1 - w) if dt >= 0 else w - 0.01 * w

        fit(net, data, layer=0, rule=Custom(rule))
    """

    function: RuleFunction
    bounds: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        asks_for(self.function)
        object.__setattr__(self, "bounds", _bounds(self.bounds))

    @property
    def rewarded(self) -> bool:
        """Whether labels play a part: if the function asks for the reward."""
        return "reward" in asks_for(self.function)

    def __call__(
        self,
        weights: np.ndarray,
        inputs: Events,
        winners: np.ndarray,
        geometry: Geometry | None = None,
        *,
        potential: np.ndarray | None = None,
        reward: float = 0.0,
    ) -> np.ndarray:
        """Return the weights after one sample, computed in Python; arguments as of :meth:`STDP.__call__`, and two more.

        Parameters
        ----------
        potential : ndarray of float32, shape (k,), optional
            Of each winner at its spike; default 0.
        reward : float
            What the function is told.
        """
        return changed_weights(weights, inputs, winners, self.update(len(weights)), geometry, potential, reward)

    def update(self, maps: int, competition: Compete | None = None, active: np.ndarray | None = None) -> Update:
        """Return rule and competition as kernels want them, for a layer of ``maps`` maps."""
        none = np.zeros(maps, np.float32)
        fields: dict[str, Any] = (competition or WTA()).fields()
        return Update(none, none, *self.bounds, active=active, function=self.function, **fields)

    def updates(
        self, classes: np.ndarray, competition: Compete, active: np.ndarray | None = None
    ) -> tuple[Update, Reward]:
        """Return rule and competition as kernels want them; ``classes`` as of :meth:`RSTDP.__call__`."""
        update = self.update(len(classes), competition, active)
        return update, Reward(classes=classes, punish=update)


Rule = STDP | RSTDP | Custom


def _rate(name: str, value: float | Sequence[float]) -> float | tuple[float, ...]:
    try:
        rates = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        rates = np.array(np.nan)
    if rates.ndim > 1 or not np.isfinite(rates).all():
        raise ValueError(f"{name} expects a finite rate or one per map, got {value!r}")
    return tuple(rates.tolist()) if rates.ndim else float(rates)


def _bounds(value: tuple[float, float]) -> tuple[float, float]:
    try:
        lower, upper = (float(v) for v in value)
    except (TypeError, ValueError):
        lower = upper = math.nan
    if not (math.isfinite(lower) and math.isfinite(upper) and lower < upper):
        raise ValueError(f"bounds expects finite lower < upper, got {value!r}")
    return lower, upper


def _check_dependence(stabilizer: bool, dependence: str | None, tau: float | None, beta: float) -> None:
    if dependence is not None and dependence not in DEPENDENCES:
        raise ValueError(f"dependence expects one of {', '.join(DEPENDENCES)}, got {dependence!r}")
    checks.switch("stabilizer", stabilizer)
    if tau is not None:
        checks.number("tau", tau, above=0, most=1e12)  # as LeakTable
    checks.number("beta", beta, 0, most=100)  # as ScaleTable


def _per_map(name: str, rate: float | Sequence[float], maps: int) -> np.ndarray:
    rates = np.asarray(rate, np.float32)
    if rates.ndim and len(rates) != maps:
        raise ValueError(f"{name} has {len(rates)} rates, the layer has {maps} maps")
    return np.broadcast_to(rates, maps).copy()


def _times(rate: float | Sequence[float], factor: float) -> float | tuple[float, ...]:
    return tuple(r * factor for r in rate) if isinstance(rate, Sequence) else rate * factor


def _both_times(pair: Rates, factor: float) -> Rates:
    return _times(pair[0], factor), _times(pair[1], factor)
