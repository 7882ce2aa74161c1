"""The study of scaling: time and memory against image size, maps, events, threads and devices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from eventsnn import checks
from eventsnn.devices import device
from eventsnn.layers import Conv
from eventsnn.network import Network
from eventsnn.study.results import Row
from eventsnn.study.runs import Course, Progress, Run, Say, carry_out
from eventsnn.study.stimuli import synthetic

_PARALLEL = ("threads", "devices")
_GROWN = ("sizes", "maps", "events", "threads", "devices")


@dataclass(frozen=True)
class Scaling:
    """What the study of scaling runs: along each axis one value changes, and the others stay.

    Parameters
    ----------
    sizes : sequence of int
        Height and width of the input.
    maps : sequence of int
        Of the layer.
    events : sequence of int
        Spikes in a sample, on average.
    threads : sequence of int
        That share a call.
    devices : sequence of int
        That share it, each with its batch: the first so many GPUs, or single threads of the processor.
    backend : str
        Where layers are computed, as of :class:`eventsnn.Network`; threads are always the processor's.
    size, usual_maps, density : int, int, float
        What stays: size of the input, maps of the layer, and spikes per input.
    samples : int
        In a call.
    bins : int
    repeats : int
        Of which the least time counts.
    seed : int

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or of another kind.
    """

    sizes: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    maps: tuple[int, ...] = (8, 16, 32, 64, 128, 256, 512)
    events: tuple[int, ...] = (30, 100, 300, 1000, 3000, 8000)
    threads: tuple[int, ...] = (1, 2)
    devices: tuple[int, ...] = (1, 2)
    backend: str = "cpu"
    size: int = 64
    usual_maps: int = 30
    density: float = 0.1
    samples: int = 8
    bins: int = 15
    repeats: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        checks.plain(self, _GROWN)
        for name in _GROWN:
            for value in getattr(self, name):
                checks.integer(name, value, 1)
        checks.kind("backend", self.backend, str, or_none=False)
        device(self.backend)
        for name in ("size", "usual_maps", "samples", "bins", "repeats"):
            checks.integer(name, getattr(self, name), 1)
        checks.integer("seed", self.seed, 0)
        checks.number("density", self.density, above=0, most=1)
        if max(self.events, default=0) > _CHANNELS * self.size**2:
            most = _CHANNELS * self.size**2
            raise ValueError(f"events expects at most the {most} inputs of size {self.size}, got {max(self.events)}")

    @classmethod
    def quick(cls, **changes: Any) -> Scaling:
        """Return settings for a minute: three values of each axis, or two."""
        fields: dict[str, Any] = {"sizes": (16, 48, 128), "maps": (8, 32, 128), "events": (100, 1000, 8000)}
        return cls(**(fields | {"samples": 8, "repeats": 3} | changes))


_CHANNELS, _KERNEL, _THRESHOLD = 2, 5, 5.0  # a quarter of the neurons fires at the usual density


class _Measured(NamedTuple):
    """A layer and its stimuli, for a process of its own."""

    axis: str
    value: int
    size: int
    maps: int
    density: float
    samples: int
    bins: int
    repeats: int
    seed: int
    backend: str = "cpu"


def scaling(
    settings: Scaling | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    resume: bool = False,
    command: str | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
) -> list[Row]:
    """Measure time and memory of a layer while it, its input, or what computes it grows.

    Each run is a process of its own, so that its memory is.

    Parameters
    ----------
    settings : Scaling, optional
    out, resume, command, progress, say
        As of :func:`eventsnn.study.sparsity`.

    Returns
    -------
    list of dict
        One row for each run: ``axis`` and ``value``; ``seconds`` per sample, of processor time, or of wall time along
        ``threads`` and ``devices`` and on GPUs (``clock``); ``memory``, the largest resident size of the process in
        bytes, of which ``baseline`` before there was any input. That of GPUs is not counted.

    Raises
    ------
    ValueError
        If ``out`` is there and shall not be continued, or has other runs.
    OSError
        If a file cannot be read or written.
    RuntimeError
        If a process fails; it says what that one said.
    """
    checks.kind("settings", settings, Scaling)
    wanted = settings or Scaling()
    course = Course(out, resume, command, progress, say)
    return carry_out("scaling", wanted.seed, _runs(wanted), course, _line)


def _line(row: Row) -> str:
    time_and_memory = f"{1e6 * row['seconds']:,.0f} µs ({row['clock']}) a sample, {row['memory'] / 2**20:,.0f} MiB"
    return f"{row['axis']} {row['value']:,}: {row['layer']} on {row['shape']}, {time_and_memory}"


def _runs(settings: Scaling) -> list[Run]:
    return [Run(task._asdict(), partial(_row, task)) for task in _tasks(settings)]


def _tasks(settings: Scaling) -> list[_Measured]:
    usual = _Measured(
        "", 0, settings.size, settings.usual_maps, settings.density, settings.samples, settings.bins, settings.repeats,
        settings.seed,
    )  # fmt: skip
    inputs = _CHANNELS * settings.size**2
    grown: dict[str, tuple[Sequence[int], Callable[[int], dict[str, Any]]]] = {
        "size": (settings.sizes, lambda value: {"size": value}),
        "maps": (settings.maps, lambda value: {"maps": value}),
        "events": (settings.events, lambda value: {"density": value / inputs}),
        "threads": (settings.threads, lambda value: {}),
        "devices": (settings.devices, lambda value: {}),
    }
    return [
        usual._replace(
            axis=axis, value=value, backend="cpu" if axis == "threads" else settings.backend, **changed(value)
        )
        for axis, (values, changed) in grown.items()
        for value in values
    ]


def _row(task: _Measured) -> dict[str, Any]:
    """Measure in a process of its own."""
    threads = task.value if task.axis == "threads" else 1
    environment = os.environ | {"EVENTSNN_THREADS": str(threads)}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "eventsnn.study.growth", json.dumps(task._asdict())]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"the run of {task.axis} {task.value} failed: {done.stderr.strip().splitlines()[-1:]}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"axis": task.axis, "value": task.value, **measured}


def measured(task: _Measured) -> dict[str, Any]:
    """Return time and memory of a run, in this process."""
    shape = (_CHANNELS, task.size, task.size)
    layer = Conv(task.maps, _KERNEL, padding=_KERNEL // 2, threshold=_THRESHOLD)
    devices = [f"{task.backend}:{i}" for i in range(task.value)] if task.axis == "devices" else None
    net = Network([layer], shape, seed=task.seed, backend=None if devices else task.backend, devices=devices)
    each = -(-task.samples // task.value) if devices else task.samples
    net.run(synthetic(shape, task.density, task.bins, 1, task.seed))  # compiled before anything is measured
    baseline = peak_memory()
    events = synthetic(shape, task.density, task.bins, task.samples, task.seed)
    alone = task.backend == "cpu" and task.axis not in _PARALLEL
    clock = time.process_time if alone else time.perf_counter
    taken = []
    for _ in range(task.repeats + 1):
        begun = clock()
        net.run(events, batch_size=each)
        taken.append(clock() - begun)
    return {
        "layer": str(layer),
        "shape": "x".join(map(str, shape)),
        "events": events.n_events / task.samples,
        "samples": task.samples,
        "clock": "cpu" if alone else "wall",
        "backend": task.backend,
        "seconds": min(taken[1:]) / task.samples,
        "memory": peak_memory(),
        "baseline": baseline,
    }


def peak_memory() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # ru_maxrss begins with the parent's
        return next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


if __name__ == "__main__":
    print(json.dumps(measured(_Measured(**json.loads(sys.argv[1])))))
