"""Text and tables as HTML, for notebooks and pages."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

_NUMBER = re.compile(r"[-−]?\d[\d,.]*(e[-+]?\d+)?( [^\s\d]{1,4})?")


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


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    return f"<td class=n>{escape(text)}</td>" if _NUMBER.fullmatch(text) else f"<td>{escape(text)}</td>"
