"""The study of sparsity: time against density, event-driven and dense, for layers of many shapes."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from eventsnn import checks
from eventsnn.backends import Backend, get
from eventsnn.events import Events
from eventsnn.models import MODELS
from eventsnn.network import Network
from eventsnn.profile import PICOJOULES, Costs
from eventsnn.study import dense
from eventsnn.study.results import Row
from eventsnn.study.runs import Course, Progress, Run, Say, carry_out
from eventsnn.study.shapes import GRID, Case, LayerShape, check_names, on_grid, published
from eventsnn.study.stimuli import real, synthetic, thinned
from eventsnn.study.work import counted

Clock = Callable[[], float]

_HOSTS = ("cpu", "reference")  # where processor time says how long a layer takes
_PAUSE, _LONGEST = 0.002, 0.5  # seconds in which threads are calm, and after which nobody waits for them any longer
_ROUND = 0.005  # seconds of each side in a round
_TABLES = 16  # samples, from which on a layer that decides reads tables (``backends/cpu/deciding.py``)


@dataclass(frozen=True)
class Sparsity:
    """What the study of sparsity runs: all combinations of these.

    Parameters
    ----------
    networks : sequence of str
        Published networks, whose layers are timed as these run them: together with the pool that comes next. The cost
        model is fitted without them.
    shapes : sequence of LayerShape
        Other layers.
    densities : sequence of float
        Spikes per input of the synthetic stimuli, in (0, 1].
    data : str, optional
        An event file or a recording: layers that fit its grid are timed on it too.
    kept : sequence of float
        Parts of the real events that are kept, in (0, 1].
    window : float
        Seconds of a sample of a recording.
    bins : int
        Time bins of synthetic stimuli, and of real ones in microseconds.
    batches, threads : sequence of int
        Samples in a call; threads of both sides.
    backends : sequence of str
        As of :class:`eventsnn.Network`. The dense version always runs on the processor.
    seconds : float
        How long each side of a run is measured, at least.
    seed : int
    pj_per_operation, pj_per_mac : float
        Picojoules of a synaptic operation and of a multiply-accumulate, as of :func:`eventsnn.study.profile`.

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or of another kind, or a network unknown.
    """

    networks: tuple[str, ...] = tuple(MODELS)
    shapes: tuple[LayerShape, ...] = GRID
    densities: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    data: str | None = None
    kept: tuple[float, ...] = (1.0, 0.3, 0.1, 0.03)
    window: float = 0.05
    bins: int = 15
    batches: tuple[int, ...] = (1, 32)
    threads: tuple[int, ...] = (1,)
    backends: tuple[str, ...] = ("cpu",)
    seconds: float = 0.06
    seed: int = 0
    pj_per_operation: float = Costs.pj_per_operation
    pj_per_mac: float = Costs.pj_per_mac

    def __post_init__(self) -> None:
        checks.plain(self, ("networks", "shapes", "densities", "kept", "batches", "threads", "backends"))
        checks.kind("data", self.data, str)
        check_names(self.networks)
        for name in ("densities", "kept"):
            for value in getattr(self, name):
                checks.number(name, value, above=0, most=1)
        for name in ("batches", "threads"):
            for value in getattr(self, name):
                checks.integer(name, value, 1)
        checks.integer("bins", self.bins, 1)
        checks.integer("seed", self.seed, 0)
        for name in ("window", "seconds"):
            checks.number(name, getattr(self, name), above=0)
        for name in PICOJOULES:
            checks.number(name, getattr(self, name), least=0)
        for name in self.backends:
            get(name)

    @classmethod
    def quick(cls, **changes: Any) -> Sparsity:
        """Return settings for a minute: two networks, few shapes and densities, one size of batch."""
        few = tuple(shape for shape in GRID if shape.maps != 128 and shape.kernel in (3, 5))
        fields: dict[str, Any] = {"networks": ("digits", "mozafari2019_mnist"), "shapes": few, "batches": (32,)}
        fields |= {"densities": (0.01, 0.1, 1.0), "kept": (1.0, 0.1), "seconds": 0.02}
        return cls(**(fields | changes))


def sparsity(
    settings: Sparsity | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    resume: bool = False,
    command: str | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
) -> list[Row]:
    """Time layers at many densities, event-driven and dense.

    Parameters
    ----------
    settings : Sparsity, optional
    out : path, optional
        File of JSON lines, written anew by rename after each run; see :mod:`eventsnn.study.results`.
    resume : bool
        Continue what was cut: runs that ``out`` has are taken from there. All of them must be of this study, which may
        have more.
    command : str, optional
        What the rows name as the command that made them.
    progress : callable, optional
        Called with (done, total, phase).
    say : callable, optional
        Takes a line for people after each run.

    Returns
    -------
    list of dict
        One row for each run. ``seconds`` and ``dense_seconds`` are per sample, the least of interleaved repeats:
        processor time, or wall time with several threads or on a device (``clock``); ``energy`` and ``dense_energy``
        are joules. :mod:`eventsnn.study.cost` makes of the times a cost model and the densities where the curves cross.

    Raises
    ------
    ValueError
        If ``out`` is there and shall not be continued, or has other runs; or ``settings.data`` holds no events, or fits
        no layer.
    OSError
        If a file cannot be read or written.
    """
    checks.kind("settings", settings, Sparsity)
    wanted = settings or Sparsity()
    course = Course(out, resume, command, progress, say)
    return carry_out("sparsity", wanted.seed, _runs(wanted), course, _line)


def _line(row: Row) -> str:
    layer = f"{row['layer']}{' + ' + row['pool'] if row['pool'] else ''} on {row['shape']}"
    times = f"{1e6 * row['seconds']:,.0f} µs, dense {1e6 * row['dense_seconds']:,.0f} µs"
    return f"{layer}, {row['source']} density {row['density']:.3g}, {row['batch']} at a time: {times}"


def _runs(settings: Sparsity) -> list[Run]:
    cases = published(settings.networks) + [shape.case() for shape in settings.shapes]
    drawn = itertools.product(cases, settings.densities)
    stimuli: list[_Stimuli] = [_Stimuli(case, "synthetic", part, settings) for case, part in drawn]
    if settings.data is not None:
        events = real(settings.data, max(settings.batches), settings.bins, settings.window)
        fitting = on_grid(cases, events.shape)
        if not fitting:
            raise ValueError(f"{settings.data}: expected a grid that fits a layer of the study, got {events.shape}")
        stimuli += [
            _Stimuli(c, "events", part, settings, events) for c, part in itertools.product(fitting, settings.kept)
        ]
    quickest: dict[Any, dense.Way] = {}
    return [_run(stimulus, *way, quickest) for stimulus in stimuli for way in _ways(settings, stimulus)]


def _ways(settings: Sparsity, stimulus: _Stimuli) -> Iterator[tuple[str, int, int]]:
    """Return backends, threads and sizes of batches, each that there are samples for, or else all of them."""
    sizes = dict.fromkeys(min(size, stimulus.samples) for size in settings.batches)
    return itertools.product(settings.backends, settings.threads, sizes)


class _Stimuli:
    """A layer's input, made when it is first asked for and given back after its last run."""

    def __init__(self, case: Case, source: str, part: float, settings: Sparsity, events: Events | None = None) -> None:
        self.case, self.source, self.part, self.settings, self._real = case, source, part, settings, events

    def events(self, batch: int) -> Events:
        settings = self.settings
        if self._real is None:
            return synthetic(self.case.shape, self.part, settings.bins, batch, settings.seed)
        return thinned(self._real[:batch], self.part, settings.seed)

    @property
    def samples(self) -> int:
        """How many there are, at most."""
        return max(self.settings.batches) if self._real is None else len(self._real)

    def describe(self) -> dict[str, Any]:
        conv, pool = self.case.conv, self.case.pool
        return {
            "source": self.source,
            "data": self.settings.data if self.source == "events" else None,
            "part": self.part,
            "shape": list(self.case.shape),
            "conv": repr(conv),
            "pool": repr(pool),
            "held_out": self.case.held_out,
            "networks": self.case.networks,
        }


