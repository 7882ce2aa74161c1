"""Who learns and how: competitions, rules that change a winner's weights, and schedules of their rates.

All are frozen values. A rule called by hand changes the weights of one sample's winners with the same bits as
:meth:`eventsnn.backends.Backend.learn`, so a training loop can be written out::

    for i in range(len(train)):
        spikes = net.run(train[i], stop=1)
        weights = rule(net.weights[0], train[i], competition(spikes), net.neurons(0).geometry)
        net.set_weights(0, weights)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from eventsnn.backends import Backend, Geometry, Reward, Update, get
from eventsnn.events import Events

Rates = tuple[float | Sequence[float], float | Sequence[float]]


@dataclass(frozen=True)
class WTA:
    """Winner-take-all: up to ``k`` winners in a sample, at most one for each map.

    Repeatedly, the earliest spike wins, then the larger potential, then the lowest flat index. A winner excludes
    its whole map, and with ``radius > 0`` every map within ``|dy| <= radius, |dx| <= radius``.

    Parameters
    ----------
    k : int
        Largest number of winners.
    radius : int
        Of the inhibition around a winner.
    pointwise : bool
        Whether pointwise inhibition comes first, as published networks do while a layer learns.
    """

    k: int = 1
    radius: int = 0
    pointwise: bool = True

    def __post_init__(self) -> None:
        if self.k < 1 or self.radius < 0:
            raise ValueError(f"WTA expects k >= 1 and radius >= 0, got k={self.k}, radius={self.radius}")

    def __call__(self, spikes: Events, backend: Backend | None = None) -> np.ndarray:
        """Choose the winners of every sample of a layer's output.

        Parameters
        ----------
        spikes : Events
            Spikes with potentials, as convolution layers give them.
        backend : Backend, optional
            Where to compute.

        Returns
        -------
        ndarray of int64, shape (n_samples, k, 4)
            ``(map, y, x, time)`` in the order of choice; -1 where there is none.
        """
        kernels = backend or get()
        return kernels.winners(kernels.pointwise(spikes) if self.pointwise else spikes, self.k, self.radius)


@dataclass(frozen=True)
class STDP:
    """Spike-timing-dependent plasticity by order alone.

    A synapse is causal if its input fired no later than the winner. With the stabilizer
    ``dw = a * (w - lower) * (upper - w)``, without it ``dw = a``, where ``a`` is ``a_plus`` for causal synapses and
    ``a_minus`` for all others; then ``w`` is clipped to the bounds (Kheradpisheh et al. 2018, equation 2). As in
    SpykeTorch the first winner brings the weights of all maps into the bounds, if they start outside.

    Parameters
    ----------
    a_plus, a_minus : float or sequence of float, shape (maps,)
        Rates, usually ``a_plus > 0 > a_minus``; anti-STDP has the opposite signs.
    bounds : (float, float)
        Lower and upper bound of the weights.
    stabilizer : bool
        Multiplicative (default) or additive change.

    Raises
    ------
    ValueError
        If a rate is not finite or the bounds are not in order.
    """

    a_plus: float | Sequence[float]
    a_minus: float | Sequence[float]
    bounds: tuple[float, float] = (0.0, 1.0)
    stabilizer: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "a_plus", _rate("a_plus", self.a_plus))
        object.__setattr__(self, "a_minus", _rate("a_minus", self.a_minus))
        object.__setattr__(self, "bounds", _bounds(self.bounds))

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
        return _change(weights, inputs, winners, self.update(len(weights)), geometry)

    def update(self, maps: int, competition: WTA = WTA(), active: np.ndarray | None = None) -> Update:
        """Return rule and competition as kernels want them, for a layer of ``maps`` maps."""
        return Update(
            plus=_per_map("a_plus", self.a_plus, maps),
            minus=_per_map("a_minus", self.a_minus, maps),
            lower=self.bounds[0],
            upper=self.bounds[1],
            stabilizer=self.stabilizer,
            k=competition.k,
            radius=competition.radius,
            pointwise=competition.pointwise,
            active=active,
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
        if self.every is not None and self.every < 1:
            raise ValueError(f"Adaptive expects every >= 1 or None, got {self.every}")


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
    stabilizer : bool
        Multiplicative or additive (default) change.
    adaptive : Adaptive or None
        How :func:`eventsnn.fit` scales the rates while it learns.

    Raises
    ------
    ValueError
        If a rate is not finite or the bounds are not in order.
    """

    reward: Rates
    punish: Rates
    bounds: tuple[float, float] = (0.2, 0.8)
    stabilizer: bool = False
    adaptive: Adaptive | None = Adaptive()

    def __post_init__(self) -> None:
        for name in ("reward", "punish"):
            pair = getattr(self, name)
            if not isinstance(pair, Sequence) or len(pair) != 2:
                raise ValueError(f"{name} expects a pair (a_plus, a_minus), got {pair!r}")
            object.__setattr__(self, name, (_rate(name, pair[0]), _rate(name, pair[1])))
        object.__setattr__(self, "bounds", _bounds(self.bounds))

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
        first, second = (STDP(*pair, self.bounds, self.stabilizer) for pair in (self.reward, self.punish))
        return first, second

    def updates(self, classes: np.ndarray, competition: WTA, active: np.ndarray | None = None) -> tuple[Update, Reward]:
        """Return rule and competition as kernels want them; ``classes`` as of :meth:`__call__`."""
        right, wrong = (rule.update(len(classes), competition, active) for rule in self.rules())
        return right, Reward(classes=classes, punish=wrong)

    def adapted(self, hit: float, miss: float) -> RSTDP:
        """Return the rule with its rates scaled for the latest ratios of right and wrong decisions."""
        if self.adaptive is None:
            return self
        low, span = self.adaptive.low, self.adaptive.span
        return replace(
            self, reward=_both_times(self.reward, low + span * miss), punish=_both_times(self.punish, low + span * hit)
        )


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
        if self.every < 1 or not self.limit > 0 or not self.factor >= 1:
            raise ValueError(f"Doubling expects every >= 1, limit > 0 and factor >= 1, got {self}")

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


