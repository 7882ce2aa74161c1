"""Compiled steps from intensities to events in canonical order.

Intensities, float32 and not negative, are compared as their bits, which sort alike. A key is an int64: something to
sort by in the upper half, and a number in the lower one that keeps the order of what is equal.

Where each spike is looked at, indices are unsigned: of others Numba asks whether they count from the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from eventsnn.jit import kernel
from eventsnn.jit import making_arrays as inner

_HALF = np.int64(32)
_LOW_HALF = np.int64(2**32 - 1)
_BYTE = np.int64(255)
_MAGNITUDE = np.int32(2**31 - 1)
_INFINITY = np.int64(0x7F800000)
_BUCKETS = 2048
_UNDECIDED = np.int32(-1)


def _emit_trailing_zeros(typing_context, word):
    """Return how many zeros a word that is not 0 ends with."""
    return types.int64(types.uint32), lambda context, builder, signature, args: builder.zext(
        builder.cttz(args[0], ir.IntType(1)(True)), ir.IntType(64)
    )


_trailing_zeros: Any = intrinsic(_emit_trailing_zeros)


@inner
def _gather(bits, values, sites, counts):
    """Write what is not 0 in each column of ``bits`` (n_sites, N), and its sites, to a row of ``values`` and ``sites``.

    Whether a site is 0 is hard to predict. So 32 sites at a time are marked in a word for each image, in vectors, and
    only the marks are followed.
    """
    marks = np.empty(len(counts), np.uint32)
    for low in range(0, len(bits), 32):
        marks[:] = 0
        for j in range(min(32, len(bits) - low)):
            row, shift = bits[low + j], np.uint32(j)
            for i in range(len(marks)):
                marks[i] |= np.uint32(row[i] & _MAGNITUDE != 0) << shift
        for i in range(len(marks)):
            word, n = marks[i], np.uint64(counts[i])
            value, site, rows = values[i], sites[i], bits[low:, i]
            while word != 0:
                row = np.uint64(_trailing_zeros(word))
                word &= word - np.uint32(1)
                value[n] = rows[row]
                site[n] = np.uint64(low) + row
                n += np.uint64(1)
            counts[i] = n


@kernel
def equal_spikes(bits, bins, shape, found, time, columns):
    """Return events of equal numbers in each bin, in canonical order, without ranking what shares a bin.

    Parameters
    ----------
    bits : ndarray of int32, shape (n_sites, N)
        Intensities as their bits.
    bins : int
        Of ``n`` intensities each bin takes ``n // bins``, at least 1, and the weakest are left over.
    shape : tuple of int
        Grid (C, H, W).
    found : ndarray of int32, shape (2, N, n_sites)
        Scratch memory.
    time, columns : ndarray of int64, shape (n_sites * N,), and of uint16, shape (3, n_sites * N)
        What the events are written to.

    Returns
    -------
    time : ndarray of int64, shape (m,)
    columns : ndarray of uint16, shape (3, m)
        Channel, y and x.
    offsets : ndarray of int64, shape (N + 1,)
    valid : bool
        False if an intensity is negative or not finite; then there are no events.
    """
    n_sites, n_images = bits.shape
    values, sites = found[0], found[1]
    channel, y, x = columns[0], columns[1], columns[2]
    counts = np.zeros(n_images, np.int64)
    _gather(bits, values, sites, counts)
    places = _places(shape)
    offsets = np.zeros(n_images + 1, np.int64)
    buckets = np.empty((3, _BUCKETS), np.int32)
    times = np.empty(n_sites, np.int32)
    spare = np.empty((2, n_sites + 1), np.int64)
    for i in range(n_images):
        n, start = counts[i], offsets[i]
        offsets[i + 1] = start
        if n == 0:
            continue
        if not _equal_times(values[i, :n], bins, times, buckets, spare):
            return time[:0], columns[:, :0], np.zeros_like(offsets), False
        size, used = max(np.int64(1), n // bins), min(bins, n)
        fill = spare[0]
        for t in range(used):
            fill[t] = start + t * size
            time[start + t * size : start + (t + 1) * size] = t
        # What is left over comes last and is overwritten by the next image.
        fill[used] = start + used * size
        for j in range(n):
            bin_ = np.uint32(times[j])
            at = np.uint64(fill[bin_])
            fill[bin_] += 1
            place = places[np.uint32(sites[i, j])]
            channel[at] = place
            y[at] = place >> 16
            x[at] = place >> 32
        offsets[i + 1] = start + used * size
    return time[: offsets[-1]], columns[:, : offsets[-1]], offsets, True


@inner
def _places(shape):
    """Return channel, y and x of every site, in 16 bits each."""
    channels, height, width = shape
    places = np.empty(channels * height * width, np.int64)
    site = 0
    for channel in range(channels):
        for y in range(height):
            for x in range(width):
                places[site] = channel | (y << 16) | (x << 32)
                site += 1
    return places


@inner
def _equal_times(values, bins, times, buckets, spare):
    """Write the bin of each intensity, one more than the last for those left over; return whether all were valid.

    Intensities are dealt into buckets of near ones. Most buckets lie in one bin as a whole; only what is in the others
    must be sorted.
    """
    n = np.int64(len(values))
    low = high = np.int64(values[0])
    for j in range(n):
        low, high = min(low, np.int64(values[j])), max(high, np.int64(values[j]))
    if low < 0 or high >= _INFINITY:
        return False
    shift = np.int64(0)
    while (high - low) >> shift >= min(n, _BUCKETS):
        shift += 1
    counts, starts, table = buckets[0], buckets[1], buckets[2]
    last = (high - low) >> shift
    counts[: last + 1] = 0
    for j in range(n):
        counts[np.uint64((high - values[j]) >> shift)] += 1
    size, used = max(np.int64(1), n // bins), min(bins, n)
    bin_, end, edge = np.int64(0), np.int64(0), size
    for bucket in range(last + 1):
        first, end = end, end + counts[bucket]
        table[bucket] = bin_
        if end > edge:
            starts[bucket] = first
            table[bucket] = _UNDECIDED
            bin_ = min(end // size, used)
            edge = (bin_ + 1) * size if bin_ < used else n
    undecided = spare[0]
    m = np.uint64(0)
    for j in range(n):
        fall = high - values[j]
        bin_ = table[np.uint64(fall >> shift)]
        times[j] = bin_
        undecided[m] = (fall << _HALF) | j
        m += np.uint64(bin_ == _UNDECIDED)
    _sort(undecided[:m], spare[1])
    for key in undecided[:m]:
        bucket = key >> _HALF >> shift
        times[key & _LOW_HALF] = min(starts[bucket] // size, used)
        starts[bucket] += 1
    return True


@kernel
def rank(bits):
    """Sort the non-zero intensities of every image in descending order, ties by site.

    Parameters
    ----------
    bits : ndarray of int32, shape (n_sites, N)
        Intensities as their bits.

    Returns
    -------
    sites, ranked : ndarray of int32, shape (n,)
        Flat index of each non-zero intensity, image after image: ascending, and the strongest first.
    ranked_bits : ndarray of int32, shape (n,)
        The intensities, the strongest first.
    offsets : ndarray of int64, shape (N + 1,)
        Where each image starts.
    """
    n_sites, n_images = bits.shape
    values = np.empty((n_images, n_sites), np.int32)
    found = np.empty((n_images, n_sites), np.int32)
    counts = np.zeros(n_images, np.int64)
    _gather(bits, values, found, counts)
    offsets = np.zeros(n_images + 1, np.int64)
    offsets[1:] = np.cumsum(counts)
    sites = np.empty(offsets[-1], np.int32)
    ranked = np.empty(offsets[-1], np.int32)
    ranked_bits = np.empty(offsets[-1], np.int32)
    keys, spare = np.empty(n_sites, np.int64), np.empty(n_sites, np.int64)
    for i in range(n_images):
        n, start = counts[i], offsets[i]
        sites[start : start + n] = found[i, :n]
        for j in range(n):
            keys[j] = (np.int64(_MAGNITUDE - values[i, j]) << _HALF) | found[i, j]
        _sort(keys[:n], spare)
        for j in range(n):
            ranked[start + j] = keys[j] & _LOW_HALF
            ranked_bits[start + j] = _MAGNITUDE - (keys[j] >> _HALF)
    return sites, ranked, ranked_bits, offsets


@inner
def _sort(keys, spare):
    """Sort keys by their upper halves, which are not negative, in place; those equal in it stay in order."""
    if len(keys) <= 64:
        for j in range(1, len(keys)):
            key, place = keys[j], j
            while place > 0 and keys[place - 1] > key:
                keys[place] = keys[place - 1]
                place -= 1
            keys[place] = key
        return
    counts = np.zeros((4, 256), np.int64)
    for j in range(len(keys)):
        for digit in range(4):
            counts[digit, (keys[j] >> (32 + 8 * digit)) & _BYTE] += 1
    source, target = keys, spare
    for digit in range(4):
        place = counts[digit]
        start = 0
        for value in range(256):
            start, place[value] = start + place[value], start
        for j in range(len(keys)):
            value = (source[j] >> (32 + 8 * digit)) & _BYTE
            target[place[value]] = source[j]
            place[value] += 1
        # Four passes: the last one writes to where the first one read.
        source, target = target, source


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


@inner
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
