"""Text and tables as HTML, for notebooks and pages."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

_NUMBER = re.compile(r"[-−]?\d[\d,.]*(e[-+]?\d+)?( [^\s\d]{1,4})?")
_CELL = "text-align:left;padding:.15em .7em .15em 0;vertical-align:top"


def escape(value: Any) -> str:
    """Return a value as text of a page, whatever it holds."""
    return html.escape(str(value), quote=True)


def table(header: Sequence[Any], rows: Iterable[Sequence[Any]], *, classes: str = "") -> str:
    """Return a table.

    Cells that are numbers, perhaps with a unit, have the class ``n``, for digits below each other.

    Parameters
    ----------
    header : sequence
        Names of the columns.
    rows : iterable of sequence
        Cells; None is an empty one.
    classes : str
        Of the table.
    """
    head = "".join(f"<th scope=col>{escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f'<table class="{escape(classes)}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def facts(title: str, known: Iterable[tuple[str, Any]], more: str = "") -> str:
    """Return a heading and names with their values, as notebooks show an object.

    Parameters
    ----------
    title : str
        The heading.
    known : iterable of (str, object)
        Those that are None are left out.
    more : str
        HTML to put below.
    """
    rows = [
        f'<tr><th scope=row style="{_CELL}">{escape(name)}</th><td style="{_CELL}">{escape(value)}</td></tr>'
        for name, value in known
        if value is not None
    ]
    return f"<div><strong>{escape(title)}</strong><table>{''.join(rows)}</table>{more}</div>"


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    return f"<td class=n>{escape(text)}</td>" if _NUMBER.fullmatch(text) else f"<td>{escape(text)}</td>"
