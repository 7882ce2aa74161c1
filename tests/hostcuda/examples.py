"""One run of every kernel on layers of several blocks, chunks and digits: ``python -m hostcuda.examples LIBRARY``.

For the sanitizers, which want a process of their own.
"""

import sys
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import strategies

import hostcuda
from eventsnn.backends import Geometry, LeakTable, Neurons, Reward, ThresholdAdaptation, Update, cuda_learning, get
from eventsnn.backends.cuda import CudaBackend
from eventsnn.backends.device import Device
from eventsnn.batches import fetch, put
from eventsnn.encode import falez2019_mnist, mozafari2019_mnist
from eventsnn.encoding import encoded
from eventsnn.events import Events

REFERENCE = get("reference")
OWN_RULE = strategies.by_time  # of the lesson "own": the library holds it


def layer(leak=None, at_end=False, maps=11):
    """Return a layer over samples of many, few and no spikes, with more distinct times than one digit holds."""
    rng = np.random.default_rng(7)
    shape, sizes = (2, 6, 5), [60, 0, 90, 1, 30]
    columns = [rng.integers(0, size, sum(sizes)) for size in (40, *shape)]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    labels = np.arange(len(sizes))
    events = Events.from_columns(*columns, shape=shape, offsets=offsets, duration=40, labels=labels)
    weights = rng.normal(0.3, 0.4, (maps, 2, 3, 2)).astype(np.float32)
    threshold = rng.uniform(0.5, 3, maps).astype(np.float32)
    if at_end:
        threshold[:] = np.inf
    neurons = Neurons(Geometry((3, 2), (1, 2), (1, 0)), threshold, None if leak is None else LeakTable(leak))
    return strategies.Layer(events, weights, neurons)


def differences(host):
    """Return what differs from the reference, by name."""
    found = []
    for kind in ({}, {"leak": 6.0}, {"at_end": True}, {"leak": 6.0, "at_end": True}):
        drawn = layer(**kind)
        spikes = REFERENCE.conv(drawn.events, drawn.weights, drawn.neurons)
        there = put(spikes, host)
        pooled = Geometry((3, 2), (2, 1), (1, 0))
        pairs = {
            "conv": (host.conv(put(drawn.events, host), host.pack(drawn.weights), drawn.neurons), spikes),
            "conv and pool": (
                host.conv_pool(put(drawn.events, host), host.pack(drawn.weights), drawn.neurons, pooled).events,
                REFERENCE.pool(spikes, pooled),
            ),
            "pool": (host.pool(there, pooled), REFERENCE.pool(spikes, pooled)),
            "pointwise": (host.pointwise(there), REFERENCE.pointwise(spikes)),
        }
        found += [name for name, (mine, right) in pairs.items() if not fetch(mine, host).equals(right)]
        for events in (spikes, tied(spikes)):
            winners = host.winners(put(events, host), 4, 1)
            found += [] if np.array_equal(winners, REFERENCE.winners(events, 4, 1)) else ["winners"]
    return found + [name for name, lesson in lessons().items() if not learns_alike(lesson, host)]


def lessons():
    """Return ways to learn, by name, in which several maps win and samples come again."""
    order, maps = np.array([2, 0, 4, 1, 2, 3, 0]), 11
    plus, minus = (np.random.default_rng(8).uniform(low, 0.2, maps).astype(np.float32) for low in (0, 0.1))
    update, active = Update(plus, -minus, k=3, radius=1), np.arange(maps) != 4
    free = replace(update, k=2, radius=0, pointwise=True, tau=6.0, dependence="multiplicative")
    punish = replace(update, plus=-plus, minus=minus, lower=0.2, upper=0.8, dependence="additive")
    reward, adaptation = Reward(np.arange(maps) % 5, punish), ThresholdAdaptation(0.2, 0.5, 0.5)
    at_once = layer()
    coarse = [at_once.events.time // 8, *(getattr(at_once.events, name) for name in ("channel", "y", "x"))]
    fields = {"shape": (2, 6, 5), "offsets": at_once.events.offsets, "duration": 5}
    waiting = replace(
        at_once,
        events=Events.from_columns(*coarse, **fields),
        weights=np.abs(at_once.weights) / 4,
        neurons=replace(at_once.neurons, threshold=at_once.neurons.threshold / 4 + 2),
    )
    return {
        "online": strategies.Lesson(layer(), order, replace(update, active=active, thresholds=adaptation)),
        "waiting": strategies.Lesson(waiting, order, update),
        "leaky": strategies.Lesson(layer(6.0), order, free),
        "at the end": strategies.Lesson(layer(6.0, True), order, update, reward),
        "patches": strategies.Lesson(layer(), order, free, positions=np.arange(7) % 6),
        "mini-batches": strategies.Lesson(layer(), order, replace(update, thresholds=adaptation), reward, batch=3),
        "own": strategies.Lesson(layer(), order, replace(free, tau=None, function=OWN_RULE), batch=2),
    }


def learns_alike(lesson, host):
    """Tell whether weights, thresholds and winners are those of the reference, and somebody has won."""
    with patch.object(cuda_learning, "ROUND", 16):  # of these samples, many
        pairs = list(zip(lesson.learn(host), lesson.learn(REFERENCE), strict=True))
    assert pairs[2][1].max() >= 0
    return all(np.array_equal(one, other) for one, other in pairs)


def tied(spikes):
    """Return spikes whose potentials tie."""
    columns = {name: getattr(spikes, name) for name in spikes.__dataclass_fields__}
    return Events(**columns | {"potential": np.ones(spikes.n_events, np.float32)})


def encode(host):
    """Encode some images; what comes of it is compared elsewhere, against encoders that this process need not load."""
    pixels = np.random.default_rng(1).integers(0, 256, (3, 9, 8), np.uint8)
    for make in (mozafari2019_mnist, falez2019_mnist):
        for batch in encoded(make(), pixels, backend=host, batch_size=2):
            assert fetch(batch, host).n_events


def main():
    module = hostcuda.HostModule(sys.argv[1], "scattered")
    hosts = [
        CudaBackend(Device(hostcuda.HostArrays(), module, threads, compiled=lambda text: module, processors=3))
        for threads in (7, 3)
    ]
    found = differences(hosts[0]) + [name for name, lesson in lessons().items() if not learns_alike(lesson, hosts[1])]
    encode(hosts[0])
    found += [] if module.together else ["no blocks waited for each other"]
    sys.exit(f"differ from the reference: {found}" if found else 0)


if __name__ == "__main__":
    main()
