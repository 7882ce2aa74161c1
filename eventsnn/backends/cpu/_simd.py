"""The innermost loops, written in LLVM vectors so that the accumulators stay in registers.

Numba's own loops either scalarise (constant length) or keep the accumulators in memory (run-time length).
Vectors of :data:`LANES` maps are lowered to whatever the machine has; additions of one map stay in order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 32  #: maps per block: two 512-bit registers, and a block of weights that fits the first-level cache
_WIDTH = 16
_VECTOR = ir.VectorType(ir.FloatType(), _WIDTH)
_PARTS = LANES // _WIDTH
_I64 = ir.IntType(64)
_I32 = ir.IntType(32)
_TIMES = ir.VectorType(_I32, _WIDTH)
_STRETCH = 16  # rows after which is asked whether all have fired
NEVER = int(np.iinfo(np.int32).max)  #: above all entries
_SILENT = ir.Constant(_TIMES, [NEVER] * _WIDTH)


def aligned(count: int) -> np.ndarray:
    """Return float32 zeros that begin at a cache line: a vector that straddles two costs two accesses."""
    room = np.zeros(count + 16, np.float32)
    first = -room.ctypes.data % 64 // 4
    return room[first : first + count]


class _Lanes:
    """LANES potentials in vector registers while code for one call is generated.

    ``arrays`` are (weights, base, rows, potential, at, limit, limit_at) as the intrinsics take them.
    """

    def __init__(self, context: Any, builder: Any, arrays: Any, values: Any, fresh: Any) -> None:
        self.builder = builder
        weights, rows, potential, limit = (
            context.make_array(arrays[i])(context, builder, values[i]) for i in (0, 2, 3, 5)
        )
        self.weights, self.base, self.rows = weights.data, values[1], rows.data
        self.state = self._vectors(potential.data, values[4])
        edge = self._vectors(limit.data, values[6])
        self.limits = [self._load(edge, part) for part in range(_PARTS)]
        self.slots = [cgutils.alloca_once(builder, _VECTOR) for _ in range(_PARTS)]
        zero = ir.Constant(_VECTOR, [0.0] * _WIDTH)
        for part, slot in enumerate(self.slots):
            builder.store(builder.select(fresh, zero, self._load(self.state, part)), slot)

    def _vectors(self, data: Any, offset: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(data, [offset]), _VECTOR.as_pointer())

    def _load(self, pointer: Any, part: int) -> Any:
        return self.builder.load(self.builder.gep(pointer, [ir.Constant(_I64, part)]), align=4)

    def add(self, index: Any) -> None:
        """Add the weights of ``rows[index]``."""
        builder = self.builder
        row = builder.sext(builder.load(builder.gep(self.rows, [index])), _I64)
        offset = builder.add(self.base, builder.mul(row, ir.Constant(_I64, LANES)))
        line = self._vectors(self.weights, offset)
        for part, slot in enumerate(self.slots):
            builder.store(builder.fadd(builder.load(slot), self._load(line, part)), slot)

    def above(self) -> Any:
        """Return an int64 whose bit ``i`` says whether lane ``i`` is above its limit."""
        pairs = zip(self.slots, self.limits, strict=True)
        return _mask(
            self.builder, [self.builder.fcmp_ordered(">", self.builder.load(slot), limit) for slot, limit in pairs]
        )

    def write_back(self) -> None:
        """Store the potentials."""
        for part, slot in enumerate(self.slots):
            address = self.builder.gep(self.state, [ir.Constant(_I64, part)])
            self.builder.store(self.builder.load(slot), address, align=4)


@intrinsic
def advance(typingctx, weights, base, rows, potential, at, limit, limit_at, fresh, begin, end):
    """Add the weights of ``rows[begin:end]`` to LANES potentials, in order; return who is above the limit.

    ``weights[base + row * LANES:][:LANES]`` is a row; ``potential[at:][:LANES]`` is read (``fresh``: taken as 0) and
    written; bit ``i`` of the result says ``potential[at + i] > limit[limit_at + i]``. Offsets count floats.
    """
    i64 = types.int64
    signature = i64(weights, i64, rows, potential, i64, limit, i64, types.boolean, i64, i64)

    def codegen(context, builder, sig, args):
        lanes = _Lanes(context, builder, sig.args, args, args[7])
        with cgutils.for_range_slice(builder, args[8], args[9], ir.Constant(_I64, 1)) as (index, _):
            lanes.add(index)
        lanes.write_back()
        return lanes.above()

    return signature, codegen


@intrinsic
def seek(typingctx, weights, base, rows, potential, at, limit, limit_at, fresh, begin, end, alive):
    """Like :func:`advance`, but stop after the first row that takes a lane of the mask ``alive`` above its limit.

    Returns the index after the last row added: ``end`` if nobody crossed before.
    """
    i64 = types.int64
    signature = i64(weights, i64, rows, potential, i64, limit, i64, types.boolean, i64, i64, i64)

    def codegen(context, builder, sig, args):
        lanes = _Lanes(context, builder, sig.args, args, args[7])
        index = cgutils.alloca_once_value(builder, args[8])
        head, body, done = (builder.append_basic_block(name) for name in ("seek.head", "seek.body", "seek.done"))
        builder.branch(head)
        builder.position_at_end(head)
        builder.cbranch(builder.icmp_signed("<", builder.load(index), args[9]), body, done)
        builder.position_at_end(body)
        lanes.add(builder.load(index))
        builder.store(builder.add(builder.load(index), ir.Constant(_I64, 1)), index)
        crossed = builder.and_(lanes.above(), args[10])
        builder.cbranch(builder.icmp_signed("!=", crossed, ir.Constant(_I64, 0)), done, head)
        builder.position_at_end(done)
        lanes.write_back()
        return builder.load(index)

    return signature, codegen


@intrinsic
def cross(typingctx, weights, base, entries, mask, limit, limit_at, begin, silent, end, first, at):
    """Write to ``first[at:][:LANES]`` with which entry LANES potentials exceed their limits, else :data:`NEVER`.

    For each of ``entries[begin:end]``, which grow, the weights of row ``entry & mask`` are added; none before
    ``entries[silent]`` takes anybody above. Expects weights that are not negative: who crosses stays above, so there
    is no branch to be predicted wrongly.
    """
    i64 = types.int64
    signature = types.void(weights, i64, entries, i64, limit, i64, i64, i64, i64, first, i64)

    def codegen(context, builder, sig, args):
        weights, entries, limit, first = (
            context.make_array(sig.args[i])(context, builder, args[i]).data for i in (0, 2, 4, 9)
        )
        limits = _load_lanes(builder, limit, args[5], _VECTOR)
        sums, times = _slots(builder, ir.Constant(_VECTOR, [0.0] * _WIDTH)), _slots(builder, _SILENT)

        def add(index: Any) -> None:
            # An atomic load is one by itself: else the splat would go by way of the register of the row.
            entry = builder.load_atomic(builder.gep(entries, [index]), ordering="monotonic", align=4)
            row = builder.and_(builder.zext(entry, _I64), args[3])
            offset = builder.add(args[1], builder.mul(row, ir.Constant(_I64, LANES)))
            for slot, weight in zip(sums, _load_lanes(builder, weights, offset, _VECTOR), strict=True):
                builder.store(builder.fadd(builder.load(slot), weight), slot)

        one, done = ir.Constant(_I64, 1), builder.append_basic_block("cross.done")
        with cgutils.for_range_slice(builder, args[6], args[7], one) as (index, _):
            add(index)
        able = [builder.fcmp_ordered("<", edge, ir.Constant(_VECTOR, [float("inf")] * _WIDTH)) for edge in limits]
        with cgutils.for_range_slice(builder, args[7], args[8], ir.Constant(_I64, _STRETCH)) as (start, _):
            stop = builder.add(start, ir.Constant(_I64, _STRETCH))
            stop = builder.select(builder.icmp_signed("<", stop, args[8]), stop, args[8])
            with cgutils.for_range_slice(builder, start, stop, one) as (index, _):
                now = _splat(builder, builder.load(builder.gep(entries, [index])))
                add(index)
                for slot, time, edge in zip(sums, times, limits, strict=True):
                    before, above = builder.load(time), builder.fcmp_ordered(">", builder.load(slot), edge)
                    earlier = builder.select(builder.icmp_signed("<", now, before), now, before)
                    builder.store(builder.select(above, earlier, before), time)
            left = [builder.icmp_signed("==", builder.load(time), _SILENT) for time in times]
            waiting = _mask(builder, [builder.and_(*pair) for pair in zip(left, able, strict=True)])
            with builder.if_then(builder.icmp_signed("==", waiting, ir.Constant(_I64, 0)), likely=False):
                builder.branch(done)
        builder.branch(done)
        builder.position_at_end(done)
        _store_lanes(builder, first, args[10], [builder.load(time) for time in times])
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def earliest(typingctx, first, at, rows, columns, pitch, time):
    """Write to ``time[:LANES]`` the earliest of a window of times; return the mask of lanes that fire there.

    The window's times are ``first[at + y * pitch + x * LANES:][:LANES]`` for ``y < rows``, ``x < columns``.
    """
    i64 = types.int64
    signature = i64(first, i64, i64, i64, i64, time)

    def codegen(context, builder, sig, args):
        first, time = (context.make_array(sig.args[i])(context, builder, args[i]).data for i in (0, 5))
        best = _slots(builder, _SILENT)
        with cgutils.for_range(builder, args[2]) as down:
            row = builder.add(args[1], builder.mul(down.index, args[4]))
            with cgutils.for_range(builder, args[3]) as along:
                offset = builder.add(row, builder.mul(along.index, ir.Constant(_I64, LANES)))
                for slot, found in zip(best, _load_lanes(builder, first, offset, _TIMES), strict=True):
                    before = builder.load(slot)
                    builder.store(builder.select(builder.icmp_signed("<", found, before), found, before), slot)
        ends = [builder.load(slot) for slot in best]
        _store_lanes(builder, time, ir.Constant(_I64, 0), ends)
        return _mask(builder, [builder.icmp_signed("!=", end, _SILENT) for end in ends])

    return signature, codegen


@intrinsic
def any_enough(typingctx, words, at, count, masks, need):
    """Return whether ``words[at:][:count]`` have ``need`` bits in common with the masks of any of LANES maps."""
    i64 = types.int64
    signature = types.boolean(words, i64, i64, masks, need)

    def codegen(context, builder, sig, args):
        words, masks, need = (context.make_array(sig.args[i])(context, builder, args[i]).data for i in (0, 3, 4))
        counts = _slots(builder, ir.Constant(_TIMES, [0] * _WIDTH))
        kind = ir.FunctionType(_TIMES, [_TIMES])
        ones = cgutils.get_or_insert_function(builder.module, kind, f"llvm.ctpop.v{_WIDTH}i32")
        with cgutils.for_range(builder, args[2]) as loop:
            word = _splat(builder, builder.load(builder.gep(words, [builder.add(args[1], loop.index)])))
            lines = _load_lanes(builder, masks, builder.mul(loop.index, ir.Constant(_I64, LANES)), _TIMES)
            for slot, line in zip(counts, lines, strict=True):
                common = builder.call(ones, [builder.and_(line, word)])
                builder.store(builder.add(builder.load(slot), common), slot)
        pairs = zip(counts, _load_lanes(builder, need, ir.Constant(_I64, 0), _TIMES), strict=True)
        enough = _mask(builder, [builder.icmp_signed(">=", builder.load(slot), least) for slot, least in pairs])
        return builder.icmp_signed("!=", enough, ir.Constant(_I64, 0))

    return signature, codegen


def _load_lanes(builder: Any, data: Any, offset: Any, vector: Any) -> list[Any]:
    """Return LANES values of an array from ``offset`` on, as vectors."""
    start = builder.bitcast(builder.gep(data, [offset]), vector.as_pointer())
    return [builder.load(builder.gep(start, [ir.Constant(_I64, part)]), align=4) for part in range(_PARTS)]


def _store_lanes(builder: Any, data: Any, offset: Any, vectors: list[Any]) -> None:
    start = builder.bitcast(builder.gep(data, [offset]), vectors[0].type.as_pointer())
    for part, vector in enumerate(vectors):
        builder.store(vector, builder.gep(start, [ir.Constant(_I64, part)]), align=4)


def _slots(builder: Any, value: Any) -> list[Any]:
    """Return variables for LANES values that LLVM will keep in registers."""
    return [cgutils.alloca_once_value(builder, value) for _ in range(_PARTS)]


def _splat(builder: Any, value: Any) -> Any:
    one = builder.insert_element(ir.Constant(_TIMES, ir.Undefined), value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, ir.Constant(_TIMES, ir.Undefined), ir.Constant(_TIMES, [0] * _WIDTH))


def _mask(builder: Any, parts: list[Any]) -> Any:
    """Return an int64 with a bit for each lane."""
    mask = ir.Constant(_I64, 0)
    for part, bits in enumerate(parts):
        wide = builder.zext(builder.bitcast(bits, ir.IntType(_WIDTH)), _I64)
        mask = builder.or_(mask, builder.shl(wide, ir.Constant(_I64, part * _WIDTH)))
    return mask


@intrinsic
def append_to_lists(typingctx, cursor, first, count, rows, row, step, group, value):
    """Append ``row - i * step`` and ``value`` to the lists of ``count`` neighbours, ``i`` from 0 on.

    The row goes to ``rows[cursor[first + i]]``. Numba's own loop asks of each index whether it is negative.
    """
    i64 = types.int64
    signature = types.void(cursor, i64, i64, rows, i64, i64, group, i64)

    def codegen(context, builder, sig, args):
        ends, to_rows, to_group = (context.make_array(sig.args[i])(context, builder, args[i]).data for i in (0, 3, 6))
        i32 = ir.IntType(32)
        row, step, value = (builder.trunc(args[i], i32) for i in (4, 5, 7))
        with cgutils.for_range(builder, args[2]) as loop:
            end = builder.gep(ends, [builder.add(args[1], loop.index)])
            at = builder.load(end)
            here = builder.sub(row, builder.mul(builder.trunc(loop.index, i32), step))
            builder.store(here, builder.gep(to_rows, [at]))
            builder.store(value, builder.gep(to_group, [at]))
            builder.store(builder.add(at, ir.Constant(_I64, 1)), end)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def lowest_bit(typingctx, mask):
    """Return the index of the lowest set bit of a mask that is not 0."""

    def codegen(context, builder, sig, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), codegen


@intrinsic
def count_bits(typingctx, mask):
    """Return the number of set bits."""

    def codegen(context, builder, sig, args):
        return builder.ctpop(args[0])

    return types.int64(types.int64), codegen
