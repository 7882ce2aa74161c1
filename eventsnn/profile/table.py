"""The table of a profile, for a terminal and for a notebook."""

from __future__ import annotations

import html as markup
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eventsnn.profile import Profile

_HEAD = (
    *("layer", "neurons", "spikes in", "spikes out", "active", "operations", "stopped", "dense MACs", "bytes moved"),
    *("time", "additions/s", "of peak", "energy", "dense energy"),
)
_PREFIXES = {1e12: "T", 1e9: "G", 1e6: "M", 1e3: "k", 1.0: "", 1e-3: "m", 1e-6: "µ", 1e-9: "n", 1e-12: "p"}


def text(profile: Profile) -> str:
    """Return the table in columns."""
    table = [_HEAD, *_body(profile)]
    widths = [max(len(row[i]) for row in table) for i in range(len(_HEAD))]
    lines = [_caption(profile)]
    for first, *rest in table:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def html(profile: Profile) -> str:
    """Return the table as an HTML element."""
    head, *body = ([markup.escape(cell) for cell in row] for row in (_HEAD, *_body(profile)))
    rows = ["<tr>" + "".join(_cell("th", i, cell) for i, cell in enumerate(head)) + "</tr>"]
    rows += ["<tr>" + "".join(_cell("td", i, cell) for i, cell in enumerate(row)) + "</tr>" for row in body]
    caption = f'<caption style="text-align:left">{markup.escape(_caption(profile))}</caption>'
    table = f"<table>{caption}<thead>{rows[0]}</thead><tbody>{''.join(rows[1:])}</tbody></table>"
    return f'<div style="overflow-x:auto">{table}</div>'


def _cell(tag: str, column: int, content: str) -> str:
    side = "right" if column else "left"
    return f'<{tag} style="padding:0.1em 0.6em;text-align:{side};white-space:nowrap">{content}</{tag}>'


def _caption(profile: Profile) -> str:
    costs = profile.costs
    dense = f"dense: {profile.steps} steps"
    energy = f"{costs.pj_per_operation:g} pJ an operation that is not stopped, {costs.pj_per_mac:g} pJ a MAC"
    times = "; ↑: in the time of the layer before" if any(layer.fused for layer in profile.layers) else ""
    return f"{profile.samples} samples, means of a sample; {dense}; {energy}{times}"


def _body(profile: Profile) -> list[tuple[str, ...]]:
    total, received = profile.total(), profile.inputs.mean() if profile.samples else 0.0
    sums = [number(total[name]) for name in ("spikes", "operations", "stopped", "macs")]
    ends = [number(total["bytes_moved"], "B"), number(total["seconds"], "s"), "", ""]
    energies = [number(total[name], "J") for name in ("energy", "dense_energy")]
    whole = ("all layers", "", number(received), sums[0], "", *sums[1:], *ends, *energies)
    return [*map(_line, profile.rows()), whole]


def _line(row: dict[str, Any]) -> tuple[str, ...]:
    rate, share, synapses = row["additions_per_second"], row["share_of_peak"], row["macs"] > 0
    return (
        f"{row['layer']} {row['name']}",
        str(row["neurons"]),
        number(row["inputs"]),
        number(row["spikes"]),
        f"{row['active']:.2%}",
        *(number(row[name]) if synapses else "" for name in ("operations", "stopped", "macs")),
        number(row["bytes_moved"], "B"),
        "↑" if row["fused"] else number(row["seconds"], "s"),
        "" if rate is None else number(rate),
        "" if share is None else f"{share:.0%}",
        *(number(row[name], "J") if synapses else "" for name in ("energy", "dense_energy")),
    )


def number(value: float, unit: str = "") -> str:
    """Return a number with four digits at most and a prefix: ``1.234 M``, ``45.6 µs``; without unit from 10,000 on."""
    value = float(f"{value:.4g}")
    plain = not value or (not unit and abs(value) < 1e4)
    scale = 1 if plain else next((s for s in _PREFIXES if abs(value) >= s), 1e-12)
    return f"{value / scale:.4g} {_PREFIXES[scale]}{unit}".rstrip()
