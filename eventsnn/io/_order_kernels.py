"""Compiled: simultaneous events in canonical order."""

from __future__ import annotations

import numpy as np

from eventsnn.jit import inner, lean_kernel

_ONE = np.int64(1)
_NEXT = np.uint64(1)
_PASSES = 2  # that bring few events of equal time into order, without a branch that cannot be foreseen


@inner
def _sort(keys, first, last):
    """Sort keys in place: by insertion over smaller and smaller gaps, which needs no memory."""
    gap = _ONE
    while gap * np.int64(3) < last - first:
        gap = gap * np.int64(3) + _ONE
    while gap >= _ONE:
        for i in range(first + gap, last):
            key, j = keys[i], i
            while j >= first + gap and keys[j - gap] > key:
                keys[j] = keys[j - gap]
                j -= gap
            keys[j] = key
        gap //= np.int64(3)


@inner
def _key(p, y, x, i):
    return np.int64(p[i]) << np.int64(32) | np.int64(y[i]) << np.int64(16) | np.int64(x[i])


@lean_kernel
def disorder(t, p, y, x):
    """Return whether times fall, and whether events of equal time are not in the order of (p, y, x)."""
    falls, unordered = np.int64(0), np.int64(0)
    for i in range(_NEXT, np.uint64(len(t))):
        before = i - _NEXT
        falls |= np.int64(t[i] < t[before])
        unordered |= np.int64(t[i] == t[before]) & np.int64(_key(p, y, x, i) < _key(p, y, x, before))
    return falls, unordered


@inner
def _pass(t, keys, n):
    """Carry the largest key of each time to its end."""
    carried = keys[0]
    for i in range(_NEXT, n):
        key = keys[i]
        swap = (t[i] == t[i - _NEXT]) & (key < carried)
        keys[i - _NEXT] = key if swap else carried
        carried = carried if swap else key
    keys[n - _NEXT] = carried


@lean_kernel
def sort_ties(t, p, y, x, keys):
    """Put events of equal time into the order of (p, y, x), in place. Times must not fall; ``keys`` is scratch."""
    n, i = np.uint64(len(t)), _NEXT
    for k in range(n):
        keys[k] = _key(p, y, x, k)
    for _ in range(_PASSES):
        _pass(t, keys, n)
    while i < n:
        if (t[i] == t[i - _NEXT]) & (keys[i] < keys[i - _NEXT]):
            first = i - _NEXT
            while first > 0 and t[first - _NEXT] == t[i]:
                first -= _NEXT
            while i < n and t[i] == t[first]:
                i += _NEXT
            _sort(keys, np.int64(first), np.int64(i))
        else:
            i += _NEXT
    for k in range(n):
        p[k], y[k], x[k] = keys[k] >> np.int64(32), keys[k] >> np.int64(16) & 65535, keys[k] & 65535
