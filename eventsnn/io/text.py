"""Events in text (``.csv``, ``.txt``): a line of numbers for each, separated by spaces, tabs, commas or semicolons.

A first line of two numbers is width and height (e2vid, ESIM); a line of names says what the columns are; without one,
four columns are taken for ``t, x, y, p``. Lines that begin with ``#`` or ``%`` are passed over. Times are seconds if
one near the beginning has a point or an exponent, otherwise microseconds, unless a unit is given. Nothing is turned;
polarities of -1 become 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from eventsnn.io._columns import NO_TIME, Unit, check_letters, check_unit, letters_of
from eventsnn.io.chunk import Columns, Rows
from eventsnn.io.recording import OUTSIDE, EventFileError, Recording, Tally

_EXAMINED = 1 << 16  # bytes, and lines of numbers at most:
_LINES = 256
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|true|false", re.IGNORECASE)
_POWER = {"ns": -3, "us": 0, "ms": 3, "s": 6}
_BOM = b"\xef\xbb\xbf"
_ERRORS = (
    "expected a line of as many numbers as the first one",
    "expected whole numbers as coordinates; is the order of columns another?",
    "expected a polarity of -1, 0 or 1; is the order of columns another?",
    "expected lines of at most 4096 bytes",
)


@dataclass(frozen=True)
class _Head:
    """What a file's first lines say: size, names of columns, where the numbers begin, and the first of them."""

    sensor: tuple[int, int] | None
    letters: str | None
    begin: int
    rows: tuple[tuple[str, ...], ...]


def recognize(path: Path, start: bytes) -> bool:
    """Tell whether the first lines are text: names of columns or numbers, and numbers of the same count after them."""
    found = _head(start)
    return found is not None and (found.letters is not None or (bool(found.rows) and len(found.rows[0]) >= 4))


def open_text(path: str | Path, *, columns: str | None = None, unit: Unit | None = None) -> Recording:
    """Read the first lines of a file of events in text.

    Parameters
    ----------
    path : str or Path
        The file.
    columns : str, optional
        What the columns are, as ``"xytp"``; ``_`` for what is no event. Default: what a line of names says, or
        ``txyp``.
    unit : {"ns", "us", "ms", "s"}, optional
        What times count. Default: seconds if one of the first has a point or an exponent, otherwise microseconds.

    Returns
    -------
    Recording
        See :meth:`Recording.adjusted` for another orientation.

    Raises
    ------
    EventFileError
        If the lines are none of events, or times run backward, so that the order of columns is probably another.
    ValueError
        If ``columns`` or ``unit`` does not fit.
    """
    file = Path(path).absolute()
    check_unit(unit)
    with file.open("rb") as stream:
        head = _head(stream.read(_EXAMINED))
    if head is None:
        raise EventFileError("expected lines of numbers as text", file, 0)
    width = len(head.rows[0]) if head.rows else None
    order = columns or head.letters or "txyp"
    if columns is not None:
        check_letters(columns, width)
    elif width not in (None, len(order)):
        reason = f"expected the columns {', '.join(order)}, found {width} numbers; columns= says what they are"
        raise EventFileError(reason, file, head.begin)
    times = [row[order.index("t")] for row in head.rows]
    if columns is None and head.letters is None:
        _check_times(times, head.begin, file)
    power = _POWER[unit or ("s" if any(re.search(r"[.eE]", time) for time in times) else "us")]
    state = (*(order.index(k) for k in "txyp"), len(order), power)
    decode = partial(_decode, file, head.begin, state)
    return Recording(file, "text", head.sensor, decode, into=decode)


def _head(start: bytes) -> _Head | None:
    """Return what the first lines say, None if they are none of events."""
    if b"\0" in start:
        return None
    sensor: tuple[int, int] | None = None
    letters: str | None = None
    rows: list[tuple[str, ...]] = []
    place = begin = len(_BOM) if start.startswith(_BOM) else 0
    lines = start[place:].splitlines(keepends=True)
    if len(lines) > 1 and not start.endswith(b"\n"):
        lines.pop()  # which may be cut
    for raw in lines:
        place += len(raw)
        line = raw.decode("latin-1").strip()
        if not line.isascii() or re.search(r"[^\x20-\x7e\t]", line):
            return None
        if not line:
            continue
        if line[0] in "#%":
            letters = letters or _names(line[1:])
            continue
        fields = tuple(part for part in re.split(r"[\s,;]+", line) if part)
        if all(_NUMBER.fullmatch(part) for part in fields):
            if not rows and sensor is None and len(fields) == 2 and all(part.isdigit() for part in fields):
                sensor, begin = (int(fields[0]), int(fields[1])), place
            elif rows and len(fields) != len(rows[0]):
                return None
            else:
                rows.append(fields)
        elif rows or (letters := letters or _names(line)) is None:
            return None
        else:
            begin = place
        if len(rows) == _LINES:
            break
    return _Head(sensor, letters, begin, tuple(rows))


def _names(line: str) -> str | None:
    """Return what the columns that a line names are, None if they are none of events."""
    parts = re.split(r"[,;]" if "," in line or ";" in line else r"\s+", line.strip())
    letters = letters_of(parts)
    return letters if sorted(letters.replace("_", "")) == sorted("txyp") else None


def _check_times(texts: list[str], place: int, path: Path) -> None:
    """Refuse what is taken for times if it runs backward as often as coordinates do."""
    times = [float(text) for text in texts if not text.isalpha()]
    backward = sum(after < before for before, after in pairwise(times))
    if 3 * backward > len(times):
        reason = "expected times in the first column, which run forward; columns= names another order"
        raise EventFileError(reason, path, place)


def _decode(
    path: Path, offset: int, state: tuple[int, ...], size: int, tally: Tally, rows: Rows | None = None
) -> Iterator[Any]:
    from eventsnn.io import _text_kernel
    from eventsnn.io._records import RecordDecoder, decode_records

    decoder = RecordDecoder(
        _text_kernel.text, _text_kernel.LONGEST, state, (OUTSIDE, NO_TIME), errors=_ERRORS, final=b"\n"
    )
    with path.open("rb", buffering=0) as stream:
        stream.seek(offset)
        yield from decode_records(stream, decoder, rows or Columns(size), tally)
