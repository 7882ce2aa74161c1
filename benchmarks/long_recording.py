"""A recording of 200 million events is converted, checked and run through a network under a limit of memory.

``python -m benchmarks.long_recording [--record] [EVENTS ...]``, by default with 2, 20 and 200 million. Each step is a
process of its own, held to 1 GiB of address space by ``RLIMIT_AS``; time per event shows whether time grows in
proportion. The recording is synthesized (``benchmarks.recordings``) as a file of Prophesee's DAT format.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import append, environment
from benchmarks.recordings import SENSOR, synthesized
from benchmarks.scale import THREADS, peak_gib

LIMIT = 1 << 30
WINDOW = 10_000
STEPS = ("convert", "check", "run")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("events", type=float, nargs="*", default=[2e6, 20e6, 200e6])
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    circumstances = environment()
    for n_events in map(int, given.events):
        with tempfile.TemporaryDirectory() as folder:
            write_dat(Path(folder) / "long.dat", n_events)
            for step in STEPS:
                measured = in_process(folder, step)
                per_event = {"cpu_nanoseconds_an_event": measured["cpu_seconds"] / n_events * 1e9}
                line = {"benchmark": "long recording", "events": n_events, "step": step, "limit_bytes": LIMIT}
                line = circumstances | line | measured | per_event
                if given.record:
                    append("recordings", line)
                else:
                    print(json.dumps(line), flush=True)


def write_dat(path: Path, n_events: int) -> None:
    with path.open("wb") as file:
        file.write(f"% Version 2\n% Width {SENSOR[0]}\n% Height {SENSOR[1]}\n".encode() + bytes([12, 8]))
        for chunk in synthesized(n_events):
            place = chunk.p.astype("<u4") << 28 | chunk.y.astype("<u4") << 14 | chunk.x
            file.write(np.stack([chunk.t.astype("<u4"), place], axis=1).tobytes())


def in_process(folder: str, step: str) -> dict[str, Any]:
    # One arena of malloc, since each thread's own reserves 64 MiB of addresses; libraries start no threads of theirs.
    limits = dict.fromkeys(THREADS[1:], "1") | {"MALLOC_ARENA_MAX": "1"}
    command = [sys.executable, "-m", "benchmarks.long_recording", "--step", folder, step]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | limits)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(folder: str, step: str) -> None:
    """Do one step under the limit, and print time and peak memory."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    source, path = Path(folder) / "long.dat", Path(folder) / "long.h5"
    wall, start = time.perf_counter(), time.process_time()
    result = {"convert": convert, "check": check, "run": run}[step](source, path)
    spent = {"wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - start}
    print(json.dumps({"result": result, "peak_gib": peak_gib(), **spent}))


def convert(source: Path, path: Path) -> int:
    from eventsnn.convert import convert

    return convert([source], path).written


def check(source: Path, path: Path) -> int:
    from eventsnn.io import check

    return int(check(path)["events"])


def run(source: Path, path: Path) -> int:
    """Run a layer and its pool on each window of 10 ms; return the number of spikes."""
    import eventsnn as es

    net = es.Network([es.Conv(8, kernel=5, threshold=12), es.Pool(4)], (2, SENSOR[1], SENSOR[0]), seed=0)
    with es.EventDataset(path) as recording:
        starts = range(0, recording.duration, WINDOW)
        return sum(net.run(recording.between(start, start + WINDOW)).n_events for start in starts)


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "--step":
        measure(*sys.argv[2:])
    else:
        main()
