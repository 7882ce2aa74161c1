"""What notebooks show of an object: a small table, made without reading any file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from eventsnn.markup import escape

if TYPE_CHECKING:
    from eventsnn.events import Events
    from eventsnn.io.hdf5 import EventDataset
    from eventsnn.io.recording import Recording
    from eventsnn.io.spike_samples import SpikeSamples
    from eventsnn.network import Network

_LEFT = "text-align:left;vertical-align:top;padding:.1em 1em .1em 0"
_RIGHT = "text-align:right;white-space:nowrap;padding:.1em 0 .1em 1.2em"
_CLASSES = 12  # that are named
_BARS, _LOOKED_AT = 60, 100_000  # of the histogram, and spikes that it is made of


def events(shown: Events) -> str:
    """Return what a batch of spikes is, and when they come, by some of them where there are many."""
    known: list[tuple[str, Any]] = [("samples", f"{len(shown):,}"), ("spikes", _spikes(shown.n_events, len(shown)))]
    known += _grid(shown)
    if not isinstance(shown.time, np.ndarray):  # on a device, from which nothing is fetched for this
        return _facts("Events", known)
    known += [*_density(shown), ("classes", _classes(shown.labels))]
    known.append(("potentials", None if shown.potential is None else "with each spike"))
    return _facts("Events", known, _histogram(shown.time, shown.duration))


def dataset(shown: EventDataset) -> str:
    """Return what a file of events holds, without reading these."""
    known = [("file", shown.path), ("samples", f"{len(shown):,}"), ("spikes", _spikes(shown.n_events, len(shown)))]
    known += [*_grid(shown), *_density(shown), ("classes", _classes(shown.labels))]
    known.append(("groups", None if shown.groups is None else "which samples belong together"))
    return _facts("EventDataset", [*known, ("source", shown.provenance.get("source"))])


def samples(shown: SpikeSamples) -> str:
    """Return what a file laid out as SHD holds, without reading spikes."""
    known = [("file", shown.path), ("samples", f"{len(shown):,}"), ("units", f"{shown.shape[2]:,}")]
    return _facts("SpikeSamples", [*known, ("classes", _classes(shown.labels))])


def recording(shown: Recording) -> str:
    """Return what the header of a recording says."""
    sensor = None if shown.width is None else f"{shown.width} x {shown.height} (width x height)"
    events = "not known before they are read" if shown.n_events is None else f"{shown.n_events:,}"
    known: list[tuple[str, Any]] = [("file", shown.path), ("format", shown.format), ("sensor", sensor or "not said")]
    return _facts("Recording", [*known, ("events", events), *shown.metadata.items()])


def network(shown: Network) -> str:
    """Return the layers of a network: their grids, neurons, weights and thresholds."""
    rows = [("", "input", _by(shown.shape), f"{math.prod(shown.shape):,}", "", "")]
    total = 0
    for i, layer in enumerate(shown.layers):
        weights, threshold = "", ""
        if i in shown.trainable:
            shape = shown.weights_shape(i)
            total += math.prod(shape)
            weights, threshold = f"{math.prod(shape):,}", _range(shown.neurons(i).threshold)
        rows.append(
            (str(i), str(layer), _by(shown.shapes[i + 1]), f"{math.prod(shown.shapes[i + 1]):,}", weights, threshold)
        )
    header = ("", "layer", "grid", "neurons", "weights", "threshold")
    caption = f"Network: {total:,} weights, computed by {shown.backend.name}"
    return f"<div><strong>{escape(caption)}</strong>{_table(header, rows)}</div>"


def network_text(shown: Network) -> str:
    """Return the layers of a network with their grids, line by line."""
    lines = [f"  {i}: {layer} -> {shown.shapes[i + 1]}" for i, layer in enumerate(shown.layers)]
    return "\n".join([f"Network(shape={shown.shape}, backend={shown.backend.name!r})", *lines])


def _facts(title: str, known: Iterable[tuple[str, Any]], more: str = "") -> str:
    """Return a heading and names with their values; those that are None are left out."""
    rows = "".join(
        f'<tr><th style="{_LEFT}">{escape(name)}</th><td style="{_LEFT}">{escape(value)}</td></tr>'
        for name, value in known
        if value is not None
    )
    return f"<div><strong>{escape(title)}</strong><table><tbody>{rows}</tbody></table>{more}</div>"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose first two columns are text, and the others numbers."""

    def line(tag: str, cells: Sequence[str]) -> str:
        styles = (_LEFT if i < 2 else _RIGHT for i in range(len(cells)))
        pairs = zip(cells, styles, strict=True)
        return "<tr>" + "".join(f'<{tag} style="{style}">{escape(cell)}</{tag}>' for cell, style in pairs) + "</tr>"

    return (
        f"<table><thead>{line('th', header)}</thead><tbody>{''.join(line('td', row) for row in rows)}</tbody></table>"
    )


def _by(shape: Sequence[int]) -> str:
    return " x ".join(f"{n:,}" for n in shape)


def _grid(shown: Events | EventDataset) -> list[tuple[str, str]]:
    unit = "bins" if shown.unit == "bin" else "\N{MICRO SIGN}s"
    return [("grid", f"{_by(shown.shape)} (channels x height x width)"), ("duration", f"{shown.duration:,} {unit}")]


def _spikes(count: int, samples: int) -> str:
    return f"{count:,}" + (f", {count / samples:,.1f} a sample" if samples else "")


def _density(shown: Events | EventDataset) -> list[tuple[str, str]]:
    neurons = math.prod(shown.shape)
    counts = np.diff(shown.offsets)
    if not len(counts):
        return []
    low, mean, high = (f"{100 * value / neurons:.3g} %" for value in (counts.min(), counts.mean(), counts.max()))
    return [("density", f"{mean} ({low} to {high}) spikes for each neuron and sample")]


def _classes(labels: np.ndarray | None) -> str | None:
    """Return how many samples each class has."""
    if labels is None:
        return None
    classes, counts = np.unique(labels, return_counts=True)
    named = ", ".join(f"{label}: {count:,}" for label, count in zip(classes[:_CLASSES], counts, strict=False))
    return f"{len(classes)} ({named}{', ...' * (len(classes) > _CLASSES)})"


def _range(values: np.ndarray) -> str:
    low, high = f"{values.min():.4g}", f"{values.max():.4g}"
    return low if low == high else f"{low} to {high}"


def _histogram(time: np.ndarray, duration: int) -> str:
    """Return when spikes come as a small picture, in the colour of the text around it."""
    some = time[:: max(1, len(time) // _LOOKED_AT)]
    if not len(some):
        return ""
    bars = min(_BARS, duration)
    counts = np.bincount(some * bars // duration, minlength=bars)
    width, height = 6 if bars == _BARS else 360 // bars, 40
    tall = np.maximum(height * counts // counts.max(), counts > 0)
    path = "".join(f"M{i * width} {height}v-{high}h{width - 1}v{high}z" for i, high in enumerate(tall.tolist()) if high)
    return (
        f'<svg width="{bars * width}" height="{height}" role="img" style="display:block;margin:.3em 0">'
        f'<title>spikes over time</title><path d="{path}" fill="currentColor" opacity=".6"/></svg>'
        "<small>spikes over time</small>"
    )
