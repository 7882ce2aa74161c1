"""SpykeTorch, from a clone beside the project: one image at a time, time as the batch axis of its tensors."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.peers.tasks import (
    Absent,
    Job,
    Lesson,
    NotOffered,
    Task,
    check_steps,
    cumulative,
    fires_again,
    latency_of_waves,
    winners_array,
)
from eventsnn import RSTDP, Pool
from eventsnn.encode import DoG, EqualBins, Filter, ImageEncoder, LocalNormalization

_TIES = "its sort leaves equal intensities in any order"


def load(folder: Path) -> SpykeTorch:
    """Import the clone.

    Raises
    ------
    Absent
        If there is none, or no PyTorch.
    """
    if not (folder / "SpykeTorch" / "snn.py").is_file():
        raise Absent("no clone of github.com/miladmozafari/SpykeTorch (--spyketorch FOLDER or SPYKETORCH)")
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError as error:
        raise Absent("PyTorch is not installed") from error
    torch.set_num_threads(1)
    if importlib.util.find_spec("torchvision") is None:  # it is imported, but nothing of it is used here
        module = ModuleType("torchvision")
        module.transforms = module.datasets = SimpleNamespace()  # type: ignore[attr-defined]
        sys.modules["torchvision"] = module
    sys.path.insert(0, str(folder.resolve()))
    parts = (importlib.import_module(f"SpykeTorch.{name}") for name in ("snn", "functional", "utils"))
    return SpykeTorch(f"{_commit(folder)}, torch {torch.__version__}", torch, *parts)


def _commit(folder: Path) -> str:
    """Return the commit of a clone, or a digest of the files of a copy."""
    git = ["git", "-C", str(folder), "rev-parse", "--show-toplevel", "--short", "HEAD"]
    top, _, commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip().partition("\n")
    if top and Path(top).resolve() == folder.resolve():
        return f"commit {commit}"
    files = (folder / "SpykeTorch" / f"{name}.py" for name in ("snn", "functional", "utils"))
    return "files " + hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:10]


@dataclass(frozen=True)
class SpykeTorch:
    """The program, with its modules."""

    version: str
    torch: Any
    snn: Any
    functional: Any
    utils: Any
    name: str = "SpykeTorch"
    threads: int = 1
    device: str = "cpu"

    def prepare(self, task: Task) -> Job:
        """Return the job, image by image."""
        if fires_again(task):
            raise NotOffered("an input fires at most once")
        check_steps(task)
        encode = self._encoder(task)
        layers = [self._layer(layer, weights) for layer, weights in task.stack.parts()]

        def forward(sample: int) -> Any:
            wave = encode(sample)
            for layer in layers:
                wave = layer(wave)
            return wave

        if task.lesson is not None:
            return self._learning(task, task.lesson, forward)

        def work(_: Any) -> Iterator[Any]:
            yield from map(forward, range(task.samples))

        return Job(
            work, _decision if task.stack.decides else _latency, differs=_TIES if task.images is not None else ""
        )

    def _encoder(self, task: Task) -> Any:
        if task.images is None or task.encoder is None:
            assert task.events is not None
            waves = self.torch.from_numpy(cumulative(task.events))
            return lambda sample: waves[sample].to(self.device)
        transform = self._front_end(task.encoder)
        images = self.torch.from_numpy(task.images)
        return lambda sample: transform(images[sample].float()[None, None])

    def _front_end(self, encoder: ImageEncoder) -> Any:
        match encoder:
            case ImageEncoder((Filter() as bank, LocalNormalization(radius)), EqualBins(bins), False):
                known = all(isinstance(k, DoG) and k.normalization == "maximum" for k in bank.kernels)
            case _:
                known = False
        if not known:
            raise NotOffered("no such front end")
        kernels = [self.utils.DoGKernel(k.window, k.sigma1, k.sigma2) for k in bank.kernels]  # type: ignore[attr-defined]
        cells = self.utils.Filter(kernels, padding=bank.padding, thresholds=bank.threshold)
        to_latency = self.utils.Intensity2Latency(bins, to_spike=True)
        return lambda image: to_latency(self.functional.local_normalization(cells(image), radius))

    def _layer(self, layer: Any, weights: np.ndarray | None) -> Any:
        sf = self.functional
        if isinstance(layer, Pool):
            return self.snn.Pooling(_xy(layer.kernel), _xy(layer.stride), _xy(layer.padding))
        if weights is None:
            return lambda wave: sf.pointwise_inhibition(wave)
        convolution, pads = self._convolution(weights), _pads(layer)
        if np.isinf(layer.threshold):

            def decide(wave: Any) -> Any:
                potential = convolution(sf.pad(wave, pads))
                return sf.get_k_winners(potential, 1, 0, sf.fire(potential))

            return decide
        return lambda wave: sf.fire(convolution(sf.pad(wave, pads)), layer.threshold)

    def _convolution(self, weights: np.ndarray) -> Any:
        maps, channels, height, width = weights.shape
        convolution = self.snn.Convolution(channels, maps, (height, width))
        convolution.load_weight(self.torch.from_numpy(weights))
        return convolution.to(self.device)

    def _learning(self, task: Task, lesson: Lesson, forward: Any) -> Job:
        present = self._present_rewarded if isinstance(lesson.rule, RSTDP) else self._present
        labels = None if task.events is None else task.events.labels

        def setup() -> Any:
            convolution = self._convolution(lesson.weights)
            rules = lesson.rule.rules() if isinstance(lesson.rule, RSTDP) else (lesson.rule,)
            return convolution, [self._rule(convolution, rule) for rule in rules]

        def work(state: Any) -> Iterator[Any]:
            for sample in range(task.samples):
                label = -1 if labels is None else int(labels[sample])
                yield present(self.functional.pad(forward(sample), _pads(lesson.layer)), label, lesson, *state)

        return Job(work, lambda winners: winners_array([winners], lesson.competition.k), setup)

    def _rule(self, convolution: Any, rule: Any) -> Any:
        stabilizer = rule.update(1).dependence == "stabilized"
        stdp = self.snn.STDP(convolution, (rule.a_plus, rule.a_minus), stabilizer, *rule.bounds)
        return stdp.to(self.device)

    def _present(self, wave: Any, _: int, lesson: Lesson, convolution: Any, rules: list[Any]) -> Any:
        sf, wta = self.functional, lesson.competition
        potential = sf.pointwise_inhibition(sf.threshold(convolution(wave), lesson.layer.threshold))
        spikes = potential.sign()
        winners = sf.get_k_winners(potential, wta.k, wta.radius, spikes)
        rules[0](wave, potential, spikes, winners)
        return winners

    def _present_rewarded(self, wave: Any, label: int, lesson: Lesson, convolution: Any, rules: list[Any]) -> Any:
        assert lesson.classes is not None
        potential = convolution(wave)
        spikes = self.functional.fire(potential)
        winners = self.functional.get_k_winners(potential, 1, 0, spikes)
        if winners:
            right = lesson.classes[winners[0][0]] == label
            rules[0 if right else 1](wave, potential, spikes, winners)
        return winners


def _xy(pair: Any) -> tuple[int, int]:
    return int(pair[0]), int(pair[1])


def _pads(layer: Any) -> tuple[int, int, int, int]:
    vertical, horizontal = layer.padding
    return horizontal, horizontal, vertical, vertical


def _latency(wave: Any) -> np.ndarray:
    return latency_of_waves(wave.numpy()[None])


def _decision(winners: Any) -> np.ndarray:
    return np.array([winners[0][0] if winners else -1], np.int64)
