"""Pictures of spikes, of what was learnt and of decisions.

What draws one picture takes ``ax`` and returns the axes; what draws a row or grid of them returns the figure. Figures
are made without pyplot, so nothing is shown and no state outlives them: save them with ``figure.savefig(path)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from eventsnn.encode.intensity import ImageEncoder
from eventsnn.evaluation import Evaluation
from eventsnn.events import Events
from eventsnn.network import Network
from eventsnn.reconstruct import reconstruct

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind people too, without those too dark or too light on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_INK = "#404040"
_DPI = 150


@overload
def raster(events: Events, sample: int = ..., *, ax: Axes | None = ...) -> Axes: ...


@overload
def raster(events: Sequence[Events], sample: int = ..., *, names: Sequence[str] | None = ...) -> Figure: ...


def raster(
    events: Events | Sequence[Events],
    sample: int = 0,
    *,
    names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes | Figure:
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
    ax : matplotlib.axes.Axes, optional
        Where to draw one layer. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes, or matplotlib.figure.Figure for a sequence

    Raises
    ------
    IndexError
        If there is no such sample.
    ValueError
        If there are no layers, or not one name for each, or names come with one layer or ``ax`` with several.
    """
    if (names if isinstance(events, Events) else ax) is not None:
        raise ValueError("raster expects ax with one layer only, names with several only")
    if isinstance(events, Events):
        axes = _axes(ax, (7, 3.2))
        _raster(axes, events, sample, COLORS[0])
        return axes
    if not events:
        raise ValueError("raster expects at least one layer's spikes, got none")
    labels = _names(names, len(events))
    figure = _figure((7, 0.5 + 1.35 * len(events)))
    panels = figure.subplots(len(events), 1, sharex=True, squeeze=False)[:, 0]
    for i, (panel, layer, label) in enumerate(zip(panels, events, labels, strict=True)):
        _style(panel)
        _raster(panel, layer, sample, COLORS[i % len(COLORS)])
        panel.set_title(f"{label}: {_one(layer, sample).n_events:,} spikes", loc="left", fontsize=9, color=_INK)
        panel.label_outer()
    return figure


