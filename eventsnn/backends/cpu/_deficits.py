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
_BYTES = ir.VectorType(ir.IntType(8), WIDE)
_SHORTS = ir.VectorType(ir.IntType(16), WIDE)
_SUMS = ir.VectorType(ir.IntType(32), WIDE)
_I64 = ir.IntType(64)


@intrinsic
def add_deficits(typingctx, table, base, rows, begin, end, sums, at):
    """Add the deficits of at most STRIDE rows ``rows[begin:end]`` to ``sums[at:][:WIDE]``.

    ``table[base + row * WIDE:][:WIDE]`` is a row of unsigned bytes, ``sums`` are int32.
    """
    i64 = types.int64
    signature = types.void(table, i64, rows, i64, i64, sums, i64)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bytes_, index, total = (context.make_array(sig.args[i])(context, builder, args[i]).data for i in (0, 2, 5))
        slot = cgutils.alloca_once_value(builder, ir.Constant(_SHORTS, [0] * WIDE))
        with cgutils.for_range_slice(builder, args[3], args[4], ir.Constant(_I64, 1)) as (k, _):
            row = builder.sext(builder.load(builder.gep(index, [k])), _I64)
            offset = builder.add(args[1], builder.mul(row, ir.Constant(_I64, WIDE)))
            line = builder.bitcast(builder.gep(bytes_, [offset]), _BYTES.as_pointer())
            builder.store(builder.add(builder.load(slot), builder.zext(builder.load(line, align=1), _SHORTS)), slot)
        place = builder.bitcast(builder.gep(total, [args[6]]), _SUMS.as_pointer())
        new = builder.add(builder.load(place, align=4), builder.zext(builder.load(slot), _SUMS))
        builder.store(new, place, align=4)
        return context.get_dummy_value()

    return signature, codegen
