"""Compiled decoders of records of bytes; see :class:`eventsnn.io._records.RecordDecoder` for what they take.

No number of a file serves as an index, and events are written only where there is room. Behind the data there are 8
bytes more, so that as many may be loaded at once wherever a record is.
"""

from __future__ import annotations

import numpy as np

from eventsnn.io._event_kernels import load, put
from eventsnn.io._prophesee_kernels import _later
from eventsnn.jit import inner, lean_kernel

_ONE = np.int64(1)
_OUTSIDE = np.int64(1 << 40)  # more than any data have
_EVTS = np.int64(int.from_bytes(b"EVTS", "little"))


@inner
def _big32(word):
    """Return the lower 4 bytes of a word, the most significant first."""
    return (word & 255) << 24 | (word & 0xFF00) << 8 | word >> 8 & 0xFF00 | word >> 24 & 255


@inner
def _little16(data, i):
    return np.int64(data[i]) | np.int64(data[i + 1]) << 8


@inner
def _little32(data, i):
    """Return 4 bytes, the least significant first, as a number without sign."""
    return _little16(data, i) | _little16(data, i + 2) << 16


@inner
def _signed32(data, i):
    value = _little32(data, i)
    return value - (_ONE << 32) if value >> 31 else value


@lean_kernel
def atis40(data, state, counts, out, room):
    """Decode events of 40 bits. ``state``: error, what overflows have added to the time. Counts nothing."""
    n, added, i, end = np.uint64(0), state[1], np.uint64(0), np.uint64(len(data))
    while i + np.uint64(5) <= end and n < np.uint64(room):
        event = load(data, i)
        row = event >> 8 & 255
        if row == 240:
            added += 8192
        else:
            time = (event & 0x7F0000) | event >> 16 & 0xFF00 | event >> 32 & 0xFF
            put(out, n, added + time, event & 255, row, event >> 23 & 1)
            n += np.uint64(1)
        i += np.uint64(5)
    state[1] = added
    return np.int64(i), np.int64(n)


@lean_kernel
def atis40_times(data):
    """Return how many events of 40 bits have a time, how often it runs backward, and whether it ever runs forward."""
    n, back, forward, added, last, i = np.int64(0), np.int64(0), False, np.int64(0), np.int64(0), np.uint64(0)
    while i + np.uint64(5) <= np.uint64(len(data)):
        if data[i + np.uint64(1)] == 240:
            added += 8192
        else:
            time = np.int64(data[i + np.uint64(2)] & 127) << 16 | np.int64(data[i + np.uint64(3)]) << 8
            time += added + np.int64(data[i + np.uint64(4)])
            if n:
                back += time < last
                forward |= time > last
            n, last = n + 1, time
        i += np.uint64(5)
    return n, back, forward


@lean_kernel
def atis40_is_within(data, width, height):
    """Tell whether all events of 40 bits lie within a sensor; the row of one that says that times overflow is none."""
    beyond, i = np.int64(0), np.uint64(0)
    while i + np.uint64(5) <= np.uint64(len(data)):
        row = np.int64(data[i + np.uint64(1)])
        beyond |= width - 1 - np.int64(data[i]) | height - 1 - (np.int64(0) if row == 240 else row)
        i += np.uint64(5)
    return beyond >= 0


@lean_kernel
def aedat2(data, state, counts, out, room):
    """Decode AEDAT 1.0 and 2.0. ``state``: error, last time, whether addresses are a DAVIS's, their bytes (2 or 4).

    Counts: addresses of no pixel, special events or triggers, words of frames and inertial measurements.
    """
    i, n, time, davis = np.uint64(0), np.uint64(0), state[1], state[2]
    bits, size = np.int64(8) * state[3], np.uint64(state[3] + 4)
    while i + size <= np.uint64(len(data)) and n < np.uint64(room):
        event = load(data, i)
        word, time = _big32(event) >> (32 - bits), _later(time, _big32(event >> bits), _ONE << 32)
        i += size
        if davis:
            if word >> 31:
                counts[2] += 1
                continue
            if word >> 10 & 1:
                counts[1] += 1
                continue
            put(out, n, time, word >> 12 & 1023, word >> 22 & 511, word >> 11 & 1)
        else:
            if word >> 15:
                counts[1 if word >> 16 == 0 else 0] += 1
                continue
            put(out, n, time, word >> 1 & 127, word >> 8 & 127, word & 1)
        n += np.uint64(1)
    state[1] = time
    return np.int64(i), np.int64(n)