def _run(stimulus: _Stimuli, backend: str, threads: int, batch: int, quickest: dict[Any, dense.Way]) -> Run:
    settings = stimulus.settings
    config = stimulus.describe() | {"backend": backend, "threads": threads, "batch": batch, "bins": settings.bins}
    config |= {"seconds": settings.seconds, "seed": settings.seed}
    config |= {name: float(getattr(settings, name)) for name in PICOJOULES}
    return Run(config, partial(_measured, stimulus, backend, threads, batch, quickest))


def _measured(
    stimulus: _Stimuli, backend: str, threads: int, batch: int, quickest: dict[Any, dense.Way]
) -> dict[str, Any]:
    case, settings = stimulus.case, stimulus.settings
    events, weights = stimulus.events(batch), case.weights(settings.seed)
    net = case.network(backend_with(backend, threads))
    net.set_weights(0, weights)
    counts = counted(case, net, events)
    few = events[: dense.samples_of(counts["macs"] / (events.duration if case.decides else 1), len(events))]
    clock = clock_of(backend, threads)
    library, theirs = _dense(case, weights, few, threads, quickest)
    ours = (lambda: list(net.each(_first_winners, events, len(events)))) if case.decides else (lambda: net.run(events))
    seconds, dense_seconds = interleaved([ours, theirs], clock, settings.seconds)
    return {
        "source": stimulus.source,
        "layer": str(case.conv),
        "pool": None if case.pool is None else str(case.pool),
        "shape": "x".join(map(str, case.shape)),
        "network": case.networks,
        "held_out": case.held_out,
        "kernel": _kernel(case, len(events)),
        "density": float(events.density().mean()),
        "bins": events.duration,
        "batch": len(events),
        "clock": "cpu" if clock is time.thread_time else "wall",
        "threads": threads,
        "backend": backend,
        **counts,
        "energy": (counts["operations"] - counts["stopped"]) * settings.pj_per_operation * 1e-12,
        "dense_energy": counts["macs"] * settings.pj_per_mac * 1e-12,
        "seconds": seconds / len(events),
        "dense": library,
        "dense_seconds": dense_seconds / len(few),
    }


