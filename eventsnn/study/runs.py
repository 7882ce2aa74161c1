"""The runs of a study that measures time: one after another, each kept at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from eventsnn.environment import environment
from eventsnn.study.keeping import Kept, alone, run_id
from eventsnn.study.results import Row

Progress = Callable[[int, int, str], object]
Say = Callable[[str], object]


@dataclass(frozen=True)
class Run:
    """What one run is, as JSON values, and what measures it."""

    config: dict[str, Any]
    measure: Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Course:
    """How the runs of a study go.

    Parameters
    ----------
    out : path, optional
        File of the rows, see :mod:`eventsnn.study.results`.
    resume : bool
        Whether to take the rows that are there.
    command : str, optional
        Stored with each row.
    progress : callable, optional
        Called with (done, total, phase).
    say : callable, optional
        Called with a line for people about each row.
    """

    out: str | os.PathLike[str] | None = None
    resume: bool = False
    command: str | None = None
    progress: Progress | None = None
    say: Say | None = None


def carry_out(study: str, seed: int, runs: Sequence[Run], course: Course, line: Callable[[Row], str]) -> list[Row]:
    """Measure what has not been measured yet, and return all rows in the order of the runs.

    Raises
    ------
    ValueError
        If there are no runs; or ``course.out`` is there and shall not be continued, or has rows that are none of these
        runs.
    OSError
        If it cannot be written.
    """
    if not runs:
        raise ValueError(f"the study {study} expects at least one run, its settings leave none")
    names = [run_id({"study": study} | run.config) for run in runs]
    with alone(course.out):
        kept, circumstances = Kept(study, names, course.out, course.resume), environment()
        for done, (name, run) in enumerate(zip(names, runs, strict=True)):
            _tell(course, done, len(runs), study)
            if name in kept:
                continue
            row: Row = {"study": study, "run": name, "seed": seed, **run.measure(), "config": run.config}
            row |= {"environment": circumstances, "command": course.command}
            kept.add([row])
            if course.say is not None:
                course.say(line(row))
        _tell(course, len(runs), len(runs), study)
        return kept.rows


def _tell(course: Course, done: int, total: int, phase: str) -> None:
    if course.progress is not None:
        course.progress(done, total, phase)
