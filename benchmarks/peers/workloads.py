"""Networks with their inputs and weights, cut into tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.peers.tasks import Lesson, Stack, Task
from eventsnn import RSTDP, STDP, WTA, Conv, Doubling, Events, Network, PointwiseInhibition, Pool, fit
from eventsnn.backends.cpu import CpuBackend
from eventsnn.encode import ImageEncoder, published
from eventsnn.io import load_images
from eventsnn.models import Model, Step, kheradpisheh2018_mnist, mozafari2019_mnist, spyker_mnist

TRAINING = {"mnist": 4000, "caltech": 400, "nmnist": 500}
MANY = 10_000  # images for two threads: as many as MNIST has to test on


class NoData(Exception):  # noqa: N818  # it is no error
    """The data of a workload are not here."""


@dataclass(frozen=True)
class Options:
    """Where data and learnt weights lie, and how many samples are measured."""

    data: Path
    scratch: Path
    images: int


@dataclass(frozen=True, eq=False)
class Workload:
    """A network with weights, and the samples that programs are timed on."""

    name: str
    tasks: tuple[Task, ...]
    describes: str  #: where samples and weights come from


# Samples


def mnist(options: Options, size: tuple[int, int] = (28, 28)) -> tuple[np.ndarray, np.ndarray, str]:
    """Return pixels, labels and their name: of MNIST, or of scikit-learn's digits enlarged where there is no MNIST."""
    folder = options.data / "mnist"
    if folder.is_dir():
        images = load_images(folder, "train", size=size)
        return images.pixels, images.labels, "MNIST"
    images = load_images("digits", size=size)
    return images.pixels, images.labels, "scikit-learn's digits, enlarged, for want of MNIST"


def caltech(options: Options) -> tuple[np.ndarray, np.ndarray, str]:
    """Return faces and motorbikes of 160 x 250 pixels in mixed order."""
    if not (options.data / "caltech").is_dir():
        raise NoData("no folder caltech with Faces and Motorbikes")
    images = load_images(options.data / "caltech", size=(160, 250))
    order = np.random.default_rng(0).permutation(len(images))
    return images.pixels[order], images.labels[order], "Caltech faces and motorbikes, 250 x 160"


def nmnist(options: Options) -> Events:
    """Return recordings of N-MNIST with every event, in microseconds, in mixed order."""
    files = sorted((options.data / "nmnist" / "Train").glob("*/*.bin"))
    if not files:
        raise NoData("no recordings nmnist/Train/<digit>/<number>.bin")
    chosen = np.random.default_rng(0).permutation(len(files))[: TRAINING["nmnist"] + options.images]
    parts = [_atis(files[i]) for i in chosen]
    labels = [int(files[i].parent.name) for i in chosen]
    return Events.from_structured(parts, shape=(2, 34, 34), duration=320_000, labels=labels)


def _atis(path: Path) -> np.ndarray:
    """Read events of 40 bits: x, y, polarity and 23 bits of microseconds (Orchard et al. 2015)."""
    raw = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 5).astype(np.int64)
    events = np.empty(len(raw), [("x", "u2"), ("y", "u2"), ("t", "i8"), ("p", "u1")])
    events["x"], events["y"], events["p"] = raw[:, 0], raw[:, 1], raw[:, 2] >> 7
    events["t"] = (raw[:, 2] & 127) << 16 | raw[:, 3] << 8 | raw[:, 4]
    return events[events["t"] < 320_000]


Source = Callable[[Options], tuple[np.ndarray, np.ndarray, str]]

# Networks


def faces() -> Model:
    """Return the network of Kheradpisheh et al. 2018 for faces and motorbikes, as SDNN_python has it."""
    layers = (
        Conv(4, 5, padding=2, threshold=10),
        Pool(7, 6, padding=3),
        Conv(20, 17, padding=8, threshold=60),
        Pool(5, 5),
        Conv(20, 5, padding=2, threshold=2),
    )
    rule, schedule = STDP(0.004, -0.003), Doubling(every=100, limit=0.15)
    steps = (
        Step(0, rule, WTA(2, radius=8), epochs=1, schedule=schedule),
        Step(2, rule, WTA(5, radius=5), epochs=2, schedule=schedule),
        Step(4, rule, WTA(5, radius=1), epochs=2, schedule=schedule),
    )
    return Model("faces", published.kheradpisheh2018_mnist(), (160, 250), layers, steps)


