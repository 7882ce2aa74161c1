"""Eight numbers at a time in compiled loops, which LLVM is not asked to unroll (``compiling.py``)."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from eventsnn.encode._vectors import splatted

_EIGHT = 8
_NARROW, _WORD, _NUMBER = (ir.IntType(bits) for bits in (16, 32, 64))


def _place(builder, base, number, kind):
    """Return where the element of an array at an address lies."""
    offset = builder.mul(builder.zext(number, _NUMBER), _NUMBER(kind.width // 8))
    return builder.inttoptr(builder.add(base, offset), kind.as_pointer())


def _elements(builder, base):
    """Return eight uint16 at an address, one by one: out of a vector each would take longer."""
    return [builder.load(_place(builder, base, _WORD(k), _NARROW), align=2) for k in range(_EIGHT)]


def _emit_count(typing_context, source, counts):
    """Count eight uint16 at an address: add 1 to that element of an array of int32 at another."""

    def generate(context, builder, signature, args):
        for element in _elements(builder, args[0]):
            place = _place(builder, args[1], element, _WORD)
            builder.store(builder.add(builder.load(place, align=4), _WORD(1)), place, align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


def _emit_look_up(typing_context, source, table, target):
    """Write, for eight uint16 at an address, those elements of a table of uint16 to a third one."""

    def generate(context, builder, signature, args):
        for k, element in enumerate(_elements(builder, args[0])):
            found = builder.load(_place(builder, args[1], element, _NARROW), align=2)
            builder.store(found, _place(builder, args[2], _WORD(k), _NARROW), align=2)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


def _emit_sum(typing_context, source):
    """Return the sum of eight int32 at an address."""

    def generate(context, builder, signature, args):
        row = ir.VectorType(_WORD, _EIGHT)
        values = builder.load(builder.inttoptr(args[0], row.as_pointer()), align=4)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_WORD, [row]), f"llvm.vector.reduce.add.v{_EIGHT}i32"
        )
        return builder.sext(builder.call(function, [values]), _NUMBER)

    return types.int64(types.int64), generate


def _emit_fill(typing_context, target, value):
    """Write a number as eight uint16 to an address."""

    def generate(context, builder, signature, args):
        row = splatted(builder, builder.trunc(args[1], _NARROW), _EIGHT)
        builder.store(row, builder.inttoptr(args[0], row.type.as_pointer()), align=2)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


count_8: Any = intrinsic(_emit_count)
look_up_8: Any = intrinsic(_emit_look_up)
sum_of_8: Any = intrinsic(_emit_sum)
fill_8: Any = intrinsic(_emit_fill)
