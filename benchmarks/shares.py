"""What the work of several machines is made of: ``python -m benchmarks.shares [FOLDER]``.

On recordings of N-MNIST (``FOLDER/nmnist``; default ``EVENTSNN_DATA``), every event at its microsecond, with the camera
network of ``benchmarks.peers``: bytes and reading of an event file, inference, and for each layer that learns the two
halves of a mini-batch, what they exchange, and how long Dask takes to hand out tasks. Processor time of one thread, the
least of some repeats; Dask's wall time on this machine, without a network between. ``benchmarks/SCALE.md`` shows what
follows.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.record import append, environment
from benchmarks.scale import least_seconds

RECORDINGS, BATCH = 500, 256


def main(folder: str) -> None:
    from benchmarks.peers.workloads import camera, nmnist, trained

    events = nmnist(SimpleNamespace(data=Path(folder), images=BATCH))
    circumstances = environment() | {"threads": 1, "benchmark": "shares"}
    with tempfile.TemporaryDirectory() as scratch:
        net = trained(camera(), events[:RECORDINGS], SimpleNamespace(scratch=Path(scratch)))
        append("shares", circumstances | {"part": "file"} | of_file(events, Path(scratch) / "events.h5"))
    append("shares", circumstances | {"part": "inference"} | of_inference(net, events[RECORDINGS:]))
    for step in camera().steps:
        append("shares", circumstances | {"part": "learning"} | of_learning(net, step, events[RECORDINGS:]))
    append("shares", circumstances | {"part": "tasks"} | of_tasks())


def of_file(events: Any, path: Path) -> dict[str, Any]:
    """Measure an event file: its size, and reading all of it, checks included."""
    import eventsnn as es

    def read() -> None:
        with es.EventDataset(path, cache_bytes=1 << 20) as data:
            for _ in data.batches(100):
                pass

    es.io.write(path, events)
    reading = least_seconds(read, 3)
    last = events.time[events.offsets[1:] - 1]
    counts = {"recordings": len(events), "events": events.n_events, "recorded_seconds": float(last.sum() / 1e6)}
    return counts | {"bytes": path.stat().st_size, "reading_cpu_seconds": reading}


def of_inference(net: Any, events: Any) -> dict[str, Any]:
    spikes = net.run(events).n_events
    seconds = least_seconds(lambda: net.run(events), 3)
    return {"recordings": len(events), "events": events.n_events, "cpu_seconds": seconds, "output_spikes": spikes}


def of_learning(net: Any, step: Any, events: Any) -> dict[str, Any]:
    """Measure one mini-batch: finding winners, changing weights, and what goes from one to the other."""
    from eventsnn.backends import Lesson
    from eventsnn.devices import reached

    inputs, neurons, packed = net.run(events, stop=step.layer), net.neurons(step.layer), net.packed(step.layer)
    maps = len(neurons.threshold)
    lesson = Lesson(neurons, step.rule.update(maps, step.competition, None), None, None, BATCH)
    found = net.backend.find(inputs, packed, lesson)
    near = reached(inputs, found.winners, neurons.geometry, timed=False)
    copy = net.backend.pack(net.weights[step.layer])  # changed by each repeat; that takes as long whatever the weights
    return {
        "layer": step.layer,
        "mini_batch": len(inputs),
        "find_cpu_seconds": least_seconds(lambda: net.backend.find(inputs, packed, lesson), 3),
        "reach_cpu_seconds": least_seconds(lambda: reached(inputs, found.winners, neurons.geometry, timed=False), 3),
        "change_cpu_seconds": least_seconds(lambda: net.backend.change(near, found, copy, lesson), 3),
        "weights_bytes": int(np.prod(net.weights_shape(step.layer))) * 4,
        "winners_bytes": found.winners.nbytes + found.potential.nbytes,
        "input_events": inputs.n_events,
        "near_bytes": near.nbytes,
    }


def of_tasks(repeats: int = 20) -> dict[str, Any]:
    """Measure how long two workers take to answer one task each, and what each of many more adds."""
    from distributed import Client, LocalCluster

    from eventsnn.parallel._cluster import in_order

    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "processes": True}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        seconds = {}
        for count in (2, 102):
            list(in_order(client, _nothing, None, range(count)))
            seconds[count] = statistics.median(_wall(client, count) for _ in range(repeats))
    return {"round_trip_seconds": seconds[2], "task_seconds": (seconds[102] - seconds[2]) / 100}


def _wall(client: Any, count: int) -> float:
    from eventsnn.parallel._cluster import in_order

    start = time.perf_counter()
    list(in_order(client, _nothing, None, range(count)))
    return time.perf_counter() - start


def _nothing(common: None, item: int) -> int:
    return item


if __name__ == "__main__":
    if os.environ.get("EVENTSNN_THREADS") != "1":  # libraries read it when they are loaded
        os.execve(
            sys.executable,
            [sys.executable, "-m", "benchmarks.shares", *sys.argv[1:]],
            os.environ | {"EVENTSNN_THREADS": "1"},
        )
    main(sys.argv[1] if len(sys.argv) > 1 else os.environ["EVENTSNN_DATA"])