def camera() -> Model:
    """Return a network of two layers for recordings of a camera; there is no encoder, every event counts."""
    layers = (Conv(32, 5, padding=2, threshold=15), Pool(2), Conv(64, 3, padding=1, threshold=10), Pool(2))
    rule, schedule = STDP(0.004, -0.003), Doubling(every=100, limit=0.15)
    steps = (
        Step(0, rule, WTA(5, radius=3), epochs=1, schedule=schedule),
        Step(2, rule, WTA(8, radius=1), epochs=1, schedule=schedule),
    )
    return Model("nmnist", published.kheradpisheh2018_mnist(), (34, 34), layers, steps)


def quick_spyker() -> Model:
    """Return Spyker's network, its rates rising ten times as often: it is to learn from 4,000 images, not 60,000."""
    model = spyker_mnist()
    schedule = Doubling(every=200, limit=1.5, factor=1.5)
    return replace(model, steps=tuple(replace(step, schedule=schedule) for step in model.steps))


def trained(model: Model, events: Events, options: Options) -> Network:
    """Train every layer, or take what an earlier run has left in the scratch folder."""
    path = options.scratch / f"{model.name}-{len(events)}.h5"
    if path.is_file():
        return Network.load(path, CpuBackend(1))
    net = Network(model.layers, events.shape, backend=CpuBackend(1))
    for step in model.steps:
        fit(net, events, **vars(step))
    options.scratch.mkdir(parents=True, exist_ok=True)
    net.save(path)
    return net


# Tasks


def whole(net: Network) -> Stack:
    """Return all layers of a network with their weights."""
    return part(net, 0, len(net.layers))


def part(net: Network, start: int, stop: int) -> Stack:
    """Return some layers of a network with their weights."""
    weights = {i - start: net.weights[i] for i in net.trainable if start <= i < stop}
    return Stack(net.layers[start:stop], weights)


def all_layers(net: Network, events: Events, stage: str = "all layers", alone: bool = False) -> Task:
    """Return the task of inference of all layers."""
    return Task(stage, whole(net), events, additions=_additions(net, 0, len(net.layers), events), alone=alone)


def stages(net: Network, model: Model, events: Events) -> Iterator[Task]:
    """Yield inference of all layers, of single ones with the pool after them, and learning of each."""
    yield all_layers(net, events)
    if np.isinf(getattr(net.layers[-1], "threshold", 0)):
        yield Task("layers 1-2", part(net, 0, 4), events, additions=_additions(net, 0, 4, events))
    for number, layer in enumerate(net.trainable, 1):
        below, stop = net.run(events, stop=layer), layer + 1
        if stop < len(net.layers) and isinstance(net.layers[stop], Pool):
            stop += 1
        yield Task(f"layer {number}", part(net, layer, stop), below, additions=_additions(net, layer, stop, below))
    for number, step in enumerate(model.steps, 1):
        below = net.run(events, stop=step.layer)
        if step.inhibit_input:
            below = PointwiseInhibition().run(below, net.backend)
        additions = float(_operations(net.layers[step.layer], below))
        yield Task(f"learning layer {number}", events=below, lesson=lesson(net, step), additions=additions)


def upwards(net: Network, model: Model, events: Events) -> Iterator[Task]:
    """Yield learning of the deeper layers with inference of those below, as without a cache of spikes."""
    for number, step in enumerate(model.steps[1:], 2):
        name, additions = f"learning layer {number} from the input", _additions(net, 0, step.layer + 1, events)
        yield Task(name, part(net, 0, step.layer), events, lesson=lesson(net, step), additions=additions)


