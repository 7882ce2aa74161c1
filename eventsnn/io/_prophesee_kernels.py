"""Compiled decoders of Prophesee's event streams; see :class:`eventsnn.io._decoding.WordDecoder` for what they take.

Every word is looked at once, nothing of a word serves as an index, and columns are written only where there is room.
"""

from __future__ import annotations

import numpy as np

from eventsnn.jit import inner, lean_kernel

_NEVER = np.int64(-1)  # of a time or row that has not come yet
_ONE = np.int64(1)
_SLACK = np.int64(1 << 20)  # microseconds
_GRID = np.int64(2048)  # coordinates have 11 bits


@inner
def _later(base, high, period):
    """Return the time that the upper bits ``high`` mean after ``base``, which counts how often they began anew.

    They did if they fall from almost the end of their period to almost its start, and run back over it if they leap
    the other way. Everything else is a step forward or backward.
    """
    if base < 0:
        return high
    before = base & (period - _ONE)
    later = base - before + high
    if before - high >= period - _SLACK:
        return later + period
    return later - period if high - before >= period - _SLACK and later >= period else later


@lean_kernel
def evt2(words, state, counts, t, x, y, p):
    """Decode EVT 2.0.

    ``state``: time of the last TIME_HIGH. Counts: before the first time, unknown, triggers, other.
    """
    base, n = state[0], np.int64(0)
    for i in range(len(words)):
        word = np.int64(words[i])
        kind = word >> 28
        if kind <= 1:
            if base < 0:
                counts[0] += 1
            else:
                t[n] = base + (word >> 22 & 63)
                x[n] = word >> 11 & 2047
                y[n] = word & 2047
                p[n] = kind
                n += 1
        elif kind == 8:
            base = _later(base, (word & 0xFFFFFFF) << 6, np.int64(1 << 34))
        elif kind == 10:
            counts[2] += 1
        elif kind >= 13:
            counts[3] += 1
        else:
            counts[1] += 1
    state[0] = base
    return np.int64(len(words)), n


@lean_kernel
def evt21(words, state, counts, t, x, y, p):
    """Decode EVT 2.1; ``state``: time of the last TIME_HIGH, whether halves are swapped. Counts as :func:`evt2`."""
    base, swapped, n, i = state[0], state[1], np.int64(0), np.int64(0)
    while i < len(words) and n + 32 <= len(t):
        upper, lower = np.int64(words[i] >> np.uint64(32)), np.int64(words[i] & np.uint64(0xFFFFFFFF))
        if swapped:
            upper, lower = lower, upper
        i += 1
        kind = upper >> 28
        if kind <= 1:
            time, column, row = base + (upper >> 22 & 63), upper >> 11 & 2047, upper & 2047
            while lower:
                if lower & 1:
                    if base < 0:
                        counts[0] += 1
                    else:
                        t[n], x[n], y[n], p[n] = time, column, row, kind
                        n += 1
                column += 1
                lower >>= 1
        elif kind == 8:
            base = _later(base, (upper & 0xFFFFFFF) << 6, np.int64(1 << 34))
        elif kind == 10:
            counts[2] += 1
        elif kind >= 13:
            counts[3] += 1
        else:
            counts[1] += 1
    state[0] = base
    return i, n


@lean_kernel
def evt3(words, state, counts, t, x, y, p):
    """Decode EVT 3.0.

    ``state``: the last TIME_HIGH with how often it began anew, TIME_LOW, row, base column and polarity of vectors.
    Counts: before the first time, without a row, outside, unknown, triggers, other.
    """
    high, low, row, column, polarity = state[0], state[1], state[2], state[3], state[4]
    n, i = np.int64(0), np.int64(0)
    while i < len(words) and n + 12 <= len(t):
        word = np.int64(words[i])
        i += 1
        kind, content = word >> 12, word & 4095
        if kind == 2:
            if high < 0 or row < 0:
                counts[0 if high < 0 else 1] += 1
            else:
                t[n], x[n], y[n], p[n] = high + low, content & 2047, row, content >> 11
                n += 1
        elif kind == 0:
            row = content & 2047
        elif kind == 4 or kind == 5:
            width = np.int64(12) if kind == 4 else np.int64(8)
            bits, place = content & ((_ONE << width) - 1), column
            while bits:
                if bits & 1:
                    if high < 0 or row < 0 or place >= _GRID:
                        counts[0 if high < 0 else (1 if row < 0 else 2)] += 1
                    else:
                        t[n], x[n], y[n], p[n] = high + low, place, row, polarity
                        n += 1
                place += 1
                bits >>= 1
            column += width
        elif kind == 3:
            column, polarity = content & 2047, content >> 11
        elif kind == 6:
            low = content
        elif kind == 8:
            before, new = high >> 12 & 4095, content << 12
            if high < 0:
                high, low = new, np.int64(0)
            elif before != content:
                # A fall by half of the period or more, which is 16.8 s long, is its end.
                high = (high >> 24 << 24) + new + (np.int64(1 << 24) if before >= content + 2048 else np.int64(0))
                low = np.int64(0)
        elif kind == 10:
            counts[4] += 1
        elif kind == 7 or kind >= 14:
            counts[5] += 1
        else:
            counts[3] += 1
            if kind == 1:  # the row of something else than events
                row = _NEVER
    state[0], state[1], state[2], state[3], state[4] = high, low, row, column, polarity
    return i, n


@lean_kernel
def dat(words, state, counts, t, x, y, p):
    """Decode DAT; ``state``: the last time, bits of a column and of a row, bit of the polarity. Counts nothing.

    Times have 32 bits. A fall from the last second of their 71.6 minutes to the first is their end.
    """
    base, n_x, n_y, bit = state[0], state[1], state[2], state[3]
    for i in range(len(words)):
        where = np.int64(words[i] >> np.uint64(32))
        base = _later(base, np.int64(words[i] & np.uint64(0xFFFFFFFF)), np.int64(1 << 32))
        t[i] = base
        x[i] = where & ((_ONE << n_x) - 1)
        y[i] = where >> n_x & ((_ONE << n_y) - 1)
        p[i] = where >> bit & 1
    state[0] = base
    return np.int64(len(words)), np.int64(len(words))
