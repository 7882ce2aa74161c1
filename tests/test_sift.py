"""A layer and its pool in one pass, on grids of many tiles, with and without the machine's vectors."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from eventsnn.backends import Geometry, Neurons
from eventsnn.backends.cpu import CpuBackend
from eventsnn.events import Events

GRIDS = [
    # shape, kernel, stride, padding
    ((2, 9, 9), (3, 3), (1, 1), (0, 0)),  # one tile
    ((3, 40, 21), (5, 3), (1, 1), (2, 1)),
    ((1, 37, 50), (4, 6), (3, 2), (0, 5)),
    ((2, 17, 33), (1, 1), (1, 1), (0, 0)),
    ((1, 30, 31), (11, 13), (1, 1), (6, 6)),
    ((2, 25, 26), (2, 2), (4, 3), (1, 1)),  # pixels that nobody sees
    ((4, 1, 60), (1, 9), (1, 1), (0, 4)),
]


def as_is(events):
    return {name: getattr(events, name).tobytes() for name in ("time", "channel", "y", "x", "offsets")}


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("density", [0.02, 0.6])
def test_lists_by_tiles_give_the_spikes_that_lists_by_spikes_give(grid, density):
    shape, kernel, stride, padding = grid
    rng = np.random.default_rng(7)
    spikes = rng.random((5, *shape)) < density
    spikes[2] = False  # an empty sample between others
    events = Events.from_latency(np.where(spikes, rng.integers(0, 6, spikes.shape), -1), duration=6)
    weights = rng.random((3, shape[0], *kernel)).astype(np.float32)
    threshold = np.full(3, weights[0].size * density * 0.4, np.float32)
    neurons, pool = Neurons(Geometry(kernel, stride, padding), threshold), Geometry((2, 2), (1, 2))
    if (neurons.geometry.output(*shape[1:])[0]) == 1:
        pool = Geometry((1, 2), (1, 2))
    backend = CpuBackend(1)
    packed = backend.pack(weights)
    apart = backend.pool(backend.conv(events, packed, neurons), pool)
    assert apart.n_events > 0
    assert as_is(backend.conv_pool(events, packed, neurons, pool).events) == as_is(apart)


@pytest.mark.skipif("SIFTING" in os.environ, reason="this is the other machine")
def test_a_machine_without_these_vectors_finds_the_same(tmp_path):
    machine = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path), "SIFTING": "1"}
    files = [__file__, str(Path(__file__).with_name("test_sieve.py"))]
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", *files]
    run = subprocess.run(
        command, cwd=Path(__file__).parents[1], env=os.environ | machine, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"{2 * len(GRIDS) + 9} passed" in run.stdout
