"""What a file of events holds, and whether it is sound, whatever its format."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from eventsnn.io import hdf5
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
        ``events``, ``shape``, ``unit``, ``duration``, ``density`` (spikes per neuron and sample), ``labels`` (None, or
        ``classes`` and how many samples each has, ``counts``), ``groups`` (None, or how many there are) and
        ``provenance``. Of a recording: ``path``, ``bytes``, ``format``, ``events`` (None where only reading it tells),
        ``sensor`` (None, or width and height), ``unit``, ``orientation`` and ``metadata``. Of samples laid out as SHD:
        ``path``, ``bytes``, ``format``, ``samples``, ``shape``, ``unit`` and ``labels``.

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
    found.close()
    return hdf5.info(path)


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
        found.close()
        return hdf5.check(path)
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
        "labels": hdf5.count_labels(samples.labels),
    }
