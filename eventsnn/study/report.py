"""A report of studies: one HTML page that needs nothing else, with tables, figures, environment and command."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

from eventsnn import __version__
from eventsnn.markup import escape, table
from eventsnn.study.sections import Section, sections
from eventsnn.study.series import Row
from eventsnn.targets import replace_file

_TITLES = {"sparsity": "sparsity", "tradeoff": "accuracy and cost", "scaling": "scaling", "profile": "profile"}


def check() -> None:
    """Find out, before a study runs, whether a report can be written.

    Raises
    ------
    ModuleNotFoundError
        If plotly is missing; the message says how to install it.
    """
    if find_spec("plotly") is None:
        raise ModuleNotFoundError("a report expects plotly, which was not found: pip install 'eventsnn[report]'")


def report(
    rows: Iterable[Row], path: str | os.PathLike[str], *, command: str | None = None, title: str | None = None
) -> None:
    """Write a page about rows of studies, of one or several together.

    Its figures are drawn by plotly's JavaScript, which is part of the page: it asks for nothing from a network.

    Parameters
    ----------
    rows : iterable of dict
        As studies return them, and :func:`eventsnn.study.results.read` reads them.
    path : path
        The ``.html`` file to make or replace; it appears when it is complete.
    command : str, optional
        The command that made the report. Default: those that the rows name.
    title : str, optional
        Heading of the page. Default: by the studies.

    Raises
    ------
    ModuleNotFoundError
        If plotly is missing; see :func:`check`.
    ValueError
        If there are no rows, or one lacks what rows of its study have.
    OSError
        If the file cannot be written.
    """
    check()
    known = list(rows)
    if not known:
        raise ValueError("a report expects at least one row, got none")
    if any(not isinstance(row.get("study"), str) for row in known):
        raise ValueError("a report expects rows with the key 'study', found one without")
    replace_file(path, _page(known, command, title).encode())


def _page(rows: Sequence[Row], command: str | None, title: str | None) -> str:
    from plotly.offline import get_plotlyjs

    found = {row["study"] for row in rows}
    studies = [*(name for name in _TITLES if name in found), *sorted(found - {*_TITLES})]
    heading = title or "eventsnn: " + ", ".join(_TITLES.get(study, study) for study in studies)
    parts = sections(rows)
    commands = [command] if command else list(dict.fromkeys(row["command"] for row in rows if row.get("command")))
    environments = _distinct([row["environment"] for row in rows if row.get("environment")])
    body = "".join(
        [
            _header(heading, rows, environments, commands, parts),
            *map(_section, parts),
            _environment(environments),
            f"<footer>Made by eventsnn {escape(__version__)}. Figures are drawn by plotly, in this file.</footer>",
        ]
    )
    # No script of ours contains "</script"; plotly's is written to be embedded.
    scripts = "".join(f"<script>{text}</script>" for text in (get_plotlyjs(), _asset("report.js")))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(heading)}</title><link rel="icon" href="data:,"><style>{_asset("report.css")}</style></head>\n'
        f"<body>{body}<noscript><p>Figures need JavaScript; tables do not.</p></noscript>\n{scripts}</body></html>\n"
    )


def _asset(name: str) -> str:
    return files("eventsnn.study").joinpath(name).read_text(encoding="utf-8")


def _header(
    heading: str,
    rows: Sequence[Row],
    environments: Sequence[Mapping[str, Any]],
    commands: Sequence[str],
    parts: Sequence[Section],
) -> str:
    dates = sorted({str(known["date"]) for known in environments if "date" in known})
    machines = list(dict.fromkeys(str(known["processor"]) for known in environments if known.get("processor")))
    spans = [f"<span class=date>{escape(date)}</span>" for date in (dates[:1] + dates[-1:] if dates[1:] else dates)]
    where = f" on {', '.join(machines)}" if machines else ""
    links = "".join(f'<a href="#{escape(part.name)}">{escape(part.title)}</a>' for part in parts)
    shown = f"<pre><code>{escape(chr(10).join(commands))}</code></pre>" if commands else ""
    about = f"{len(rows):,} row{'s' * (len(rows) != 1)}{escape(where)}{', ' * bool(spans)}{' to '.join(spans)}"
    return (
        f"<header><h1>{escape(heading)}</h1><p class=lead>{about}</p>{shown}"
        f"<nav>{links}<a href=#environment>Environment</a></nav></header>"
    )


def _section(part: Section) -> str:
    known = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in part.facts)
    facts = f"<dl class=facts>{known}</dl>" if known else ""
    return f'<section id="{escape(part.name)}"><h2>{escape(part.title)}</h2>{facts}{"".join(part.parts)}</section>'


def _environment(environments: Sequence[Mapping[str, Any]]) -> str:
    """Return a table with a column for each environment that rows come from."""
    names = list(dict.fromkeys(name for known in environments for name in known))
    several = len(environments) > 1
    header = ["name", *(f"environment {i + 1}" if several else "value" for i in range(len(environments)))]
    cells = [[name, *(known.get(name) for known in environments)] for name in names]
    box = f'<div class=scroll tabindex=0 role=region aria-label="Environment">{table(header, cells)}</div>'
    return f"<section id=environment><h2>Environment</h2>{box if names else '<p>The rows do not say.</p>'}</section>"


def _distinct(environments: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for known in environments:
        if known not in found:
            found.append(known)
    return found
