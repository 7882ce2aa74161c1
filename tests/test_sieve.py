"""Positions where nobody can fire are left out before lists are made: only these, and with the same spikes."""

import numpy as np
import pytest
from numba import njit

from eventsnn.backends import Geometry, Neurons
from eventsnn.backends.cpu import CpuBackend
from eventsnn.backends.cpu._fields import make_windows
from eventsnn.backends.cpu._pooled import row_bits
from eventsnn.backends.cpu._sieve import make_marks, make_sieve, with_room
from eventsnn.backends.cpu._sift import list_fields, make_lists
from eventsnn.backends.cpu.plans import columns_of, plan_of
from eventsnn.events import Events

CASES = [
    # shape, kernel, stride, padding, maps
    ((6, 12, 13), (5, 5), (1, 1), (2, 2), 30),
    ((2, 20, 9), (16, 3), (1, 2), (4, 0), 3),
    ((1, 70, 11), (32, 4), (3, 1), (0, 1), 32),
]
_SAMPLES = 20


@njit(_nrt=False)
def list_sample(columns, begin, end, sizes, bits, sieve, lists, times):
    """List a sample as ``conv_pool`` does."""
    return list_fields(columns, begin, end, sizes, bits, sieve, lists, times)


def make_layer(case, seed):
    """Return spikes and a layer as learning leaves it: weights next to 1 or to nothing, some between."""
    shape, kernel, stride, padding, maps = case
    rng = np.random.default_rng(seed)
    times = np.where(rng.random((_SAMPLES, *shape)) < 0.4, rng.integers(0, 9, (_SAMPLES, *shape)), -1)
    weights = rng.random((maps, shape[0], *kernel)) ** 400
    high = rng.random(weights.shape) < 0.2
    weights = np.where(high, 1 - rng.integers(0, 3, weights.shape) * 2.0**-24, weights).astype(np.float32)
    threshold = np.floor(0.4 * high.sum(axis=(1, 2, 3)) + 2).astype(np.float32)
    return Events.from_latency(times, duration=9), weights, Neurons(Geometry(kernel, stride, padding), threshold)


def highest_potentials(events, weights, neurons):
    """Return the potentials at the end (samples, maps, OH, OW): float32, one spike after another."""
    (kh, kw), (sh, sw), (ph, pw) = weights.shape[2:], neurons.geometry.stride, neurons.geometry.padding
    oh, ow = neurons.geometry.output(*events.shape[1:])
    found = np.zeros((len(events), len(weights), oh, ow), np.float32)
    for s in range(len(events)):
        for e in range(events.offsets[s], events.offsets[s + 1]):
            y, x = int(events.y[e]) + ph, int(events.x[e]) + pw
            for oy in range(max(0, -(-(y - kh + 1) // sh)), min(oh, y // sh + 1)):
                for ox in range(max(0, -(-(x - kw + 1) // sw)), min(ow, x // sw + 1)):
                    found[s, :, oy, ox] += weights[:, events.channel[e], y - oy * sh, x - ox * sw]
    return found


def again(events):
    """Return spikes of which each comes once more, later."""
    parts = events.to_structured()
    later = [part.copy() for part in parts]
    for part in later:
        part["t"] += events.duration
    parts = [np.concatenate(pair) for pair in zip(parts, later, strict=True)]
    return Events.from_structured(parts, shape=events.shape, duration=2 * events.duration)


def left_out(events, packed, neurons):
    """Return for each sample and position whether it was left out."""
    plan = plan_of(events, packed, neurons)
    sizes = plan.sizes
    sieve = with_room(make_sieve(packed.blocks, plan.cells.limit, sizes), make_marks(sizes))
    lists = make_lists(sizes, make_windows(sizes), int(np.diff(events.offsets).max()))
    found, times = [], np.empty(events.n_events, np.int64)
    for begin, end in zip(events.offsets[:-1], events.offsets[1:], strict=True):
        sieve.tally[:] = 0
        list_sample(columns_of(events), begin, end, sizes, row_bits(sizes), sieve, lists, times)
        found.append(~lists.able.reshape(sizes.oh, sizes.ow))
        assert ((lists.end == lists.start) | lists.able).all()
    return np.array(found)


@pytest.mark.parametrize("case", CASES)
def test_only_positions_where_nobody_fires_are_left_out(case):
    events, weights, neurons = make_layer(case, 3)
    out = left_out(events, CpuBackend(1).pack(weights), neurons)
    silent = (highest_potentials(events, weights, neurons) <= neurons.threshold[:, None, None]).all(axis=1)
    assert silent[out].all()
    assert out.sum() > 0.4 * silent.sum() > 0
    assert not silent.all()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("twice", [False, True])
def test_with_the_pool_come_the_spikes_that_come_without_it(case, twice):
    events, weights, neurons = make_layer(case, 4)
    if twice:  # a weight counts twice, so that nobody can be left out
        events = again(events)
    backend, pool = CpuBackend(1), Geometry((2, 2), (2, 2))
    packed = backend.pack(weights)
    assert left_out(events, packed, neurons).any() != twice
    apart = backend.pool(backend.conv(events, packed, neurons), pool)
    both = backend.conv_pool(events, packed, neurons, pool).events
    assert apart.n_events > 0
    for name in ("time", "channel", "y", "x", "offsets"):
        assert getattr(both, name).tobytes() == getattr(apart, name).tobytes()
