"""Filters, local normalization and latencies in one compiled pass, 16 images at a time.

What a stage leaves for the next one stays in the second-level cache, and Python is called once for many images. Results
are those of stages one after another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import accumulate, chain, pairwise

import numpy as np

from eventsnn.encode._correlate import respond, room_to_correlate
from eventsnn.encode._gather import room_to_find
from eventsnn.encode._normalize import normalize_16, room_to_normalize
from eventsnn.encode._pixels import flat, turn_16
from eventsnn.encode._room import Take
from eventsnn.encode._spikes import MOST_BINS, order, room_for_sites, room_to_order, write
from eventsnn.encode.latency import EqualBins, Latency
from eventsnn.encode.stages import Filter, LocalNormalization, Stage
from eventsnn.events import Shape
from eventsnn.jit import lean_kernel
from eventsnn.memory import scratch_arrays, scratch_empty

_LANES = 16  # images that are done together
_MOST_SITES = 2**13  # of a grid: 16 of these fill half of a second-level cache


def one_pass_of(stages: Sequence[Stage], latency: Latency, grids: list[Shape]) -> OnePass | None:
    """Return how the last stages and the latencies are one pass: a filter, perhaps normalized, and equal bins.

    None for other encoders and large images. ``grids`` are those of the images and of what each stage makes.
    """
    if not isinstance(latency, EqualBins) or latency.bins >= MOST_BINS or math.prod(grids[-1]) > _MOST_SITES:
        return None
    radius = stages[-1].radius if stages and type(stages[-1]) is LocalNormalization else 0
    first = len(stages) - (2 if radius else 1)
    if first < 0 or type(filters := stages[first]) is not Filter or filters.signed:
        return None
    return OnePass(first, filters, radius, latency.bins, grids[first], grids[-1])


class OnePass:
    """The stages from number ``before`` on, and what follows, of images of one size."""

    def __init__(self, before: int, filters: Filter, radius: int, bins: int, inner: Shape, outer: Shape) -> None:
        self.before, self._bins, self._grid = before, bins, outer
        block, out = (*inner[:2], inner[2] * _LANES), (*outer[:2], outer[2] * _LANES)
        parts = (
            [(out, np.float32)],
            room_to_correlate(block, filters.padding, filters.bank.parts, _LANES),
            room_to_normalize(out, radius, _LANES),
            room_to_find(math.prod(outer), _LANES),
            room_to_order(math.prod(outer)),
        )
        self._room = tuple(chain(*parts))
        self._ends = list(accumulate(map(len, parts), initial=0))
        self._parameters = filters.padding, filters.bank.arrays, filters.mode, radius, bins

    def __call__(self, block: np.ndarray, take: Take) -> bool:
        """Write the events of a contiguous block (C, H, W, N) as ``equal_spikes`` does; return whether all is valid."""
        n_images = block.shape[3]
        return self._run(_NO_BYTES, _filled_up(block) if n_images % _LANES else block, n_images, take)

    def of_bytes(self, images: np.ndarray, take: Take) -> bool:
        """Do the same for contiguous images, uint8 of shape (N, C, H, W)."""
        return self._run(flat(images), scratch_empty((*images.shape[1:], _LANES)), len(images), take)

    def _run(self, images: np.ndarray, block: np.ndarray, n_images: int, take: Take) -> bool:
        ordered, ends = room_for_sites(math.prod(self._grid), n_images)
        arrays = scratch_arrays(*self._room)
        (out,), *scratch = (arrays[a:b] for a, b in pairwise(self._ends))
        if not _one_pass(images, block, *self._parameters, tuple(scratch), out, ordered, ends):
            return False
        write(ordered, ends, self._bins, self._grid, take)
        return True


def _filled_up(block: np.ndarray) -> np.ndarray:
    """Return a block with images of zeros, so that no code for fewer than 16 is needed."""
    n_images = block.shape[3]
    filled = scratch_empty((*block.shape[:3], n_images + -n_images % _LANES))
    filled[..., :n_images], filled[..., n_images:] = block, 0
    return filled


_NO_BYTES = np.empty((0, 1), np.uint8)
_NO_BYTES.flags.writeable = False  # as what ``flat`` returns


@partial(lean_kernel, error_model="numpy")
def _one_pass(images, block, padding, bank, mode, radius, bins, scratch, out, ordered, ends):  # type: ignore[no-untyped-def]
    """Write what ``order`` does of a block, or of bytes that become one 16 at a time; return whether all is valid."""
    lanes, end, n_images = np.int64(_LANES), np.int64(0), np.int64(block.shape[3])
    bits = out.reshape(len(out) * out.shape[1] * (out.shape[2] // _LANES), _LANES).view(np.int32)
    pixels = block.reshape(len(block) * block.shape[1] * block.shape[2], n_images)
    source = np.int64(block.ctypes.data), np.int64(len(block)), np.int64(block.shape[1]), np.int64(block.shape[2])
    to = np.int64(0), lanes, lanes
    for start in range(np.int64(0), np.int64(len(ends)), lanes):
        stop = start + lanes if start + lanes < len(ends) else np.int64(len(ends))
        if len(images) > 0:
            turn_16(images[start:stop], pixels)
        group = np.int64(0) if len(images) > 0 else start, lanes, n_images
        lit = respond(source, padding, bank, group, mode, scratch[0], out, to)
        if radius > 0:
            normalize_16(out, lit, bank[0], bank[2], radius, scratch[1])
        end = order(bits, bins, scratch[2:], ordered, ends[start:stop], end)
        if end < 0:
            return False
    return True
