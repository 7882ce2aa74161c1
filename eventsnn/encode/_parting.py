"""Compiled way to deal sites out to few bins with vectors that compress, 32 sites at a time.

They go to four parts, by the upper two bits of their bins, and those of each part to four, by the lower two. A site
needs no more than 14 bits, so that these two bits go with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from eventsnn.encode._gather import LANES, compresses
from eventsnn.encode._vectors import splatted
from eventsnn.jit import inner

_ROW = ir.VectorType(ir.IntType(16), LANES)
_MOST_BINS, _MOST_SITES = 16, 2**14


def _emit_part(first):
    """Return the code that writes, of ``n`` values, those of one part to ``target``, and returns where they end.

    In the first round ``source`` holds bins and ``sites`` their sites, and bins and sites are put into one word. In the
    second round ``source`` holds such words, of which only sites are left. All arguments are addresses but ``n`` and
    ``part``.
    """

    def emit(typing_context, source, sites, n, part, target):
        def generate(context, builder, signature, args):
            source, sites, n, part, target = args
            narrow, number = ir.IntType(16), n.type

            def splat(value):
                return splatted(builder, builder.trunc(value, narrow), LANES)

            def constant(value):
                return ir.Constant(_ROW, [value] * LANES)

            def load(base, at):
                place = builder.add(base, builder.shl(at, number(1)))
                return builder.load(builder.inttoptr(place, _ROW.as_pointer()), align=2)

            wanted = splat(builder.shl(part, number(2 if first else 14)))
            kind = ir.FunctionType(_ROW, [_ROW, ir.VectorType(ir.IntType(1), LANES), _ROW])
            compress = cgutils.get_or_insert_function(
                builder.module, kind, f"llvm.experimental.vector.compress.v{LANES}i16"
            )
            end = cgutils.alloca_once_value(builder, target)
            with cgutils.for_range_slice(builder, number(0), n, number(LANES)) as (at, _):
                words = load(source, at)
                keys = builder.and_(words, constant(0xFFFC if first else 0xC000))
                words = (
                    builder.or_(builder.shl(words, constant(14)), load(sites, at))
                    if first
                    else builder.and_(words, constant(0x3FFF))
                )
                within = builder.icmp_unsigned("<", ir.Constant(_ROW, list(range(LANES))), _left(builder, splat, n, at))
                chosen = builder.and_(builder.icmp_unsigned("==", keys, wanted), within)
                place = builder.load(end)
                found = builder.call(compress, [words, chosen, ir.Constant(_ROW, ir.Undefined)])
                builder.store(found, builder.inttoptr(place, _ROW.as_pointer()), align=2)
                count = builder.zext(builder.ctpop(builder.bitcast(chosen, ir.IntType(LANES))), number)
                builder.store(builder.add(place, builder.shl(count, number(1))), end)
            return builder.load(end)

        return types.intp(*[types.intp] * 5), generate

    return emit


def _left(builder, splat, n, at):
    left = builder.sub(n, at)
    most = left.type(LANES)
    return splat(builder.select(builder.icmp_signed("<", left, most), left, most))


_first_part: Any = intrinsic(_emit_part(True))
_second_part: Any = intrinsic(_emit_part(False))


@inner
def parts_well(n_sites, bins):
    """Return whether :func:`part_out` does on this machine."""
    return compresses() and n_sites <= _MOST_SITES and bins <= _MOST_BINS


@inner
def part_out(times, sites, n, scratch, dealt):
    """Write ``n`` sites to the address ``dealt`` in the order of their times, otherwise as they are; all are uint16.

    Of times above the most bins none is written. ``scratch`` is uint16, and int64 of at least 5; all but ``sites`` have
    room for 32 more.
    """
    words, stops = scratch
    stops[0], end = np.int64(words.ctypes.data), dealt
    # All of them first: what has just been written, and not at one blow, is slow to be read.
    for upper in range(4):
        bins, of = np.int64(times.ctypes.data), np.int64(sites.ctypes.data)
        stops[upper + 1] = _first_part(bins, of, n, upper, stops[upper])
    for upper in range(4):
        size = (stops[upper + 1] - stops[upper]) >> 1
        for lower in range(4):
            end = _second_part(stops[upper], end, size, lower, end)
