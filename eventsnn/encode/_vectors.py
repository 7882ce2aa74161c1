"""Vectors of 16 float32 values in compiled code, by address; LLVM lowers them to whatever the machine has.

They are values like any other there: what a loop adds to stays in registers. Numba's own loops over a row keep the sum
of a window in memory, from which it is read and to which it is written with each term.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

WIDTH = 16
#: of LLVM
VECTOR = ir.VectorType(ir.FloatType(), WIDTH)


class _Vector(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__("float32x16")


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, VECTOR)


_VECTOR = _Vector()


def _place(builder: Any, address: Any, kind: Any = VECTOR) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _by(result: Any, arguments: tuple[Any, ...], emit: Callable[..., Any]) -> Any:
    """Return how Numba is told of an operation whose code ``emit(builder, *values)`` writes."""
    return result(*arguments), lambda context, builder, signature, values: emit(builder, *values)


def splatted(builder: Any, value: Any, width: int = WIDTH) -> Any:
    """Return the code of a vector of ``width`` times one value."""
    undefined, number = ir.Constant(ir.VectorType(value.type, width), ir.Undefined), ir.IntType(32)
    first = builder.insert_element(undefined, value, number(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(number, width), [0] * width))


def turned(builder: Any, rows: list[Any]) -> list[Any]:
    """Return the code of as many columns of a square of vectors as it has rows, a power of two."""
    side, half = len(rows), len(rows) // 2
    # Each round moves one bit of the row's number to the column's.
    orders = [[k // 2 + side * (k % 2) + offset for k in range(side)] for offset in (0, half)]
    orders = [ir.Constant(ir.VectorType(ir.IntType(32), side), order) for order in orders]
    for _ in range(side.bit_length() - 1):
        pairs = list(zip(rows[:half], rows[half:], strict=True))
        rows = [builder.shuffle_vector(*pair, order) for pair in pairs for order in orders]
    return rows


def _first(builder: Any, count: Any) -> Any:
    """Return a mask of the first so many values."""
    places = ir.Constant(ir.VectorType(count.type, WIDTH), list(range(WIDTH)))
    return builder.icmp_signed("<", places, splatted(builder, count))


def _call(builder: Any, name: str, result: Any, arguments: Any) -> Any:
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


@intrinsic
def load(typing_context, address):
    """Return the vector at an address."""
    return _by(_VECTOR, (types.int64,), lambda builder, at: builder.load(_place(builder, at), align=4))


@intrinsic
def load_some(typing_context, address, count):
    """Return a vector of the first ``count`` values at an address, and zeros; no others are read."""

    def emit(builder, at, count):
        arguments = (_place(builder, at), ir.IntType(32)(4), _first(builder, count), ir.Constant(VECTOR, [0.0] * WIDTH))
        return _call(builder, f"llvm.masked.load.v{WIDTH}f32.p0", VECTOR, arguments)

    return _by(_VECTOR, (types.int64, types.int64), emit)


@intrinsic
def store(typing_context, address, vector):
    """Write a vector to an address."""

    def emit(builder, at, value):
        builder.store(value, _place(builder, at), align=4)
        return ir.Constant(ir.IntType(8).as_pointer(), None)

    return _by(types.void, (types.int64, _VECTOR), emit)


@intrinsic
def store_some(typing_context, address, vector, count):
    """Write the first ``count`` values of a vector to an address, and no others."""

    def emit(builder, at, value, count):
        arguments = (value, _place(builder, at), ir.IntType(32)(4), _first(builder, count))
        _call(builder, f"llvm.masked.store.v{WIDTH}f32.p0", ir.VoidType(), arguments)
        return ir.Constant(ir.IntType(8).as_pointer(), None)

    return _by(types.void, (types.int64, _VECTOR, types.int64), emit)


@intrinsic
def repeat(typing_context, address):
    """Return a vector of 16 times the one value at an address."""

    def emit(builder, at):
        return splatted(builder, builder.load(_place(builder, at, ir.FloatType()), align=4))

    return _by(_VECTOR, (types.int64,), emit)


@intrinsic
def splat(typing_context, value):
    """Return a vector of 16 times a float32."""
    return _by(_VECTOR, (types.float32,), splatted)


@intrinsic
def zeros(typing_context):
    """Return a vector of zeros."""
    return _by(_VECTOR, (), lambda builder: ir.Constant(VECTOR, [0.0] * WIDTH))


@intrinsic
def add(typing_context, one, other):
    """Return the sums of two vectors' values."""
    return _by(_VECTOR, (_VECTOR, _VECTOR), lambda builder, *terms: builder.fadd(*terms))


@intrinsic
def mul(typing_context, one, other):
    """Return the products of two vectors' values."""
    return _by(_VECTOR, (_VECTOR, _VECTOR), lambda builder, *factors: builder.fmul(*factors))


@intrinsic
def div(typing_context, one, other):
    """Return the quotients of two vectors' values."""
    return _by(_VECTOR, (_VECTOR, _VECTOR), lambda builder, *values: builder.fdiv(*values))


@intrinsic
def fma(typing_context, factor, term, total):
    """Return ``factor * term + total``, rounded once."""
    return _by(
        _VECTOR, (_VECTOR,) * 3, lambda builder, *values: _call(builder, f"llvm.fma.v{WIDTH}f32", VECTOR, values)
    )


def _bits(builder: Any, vector: Any) -> Any:
    return builder.bitcast(vector, ir.VectorType(ir.IntType(32), WIDTH))


@intrinsic
def either(typing_context, one, other):
    """Return the bits that are set in either of two vectors."""

    def emit(builder, *values):
        return builder.bitcast(builder.or_(*(_bits(builder, value) for value in values)), VECTOR)

    return _by(_VECTOR, (_VECTOR, _VECTOR), emit)


@intrinsic
def only(typing_context, vector, mask):
    """Return the bits of each value that are set in an int32: all of them in -1, all but the sign in 0x7FFFFFFF."""

    def emit(builder, value, mask):
        return builder.bitcast(builder.and_(_bits(builder, value), splatted(builder, mask)), VECTOR)

    return _by(_VECTOR, (_VECTOR, types.int32), emit)


@intrinsic
def drop(typing_context, vector, sizes, threshold):
    """Return a vector with 0 where ``sizes`` are below those of a threshold."""

    def emit(builder, value, sizes, threshold):
        return builder.select(builder.fcmp_ordered("<", sizes, threshold), ir.Constant(VECTOR, [0.0] * WIDTH), value)

    return _by(_VECTOR, (_VECTOR,) * 3, emit)


@intrinsic
def bits_of(typing_context, vector):
    """Return the bits that are set in any value, as int32."""

    def emit(builder, value):
        return _call(builder, f"llvm.vector.reduce.or.v{WIDTH}i32", ir.IntType(32), (_bits(builder, value),))

    return _by(types.int32, (_VECTOR,), emit)