@inner
def _packet(data, i, state, counts):
    """Read a packet's header of 28 bytes into the state; return whether it is one."""
    kind, size = _little16(data, i), _signed32(data, i + 4)
    overflow, capacity, number = _signed32(data, i + 12), _signed32(data, i + 16), _signed32(data, i + 20)
    if kind >> 15 or size < 4 or overflow < 0 or not 0 <= number <= capacity:
        state[0] = 1
    elif kind != 1:
        state[3] = capacity * size
        counts[1 + min(kind, 4)] += number
    elif size != 8:
        state[0] = 2
    else:
        state[1], state[2], state[4] = overflow << 31, number, (capacity - number) * 8
    return state[0] == 0


@lean_kernel
def aedat3(data, state, counts, out, room):
    """Decode AEDAT 3.1.

    ``state``: error, what is added to times, events left of this packet, bytes to pass over now, bytes to pass over
    after the events. Counts: events marked as invalid, special events, nothing, frames, inertial measurements, others.
    """
    i, n = np.int64(0), np.int64(0)
    while True:
        if state[3]:
            step = min(state[3], len(data) - i)
            i += step
            state[3] -= step
            if state[3]:
                break
        elif state[2]:
            if i + 8 > len(data) or n == room:
                break
            word = _little32(data, i)
            if word & 1:
                time = state[1] | _little32(data, i + 4) & 0x7FFFFFFF
                put(out, n, time, word >> 17, word >> 2 & 32767, word >> 1 & 1)
                n += 1
            else:
                counts[0] += 1
            i += 8
            state[2] -= 1
        elif state[4]:
            state[3], state[4] = state[4], 0
        elif i + 28 > len(data) or not _packet(data, i, state, counts):
            break
        else:
            i += 28
    return i, n


@lean_kernel
def event_stream(data, state, counts, out, room):
    """Decode ``.es``.

    ``state``: error, time, kind (1 DVS, 2 ATIS, 4 colour). Counts: exposure measurements.
    """
    i, n, time, kind = np.int64(0), np.int64(0), state[1], state[2]
    size = 8 if kind == 4 else 5
    while i < len(data) and n < room:
        first = np.int64(data[i])
        if kind == 2 and first >= 252:
            time += 63 * (first & 3)
            i += 1
        elif kind != 2 and first >= 254:
            time += 0 if first == 254 else 127 if kind == 1 else 254
            i += 1
        elif i + size > len(data):
            break
        else:
            time += first >> 1 if kind == 1 else first >> 2 if kind == 2 else first
            polarity = first & 1 if kind == 1 else first >> 1 & 1 if kind == 2 else _ONE
            put(out, n, time, _little16(data, i + 1), _little16(data, i + 3), polarity)
            exposure = first & 1 if kind == 2 else np.int64(0)
            counts[0] += exposure
            n += 1 - exposure
            i += size
    state[1] = time
    return i, n


@inner
def _checked(data, at, width):
    """Return 2 or 4 bytes as a number without sign, or what leads outside of any data where they are not there."""
    if at < 0 or at + width > len(data):
        return _OUTSIDE
    return _little16(data, at) if width == 2 else _little32(data, at)


@lean_kernel
def aedat4_vector(data):
    """Return where the events of a packet begin and how many it says they are.

    The former is -1 where there are none, or where an address leads outside of the data: ``_flatbuffer`` tells which.
    """
    nothing = np.int64(-1), np.int64(0)
    if _checked(data, np.int64(8), 4) != _EVTS:
        return nothing
    table = 4 + _checked(data, np.int64(4), 4)
    if table + 4 > len(data):
        return nothing
    fields = table - _signed32(data, table)
    size, offset = _checked(data, fields, 2), _checked(data, fields + 4, 2)
    if not 6 <= size < _OUTSIDE or offset == 0:
        return nothing
    begin = table + offset + _checked(data, table + offset, 4)
    count = _checked(data, begin, 4)
    if count >= _OUTSIDE:
        return nothing
    return begin + 4, count


@lean_kernel
def aedat4_events(data, begin, end, out, n, room):
    """Put the events from ``begin`` to ``end`` behind the ``n`` that are there, until they are ``room``.

    Return how many are there, and where the first is that had no room.
    """
    i, k, last = np.uint64(begin), np.uint64(n), np.uint64(min(end, len(data)))
    while i + np.uint64(16) <= last and k < np.uint64(room):
        rest = load(data, i + np.uint64(8))
        put(out, k, load(data, i), rest & 0xFFFF, rest >> 16 & 0xFFFF, np.int64((rest >> 32 & 255) != 0))
        i += np.uint64(16)
        k += np.uint64(1)
    return np.int64(k), np.int64(i)
