"""The runs of a study, one after another: those that a file has already are not repeated, and each is kept at once."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eventsnn.environment import environment
from eventsnn.study.results import Row, read, write
from eventsnn.targets import check_target

Progress = Callable[[int, int, str], object]
Say = Callable[[str], object]

_EVERY = 1.0  # seconds between two writings of the file


@dataclass(frozen=True)
class Run:
    """What one run is, as JSON values, and what measures it."""

    config: dict[str, Any]
    measure: Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Course:
    """How runs go: where rows are kept, who is told, and by which command.

    Parameters
    ----------
    out : path, optional
        File of the rows, see :func:`eventsnn.study.results.write`.
    resume : bool
        Keep the rows that are there, and do not repeat their runs.
    progress : callable, optional
        Called with (done, total, phase).
    say : callable, optional
        Called with lines for people.
    command : str, optional
        Stored with each row.
    """

    out: str | os.PathLike[str] | None = None
    resume: bool = False
    progress: Progress | None = None
    say: Say | None = None
    command: str | None = None


def identity(study: str, config: dict[str, Any]) -> str:
    """Return a short name for the run of a configuration, the same wherever it is asked for."""
    text = json.dumps([study, config], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def carry_out(study: str, seed: int, runs: Sequence[Run], course: Course) -> list[Row]:
    """Measure what has not been measured, and return all rows: those that were there first, then the new ones.

    Raises
    ------
    ValueError
        If ``course.out`` is there and shall not be resumed, holds the rows of another study, or cannot be written.
    OSError
        If it cannot be written.
    """
    rows = _earlier(study, course)
    known = {row["run"] for row in rows}
    circumstances, written = environment(), time.monotonic()
    try:
        for done, run in enumerate(runs):
            if course.progress is not None:
                course.progress(done, len(runs), study)
            name = identity(study, run.config)
            if name in known:
                continue
            common = {"study": study, "run": name, "seed": seed, "config": run.config}
            measured = run.measure()
            rows.append({**common, **measured, "environment": circumstances, "command": course.command})
            if time.monotonic() - written > _EVERY:
                _keep(rows, course)
                written = time.monotonic()
        if course.progress is not None:
            course.progress(len(runs), len(runs), study)
    finally:
        _keep(rows, course)
    return rows


def _keep(rows: list[Row], course: Course) -> None:
    if course.out is not None and rows:
        write(course.out, rows)


def _earlier(study: str, course: Course) -> list[Row]:
    if course.out is None:
        return []
    check_target(course.out)
    if not Path(course.out).exists():
        return []
    if not course.resume:
        raise ValueError(f"{course.out} is there already; --resume (resume=True) adds the runs that it lacks")
    rows = read(course.out)
    for row in rows:
        if row["study"] != study or "run" not in row:
            raise ValueError(f"{course.out} expects rows of the study {study!r}, found {row['study']!r}")
    return rows
