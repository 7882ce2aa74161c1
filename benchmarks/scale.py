"""How cost grows: with events, with density (against a dense version), and memory with the size of a file.

``python -m benchmarks.scale [events] [density] [memory]``. Times are processor time of one thread, the least of some
repeats; the dense version is PyTorch's ``conv2d`` if it is installed (on batch and time folded together, with one
thread), else BLAS on unfolded windows. Each measurement of memory is a process of its own, held to 1 GiB by
``RLIMIT_DATA``, which counts all private writable memory, resident or not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import append, environment

THREADS = ("EVENTSNN_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
MAPS, KERNEL, BINS, GRID = 30, 5, 15, (2, 64, 64)
DENSITIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
LIMIT = 1 << 30
TASKS = ("run", "evaluate", "features", "fit", "fit, frozen spikes in a file, shuffled")


def main(parts: Sequence[str]) -> None:
    if any(os.environ.get(name) != "1" for name in THREADS):  # libraries read them when they are loaded
        os.execve(
            sys.executable, [sys.executable, "-m", "benchmarks.scale", *parts], os.environ | dict.fromkeys(THREADS, "1")
        )
    circumstances = environment()
    for part in parts:
        for line in {"events": by_events, "density": by_density, "memory": by_file_size}[part]():
            append("scale", circumstances | line)


def least_seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Return the least processor time of ``work``, first run apart."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def network(shape: tuple[int, int, int], threshold: float = 15) -> Any:
    import eventsnn as es

    return es.Network([es.Conv(MAPS, KERNEL, padding=KERNEL // 2, threshold=threshold)], shape, backend="cpu")


def spikes(density: float, n_samples: int, shape: tuple[int, int, int] = GRID, seed: int = 0) -> Any:
    """Return stimuli in which each pixel fires with this probability, once, at a random time."""
    import eventsnn as es

    rng = np.random.default_rng(seed)
    latency = rng.integers(0, BINS, (n_samples, *shape))
    latency[rng.random(latency.shape) >= density] = -1
    return es.Events.from_latency(latency, duration=BINS, labels=np.arange(n_samples) % 10)


def by_events() -> list[dict[str, Any]]:
    """Measure batches of more and more stimuli of one kind, and one stimulus on larger and larger grids."""
    import eventsnn as es

    lines = []
    cases = [("more stimuli", 10**k, (2, 32, 32)) for k in range(5)]
    cases += [("larger grid", 1, (2, side, side)) for side in (32, 100, 316, 1000, 3162)]
    for growth, n_samples, shape in cases:
        events, net = spikes(0.1, n_samples, shape), network(shape)
        inference = least_seconds(lambda events=events, net=net: net.run(events), 3)
        rule, fields = es.STDP(0.004, -0.003), {"layer": 0, "competition": es.WTA(5, radius=3)}
        learning = least_seconds(lambda e=events, n=net, r=rule, f=fields: es.fit(n, e, rule=r, **f), 3)
        lines.append(
            {"benchmark": "events", "growth": growth, "samples": n_samples, "shape": shape, "events": events.n_events}
            | {"inference_cpu_seconds": inference, "learning_cpu_seconds": learning}
        )
    return lines


def by_density() -> list[dict[str, Any]]:
    """Measure the layer beside its dense version, on the same stimuli and weights."""
    lines, n_samples = [], 20
    dense_name, dense = dense_version()
    for density in DENSITIES:
        events, net = spikes(density, n_samples), network(GRID)
        waves, weights = events.to_waves().astype(np.float32), net.weights[0]
        ours = least_seconds(lambda e=events, n=net: n.run(e))
        theirs = least_seconds(lambda w=waves, k=weights: dense(w, k), 3)
        lines.append(
            {"benchmark": "density", "density": density, "samples": n_samples, "shape": GRID, "bins": BINS}
            | {"events": events.n_events, "output_events": net.run(events).n_events}
            | {"cpu_seconds": ours, "dense": dense_name, "dense_cpu_seconds": theirs}
        )
    return lines


def dense_version() -> tuple[str, Callable[[np.ndarray, np.ndarray], Any]]:
    """Return name and function of the dense layer: cumulative waves (N, T, C, H, W) and weights to latencies."""
    try:
        import torch
    except ImportError:
        return f"NumPy {np.__version__} BLAS", unfolded
    torch.set_num_threads(1)

    def conv(waves: np.ndarray, weights: np.ndarray) -> Any:
        with torch.inference_mode():
            n, t = waves.shape[:2]
            flat = torch.from_numpy(waves).flatten(0, 1)
            potential = torch.nn.functional.conv2d(flat, torch.from_numpy(weights), padding=KERNEL // 2)
            return (potential > 15).unflatten(0, (n, t)).sum(1)  # as many bins as the neuron has fired for

    return f"PyTorch {torch.__version__} conv2d", conv


def unfolded(waves: np.ndarray, weights: np.ndarray) -> Any:
    """Do the same by one matrix product for each stimulus."""
    kernel, pad = weights.reshape(len(weights), -1).T, KERNEL // 2
    counts = []
    for wave in waves:
        padded = np.pad(wave, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (KERNEL, KERNEL), (2, 3))
        rows = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, len(kernel))
        counts.append(((rows @ kernel) > 15).reshape(*wave.shape[:1], *wave.shape[2:], -1).sum(0))
    return np.stack(counts)


def by_file_size() -> list[dict[str, Any]]:
    """Measure the peak memory of each task on a small file and on one of 20 million events."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for n_samples in (2_500, 25_000):
            path = Path(folder) / f"{n_samples}.h5"
            n_events = write_file(path, n_samples)
            for task in TASKS:
                command = [sys.executable, "-m", "benchmarks.scale", str(path), task]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                measured = json.loads(done.stdout.splitlines()[-1])
                lines.append({"benchmark": "memory", "events": n_events, "task": task, "limit_bytes": LIMIT} | measured)
    return lines


