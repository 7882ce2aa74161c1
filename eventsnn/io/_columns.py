"""From columns of any numbers, under any of their usual names, to a chunk."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np

from eventsnn.io.recording import OUTSIDE, Chunk, EventFileError, Tally

#: What times count: nanoseconds, microseconds, milliseconds or seconds.
Unit = Literal["ns", "us", "ms", "s"]

NO_TIME = "events without a time that can be"
PER_UNIT = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6}
LATEST = 1 << 62  # microseconds
_NAMES = {
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps", "t_us", "time_us", "timestamp_us"),
    "x": ("x", "xs", "x_pos", "col", "column"),
    "y": ("y", "ys", "y_pos", "row"),
    "p": ("p", "ps", "pol", "polarity", "polarities", "on"),
}
_LETTER = {name: letter for letter, names in _NAMES.items() for name in names}


def letters_of(names: Iterable[str]) -> str:
    """Return ``t``, ``x``, ``y`` or ``p`` for each name of a column that stands for it, ``_`` for the others."""
    return "".join(_LETTER.get(name.strip().strip("\"'").lower(), "_") for name in names)


def check_letters(columns: str, width: int | None = None) -> None:
    """Refuse an order of columns that does not have each of t, x, y and p once.

    Raises
    ------
    ValueError
        If it has not, or is not as long as there are columns.
    """
    if sorted(columns.replace("_", "")) != sorted("txyp") or width not in (None, len(columns)):
        found = "" if width is None else f" for {width} columns"
        raise ValueError(
            f"columns expects each of t, x, y and p once, and _ for what is no event; got {columns!r}{found}"
        )


def check_unit(unit: str | None) -> None:
    """Refuse a unit that is none.

    Raises
    ------
    ValueError
        If it is not one of ``ns, us, ms, s``.
    """
    if unit is not None and unit not in PER_UNIT:
        raise ValueError(f"unit expects one of {', '.join(PER_UNIT)}, got {unit!r}")


def chunk_of(columns: dict[str, np.ndarray], unit: str | None, tally: Tally) -> Chunk:
    """Return the events that columns t, x, y, p make; times of floats are seconds if nothing is said.

    Raises
    ------
    EventFileError
        If coordinates are not whole or polarities not -1, 0 or 1: the columns are others than they are taken for.
    """
    t, x, y, p = (columns[name] for name in ("t", "x", "y", "p"))
    for name, column in (("x", x), ("y", y)):
        if column.dtype.kind == "f" and (wrong := column[np.isfinite(column) & (column != np.rint(column))]).size:
            raise EventFileError(f"expected whole numbers in column {name}, found {wrong[0]}; is the order another?")
    if not _are_polarities(p) and (wrong := p[(p != 0) & (np.abs(p.astype(np.float32)) != 1)]).size:
        raise EventFileError(f"expected polarities of -1, 0 or 1, found {wrong[0]}; is the order of columns another?")
    per_unit = PER_UNIT[unit or ("s" if t.dtype.kind == "f" else "us")]
    times, sound = (
        times_of_floats(t, tally, per_unit) if t.dtype.kind == "f" else _times_of_integers(t, tally, per_unit)
    )
    x, y, p = x[sound], y[sound], p[sound]
    if not (_are_places(x) and _are_places(y)):
        inside = (x >= 0) & (x < 1 << 16) & (y >= 0) & (y < 1 << 16)
        tally.drop(OUTSIDE, len(inside) - int(np.count_nonzero(inside)))
        times, x, y, p = times[inside], x[inside], y[inside], p[inside]
    return Chunk(times, x.astype(np.uint16), y.astype(np.uint16), (p > 0).view(np.uint8))


def _are_polarities(p: np.ndarray) -> bool:
    """Tell, of integers, whether all are -1, 0 or 1: the least and the greatest say it."""
    return p.dtype.kind == "b" or (p.dtype.kind != "f" and (not len(p) or bool(p.min() >= -1 and p.max() <= 1)))


def _are_places(column: np.ndarray) -> bool:
    """Tell whether all are coordinates that 16 bits hold."""
    if not len(column) or column.dtype in (np.uint8, np.uint16):
        return True
    return bool(column.min() >= 0 and column.max() < 1 << 16)


def times_of_floats(t: np.ndarray, tally: Tally, per_unit: float = 1e6) -> tuple[np.ndarray, np.ndarray | slice]:
    """Return microseconds of the times that are numbers, rounded, and which these are; count the others."""
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = t.astype(np.float64) * per_unit
        sound = np.abs(scaled) < LATEST
    tally.drop(NO_TIME, len(sound) - int(np.count_nonzero(sound)))
    return np.rint(scaled[sound]).astype(np.int64), sound


def _times_of_integers(t: np.ndarray, tally: Tally, per_unit: float) -> tuple[np.ndarray, np.ndarray | slice]:
    factor = max(1, int(per_unit))
    most = LATEST // factor
    sound: np.ndarray | slice = slice(None)
    if t.dtype.itemsize == 8 and len(t) and not -most <= int(t.min()) <= int(t.max()) < most:
        sound = (t < most) & (t >= -most) if t.dtype.kind == "i" else t < most
        tally.drop(NO_TIME, len(t) - int(np.count_nonzero(sound)))
    times = t[sound].astype(np.int64)
    return (times // 1000 if per_unit < 1 else times * factor if factor > 1 else times), sound
