"""Compiled decoders of what lies in the chunks of HDF5 files: nothing is read or written outside of an array."""

from __future__ import annotations

from typing import Any

import numpy as np

from eventsnn.jit import inner, lean_kernel

_LATEST = np.int64(1 << 62)  # microseconds; what comes later is damage
_CUT, _LONG, _LATE = np.int64(-1), np.int64(-2), np.int64(-3)

#: What the negative results of :func:`ecf` mean.
ECF_ERRORS = {-1: "ends within its events", -2: "repeats events beyond their number", -3: "has times that cannot be"}


@inner
def _u16(data, at):
    return np.int64(data[at]) | np.int64(data[at + 1]) << 8


@inner
def _u32(data, at):
    return _u16(data, at) | _u16(data, at + 2) << 16


@inner
def _times(data, n, t):
    """Decode the times and return where the coordinates begin, or what is wrong."""
    size, pos, i = len(data), np.int64(12), np.int64(0)
    now = _u32(data, 4) | _u32(data, 8) << 32
    if now < 0 or now > _LATEST:
        return _LATE
    while i < n:
        if pos >= size:
            return _CUT
        high, count = np.int64(data[pos] >> 4), np.int64(data[pos] & 15)
        pos += 1
        if high == 15:  # a step of more bits, 4 in each byte
            step, shift = count, np.int64(4)
            while pos < size and data[pos] >> 4 == 15:
                if shift > 56:
                    return _LATE
                step |= np.int64(data[pos] & 15) << shift
                shift += 4
                pos += 1
            now += step
            if now > _LATEST:
                return _LATE
            continue
        now += high
        if count == 15:
            if pos + 2 > size:
                return _CUT
            count = _u16(data, pos)
            pos += 2
        if i + count > n:
            return _LONG
        for k in range(i, i + count):
            t[k] = now
        i += count
    return pos


@inner
def _rows(data, pos, n, y):
    """Decode runs of rows and return where the columns begin, or what is wrong."""
    size, i = len(data), np.int64(0)
    while i < n:
        if pos + 2 > size:
            return _CUT
        word = _u16(data, pos)
        pos += 2
        count = word & 31
        if count == 31:
            if pos + 2 > size:
                return _CUT
            count = _u16(data, pos)
            pos += 2
        if i + count > n:
            return _LONG
        for k in range(i, i + count):
            y[k] = word >> 5
        i += count
    return pos


@inner
def _columns(data, pos, n, x):
    """Decode columns with up to five neighbours and return where the polarities begin, or what is wrong."""
    size, i = len(data), np.int64(0)
    while i < n:
        if pos + 2 > size:
            return _CUT
        word = _u16(data, pos)
        pos += 2
        base = word >> 5
        x[i] = base
        i += 1
        for j in range(5):
            if word >> (4 - j) & 1:
                if i >= n:
                    return _LONG
                x[i] = base + 1 + j
                i += 1
    return pos


@inner
def _polarities(data, pos, n, p):
    size, i = len(data), np.int64(0)
    while i < n:
        if pos >= size:
            return _CUT
        value, count = data[pos] >> 7, np.int64(data[pos] & 127)
        pos += 1
        if count == 127:
            if pos + 2 > size:
                return _CUT
            count = _u16(data, pos)
            pos += 2
        if i + count > n:
            return _LONG
        for k in range(i, i + count):
            p[k] = value
        i += count
    return pos


@inner
def _packed(data, pos, n, x, y, p):
    """Decode rows, columns and polarities of four events in 12 bytes."""
    if pos + (n + 3) // 4 * 12 > len(data):
        return _CUT
    for i in range(0, n, 4):
        w0, w1, w2 = _u32(data, pos), _u32(data, pos + 4), _u32(data, pos + 8)
        pos += 12
        for k in range(min(n - i, 4)):
            if k == 0:
                word = w0 >> 8
            elif k == 1:
                word = (w0 & 0xFF) | w1 >> 16 << 8
            elif k == 2:
                word = (w1 & 0xFFFF) | w2 >> 24 << 16
            else:
                word = w2 & 0xFFFFFF
            y[i + k], x[i + k], p[i + k] = word >> 12 & 0x7FF, word >> 1 & 0x7FF, word & 1
    return pos


@inner
def _packed_columns(data, pos, n, x, p):
    """Decode columns and polarities of four events in 6 bytes."""
    if pos + (n + 3) // 4 * 6 > len(data):
        return _CUT
    for i in range(0, n, 4):
        w0, w1, w2 = _u16(data, pos), _u16(data, pos + 2), _u16(data, pos + 4)
        pos += 6
        for k in range(min(n - i, 4)):
            if k == 0:
                word = w0 >> 4
            elif k == 1:
                word = (w0 & 15) | w1 >> 8 << 4
            elif k == 2:
                word = (w1 & 255) | w2 >> 12 << 8
            else:
                word = w2 & 4095
            x[i + k], p[i + k] = word >> 1, word & 1
    return pos


@lean_kernel
def ecf(data: Any, n: Any, t: Any, x: Any, y: Any, p: Any) -> Any:
    """Decode ``n`` events of a chunk of at least 12 bytes, whose header the caller has read, into columns with room.

    Returns where it stopped, or one of ``ECF_ERRORS``. An event's time never is before that of the one before it.
    """
    pos = _times(data, n, t)
    if pos < 0:
        return pos
    if data[0] & 2:
        return _packed(data, pos, n, x, y, p)
    pos = _rows(data, pos, n, y)
    if pos < 0:
        return pos
    if data[0] & 1:
        return _packed_columns(data, pos, n, x, p)
    pos = _columns(data, pos, n, x)
    return pos if pos < 0 else _polarities(data, pos, n, p)


@lean_kernel
def lzf(data: Any, out: Any) -> Any:
    """Decompress LibLZF's format; returns how many bytes, or -1 if the data are cut or need more room."""
    size, room, pos, n = len(data), len(out), np.int64(0), np.int64(0)
    while pos < size:
        control = np.int64(data[pos])
        pos += 1
        if control < 32:  # so many bytes, and one more, as they are
            if pos + control + 1 > size or n + control + 1 > room:
                return np.int64(-1)
            for _ in range(control + 1):
                out[n] = data[pos]
                n += 1
                pos += 1
            continue
        length = control >> 5  # repeat what was written before
        if pos + 1 + (length == 7) > size:
            return np.int64(-1)
        if length == 7:
            length += np.int64(data[pos])
            pos += 1
        start = n - ((control & 31) << 8) - np.int64(data[pos]) - 1
        pos += 1
        if start < 0 or n + length + 2 > room:
            return np.int64(-1)
        for k in range(start, start + length + 2):
            out[n] = out[k]
            n += 1
    return n
