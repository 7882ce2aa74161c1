"""What two threads gain on this machine at all, neighbours included: a loop that needs nothing but its core.

The core's units are busy all the time. Where two of the machine's processors are threads of one core, or one of them
and a neighbour's, that takes up to twice as long; a loop of operations that wait for each other would not show it.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.peers.tasks import Job
from eventsnn.jit import kernel

_ROUNDS = 8_000_000  # of each half: some 40 ms


def loop(threads: int) -> Job:
    """Return the job of going twice through a loop in registers, shared by one thread or two."""

    def work(_: Any) -> Iterator[np.ndarray]:
        with ThreadPoolExecutor(threads) as pool:
            yield np.array(list(pool.map(_spin, [np.int64(_ROUNDS)] * 2)))

    return Job(work, lambda found: found)


@kernel
def _spin(rounds):
    a, b, c, d = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
    e, f, g, h = np.uint64(5), np.uint64(6), np.uint64(7), np.uint64(8)
    one = np.uint64(1)
    for i in range(np.uint64(rounds)):
        a, b, c, d = a ^ a << one, b ^ b << one, c ^ c << one, d ^ d << one
        e, f, g, h = e ^ e << one, f ^ f << one, g ^ g << one, h ^ h << one
        a, b, c, d = a + i, b + i, c + i, d + i
        e, f, g, h = e + i, f + i, g + i, h + i
    return a ^ b ^ c ^ d ^ e ^ f ^ g ^ h
