"""Compiled way from sites of a grid to channel, row and column, 32 of them at a time."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from eventsnn.encode._vectors import splatted
from eventsnn.jit import inner

_LANES = 32
_NARROW, _WIDE = (ir.VectorType(ir.IntType(bits), _LANES) for bits in (16, 32))


@lru_cache(maxsize=16)
def divisors(shape: tuple[int, int, int]) -> tuple[int, ...]:
    """Return the sites of a map, and of a row, of a grid (C, H, W), each with a factor and a shift that divide by it.

    They do so for all sites of the grid. A factor is 0 where none of 16 bits does, or sites need more.
    """
    channels, height, width = shape
    plane = height * width
    by_plane, by_width = _reciprocal(plane, channels * plane), _reciprocal(width, plane)
    return plane, *(by_plane if by_width[0] else (0, 0)), width, *by_width


def _reciprocal(divisor: int, end: int) -> tuple[int, int]:
    """Return a factor and a shift: ``number * factor >> 16 + shift`` is ``number // divisor`` below ``end``."""
    for shift in range(16 if end <= 2**16 else 0):
        unit = 2 ** (16 + shift)
        factor = -(-unit // divisor)
        if factor < 2**16 and (factor * divisor - unit) * end < unit:
            return factor, shift
    return 0, 0


def _emit_write(typing_context, sites, by, channel, y, x):
    """Write channel, y and x, uint16, of 32 sites, uint16; all arguments are addresses but ``by``, of ``divisors``."""

    def generate(context, builder, signature, args):
        sites, by, *columns = args
        numbers = [builder.trunc(number, ir.IntType(16)) for number in cgutils.unpack_tuple(builder, by, 6)]
        plane, by_plane, plane_shift, width, by_width, width_shift = (
            splatted(builder, number, _LANES) for number in numbers
        )

        def divided(values, factor, shift):
            product = builder.mul(builder.zext(values, _WIDE), builder.zext(factor, _WIDE))
            upper = builder.trunc(builder.lshr(product, ir.Constant(_WIDE, [16] * _LANES)), _NARROW)
            return builder.lshr(upper, shift)

        values = builder.load(builder.inttoptr(sites, _NARROW.as_pointer()), align=2)
        channel = divided(values, by_plane, plane_shift)
        rest = builder.sub(values, builder.mul(channel, plane))
        y = divided(rest, by_width, width_shift)
        for values, to in zip((channel, y, builder.sub(rest, builder.mul(y, width))), columns, strict=True):
            builder.store(values, builder.inttoptr(to, _NARROW.as_pointer()), align=2)
        return context.get_dummy_value()

    integer = types.intp
    return types.void(integer, types.UniTuple(integer, 6), integer, integer, integer), generate


_write: Any = intrinsic(_emit_write)


@inner
def write_places(sites, n, by, to):
    """Write channel, y and x of ``n`` sites, at least 32 and uint16, to three addresses of uint16; no factor is 0.

    ``sites`` is an address, too.
    """
    at = np.int64(0)
    while at < n:
        # The last ones together with some before them, so that nothing is written beyond.
        at = at if at + _LANES <= n else n - _LANES
        _write(sites + 2 * at, by, to[0] + 2 * at, to[1] + 2 * at, to[2] + 2 * at)
        at += _LANES
