"""What a report says of each study: sentences, figures and tables, as HTML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eventsnn.markup import escape, table
from eventsnn.profile import PICOJOULES, Costs
from eventsnn.study import figures
from eventsnn.study.cost import SIMPLE, CostModel, crossovers, fit
from eventsnn.study.pareto import front
from eventsnn.study.series import Row, layer_of, of_study, profiled, scaled, varying
from eventsnn.study.units import percent, si

_OMITTED = ("study", "config", "environment", "command", "times", "spikes_over_time")
_FORMS = {
    **dict.fromkeys(("seconds", "dense_seconds", "train_seconds"), figures.seconds),
    **dict.fromkeys(("energy", "dense_energy"), figures.joules),
    **dict.fromkeys(("density", "accuracy", "active", "share_of_peak", "silent"), percent),
    **dict.fromkeys(("memory", "bytes_moved"), figures.bytes_),
    **dict.fromkeys(("operations", "stopped", "macs", "additions", "additions_per_second"), si),
}


@dataclass
class Section:
    """A part of a report: a heading, numbers that stand out, and content with figures in it."""

    name: str
    title: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)

    def text(self, words: str) -> None:
        """Add a paragraph, if there are words."""
        self.parts += [f"<p>{escape(words)}</p>"] * bool(words)

    def figure(self, caption: str, choices: Mapping[str, figures.Figure]) -> None:
        """Add a figure, or several of which one is chosen."""
        if choices:
            name = f"{self.name}-{sum(part.startswith('<figure') for part in self.parts)}"
            self.parts.append(_figure(name, caption, choices))

    def table(
        self, caption: str, header: Sequence[str], rows: Sequence[Sequence[Any]], *, folded: bool = False
    ) -> None:
        """Add a table, which scrolls in a box of its own; a folded one is opened by a click."""
        box = f'<div class=scroll tabindex=0 role=region aria-label="{escape(caption)}">{table(header, rows)}</div>'
        if folded:
            self.parts.append(f"<details><summary>{escape(caption)}</summary>{box}</details>")
        else:
            self.parts.append(f"<h3>{escape(caption)}</h3>{box}")

    def runs(self, rows: Sequence[Row]) -> None:
        """Add a table of everything that rows hold, but for what is said elsewhere."""
        names = list(dict.fromkeys(name for row in rows for name in row if name not in _OMITTED))
        names = [name for name in names if any(row.get(name) is not None for row in rows)]
        cells = [[_cell(name, row.get(name)) for name in names] for row in rows]
        self.table(f"All {len(rows):,} rows", [name.replace("_", " ") for name in names], cells, folded=True)


def sections(rows: Sequence[Row]) -> list[Section]:
    """Return a section for each study that there are rows of; those of an unknown study are a table."""
    known = {"sparsity": _sparsity, "tradeoff": _tradeoff, "scaling": _scaling, "profile": _profile}
    found = []
    names = list(dict.fromkeys(row["study"] for row in rows))
    for number, study in enumerate([*(name for name in known if name in names), *(n for n in names if n not in known)]):
        mine = of_study(rows, study)
        section = known[study](mine) if study in known else Section(f"other-{number}", f"Study {study}")
        section.runs(mine)
        found.append(section)
    return found


def _sparsity(rows: Sequence[Row]) -> Section:
    section = Section("sparsity", "Time against density")
    crossings = crossovers(rows)
    model = fit(rows) if any(not row["held_out"] for row in rows) else None
    section.facts.append(("layers timed", str(len({(row["layer"], row.get("pool"), row["shape"]) for row in rows}))))
    densities = [c["density"] for c in crossings if c["density"]]
    if densities:
        section.facts.append(("crossover density", f"{percent(min(densities))} to {percent(max(densities))}"))
    section.text(
        "Processor time (with several threads, or on a GPU, wall time) of one layer for each sample, event-driven "
        "(solid, filled marks) and dense (dashed, open marks). At densities below the crossover the "
        "event-driven layer is quicker."
    )
    section.figure("Choose a layer; a point tells its numbers.", figures.time_against_density(rows, model, crossings))
    _add_crossovers(section, crossings)
    if model is not None:
        _add_model(section, rows, model)
    return section


def _add_crossovers(section: Section, crossings: Sequence[Row]) -> None:
    """Add where the two sides cross, for each network that has the layer; what is the same for all is said once."""
    how = {"source": "stimuli", "batch": "batch", "threads": "threads", "backend": "backend", "dense": "against"}
    differ = varying(crossings, how)
    each = [(name, c) for c in crossings for name in (c["network"] or "").split(", ")]
    each.sort(key=lambda pair: not pair[0])
    cells = [[name, *_crossing(c), layer_of(c), c["shape"], *(c.get(n) for n in differ)] for name, c in each]
    header = (*("network", "crossover density", "measured at", "layer", "input"), *(how[name] for name in differ))
    section.table("Crossovers", header, cells)
    same = [f"{how[name]} {crossings[0][name]}" for name in how if name not in differ and crossings[0].get(name)]
    section.text("Everywhere the same: " + ", ".join(same) + "." if same else "")


def _crossing(crossing: Row) -> tuple[str, str]:
    """Return the density, or which side always wins, and the densities that were measured."""
    measured = f"{percent(crossing['lowest'])} to {percent(crossing['highest'])}"
    if crossing["density"] is not None:
        return percent(crossing["density"]), measured
    return f"none: {'event-driven' if crossing['winner'] == 'events' else 'dense'} is quicker", measured


def _add_model(section: Section, rows: Sequence[Row], model: CostModel) -> None:
    known = [row for row in rows if _predictable(model, row)]
    section.figure("Each point is a run. The dotted lines are 25 % off.", {"": figures.predictions(known, model)})
    alone = fit(rows, SIMPLE)
    errors = (
        ("fitted to", model.fit_error),
        ("not seen by the fit", model.error),
        ("not seen, by operations and positions alone", alone.error),
    )
    cells = [
        [name, e.rows, percent(e.median), percent(e.most_of_them), percent(e.most)] for name, e in errors if e.rows
    ]
    header = ("layers", "runs", "median error", "9 of 10 within", "largest")
    section.table("Cost model: predicted against measured time", header, cells)
    if model.error.rows:
        section.facts.append(("median error of the cost model on unseen layers", percent(model.error.median)))
    kinds = [[*kind, *(figures.seconds(known[t]) for t in model.terms)] for kind, known in model.coefficients.items()]
    section.table("Coefficients, in seconds for each of", ("backend", "threads", "kernel", *model.terms), kinds)


def _predictable(model: CostModel, row: Row) -> bool:
    try:
        model.predict(row)
    except ValueError:  # of a kind that nothing was fitted for
        return False
    return True


def _tradeoff(rows: Sequence[Row]) -> Section:
    section = Section("tradeoff", "Accuracy against spikes and energy")
    best = max(front(rows), key=lambda row: row["accuracy"])
    section.facts += [
        ("best accuracy", figures.interval_text(best)),
        ("spikes for each sample then", si(best["spikes"])),
        ("energy for each sample then", figures.joules(best["energy"])),
    ]
    section.text(
        "Each open circle is a run. Means over seeds have 95 % intervals by Student's t. No setting is as accurate as "
        "one of the Pareto front at a lower cost."
    )
    section.text(_energies(rows))
    for cost, name, form in (
        ("spikes", "spikes for each sample", si),
        ("energy", "energy for each sample", figures.joules),
    ):
        section.figure(f"Accuracy against {cost}.", figures.accuracy_against(rows, cost, name, form))
    header = (
        "data",
        "model",
        "threshold",
        "bins",
        "winners",
        "inhibition",
        "accuracy, 95 % interval",
        "seeds",
        "spikes",
        "energy",
    )
    names = ("dataset", "model", "threshold", "bins", "winners", "inhibition")
    cells = [
        [
            *(_cell(n, row.get(n)) for n in names),
            figures.interval_text(row),
            row["seeds"],
            si(row["spikes"]),
            figures.joules(row["energy"]),
        ]
        for row in front(rows)
    ]
    section.table("Pareto front of accuracy and spikes", header, cells)
    return section


def _energies(rows: Sequence[Row]) -> str:
    """Return what energies are made of, where rows say it."""
    known = [tuple((row.get("config") or {}).get(name) for name in PICOJOULES) for row in rows]
    each = [
        f"{operation:g} pJ an operation that is not stopped (dense: {mac:g} pJ a multiply-accumulate)"
        for operation, mac in dict.fromkeys(known)
        if None not in (operation, mac)
    ]
    usual = " Horowitz 2014, 45 nm." if set(known) == {(Costs.pj_per_operation, Costs.pj_per_mac)} else ""
    return f"Energy: {'; '.join(each)}.{usual}" if each else ""


def _scaling(rows: Sequence[Row]) -> Section:
    section = Section("scaling", "Scaling")
    section.facts.append(("what grows", ", ".join(scaled(rows))))
    section.text("Processor time for each sample; wall time on GPUs, and where threads or devices share the work.")
    time = figures.scaling(rows, "seconds", "time for each sample", figures.seconds)
    memory = figures.scaling(rows, "memory", "peak memory", figures.bytes_)
    section.parts.append("<div class=pairs>")
    for axis in time:
        section.figure(f"Time against {axis}.", {"": time[axis]})
        section.figure(f"Memory against {axis}.", {"": memory[axis]} if axis in memory else {})
    section.parts.append("</div>")
    return section


def _profile(rows: Sequence[Row]) -> Section:
    section = Section("profile", "What each layer does")
    networks = profiled(rows)
    for network, layers in networks.items():
        done, macs = (sum(row["operations"] - row["stopped"] for row in layers), sum(row["macs"] for row in layers))
        said = f"{si(done)}, of {si(macs)} dense" + (f" ({percent(done / macs)})" if macs else "")
        section.facts.append((f"operations for each sample, {network}", said))
    with_synapses = {name: figures.operations_of_layers(layers) for name, layers in networks.items()}
    section.figure("Synaptic operations, and the same layers computed densely.", with_synapses)
    section.figure("When layers fire.", {name: figures.spikes_over_time(layers) for name, layers in networks.items()})
    names = [*("layer", "name", "spikes", "active", "operations", "stopped", "macs", "bytes_moved", "seconds")]
    names += ["additions_per_second", "share_of_peak", "energy", "dense_energy"]
    header = [name.replace("_", " ").replace("macs", "dense MACs") for name in names]
    for network, layers in networks.items():
        section.table(network, header, [[_cell(name, row.get(name)) for name in names] for row in layers])
    return section


def _figure(name: str, caption: str, choices: Mapping[str, figures.Figure]) -> str:
    data = json.dumps(choices, allow_nan=False).replace("<", "\\u003c")
    select = ""
    if len(choices) > 1:
        options = "".join(f"<option>{escape(choice)}</option>" for choice in choices)
        select = f'<label class=choose><span>Show</span> <select data-for="{escape(name)}">{options}</select></label>'
    elif (only := next(iter(choices))) != "":
        caption = f"{only}. {caption}"
    return (
        f'<figure>{select}<div class=plot id="{escape(name)}"></div><figcaption>{escape(caption)}</figcaption>'
        f'<script type="application/json" id="{escape(name)}-data">{data}</script></figure>'
    )


def _cell(name: str, value: Any) -> Any:
    """Return a value as a table shows it."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no"}.get(value, value)  # type: ignore[arg-type]
    if isinstance(value, list):
        return ", ".join(str(_cell(name, one)) for one in value)
    if isinstance(value, int | float):
        return _FORMS[name](value) if name in _FORMS else _number(value)
    return json.dumps(value) if isinstance(value, dict) else str(value)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 10_000 else f"{value:,.5g}"
