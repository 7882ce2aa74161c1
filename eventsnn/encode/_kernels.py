"""Compiled stages of the image encoders.

Blocks are float32 of shape (C, H, W * N), the N images innermost: one loop runs over a row of all images, while
each image's arithmetic stays its own, so that no result depends on its neighbours. Sums are taken in float32,
one addition after another in the order of the loops.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from eventsnn.jit import kernel

_EPSILON = np.float32(1e-12)
_ZERO = np.float32(0)
_HALF = np.uint64(32)
_LOW_HALF = np.uint64(2**32 - 1)
_BYTE = np.uint64(255)


def _emit_fma(typing_context, factor, term, total):
    """Return ``factor * term + total``, rounded once."""
    single = types.float32
    return single(single, single, single), lambda context, builder, signature, args: builder.fma(*args)


_fma: Any = intrinsic(_emit_fma)


@kernel
def _span(row):
    """Return where the part of a row begins and ends outside of which it is 0."""
    low, high = 0, len(row)
    while low < high and row[low] == _ZERO:
        low += 1
    while low < high and row[high - 1] == _ZERO:
        high -= 1
    return low, high


@kernel
def _add(row, source, span, shift, weight):
    """Add to ``row[i]`` the product of ``weight`` and ``source[i + shift]``, where that is in the span.

    What is left out would have added 0, which changes no bit: images are dark at the borders.
    """
    low = max(0, span[0] - shift)
    high = min(len(row), span[1] - shift)
    if low >= high:
        return
    # Slices, since indices that might be negative keep the loop from being vectorized.
    target = row[low:high]
    terms = source[low + shift : high + shift]
    for i in range(len(target)):
        target[i] = _fma(weight, terms[i], target[i])


@kernel
def correlate(padded, weights, taps, starts, n_images, mode, out):
    """Cross-correlate ``padded`` (H', W' * N) with K kernels, rectify, and write ``out`` (K, H, W * N).

    Kernel ``k`` consists of the entries ``starts[k]:starts[k + 1]`` of ``weights`` (float32) and ``taps``
    (int64 rows and columns), added in that order. ``mode`` is (absolute, signed, threshold): whether to take absolute
    values, whether to keep the sign, and the float32 below which results, or magnitudes if signed, become 0.

    Fused multiply-adds are the same on every machine, and in this order give SpykeTorch's results to the last
    bit. That matters where two outputs would be equal but for rounding: the stages after this compare them.
    """
    absolute, signed, threshold = mode
    spans = [_span(padded[y]) for y in range(len(padded))]
    for k in range(out.shape[0]):
        for y in range(out.shape[1]):
            row = out[k, y]
            row[:] = _ZERO
            for j in range(starts[k], starts[k + 1]):
                source = y + taps[j, 0]
                _add(row, padded[source], spans[source], taps[j, 1] * n_images, weights[j])
            for i in range(len(row)):
                value = abs(row[i]) if absolute else row[i]
                size = abs(value) if signed else value
                row[i] = _ZERO if size < threshold else value


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


@partial(kernel, error_model="numpy")
def normalize(block, radius, n_images, out):
    """Divide ``block`` (C, H, W * N) by its mean over (2 radius + 1)^2 pixels, zeros beyond the border.

    Window sums are plain sums, first along rows: subtracting what leaves the window would be faster, but
    leave rounding errors behind where a bright part is followed by a dark one.
    """
    channels, height, length = block.shape
    area = np.float32((2 * radius + 1) ** 2)
    one = np.float32(1)
    sums = np.empty((height, length), np.float32)
    total = np.empty(length, np.float32)
    for c in range(channels):
        for y in range(height):
            sums[y, :] = _ZERO
            span = _span(block[c, y])
            for dx in range(-radius, radius + 1):
                _add(sums[y], block[c, y], span, dx * n_images, one)
        spans = [_span(sums[y]) for y in range(height)]
        for y in range(height):
            total[:] = _ZERO
            for dy in range(max(0, y - radius), min(height, y + radius + 1)):
                _add(total, sums[dy], spans[dy], 0, one)
            cells, result = block[c, y], out[c, y]
            for i in range(length):
                result[i] = cells[i] / (total[i] / area + _EPSILON)


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


@kernel
def rank(bits):
    """Sort the non-zero intensities of every image in descending order, ties by site.

    Parameters
    ----------
    bits : ndarray of uint32, shape (n_sites, N)
        Intensities, not negative, as their bits: these sort like the floats.

    Returns
    -------
    sites, ranked : ndarray of int32, shape (n,)
        Flat index of each non-zero intensity, image after image: ascending, and the strongest first.
    ranked_bits : ndarray of uint32, shape (n,)
        The intensities, the strongest first.
    offsets : ndarray of int64, shape (N + 1,)
        Where each image starts.
    """
    n_sites, n_images = bits.shape
    offsets = np.zeros(n_images + 1, np.int64)
    for site in range(n_sites):
        for i in range(n_images):
            offsets[i + 1] += bits[site, i] != 0
    for i in range(n_images):
        offsets[i + 1] += offsets[i]
    sites = np.empty(offsets[-1], np.int32)
    ranked = np.empty(offsets[-1], np.int32)
    ranked_bits = np.empty(offsets[-1], np.uint32)
    keys = np.empty(n_sites + 1, np.uint64)
    spare = np.empty(n_sites, np.uint64)
    for i in range(n_images):
        # Written without a branch, since whether a site is 0 is hard to predict: hence the spare last key.
        n = np.uint64(0)
        for site in range(n_sites):
            value = bits[site, i]
            keys[n] = (np.uint64(~value) << _HALF) | np.uint64(site)
            n += np.uint64(value != 0)
        low, high = offsets[i], offsets[i + 1]
        for j in range(high - low):
            sites[low + j] = keys[j] & _LOW_HALF
        _sort(keys[: high - low], spare)
        for j in range(high - low):
            ranked[low + j] = keys[j] & _LOW_HALF
            ranked_bits[low + j] = ~np.uint32(keys[j] >> _HALF)
    return sites, ranked, ranked_bits, offsets


@kernel
def _sort(keys, spare):
    """Sort uint64 keys by their upper halves, stably and in place: a radix sort by bytes."""
    counts = np.zeros((4, 256), np.int64)
    for j in range(len(keys)):
        for digit in range(4):
            counts[digit, (keys[j] >> np.uint64(32 + 8 * digit)) & _BYTE] += 1
    source, target = keys, spare
    for digit in range(4):
        place = counts[digit]
        start = 0
        for value in range(256):
            start, place[value] = start + place[value], start
        for j in range(len(keys)):
            value = (source[j] >> np.uint64(32 + 8 * digit)) & _BYTE
            target[place[value]] = source[j]
            place[value] += 1
        # Four passes: the last one writes to where the first one read.
        source, target = target, source


@kernel
def equal_bins(offsets, bins, times):
    """Write the bin of each rank: ``n // bins`` ranks each, at least 1, and -1 for those beyond the last."""
    for i in range(len(offsets) - 1):
        n = offsets[i + 1] - offsets[i]
        size = max(1, n // bins)
        for rank_ in range(n):
            times[offsets[i] + rank_] = rank_ // size if rank_ < size * bins else -1


@kernel
def emit(sites, ranked, times, offsets, pointwise, shape):
    """Turn ranked sites and their times into the columns of events in canonical order.

    Parameters
    ----------
    sites, ranked, offsets
        As of :func:`rank`.
    times : ndarray of int64, shape (n,)
        Times of ``ranked``, never falling within an image; -1 for no spike.
    pointwise : bool
        Keep only the first in rank of each position.
    shape : tuple of int
        Grid (C, H, W).

    Returns
    -------
    time : ndarray of int64, shape (m,)
    columns : ndarray of uint16, shape (3, m)
        Channel, y and x.
    offsets : ndarray of int64, shape (N + 1,)
    """
    channels, height, width = shape
    time = np.empty(len(sites), np.int64)
    columns = np.empty((3, len(sites)), np.uint16)
    kept = np.zeros_like(offsets)
    taken = np.empty(height * width if pointwise else 0, np.bool_)
    place = np.empty(channels * height * width, np.int64)
    for i in range(len(offsets) - 1):
        low, high = offsets[i], offsets[i + 1]
        taken[:] = False
        filled = _place(ranked[low:high], times[low:high], height * width, taken, kept[i], time, place)
        kept[i + 1] = kept[i] + len(filled)
        channel = y = row = 0
        # Sites ascend, so filling each run of equal times one after another sorts it.
        for site in sites[low:high]:
            while site >= row + width:
                row += width
                y += 1
                if y == height:
                    y = 0
                    channel += 1
            if place[site] >= 0:
                run = place[site]
                at = run + filled[run - kept[i]]
                filled[run - kept[i]] += 1
                columns[0, at] = channel
                columns[1, at] = y
                columns[2, at] = site - row
    return time[: kept[-1]], columns[:, : kept[-1]], kept


@kernel
def _place(ranked, times, plane, taken, start, time, place):
    """Write the spikes' times from ``start`` on, and return one 0 for each.

    ``place`` becomes, for each ranked site, where the run of spikes of its time begins, or -1 if it does not fire.
    """
    at = run = start
    for r in range(len(ranked)):
        site = ranked[r]
        place[site] = -1
        if times[r] < 0:
            continue
        if len(taken) > 0:
            if taken[site % plane]:
                continue
            taken[site % plane] = True
        if at == start or times[r] != time[at - 1]:
            run = at
        place[site] = run
        time[at] = times[r]
        at += 1
    return np.zeros(at - start, np.int64)
