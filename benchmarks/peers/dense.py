"""The best dense version that a competent user would write in PyTorch.

Batch and time are folded together for ``conv2d``; the decision layer runs at the last step only, where its potentials
are final; memory layout and batch size are those that were fastest in a trial. Right for weights that are not negative:
then a neuron that has fired stays above its threshold.
"""

from __future__ import annotations

import importlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.peers.tasks import Absent, Job, NotOffered, Task, check_steps, cumulative, latency_of_waves
from eventsnn import Pool
from eventsnn.encode import EqualBins, Filter, ImageEncoder, LocalNormalization, OnOff
from eventsnn.encode.stages import Scale

GPU_BATCHES = (32, 128, 512)
BATCHES, LAYOUTS, TRIAL = (2, 8, 32), ("contiguous_format", "channels_last"), 32


def load(device: str = "cpu") -> Dense:
    """Import PyTorch; on a GPU it may round products to TF32.

    Raises
    ------
    Absent
        If it is not installed.
    """
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError as error:
        raise Absent("PyTorch is not installed") from error
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    return Dense(f"torch {torch.__version__}", torch, device=device)


@dataclass(frozen=True)
class Dense:
    """PyTorch, with the fastest way found for each network."""

    version: str
    torch: Any
    name: str = "dense PyTorch"
    threads: int = 1
    device: str = "cpu"
    ways: dict[Any, tuple[int, str]] = field(default_factory=dict)

    def prepare(self, task: Task) -> Job:
        """Return the job, batch by batch."""
        if task.lesson is not None:
            raise NotOffered("inference only")
        check_steps(task)
        size, layout = self._way(task)
        work = self._work(task, size, layout)
        read = _decision if task.stack.decides else _latency
        return Job(work, read, note=f"batches of {size}, {layout.removesuffix('_format').replace('_', ' ')}")

    def _way(self, task: Task) -> tuple[int, str]:
        """Try every way on the first network with the same layers; single layers take the way of their network."""
        key = (task.steps, task.events.shape if task.events is not None else task.encoder, len(task.stack.layers))
        if key not in self.ways:
            few = task.first(TRIAL if self.device == "cpu" else max(GPU_BATCHES))
            offered = BATCHES if self.device == "cpu" else GPU_BATCHES
            sizes = sorted({min(size, few.samples) for size in (offered if task.steps < 100 else (1, 2))})
            ways = [(size, layout) for size in sizes for layout in LAYOUTS]
            self.ways[key] = min(ways, key=lambda way: self._seconds(few, *way))
        return self.ways[key]

    def _seconds(self, task: Task, size: int, layout: str) -> float:
        work, seconds = self._work(task, size, layout), []
        next(work(None))
        for _ in range(3):
            start = self._clock()
            deque(work(None), maxlen=0)
            seconds.append(self._clock() - start)
        return min(seconds)

    def _clock(self) -> float:
        if self.device == "cpu":
            return time.process_time()
        self.torch.cuda.synchronize()
        return time.perf_counter()

    def _work(self, task: Task, size: int, layout: str) -> Callable[[Any], Iterator[Any]]:
        torch = self.torch
        layers = [self._layer(layer, weights, layout) for layer, weights in task.stack.parts()]
        if task.images is None:
            assert task.events is not None
            source, encode = torch.from_numpy(cumulative(task.events)), lambda waves: waves
        else:
            assert task.encoder is not None
            source, encode = torch.from_numpy(task.images), self._front_end(task.encoder)

        def work(_: Any) -> Iterator[Any]:
            with torch.inference_mode():
                for start in range(0, len(source), size):
                    waves = encode(source[start : start + size].to(self.device))
                    for layer in layers:
                        waves = layer(waves)
                    yield waves

        return work

    def _layer(self, layer: Any, weights: np.ndarray | None, layout: str) -> Any:
        torch, memory = self.torch, getattr(self.torch, layout)
        if weights is None and not isinstance(layer, Pool):
            raise NotOffered(f"no {layer}")
        kernel = None if weights is None else torch.from_numpy(weights).to(self.device, memory_format=memory)

        def folded(waves: Any) -> Any:
            return waves.flatten(0, 1).to(torch.float32).contiguous(memory_format=memory)

        def pool(waves: Any) -> Any:
            pooled = torch.nn.functional.max_pool2d(folded(waves), layer.kernel, layer.stride, layer.padding)
            return pooled.unflatten(0, waves.shape[:2])

        def fire(waves: Any) -> Any:
            potential = torch.nn.functional.conv2d(folded(waves), kernel, padding=layer.padding)
            return (potential > layer.threshold).unflatten(0, waves.shape[:2])

        def decide(waves: Any) -> Any:
            potential = torch.nn.functional.conv2d(folded(waves[:, -1:]), kernel, padding=layer.padding)
            return potential.flatten(1).max(1), potential[0, 0].numel()

        if kernel is None:
            return pool
        return decide if np.isinf(layer.threshold) else fire

    def _front_end(self, encoder: ImageEncoder) -> Any:
        if not isinstance(encoder.latency, EqualBins) or encoder.pointwise:
            raise NotOffered("no such front end")
        stages, bins = [self._stage(stage) for stage in encoder.stages], encoder.latency.bins

        def encode(images: Any) -> Any:
            values = images[:, None].float()
            for stage in stages:
                values = stage(values)
            return self._waves(values, bins)

        return encode

    def _stage(self, stage: Any) -> Any:
        torch, fn = self.torch, self.torch.nn.functional
        match stage:
            case Scale(factor):
                return lambda values: values * factor
            case OnOff(threshold, "both"):
                return lambda values: _above(torch.cat((values, -values), 1), threshold)
            case LocalNormalization(radius):
                side = 2 * radius + 1
                return lambda values: values / (fn.avg_pool2d(values, side, 1, radius) + 1e-12)
            case Filter(absolute=False):
                bank = torch.from_numpy(_bank(stage))
                keep = (lambda v: v) if stage.signed else (lambda v: _above(v, stage.threshold))
                return lambda values: keep(fn.conv2d(values, bank, padding=stage.padding))
        raise NotOffered(f"no {stage}")

    def _waves(self, values: Any, bins: int) -> Any:
        """Return waves (images, bins, maps, height, width) of equally many spikes in each bin."""
        torch = self.torch
        flat = values.flatten(1)
        order = flat.argsort(dim=1, descending=True, stable=True)
        each = ((flat > 0).sum(1, keepdim=True) // bins).clamp(min=1)
        time_of_rank = torch.arange(flat.shape[1])[None] // each
        latency = torch.empty_like(order).scatter_(1, order, time_of_rank).view(values.shape)
        return latency[:, None] <= torch.arange(bins).view(1, -1, 1, 1, 1)


def _bank(stage: Filter) -> np.ndarray:
    """Return the kernels, centred in the largest one's window."""
    bank = np.zeros((len(stage.kernels), 1, stage.window, stage.window), np.float32)
    for kernel, place in zip(stage.kernels, bank[:, 0], strict=True):
        edge = (stage.window - kernel.window) // 2
        place[edge : edge + kernel.window, edge : edge + kernel.window] = kernel.array()
    return bank


def _above(values: Any, threshold: float) -> Any:
    return values * (values >= threshold) if threshold > 0 else values.clamp(min=0)


def _latency(waves: Any) -> np.ndarray:
    return latency_of_waves(waves.numpy())


def _decision(outcome: Any) -> np.ndarray:
    (potential, index), positions = outcome
    return np.where(potential.numpy() > 0, index.numpy() // positions, -1)