def lesson(net: Network, step: Step) -> Lesson:
    """Return how a layer goes on learning, at the published initial rates."""
    layer = net.layers[step.layer]
    assert isinstance(layer, Conv)
    assert isinstance(step.rule, STDP | RSTDP)
    assert isinstance(step.competition, WTA)
    classes = np.repeat(np.arange(10), layer.features // 10) if isinstance(step.rule, RSTDP) else None
    return Lesson(layer, net.weights[step.layer], step.rule, step.competition, classes)


def _additions(net: Network, start: int, stop: int, events: Events) -> float:
    """Return how many synaptic additions the layers are defined by, those of neurons that fired included."""
    inputs = [events, *net.run(events, start=start, stop=stop, record=True)]
    layers = net.layers[start:stop]
    return float(sum(_operations(layer, spikes) for layer, spikes in zip(layers, inputs, strict=False)))


def _operations(layer: object, spikes: Events) -> int:
    return int(layer.synaptic_operations(spikes).sum()) if isinstance(layer, Conv) else 0


# Workloads


def learnt(model: Model, source: Source, options: Options, upward: bool = False) -> Workload:
    """Return a workload with weights that a network learnt from a few thousand images.

    With ``upward`` it also has the tasks of the whole training, and those of eventsnn alone.
    """
    pixels, labels, name = source(options)
    few = min(TRAINING["caltech" if name.startswith("Caltech") else "mnist"], len(pixels) - options.images)
    net = trained(model, model.encoder.encode(pixels[:few], labels[:few]), options)
    images = pixels[few : few + options.images]
    events = model.encoder.encode(images, labels[few : few + options.images])
    tasks = [*stages(net, model, events), encoding(model.encoder, images)]
    if upward:
        tasks += upwards(net, model, events)
    tasks.append(replace(tasks[0], stage="end to end", events=None, images=images, encoder=model.encoder))
    if upward:
        many = pixels[few : few + MANY]
        tasks.append(all_layers(net, model.encoder.encode(many), stage="all layers, many images", alone=True))
        tasks.append(replace(encoding(model.encoder, many), stage="encoding, many images", alone=True))
    return Workload(model.name, tuple(tasks), f"{name}; weights learnt from {few} images")


def encoding(encoder: ImageEncoder, images: np.ndarray) -> Task:
    """Return the task of making events of images."""
    return Task("encoding", images=images, encoder=encoder)


def untrained(model: Model, options: Options) -> Workload:
    """Return a workload with initial weights, with which nearly every neuron fires."""
    pixels, labels, name = mnist(options)
    events = model.encoder.encode(pixels[-options.images :], labels[-options.images :])
    net = Network(model.layers, events.shape, backend=CpuBackend(1))
    return Workload(f"{model.name}, untrained", tuple(stages(net, model, events)), f"{name}; initial weights")


def recordings(options: Options) -> Workload:
    """Return the camera's workload: every event at its microsecond, then at its millisecond."""
    model, events = camera(), nmnist(options)
    few = len(events) - options.images
    net, measured = trained(model, events[:few], options), events[few:]
    tasks = [replace(task, stage=f"{task.stage}, microseconds") for task in stages(net, model, measured)]
    coarse = _coarse(measured)
    every = (task for task in stages(net, model, coarse) if task.stage in ("all layers", "layer 1"))
    tasks += [replace(task, stage=f"{task.stage}, milliseconds") for task in every]
    return Workload("nmnist", tuple(tasks), f"N-MNIST, every event; weights learnt from {few} recordings")


def _coarse(events: Events) -> Events:
    """Return microseconds as bins of a millisecond."""
    columns = (events.time // 1000, events.channel, events.y, events.x)
    duration = events.duration // 1000
    return Events.from_columns(
        *columns, shape=events.shape, offsets=events.offsets, duration=duration, labels=events.labels
    )


def _fewer(options: Options, part: int) -> Options:
    return replace(options, images=max(1, options.images // part))


WORKLOADS: dict[str, Callable[[Options], Workload]] = {
    "mozafari2019_mnist": lambda o: learnt(mozafari2019_mnist().with_epochs([2, 4, 1]), mnist, o, upward=True),
    "mozafari2019_mnist, untrained": lambda o: untrained(mozafari2019_mnist(), o),
    "kheradpisheh2018_mnist": lambda o: learnt(kheradpisheh2018_mnist().with_epochs([2, 4]), mnist, o),
    "spyker_mnist": lambda o: learnt(quick_spyker(), mnist, o),
    "faces": lambda o: learnt(faces(), caltech, _fewer(o, 8)),
    "nmnist": lambda o: recordings(_fewer(o, 4)),
}
