"""What winners do to the weights, in plain NumPy: the definition that compiled kernels equal bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from eventsnn.backends.neurons import Geometry, LeakTable
from eventsnn.backends.updates import RuleFunction, ScaleTable, Update, asks_for, with_all_arguments
from eventsnn.events import Events
from eventsnn.functions import copied

if TYPE_CHECKING:
    from eventsnn.backends import Lesson

NEVER = np.iinfo(np.int64).max

Winner = tuple[int, int, int, int]


def changed_weights(
    weights: np.ndarray,
    inputs: Events,
    winners: np.ndarray,
    update: Update,
    geometry: Geometry | None,
    potential: np.ndarray | None = None,
    reward: float = 0.0,
) -> np.ndarray:
    """Return the weights after the winners (k, 4) of one sample, -1 where there is none.

    Raises
    ------
    ValueError
        If weights, sample and geometry do not fit each other.
    """
    window, changed = _window(weights, inputs, geometry), weights.copy()
    rows = [(f, y, x, t) for f, y, x, t in winners.reshape(-1, 4).tolist() if f >= 0]
    values = np.zeros(len(rows), np.float32) if potential is None else potential.ravel()[: len(rows)]
    if rows:
        apply_winners(changed, inputs, rows, update, window, values, reward)
    return changed


def _window(weights: np.ndarray, inputs: Events, geometry: Geometry | None) -> Geometry:
    if len(inputs) != 1:
        raise ValueError(f"a rule expects the input of one sample, got {len(inputs)} samples")
    if weights.dtype != np.float32 or weights.ndim != 4 or weights.shape[1] != inputs.shape[0]:
        raise ValueError(
            f"a rule expects float32 weights for {inputs.shape[0]} channels, got {weights.dtype} {weights.shape}"
        )
    window = geometry or Geometry(weights.shape[2:])
    if window.kernel != weights.shape[2:]:
        raise ValueError(f"geometry has kernel {window.kernel}, the weights have {weights.shape[2:]}")
    return window


def apply_winners(
    weights: np.ndarray,
    sample: Events,
    winners: Iterable[Winner],
    update: Update,
    geometry: Geometry,
    potential: Iterable[float],
    reward: float = 0.0,
) -> None:
    """Change the weights (maps, channels, kernel height, kernel width) of each winner's map, in place.

    Then clip the weights of all maps. ``potential`` is that of each winner at its spike, ``reward`` 1 after a right
    decision, -1 after a wrong one, 0 where rewards play no part.
    """
    for (f, y, x, t), value in zip(winners, potential, strict=True):
        times = deciding_times(sample, geometry, y, x, t)
        if update.function is None:
            weights[f] = _built_in(weights[f], times, t, f, update)
        else:
            weights[f] = _by_user(weights[f], times, t, update.function, float(value), reward)
    np.clip(weights, np.float32(update.lower), np.float32(update.upper), out=weights)


def apply_lesson(
    sample: Events, winners: np.ndarray, potential: np.ndarray, weights: np.ndarray, lesson: Lesson
) -> None:
    """Change weights and thresholds after one presentation, in place, as its winners (k, 4) say."""
    n = int((winners[:, 0] >= 0).sum())
    if n == 0:
        return
    update, reward, threshold = lesson.update, 0, lesson.neurons.threshold
    if lesson.reward is not None and sample.labels is not None:
        correct = lesson.reward.classes[winners[0, 0]] == sample.labels[0]
        update, reward = (update, 1) if correct else (lesson.reward.punish, -1)
    rows = [(int(f), int(y), int(x), int(t)) for f, y, x, t in winners[:n]]
    apply_winners(weights, sample, rows, update, lesson.neurons.geometry, potential[:n], reward)
    if lesson.update.thresholds is not None:
        threshold[:] = lesson.update.thresholds(threshold, winners, sample.duration, lesson.update.active)


def deciding_times(sample: Events, geometry: Geometry, oy: int, ox: int, t: int) -> np.ndarray:
    """Return for every synapse (C, KY, KX) of the neurons at (oy, ox) the time of the input that decides.

    The last one at or before ``t``; without one the first after it; without any :data:`NEVER`.
    """
    pad_y, pad_x = geometry.padding
    channels, height, width = sample.shape
    padded = np.full((channels, height + 2 * pad_y, width + 2 * pad_x), NEVER)
    before, after = np.full_like(padded, -1), padded
    for wanted, combine, target in (
        (sample.time <= t, np.maximum, before),
        (sample.time > t, np.minimum, after),
    ):
        y, x = (column[wanted].astype(np.int64) for column in (sample.y, sample.x))
        where = (sample.channel[wanted], y + pad_y, x + pad_x)
        combine.at(target, where, sample.time[wanted])
    decisive = np.where(before >= 0, before, after)
    top, left = oy * geometry.stride[0], ox * geometry.stride[1]
    return decisive[:, top : top + geometry.kernel[0], left : left + geometry.kernel[1]]


def _built_in(w: np.ndarray, times: np.ndarray, t: int, f: int, update: Update) -> np.ndarray:
    lower, upper = np.float32(update.lower), np.float32(update.upper)
    causal = times <= t
    a = np.where(causal, update.plus[f], update.minus[f])
    if update.tau is not None:
        a = a * np.where(times == NEVER, np.float32(0), LeakTable(update.tau).factors(np.abs(t - times)))
    if update.dependence == "additive":
        return w + a
    if update.dependence == "stabilized":
        return w + a * ((w - lower) * (upper - w))
    room = np.where(causal, upper - w, w - lower)
    if update.dependence == "proportional":
        return w + a * room
    used = np.where(causal, w - lower, upper - w)
    return w + a * ScaleTable(update.beta).factors(used / (upper - lower))


def _by_user(
    w: np.ndarray, times: np.ndarray, t: int, function: RuleFunction, potential: float, reward: float
) -> np.ndarray:
    call, out = with_all_arguments(copied(function, lambda copy: copy), asks_for(function)), np.empty_like(w)
    for site in np.ndindex(w.shape):
        dt = float(t - times[site]) if times[site] != NEVER else -np.inf
        out[site] = checked_weight(call, float(w[site]), dt, potential, reward)
    return out


def checked_weight(call: Callable[..., float], w: float, dt: float, potential: float, reward: float) -> np.float32:
    """Return the new weight of a user's rule, or refuse one that is not finite as float32."""
    with np.errstate(over="ignore"):
        new = np.float32(call(w, dt, potential, reward))
    if not np.isfinite(new):
        raise ValueError(f"the rule gave the weight {new} for w={w}, dt={dt}, potential={potential}, reward={reward}")
    return new
