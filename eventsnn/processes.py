"""Processes that share work: started anew, with their share of the threads, and gone with the one that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from threading import Thread

from eventsnn.threads import default_threads


@contextmanager
def processes(jobs: int, *, at_once: bool = False) -> Iterator[ProcessPoolExecutor]:
    """Start processes anew: those that are forked would share what threads of this one hold.

    Parameters
    ----------
    jobs : int
        How many.
    at_once : bool
        Whether they end at once if the block raises, as it does at Ctrl-C. Else each ends what it has begun.
    """
    threads = max(1, default_threads() // jobs)
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(jobs, context, initializer=_begin, initargs=(threads, stop))
    try:
        yield pool
    except BaseException:
        if at_once:
            stop.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(threads: int, stop: Event) -> None:
    """Leave Ctrl-C to the parent, and end with it, however it ends."""
    os.environ["EVENTSNN_THREADS"] = str(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for waits in (_until_parent_ends, stop.wait):
        Thread(target=_end_after, args=(waits,), daemon=True).start()


def _end_after(waits: Callable[[], object]) -> None:
    waits()
    os._exit(1)


def _until_parent_ends() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # it was started by one
    parent.join()
