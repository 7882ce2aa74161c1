"""Compiled search for each image's intensities that are not 0, in blocks whose images lie innermost."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from eventsnn.jit import inner, trailing_zeros

#: Sites, and images, looked at together. So many values may be written beyond the last one found.
LANES = 16
_ROW = 4 * LANES  # bytes of a row of a tile
_INT = ir.IntType(32)
_VECTOR = ir.VectorType(_INT, LANES)


def _vector_at(builder, address):
    return builder.inttoptr(address, _VECTOR.as_pointer())


def _call(builder, name, result, *arguments):
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}i32"), arguments)


def _emit_turn(typing_context, source, stride, target):
    """Write 16 rows of 16 int32, ``stride`` bytes apart, as columns to ``target``, if any is not 0; return whether."""

    def generate(context, builder, signature, args):
        source, stride, target = args
        places = [builder.add(source, builder.mul(stride, stride.type(row))) for row in range(LANES)]
        rows = [builder.load(_vector_at(builder, place), align=4) for place in places]
        union = rows[0]
        for row in rows[1:]:
            union = builder.or_(union, row)
        found = builder.icmp_unsigned("!=", _call(builder, "vector.reduce.or", _INT, union), _INT(0))
        # Each round moves one bit of the row's number to the column's.
        halves = [[k // 2 + LANES * (k % 2) + offset for k in range(LANES)] for offset in (0, LANES // 2)]
        with builder.if_then(found):
            for _ in range(LANES.bit_length() - 1):
                pairs = list(zip(rows[: LANES // 2], rows[LANES // 2 :], strict=True))
                rows = [builder.shuffle_vector(*pair, ir.Constant(_VECTOR, half)) for pair in pairs for half in halves]
            for column, row in enumerate(rows):
                place = builder.add(target, target.type(4 * LANES * column))
                builder.store(row, _vector_at(builder, place), align=4)
        return found

    return types.boolean(types.intp, types.intp, types.intp), generate


def _emit_mark(typing_context, source):
    """Return a word whose bits say which of 16 float32 from an address on are not 0."""

    def generate(context, builder, signature, args):
        return builder.zext(builder.bitcast(_marks(builder, _load(builder, args[0])), ir.IntType(LANES)), _INT)

    return types.uint32(types.intp), generate


def _load(builder, source):
    return builder.load(_vector_at(builder, source), align=4)


def _marks(builder, column):
    magnitude = builder.and_(column, ir.Constant(_VECTOR, [2**31 - 1] * LANES))
    return builder.icmp_unsigned("!=", magnitude, ir.Constant(_VECTOR, [0] * LANES))


def _emit_compress(typing_context, source, first, values, sites):
    """Write which of 16 float32 are not 0 to ``values``, and their numbers, from ``first`` on, to ``sites``.

    All others are addresses.
    """

    def generate(context, builder, signature, args):
        source, first, values, sites = args
        undefined, column = ir.Constant(_VECTOR, ir.Undefined), _load(builder, source)
        start = builder.insert_element(undefined, builder.trunc(first, _INT), _INT(0))
        start = builder.shuffle_vector(start, undefined, ir.Constant(_VECTOR, [0] * LANES))
        numbers = builder.add(start, ir.Constant(_VECTOR, list(range(LANES))))
        for what, to in ((column, values), (numbers, sites)):
            found = _call(builder, "experimental.vector.compress", _VECTOR, what, _marks(builder, column), undefined)
            builder.store(found, _vector_at(builder, to), align=4)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.intp), generate


def _emit_compresses(typing_context):
    """Return whether the machine can compress vectors, known when code is compiled."""

    def generate(context, builder, signature, args):
        return ir.IntType(1)("+avx512f" in context.codegen().magic_tuple()[2])

    return types.boolean(), generate


def _emit_count(typing_context, word):
    """Return how many bits of a word are set."""
    return types.int64(types.uint32), lambda context, builder, signature, args: builder.zext(
        builder.ctpop(args[0]), ir.IntType(64)
    )


_turn: Any = intrinsic(_emit_turn)
_mark: Any = intrinsic(_emit_mark)
_compress: Any = intrinsic(_emit_compress)
_compresses: Any = intrinsic(_emit_compresses)
_count: Any = intrinsic(_emit_count)


@inner
def gather(bits, tiles, values, sites, counts):
    """Write what is not 0 in each column of ``bits`` (n_sites, N), and its sites, to a row of ``values`` and ``sites``.

    Whether a site is 0 is hard to predict. So 16 sites of 16 images at a time are turned, that each image's lie side by
    side, and then what is not 0 is moved together. Rows have room for 16 values more than there are sites; ``tiles``
    (2, 16, 16) is scratch memory, all int32.
    """
    n_sites, n_images = bits.shape
    first, tile, room = np.int64(bits.ctypes.data), np.int64(tiles.ctypes.data), values.shape[1]
    to = np.int64(values.ctypes.data), np.int64(sites.ctypes.data)
    for i in range(n_images):
        counts[i] = 0
    for low in range(0, n_sites, LANES):
        for left in range(0, n_images, LANES):
            rows, n = n_sites - low, n_images - left
            n = n if n < LANES else np.int64(LANES)
            source, stride = first + 4 * (low * n_images + left), 4 * n_images
            if n < LANES or rows < LANES:
                # Not within the block as a whole; beyond, it is 0.
                for j in range(LANES):
                    for i in range(LANES):
                        tiles[0, j, i] = bits[low + j, left + i] if j < rows and i < n else np.int32(0)
                source, stride = tile, np.int64(_ROW)
            if not _turn(source, stride, tile + LANES * _ROW):
                continue
            for i in range(n):
                column, image = tile + (LANES + i) * _ROW, np.uint64(left + i)
                word, found = _mark(column), counts[image]
                counts[image] += _count(word)
                if _compresses():
                    behind = 4 * ((left + i) * room + found)
                    _compress(column, low, to[0] + behind, to[1] + behind)
                    continue
                while word != 0:
                    j = np.uint64(trailing_zeros(word))
                    word &= word - np.uint32(1)
                    values[image, np.uint64(found)] = tiles[1, np.uint64(i), j]
                    sites[image, np.uint64(found)] = low + np.int64(j)
                    found += 1
