"""The innermost loop, written in LLVM vectors so that the accumulators stay in registers.

Numba's own loops either scalarise (constant length) or keep the accumulators in memory (run-time length).
Vectors of :data:`LANES` maps are lowered to whatever the machine has; additions of one map stay in order.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 32  #: maps per block: two 512-bit registers, and a block of weights that fits the first-level cache
_WIDTH = 16
_VECTOR = ir.VectorType(ir.FloatType(), _WIDTH)
_PARTS = LANES // _WIDTH


def _pointer(builder, array, offset):
    """Return a pointer to vectors that starts ``offset`` floats into ``array``."""
    return builder.bitcast(builder.gep(array.data, [offset]), _VECTOR.as_pointer())


def _load(builder, pointer, part):
    address = builder.gep(pointer, [ir.Constant(ir.IntType(64), part)])
    return builder.load(address, align=4)


def _mask(builder, vectors, limits):
    """Return an int64 whose bit ``i`` says whether lane ``i`` is above its limit."""
    wide = ir.IntType(64)
    mask = ir.Constant(wide, 0)
    for part, (vector, limit) in enumerate(zip(vectors, limits, strict=True)):
        above = builder.fcmp_ordered(">", vector, limit)
        bits = builder.zext(builder.bitcast(above, ir.IntType(_WIDTH)), wide)
        mask = builder.or_(mask, builder.shl(bits, ir.Constant(wide, part * _WIDTH)))
    return mask


@intrinsic
def advance(typingctx, weights, base, rows, begin, end, potential, at, limit, limit_at):
    """Add the weights of ``rows[begin:end]`` to LANES potentials, in order; return who is above the limit.

    ``weights[base + row * LANES:][:LANES]`` is a row; ``potential[at:][:LANES]`` is read and written;
    bit ``i`` of the result says ``potential[at + i] > limit[limit_at + i]``. Offsets count floats.
    """
    signature = types.int64(
        weights, types.int64, rows, types.int64, types.int64, potential, types.int64, limit, types.int64
    )

    def codegen(context, builder, sig, args):
        arrays = {i: context.make_array(sig.args[i])(context, builder, args[i]) for i in (0, 2, 5, 7)}
        state = _pointer(builder, arrays[5], args[6])
        slots = [cgutils.alloca_once(builder, _VECTOR) for _ in range(_PARTS)]
        for part, slot in enumerate(slots):
            builder.store(_load(builder, state, part), slot)
        with cgutils.for_range_slice(builder, args[3], args[4], ir.Constant(ir.IntType(64), 1)) as (index, _):
            row = builder.sext(builder.load(builder.gep(arrays[2].data, [index])), ir.IntType(64))
            offset = builder.add(args[1], builder.mul(row, ir.Constant(ir.IntType(64), LANES)))
            line = _pointer(builder, arrays[0], offset)
            for part, slot in enumerate(slots):
                builder.store(builder.fadd(builder.load(slot), _load(builder, line, part)), slot)
        vectors = [builder.load(slot) for slot in slots]
        for part, vector in enumerate(vectors):
            address = builder.gep(state, [ir.Constant(ir.IntType(64), part)])
            builder.store(vector, address, align=4)
        edge = _pointer(builder, arrays[7], args[8])
        limits = [_load(builder, edge, part) for part in range(_PARTS)]
        return _mask(builder, vectors, limits)

    return signature, codegen


@intrinsic
def lowest_bit(typingctx, mask):
    """Return the index of the lowest set bit of a mask that is not 0."""

    def codegen(context, builder, sig, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), codegen
