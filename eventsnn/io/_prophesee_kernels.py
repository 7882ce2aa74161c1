"""Compiled decoders of Prophesee's event streams; see :class:`eventsnn.io._decoding.WordDecoder` for what they take.

Every word is looked at once, nothing of a word serves as an index, and columns are written only where there is room.
"""

from __future__ import annotations

import numpy as np

from eventsnn.io._event_kernels import put
from eventsnn.jit import inner, lean_kernel, trailing_zeros

_NEVER = np.int64(-1)  # of a time or row that has not come yet
_ONE = np.int64(1)
_FIRST, _NEXT = np.uint64(0), np.uint64(1)
_SLACK = np.int64(1 << 26)  # microseconds, 67 s
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
def evt2(words, state, counts, out, room):
    """Decode EVT 2.0.

    ``state``: time of the last TIME_HIGH. Counts: before the first time, unknown, triggers, other.
    """
    base, n = state[0], np.uint64(0)  # an index without sign needs no look at whether it is negative
    for i in range(len(words)):
        word = np.int64(words[i])
        kind = word >> 28
        if kind <= 1:
            if base < 0:
                counts[0] += 1
            else:
                put(out, n, base + (word >> 22 & 63), word >> 11 & 2047, word & 2047, kind)
                n += np.uint64(1)
        elif kind == 8:
            base = _later(base, (word & 0xFFFFFFF) << 6, np.int64(1 << 34))
        elif kind == 10:
            counts[2] += 1
        elif kind >= 13:
            counts[3] += 1
        else:
            counts[1] += 1
    state[0] = base
    return np.int64(len(words)), np.int64(n)


@lean_kernel
def evt21(words, state, counts, out, room):
    """Decode EVT 2.1; ``state``: time of the last TIME_HIGH, whether halves are swapped. Counts as :func:`evt2`."""
    base, swapped, n, i = state[0], state[1], np.uint64(0), np.int64(0)
    last = np.uint64(max(room - 31, 0))
    while i < len(words) and n < last:
        upper, lower = np.int64(words[i] >> np.uint64(32)), np.int64(words[i] & np.uint64(0xFFFFFFFF))
        if swapped:
            upper, lower = lower, upper
        i += 1
        kind = upper >> 28
        if kind <= 1:
            time, column, row = base + (upper >> 22 & 63), upper >> 11 & 2047, upper & 2047
            while lower:
                place = column + trailing_zeros(np.uint32(lower))
                lower &= lower - _ONE
                if base < 0:
                    counts[0] += 1
                else:
                    put(out, n, time, place, row, kind)
                    n += np.uint64(1)
        elif kind == 8:
            base = _later(base, (upper & 0xFFFFFFF) << 6, np.int64(1 << 34))
        elif kind == 10:
            counts[2] += 1
        elif kind >= 13:
            counts[3] += 1
        else:
            counts[1] += 1
    state[0] = base
    return i, np.int64(n)


@inner
def _events_of_vector(bits, place, time, row, polarity, n, counts, out):
    """Write an event for each bit that is set, from column ``place`` on; return how many there are now."""
    while bits:
        column = place + trailing_zeros(np.uint32(bits))
        bits &= bits - _ONE
        if time < 0 or row < 0 or column >= _GRID:
            counts[1 if time >= 0 and row >= 0 else 0] += 1
        else:
            put(out, n, time, column, row, polarity)
            n += np.uint64(1)
    return n


@lean_kernel
def evt3(words, state, counts, out, room):
    """Decode EVT 3.0.

    ``state``: time so far, row, base column and polarity of vectors; -1 for a time and a row that have not come.
    Counts: before the first time and row, outside, unknown, triggers, other.
    """
    time, row, column, polarity = state[0], state[1], state[2], state[3]
    n, i, lost = np.uint64(0), np.int64(0), np.int64(0)
    last = np.uint64(max(room - 11, 0))
    while i < len(words) and n < last:
        word = np.int64(words[i])
        i += 1
        kind, content = word >> 12, word & 4095
        if kind & 13 == 0:
            # Rows (0) and events (2) follow each other as they like, so that branches would be mispredicted: an event
            # is written in any case, and counts if it is one.
            is_event, place = kind >> 1, content & 2047
            row = row & -is_event | place & is_event - _ONE
            put(out, n, time, place, row, content >> 11)
            is_placed = _ONE + ((time | row) >> 63)
            n += np.uint64(is_event & is_placed)
            lost += is_event & ~is_placed
        elif kind == 4:
            n = _events_of_vector(content, column, time, row, polarity, n, counts, out)
            column += 12
        elif kind == 5:
            n = _events_of_vector(content & 255, column, time, row, polarity, n, counts, out)
            column += 8
        elif kind == 3:
            column, polarity = content & 2047, content >> 11
        elif kind == 6:
            time = time if time < 0 else (time >> 12 << 12) + content
        elif kind == 8:
            time = _after_high(time, content)
        elif kind == 10:
            counts[3] += 1
        elif kind == 7 or kind >= 14:
            counts[4] += 1
        else:
            counts[2] += 1
            if kind == 1:  # the row of something else than events
                row = _NEVER
    counts[0] += lost
    state[0], state[1], state[2], state[3] = time, row, column, polarity
    return i, np.int64(n)


@inner
def _after_high(time, high):
    """Return the time after the word that gives its upper 12 bits; the lower ones begin at 0 with a new one."""
    before = time >> 12 & 4095
    if time < 0 or before == high:
        return high << 12 if time < 0 else time
    # A fall by half of the period or more, which is 16.8 s long, is its end.
    return (time >> 24 << 24) + (high << 12) + (np.int64(1 << 24) if before >= high + 2048 else np.int64(0))


@inner
def _low(words, i):
    return np.int64(words[i] & np.uint64(0xFFFFFFFF))


@inner
def _jumps(words, n):
    """Return how often times begin anew, or leap back over that."""
    jumps = np.int64(0)
    for i in range(_NEXT, n):
        jumps += abs(_low(words, i) - _low(words, i - _NEXT)) >= np.int64(1 << 32) - _SLACK
    return jumps


@lean_kernel
def dat(words, state, counts, out, room):
    """Decode DAT; ``state``: the last time, bits of a column and of a row, bit of the polarity. Counts nothing.

    Times have 32 bits. A fall from the last minute of their 71.6 to the first is their end.
    """
    period, n_x, bit, n = np.int64(1 << 32), state[1], state[3], np.uint64(len(words))
    columns, rows = (_ONE << n_x) - 1, (_ONE << state[2]) - 1
    before = state[0] & (period - 1) if state[0] >= 0 else _low(words, _FIRST)
    epoch = state[0] - before if state[0] >= 0 else np.int64(0)
    start, jumps = _FIRST, _jumps(words, n)
    while start < n:
        low = _low(words, start)
        epoch, stop = _later(epoch + before, low, period) - low, n if jumps == 0 else start + _NEXT
        while stop < n and abs(_low(words, stop) - _low(words, stop - _NEXT)) < period - _SLACK:
            stop += _NEXT
        # Up to there nothing of an event depends on the one before, so that several are decoded at a time.
        for i in range(start, stop):
            where = np.int64(words[i] >> np.uint64(32))
            put(out, i, epoch + _low(words, i), where & columns, where >> n_x & rows, where >> bit & 1)
        start, before = stop, _low(words, stop - _NEXT)
    state[0] = epoch + before
    return np.int64(n), np.int64(n)
