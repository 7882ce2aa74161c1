"""Time of learning with each rule, relative to another.

``python -m benchmarks.rules``: the first layer of Mozafari 2019 on random spikes, one thread, CPU time. Two rules learn
the same samples from the same weights, turn by turn and each first in every other turn, so that what else the machine
does meets both; the median of the turns' ratios counts. A built-in rule is paired with the usual one; a rule of one's
own with the built-in one that uses the same, order or time of spikes and the reward. None uses the potential.
"""

from __future__ import annotations

import math
import time
from functools import partial

import numpy as np

from benchmarks.record import append, environment
from eventsnn.backends import Geometry, Neurons
from eventsnn.backends.cpu import CpuBackend
from eventsnn.events import Events
from eventsnn.plasticity import RSTDP, STDP, WTA, Custom, Rule

SAMPLES, TURNS, MAPS, CLASSES = 300, 15, 30, 10


def order(w, dt):
    return w + (0.004 if dt >= 0 else -0.003) * w * (1 - w)


def potential(w, dt, potential):
    return w + (0.06 / potential if dt >= 0 else -0.003) * w * (1 - w)


def reward(w, dt, reward):
    return w + reward * (0.004 if dt >= 0 else -0.003) * w * (1 - w)


def reciprocal(w, dt):
    change = 0.004 * (1 - w) if dt >= 0 else -0.003 * w
    return w + change / (1 + abs(dt))


def exponential(w, dt):
    return w + (0.004 if dt >= 0 else -0.003) * math.exp(-abs(dt) / 5) * w * (1 - w)


def everything(w, dt, potential, reward):
    change = 0.004 * (1 - w) if dt >= 0 else -0.003 * w
    return w + reward * change * (potential / 15) / (1 + abs(dt))


ORDER, TIMED = STDP(0.004, -0.003), STDP(0.004, -0.003, tau=5.0)
RATES = (0.004, -0.003), (-0.004, 0.003), (0, 1)
REWARDED = RSTDP(*RATES, dependence="stabilized", adaptive=None)
REWARDED_TIMED = RSTDP(*RATES, dependence="proportional", tau=5.0, adaptive=None)

PAIRS: dict[str, tuple[Rule, Rule]] = {
    "exponential": (TIMED, ORDER),
    "multiplicative": (STDP(0.004, -0.003, dependence="multiplicative"), ORDER),
    "multiplicative and exponential": (STDP(0.004, -0.003, dependence="multiplicative", tau=5.0), ORDER),
    "proportional": (STDP(0.004, -0.003, dependence="proportional"), ORDER),
    "rewarded": (REWARDED, ORDER),
    "own: order": (Custom(order), ORDER),
    "own: order, potential": (Custom(potential), ORDER),
    "own: order, reward": (Custom(reward), REWARDED),
    "own: time": (Custom(reciprocal), TIMED),
    "own: time, with math.exp": (Custom(exponential), TIMED),
    "own: time, potential, reward": (Custom(everything), REWARDED_TIMED),
}


def seconds(backend: CpuBackend, events: Events, weights: np.ndarray, neurons: Neurons, rule: Rule) -> float:
    """Return the CPU time of learning all samples."""
    packed, competition = backend.pack(weights), WTA(5, radius=3)
    if rule.rewarded:
        update, reward = rule.updates(np.arange(MAPS) % CLASSES, competition)
    else:
        update, reward = rule.update(MAPS, competition), None
    learn = partial(backend.learn, events, np.arange(SAMPLES), packed, neurons, update, reward)
    start = time.thread_time()
    learn()
    return time.thread_time() - start


def main() -> None:
    rng = np.random.default_rng(0)
    latency = np.where(rng.random((SAMPLES, 6, 28, 28)) < 0.25, rng.integers(0, 15, (SAMPLES, 6, 28, 28)), -1)
    events = Events.from_latency(latency, duration=15, labels=rng.integers(0, CLASSES, SAMPLES))
    weights = rng.normal(0.8, 0.05, (MAPS, 6, 5, 5)).astype(np.float32)
    neurons = Neurons(Geometry((5, 5), (1, 1), (2, 2)), np.full(MAPS, 15, np.float32))
    measure = partial(seconds, CpuBackend(threads=1), events, weights, neurons)
    for rule in (rule for pair in PAIRS.values() for rule in pair):
        measure(rule)  # compiles
    ratios: dict[str, list[float]] = {name: [] for name in PAIRS}
    usual = []
    for turn in range(TURNS):
        for name, (rule, other) in PAIRS.items():
            first, second = (measure(r) for r in ((rule, other) if turn % 2 else (other, rule)))
            ratios[name].append(first / second if turn % 2 else second / first)
        usual.append(measure(ORDER))
    medians = {name: round(float(np.median(found)), 3) for name, found in ratios.items()}
    for name, ratio in medians.items():
        print(f"{name:32} {ratio:.2f}")
    sizes = {"spikes_per_sample": events.n_events / SAMPLES, "microseconds_per_sample": min(usual) / SAMPLES * 1e6}
    append("rules", environment() | {"benchmark": "rules", "ratio_to_its_pair": medians} | sizes)


if __name__ == "__main__":
    main()
