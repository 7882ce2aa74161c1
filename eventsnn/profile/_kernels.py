"""Counting, spike by spike, what a profile says."""

from __future__ import annotations

import numpy as np

from eventsnn.jit import inner, lean_kernel


@lean_kernel
def count_stopped(spikes, offsets, fired, fired_offsets, rows, columns, width, arrived, stopped):
    """Count for each sample the inputs that neurons receive after the time of their spike.

    ``spikes`` and ``fired`` are ``(time, y, x)`` of a layer's input and output, in canonical order. ``rows`` is
    ``(low, high)``: outputs ``low[y]:high[y]`` see input row ``y``; ``columns`` likewise. ``arrived`` counts, from any
    number on, what has arrived at each output position, which is the same for all maps; only differences matter.
    """
    for s in range(len(offsets) - 1):
        first, last = fired_offsets[s], fired_offsets[s + 1]
        e, late = offsets[s], np.int64(0)
        for i in range(first, last):
            while e < offsets[s + 1] and spikes[0][e] <= fired[0][i]:
                _arrive(np.int64(spikes[1][e]), np.int64(spikes[2][e]), rows, columns, width, arrived)
                e += 1
            late -= arrived[np.int64(fired[1][i]) * width + fired[2][i]]
        while e < offsets[s + 1]:
            _arrive(np.int64(spikes[1][e]), np.int64(spikes[2][e]), rows, columns, width, arrived)
            e += 1
        for i in range(first, last):
            late += arrived[np.int64(fired[1][i]) * width + fired[2][i]]
        stopped[s] = late


@inner
def _arrive(y, x, rows, columns, width, arrived):
    """Count an input at every position that sees it."""
    for oy in range(rows[0][y], rows[1][y]):
        for p in range(oy * width + columns[0][x], oy * width + columns[1][x]):
            arrived[p] += 1
