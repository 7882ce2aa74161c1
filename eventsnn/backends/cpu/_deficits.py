"""Lists of rows and sums over them in LLVM: bounds on many potentials at a quarter of their bytes, a few potentials.

Integers may be added in any order, so bounds need not follow the events' order; the potentials themselves do.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

WIDE = 64  #: maps per block of deficits: one register of bytes
LARGEST = 255  #: deficit that fits a byte
STRIDE = 512  #: rows whose deficits, two and two together in a byte, fit the 16 bits of a lane
GROUP = 4  #: neurons that are computed side by side, since an addition waits for the one before
_HALF = WIDE // 2
_LANES = ir.VectorType(ir.IntType(16), _HALF)
_BYTES = ir.VectorType(ir.IntType(8), WIDE)
_SUMS = ir.VectorType(ir.IntType(32), _HALF)
_I64 = ir.IntType(64)
_I32 = ir.IntType(32)
_TOGETHER = 8  # spikes that are read at once


def byte_of(f):
    """Return where in its block the deficit of map ``f`` lies: low bytes of the lanes first, then high bytes."""
    return f % _HALF * 2 + f % WIDE // _HALF


class _Lanes:
    """Sums of a block of maps in registers while code for one call is generated."""

    def __init__(self, builder: Any, table: Any, rows: Any) -> None:
        self._builder, self._table, self._rows = builder, table, rows
        self._zero, self._eight = ir.Constant(_LANES, [0] * _HALF), ir.Constant(_LANES, [8] * _HALF)
        self._both, self._high = (cgutils.alloca_once_value(builder, self._zero) for _ in range(2))
        kind = ir.FunctionType(_BYTES, [_BYTES, _BYTES])
        self._saturating = cgutils.get_or_insert_function(builder.module, kind, f"llvm.uadd.sat.v{WIDE}i8")

    def row(self, k: Any) -> Any:
        """Return the bytes of the row that is listed at ``k``."""
        row = self._builder.sext(self._builder.load(self._builder.gep(self._rows, [k])), _I64)
        at = self._builder.gep(self._table, [self._builder.mul(row, ir.Constant(_I64, WIDE))])
        return self._builder.load(self._builder.bitcast(at, _BYTES.as_pointer()), align=1)

    def together(self, one: Any, other: Any) -> Any:
        """Return the sums of two rows in bytes, 255 where they are more: less of a deficit is a bound still."""
        return self._builder.call(self._saturating, [one, other])

    def add(self, line: Any) -> None:
        """Add bytes, two to a lane."""
        builder, lanes = self._builder, self._builder.bitcast(line, _LANES)
        builder.store(builder.add(builder.load(self._both), lanes), self._both)
        builder.store(builder.add(builder.load(self._high), builder.lshr(lanes, self._eight)), self._high)

    def low_and_high(self) -> tuple[Any, Any]:
        """Return the sums of low and of high bytes."""
        high = self._builder.load(self._high)
        return self._builder.sub(self._builder.load(self._both), self._builder.shl(high, self._eight)), high


@intrinsic
def add_deficits(typingctx, table, base, rows, begin, end, sums, at):
    """Add about the deficits of at most STRIDE rows ``rows[begin:end]`` to ``sums[at:][:WIDE]``, never more than these.

    ``table[base + row * WIDE:][:WIDE]`` is a row of unsigned bytes, two to a lane of 16 bits. Sums, int32, are taken of
    the high bytes, and of whole lanes modulo 2**16, which less 256 times the former are the sums of the low bytes.
    """
    i64 = types.int64
    signature = types.void(table, i64, rows, i64, i64, sums, i64)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data, index, total = (context.make_array(sig.args[i])(context, builder, args[i]).data for i in (0, 2, 5))
        lanes, one = _Lanes(builder, builder.gep(data, [args[1]]), index), ir.Constant(_I64, 1)
        last = builder.sub(args[4], one)
        with cgutils.for_range_slice(builder, args[3], last, ir.Constant(_I64, 2)) as (k, _):
            lanes.add(lanes.together(lanes.row(k), lanes.row(builder.add(k, one))))
        odd = builder.trunc(builder.sub(args[4], args[3]), ir.IntType(1))
        with builder.if_then(odd):
            lanes.add(lanes.row(last))
        place = builder.bitcast(builder.gep(total, [args[6]]), _SUMS.as_pointer())
        for part, found in enumerate(lanes.low_and_high()):
            half = builder.gep(place, [ir.Constant(_I64, part)])
            new = builder.add(builder.load(half, align=4), builder.zext(found, _SUMS))
            builder.store(new, half, align=4)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def add_weights(typingctx, weights, at, rows, begin, end, totals):
    """Put the sums of ``weights[at[i] + rows[begin:end]]``, each in this order, into ``totals[i]``, for i < GROUP.

    ``weights`` are float32 without gaps, of any number of dimensions; ``at`` counts from their beginning.
    """
    i64 = types.int64
    signature = types.void(weights, at, rows, i64, i64, totals)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data, places, index, out = (
            context.make_array(sig.args[i])(context, builder, args[i]).data for i in (0, 1, 2, 5)
        )
        lanes = [ir.Constant(_I64, i) for i in range(GROUP)]
        begins = [builder.gep(data, [builder.load(builder.gep(places, [i]))]) for i in lanes]
        sums = [cgutils.alloca_once_value(builder, ir.Constant(ir.FloatType(), 0.0)) for _ in lanes]
        with cgutils.for_range_slice(builder, args[3], args[4], ir.Constant(_I64, 1)) as (k, _):
            row = builder.sext(builder.load(builder.gep(index, [k])), _I64)
            for begin, total in zip(begins, sums, strict=True):
                builder.store(builder.fadd(builder.load(total), builder.load(builder.gep(begin, [row]))), total)
        for i, total in zip(lanes, sums, strict=True):
            builder.store(builder.load(total), builder.gep(out, [i]))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def read_spikes(typingctx, channel, y, x, begin, n, kh, kw, ph, pw, rows, ys, xs):
    """List ``n`` spikes of columns of unsigned integers: y, x in the padded grid, and row ``(c * kh + y) * kw + x``."""
    i64 = types.int64
    signature = types.void(channel, y, x, *(i64,) * 6, rows, ys, xs)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def data(i: int) -> Any:
            return context.make_array(sig.args[i])(context, builder, args[i]).data

        columns, lists = [builder.gep(data(i), [args[3]]) for i in range(3)], [data(i) for i in (9, 10, 11)]
        sizes = [builder.trunc(size, _I32) for size in args[5:9]]
        many = builder.and_(args[4], ir.Constant(_I64, -_TOGETHER))
        for start, stop, width in ((ir.Constant(_I64, 0), many, _TOGETHER), (many, args[4], 1)):
            with cgutils.for_range_slice(builder, start, stop, ir.Constant(_I64, width)) as (k, _):
                _read(builder, columns, k, sizes, lists, width)
        return context.get_dummy_value()

    return signature, codegen


def _read(builder: Any, columns: Any, k: Any, sizes: Any, lists: Any, width: int) -> None:
    """Read ``width`` spikes from the ``k``-th on."""
    kind = ir.VectorType(_I32, width)

    def vector(array: Any) -> Any:
        at = builder.gep(array, [k])
        return builder.bitcast(at, ir.VectorType(array.type.pointee, width).as_pointer()), array.type.pointee.width // 8

    def splat(value: Any) -> Any:
        first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_I32, 0))
        return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), ir.Constant(kind, [0] * width))

    (channel, y, x) = (builder.zext(builder.load(at, align=size), kind) for at, size in map(vector, columns))
    kh, kw, ph, pw = map(splat, sizes)
    y, x = builder.add(y, ph), builder.add(x, pw)
    row = builder.add(builder.mul(builder.add(builder.mul(channel, kh), y), kw), x)
    for values, (at, size) in zip((row, y, x), map(vector, lists), strict=True):
        builder.store(values, at, align=size)
