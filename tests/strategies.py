"""Hypothesis strategies for pieces of networks: stimuli, neurons, weights, competitions and plasticity.

Structure (grids, kernels, counts, modes) is drawn by Hypothesis and shrinks; bulk numbers come from a seeded generator
whose seed is drawn too, which keeps examples cheap.
"""

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from eventsnn.backends import Geometry, LeakTable, Neurons, Reward, ThresholdAdaptation, Update
from eventsnn.batches import put
from eventsnn.events import Events

MAPS = (1, 2, 3, 33, 70)  # blocks of the CPU kernels hold 32 maps: below, across and beyond a second block
HUGE = 3_600_000_000  # an hour in microseconds, more than int32 holds

seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)
grids = st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7))
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def geometries(draw, shape):
    """Draw a window that fits into ``shape`` (C, H, W): even, odd, not square, with any stride, padded or not."""
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    sizes = [min(5, n + 2 * p) for n, p in zip(shape[1:], padding, strict=True)]
    kernel = tuple(draw(st.integers(1, n)) for n in sizes)
    return Geometry(kernel, draw(pairs), padding)


@st.composite
def times(draw, rng, n):
    """Draw ``n`` times and a duration: few bins with many ties, or microseconds that do not fit into int32."""
    latest = draw(st.sampled_from([1, 2, 4, 15, 1_000_000, HUGE]))
    return rng.integers(0, latest, n), latest + draw(st.sampled_from([0, 0, 1, 1000]))


@st.composite
def stimuli(draw, shape, multi=True, max_samples=4, max_spikes=30):
    """Draw a batch on a grid: none or several samples, some empty, pixels that fire once or (``multi``) many times."""
    rng = draw(seeds)
    n_samples = draw(st.integers(0, max_samples))
    sizes = [draw(st.sampled_from([0, 1, 5, max_spikes, 4 * max_spikes])) for _ in range(n_samples)]
    n = sum(sizes)
    channel, y, x = (rng.integers(0, size, n) for size in shape)
    time, duration = draw(times(rng, n))
    twice = rng.random(n) < draw(st.sampled_from([0, 0.2]))  # the same spike again, bit for bit
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    for column in (time, channel, y, x):
        column[1:][twice[1:]] = column[:-1][twice[1:]]
    unit = "bin" if duration < 10_000 else "us"
    events = Events.from_columns(
        time, channel, y, x, shape=shape, offsets=offsets, duration=duration, unit=unit,
        labels=rng.integers(0, 3, n_samples),
    )  # fmt: skip
    return events if multi and draw(st.booleans()) else events.first_spikes()


def dyadic(rng, shape, lowest=-256):
    """Return weights that are multiples of 1/256 from ``lowest / 256`` to 1, whose sums are exact in any order."""
    return (rng.integers(lowest, 257, shape) / 256).astype(np.float32)


@st.composite
def weights(draw, maps, shape, kernel):
    """Draw float32 weights: random, of both signs, as learnt (near 0 and 1), or exact multiples of 1/256."""
    rng, size = draw(seeds), (maps, shape[0], *kernel)
    kind = draw(st.sampled_from(["positive", "signed", "learnt", "dyadic", "equal"]))
    values = {
        "positive": lambda: rng.normal(0.8, 0.05, size),
        "signed": lambda: rng.normal(0.1, 1, size),
        "learnt": lambda: np.abs(rng.integers(0, 2, size) - rng.exponential(1e-6, size)),
        "dyadic": lambda: dyadic(rng, size),
        "equal": lambda: np.full(size, 0.5),  # every tie there can be
    }
    return values[kind]().astype(np.float32)


@st.composite
def thresholds(draw, maps):
    """Draw one threshold for all maps, one for each, or infinite ones; integers, where potentials pile up, included."""
    kind = draw(st.sampled_from(["whole", "scalar", "per map", "infinite"]))
    if kind == "infinite":
        return np.full(maps, np.inf, np.float32)
    if kind == "per map":
        return draw(seeds).uniform(0, 4, maps).astype(np.float32)
    level = draw(st.integers(0, 4)) if kind == "whole" else draw(st.floats(0, 5, width=32))
    return np.full(maps, level, np.float32)


@st.composite
def neurons(draw, shape, maps, leaky=True):
    """Draw the neurons of a layer over inputs on ``shape``."""
    tau = draw(st.sampled_from([None, None, 0.5, 7.0, 20_000.0])) if leaky else None
    leak = None if tau is None else LeakTable(tau)
    return Neurons(draw(geometries(shape)), draw(thresholds(maps)), leak)


@dataclass(frozen=True, eq=False)
class Layer:
    """A stimulus and the layer that it meets."""

    events: Events
    weights: np.ndarray
    neurons: Neurons


