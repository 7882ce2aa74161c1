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


@lean_kernel
def is_sound(rows, latest):
    """Tell whether the bytes of an array could be events: polarities of 0 and 1, times nearer to 0 than ``latest``."""
    wrong, n = np.int64(0), np.uint64(len(rows) // _BYTES)
    for i in range(n):
        place = np.uint64(i) * np.uint64(_BYTES)
        t, p = load(rows, place), load(rows, place + np.uint64(5)) >> 56 & 255
        wrong |= t + (latest - 1) | latest - 1 - t | 1 - p
    return wrong >= 0
