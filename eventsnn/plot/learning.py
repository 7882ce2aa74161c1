"""Pictures of what was learnt: features, how they came about, weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from eventsnn.encode.intensity import ImageEncoder
from eventsnn.network import Network
from eventsnn.plot.style import COLORS, INK, Tiles, new_axes, new_figure
from eventsnn.reconstruct import reconstruct
from eventsnn.snapshots import MAPS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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
    tiles = Tiles(*images.shape)
    figure = new_figure(tiles.size(0.64))
    axes = figure.subplots()
    for i, (image, number) in enumerate(zip(images, _numbers(maps, len(images)), strict=True)):
        _tile(axes, image, tiles, i)
        tiles.name(axes, i, str(number))
    tiles.finish(axes)
    title = f"layer {layer}, {net.layers[layer]}: learnt features, {images.shape[1]} x {images.shape[2]} pixels"
    axes.set_title(title, fontsize=9, color=INK)
    return figure


def evolution(
    net: Network,
    layer: int,
    recorded: Mapping[Any, Any],
    encoder: ImageEncoder | None = None,
    *,
    maps: Sequence[int] | None = None,
    signed: bool = True,
) -> Figure:
    """Draw how the features of a layer came about: a row for each recorded moment, a column for each map.

    Parameters
    ----------
    net : Network
        Its other layers have the weights with which this one learnt.
    layer : int
        Index of a layer that has weights.
    recorded : mapping of moment to ndarray, shape (maps, channels, kernel height, kernel width)
        Weights of the layer, or of its first maps, at each moment, in order: ``History.snapshots``, or your own. The
        moments name the rows; numbers count presentations.
    encoder, signed
        As of :func:`features`.
    maps : sequence of int, optional
        Default: the first sixteen, as far as they were recorded.

    Raises
    ------
    IndexError, ValueError
        As :func:`eventsnn.reconstruct.reconstruct`, and if nothing was recorded.

    Examples
    --------
    ::

        history = fit(net, data, layer=0, rule=rule, epochs=4)
        plot.evolution(net, 0, history.snapshots, encoder).savefig("evolution.png")
    """
    if not recorded:
        raise ValueError("evolution expects the weights of at least one moment, got none")
    numbers = list(range(min(MAPS, *map(len, recorded.values())))) if maps is None else list(maps)
    rows = [reconstruct(net, layer, encoder, maps=numbers, signed=signed, weights=w) for w in recorded.values()]
    images = np.concatenate(rows)
    tiles = Tiles(len(images), images.shape[1], images.shape[2], columns=len(numbers), gap=0.12)
    width, height = tiles.size(0.64)
    figure = new_figure((width + 0.6, height))
    axes = figure.subplots()
    for i, image in enumerate(images):
        _tile(axes, image, tiles, i)
        if i < len(numbers):
            tiles.name(axes, i, str(numbers[i]))
    for i, moment in enumerate(recorded):
        _, _, bottom, top = tiles.place(i * tiles.columns)
        name = f"{moment:,}" if isinstance(moment, int) else str(moment)
        axes.text(-0.1, (bottom + top) / 2, name, ha="right", va="center", fontsize=7, color=INK)
    tiles.finish(axes)
    counted = ", after so many stimuli" if any(isinstance(moment, int) for moment in recorded) else ""
    axes.set_title(f"layer {layer}, {net.layers[layer]}: features while it learnt{counted}", fontsize=9, color=INK)
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
    axes = new_axes(ax, (5, 3))
    axes.hist(weights, bins=50, weights=np.full(len(weights), 100 / len(weights)), color=COLORS[0])
    axes.set_xlabel("weight")
    axes.set_ylabel("synapses (%)")
    axes.set_title(f"layer {layer}, {net.layers[layer]}: {len(weights):,} weights", fontsize=9, loc="left", color=INK)
    return axes


def _numbers(maps: Sequence[int] | None, count: int) -> Sequence[int]:
    return range(count) if maps is None else maps


def _tile(axes: Axes, image: np.ndarray, tiles: Tiles, i: int) -> None:
    most = max(float(np.abs(image).max()), 1e-12)
    lowest = -most if image.min() < 0 else 0
    axes.imshow(image, cmap="gray", vmin=lowest, vmax=most, interpolation="nearest", extent=tiles.place(i))