@st.composite
def layers(draw, maps=MAPS, max_samples=4, leaky=True, multi=True):
    """Draw a batch of stimuli, weights and neurons that fit together."""
    shape, n = draw(grids), draw(st.sampled_from(maps))
    cells = draw(neurons(shape, n, leaky))
    drawn = draw(weights(n, shape, cells.geometry.kernel))
    return Layer(draw(stimuli(shape, multi, max_samples)), drawn, cells)


def soft(w, dt):
    """Move toward the bounds, whatever the time."""
    return w + 0.1 * (1 - w) if dt >= 0 else w - 0.07 * w


def by_time(w, dt, potential, reward):
    """Use everything there is, with arithmetic alone; without input ``dt`` is -inf and nothing changes."""
    gain = 1.0 / (1.0 + abs(dt))
    return w + 0.1 * gain * (0.5 + reward) - 0.01 * gain * potential


def turned(w, dt, reward, potential):
    """Ask in the other order."""
    return w + (0.03 * potential if dt > 1 else -0.05 * reward)


FUNCTIONS = (soft, by_time, turned)


def all_arguments(function):
    """Return a user's rule as a function of (w, dt, potential, reward)."""
    if function is soft:
        return lambda w, dt, potential, reward: soft(w, dt)
    return function if function is by_time else lambda w, dt, potential, reward: turned(w, dt, reward, potential)


@st.composite
def updates(draw, maps, finite=False):
    """Draw a competition and a plasticity for a layer of ``maps`` maps, whose thresholds (``finite``) may adapt."""
    rng = draw(seeds)
    lower, upper = draw(st.sampled_from([(0.0, 1.0), (0.2, 0.8), (-1.0, 1.0)]))
    sign = draw(st.sampled_from([1, -1]))
    adaptation = ThresholdAdaptation(draw(st.floats(0, 2)), draw(st.floats(0, 1)), draw(st.sampled_from([0, 1, 2.5])))
    return Update(
        plus=(sign * rng.uniform(0, 0.3, maps)).astype(np.float32),
        minus=(-sign * rng.uniform(0, 0.3, maps)).astype(np.float32),
        lower=lower,
        upper=upper,
        dependence=draw(st.sampled_from(["stabilized", "additive", "multiplicative", "proportional"])),
        k=draw(st.integers(1, 5)),
        radius=draw(st.integers(0, 3)),
        pointwise=draw(st.booleans()),
        active=None if draw(st.booleans()) else rng.random(maps) < 0.7,
        tau=draw(st.sampled_from([None, None, 0.5, 7.0, 20_000.0])),
        beta=draw(st.sampled_from([1.0, 0.0, 4.5])),
        function=draw(st.sampled_from([None, None, *FUNCTIONS])),
        thresholds=adaptation if finite and draw(st.booleans()) else None,
    )


@dataclass(frozen=True, eq=False)
class Lesson:
    """A layer, and how it learns."""

    layer: Layer
    order: np.ndarray
    update: Update
    reward: Reward | None = None
    positions: np.ndarray | None = None
    batch: int = 1

    def learn(self, backend):
        """Return weights, thresholds and winners afterwards."""
        neurons = replace(self.layer.neurons, threshold=self.layer.neurons.threshold.copy())
        packed = backend.pack(self.layer.weights)
        winners = backend.learn(
            put(self.layer.events, backend), self.order, packed, neurons, self.update, self.reward,
            positions=self.positions, batch=self.batch,
        )  # fmt: skip
        return backend.unpack(packed), neurons.threshold, winners


@st.composite
def lessons(draw, maps=MAPS, max_samples=4):
    """Draw a layer, an order of presentation, an update and, half of the time each, a reward, patches, batches."""
    layer = draw(layers(maps, max_samples))
    n, n_maps = len(layer.events), len(layer.weights)
    order = np.array(draw(st.lists(st.integers(0, n - 1), max_size=6)) if n else [], np.int64)
    update = draw(updates(n_maps, finite=not layer.neurons.at_end))
    rng, reward, positions = draw(seeds), None, None
    if draw(st.booleans()):
        shared = {"tau": update.tau, "beta": update.beta, "function": update.function}
        reward = Reward(rng.integers(0, 3, n_maps), replace(draw(updates(n_maps)), **shared))
    if draw(st.booleans()):
        height, width = layer.neurons.geometry.output(*layer.events.shape[1:])
        positions = rng.integers(0, height * width, len(order))
    return Lesson(layer, order, update, reward, positions, draw(st.sampled_from([1, 1, 2, 5])))


@st.composite
def outputs(draw):
    """Draw a batch as layers give it: first spikes on a grid of many maps, with potentials full of ties or without."""
    shape = (draw(st.sampled_from(MAPS)), draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    events = draw(stimuli(shape, max_spikes=60))
    if draw(st.booleans()):
        return events
    potential = draw(seeds).integers(1, 4, events.n_events).astype(np.float32)
    columns = (events.time, events.channel, events.y, events.x)
    return Events(*columns, events.offsets, shape, events.duration, events.unit, events.labels, potential)