def features(
    net: Network,
    layer: int,
    encoder: ImageEncoder | None = None,
    *,
    maps: Sequence[int] | None = None,
    signed: bool = True,
) -> Figure:
    """Draw what each map of a layer has learnt to respond to, in pixels, bright where it wants light.

    Parameters
    ----------
    net, layer, encoder, maps
        As of :func:`eventsnn.reconstruct.reconstruct`.
    signed : bool
        Show what should be dark too, darker than the grey of no preference; or only what should be bright.

    Returns
    -------
    matplotlib.figure.Figure
        One picture for each map, numbered, each scaled to its own range.

    Raises
    ------
    IndexError, ValueError
        As :func:`eventsnn.reconstruct.reconstruct`.
    """
    images = reconstruct(net, layer, encoder, maps=maps, signed=signed)
    numbers = range(len(images)) if maps is None else maps
    columns = max(1, math.ceil(math.sqrt(1.6 * len(images))))
    rows = max(1, math.ceil(len(images) / columns))
    height, width = images.shape[1:]
    right, down = 1.12, height / width + 0.3  # from tile to tile, each 1 wide and with its number above it
    figure = _figure((max(4.2, 0.64 * columns * right), 0.64 * rows * down + 0.4))
    axes = figure.subplots()  # one for all: hundreds of axes would take long
    for i, (image, number) in enumerate(zip(images, numbers, strict=True)):
        _tile(axes, image, str(number), i % columns * right, i // columns * down)
    axes.set_xlim(0, columns * right)
    axes.set_ylim(rows * down - 0.3, -0.3)
    axes.axis("off")
    title = f"layer {layer}, {net.layers[layer]}: learnt features, {height} x {width} pixels"
    axes.set_title(title, fontsize=9, color=_INK)
    return figure


def weights_histogram(net: Network, layer: int, *, ax: Axes | None = None) -> Axes:
    """Draw how the weights of a layer are distributed; learnt ones lie at the bounds.

    Parameters
    ----------
    net : Network
        Its present weights.
    layer : int
        Index of a layer that has weights.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Raises
    ------
    KeyError
        If the layer has no weights.
    """
    weights = net.weights[layer].ravel()
    axes = _axes(ax, (5, 3))
    axes.hist(weights, bins=50, weights=np.full(len(weights), 100 / len(weights)), color=COLORS[0])
    axes.set_xlabel("weight")
    axes.set_ylabel("synapses (%)")
    axes.set_title(f"layer {layer}, {net.layers[layer]}: {len(weights):,} weights", fontsize=9, loc="left", color=_INK)
    return axes


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

    Raises
    ------
    ValueError
        If there are no layers or no samples, or not one name for each layer.
    """
    layers = [events] if isinstance(events, Events) else list(events)
    if not layers or not all(len(layer) for layer in layers):
        raise ValueError("spikes_over_time expects at least one layer and one sample, got none")
    labels, axes = _names(names, len(layers)), _axes(ax, (6, 3.2))
    for i, (layer, label) in enumerate(zip(layers, labels, strict=True)):
        times, counts = np.unique(_scaled(layer), return_counts=True)
        fired = 100 * np.cumsum(counts) / (len(layer) * math.prod(layer.shape))
        edges = np.concatenate([[0], times, [_end(layer)]])
        heights = np.concatenate([[0], fired, fired[-1:] if len(fired) else [0]])
        style = ("-", "--", ":")[i // len(COLORS) % 3]
        axes.step(edges, heights, where="post", color=COLORS[i % len(COLORS)], linestyle=style, label=label)
    axes.set_xlim(0, max(_end(layer) for layer in layers))
    axes.set_ylim(0)
    axes.set_xlabel(_time_label(layers[0]))
    axes.set_ylabel("neurons that have fired (%)")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return axes


def confusion(evaluation: Evaluation, *, names: Sequence[str] | None = None, ax: Axes | None = None) -> Axes:
    """Draw which class was taken for which.

    Parameters
    ----------
    evaluation : Evaluation
        Of labelled data; see :func:`eventsnn.evaluate`.
    names : sequence of str, optional
        Of the classes; default their numbers.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Raises
    ------
    ValueError
        If the evaluation has no decisions on labelled data, or there is not one name for each class.
    """
    table = evaluation.confusion
    if table is None or evaluation.accuracy is None:
        raise ValueError("confusion expects an evaluation with labels and decisions, got one without")
    count = len(table)
    if names is not None and len(names) != count:
        raise ValueError(f"names expects one for each of {count} classes, got {len(names)}")
    side = 2 + 0.35 * count
    axes = _axes(ax, (side, side))
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(table):
        if value:
            ink = "white" if share[row, column] > 0.5 else _INK
            axes.text(column, row, str(value), ha="center", va="center", fontsize=8, color=ink)
    labels = list(names) if names is not None else [str(i) for i in range(count)]
    axes.set_xticks(range(count), labels)
    axes.set_yticks(range(count), labels)
    axes.set_xlabel("decision")
    axes.set_ylabel("label")
    axes.set_title(f"accuracy {evaluation.accuracy:.2%}, {evaluation.samples:,} samples", fontsize=9, color=_INK)
    return axes


def _tile(axes: Axes, image: np.ndarray, name: str, left: float, top: float) -> None:
    most = max(float(np.abs(image).max()), 1e-12)
    lowest = -most if image.min() < 0 else 0
    place = (left, left + 1, top + image.shape[0] / image.shape[1], top)
    axes.imshow(image, cmap="gray", vmin=lowest, vmax=most, interpolation="nearest", extent=place)
    axes.text(left + 0.5, top - 0.04, name, ha="center", va="bottom", fontsize=6, color=_INK)


def _raster(axes: Axes, events: Events, sample: int, color: str) -> None:
    one = _one(events, sample)
    channels, height, width = one.shape
    # In units of maps: the neurons of map m lie from m to m + 1, row by row.
    place = one.channel + (one.y.astype(np.int64) * width + one.x + 0.5) / (height * width)
    colors = np.asarray(COLORS if channels <= len(COLORS) else [color])
    times, end = _scaled(one), _end(one)
    mark = 0.8 if one.unit == "bin" else end / 150  # a spike fills its bin
    axes.hlines(place, times, times + mark, colors=colors[one.channel % len(colors)], linewidth=_thickness(one))
    step = max(1, math.ceil(channels / 6))
    axes.set_yticks(np.arange(0, channels, step) + 0.5, [str(m) for m in range(0, channels, step)])
    axes.set_xlim(-0.01 * end, 1.01 * end)
    axes.set_ylim(channels, 0)
    axes.set_xlabel(_time_label(one))
    axes.set_ylabel("map")


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


def _figure(size: tuple[float, float]) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=size, dpi=_DPI, layout="constrained")


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return the axes to draw on, new ones by default, in the style of all pictures."""
    axes = _figure(size).subplots() if ax is None else ax
    _style(axes)
    return axes


def _style(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_INK)
    axes.tick_params(labelsize=8, colors=_INK)
    axes.xaxis.label.set(size=9, color=_INK)
    axes.yaxis.label.set(size=9, color=_INK)
