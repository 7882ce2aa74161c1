"""At which positions anybody can fire at all, found by counting bits before any list is made or any weight is added.

Where each input spikes at most once, a neuron gets each weight at most once. Learnt weights are large or next to
nothing: with ``m`` spikes at large weights, its potential is at most ``m`` times its largest weight, and what the small
ones add up to. ``m`` is the number of bits that its large weights and the window's spikes have in common.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from eventsnn.backends.cpu._simd import LANES, aligned, any_enough
from eventsnn.jit import inner

_NONE = np.zeros(0, np.uint32)
_ALL = (1 << 32) - 1
#: ``masks[kx * LANES:][:LANES]``: where in column ``kx`` of its window each map has large weights, bit
#: ``channel * kh + ky``; ``need``: how many of these must spike before a map can fire; ``marks[y * wide + x]``: which
#: channels spike there, each by the highest bit of its window; ``words``: as ``masks``, columns of a row of windows;
#: ``keep``: all bits of a column but the highest of each channel; ``tally``: positions looked at, and those left out.
#: Arrays but the last are empty where nothing can be left out
Sieve = namedtuple("Sieve", "masks need marks words keep tally")
_BITS = 32  # of a column of a window
_TRIAL = 2000  # positions to look at before it is known whether that is worth while
_WORTH = 2  # at least one position in so many must be left out
_LONG = 24  # spikes that a position must see, in the mean: looking takes about as long as adding five


def make_sieve(weights, limit, sizes):
    """Return the sieve of a layer with thresholds ``limit``; ``weights`` (blocks, rows * LANES) are not negative."""
    high, masks, need = sizes.channels * sizes.kh, _NONE, _NONE
    if len(weights) == 1 and high <= _BITS:
        found, need = _masks(weights[0].reshape(high, sizes.kw, LANES), limit[:LANES])
        masks = aligned(found.size).view(np.uint32)
        masks[:] = found.ravel()
    top = sum(1 << (c * sizes.kh + sizes.kh - 1) for c in range(sizes.channels))
    return Sieve(masks, need, _NONE, _NONE, np.int64(_ALL & ~top), np.zeros(2, np.int64))


def make_marks(sizes):
    """Return room for marks of a sample, and for words."""
    wide = sizes.width + 2 * sizes.pw
    return np.zeros((sizes.height + 2 * sizes.ph) * wide, np.uint32), aligned(wide).view(np.uint32)


def with_room(sieve, room):
    """Return the sieve to be used, with what :func:`make_marks` made."""
    if not len(sieve.masks):
        return sieve
    return Sieve(sieve.masks, sieve.need, *room, sieve.keep, np.zeros(2, np.int64))


def _masks(weights, limit):
    """Return the masks (kw, LANES) of weights (channels * kh, kw, LANES), and how many spikes each map needs."""
    n = weights.shape[0] * weights.shape[1]
    largest = weights.max(axis=(0, 1)).astype(np.float64)
    small = largest / (2 * n)
    bits = (weights > small).astype(np.uint32) << np.arange(len(weights), dtype=np.uint32)[:, None, None]
    # Float32 sums may be rounded up once per addition.
    room = limit.astype(np.float64) * (1 - n * 2.0**-23) - n * small
    with np.errstate(divide="ignore", invalid="ignore"):
        most = np.where(largest > 0, np.floor(room / largest), np.where(limit < 0, -1, n))
    return bits.sum(axis=0, dtype=np.uint32), (most + 1).clip(0, n + 1).astype(np.uint32)


@inner
def is_useful(n, sizes, sieve):
    """Return whether it is worth while to look for positions that are not able, in a sample of ``n`` spikes."""
    often = sieve.tally[0] < _TRIAL or sieve.tally[1] * _WORTH > sieve.tally[0]
    seen = n * sizes.kh * sizes.kw
    return len(sieve.words) > 0 and often and seen >= _LONG * sizes.oh * sizes.ow * sizes.sh * sizes.sw


@inner
def find_able(once, sizes, sieve, able):
    """Set ``able`` of each position where a neuron may fire, at least; ``once``: whether no input spikes twice."""
    marks, words, keep, wide = sieve.marks, sieve.words, sieve.keep, np.uint64(len(sieve.words))
    row, skipped = np.uint64(0), np.int64(0)
    for x in range(wide):
        words[x] = 0
    for oy in range(sizes.oh):
        while row < np.uint64(oy * sizes.sh + sizes.kh):
            for x in range(wide):
                words[x] = ((words[x] >> 1) & keep) | marks[row * wide + x]
            row += np.uint64(1)
        for ox in range(sizes.ow):
            may = not once or any_enough(words, ox * sizes.sw, sizes.kw, sieve.masks, sieve.need)
            able[np.uint64(oy * sizes.ow + ox)] = may
            skipped += 1 - np.int64(may)
    sieve.tally[0] += sizes.oh * sizes.ow
    sieve.tally[1] += skipped
