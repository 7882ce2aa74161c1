"""How many threads compute, and work that they share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from threading import Thread
from typing import TypeVar

import numpy as np

T = TypeVar("T")
R = TypeVar("R")
C = TypeVar("C")


def default_threads() -> int:
    """Return ``EVENTSNN_THREADS``, else the number of CPUs that this process may use.

    Raises
    ------
    ValueError
        If ``EVENTSNN_THREADS`` is not a positive integer.
    """
    wanted = os.environ.get("EVENTSNN_THREADS", "").strip()
    if not wanted:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not wanted.isdecimal() or int(wanted) < 1:
        raise ValueError(f"EVENTSNN_THREADS expects a number of threads of at least 1, got {wanted!r}")
    return int(wanted)


def spread(work: Callable[[T], R], tasks: Sequence[T], threads: int) -> Iterator[R]:
    """Yield ``work(task)`` for all tasks, in order, shared by threads; without any where one is enough."""
    threads = min(threads, len(tasks))
    if threads <= 1:
        yield from map(work, tasks)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(work, tasks)


def each(
    work: Callable[[T], object], tasks: Sequence[T], threads: int, give_up: Callable[[], object] = lambda: None
) -> None:
    """Call ``work(task)`` for all tasks, begun in order, shared by this thread and ``threads - 1`` others.

    After a task has failed none is begun; the error of the first one of those that failed is raised, once no thread
    works any more. ``give_up`` is called where a thread ends early, Ctrl-C included, for others that wait for it.
    """
    todo, failed = enumerate(tasks), dict[int, BaseException]()

    def run() -> None:
        number = -1
        try:
            for one in todo:
                number, task = one
                if failed:
                    return
                work(task)
        except BaseException as error:
            failed[number] = error
            give_up()

    others = [Thread(target=run) for _ in range(threads - 1)]
    try:
        for thread in others:
            thread.start()
        run()
        for thread in others:
            thread.join()
    except BaseException as error:  # Ctrl-C between tasks, or a thread cannot be started
        failed[-1] = error
        give_up()
        for thread in others:
            if thread.ident is not None:
                thread.join()
        raise
    if failed:
        first = failed[min(failed)]
        failed.clear()
        try:
            raise first
        finally:
            del first  # it holds this frame, which would hold it, and what its task held, until the next collection


def in_turn(work: Callable[[C, T], R], common: C, tasks: Iterable[T]) -> Iterator[R]:
    """Yield ``work(common, task)`` for all tasks, in order."""
    return (work(common, task) for task in tasks)


def balanced(offsets: np.ndarray, parts: int, start: int = 0, stop: int | None = None) -> list[tuple[int, int]]:
    """Cut samples ``start:stop`` into at most ``parts`` ranges, in order, that hold about equally many events each.

    Parameters
    ----------
    offsets : ndarray of int64, shape (n_samples + 1,)
        Where each sample starts.
    parts : int
        At least 1.

    Returns
    -------
    list of (int, int)
        First sample of each range, and the one after its last; one empty range where there is no sample.
    """
    last = len(offsets) - 1 if stop is None else stop
    targets = np.linspace(offsets[start], offsets[last], parts + 1)[1:-1]
    inner = np.searchsorted(offsets[start : last + 1], targets).clip(0, last - start) + start
    return list(pairwise([start, *sorted(set(inner.tolist()) - {start, last}), last]))
