"""What two threads gain on this machine at all, neighbours included: a loop that needs nothing but its core."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.peers.tasks import Job
from eventsnn.jit import kernel

_ROUNDS = 20_000_000  # of each half: some 35 ms


def loop(threads: int) -> Job:
    """Return the job of going twice through a loop in registers, shared by one thread or two."""

    def work(_: Any) -> Iterator[np.ndarray]:
        with ThreadPoolExecutor(threads) as pool:
            yield np.array(list(pool.map(_spin, [np.int64(_ROUNDS)] * 2)))

    return Job(work, lambda found: found)


@kernel
def _spin(rounds):
    x, odd = np.uint64(88172645463325252), np.int64(0)
    for _ in range(rounds):
        x ^= x << np.uint64(13)
        x ^= x >> np.uint64(7)
        x ^= x << np.uint64(17)
        odd += np.int64(x & np.uint64(1))
    return odd
