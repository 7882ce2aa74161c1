"""What a file of events holds, and whether it is sound, whatever its format."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from eventsnn.io._checks import VERSION
from eventsnn.io.formats import open  # noqa: A004
from eventsnn.io.hdf5 import EventDataset
from eventsnn.io.recording import Recording
from eventsnn.io.spike_samples import SpikeSamples


def info(path: str | Path) -> dict[str, Any]:
    """Summarize a file of events without reading them.

    Returns
    -------
    dict
        Ready for JSON. Of an event file of this package: ``path``, ``bytes``, ``format_version``, ``samples``,
        ``events``, ``shape``, ``unit``, ``duration``, ``t_offset``, ``density`` (spikes per neuron and sample),
        ``labels`` (None, or ``classes`` and how many samples each has, ``counts``), ``groups`` (None, or how many
        there are) and ``provenance``. Of a recording: ``path``, ``bytes``, ``format``, ``events`` (None where only
        reading it tells), ``sensor`` (None, or width and height), ``unit``, ``orientation`` and ``metadata``.
        Of samples laid out as SHD: ``path``, ``bytes``, ``format``, ``samples``, ``shape``, ``unit`` and ``labels``.

    Raises
    ------
    EventFileError
        If the format is unknown, or the structure of the file is not as it must be.
    """
    found = open(path)
    if isinstance(found, Recording):
        return _facts(found)
    if isinstance(found, SpikeSamples):
        return _facts_of_samples(found)
    with found:
        return _summary(found)


def check(path: str | Path) -> dict[str, Any]:
    """Read all of a file of events, verify what can be verified, and summarize it.

    Returns
    -------
    dict
        As :func:`info`, with the ``earliest`` and ``latest`` time (None without events). Of an event file of this
        package also ``empty_samples``; of a recording also ``dropped``, ``skipped``, ``backward`` and
        ``furthest_back`` as in :class:`~eventsnn.io.recording.Report`: it is sound if nothing was dropped. Of
        samples laid out as SHD ``events`` and ``duration``.

    Raises
    ------
    EventFileError
        If the file is not as it must be.
    """
    found = open(path)
    if isinstance(found, EventDataset):
        with found:
            return _checked(found)
    if isinstance(found, SpikeSamples):
        earliest, latest = found.span or (None, None)
        known = {"events": found.n_events, "duration": found.duration, "earliest": earliest, "latest": latest}
        return _facts_of_samples(found) | known
    stream = found.chunks()
    for _ in stream:
        pass
    report = dataclasses.asdict(stream.report)
    return _facts(found) | {"events": report.pop("n_events")} | report


def _facts(recording: Recording) -> dict[str, Any]:
    return {
        "path": str(recording.path),
        "bytes": recording.path.stat().st_size,
        "format": recording.format,
        "events": recording.n_events,
        "sensor": None if recording.sensor is None else list(recording.sensor),
        "unit": recording.unit,
        "orientation": dataclasses.asdict(recording.orientation),
        "metadata": recording.metadata,
    }


def _facts_of_samples(samples: SpikeSamples) -> dict[str, Any]:
    return {
        "path": str(samples.path),
        "bytes": samples.path.stat().st_size,
        "format": "SHD",
        "samples": len(samples),
        "shape": list(samples.shape),
        "unit": samples.unit,
        "labels": _count_labels(samples.labels),
    }


def _count_labels(labels: np.ndarray | None) -> dict[str, list[int]] | None:
    """Return the classes and how many samples each has."""
    if labels is None:
        return None
    classes, counts = np.unique(labels, return_counts=True)
    return {"classes": classes.tolist(), "counts": counts.tolist()}


def _summary(dataset: EventDataset) -> dict[str, Any]:
    neurons = len(dataset) * int(np.prod(dataset.shape, dtype=np.int64))
    return {
        "path": str(dataset.path),
        "bytes": dataset.path.stat().st_size,
        "format_version": VERSION,
        "samples": len(dataset),
        "events": dataset.n_events,
        "shape": list(dataset.shape),
        "unit": dataset.unit,
        "duration": dataset.duration,
        "t_offset": dataset.t_offset,
        "density": dataset.n_events / neurons if neurons else 0.0,
        "labels": _count_labels(dataset.labels),
        "groups": None if dataset.groups is None else _count_groups(dataset.groups, dataset.labels),
        "provenance": dataset.provenance,
    }


def _count_groups(groups: np.ndarray, labels: np.ndarray | None) -> int:
    columns = groups[None] if labels is None else np.stack([labels, groups])
    return int(np.unique(columns, axis=1).shape[1])


def _checked(dataset: EventDataset) -> dict[str, Any]:
    """Read everything, in pieces of bounded size, and summarize it."""
    times = [(int(time.min()), int(time.max())) for time in dataset.verify() if len(time)]
    return _summary(dataset) | {
        "empty_samples": int((np.diff(dataset.offsets) == 0).sum()),
        "earliest": min((low for low, _ in times), default=None),
        "latest": max((high for _, high in times), default=None),
    }
