"""Our HDF5: how fast recordings are written and read, and windows of them found.

``python -m benchmarks.recordings [--events N] [--record]``. A synthesized recording (moving edges and noise, 2 million
events a second) is written and read with each compression, in one run; the best of three repeats counts. With
``--record`` lines go to ``results/recordings.jsonl``. Beside wall time stands processor time of all threads, which a
busy machine disturbs less.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import append, environment

SENSOR = (640, 480)
RATE = 2  # events a microsecond
CHUNK = 1 << 17
WINDOW, WINDOWS = 10_000, 1000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=float, default=20e6)
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    circumstances = environment()
    with tempfile.TemporaryDirectory() as folder:
        for compression in compressions():
            line = circumstances | {"benchmark": "storage"} | measure(Path(folder), compression, int(given.events))
            if given.record:
                append("recordings", line)
            else:
                print(json.dumps(line), flush=True)


def compressions() -> list[str]:
    try:
        import hdf5plugin  # noqa: F401
    except ImportError:
        return ["gzip"]
    return ["gzip", "blosc2"]


def measure(folder: Path, compression: Any, n_events: int) -> dict[str, Any]:
    """Write, read in order, and read windows."""
    from eventsnn.io import EventDataset, RecordingWriter

    path = folder / f"{compression}.h5"
    chunks = list(synthesized(n_events))

    def write() -> None:
        with RecordingWriter(path, *SENSOR, compression=compression) as writer:
            for chunk in chunks:
                writer.append(chunk)

    def read() -> None:
        with EventDataset(path) as dataset:
            assert sum(part.n_events for part in dataset.pieces()) == n_events

    def windows() -> None:
        with EventDataset(path) as dataset:
            starts = np.random.default_rng(1).integers(0, max(dataset.duration - WINDOW, 1), WINDOWS)
            for start in starts.tolist():
                dataset.between(start, start + WINDOW)

    spent = {name: best(work) for name, work in (("write", write), ("read", read), ("windows", windows))}
    return {
        "compression": compression,
        "events": n_events,
        "bytes_per_event": path.stat().st_size / n_events,
        **{f"{name}_million_events_a_second": n_events / spent[name]["wall"] / 1e6 for name in ("write", "read")},
        "milliseconds_a_window": spent["windows"]["wall"] / WINDOWS * 1e3,
        "seconds": spent,
    }


def best(work: Callable[[], object], repeats: int = 3) -> dict[str, float]:
    """Return the least wall and processor time of some repeats; the first, apart, compiles."""
    found = []
    for _ in range(repeats + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        found.append((time.perf_counter() - wall, time.process_time() - cpu))
    return dict(zip(("wall", "cpu"), (min(times) for times in zip(*found[1:], strict=True)), strict=True))


def synthesized(n_events: int, seed: int = 0) -> Iterator[Any]:
    """Yield chunks of a recording: 60 edges that move at speeds of their own, and 3 % noise."""
    from eventsnn.io import Chunk

    rng, width, height = np.random.default_rng(seed), *SENSOR
    place, speed = rng.random((2, 60)) * [[width], [0.2]] / [[1], [1000]]
    row, polarity = rng.integers(0, height - 80, 60), rng.integers(0, 2, 60)
    for start in range(0, n_events, CHUNK):
        n = min(CHUNK, n_events - start)
        t = np.sort(rng.integers(start // RATE, (start + n) // RATE, n))
        edge = rng.integers(0, 60, n)
        x = (place[edge] + speed[edge] * t).astype(np.int64) % width
        y = row[edge] + rng.integers(0, 80, n)
        noise = rng.random(n) < 0.03
        x[noise], y[noise] = rng.integers(0, width, noise.sum()), rng.integers(0, height, noise.sum())
        yield Chunk(t, x.astype(np.uint16), y.astype(np.uint16), polarity[edge].astype(np.uint8))


if __name__ == "__main__":
    main()
