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
_LLVM = ir.VectorType(ir.FloatType(), WIDTH)


class _Vector(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__("float32x16")


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _LLVM)


_VECTOR = _Vector()


def _place(builder: Any, address: Any, kind: Any = _LLVM) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _by(result: Any, arguments: tuple[Any, ...], emit: Callable[..., Any]) -> Any:
    """Return how Numba is told of an operation whose code ``emit(builder, *values)`` writes."""
    return result(*arguments), lambda context, builder, signature, values: emit(builder, *values)


@intrinsic
def load(typing_context, address):
    """Return the vector at an address."""
    return _by(_VECTOR, (types.int64,), lambda builder, at: builder.load(_place(builder, at), align=4))


@intrinsic
def store(typing_context, address, vector):
    """Write a vector to an address."""

    def emit(builder, at, value):
        builder.store(value, _place(builder, at), align=4)
        return ir.Constant(ir.IntType(8).as_pointer(), None)

    return _by(types.void, (types.int64, _VECTOR), emit)


@intrinsic
def repeat(typing_context, address):
    """Return a vector of 16 times the one value at an address."""

    def emit(builder, at):
        value = builder.load(_place(builder, at, ir.FloatType()), align=4)
        first = builder.insert_element(ir.Constant(_LLVM, ir.Undefined), value, ir.IntType(32)(0))
        return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH))

    return _by(_VECTOR, (types.int64,), emit)


@intrinsic
def zeros(typing_context):
    """Return a vector of zeros."""
    return _by(_VECTOR, (), lambda builder: ir.Constant(_LLVM, [0.0] * WIDTH))


@intrinsic
def add(typing_context, one, other):
    """Return the sums of two vectors' values."""
    return _by(_VECTOR, (_VECTOR, _VECTOR), lambda builder, *terms: builder.fadd(*terms))


@intrinsic
def fma(typing_context, factor, term, total):
    """Return ``factor * term + total``, rounded once."""

    def emit(builder, *values):
        kind = ir.FunctionType(_LLVM, [_LLVM] * 3)
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{WIDTH}f32"), values)

    return _by(_VECTOR, (_VECTOR,) * 3, emit)
