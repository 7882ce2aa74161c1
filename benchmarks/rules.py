"""Time of learning with each rule, and with rules of one's own, relative to the usual one.

``python -m benchmarks.rules``: the first layer of Mozafari 2019 on random spikes, one thread. Every rule learns the
same samples from the same weights, turn by turn, so that what else the machine does meets all; the median of the
ratios of neighbouring turns counts.
"""

from __future__ import annotations

import time

import numpy as np

from benchmarks.record import append, environment
from eventsnn.backends import Geometry, Neurons
from eventsnn.backends.cpu import CpuBackend
from eventsnn.events import Events
from eventsnn.plasticity import STDP, WTA, Custom, Rule

SAMPLES, TURNS, MAPS = 300, 15, 30


def stabilized(w, dt):
    return w + (0.004 if dt >= 0 else -0.003) * w * (1 - w)


def by_time(w, dt):
    change = 0.004 * (1 - w) if dt >= 0 else -0.003 * w
    return w + change / (1 + abs(dt))


RULES: dict[str, Rule] = {
    "order": STDP(0.004, -0.003),
    "exponential": STDP(0.004, -0.003, tau=5.0),
    "multiplicative": STDP(0.004, -0.003, dependence="multiplicative"),
    "multiplicative and exponential": STDP(0.004, -0.003, dependence="multiplicative", tau=5.0),
    "proportional": STDP(0.004, -0.003, dependence="proportional"),
    "own, of order": Custom(stabilized),
    "own, of time": Custom(by_time),
}


def main() -> None:
    rng = np.random.default_rng(0)
    latency = np.where(rng.random((SAMPLES, 6, 28, 28)) < 0.25, rng.integers(0, 15, (SAMPLES, 6, 28, 28)), -1)
    events = Events.from_latency(latency, duration=15)
    weights = rng.normal(0.8, 0.05, (MAPS, 6, 5, 5)).astype(np.float32)
    neurons = Neurons(Geometry((5, 5), (1, 1), (2, 2)), np.full(MAPS, 15, np.float32))
    backend = CpuBackend(threads=1)
    seconds: dict[str, list[float]] = {name: [] for name in RULES}
    for turn in range(TURNS + 1):
        for name, rule in RULES.items():
            packed, update = backend.pack(weights), rule.update(MAPS, WTA(5, radius=3))
            start = time.perf_counter()
            backend.learn(events, np.arange(SAMPLES), packed, neurons, update)
            if turn:  # the first one compiles
                seconds[name].append(time.perf_counter() - start)
    usual = np.array(seconds["order"])
    ratios = {name: float(np.median(np.array(s) / usual)) for name, s in seconds.items()}
    sizes = {"spikes_per_sample": events.n_events / SAMPLES, "microseconds_per_sample": min(usual) / SAMPLES * 1e6}
    for name, ratio in ratios.items():
        print(f"{name:32} {ratio:.2f}")
    append("rules", environment() | {"benchmark": "rules", "ratio_to_order": ratios} | sizes)


if __name__ == "__main__":
    main()
