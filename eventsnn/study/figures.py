"""Figures of studies for a page: values as plotly's JavaScript takes them, made without plotly's Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eventsnn.colors import COLORS
from eventsnn.study.pareto import front, means
from eventsnn.study.series import Row, by_layer, curves, grouped, scaled, setting_label
from eventsnn.study.units import percent, rounded, si

if TYPE_CHECKING:
    from eventsnn.study.cost import CostModel

Figure = dict[str, Any]
Format = Callable[[float], str]

_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")
_DASHES = ("solid", "dash", "dot", "dashdot")
_DECADES = 1.7  # of a logarithmic axis, from which on only powers of ten have a text
_NARROW = 0.8  # decades, below which ticks are evenly apart


def seconds(value: float) -> str:
    """Return a time for people."""
    return si(value, "s")


def joules(value: float) -> str:
    """Return an energy for people."""
    return si(value, "J")


def bytes_(value: float) -> str:
    """Return an amount of memory for people."""
    return si(value, "B")


def time_against_density(rows: Sequence[Row], model: CostModel | None, crossings: Sequence[Row]) -> dict[str, Figure]:
    """Return a figure for each layer of a sparsity study: both sides, what the model predicts, where they cross.

    A layer that was run in more ways than one figure can show has several.
    """
    return {label: _density(some, model, _crossings_of(some, crossings)) for label, some in by_layer(rows).items()}


def predictions(rows: Sequence[Row], model: CostModel) -> Figure:
    """Return predicted against measured times, with the layers apart that the fit has not seen."""
    traces = []
    for i, (held_out, name) in enumerate(((False, "fitted to"), (True, "not seen by the fit"))):
        some = [row for row in rows if row["held_out"] == held_out]
        predicted = [model.predict(row) for row in some]
        texts = [
            f"{row['layer']} on {row['shape']}<br>density {percent(row['density'])}, batch {row['batch']}, "
            f"{row['threads']} threads<br>{seconds(row['seconds'])} measured, {seconds(p)} predicted"
            for row, p in zip(some, predicted, strict=True)
        ]
        measured = [row["seconds"] for row in some]
        traces.append(_points(measured, predicted, texts, f"{name} ({len(some)})", i) | {"opacity": 0.75})
    every = [value for trace in traces for value in (*trace["x"], *trace["y"]) if value > 0]
    ends = [min(every), max(every)]
    band = [_line(ends, [factor * end for end in ends], "±25 %", 0, dash="dot") for factor in (0.75, 1.25)]
    equal = _line(ends, ends, "equal", 0)
    for line in (equal, *band):
        line["line"] |= {"color": "#888", "width": 1}
        line |= {"mode": "lines", "hoverinfo": "skip", "showlegend": line is not band[0]}
    x, y = _axis("measured", every, seconds, log=True), _axis("predicted", every, seconds, log=True)
    return _figure([equal, *band, *traces], x, y, height=440)


def accuracy_against(rows: Sequence[Row], cost: str, name: str, form: Format) -> dict[str, Figure]:
    """Return a figure for each data set: all runs of a tradeoff study, means with intervals, and their Pareto front."""
    return {dataset[0]: _accuracy(some, cost, name, form) for dataset, some in grouped(rows, ("dataset",)).items()}


def scaling(rows: Sequence[Row], field: str, name: str, form: Format) -> dict[str, Figure]:
    """Return a figure for each axis of a scaling study that has the field."""
    found = {}
    for axis, lines in scaled([row for row in rows if row.get(field) is not None]).items():
        values = [row["value"] for some in lines.values() for row in some]
        numbers = all(isinstance(value, int | float) and value > 0 for value in values)
        traces = []
        for i, (label, some) in enumerate(lines.items()):
            x, y = ([row["value"] if numbers else str(row["value"]) for row in some], [row[field] for row in some])
            texts = [
                f"{row['layer']} on {row.get('shape')}<br>{axis} {row['value']}: {form(row[field])}" for row in some
            ]
            traces.append(_points(x, y, texts, label or axis, i) | {"mode": "lines+markers"})
        ticks = _at_values(axis, values) if numbers else {"title": {"text": axis}, "type": "category"}
        found[axis] = _figure(traces, ticks, _axis(name, _of(traces, "y"), form, log=True))
    return found


def operations_of_layers(rows: Sequence[Row]) -> Figure:
    """Return bars of what each layer of a profile does, beside the same layer computed densely."""
    some = [row for row in rows if row["macs"]]
    names = [f"{row['layer']}: {_cut(row['name'])}" for row in some]
    done = [row["operations"] - row["stopped"] for row in some]
    kinds = (
        ("operations", done, ""),
        ("stopped: too late to count", [row["stopped"] for row in some], "/"),
        ("dense multiply-accumulates", [row["macs"] for row in some], "x"),
    )
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": names,
            "x": [value or None for value in values],
            "text": [si(value) for value in values],
            "textposition": "auto",
            "hovertemplate": f"%{{y}}<br>{name}: %{{text}}<extra></extra>",
            "marker": {"color": COLORS[i], "pattern": {"shape": pattern, "fillmode": "overlay", "size": 5}},
        }
        for i, (name, values, pattern) in enumerate(kinds)
    ]
    every = [value for _, values, _ in kinds for value in values if value]
    x = _axis("for each sample", every, si, log=True)
    y = {"autorange": "reversed", "automargin": True, "type": "category"}
    return _figure(traces, x, y, height=110 + 90 * len(some))


def spikes_over_time(rows: Sequence[Row]) -> Figure:
    """Return when the layers of a profile fire."""
    traces = []
    for i, row in enumerate(rows):
        times, counts = row["times"], row["spikes_over_time"]
        line = _line(
            [*times[:-1], times[-1]], [*counts, counts[-1] if counts else 0], f"{row['layer']}: {_cut(row['name'])}", i
        )
        line["line"] |= {"shape": "hv"}
        traces.append(line | {"mode": "lines", "hovertemplate": "time %{x}: %{y:.3~s} spikes<extra></extra>"})
    return _figure(
        traces, {"title": {"text": "time"}}, {"title": {"text": "spikes in each interval"}, "rangemode": "tozero"}
    )


def _density(rows: Sequence[Row], model: CostModel | None, crossings: Sequence[Row]) -> Figure:
    traces = []
    for i, (name, some) in enumerate(curves(rows).items()):
        x, said = [row["density"] for row in some], f", {name}" if name else ""
        for field, side in (("seconds", "event-driven"), ("dense_seconds", "dense")):
            texts = [f"{side}{said}<br>density {percent(row['density'])}: {seconds(row[field])}" for row in some]
            line = _points(x, [row[field] for row in some], texts, side + said, i)
            line |= {"mode": "lines+markers", "line": {"color": COLORS[i % 6], "width": 2}}
            if side == "dense":
                line["line"]["dash"] = "dash"
                line["marker"]["symbol"] += "-open"
            traces.append(line)
        if model is not None:
            predicted = _line(x, [model.predict(row) for row in some], f"predicted{said}", i, dash="dot")
            predicted["line"]["width"] = 1
            traces.append(predicted | {"mode": "lines", "hoverinfo": "skip", "showlegend": i == 0})
    xs, ys = (_of(traces, axis) for axis in "xy")
    traces += [_crossing(crossing, ys, i) for i, crossing in enumerate(crossings)]
    x_axis = _axis("density: spikes for each input", xs, percent, log=True)
    return _figure(traces, x_axis, _axis("time for each sample", ys, seconds, log=True), height=440)


def _crossing(crossing: Row, ys: Sequence[float], number: int) -> Figure:
    density = crossing["density"]
    line = _line([density, density], [min(ys), max(ys)], "crossover", number, dash="dashdot")
    text = {"text": ["", f"crossover {percent(density)}"], "textposition": "top center"}
    line["line"] |= {"color": "#888", "width": 1}
    return line | text | {"mode": "lines+text", "hoverinfo": "skip", "showlegend": False, "cliponaxis": False}


def _crossings_of(rows: Sequence[Row], crossings: Sequence[Row]) -> list[Row]:
    names = ("network", "layer", "pool", "shape", "source", "backend", "threads", "batch", "dense")
    wanted = set(grouped(rows, names))
    mine = [c for c in crossings if c["density"] and tuple(c.get(name) for name in names) in wanted]
    return list({percent(crossing["density"]): crossing for crossing in mine}.values())


def _accuracy(rows: Sequence[Row], cost: str, name: str, form: Format) -> Figure:
    points, best = means(rows), front(rows, cost)
    runs = [row for row in rows if row.get(cost) is not None]
    texts = [
        f"{setting_label(row)}<br>seed {row.get('seed')}: {percent(row['accuracy'])}, {form(row[cost])}" for row in runs
    ]
    every = _points([row[cost] for row in runs], [row["accuracy"] for row in runs], texts, "runs", 5)
    every["marker"] |= {"size": 6, "symbol": "circle-open"}
    traces = [every]
    for i, (label, some) in enumerate((("means of settings", points), ("Pareto front", best))):
        x, y = [row[cost] for row in some], [row["accuracy"] for row in some]
        traces.append(_points(x, y, [_said(row, cost, form) for row in some], label, i) | _interval(some))
    traces[2] |= {"mode": "lines+markers", "line": {"color": COLORS[1], "width": 2, "shape": "hv"}}
    traces[2]["marker"] |= {"size": 10}
    low, high = (end(row["accuracy"] for row in runs) for end in (min, max))
    room = 0.1 * (high - low) + 0.002
    share = {"title": {"text": "accuracy"}, "tickformat": ".3~%", "range": [low - room, high + room]}
    return _figure(traces, _axis(name, [row[cost] for row in runs], form, log=True), share, height=440)


def _said(row: Row, cost: str, form: Format) -> str:
    return f"{setting_label(row)}<br>{interval_text(row)} of {row['seeds']} seeds<br>{form(row[cost])}"


def interval_text(row: Row) -> str:
    """Return a mean accuracy with its 95 % interval, as far as there is one."""
    if row["accuracy_low"] is None:
        return percent(row["accuracy"])
    low, high = max(row["accuracy_low"], 0.0), min(row["accuracy_high"], 1.0)  # of few seeds it may reach further
    return f"{percent(row['accuracy'])} ({percent(low)} to {percent(high)})"


def _interval(rows: Sequence[Row]) -> Figure:
    up = [0 if row["accuracy_high"] is None else row["accuracy_high"] - row["accuracy"] for row in rows]
    return {"error_y": {"type": "data", "array": up, "thickness": 1.2, "width": 3, "visible": any(up)}}


# What figures are made of


def _points(x: Sequence[Any], y: Sequence[Any], texts: Sequence[str], name: str, number: int) -> Figure:
    marker = {"color": COLORS[number % len(COLORS)], "symbol": _SYMBOLS[number % len(_SYMBOLS)], "size": 8}
    hover = {"text": list(texts), "hovertemplate": "%{text}<extra></extra>"}
    return {"type": "scatter", "mode": "markers", "name": name, "x": list(x), "y": list(y), "marker": marker} | hover


def _line(x: Sequence[Any], y: Sequence[Any], name: str, number: int, dash: str | None = None) -> Figure:
    chosen = dash or _DASHES[number // len(COLORS) % len(_DASHES)]
    line = {"color": COLORS[number % len(COLORS)], "dash": chosen, "width": 2}
    return {"type": "scatter", "name": name, "x": list(x), "y": list(y), "line": line}


def _of(traces: Iterable[Mapping[str, Any]], axis: str) -> list[Any]:
    return [value for trace in traces for value in trace[axis]]


def _axis(name: str, values: Sequence[float], form: Format, *, log: bool = False) -> Figure:
    """Return an axis whose ticks read as the tables do."""
    positive = [value for value in values if value > 0]
    if not log or not positive:
        return {"title": {"text": name}}
    low, high = math.log10(min(positive)), math.log10(max(positive))
    room = 0.06 * max(high - low, 0.8)
    ticks = _ticks(low - room, high + room)
    shown = {"tickmode": "array", "tickvals": ticks, "ticktext": [rounded(form(tick)) for tick in ticks]}
    return {"title": {"text": name}, "type": "log", "range": [low - room, high + room], "automargin": True, **shown}


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers around two powers of ten: evenly, or 1, 2, 5, or only powers of ten or of a thousand."""
    span = high - low
    if span < _NARROW:
        step = _nice((10**high - 10**low) / 3)
        return [step * i for i in range(math.ceil(10**low / step), math.floor(10**high / step) + 1)]
    steps = (1, 2, 5) if span < _DECADES else (1,)
    every = 1 if span < 7 else 3
    powers = range(math.floor(low) - 1, math.ceil(high) + 1)
    return [step * 10.0**power for power in powers if power % every == 0 for step in steps]


def _nice(step: float) -> float:
    """Return 1, 2 or 5 times a power of ten, at most so large."""
    power = 10.0 ** math.floor(math.log10(step))
    return float(max(factor for factor in (1, 2, 5) if factor * power <= step * 1.0001) * power)


def _at_values(name: str, values: Sequence[float]) -> Figure:
    """Return an axis with ticks at the values themselves."""
    ticks = sorted(set(values))
    low, high = math.log10(ticks[0]), math.log10(ticks[-1])
    room = 0.08 * max(high - low, 0.3)
    shown = {"tickmode": "array", "tickvals": ticks, "ticktext": [f"{tick:,g}" for tick in ticks]}
    return {"title": {"text": name}, "type": "log", "range": [low - room, high + room], **shown}


def _figure(traces: Sequence[Figure], x: Figure, y: Figure, height: int = 380) -> Figure:
    return {"data": list(traces), "layout": {"xaxis": x, "yaxis": y, "height": height}}


def _cut(name: str) -> str:
    return name if len(name) <= 28 else name[:27] + "\N{HORIZONTAL ELLIPSIS}"
