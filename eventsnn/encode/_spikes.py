"""Compiled steps from intensities to events in canonical order.

Intensities, float32 and not negative, are compared as their bits, which sort alike. A key is an int64: something to
sort by in the upper half, and a number in the lower one that keeps the order of what is equal.

Where each spike is looked at, indices are unsigned: of others Numba asks whether they count from the end.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from eventsnn.encode._eights import count_8, fill_8, look_up_8, sum_of_8
from eventsnn.encode._gather import LANES, PAGE, any_high, room_to_find, share, valid_codes
from eventsnn.encode._parting import part_out, parts_well
from eventsnn.encode._places import divisors, write_places
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
        False if an intensity is negative or not finite; then there are no events.
    """
    n_sites, n_images = bits.shape
    ordered, ends = room_for_sites(n_sites, n_images)
    found, room = room_to_find(n_sites, n_images), room_to_order(n_sites)
    if not _order(bits, bins, (scratch_arrays(*found), scratch_arrays(*room)), ordered, ends):
        return False
    write(ordered, ends, bins, shape, take)
    return True


def room_for_sites(n_sites, n_images):
    """Return scratch memory for the sites of all events and for where those of each image end."""
    kind = np.uint16 if n_sites <= PAGE else np.int32
    return scratch_arrays(((n_sites * n_images + LANES,), kind), ((n_images,), np.int64))


def room_to_order(n_sites):
    """Return shapes and types of the scratch memory of :func:`order` beside what is found."""
    return (
        ((_BUCKETS + _GROUP,), np.int32),
        ((_BUCKETS + _GROUP,), np.uint16),
        ((2, _BUCKETS), np.int64),
        ((n_sites + LANES,), np.uint16),
        ((2, n_sites + 1), np.int64),
        ((4, 256), np.int64),
    )


def write(ordered, ends, bins, shape, take):
    """Write the events of ordered sites where :func:`equal_spikes`'s ``take`` says."""
    if (columns := take(ends)) is not None:
        _write(ordered, ends, bins, divisors(shape), *columns)


@partial(lean_kernel, error_model="numpy")
def _order(bits, bins, scratch, ordered, ends):
    return order(bits, bins, scratch, ordered, ends, np.int64(0)) >= 0


@inner
def order(bits, bins, scratch, ordered, ends, start):
    """Write the sites of events of equal numbers in each bin, in canonical order, from ``start`` on.

    Return where they end, which is written to ``ends`` for each image, too; or -1 if an intensity is negative or not
    finite. ``ordered`` has room for 32 more.
    """
    found, (times, keys, digits) = scratch[0], scratch[1][3:]
    codes, sites, counts = found[:3]
    if not valid_codes(bits, found):
        return np.int64(-1)
    pages, fill, stops = len(counts) - 1, keys[0], digits[0]
    for i in range(len(ends)):
        n = counts[pages, i]
        size, used = share(n, bins)
        if n > 0:
            _equal_times(bits, i, codes[i], sites[i], counts, bins, scratch[1])
        if n > 0 and parts_well(len(bits), bins):
            to = np.int64(ordered.ctypes.data) + 2 * start
            part_out(times, sites[i], n, (codes[i], stops), to)
        elif n > 0:
            for t in range(used):
                fill[t] = start + t * size
            # Those left over go to where the next image's will be.
            fill[used] = start + size * used
            for page in range(pages):
                for j in range(counts[page, i], counts[page + 1, i]):
                    bin_ = np.uint64(times[np.uint64(j)])
                    k = fill[bin_]
                    fill[bin_] = k + 1
                    ordered[np.uint64(k)] = page * PAGE + sites[i, np.uint64(j)]
        start += size * used
        ends[i] = start
    return start


@partial(lean_kernel, error_model="numpy")
def _write(ordered, ends, bins, by, time, channel, y, x):
    """Write the events of ordered sites; ``by`` are divisors."""
    start = np.int64(0)
    at = np.int64(channel.ctypes.data), np.int64(y.ctypes.data), np.int64(x.ctypes.data)
    for i in range(len(ends)):
        m = ends[i] - start
        size, used = share(m, bins)
        for t in range(used):
            for k in range(start + t * size, start + (t + 1) * size):
                time[np.uint64(k)] = t
        if by[1] != 0 and m >= LANES:
            to = at[0] + 2 * start, at[1] + 2 * start, at[2] + 2 * start
            write_places(np.int64(ordered.ctypes.data) + 2 * start, m, by, to)
        else:
            # Half a site more, so that rounding in float64 never reaches the next number.
            by_plane, by_width = 1.0 / by[0], 1.0 / by[3]
            for event in range(np.uint64(start), np.uint64(start + m)):
                site = np.int32(ordered[event])
                map_ = np.int32((site + 0.5) * by_plane)
                rest = site - map_ * np.int32(by[0])
                row = np.int32((rest + 0.5) * by_width)
                channel[event], y[event], x[event] = map_, row, rest - row * np.int32(by[3])
        start = ends[i]


@inner
def _equal_times(bits, image, codes, sites, counts, bins, scratch):
    """Write the bin of each intensity of an image to ``scratch[3]``, one more than the last for those left over.

    Codes are dealt into buckets of near ones, and become their buckets. Most buckets lie in one bin as a
    whole; only what is in the others must be sorted.
    """
    edges, table, shared, times, keys, digits = scratch
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
    at, end = np.int64(codes.ctypes.data), n & ~np.int64(7)
    for j in range(np.int64(0), end, np.int64(8)):
        count_8(at + 2 * j, np.int64(edges.ctypes.data))
    for j in range(end, n):
        edges[np.uint64(codes[np.uint64(j)])] += 1
    size, used = share(n, bins)
    _assign(edges, table, shared, last, n, size, used)
    for j in range(np.int64(0), end, np.int64(8)):
        look_up_8(at + 2 * j, np.int64(table.ctypes.data), np.int64(times.ctypes.data) + 2 * j)
    for j in range(end, n):
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
    bin_, edge = np.int64(0), size
    for k in range(m):
        j = np.uint64(ordered[k] & _LOW_HALF)
        # Ranks rise, so that nothing need be divided.
        while bin_ < used and k + shared[1, times[j] ^ _SHARED] >= edge:
            bin_, edge = bin_ + 1, edge + size
        times[j] = bin_


@inner
def _assign(counts, table, shared, last, n, size, used):
    """Write the bin of each bucket, or which it is of those that several bins share.

    ``shared`` holds of each of these where its intensities come among theirs, and how many more come before in all.
    """
    bin_, end, edge, which, held = np.int64(0), np.int64(0), size, np.int64(0), np.int64(0)
    for low in range(0, last + 1, _GROUP):
        total = sum_of_8(np.int64(counts.ctypes.data) + 4 * low)
        if end + total < edge:
            fill_8(np.int64(table.ctypes.data) + 2 * low, bin_)
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
            while bin_ < used and end >= edge:
                bin_, edge = bin_ + 1, edge + size
            edge = edge if bin_ < used else n + 1
