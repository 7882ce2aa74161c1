"""Compiled: simultaneous events in canonical order."""

from __future__ import annotations

import numpy as np

from eventsnn.jit import inner, lean_kernel

_ONE = np.int64(1)


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


@lean_kernel
def sort_ties(t, p, y, x, keys):
    """Put events of equal time into the order of (p, y, x), in place. Times must not fall; ``keys`` is scratch."""
    n, first = len(t), np.int64(0)
    while first < n:
        last, ordered = first, True
        key = np.int64(-1)
        while last < n and t[last] == t[first]:
            before = key
            key = np.int64(p[last]) << np.int64(32) | np.int64(y[last]) << np.int64(16) | np.int64(x[last])
            ordered &= key >= before
            keys[last] = key
            last += _ONE
        if not ordered:
            _sort(keys, first, last)
            for i in range(first, last):
                p[i], y[i], x[i] = keys[i] >> np.int64(32), keys[i] >> np.int64(16) & 65535, keys[i] & 65535
        first = last
