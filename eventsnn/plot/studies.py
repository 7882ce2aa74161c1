"""Pictures of studies: what sparsity costs and buys."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from eventsnn.colors import COLORS, INK
from eventsnn.plot.style import legend, line_style, new_axes, short, title
from eventsnn.study.cost import CostModel, crossovers, fit
from eventsnn.study.pareto import front, means
from eventsnn.study.series import Row, by_layer, curves, of_study, profiled, scaled
from eventsnn.study.units import percent, rounded, si

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = ("o", "s", "D", "^", "P", "X")
_NARROWEST = 1.5  # highest by lowest value of a logarithmic axis
_COSTS = {"spikes": "", "energy": "J", "operations": "", "seconds": "s"}


def time_against_density(
    rows: Iterable[Row], layer: str | None = None, *, model: CostModel | None = None, ax: Axes | None = None
) -> Axes:
    """Draw how long a layer takes, event-driven and dense, at each density, and mark where the two cross.

    Parameters
    ----------
    rows : iterable of dict
        Of :func:`eventsnn.study.sparsity`; those of other studies are left out.
    layer : str, optional
        Which one, as :func:`eventsnn.study.series.layer_label` names it, or the beginning of that, such as a network's
        name; where it was run in many ways, with these. Default: the first, of a published network if there is one.
    model : CostModel, optional
        Its predictions are drawn as dotted lines.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If there are no such rows, or no such layer.
    """
    layers = by_layer(rows)
    label = next((name for name in layers if name.startswith(layer or "")), None)
    if label is None:
        raise ValueError(
            f"layer expects one of {', '.join(layers) or 'a sparsity study, which has no rows'}, got {layer!r}"
        )
    axes = new_axes(ax, (7.2, 3.8))
    for i, (name, some) in enumerate(curves(layers[label]).items()):
        densities, said = [row["density"] for row in some], f", {name}" if name else ""
        look: dict[str, Any] = {
            "color": COLORS[i % len(COLORS)],
            "marker": _MARKERS[i % len(_MARKERS)],
            "markersize": 5,
        }
        axes.plot(densities, [row["seconds"] for row in some], label=f"event-driven{said}", **look)
        dense = [row["dense_seconds"] for row in some]
        axes.plot(densities, dense, linestyle="--", markerfacecolor="white", label=f"dense{said}", **look)
        if model is not None:
            predicted = [model.predict(row) for row in some]
            axes.plot(densities, predicted, linestyle=":", color=look["color"], linewidth=1, label=f"predicted{said}")
    _mark_crossovers(axes, layers[label])
    _logarithmic(axes, "x", percent, "density: spikes for each input")
    clocks = {row.get("clock", "cpu") for row in layers[label]}
    _logarithmic(axes, "y", _seconds, f"{'wall' if clocks == {'wall'} else 'processor'} time for each sample")
    legend(axes)
    title(axes, label)
    return axes


def pareto_front(rows: Iterable[Row], cost: str = "spikes", *, ax: Axes | None = None) -> Axes:
    """Draw accuracy against what it costs: runs, means with 95 % intervals, and the settings that no other beats.

    Parameters
    ----------
    rows : iterable of dict
        Of :func:`eventsnn.study.tradeoff`; those of other studies are left out. Each data set has a front of its own.
    cost : {"spikes", "energy", "operations", "seconds"}
        For each sample.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If there are no such rows, or no such cost.
    """
    mine = _of(rows, "tradeoff")
    if cost not in _COSTS:
        raise ValueError(f"cost expects one of {', '.join(_COSTS)}, got {cost!r}")
    axes, best = new_axes(ax, (7.2, 3.8)), front(mine, cost)
    axes.plot(*_places(mine, cost), "o", color="#999999", markerfacecolor="none", markersize=3.5, label="run")
    points = means(mine)
    axes.plot(*_places(points, cost), "o", color=COLORS[0], markersize=5, label="mean of a setting")
    for i, dataset in enumerate(dict.fromkeys(row["dataset"] for row in best)):
        some = [row for row in best if row["dataset"] == dataset]
        look = line_style(i + 1) | {"drawstyle": "steps-post", "marker": _MARKERS[(i + 1) % len(_MARKERS)]}
        axes.errorbar(
            *_places(some, cost), yerr=_intervals(some), capsize=3, label=f"Pareto front: {short(dataset)}", **look
        )
    axes.set_ylabel("accuracy (%)")
    _logarithmic(
        axes, "x", lambda value: si(value, _COSTS[cost]), f"{cost if cost != 'seconds' else 'time'} for each sample"
    )
    legend(axes)
    settings = f"{len(points)} settings, {len(mine)} runs"
    title(axes, f"accuracy against {cost}: {settings}; bars: 95 % intervals of the mean over seeds")
    return axes


def cost_residuals(rows: Iterable[Row], model: CostModel | None = None, *, ax: Axes | None = None) -> Axes:
    """Draw by how much the predicted times are off, for layers that the fit has seen and for others.

    Parameters
    ----------
    rows : iterable of dict
        Of :func:`eventsnn.study.sparsity`; those of other studies are left out.
    model : CostModel, optional
        Default: :func:`eventsnn.study.cost.fit` of the rows.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If there are no rows to fit, or the model knows nothing of one's kind.
    """
    mine = _of(rows, "sparsity")
    model = model or fit(mine)
    axes = new_axes(ax, (7.2, 3.4))
    axes.axhspan(-25, 25, color="#f0f0f0", zorder=0, label="within 25 %")
    axes.axhline(0, color=INK, linewidth=0.8)
    for i, (held_out, name) in enumerate(((False, "fitted to"), (True, "not seen by the fit"))):
        some = [row for row in mine if row["held_out"] == held_out]
        errors = [100 * model.relative_error(row) for row in some]
        measured = [row["seconds"] for row in some]
        axes.plot(
            measured, errors, _MARKERS[i], color=COLORS[i], markersize=4, alpha=0.8, label=f"{name} ({len(some)})"
        )
    axes.set_ylabel("predicted beyond measured (%)")
    _logarithmic(axes, "x", _seconds, "measured time for each sample")
    legend(axes)
    unseen = (
        f"median error {percent(model.error.median)} on layers not seen"
        if model.error.rows
        else "no layer was held out"
    )
    title(axes, f"cost model: {unseen}, {percent(model.fit_error.median)} on those fitted to")
    return axes


def scaling(rows: Iterable[Row], axis: str | None = None, *, field: str = "seconds", ax: Axes | None = None) -> Axes:
    """Draw time or memory against what grows.

    Parameters
    ----------
    rows : iterable of dict
        Of :func:`eventsnn.study.scaling`; those of other studies are left out.
    axis : str, optional
        What grows: ``"size"``, ``"maps"``, ``"events"``, ``"threads"``, ``"devices"``. Default: the first of the rows.
    field : {"seconds", "memory"}
        What to draw.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If there are no such rows, no such axis or no such field.
    """
    units = {"seconds": ("s", "time for each sample"), "memory": ("B", "peak memory")}
    if field not in units:
        raise ValueError(f"field expects seconds or memory, got {field!r}")
    known = scaled(_of(rows, "scaling"))
    if (chosen := next(iter(known)) if axis is None else axis) not in known:
        raise ValueError(f"axis expects one of {', '.join(known)}, got {axis!r}")
    axes, (unit, label) = new_axes(ax, (6.2, 3.4)), units[field]
    for i, (name, some) in enumerate(known[chosen].items()):
        look = line_style(i) | {"marker": _MARKERS[i % len(_MARKERS)], "markersize": 5}
        axes.plot([row["value"] for row in some], [row[field] for row in some], label=name, **look)
    some = [row for group in known[chosen].values() for row in group]
    _logarithmic(axes, "x", lambda value: f"{value:,.0f}", chosen, ticks=sorted({row["value"] for row in some}))
    _logarithmic(axes, "y", lambda value: si(value, unit), label)
    if len(known[chosen]) > 1:
        legend(axes)
    title(axes, f"{label} against {chosen}" + (f" ({some[0]['clock']} time)" if field == "seconds" else ""))
    return axes


def spikes_by_layer(rows: Iterable[Row], network: str | None = None, *, ax: Axes | None = None) -> Axes:
    """Draw when each layer of a profile fires: spikes in each interval of time.

    Parameters
    ----------
    rows : iterable of dict
        Of ``Profile.rows()``; those of other studies are left out.
    network : str, optional
        Which one. Default: the first of the rows.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If there are no such rows, or no such network.
    """
    known = profiled(_of(rows, "profile"))
    if (chosen := next(iter(known)) if network is None else network) not in known:
        raise ValueError(f"network expects one of {', '.join(known)}, got {network!r}")
    axes = new_axes(ax, (7.2, 3.4))
    for i, row in enumerate(known[chosen]):
        label = f"{row['layer']}: {short(row['name'])}, {si(row['spikes'])}"
        axes.stairs(row["spikes_over_time"], row["times"], baseline=None, label=label, linewidth=1.5, **line_style(i))
    axes.set_ylim(0)
    axes.set_xlabel("time")
    axes.set_ylabel("spikes in each interval")
    legend(axes)
    title(axes, f"{chosen}: spikes of each layer over time, means of a sample, and how many in all")
    return axes


def _of(rows: Iterable[Row], study: str) -> list[Row]:
    if not (found := of_study(rows, study)):
        raise ValueError(f"expected rows of the study {study}, got none")
    return found


def _mark_crossovers(axes: Axes, rows: Sequence[Row]) -> None:
    known = {percent(found["density"]): found["density"] for found in crossovers(rows) if found["density"] is not None}
    for i, (text, density) in enumerate(known.items()):
        axes.axvline(density, color=INK, linestyle="-.", linewidth=0.8)
        place: dict[str, Any] = {"xytext": (3, -4 - 11 * i), "textcoords": "offset points", "va": "top"}
        axes.annotate(
            f"crossover {text}", (density, 1), xycoords=("data", "axes fraction"), fontsize=8, color=INK, **place
        )


def _places(rows: Sequence[Row], cost: str) -> tuple[list[float], list[float]]:
    return [row[cost] for row in rows], [100 * row["accuracy"] for row in rows]


def _intervals(rows: Sequence[Row]) -> np.ndarray:
    """Return how far each mean's interval reaches down and up, in percent."""
    ends = [(row["accuracy_low"], row["accuracy_high"]) for row in rows]
    reach = [
        (0, 0) if None in end else (row["accuracy"] - end[0], end[1] - row["accuracy"])
        for row, end in zip(rows, ends, strict=True)
    ]
    return 100 * np.array(reach).T


def _seconds(value: float) -> str:
    return si(value, "s")


def _logarithmic(
    axes: Axes, which: str, form: Callable[[float], str], label: str, ticks: Sequence[float] | None = None
) -> None:
    """Make an axis logarithmic, with ticks that read as the tables of a report do."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

    axis = getattr(axes, f"{which}axis")
    getattr(axes, f"set_{which}scale")("log")
    low, high = getattr(axes, f"get_{which}lim")()
    if high / low < _NARROWEST:
        low, high = math.sqrt(low * high / _NARROWEST), math.sqrt(low * high * _NARROWEST)
        getattr(axes, f"set_{which}lim")(low, high)
    subs = (1.0,) if math.log10(high / low) > 1.7 else (1.0, 2.0, 5.0)
    axis.set_major_locator(FixedLocator(list(ticks)) if ticks else LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: rounded(form(value))))
    axis.set_minor_formatter(NullFormatter())
    getattr(axes, f"set_{which}label")(label)
