"""The compiled decoder of events in text; see :class:`eventsnn.io._records.RecordDecoder` for what it takes."""

from __future__ import annotations

import numpy as np

from eventsnn.io._event_kernels import put
from eventsnn.jit import inner, lean_kernel

LONGEST = 1 << 12  # bytes of a line

_NEWLINE, _TAB, _RETURN, _SPACE, _COMMA, _SEMICOLON = 10, 9, 13, 32, 44, 59
_PLUS, _MINUS, _POINT, _HASH, _PERCENT = 43, 45, 46, 35, 37
_DIGITS = 17
_FULL = np.int64(10**17)  # from here on digits are left out: they would not fit
_LATEST = np.int64(1 << 62)
_NONE = np.int64(-(1 << 63))  # of a number that is not whole, or too large


@inner
def _is_separator(c):
    return c in (_SPACE, _COMMA, _TAB, _SEMICOLON, _RETURN)


@inner
def _scaled(digits, exponent, is_rounded):
    """Return ``digits * 10**exponent``, rounded or none if it is not whole; 2**62 where it is too large."""
    if exponent == 0:
        return digits
    while exponent > 0 and digits != 0:
        if digits > _LATEST // 10 or digits < -_LATEST // 10:
            return _LATEST
        digits *= 10
        exponent -= 1
    remainder, unit = np.int64(0), np.int64(1)
    while exponent < 0 and unit < _FULL * 10:
        unit *= 10
        exponent += 1
    whole = digits // unit
    remainder = digits - whole * unit
    if exponent < 0:  # smaller than any unit
        return np.int64(0) if is_rounded or digits == 0 else _NONE
    if is_rounded:
        return whole + (remainder >= unit - remainder and unit > 1)
    return whole if remainder == 0 else _NONE


@inner
def _exponent(data, j):
    """Return the number at ``j`` and where it ends, which is ``j`` if there is none."""
    negative, value = False, np.int64(0)
    if j < len(data) and (data[j] in (_MINUS, _PLUS)):
        negative = data[j] == _MINUS
        j += 1
    while j < len(data) and 48 <= data[j] <= 57:
        value = min(value * 10 + data[j] - 48, np.int64(9999))
        j += 1
    return -value if negative else value, j


@inner
def _number(data, j):
    """Return digits, exponent and the end of the number at ``j``; the end is -1 if it is none."""
    digits, exponent, seen = np.int64(0), np.int64(0), False
    negative, after_point = False, False
    if data[j] in (_MINUS, _PLUS):
        negative = data[j] == _MINUS
        j += 1
    while j < len(data):
        c = np.int64(data[j])
        if 48 <= c <= 57:
            seen = True
            if digits < _FULL:
                digits = digits * 10 + c - 48
                exponent -= after_point
            else:
                exponent += not after_point
        elif c == _POINT and not after_point:
            after_point = True
        else:
            break
        j += 1
    if seen and j < len(data) and data[j] | 32 == 101:  # e
        more, j = _exponent(data, j + 1)
        exponent += more
    if not seen:
        return digits, exponent, np.int64(-1)
    return -digits if negative else digits, exponent, np.int64(j)


@inner
def _word(data, j):
    """Return 1 or 0 for ``true`` or ``false`` at ``j``, and its end, which is -1 if it is another word."""
    first, end = data[j] | 32, np.int64(j)
    while end < len(data) and 97 <= data[end] | 32 <= 122:
        end += 1
    length = 4 if first == 116 else 5 if first == 102 else 0
    return np.int64(first == 116), end if end - j == length else np.int64(-1)


@inner
def _end_of_line(data, j):
    while j < len(data) and data[j] != _NEWLINE:
        j += 1
    return j


@inner
def _line(data, j, state):
    """Read the line at ``j``; return where it ends, how many numbers it has (-1: others too), and t, x, y and p."""
    column, time, place_x, place_y, polarity = np.int64(0), np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    while j < len(data) and data[j] != _NEWLINE:
        c = data[j]
        if _is_separator(c):
            j += 1
            continue
        if column == 0 and c in (_HASH, _PERCENT):
            return _end_of_line(data, j), column, time, place_x, place_y, polarity
        if 97 <= c | 32 <= 122:
            digits, after = _word(data, j)
            exponent = np.int64(0)
        else:
            digits, exponent, after = _number(data, j)
        if after < 0 or (after < len(data) and not _is_separator(data[after]) and data[after] != _NEWLINE):
            return _end_of_line(data, j), np.int64(-1), time, place_x, place_y, polarity
        j = after
        if column == state[1]:
            time = _scaled(digits, exponent + state[6], True)
        elif column == state[2]:
            place_x = _scaled(digits, exponent, False)
        elif column == state[3]:
            place_y = _scaled(digits, exponent, False)
        elif column == state[4]:
            polarity = _scaled(digits, exponent, False)
        column += 1
    return j, column, time, place_x, place_y, polarity


@inner
def _plain_line(data, j, state):
    """Read a line of whole numbers with one separator after each; as :func:`_line`, with an end of -1 for any other."""
    time, place_x, place_y, polarity = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    end, column, j = np.uint64(len(data)), np.int64(0), np.uint64(j)
    while j < end:
        negative = data[j] == _MINUS
        j += np.uint64(negative)
        number, begin = np.int64(0), j
        while j < end and np.uint8(data[j] - np.uint8(48)) < np.uint8(10):
            number = number * 10 + (np.int64(data[j]) - 48)
            j += np.uint64(1)
        if j in (end, begin) or j - begin > np.uint64(_DIGITS):
            break
        number = -number if negative else number
        if column == state[1]:
            time = number
        elif column == state[2]:
            place_x = number
        elif column == state[3]:
            place_y = number
        elif column == state[4]:
            polarity = number
        column += 1
        c = data[j]
        if c == _NEWLINE:
            return np.int64(j), column, _scaled(time, state[6], True), place_x, place_y, polarity
        if not _is_separator(c):
            break
        j += np.uint64(1)
    return np.int64(-1), column, time, place_x, place_y, polarity


@lean_kernel
def text(data, state, counts, out, room):
    """Decode lines of numbers.

    ``state``: error (1 not so many numbers, 2 a coordinate that is not whole, 3 a polarity that is none, 4 too long),
    the columns of t, x, y and p, how many there are, and the power of ten that makes times microseconds. Counts:
    outside, without a time.
    """
    i, n = np.int64(0), np.int64(0)
    while n < room and i < len(data):
        end, width, time, place_x, place_y, polarity = _plain_line(data, i, state)
        if end < 0:
            end, width, time, place_x, place_y, polarity = _line(data, i, state)
        if end >= len(data):  # the rest of the line is still to come
            state[0] = 4 if end - i >= LONGEST else 0
            break
        if width not in (0, state[5]):
            state[0] = 1
        elif _NONE in (place_x, place_y):
            state[0] = 2
        elif not -1 <= polarity <= 1:
            state[0] = 3
        if state[0]:
            break
        i = end + 1
        if width == 0:
            continue
        if abs(time) >= _LATEST:
            counts[1] += 1
        elif not (0 <= place_x < 65536 and 0 <= place_y < 65536):
            counts[0] += 1
        else:
            put(out, n, time, place_x, place_y, polarity > 0)
            n += 1
    return i, n
