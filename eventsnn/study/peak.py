"""The machine's own rate of additions."""

from __future__ import annotations

import time

import numpy as np

from eventsnn.jit import kernel

_ROWS, _FLOATS, _PASSES = 4, 1024, 40_000  # 16 KiB of rows and 4 KiB of potentials: they stay in the first-level cache


def vector_adds_per_second() -> float:
    """Return the machine's own rate: float32 additions a second, of one thread, from the first-level cache.

    The loop is one of Numba: to each of 1,024 potentials are added four rows of weights, one after another in order, so
    that LLVM makes vectors of neighbouring potentials; a potential is loaded and stored once for four additions. The
    fastest of nine runs, by processor time.
    """
    potential, rows = np.zeros(_FLOATS, np.float32), np.full((_ROWS, _FLOATS), 1e-6, np.float32)
    _add_rows(potential, rows, 10)
    seconds = []
    for _ in range(9):
        start = time.thread_time()
        _add_rows(potential, rows, _PASSES)
        seconds.append(time.thread_time() - start)
    return _ROWS * _FLOATS * _PASSES / min(seconds)


@kernel
def _add_rows(potential, rows, passes):
    first, second, third, fourth = rows[0], rows[1], rows[2], rows[3]
    for _ in range(passes):
        for j in range(potential.size):
            potential[j] = (((potential[j] + first[j]) + second[j]) + third[j]) + fourth[j]
