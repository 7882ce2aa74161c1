"""Competition among spikes that are all known, and a user's own: any Python function of a sample's spikes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from eventsnn.backends.updates import Choice, Update
from eventsnn.events import Events

if TYPE_CHECKING:
    from eventsnn.backends import Backend


class Found(NamedTuple):
    """Winners of presentations: rows (map, y, x, time), -1 where there is none, and their potentials."""

    winners: np.ndarray
    potential: np.ndarray


def nobody(n: int, k: int) -> Found:
    """Return room for up to ``k`` winners of each of ``n`` presentations."""
    return Found(np.full((n, k, 4), -1, np.int64), np.zeros((n, k), np.float32))


def compete(backend: Backend, spikes: Events, update: Update, positions: np.ndarray | None, found: Found) -> None:
    """Fill in the winners of every sample of a layer's output; ``positions`` as of :meth:`Backend.learn`."""
    if update.active is not None:
        spikes = spikes.where(update.active[spikes.channel])
    if positions is not None:
        place = spikes.y.astype(np.int64) * spikes.shape[2] + spikes.x
        spikes = spikes.where(place == positions[spikes.sample_index()])
    if update.pointwise:
        spikes = backend.pointwise(spikes)
    if update.choose is None:
        found.winners[:] = backend.winners(spikes, update.k, update.radius)
    for i in range(len(spikes)):
        sample = spikes[i]
        if update.choose is not None:
            choose(sample, update.choose, found.winners[i])
        for j, (f, y, x, _) in enumerate(found.winners[i].tolist()):
            if f >= 0 and sample.potential is not None:
                won = (sample.channel == f) & (sample.y == y) & (sample.x == x)
                found.potential[i, j] = sample.potential[won][0]


def choose(spikes: Events, choice: Choice, winners: np.ndarray) -> None:
    """Let the user's function choose among the spikes of one sample; write its choice into ``winners`` (k, 4).

    Raises
    ------
    ValueError
        If it does not give up to ``k`` indices of spikes, of different maps.
    """
    chosen = np.asarray(choice(spikes))
    if chosen.size == 0:
        return
    if chosen.ndim != 1 or chosen.dtype.kind not in "iu" or len(chosen) > len(winners):
        raise ValueError(f"a competition expects up to {len(winners)} indices of spikes, got {chosen!r}")
    if chosen.min() < 0 or chosen.max() >= spikes.n_events:
        raise ValueError(f"a competition expects indices of {spikes.n_events} spikes, got {chosen.tolist()}")
    maps = spikes.channel[chosen]
    if len(np.unique(maps)) < len(maps):
        raise ValueError(f"a competition expects winners of different maps, got {maps.tolist()}")
    columns = (spikes.channel, spikes.y, spikes.x, spikes.time)
    winners[: len(chosen)] = np.stack([column[chosen].astype(np.int64) for column in columns], axis=1)
