"""How many threads compute."""

from __future__ import annotations

import os


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
