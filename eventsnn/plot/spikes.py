"""Pictures of spikes: when, where and how many."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from eventsnn.events import Events
from eventsnn.plot.style import COLORS, Tiles, color_bar, legend, line_style, new_axes, new_figure, style, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap


LATENCIES = "first spike of each neuron; light grey where silent"


@overload
def raster(events: Events, sample: int = ..., *, ax: Axes | None = ...) -> Axes: ...


@overload
def raster(
    events: Sequence[Events], sample: int = ..., *, names: Sequence[str] | None = ..., ax: Sequence[Axes] | None = ...
) -> np.ndarray: ...


def raster(
    events: Events | Sequence[Events],
    sample: int = 0,
    *,
    names: Sequence[str] | None = None,
    ax: Axes | Sequence[Axes] | None = None,
) -> Axes | np.ndarray:
    """Draw when each neuron of one sample fired.

    Up to six maps have a colour each; more share one, a layer's own.

    Parameters
    ----------
    events : Events or sequence of Events
        One layer's spikes, or those of several, as ``net.run(events, record=True)`` returns them: these become panels
        below each other, over the same time.
    sample : int
        Which sample; negative from the end.
    names : sequence of str, optional
        One for each of several layers; default ``"layer 0"`` and so on.
    ax : matplotlib.axes.Axes, or a sequence or array of them, optional
        Where to draw: one for one layer, as many as layers for several, of a part of a figure for instance:
        ``subfigure.subplots(len(events), sharex=True)``. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes, or ndarray of them of shape (n_layers,) for a sequence

    Raises
    ------
    IndexError
        If there is no such sample.
    ValueError
        If there are no layers, or not one name and one pair of axes for each, or names come with one layer.
    """
    if not isinstance(events, Events):
        return _rasters(events, sample, names, ax)
    if names is not None:
        raise ValueError("raster expects names with several layers only")
    given: Any = ax
    if given is not None and np.ndim(given):
        raise ValueError("raster expects one pair of axes for one layer")
    axes = new_axes(given, (7, 3.2))
    _raster(axes, events, sample, COLORS[0])
    title(axes, f"{_one(events, sample).n_events:,} spikes")
    return axes


def _rasters(events: Sequence[Events], sample: int, names: Sequence[str] | None, ax: Any) -> np.ndarray:
    if not events:
        raise ValueError("raster expects at least one layer's spikes, got none")
    labels, count = _names(names, len(events)), len(events)
    if ax is not None and np.shape(ax) != (count,):
        raise ValueError(f"ax expects axes for each of {count} layers, got shape {np.shape(ax)}")
    panels: np.ndarray = np.asarray(_panels(count) if ax is None else ax, dtype=object)
    for i, (panel, layer, label) in enumerate(zip(panels, events, labels, strict=True)):
        style(panel)
        _raster(panel, layer, sample, COLORS[i % len(COLORS)])
        title(panel, f"{label}: {_one(layer, sample).n_events:,} spikes")
        if ax is None:
            panel.label_outer()
    return panels


def _panels(count: int) -> Any:
    """Return axes below each other in a new figure."""
    return new_figure((7, 0.5 + 1.4 * count)).subplots(count, 1, sharex=True, squeeze=False)[:, 0]


def spikes_over_time(
    events: Events | Sequence[Events], *, names: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw how many neurons of each layer have fired by each time, in percent, on average over the samples.

    Parameters
    ----------
    events : Events or sequence of Events
        Spikes of one layer or several, as ``net.run(events, record=True)`` returns them.
    names : sequence of str, optional
        One for each layer; default ``"layer 0"`` and so on.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If there are no layers or no samples, or not one name for each layer.
    """
    layers = [events] if isinstance(events, Events) else list(events)
    if not layers or not all(len(layer) for layer in layers):
        raise ValueError("spikes_over_time expects at least one layer and one sample, got none")
    labels, axes = _names(names, len(layers)), new_axes(ax, (7.2, 3.2))
    for i, (layer, label) in enumerate(zip(layers, labels, strict=True)):
        times, counts = np.unique(_scaled(layer), return_counts=True)
        fired = 100 * np.cumsum(counts) / (len(layer) * math.prod(layer.shape))
        edges = np.concatenate([[0], times, [_end(layer)]])
        heights = np.concatenate([[0], fired, fired[-1:] if len(fired) else [0]])
        axes.step(edges, heights, where="post", label=label, **line_style(i))
    axes.set_xlim(0, max(_end(layer) for layer in layers))
    axes.set_ylim(0)
    axes.set_xlabel(_time_label(layers[0]))
    axes.set_ylabel("neurons that have fired (%)")
    legend(axes)
    title(axes, f"share of neurons that have fired, mean of {_samples(len(layers[0]))}")
    return axes