def write_file(path: Path, n_samples: int) -> int:
    """Write stimuli of about 800 events each; return the number of events."""
    from eventsnn.io import EventWriter

    n_events = 0
    with EventWriter(path, GRID, BINS) as writer:
        for seed in range(n_samples // 500):
            batch = spikes(0.0977, 500, seed=seed)
            writer.append(batch)
            n_events += batch.n_events
    return n_events


def measure_memory(path: str, task: str) -> None:
    """Do one task under the limit, and print time and peak memory."""
    import resource

    import eventsnn as es

    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    layers = [es.Conv(MAPS, KERNEL, padding=2, threshold=8), es.Pool(4), es.Conv(20, KERNEL, threshold=60), es.Pool(4)]
    net, data = es.Network(layers, GRID, backend="cpu"), es.EventDataset(path)
    fields: dict[str, Any] = {"rule": es.STDP(0.004, -0.003), "epochs": 2, "memory": 128 << 20}
    work: Callable[[], Any] = {
        "run": lambda: net.run(data),
        "evaluate": lambda: es.evaluate(net, data),
        "features": lambda: es.features(net, data),
        "fit": lambda: es.fit(net, data, layer=0, **fields),
        TASKS[-1]: lambda: es.fit(net, data, layer=2, shuffle=True, **fields),
    }[task]
    wall, start = time.perf_counter(), time.process_time()
    result = work()
    spent = {"wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - start}
    spilled = {"in_memory": result.cached} if task.startswith("fit") else {}
    print(json.dumps({"peak_gib": peak_gib(), **spent, **spilled}))


def peak_gib() -> float:
    """Return the largest resident size of this program so far; ``ru_maxrss`` would begin with the parent's."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 2**20


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[2] in TASKS:
        measure_memory(*sys.argv[1:])
    else:
        main(sys.argv[1:] or ["events", "density", "memory"])
