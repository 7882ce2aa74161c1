"""What a layer is told to learn, and what of it cannot be."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from eventsnn.backends.neurons import Neurons
from eventsnn.backends.updates import Reward, Update
from eventsnn.events import Events


class Lesson(NamedTuple):
    """What :meth:`Backend.learn` is told beyond the data, as its implementations receive it."""

    neurons: Neurons
    update: Update
    reward: Reward | None
    positions: np.ndarray | None
    batch: int


def check_lesson(events: Events, order: np.ndarray, lesson: Lesson) -> None:
    """Raise if order, positions, rates or labels do not fit, as :meth:`Backend.learn` says."""
    neurons, update, reward, positions, batch = lesson
    _check_indices("order", order, len(events), "samples")
    maps = len(neurons.threshold)
    for u in [update] if reward is None else [update, reward.punish]:
        if len(u.plus) != maps:
            raise ValueError(f"the update has rates for {len(u.plus)} maps, the layer has {maps}")
    if batch < 1:
        raise ValueError(f"batch expects at least 1 sample, got {batch}")
    if update.thresholds is not None and neurons.at_end:
        raise ValueError("threshold adaptation expects finite thresholds, got infinite ones")
    if positions is not None:
        height, width = neurons.geometry.output(*events.shape[1:])
        _check_indices("positions", positions, height * width, "output positions")
        if len(positions) != len(order):
            raise ValueError(f"positions expects one for each of {len(order)} presentations, got {len(positions)}")
    if reward is not None:
        _check_reward(events, maps, update, reward)


def _check_indices(name: str, indices: np.ndarray, count: int, what: str) -> None:
    if not isinstance(indices, np.ndarray) or indices.dtype != np.int64 or indices.ndim != 1:
        raise TypeError(f"{name} expects a 1-D array of int64, got {getattr(indices, 'dtype', type(indices))}")
    if len(indices) and not 0 <= indices.min() <= indices.max() < count:
        raise ValueError(f"{name} expects indices of {count} {what}, got {indices.min()} to {indices.max()}")


def _check_reward(events: Events, maps: int, update: Update, reward: Reward) -> None:
    if events.labels is None:
        raise ValueError("reward-modulated learning expects events with labels, got none")
    if len(reward.classes) != maps:
        raise ValueError(f"reward.classes has {len(reward.classes)} entries, the layer has {maps} maps")
    shared = [(u.tau, u.beta, u.function) for u in (update, reward.punish)]
    if shared[0] != shared[1]:
        raise ValueError(f"reward and punishment share tau, beta and function, got {shared[0]} and {shared[1]}")
