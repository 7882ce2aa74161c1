"""Compiled steps from intensities to ranks, and from ranks with times to events in canonical order."""

from __future__ import annotations

import numpy as np

from eventsnn.encode._gather import PAGE, find
from eventsnn.jit import inner, kernel, lean_kernel, making_arrays
from eventsnn.memory import scratch_arrays

_HALF = np.int64(32)
_LOW_HALF = np.int64(2**32 - 1)
_BYTE = np.int64(255)
_MAGNITUDE = np.int32(2**31 - 1)


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
    valid : bool
        Whether no intensity is negative or not finite; else the rest says nothing.
    """
    found, valid = find(bits)
    offsets = np.concatenate(([0], np.cumsum(found[2][-1])))
    sites, ranked, ranked_bits = (np.empty(offsets[-1], np.int32) for _ in range(3))
    scratch = scratch_arrays(((2, len(bits)), np.int64), ((4, 256), np.int64))
    _rank(bits, found, scratch, sites, ranked, ranked_bits)
    return sites, ranked, ranked_bits, offsets, valid


@lean_kernel
def _rank(bits, found, scratch, sites, ranked, ranked_bits):
    """Write what :func:`rank` returns."""
    lower, counts, (keys, digits), start = found[1], found[2], scratch, np.int64(0)
    for i in range(bits.shape[1]):
        for page in range(len(counts) - 1):
            for j in range(counts[page, i], counts[page + 1, i]):
                site = np.int64(page * PAGE) + lower[i, np.uint64(j)]
                sites[np.uint64(start + j)] = site
                keys[0, np.uint64(j)] = (np.int64(_MAGNITUDE - bits[np.uint64(site), i]) << _HALF) | site
        n = counts[-1, i]
        sort(keys[0], n, keys[1], digits)
        for j in range(n):
            at, key = np.uint64(start + j), keys[0, np.uint64(j)]
            ranked[at] = key & _LOW_HALF
            ranked_bits[at] = _MAGNITUDE - (key >> _HALF)
        start += n


@inner
def sort(keys, n, spare, counts):
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