def _first_winners(net: Network, batch: Events) -> np.ndarray:
    return net.decide(batch, 0, 1).winners


def _kernel(case: Case, samples: int) -> str:
    if case.decides:
        return "decide" if samples >= _TABLES else "settle"
    return "fire" if case.pool is None else "pool"


def _dense(
    case: Case, weights: np.ndarray, few: Events, threads: int, quickest: dict[Any, dense.Way]
) -> tuple[str, Callable[[], Any]]:
    """Return the library and the quickest dense version, tried once for each layer and number of samples."""
    waves = dense.waves_of(case, few)
    library, ways = dense.ways(case, weights, len(few), threads)
    key = (case, few.duration, len(few), threads)
    if key not in quickest:
        clock = clock_of(_HOSTS[0], threads)
        works = [way(waves) for way in ways]
        taken = interleaved(works, clock, 0.0, least=1) if len(ways) > 1 else [0.0]
        quickest[key] = ways[int(np.argmin(taken))]
    return library, quickest[key](waves)


def backend_with(name: str, threads: int) -> Backend:
    """Return a backend by name; that of the processor with so many threads."""
    if name != "cpu":
        return get(name)
    from eventsnn.backends.cpu import CpuBackend

    return CpuBackend(threads)


def clock_of(backend: str, threads: int) -> Clock:
    """Return the clock of a run: the processor time of this thread where it does all the work, else wall time."""
    return time.thread_time if backend in _HOSTS and threads == 1 else time.perf_counter


def interleaved(works: Sequence[Callable[[], Any]], clock: Clock, seconds: float, least: int = 3) -> list[float]:
    """Return the least time that each of several functions takes, measured in turns, the first call apart.

    Parameters
    ----------
    seconds : float
        How long each is measured at least, over all turns.
    least : int
        Turns, at least.
    """
    for work in works:
        work()
    best, spent, turns = [math.inf] * len(works), [0.0] * len(works), 0
    while turns < least or min(spent) < seconds:
        for i, work in enumerate(works):
            if clock is not time.thread_time:
                _calm()
            turn = 0.0
            while turn < _ROUND:
                begun = clock()
                work()
                taken = clock() - begun
                best[i], turn = min(best[i], taken), turn + max(taken, 1e-7)
            spent[i] += turn
        turns += 1
    return best


def _calm() -> None:
    """Wait until no thread of this process is busy: those of BLAS and OpenMP turn for a while before they sleep."""
    begun = time.monotonic()
    while time.monotonic() - begun < _LONGEST:
        before = time.process_time()
        time.sleep(_PAUSE)
        if time.process_time() - before < _PAUSE / 4:
            return
