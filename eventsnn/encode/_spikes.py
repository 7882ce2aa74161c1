"""Compiled steps from intensities to events in canonical order.

Intensities, float32 and not negative, are compared as their bits, which sort alike. A key is an int64: something to
sort by in the upper half, and a number in the lower one that keeps the order of what is equal.

Where each spike is looked at, indices are unsigned: of others Numba asks whether they count from the end.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from eventsnn.encode._gather import LANES, PAGE, any_high, find, share
from eventsnn.encode._parting import part_out, parts_well
from eventsnn.encode._places import divisors, expect, write_places
from eventsnn.encode._ranking import sort
from eventsnn.jit import inner, lean_kernel, trailing_zeros
from eventsnn.memory import scratch_arrays

_HALF = np.int64(32)
_LOW_HALF = np.int64(2**32 - 1)
_MAGNITUDE = np.int32(2**31 - 1)
_BUCKETS = 2048
_GROUP = 8  # buckets that are gone through together where they lie in one bin
_SHARED = np.uint16(2**15)  # of a bucket in several bins, and a number of its own
#: Bins that can be told from shared buckets.
MOST_BINS = 2**15
_STEP = 16  # intensities between which a cache line is asked for


def equal_spikes(bits, bins, shape, take):
    """Write events of equal numbers in each bin, in canonical order, without ranking what shares a bin.

    Parameters
    ----------
    bits : ndarray of int32, shape (n_sites, N)
        Intensities as their bits.
    bins : int
        Of ``n`` intensities each bin takes ``n // bins``, at least 1, and the weakest are left over. Below
        ``MOST_BINS``.
    shape : tuple of int
        Grid (C, H, W).
    take : callable
        Called once, with how many events there are up to the end of each image, int64 of shape (N,). Returns the
        arrays to write to, of as many in all: time (int64), channel, y and x (uint16); or None if nobody wants them
        any more.

    Returns
    -------
    bool
        False if an intensity is negative or not finite; then the events are not complete.
    """
    found, valid = find(bits, bins)
    if not valid:
        return False
    columns = take(found[3])
    if columns is None:
        return True
    n_sites = len(bits)
    scratch = scratch_arrays(
        ((_BUCKETS + _GROUP,), np.int32),
        ((_BUCKETS + _GROUP,), np.uint16),
        ((2, _BUCKETS), np.int64),
        ((n_sites + LANES,), np.uint16),
        ((n_sites + LANES,), np.uint16),
        ((n_sites,), np.int32),
        ((2, n_sites + 1), np.int64),
        ((4, 256), np.int64),
    )
    _deal(bits, found, bins, divisors(shape), scratch, *columns)
    return True


@partial(lean_kernel, unroll=True, error_model="numpy")
def _deal(bits, found, bins, by, scratch, time, channel, y, x):
    """Write the events."""
    codes, sites, counts = found[:3]
    times, near, far, keys, digits = scratch[3:]
    start, pages, fill, stops = np.int64(0), len(counts) - 1, keys[0], digits[0]
    at = np.int64(time.ctypes.data), np.int64(channel.ctypes.data), np.int64(y.ctypes.data), np.int64(x.ctypes.data)
    for i in range(bits.shape[1]):
        n = counts[pages, i]
        if n == 0:
            continue
        size, used = share(n, bins)
        m, behind = size * used, 2 * start
        to = at[1] + behind, at[2] + behind, at[3] + behind
        _equal_times(bits, i, codes[i], sites[i], counts, bins, scratch, at[0] + 8 * start)
        for t in range(used):
            for k in range(start + t * size, start + (t + 1) * size):
                time[np.uint64(k)] = t
        narrow = by[1] != 0 and m >= LANES
        if narrow and parts_well(len(bits), bins):
            part_out(times, sites[i], n, (codes[i], stops), near, to)
        else:
            for t in range(used):
                fill[t] = t * size
            fill[used] = m
            for page in range(pages):
                for j in range(counts[page, i], counts[page + 1, i]):
                    bin_ = np.uint64(times[np.uint64(j)])
                    k = fill[bin_]
                    fill[bin_] = k + 1
                    far[np.uint64(k)] = page * PAGE + sites[i, np.uint64(j)]
            for j in range(m):
                near[j] = far[j]
        if narrow:
            write_places(near, m, by, to)
        else:
            # Half a site more, so that rounding in float64 never reaches the next number.
            by_plane, by_width = 1.0 / by[0], 1.0 / by[3]
            for j in range(m):
                event, site = np.uint64(start + j), far[np.uint64(j)]
                map_ = np.int32((site + 0.5) * by_plane)
                rest = site - map_ * np.int32(by[0])
                row = np.int32((rest + 0.5) * by_width)
                channel[event], y[event], x[event] = map_, row, rest - row * np.int32(by[3])
        start += m


@inner
def _equal_times(bits, image, codes, sites, counts, bins, scratch, to):
    """Write the bin of each intensity of an image to ``scratch[3]``, one more than the last for those left over.

    Codes are dealt into buckets of near ones, and become their buckets. Most buckets lie in one bin as a
    whole; only what is in the others must be sorted.
    """
    edges, table, shared, times, _, _, keys, digits = scratch
    n = counts[-1, image]
    low = high = codes[0]
    for j in range(n):
        low = codes[j] if codes[j] < low else low
        high = codes[j] if codes[j] > high else high
    shift, most = np.uint32(0), n if n < _BUCKETS else np.int64(_BUCKETS)
    while np.uint32(high - low) >> shift >= most:
        shift += np.uint32(1)
    last = np.int64(np.uint32(high - low) >> shift)
    for j in range(n):
        codes[j] = np.uint32(high - codes[j]) >> shift
    for bucket in range(last + _GROUP):
        edges[bucket] = 0
    for first in range(0, n, _STEP):
        expect(to + 4 * first)
        for j in range(first, first + _STEP if first + _STEP < n else n):
            edges[np.uint64(codes[np.uint64(j)])] += 1
    size, used = share(n, bins)
    _assign(edges, table, shared, last, n, size, used)
    for first in range(0, n, _STEP):
        expect(to + 4 * (n + first))
        for j in range(first, first + _STEP if first + _STEP < n else n):
            times[np.uint64(j)] = table[np.uint64(codes[np.uint64(j)])]
    for j in range(n, n + LANES):
        times[np.uint64(j)] = 0
    m, ordered = np.int64(0), keys[1]
    for first in range(0, n, LANES):
        word = any_high(np.int64(times.ctypes.data) + 2 * first)
        while word != 0:
            j = first + trailing_zeros(word)
            word &= word - np.uint32(1)
            page = np.int64(0)
            while counts[page + 1, image] <= j:
                page += 1
            value = bits[page * PAGE + sites[np.uint64(j)], image]
            which = times[np.uint64(j)] ^ _SHARED
            ordered[shared[0, which]] = (np.int64(_MAGNITUDE - value) << _HALF) | j
            shared[0, which] += 1
            m += 1
    sort(ordered, m, keys[0], digits)
    for k in range(m):
        j = np.uint64(ordered[k] & _LOW_HALF)
        bin_ = (k + shared[1, times[j] ^ _SHARED]) // size
        times[j] = bin_ if bin_ < used else used


@inner
def _assign(counts, table, shared, last, n, size, used):
    """Write the bin of each bucket, or which it is of those that several bins share.

    ``shared`` holds of each of these where its intensities come among theirs, and how many more come before in all.
    """
    bin_, end, edge, which, held = np.int64(0), np.int64(0), size, np.int64(0), np.int64(0)
    for low in range(0, last + 1, _GROUP):
        total = np.int64(0)
        for bucket in range(low, low + _GROUP):
            total += counts[np.uint64(bucket)]
            table[np.uint64(bucket)] = bin_
        if end + total < edge:
            end += total
            continue
        for bucket in range(low, low + _GROUP):
            first, end = end, end + counts[bucket]
            table[bucket] = bin_
            if end < edge:
                continue
            if end > edge:
                table[bucket] = _SHARED | np.uint16(which)
                shared[0, which], shared[1, which] = held, first - held
                held += end - first
                which += 1
            bin_ = end // size if end // size < used else used
            edge = (bin_ + 1) * size if bin_ < used else n + 1
