"""The CUDA backend on a device: its tests, then what it reaches: ``python -m benchmarks.gpu``.

Appends to ``results/gpu.jsonl``, each with the hash of kernels and launchers: a line with the outcome of
``pytest -m gpu`` as soon as that is known, then one with medians of warm runs by device events. Dense PyTorch and
SpykeTorch run on the same device where they are installed.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import dense, spyketorch, workloads
from benchmarks.peers.measuring import digits
from benchmarks.peers.ours import learn
from benchmarks.peers.tasks import Absent, Stack, Task
from benchmarks.record import append, environment
from benchmarks.render_gpu import fingerprint
from eventsnn import Conv, Events, Network, decide, inf
from eventsnn.backends import Backend, get
from eventsnn.backends.cuda import CudaBackend
from eventsnn.backends.device import Device, cuda_device
from eventsnn.batches import put
from eventsnn.layers import Layer
from eventsnn.models import mozafari2019_mnist

ROOT = Path(__file__).parents[1]
BATCH = 2048  # samples at a time
SECONDS = 0.32  # of an N-MNIST recording
PEER_IMAGES = 512  # for programs that need much longer
LOADS = """
extern "C" __global__ void loads(const float4 *from, unsigned n, int passes, float4 *sums) {
    const unsigned id = blockIdx.x * blockDim.x + threadIdx.x, all = gridDim.x * blockDim.x;
    float4 sum = make_float4(0, 0, 0, 0);
    for (int pass = 0; pass < passes; pass++) {
        for (unsigned i = id; i < n; i += all) {
            const float4 f = __ldcg(from + i);  // from the second-level cache
            sum.x += f.x, sum.y += f.y, sum.z += f.z, sum.w += f.w;
        }
    }
    sums[id] = sum;
}
"""

Seconds = Callable[[Callable[[], Any]], float]  #: the median time of a warm run


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    arguments = parse(argv)
    try:
        cuda = get("cuda")
    except RuntimeError as error:
        sys.exit(f"nothing is measured: {error}")
    import cupy

    circumstances = environment() | {"benchmark": "gpu", "sources": fingerprint()}
    circumstances["device"] = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    append("gpu", circumstances | {"tests": run_tests()})
    if not arguments.only_tests:
        append("gpu", circumstances | measured(arguments, cuda, cupy))


def measured(arguments: argparse.Namespace, cuda: Backend, cupy: Any) -> dict[str, Any]:
    """Return all figures."""
    timer = device_events(cupy, arguments.repeats)
    options = workloads.Options(arguments.data, arguments.scratch, arguments.images)
    line = mnist(options, cuda, timer, peers(arguments.spyketorch))
    line["l2_bytes_per_second"] = digits(l2_rate(cupy, timer))
    line["layers"] = layer_rates(options, arguments.repeats)
    try:
        line["nmnist_times_real_time"] = recordings(options, cuda, timer)
    except workloads.NoData as reason:
        print(f"N-MNIST: {reason}")
    return line


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--images", type=int, default=10_000, help="images of the inference (default 10000)")
    parser.add_argument("--repeats", type=int, default=5, help="warm runs (default 5)")
    parser.add_argument("--only-tests", action="store_true", help="record the outcome of the tests and end")
    data, clone = ROOT.parent / "shared" / "data", ROOT.parent / "SpykeTorch"
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("EVENTSNN_DATA") or data))
    parser.add_argument("--spyketorch", type=Path, default=Path(os.environ.get("SPYKETORCH") or clone))
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "eventsnn-peers")
    return parser.parse_args(argv)


def run_tests() -> dict[str, int]:
    """Return how many of the tests for a device passed, failed and were skipped."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-n", "0", "-q", "tests"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    print(said[-2000:])
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|skipped|error)", said)}
    return {word: counts.get(word, 0) for word in ("passed", "failed", "skipped", "error")}


def device_events(cupy: Any, repeats: int) -> Seconds:
    """Return what times work between two events of the device; the first run is not timed."""

    def seconds(work: Callable[[], Any]) -> float:
        work()
        times = []
        for _ in range(repeats):
            start, end = cupy.cuda.Event(), cupy.cuda.Event()
            start.record()
            work()
            end.record()
            end.synchronize()
            times.append(cupy.cuda.get_elapsed_time(start, end) / 1e3)
        return statistics.median(times)

    return seconds


def peers(clone: Path) -> list[Any]:
    """Return the other programs that are here, to run on the device."""
    found: list[Any] = []
    for load in (lambda: dense.load("cuda"), lambda: _spyketorch(clone)):
        try:
            found.append(load())
        except Absent as reason:
            print(f"absent: {reason}")
    return found


def _spyketorch(clone: Path) -> spyketorch.SpykeTorch:
    cpu = spyketorch.load(clone)
    return spyketorch.SpykeTorch(cpu.version, cpu.torch, cpu.snn, cpu.functional, cpu.utils, device="cuda")


def mnist(options: workloads.Options, cuda: Backend, timer: Seconds, others: Sequence[Any]) -> dict[str, Any]:
    """Return samples a second of ourselves and of others: inference, and learning of the first two layers."""
    work = workloads.learnt(mozafari2019_mnist(), workloads.mnist, options)
    tasks = {task.stage: task for task in work.tasks}
    found: dict[str, Any] = {"samples_are": work.describes, "images": tasks["all layers"].samples}
    for stage in ("all layers", "learning layer 1", "learning layer 2"):
        task = tasks[stage]
        job = inference(task, cuda) if task.lesson is None else learning(task, cuda)
        rates = {"eventsnn": digits(task.samples / timer(job))}
        few = task.first(PEER_IMAGES)
        for peer in others:
            if task.lesson is None or peer.name != "dense PyTorch":  # which has no learning
                rates[peer.name] = digits(few.samples / timer(of_peer(peer, few)))
        found[stage] = rates
    return found


