"""One run of every kernel on layers of several blocks, chunks and digits: ``python -m hostcuda.examples LIBRARY``.

For the sanitizers, which want a process of their own.
"""

import sys

import numpy as np
import strategies

import hostcuda
from eventsnn.backends import Geometry, LeakTable, Neurons, get
from eventsnn.backends.cuda import CudaBackend
from eventsnn.backends.device import Device
from eventsnn.batches import fetch, put
from eventsnn.events import Events

REFERENCE = get("reference")


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
            "pool": (host.pool(there, pooled), REFERENCE.pool(spikes, pooled)),
            "pointwise": (host.pointwise(there), REFERENCE.pointwise(spikes)),
        }
        found += [name for name, (mine, right) in pairs.items() if not fetch(mine, host).equals(right)]
        for events in (spikes, tied(spikes)):
            winners = host.winners(put(events, host), 4, 1)
            found += [] if np.array_equal(winners, REFERENCE.winners(events, 4, 1)) else ["winners"]
    return found


def tied(spikes):
    """Return spikes whose potentials tie."""
    columns = {name: getattr(spikes, name) for name in spikes.__dataclass_fields__}
    return Events(**columns | {"potential": np.ones(spikes.n_events, np.float32)})


def main():
    module = hostcuda.HostModule(sys.argv[1], "scattered")
    found = differences(CudaBackend(Device(hostcuda.HostArrays(), module, threads=5)))
    sys.exit(f"differ from the reference: {found}" if found else 0)


if __name__ == "__main__":
    main()
