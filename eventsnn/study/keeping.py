"""Runs of a study: which of them are done, who does the others, and one file that has them all in order."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from eventsnn.processes import processes
from eventsnn.study import results
from eventsnn.study.results import Row
from eventsnn.targets import check_target
from eventsnn.unfinished import locked

if TYPE_CHECKING:
    from distributed import Client

T = TypeVar("T")
R = TypeVar("R")


def run_id(config: Mapping[str, Any]) -> str:
    """Return what tells a run's configuration from others: the first 12 digits of the SHA-256 of its JSON."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]


class Kept:
    """The rows of a study, in the order of its plan, and the file that has those that are done.

    Parameters
    ----------
    study : str
        Name of the study.
    order : sequence of str
        Of all runs, see :func:`run_id`.
    out : path or None
        The file; None for rows in memory alone.
    resume : bool
        Whether to take what an earlier call has written there.

    Raises
    ------
    ValueError
        If the file is there and not of this study, or nobody asked to continue.
    """

    def __init__(self, study: str, order: Sequence[str], out: str | os.PathLike[str] | None, resume: bool) -> None:
        self._order, self._out = list(order), out
        self._rows: dict[str, Row] = {}
        if out is None or not Path(out).exists():
            return
        if not resume:
            raise ValueError(f"{out} is there already; --resume (resume=True) continues it")
        self._rows = {row.get("run", ""): row for row in results.read(out)}
        strange = [row for run, row in self._rows.items() if row["study"] != study or run not in set(order)]
        if strange:
            what = f"of the study {strange[0]['study']}" if strange[0]["study"] != study else "with other settings"
            raise ValueError(f"{out}: holds {len(strange)} runs {what}; to continue, none may be missing in this study")

    @property
    def rows(self) -> list[Row]:
        """Those that are done."""
        return [self._rows[run] for run in self._order if run in self._rows]

    def __contains__(self, run: str) -> bool:
        """Tell whether a run is done."""
        return run in self._rows

    def add(self, rows: Sequence[Row]) -> None:
        """Take rows, and write all that there are."""
        self._rows |= {row["run"]: row for row in rows}
        if self._out is not None:
            results.write(self._out, self.rows)


@contextmanager
def alone(out: str | os.PathLike[str] | None) -> Iterator[None]:
    """Keep other processes from the same file, and find out first whether it can be written."""
    if out is not None:
        check_target(out)
    with nullcontext() if out is None else locked(Path(out), "study"):
        yield


def each(
    work: Callable[[T], R], tasks: Sequence[T], jobs: int, client: Client | None
) -> Generator[tuple[T, R], None, None]:
    """Yield tasks with ``work(task)`` as they are done, by this process, by others, or by a cluster."""
    jobs = min(jobs, len(tasks))
    if client is not None:
        yield from _by_cluster(work, tasks, client)
    elif jobs <= 1:
        yield from ((task, work(task)) for task in tasks)
    else:
        with processes(jobs, at_once=True) as pool:
            running = {pool.submit(work, task): task for task in tasks}
            yield from ((running[future], future.result()) for future in as_completed(running))


def _by_cluster(work: Callable[[T], R], tasks: Sequence[T], client: Client) -> Iterator[tuple[T, R]]:
    from distributed import as_completed as completed

    running = {client.submit(work, task, pure=False): task for task in tasks}
    try:
        for future in completed(list(running)):
            yield running[future], future.result()
    finally:
        client.cancel(list(running))


def check_client(client: Any) -> None:
    """Refuse what is no client of a cluster.

    Raises
    ------
    TypeError
        If so.
    """
    if client is not None and not callable(getattr(client, "submit", None)):
        raise TypeError(f"client expects a distributed.Client, got {client!r}")
