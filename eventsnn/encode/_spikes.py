"""Compiled steps from intensities to events in canonical order.

Intensities, float32 and not negative, are compared as their bits, which sort alike. A key is an int64: something to
sort by in the upper half, and a number in the lower one that keeps the order of what is equal.

Where each spike is looked at, indices are unsigned: of others Numba asks whether they count from the end.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from eventsnn.encode._gather import LANES, gather
from eventsnn.jit import inner, kernel, lean_kernel, making_arrays
from eventsnn.memory import scratch_empty

_HALF = np.int64(32)
_LOW_HALF = np.int64(2**32 - 1)
_BYTE = np.int64(255)
_MAGNITUDE = np.int32(2**31 - 1)
_INFINITY = np.int64(0x7F800000)
_BUCKETS = 2048


def equal_spikes(bits, bins, shape, take):
    """Write events of equal numbers in each bin, in canonical order, without ranking what shares a bin.

    Parameters
    ----------
    bits : ndarray of int32, shape (n_sites, N)
        Intensities as their bits.
    bins : int
        Of ``n`` intensities each bin takes ``n // bins``, at least 1, and the weakest are left over.
    shape : tuple of int
        Grid (C, H, W).
    take : callable
        Called once, with the number of events of each image, int64 of shape (N,). Returns the arrays to write to, of
        as many in all: time (int64), channel, y and x (uint16); or None if nobody wants them any more.

    Returns
    -------
    bool
        False if an intensity is negative or not finite; then the events are not complete.
    """
    n_sites, n_images = bits.shape
    found, tiles = (scratch_empty(size, np.int32) for size in ((2, n_images, n_sites + LANES), (2, LANES, LANES)))
    counts, nearby = scratch_empty((2, n_images), np.int64), scratch_empty((2, n_sites), np.int32)
    keys, digits = scratch_empty((3, n_sites + 1), np.int64), scratch_empty((4, 256), np.int64)
    buckets = scratch_empty((4, _BUCKETS), np.int32)
    _find(bits, bins, found, tiles, counts)
    columns = take(counts[1])
    if columns is None:
        return True
    return bool(_deal(found, counts, bins, _places(shape), (nearby, buckets, keys, digits), *columns))


@lru_cache(maxsize=1)
def _places(shape):
    """Return channel, y and x of every site, in 16 bits each."""
    channel, y, x = (np.arange(size) << shift for size, shift in zip(shape, (0, 16, 32), strict=True))
    return (channel[:, None, None] + (y[:, None] + x)).ravel()


@lean_kernel
def _find(bits, bins, found, tiles, counts):
    """Write intensities and their sites to ``found``; to ``counts`` how many of them, and of events, an image has."""
    gather(bits, tiles, found[0], found[1], counts[0])
    for i in range(counts.shape[1]):
        size, used = _share(counts[0, i], bins)
        counts[1, i] = size * used


@lean_kernel
def _deal(found, counts, bins, places, scratch, time, channel, y, x):
    """Write the events; return whether all intensities were valid."""
    nearby, buckets, keys, digits = scratch
    times, fill, dealt, start = nearby[1], keys[0], keys[1], np.int64(0)
    for i in range(counts.shape[1]):
        n, site = counts[0, i], found[1, i]
        if n == 0:
            continue
        if not _equal_times(found[0, i], n, bins, nearby, buckets, keys, digits):
            return False
        size, used = _share(n, bins)
        for t in range(used):
            fill[t] = t * size
            for k in range(start + t * size, start + (t + 1) * size):
                time[np.uint64(k)] = t
        fill[used] = used * size
        # Into the cache first, since memory is better written from beginning to end.
        for j in range(n):
            bin_ = np.uint32(times[j])
            at = np.uint64(fill[bin_])
            fill[bin_] += 1
            dealt[at] = places[np.uint32(site[j])]
        for j in range(size * used):
            place, at = dealt[np.uint64(j)], np.uint64(start + j)
            channel[at] = place
            y[at] = place >> 16
            x[at] = place >> 32
        start += size * used
    return True


@inner
def _share(n, bins):
    """Return of how many intensities a bin has its spikes, and how many bins have any."""
    return (n // bins, bins) if n >= bins else (np.int64(1), n)


@inner
def _equal_times(values, n, bins, nearby, buckets, keys, digits):
    """Write the bin of ``n`` intensities to ``nearby[1]``, one more than the last for those left over.

    Return whether all were valid. Intensities are dealt into buckets of near ones. Most buckets lie in one bin as a
    whole; only what is in the others must be sorted.
    """
    low = high = values[0]
    for j in range(n):
        low = values[j] if values[j] < low else low
        high = values[j] if values[j] > high else high
    if low < 0 or high >= _INFINITY:
        return False
    shift, most = np.int64(0), n if n < _BUCKETS else _BUCKETS
    while (np.int64(high) - low) >> shift >= most:
        shift += 1
    last = (np.int64(high) - low) >> shift
    counts, table, chosen = buckets[0], buckets[1], nearby[0]
    for bucket in range(last + 1):
        counts[bucket] = 0
    for j in range(n):
        chosen[j] = (np.int64(high) - values[j]) >> shift
    for j in range(n):
        counts[np.uint32(chosen[j])] += 1
    _assign(buckets, last, n, bins)
    times, undecided, m = nearby[1], keys[2], np.uint64(0)
    for j in range(n):
        bin_ = table[np.uint32(chosen[j])]
        times[j] = bin_
        undecided[m] = j
        m += np.uint64(bin_ < 0)
    _decide(values, high, undecided, np.int64(m), times, _share(n, bins), buckets, keys, digits)
    return True


@inner
def _assign(buckets, last, n, bins):
    """Write the bin of each bucket, or a number below 0 that says which it is of those that several bins share.

    ``buckets`` holds the number of intensities in each bucket, the bins, and of the shared ones where its intensities
    come among the shared ones, and how many more come before them in all.
    """
    counts, table, places, more = buckets[0], buckets[1], buckets[2], buckets[3]
    size, used = _share(n, bins)
    bin_, end, edge, shared, held = np.int64(0), np.int64(0), size, np.int64(0), np.int64(0)
    for bucket in range(last + 1):
        first, end = end, end + counts[bucket]
        table[bucket] = bin_
        if end >= edge:
            if end > edge:
                table[bucket] = -1 - shared
                places[shared], more[shared] = held, first - held
                held += end - first
                shared += 1
            bin_ = end // size if end // size < used else used
            edge = (bin_ + 1) * size if bin_ < used else n + 1


@inner
def _decide(values, high, undecided, n, times, share, buckets, keys, digits):
    """Replace the times of ``n`` undecided intensities, which say what bucket they are in, by their bins."""
    places, more, ordered = buckets[2], buckets[3], keys[1]
    for k in range(n):
        j = undecided[k]
        shared = np.uint32(-1 - times[np.uint64(j)])
        ordered[np.uint32(places[shared])] = ((np.int64(high) - values[np.uint64(j)]) << _HALF) | j
        places[shared] += 1
    _sort(ordered, n, keys[0], digits)
    for k in range(n):
        j = np.uint64(ordered[k] & _LOW_HALF)
        bin_ = (k + more[np.uint32(-1 - times[j])]) // share[0]
        times[j] = bin_ if bin_ < share[1] else share[1]


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
    values = np.empty((n_images, n_sites + LANES), np.int32)
    found = np.empty((n_images, n_sites + LANES), np.int32)
    counts = np.empty(n_images, np.int64)
    gather(bits, np.empty((2, LANES, LANES), np.int32), values, found, counts)
    offsets = np.zeros(n_images + 1, np.int64)
    offsets[1:] = np.cumsum(counts)
    sites = np.empty(offsets[-1], np.int32)
    ranked = np.empty(offsets[-1], np.int32)
    ranked_bits = np.empty(offsets[-1], np.int32)
    keys, spare = np.empty(n_sites, np.int64), np.empty(n_sites, np.int64)
    digits = np.empty((4, 256), np.int64)
    for i in range(n_images):
        n, start = counts[i], offsets[i]
        sites[start : start + n] = found[i, :n]
        for j in range(n):
            keys[j] = (np.int64(_MAGNITUDE - values[i, j]) << _HALF) | found[i, j]
        _sort(keys, n, spare, digits)
        for j in range(n):
            ranked[start + j] = keys[j] & _LOW_HALF
            ranked_bits[start + j] = _MAGNITUDE - (keys[j] >> _HALF)
    return sites, ranked, ranked_bits, offsets


@inner
def _sort(keys, n, spare, counts):
    """Sort ``n`` keys by their upper halves, which are not negative, in place; those equal in it stay in order."""
    if n <= 64:
        for j in range(1, n):
            key, place = keys[j], j
            while place > 0 and keys[place - 1] > key:
                keys[place] = keys[place - 1]
                place -= 1
            keys[place] = key
        return
    for digit in range(4):
        for value in range(256):
            counts[digit, value] = 0
    for j in range(n):
        for digit in range(4):
            counts[digit, (keys[j] >> (32 + 8 * digit)) & _BYTE] += 1
    source, target = keys, spare
    for digit in range(4):
        place = counts[digit]
        start = np.int64(0)
        for value in range(256):
            start, place[value] = start + place[value], start
        for j in range(n):
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


@making_arrays
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
