"""Compiled loops over camera events, which remember a time for each pixel."""

from __future__ import annotations

import numpy as np

from eventsnn.jit import lean_kernel


@lean_kernel
def refractory(t, x, y, last, period, keep):
    """Keep events ``period`` after the last one kept of their pixel; ``last`` (H, W) int64 are its times."""
    for i in range(len(t)):
        row, column = np.int64(y[i]), np.int64(x[i])
        passes = t[i] - last[row, column] >= period
        keep[i] = passes
        if passes:
            last[row, column] = t[i]


@lean_kernel
def supported(t, x, y, last, period, radius, keep):
    """Keep events of which a neighbour fired within ``period``; ``last`` has a border of ``radius`` pixels."""
    for i in range(len(t)):
        row, column = np.int64(y[i]), np.int64(x[i])
        latest = last[row, column]
        for dy in range(2 * radius + 1):
            for dx in range(2 * radius + 1):
                if dy != radius or dx != radius:
                    latest = max(latest, last[row + dy, column + dx])
        keep[i] = t[i] - latest <= period
        last[row + radius, column + radius] = t[i]


@lean_kernel
def first_of_site(site, seen, stamp, keep):
    """Keep the first event of each site; ``seen`` holds the number, ``stamp``, of the latest call that saw it."""
    for i in range(len(site)):
        keep[i] = seen[site[i]] != stamp
        seen[site[i]] = stamp
