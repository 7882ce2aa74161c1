"""Spikes of a wanted density: drawn, or thinned from real ones."""

from __future__ import annotations

from contextlib import closing, nullcontext
from typing import Any

import numpy as np

from eventsnn.events import Events
from eventsnn.validation import Shape


def synthetic(shape: Shape, density: float, bins: int, samples: int, seed: int) -> Events:
    """Return samples in which each input fires with this probability, once, in any of the bins."""
    rng = np.random.default_rng([seed, 2])
    latency = rng.integers(0, bins, (samples, *shape))
    latency[rng.random(latency.shape) >= density] = -1
    return Events.from_latency(latency, duration=bins)


def thinned(events: Events, part: float, seed: int) -> Events:
    """Return events of which each was kept with this probability."""
    return events.where(np.random.default_rng([seed, 3]).random(events.n_events) < part)


def real(path: str, samples: int, bins: int, window: float) -> Events:
    """Return the first samples of a file, or, of a recording, the first windows in which anything happens.

    Parameters
    ----------
    path : str
        What :func:`eventsnn.open` takes. One sample in microseconds is a recording, too.
    samples : int
        At most so many.
    bins : int
        Microseconds become so many bins; times that are bins stay.
    window : float
        Length of a recording's windows in seconds.

    Returns
    -------
    Events
        The first event of each pixel and channel.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or nothing in it.
    """
    from eventsnn.io import Recording

    with _opened(path) as source:
        is_long = isinstance(source, Recording) or (len(source) == 1 and source.unit == "us")
        events = _cut(source, samples, bins, window) if is_long else _binned(source, samples, bins)
    if not events.n_events:
        raise ValueError(f"{path}: expected events, found none")
    return events


def _opened(path: str) -> Any:
    """Return a context with what the file holds."""
    from eventsnn.io import open  # noqa: A004

    found = open(path)
    return closing(found) if hasattr(found, "close") else nullcontext(found)


def _cut(recording: Any, samples: int, bins: int, window: float) -> Events:
    from eventsnn.encode import ByTime, CameraEncoder, FirstSpike
    from eventsnn.events import concatenate

    found: list[Events] = []
    encoder = CameraEncoder(ByTime(max(1, round(window * 1e6))), FirstSpike(bins))
    for sample in encoder.samples(recording):
        found += [sample.events] if sample.events.n_events else []
        if len(found) == samples:
            break
    if not found:
        raise ValueError(f"{recording.path}: expected events, found none")
    return concatenate(found)


def _binned(dataset: Any, samples: int, bins: int) -> Events:
    events = next(iter(dataset.batches(samples)))
    if events.unit == "us":
        time = events.time * bins // events.duration
        columns = (time, events.channel, events.y, events.x)
        events = Events.from_columns(*columns, shape=events.shape, offsets=events.offsets, duration=bins)
    return events.first_spikes()
