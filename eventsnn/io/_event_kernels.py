"""Compiled: where decoders put events, and whether those that lie in one array lie within the sensor."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from eventsnn.jit import inner, lean_kernel

_WORD = ir.IntType(64)
_BYTES = 13  # of an event of EVENT_DTYPE: 8 of its time, then column, row and polarity


def _emit_put(typing_context, out, n, t, x, y, p):
    """Write event ``n`` to ``out``: columns t, x, y and p, or the bytes of one array of ``EVENT_DTYPE``.

    There, each half is stored as 8 bytes: 3 beyond the event are written too, where the next one will be.
    """

    def to_columns(context, builder, signature, args):
        for place, value in enumerate(args[2:]):
            array = context.make_array(signature.args[0][place])(
                context, builder, builder.extract_value(args[0], place)
            )
            width = array.data.type.pointee
            value = builder.trunc(value, width) if width.width < 64 else value
            builder.store(value, builder.gep(array.data, [args[1]]))
        return context.get_dummy_value()

    def to_rows(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        event = builder.gep(array.data, [builder.mul(args[1], _WORD(_BYTES))])
        where = builder.or_(builder.shl(args[4], _WORD(16)), builder.shl(args[5], _WORD(32)))
        for place, value in ((0, args[2]), (8, builder.or_(args[3], where))):
            target = builder.bitcast(builder.gep(event, [_WORD(place)]), _WORD.as_pointer())
            builder.store(value, target, align=1)
        return context.get_dummy_value()

    signature = types.void(out, types.uint64, *[types.int64] * 4)
    return signature, to_columns if isinstance(out, types.BaseTuple) else to_rows


def _emit_load(typing_context, data, place):
    """Return the 8 bytes at ``place``, wherever that is."""

    def load(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.load(builder.bitcast(builder.gep(array.data, [args[1]]), _WORD.as_pointer()), align=1)

    return types.int64(data, types.uint64), load


#: ``put(out, n, t, x, y, p)``: x and y must have 16 bits, p 8, and n must lie within
put: Any = intrinsic(_emit_put)
#: ``load(data, place)``: 8 bytes, which must be there
load: Any = intrinsic(_emit_load)


@inner
def _beyond(rows, n, width, height):
    """Return what has a sign if event ``n`` lies outside the sensor."""
    where = load(rows, n * np.uint64(_BYTES) + np.uint64(5)) >> 24
    return width - 1 - (where & 0xFFFF) | height - 1 - (where >> 16 & 0xFFFF)


@lean_kernel
def is_within(rows, width, height):
    """Tell whether all events of the bytes of an array lie within the sensor."""
    beyond, i, n = np.int64(0), np.uint64(0), np.uint64(len(rows) // _BYTES)
    while i + np.uint64(4) <= n:  # four at a time take two thirds of the time
        beyond |= _beyond(rows, i, width, height) | _beyond(rows, i + np.uint64(1), width, height)
        beyond |= _beyond(rows, i + np.uint64(2), width, height) | _beyond(rows, i + np.uint64(3), width, height)
        i += np.uint64(4)
    while i < n:
        beyond |= _beyond(rows, i, width, height)
        i += np.uint64(1)
    return beyond >= 0


@inner
def _end(rows, n):
    """Return the last 8 bytes of event ``n``: 3 of its time, column, row, polarity."""
    return load(rows, n * np.uint64(_BYTES) + np.uint64(5))


@lean_kernel
def is_sound(rows):
    """Tell whether the bytes of an array could be events: polarities of 0 and 1, times from -2**62 to before 2**62.

    Such times are those whose two highest bits are equal. Memory is read once, since nothing else takes time here.
    """
    unequal, either, i, n = np.int64(0), np.int64(0), np.uint64(0), np.uint64(len(rows) // _BYTES)
    while i + np.uint64(4) <= n:
        a, b = _end(rows, i), _end(rows, i + np.uint64(1))
        c, d = _end(rows, i + np.uint64(2)), _end(rows, i + np.uint64(3))
        unequal |= a ^ a << 1 | b ^ b << 1 | c ^ c << 1 | d ^ d << 1
        either |= a | b | c | d
        i += np.uint64(4)
    while i < n:
        a = _end(rows, i)
        unequal |= a ^ a << 1
        either |= a
        i += np.uint64(1)
    return unequal >> 23 & 1 == 0 and either >> 57 == 0


@lean_kernel
def put_fields(data, width, fields, out, n):
    """Put ``n`` rows of ``width`` bytes into ``out``, and tell whether all could be events.

    ``fields`` has a row for each of t, x, y and p: the place of an integer in the row, a mask of its bits, and what
    else is to be known. Of t that is the bit of its sign, or 0 if it has none or 64 bits; of x and y the bits that must
    be 0; of p 1 if it may be -1, else 0. Behind the last row there are 8 bytes more. Times must be those of
    :func:`is_sound`.
    """
    t0, x0, y0, p0 = np.uint64(fields[0, 0]), np.uint64(fields[1, 0]), np.uint64(fields[2, 0]), np.uint64(fields[3, 0])
    t1, x1, y1, p1 = fields[0, 1], fields[1, 1], fields[2, 1], fields[3, 1]
    sign, x2, y2, least = fields[0, 2], fields[1, 2], fields[2, 2], fields[3, 2]
    signs, bits, row, step = np.int64(0), np.int64(0), np.uint64(0), np.uint64(width)
    for i in range(np.uint64(n)):
        t = (load(data, row + t0) & t1 ^ sign) - sign
        x, y = load(data, row + x0), load(data, row + y0)
        p = load(data, row + p0) + least & p1
        signs |= t ^ t << 1 | p | 1 + least - p
        bits |= x & x2 | y & y2
        put(out, i, t, x & x1, y & y1, np.int64(p > least))
        row += step
    return signs >= 0 and bits == 0
