"""Sums of small integers over lists of rows, in LLVM vectors: bounds on potentials at a quarter of their bytes.

Integers may be added in any order, so these loops need not follow the events' order; the potentials themselves do.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

WIDE = 64  #: maps per block of deficits: one register of bytes
LARGEST = 255  #: deficit that fits a byte
STRIDE = 256  #: rows whose deficits fit the 16 bits of a lane together
_HALF = WIDE // 2
_LANES = ir.VectorType(ir.IntType(16), _HALF)
_SUMS = ir.VectorType(ir.IntType(32), _HALF)
_I64 = ir.IntType(64)


def byte_of(f):
    """Return where in its block the deficit of map ``f`` lies: low bytes of the lanes first, then high bytes."""
    return f % _HALF * 2 + f % WIDE // _HALF


@intrinsic
def add_deficits(typingctx, table, base, rows, begin, end, sums, at):
    """Add the deficits of at most STRIDE rows ``rows[begin:end]`` to ``sums[at:][:WIDE]``, which are int32.

    ``table[base + row * WIDE:][:WIDE]`` is a row of unsigned bytes, two to a lane of 16 bits. Sums are taken of the
    high bytes, and of whole lanes modulo 2**16, which less 256 times the former are the sums of the low bytes.
    """
    i64 = types.int64
    signature = types.void(table, i64, rows, i64, i64, sums, i64)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data, index, total = (context.make_array(sig.args[i])(context, builder, args[i]).data for i in (0, 2, 5))
        zero, eight = ir.Constant(_LANES, [0] * _HALF), ir.Constant(_LANES, [8] * _HALF)
        both, high = cgutils.alloca_once_value(builder, zero), cgutils.alloca_once_value(builder, zero)
        with cgutils.for_range_slice(builder, args[3], args[4], ir.Constant(_I64, 1)) as (k, _):
            row = builder.sext(builder.load(builder.gep(index, [k])), _I64)
            offset = builder.add(args[1], builder.mul(row, ir.Constant(_I64, WIDE)))
            line = builder.load(builder.bitcast(builder.gep(data, [offset]), _LANES.as_pointer()), align=1)
            builder.store(builder.add(builder.load(both), line), both)
            builder.store(builder.add(builder.load(high), builder.lshr(line, eight)), high)
        upper = builder.load(high)
        lower = builder.sub(builder.load(both), builder.shl(upper, eight))
        place = builder.bitcast(builder.gep(total, [args[6]]), _SUMS.as_pointer())
        for part, found in enumerate((lower, upper)):
            half = builder.gep(place, [ir.Constant(_I64, part)])
            new = builder.add(builder.load(half, align=4), builder.zext(found, _SUMS))
            builder.store(new, half, align=4)
        return context.get_dummy_value()

    return signature, codegen