def split_evenly(maps: int, n_classes: int) -> np.ndarray:
    """Return classes 0, 1, ... of maps shared out evenly, in order; int64 of shape (maps,).

    Raises
    ------
    ValueError
        If the maps cannot be shared out evenly.
    """
    if n_classes < 1 or maps % n_classes:
        raise ValueError(f"{maps} maps cannot be split evenly among {n_classes} classes; give classes, one per map")
    return np.repeat(np.arange(n_classes), maps // n_classes)


def _rate(name: str, value: float | Sequence[float]) -> float | tuple[float, ...]:
    rates = np.asarray(value, np.float64)
    if rates.ndim > 1 or not np.isfinite(rates).all():
        raise ValueError(f"{name} expects a finite rate or one per map, got {value!r}")
    return tuple(rates.tolist()) if rates.ndim else float(rates)


def _bounds(value: tuple[float, float]) -> tuple[float, float]:
    lower, upper = (float(v) for v in value)
    if not (math.isfinite(lower) and math.isfinite(upper) and lower < upper):
        raise ValueError(f"bounds expects finite lower < upper, got {value!r}")
    return lower, upper


def _per_map(name: str, rate: float | Sequence[float], maps: int) -> np.ndarray:
    rates = np.asarray(rate, np.float32)
    if rates.ndim and len(rates) != maps:
        raise ValueError(f"{name} has {len(rates)} rates, the layer has {maps} maps")
    return np.broadcast_to(rates, maps).copy()


def _times(rate: float | Sequence[float], factor: float) -> float | tuple[float, ...]:
    return tuple(r * factor for r in rate) if isinstance(rate, Sequence) else rate * factor


def _both_times(pair: Rates, factor: float) -> Rates:
    return _times(pair[0], factor), _times(pair[1], factor)


def _change(
    weights: np.ndarray, inputs: Events, winners: np.ndarray, update: Update, geometry: Geometry | None
) -> np.ndarray:
    """Return the weights after the update of every winner, float32 as the kernels compute it."""
    if len(inputs) != 1:
        raise ValueError(f"a rule expects the input of one sample, got {len(inputs)} samples")
    if weights.dtype != np.float32 or weights.ndim != 4 or weights.shape[1] != inputs.shape[0]:
        raise ValueError(
            f"a rule expects float32 weights for {inputs.shape[0]} channels, got {weights.dtype} {weights.shape}"
        )
    window = geometry or Geometry(weights.shape[2:])
    if window.kernel != weights.shape[2:]:
        raise ValueError(f"geometry has kernel {window.kernel}, the weights have {weights.shape[2:]}")
    first = _first_times(inputs, window.padding)
    changed = weights.copy()
    lower, upper = np.float32(update.lower), np.float32(update.upper)
    rows = winners.reshape(-1, 4)
    rows = rows[rows[:, 0] >= 0]
    if len(rows):
        np.clip(changed, lower, upper, out=changed)  # also the maps that did not win
    for f, y, x, t in rows.tolist():
        top, left = y * window.stride[0], x * window.stride[1]
        causal = first[:, top : top + window.kernel[0], left : left + window.kernel[1]] <= t
        a, w = np.where(causal, update.plus[f], update.minus[f]), weights[f]
        w = w + a * ((w - lower) * (upper - w)) if update.stabilizer else w + a
        changed[f] = np.minimum(np.maximum(w, lower), upper)
    return changed


def _first_times(inputs: Events, padding: tuple[int, int]) -> np.ndarray:
    """Return the first spike time of every padded input position, the largest integer where there is none."""
    channels, height, width = inputs.shape
    pad_y, pad_x = padding
    first = np.full((channels, height + 2 * pad_y, width + 2 * pad_x), np.iinfo(np.int64).max)
    where = (inputs.channel, inputs.y.astype(np.int64) + pad_y, inputs.x.astype(np.int64) + pad_x)
    np.minimum.at(first, where, inputs.time)
    return first
