"""What ``benchmarks.gpu`` measures is what it says, with this machine's CPU in place of a device."""

import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType

import hostcuda.examples
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import gpu  # noqa: E402
from benchmarks.peers.tasks import Lesson, Stack, Task  # noqa: E402
from eventsnn import STDP, WTA, Conv, Network, Pool, decide, inf  # noqa: E402
from eventsnn.backends import get  # noqa: E402
from eventsnn.backends.cuda import CudaBackend  # noqa: E402
from eventsnn.backends.device import Device  # noqa: E402

pytestmark = pytest.mark.skipif(hostcuda.COMPILER is None, reason="no C++ compiler here; CXX may name one")
EVENTS = hostcuda.examples.layer().events


@pytest.fixture
def task():
    """Return the inference of a small network that decides."""
    layers, events = (Conv(5, 3, padding=1, threshold=1.5), Pool(2), Conv(3, (3, 2), threshold=inf)), EVENTS
    weights = Network(layers, events.shape, seed=3, backend="reference").weights
    return Task("all layers", Stack(layers, dict(weights)), events)


def test_inference_decides_as_the_reference(task):
    net = gpu.network(task, get("reference"))
    found = gpu.inference(task, hostcuda.backend())()
    assert np.array_equal(found, decide(net, EVENTS, np.arange(3)))
    assert len(set(found)) > 1


def test_learning_finds_the_winners_of_the_reference():
    layer = Conv(5, 3, padding=1, threshold=1.5)
    weights = Network([layer], EVENTS.shape, seed=3, backend="reference").weights[0].copy()
    task = Task("learning", events=EVENTS, lesson=Lesson(layer, weights, STDP(0.1, -0.1), WTA(2, radius=1)))
    found, expected = (gpu.learning(task, backend)() for backend in (hostcuda.backend(), get("reference")))
    assert np.array_equal(found, expected)
    assert (expected >= 0).any()


def test_bytes_that_a_layer_loads():
    layer, events = Conv(5, 3, padding=1, threshold=1), EVENTS[:1]
    grid = np.zeros((6 + 2, 5 + 2), int)
    np.add.at(grid, (events.y.astype(int) + 1, events.x.astype(int) + 1), 1)
    entries = sum(grid[y : y + 3, x : x + 3].sum() for y in range(6) for x in range(5))
    assert gpu.loaded_bytes(layer, events) == entries * 8 * 4  # five maps lie in rows of eight


class Clock:
    """Stands for CuPy's events: each is one second after the one before."""

    now = 0

    class cuda:  # noqa: N801
        class Event:
            def record(self):
                Clock.now += 1
                self.at = Clock.now

        class Device:
            def synchronize(self):
                pass

        @staticmethod
        def get_elapsed_time(start, end):
            return 1e3 * (end.at - start.at)


def test_kernels_are_timed_one_by_one():
    kernels = gpu.TimedKernels(Clock, hostcuda.HostModule(hostcuda.build()))
    backend = CudaBackend(Device(hostcuda.HostArrays(), kernels, 8))
    layers = [Conv(5, 3, padding=1, threshold=1.5), Pool(2)]
    nets = [Network(layers, EVENTS.shape, seed=3, backend=one) for one in ("reference", backend)]
    assert nets[1].run(EVENTS).equals(nets[0].run(EVENTS))
    first = kernels.seconds()
    assert {"conv", "count_fields", "fill_fields", "pool_fired", "emit"} <= set(first)
    assert first["conv"] == 1.0
    nets[1].run(EVENTS[:2])
    nets[1].run(EVENTS[:2])
    assert kernels.seconds()["conv"] == 2.0
    assert kernels.seconds() == {}


def test_kernels_whose_blocks_wait_for_each_other_are_timed():
    kernels = gpu.TimedKernels(Clock, hostcuda.HostModule(hostcuda.build()))
    backend = CudaBackend(Device(hostcuda.HostArrays(), kernels, 7, processors=3))
    assert hostcuda.examples.learns_alike(hostcuda.examples.lessons()["online"], backend)
    assert kernels.seconds()["learn_online"] == 1.0


@pytest.mark.parametrize("only", [True, False])
def test_the_outcome_of_the_tests_is_recorded_before_anything_is_measured(only, monkeypatch):
    def measured(*_):
        assert len(lines) == 1
        raise MemoryError("no figure today")

    properties = type("Runtime", (), {"getDeviceProperties": lambda _, index: {"name": b"a device"}})()
    cupy, lines = ModuleType("cupy"), []
    cupy.cuda = type("cuda", (), {"runtime": properties})
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(gpu, "get", lambda name: None)
    monkeypatch.setattr(gpu, "run_tests", lambda: {"passed": 3})
    monkeypatch.setattr(gpu, "append", lambda name, line: lines.append(line))
    monkeypatch.setattr(gpu, "measured", measured)
    with nullcontext() if only else pytest.raises(MemoryError, match="no figure today"):
        gpu.main(["--only-tests"] if only else [])
    (line,) = lines
    assert (line["tests"], line["device"], line["sources"]) == ({"passed": 3}, "a device", gpu.fingerprint())


def test_without_a_device_nothing_is_recorded(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    gpu.cuda_device.cache_clear()
    with pytest.raises(SystemExit, match="nothing is measured: the cuda backend needs CuPy"):
        gpu.main([])


def test_what_is_timed_is_the_median_of_warm_runs():
    runs = []

    class Cupy:
        class cuda:  # noqa: N801
            class Event:
                def record(self):
                    self.at = len(runs)

                def synchronize(self):
                    pass

            @staticmethod
            def get_elapsed_time(start, end):
                return 1e3 * end.at * (end.at - start.at)

    assert gpu.device_events(Cupy, 3)(lambda: runs.append(0)) == 3.0
    assert len(runs) == 4