def latency_map(events: Events, sample: int = 0, *, maps: Sequence[int] | None = None, ax: Axes | None = None) -> Axes:
    """Draw when each neuron of one sample fired first, map by map, on its grid; silent neurons are light grey.

    Parameters
    ----------
    events : Events
        Spikes of one layer.
    sample : int
        Which sample; negative from the end.
    maps : sequence of int, optional
        Maps to draw, in this order; default all.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    IndexError
        If there is no such sample or map.
    """
    latency = _latencies(_one(events, sample))
    numbers = range(len(latency)) if maps is None else list(maps)
    if not all(0 <= number < len(latency) for number in numbers):
        raise IndexError(f"maps expects indices of 0 to {len(latency) - 1}, got {list(numbers)}")
    tiles = Tiles(len(numbers), *latency.shape[1:])
    width, height = tiles.size()
    axes = new_axes(ax, (width + 0.9, height))
    for i, number in enumerate(numbers):
        image, colors = latency[number], _latency_colors()
        axes.imshow(image, cmap=colors, vmin=0, vmax=_latest(events), interpolation="nearest", extent=tiles.place(i))
        tiles.name(axes, i, str(number))
    tiles.finish(axes)
    title(axes, LATENCIES)
    if axes.images:
        color_bar(axes, _time_label(events))
    return axes


def _latest(events: Events) -> float:
    """Return the latest time that a spike may have, at least 1: the other end of the colours from 0."""
    return max(events.duration - 1, 1) if events.unit == "bin" else events.duration / 1000


def _raster(axes: Axes, events: Events, sample: int, color: str) -> None:
    one = _one(events, sample)
    channels, height, width = one.shape
    # In units of maps: the neurons of map m lie from m to m + 1, row by row.
    place = one.channel + (one.y.astype(np.int64) * width + one.x + 0.5) / (height * width)
    colors = np.asarray(COLORS if channels <= len(COLORS) else [color])
    times, end = _scaled(one), _end(one)
    mark = 0.8 if one.unit == "bin" else end / 150  # a spike fills its bin
    axes.hlines(place, times, times + mark, colors=colors[one.channel % len(colors)], linewidth=_thickness(one))
    step = next(s for s in _steps() if 6 * s >= channels)
    axes.set_yticks(np.arange(0, channels, step) + 0.5, [str(m) for m in range(0, channels, step)])
    axes.set_xlim(-0.01 * end, 1.01 * end)
    axes.set_ylim(channels, 0)
    axes.set_xlabel(_time_label(one))
    axes.set_ylabel("map")


def _steps() -> Iterator[int]:
    """Yield distances between ticks: 1, 2, 5, 10, 20, 50, ..."""
    return (m * 10**e for e in itertools.count() for m in (1, 2, 5))


def _samples(count: int) -> str:
    return f"{count:,} sample{'s' * (count != 1)}"


def _one(events: Events, sample: int) -> Events:
    if not -len(events) <= sample < len(events):
        raise IndexError(f"sample expects an index into {len(events)} samples, got {sample}")
    return events[sample]


def _thickness(events: Events) -> float:
    """Return the width of a spike's line in points: less where there are many."""
    return float(np.clip(150 / max(events.n_events, 1), 0.3, 1))


def _scaled(events: Events) -> np.ndarray:
    return events.time if events.unit == "bin" else events.time / 1000


def _end(events: Events) -> float:
    return events.duration if events.unit == "bin" else events.duration / 1000


def _time_label(events: Events) -> str:
    return "time (bins)" if events.unit == "bin" else "time (ms)"


def _names(names: Sequence[str] | None, count: int) -> list[str]:
    if names is None:
        return [f"layer {i}" for i in range(count)]
    if len(names) != count:
        raise ValueError(f"names expects one for each of {count} layers, got {len(names)}")
    return list(names)


def _latencies(events: Events) -> np.ndarray:
    """Return the time of each neuron's first spike, float64 of shape (C, H, W); NaN for silent ones."""
    first = np.full(events.shape, np.inf)
    np.minimum.at(first, (events.channel, events.y, events.x), _scaled(events))
    return np.where(np.isfinite(first), first, np.nan)


def _latency_colors() -> Colormap:
    """Return a scale of even steps from dark, early, to light, which is readable in grey too.

    It ends before the yellow, which would be as light as what is silent.
    """
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps["viridis"](np.linspace(0, 0.9, 256))).with_extremes(bad="#f0f0f0")
