"""Turns of several programs at the same work, one after another."""

from __future__ import annotations

import ctypes
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.peers.tasks import Job

LEAST_SECONDS, MOST_PASSES = 0.25, 250


class Pass(NamedTuple):
    """Seconds that going once through all samples took."""

    wall: float
    cpu: float


@dataclass
class Turns:
    """What was measured of one program at one task."""

    passes: int = 1  #: times through all samples in each turn
    wall: list[float] = field(default_factory=list)  #: seconds a pass, turn by turn
    cpu: list[float] = field(default_factory=list)
    peak_memory_gib: float = 0.0  #: largest resident size of the process in the first, untimed run
    memory_growth_gib: float = 0.0  #: by how much that is more than before the run

    def add(self, one: Pass) -> None:
        """Append a turn."""
        self.wall.append(one.wall)
        self.cpu.append(one.cpu)

    def record(self, samples: int) -> dict[str, Any]:
        """Return everything as JSON values; rates are of the median turn."""
        return {
            "passes": self.passes,
            "wall_seconds": [digits(seconds) for seconds in self.wall],
            "cpu_seconds": [digits(seconds) for seconds in self.cpu],
            "images_per_second": digits(samples / statistics.median(self.cpu)),
            "images_per_wall_second": digits(samples / statistics.median(self.wall)),
            "peak_memory_gib": digits(self.peak_memory_gib),
            "memory_growth_gib": digits(self.memory_growth_gib),
        }


def digits(value: float) -> float:
    """Return a number with the six digits that are worth recording."""
    return float(f"{value:.6g}")


def measure(
    jobs: Mapping[str, Job], repeats: int, answered: Callable[[str, np.ndarray], None] = lambda name, answer: None
) -> dict[str, Turns]:
    """Let all programs do their job in turn, ``repeats`` times: A B C A B C.

    Before that each does it once, to compile and to answer; ``answered`` gets the answers. A turn is as many passes as
    make 250 ms of processor time, so that little depends on the first, which finds another program's data in the
    caches; its seconds are those of one pass. The processor time is the whole process's.
    """
    turns = {}
    for name, job in jobs.items():
        before = _resident("VmRSS", reset=True)
        pieces = [job.answer(piece) for piece in job.work(job.setup())]
        peak = _resident("VmHWM")
        answered(name, np.concatenate(pieces))
        turns[name] = Turns(_passes(job, len(pieces)), peak_memory_gib=peak, memory_growth_gib=peak - before)
    for _ in range(repeats):
        for name, job in jobs.items():
            _turn(job, turns[name])
    return turns


def _passes(job: Job, pieces: int) -> int:
    """Return how many passes make a turn long enough, judged by the first piece of work."""
    state = job.setup()
    start = time.process_time()
    next(job.work(state))
    usual = (time.process_time() - start) * pieces
    return min(MOST_PASSES, max(1, math.ceil(LEAST_SECONDS / max(usual, 1e-6))))


def _turn(job: Job, turns: Turns) -> None:
    passes = [_one_pass(job) for _ in range(turns.passes)]
    turns.add(Pass(statistics.mean(p.wall for p in passes), statistics.mean(p.cpu for p in passes)))


def _one_pass(job: Job) -> Pass:
    state = job.setup()
    wall, cpu = time.perf_counter(), time.process_time()
    deque(job.work(state), maxlen=0)
    return Pass(time.perf_counter() - wall, time.process_time() - cpu)


def _resident(entry: str, reset: bool = False) -> float:
    """Return a size in Linux's ``/proc/self/status`` in GiB, or 0 where there is none.

    With ``reset`` what was freed goes back to the system before, and the peak is forgotten.
    """
    status = Path("/proc/self/status")
    if not status.is_file():
        return 0.0
    if reset:
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
            trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    lines = (line.split() for line in status.read_text().splitlines())
    return next(int(words[1]) for words in lines if words and words[0] == f"{entry}:") / 2**20
