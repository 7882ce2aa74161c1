"""Results of studies: a file of JSON lines, one for each run, which ``pandas.read_json(path, lines=True)`` reads."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from eventsnn.targets import replace_file

Row = dict[str, Any]


def write(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as a file of JSON lines, by rename: a kill leaves the old file or the new one.

    Parameters
    ----------
    path : path
    rows : iterable of mapping
        Of JSON values. Numbers that are not finite are refused, since no two programs read them alike.

    Raises
    ------
    ValueError
        If a value is no JSON.
    OSError
        If the file cannot be written.
    """
    text = "".join(json.dumps(dict(row), allow_nan=False) + "\n" for row in rows)
    replace_file(path, text.encode())


def read(path: str | os.PathLike[str]) -> list[Row]:
    """Return the rows of a file that a study wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not one; the message names the file and the line.
    """
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    return [_row(path, number, line) for number, line in enumerate(lines, start=1)]


def _row(path: str | os.PathLike[str], number: int, line: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict) or not isinstance(row.get("study"), str):
        raise ValueError(f"{path}: line {number} expects a JSON object with the key 'study', got {line[:60]!r}")
    return row