def inference(task: Task, backend: Backend) -> Callable[[], Any]:
    """Return the inference of a task, transfers included."""
    net = network(task, backend)
    events = task.events
    assert events is not None
    if task.stack.decides:
        return lambda: decide(net, events, np.arange(net.shapes[-1][0]), batch_size=BATCH)
    return lambda: net.run(events, batch_size=BATCH)


def network(task: Task, backend: Backend) -> Network:
    """Return the network of a task."""
    assert task.events is not None
    net = Network(task.stack.layers, task.events.shape, backend=backend)
    for layer, weights in (task.stack.weights or {}).items():
        net.set_weights(layer, weights)
    return net


def learning(task: Task, backend: Backend) -> Callable[[], Any]:
    """Return a task's learning, online, on spikes that lie on the device."""
    lesson, events = task.lesson, task.events
    assert lesson is not None
    assert events is not None
    there = put(events, backend)
    return lambda: learn(lesson, backend, there, backend.pack(lesson.weights), 1)


def of_peer(peer: Any, task: Task) -> Callable[[], Any]:
    """Return a task as another program does it."""
    job = peer.prepare(task)
    return lambda: deque(job.work(job.setup()), maxlen=0)


def recordings(options: workloads.Options, cuda: Backend, timer: Seconds) -> float:
    """Return how many seconds of recordings are computed in a second."""
    few = workloads.Options(options.data, options.scratch, min(options.images, 1000))
    work = workloads.recordings(few)
    task = next(task for task in work.tasks if task.stage == "all layers, microseconds")
    return digits(task.samples * SECONDS / timer(inference(task, cuda)))


def l2_rate(cupy: Any, timer: Seconds) -> float:
    """Return the bytes a second that all multiprocessors together load from the second-level cache."""
    kernel, passes = cupy.RawKernel(LOADS, "loads"), 200
    blocks, block, n = 8 * cupy.cuda.Device().attributes["MultiProcessorCount"], 256, 1 << 20  # 16 MiB
    source, sums = cupy.zeros((n, 4), np.float32), cupy.empty((blocks * block, 4), np.float32)
    args = (source, np.uint32(n), np.int32(passes), sums)
    return passes * n * 16 / timer(lambda: kernel((blocks,), (block,), args))


class TimedKernels:
    """A kernel module that sums the device's time of each kernel."""

    def __init__(self, cupy: Any, module: Any) -> None:
        self._cupy, self._module = cupy, module
        self.pairs: dict[str, list[tuple[Any, Any]]] = {}

    def get_function(self, name: str) -> Any:
        """Return a kernel that is timed, and beneath it what is launched of blocks that wait for each other."""
        kernel = self._module.get_function(name)
        timed: Any = self._timed(name, kernel)
        timed.kernel = self._timed(name, kernel.kernel)
        return timed

    def _timed(self, name: str, kernel: Callable[..., Any]) -> Callable[..., None]:
        def launch(*args: Any, **kwargs: Any) -> None:
            start, end = self._cupy.cuda.Event(), self._cupy.cuda.Event()
            start.record()
            kernel(*args, **kwargs)
            end.record()
            self.pairs.setdefault(name, []).append((start, end))

        return launch

    def seconds(self) -> dict[str, float]:
        """Return the time of each kernel so far, and forget it."""
        self._cupy.cuda.Device().synchronize()
        elapsed = self._cupy.cuda.get_elapsed_time
        found = {name: sum(elapsed(*pair) for pair in pairs) / 1e3 for name, pairs in self.pairs.items()}
        self.pairs.clear()
        return found


def layer_rates(options: workloads.Options, repeats: int) -> list[dict[str, Any]]:
    """Return for each layer the weight bytes that its kernel loads in a second, and the time of every kernel.

    With infinite thresholds, so that every spike's weights are loaded, also those that a real one lets be left out.
    """
    import cupy

    work = workloads.learnt(mozafari2019_mnist(), workloads.mnist, options)
    task = work.tasks[0]
    kernels = TimedKernels(cupy, cuda_device(0).module)
    timed = CudaBackend(Device(cupy, kernels))
    net, events = network(task, get("cpu")), task.events
    assert events is not None
    batch, found = events[:BATCH], []
    for index in net.trainable:
        below = net.run(batch, stop=index)
        layer = Task("", Stack((_endless(net.layers[index]),), {0: net.weights[index]}), below)
        job = inference(layer, timed)
        job()
        kernels.seconds()
        for _ in range(repeats):
            job()
        seconds = {name: digits(s / repeats) for name, s in kernels.seconds().items()}
        rate = loaded_bytes(net.layers[index], below) / seconds["conv_at_end"]
        found.append({"layer": str(net.layers[index]), "bytes_per_second": digits(rate), "seconds": seconds})
    return found


def _endless(layer: Layer) -> Conv:
    assert isinstance(layer, Conv)
    return Conv(layer.features, layer.kernel, stride=layer.stride, padding=layer.padding, threshold=inf)


def loaded_bytes(layer: Layer, events: Events) -> int:
    """Return how many bytes of weights the neurons of a layer take in: 4 for each synaptic operation, and padding."""
    assert isinstance(layer, Conv)
    padded = -(-layer.features // 4) * 4
    return int(layer.synaptic_operations(events).sum()) // layer.features * padded * 4


if __name__ == "__main__":
    main()
