"""Compiled stages of the image encoders.

Blocks are float32 of shape (C, H, W * N), the N images innermost: one loop runs over a row of all images, while
each image's arithmetic stays its own, so that no result depends on its neighbours. Sums are taken in float32,
one addition after another in the order of the loops.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from eventsnn.jit import kernel

_ZERO = np.float32(0)


def _emit_fma(typing_context, factor, term, total):
    """Return ``factor * term + total``, rounded once."""
    single = types.float32
    return single(single, single, single), lambda context, builder, signature, args: builder.fma(*args)


_fma: Any = intrinsic(_emit_fma)


@kernel
def transform(cells, weights, out):
    """Write ``weights @ cells`` to ``out``: (D', D) times (D, N), each image's sum in the order of its cells."""
    for d in range(len(weights)):
        row = out[d]
        row[:] = _ZERO
        for e in range(len(cells)):
            weight, terms = weights[d, e], cells[e]
            for i in range(len(row)):
                row[i] = _fma(weight, terms[i], row[i])


@kernel
def moments(cells):
    """Return the mean and the standard deviation of each column of ``cells`` (D, N), float64 sums in order."""
    mean, spread = np.zeros(cells.shape[1]), np.zeros(cells.shape[1])
    for e in range(len(cells)):
        for i in range(len(mean)):
            mean[i] += cells[e, i]
    mean /= len(cells)
    for e in range(len(cells)):
        for i in range(len(mean)):
            spread[i] += (cells[e, i] - mean[i]) ** 2
    return mean, np.sqrt(spread / len(cells))


@kernel
def split(block, threshold, on, off):
    """Write the positive parts of ``block`` (C, H, W * N) to ``on``, and the negative ones, sign turned, to ``off``.

    Each has C channels, or none if it is not wanted. Parts below the threshold, which is at least 0, become 0.
    """
    for c, y in np.ndindex(block.shape[:2]):
        cells = block[c, y]
        for i in range(len(cells) if len(on) else 0):
            part = cells[i] + _ZERO
            on[c, y, i] = _ZERO if part < threshold else part
        for i in range(len(cells) if len(off) else 0):
            part = _ZERO - cells[i]
            off[c, y, i] = _ZERO if part < threshold else part


@kernel
def max_pool(block, kernel, stride, padding, n_images, out):
    """Write the maximum over each window of ``block`` (C, H, W * N) to ``out`` (C, H', W' * N)."""
    channels, height, length = block.shape
    width = length // n_images
    for c in range(channels):
        for oy in range(out.shape[1]):
            top = oy * stride - padding
            for ox in range(out.shape[2] // n_images):
                left = ox * stride - padding
                best = out[c, oy, ox * n_images : (ox + 1) * n_images]
                best[:] = -np.inf
                for y in range(max(0, top), min(height, top + kernel)):
                    for x in range(max(0, left), min(width, left + kernel)):
                        source = block[c, y, x * n_images : (x + 1) * n_images]
                        for i in range(n_images):
                            best[i] = source[i] if source[i] > best[i] else best[i]


@kernel
def lateral_inhibition(padded, factors, n_images, out):
    """Raise each cell by the factors of its weaker neighbours, of Chebyshev distance 1 to ``len(factors)``.

    ``padded`` (C, H + 2r, (W + 2r) * N) has a border of r zeros; ``out`` is (C, H, W * N).
    """
    radius = len(factors)
    length = out.shape[2]
    for c in range(out.shape[0]):
        for y in range(out.shape[1]):
            cells = padded[c, y + radius, radius * n_images : radius * n_images + length]
            gain = out[c, y]
            gain[:] = _ZERO
            for dy in range(2 * radius + 1):
                for dx in range(2 * radius + 1):
                    distance = max(abs(dy - radius), abs(dx - radius))
                    if distance == 0:
                        continue
                    factor = factors[distance - 1]
                    neighbours = padded[c, y + dy, dx * n_images : dx * n_images + length]
                    for i in range(length):
                        gain[i] += factor if cells[i] > neighbours[i] else _ZERO
            for i in range(length):
                gain[i] = cells[i] + cells[i] * gain[i]
