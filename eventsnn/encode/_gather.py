"""Compiled search for each image's intensities that are not 0, in blocks whose images lie innermost."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from eventsnn.encode._vectors import splatted, turned
from eventsnn.jit import inner, lean_kernel, trailing_zeros
from eventsnn.memory import scratch_arrays

#: Sites, and images, looked at together. So many codes may be written beyond the last one found.
LANES = 32
#: Sites whose numbers are told apart by the 16 bits that are kept of each.
PAGE = 2**16
# The code of infinity, and of what is nearly so; those of other finite intensities are less.
_INFINITE_CODE = 0x7F800000 >> 15
_INFINITY = np.int32(0x7F800000)
_HALF = LANES // 2
_MAGNITUDE = 2**31 - 1
_INT, _CODE = ir.IntType(32), ir.IntType(16)
_HALF_ROW, _ROW = ir.VectorType(_INT, _HALF), ir.VectorType(_CODE, LANES)


def _load(builder, address, kind, align=4):
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=align)


def _store(builder, value, address, align=2):
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=align)


def _constant(kind, value):
    return ir.Constant(kind, [value] * kind.count)


def _call(builder, name, result, *arguments):
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    vector = arguments[0].type
    name = f"llvm.{name}.v{vector.count}{vector.element}"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _emit_turn(typing_context, source, strides, rows, target):
    """Write the codes of 32 rows of 32 int32 as columns, unless all are of 0.

    ``strides`` are from row to row and from the first half of each to the second, in bytes. Return all bits that are
    set in any of them. That there are 32 rows is said by an argument, that LLVM does not know, and keep what it has
    looked at, for which there are too few registers.
    """

    def generate(context, builder, signature, args):
        source, strides, n_rows, target = args
        stride, apart = cgutils.unpack_tuple(builder, strides, 2)

        def halves(row):
            place = builder.add(source, builder.mul(stride, row))
            return [_load(builder, at, _HALF_ROW) for at in (place, builder.add(place, apart))]

        union = cgutils.alloca_once_value(builder, _constant(_HALF_ROW, 0))
        with cgutils.for_range(builder, n_rows) as loop:
            low, high = halves(loop.index)
            builder.store(builder.or_(builder.load(union), builder.or_(low, high)), union)
        bits = _call(builder, "vector.reduce.or", _INT, builder.load(union))
        with builder.if_then(builder.icmp_unsigned("!=", builder.and_(bits, _INT(_MAGNITUDE)), _INT(0))):
            rows = [_codes(builder, *halves(source.type(row))) for row in range(LANES)]
            for column, row in enumerate(turned(builder, rows)):
                _store(builder, row, builder.add(target, target.type(2 * LANES * column)))
        return bits

    return types.int32(types.intp, types.UniTuple(types.intp, 2), types.intp, types.intp), generate


def _codes(builder, *halves):
    """Return the codes of a row: the upper 16 bits of magnitudes, which have 31, rounded up."""
    upper = []
    for half in halves:
        magnitude = builder.shl(half, _constant(_HALF_ROW, 1))
        bounded = _call(builder, "umin", _HALF_ROW, magnitude, _constant(_HALF_ROW, 0xFFFF0000))
        upper.append(builder.bitcast(builder.add(bounded, _constant(_HALF_ROW, 0xFFFF)), _ROW))
    # On machines that store the lower bytes first, as all that Numba compiles for.
    return builder.shuffle_vector(*upper, ir.Constant(ir.VectorType(_INT, LANES), list(range(1, 2 * LANES, 2))))


def _emit_mark(typing_context, source):
    """Return a word whose bits say which of 32 codes from an address on are not 0."""

    def generate(context, builder, signature, args):
        return builder.bitcast(_marks(builder, _load(builder, args[0], _ROW, 2)), _INT)

    return types.uint32(types.intp), generate


def _emit_any_high(typing_context, source):
    """Return a word whose bits say which of 32 uint16 from an address on are at least 2**15."""

    def generate(context, builder, signature, args):
        high = builder.icmp_signed("<", _load(builder, args[0], _ROW, 2), _constant(_ROW, 0))
        return builder.bitcast(high, _INT)

    return types.uint32(types.intp), generate


def _marks(builder, codes):
    return builder.icmp_unsigned("!=", codes, _constant(_ROW, 0))


def _emit_compress(typing_context, source, first, codes, sites):
    """Write which of 32 codes are not 0 to ``codes``, and their numbers, from ``first`` on, to ``sites``.

    All others are addresses.
    """

    def generate(context, builder, signature, args):
        source, first, codes, sites = args
        row, undefined = _load(builder, source, _ROW, 2), ir.Constant(_ROW, ir.Undefined)
        start = splatted(builder, builder.trunc(first, _CODE), LANES)
        numbers = builder.add(start, ir.Constant(_ROW, list(range(LANES))))
        for what, to in ((row, codes), (numbers, sites)):
            found = _call(builder, "experimental.vector.compress", _ROW, what, _marks(builder, row), undefined)
            _store(builder, found, to)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.intp), generate


def _emit_compresses(typing_context):
    """Return whether the machine can compress vectors of 16-bit numbers, known when code is compiled."""

    def generate(context, builder, signature, args):
        return ir.IntType(1)("+avx512vbmi2" in context.codegen().magic_tuple()[2])

    return types.boolean(), generate


def _emit_count(typing_context, word):
    """Return how many bits of a word are set."""
    return types.int64(types.uint32), lambda context, builder, signature, args: builder.zext(
        builder.ctpop(args[0]), ir.IntType(64)
    )


_turn: Any = intrinsic(_emit_turn)
any_high: Any = intrinsic(_emit_any_high)
_mark: Any = intrinsic(_emit_mark)
_compress: Any = intrinsic(_emit_compress)
compresses: Any = intrinsic(_emit_compresses)
_count: Any = intrinsic(_emit_count)


@inner
def gather(bits, tiles, codes, sites, counts):
    """Write codes of what is not 0 in each column of ``bits`` (n_sites, N), and its sites, to rows of uint16.

    A code is made of the upper bits of a magnitude, rounded up, so codes sort as intensities do, but for those that
    share one, and only that of 0 is 0. Return whether a sign bit is set, be it that of -0.

    Whether a site is 0 is hard to predict. So 32 sites of 32 images at a time are turned, that each image's lie side
    by side, or 64 sites of up to 16 images, and then what is not 0 is moved together.

    Parameters
    ----------
    tiles : tuple of ndarray
        Scratch memory (32, 32), int32 and uint16.
    codes, sites : ndarray of uint16, shape (N, at least n_sites + 32)
        Of sites the lower 16 bits: ``counts`` tells the rest.
    counts : ndarray of int64, shape (1 + pages, N)
        How much is found in each image before each page of 2**16 sites, and in all.
    """
    n_sites, n_images = bits.shape
    first, few, stride = np.int64(bits.ctypes.data), n_images <= _HALF, 4 * n_images
    step, apart = (2 * LANES, LANES * stride) if few else (LANES, np.int64(4 * _HALF))
    padded, turned = tiles
    at, signs = (np.int64(padded.ctypes.data), np.int64(turned.ctypes.data)), np.int32(0)
    for i in range(n_images):
        counts[0, i] = 0
    for low in range(0, n_sites, step):
        for left in range(0, n_images, LANES):
            n = n_images - left if n_images - left < LANES else np.int64(LANES)
            if (low + step - 1) * n_images + left + (_HALF if few else LANES) > n_sites * n_images:
                _copy(bits, low, left, n, padded)
                found = _turn(at[0], (np.int64(4 * LANES), np.int64(4 * _HALF)), np.int64(LANES), at[1])
            else:
                found = _turn(first + 4 * (low * n_images + left), (stride, apart), np.int64(LANES), at[1])
            signs |= found
            if low % PAGE == 0:
                for i in range(left, left + n):
                    counts[low // PAGE + 1, i] = counts[low // PAGE, i]
            if found & np.int32(_MAGNITUDE) != 0:
                _compact(turned, low, (left, n, few), codes, sites, counts[low // PAGE + 1])
    return signs < 0


@inner
def _copy(bits, low, left, n, padded):
    """Copy a tile beyond whose end nothing may be read, as it is turned."""
    few = bits.shape[1] <= _HALF
    for j in range(LANES):
        for i in range(LANES):
            half, rest = i // _HALF, i % _HALF
            site, image = (low + j + LANES * half, rest) if few else (low + j, left + i)
            padded[j, i] = bits[site, image] if site < len(bits) and image < left + n else np.int32(0)


@inner
def _compact(turned, low, images, codes, sites, counts):
    """Append what is not 0 in a turned tile to what is found of each of ``n`` images from ``left`` on."""
    left, n, few = images
    to, room = (np.int64(codes.ctypes.data), np.int64(sites.ctypes.data)), codes.shape[1]
    for i in range(_HALF + n if few else n):
        half, rest = i // _HALF, i % _HALF
        if few and rest >= n:
            continue
        image, first = (np.uint64(rest), low + LANES * half) if few else (np.uint64(left + i), low)
        column, at = np.int64(turned.ctypes.data) + 2 * LANES * i, counts[image]
        word = _mark(column)
        counts[image] += _count(word)
        if compresses():
            behind = 2 * (np.int64(image) * room + at)
            _compress(column, first, to[0] + behind, to[1] + behind)
            continue
        while word != 0:
            j = np.uint64(trailing_zeros(word))
            word &= word - np.uint32(1)
            codes[image, np.uint64(at)] = turned[np.uint64(i), j]
            sites[image, np.uint64(at)] = first + np.int64(j)
            at += 1


def find(bits):
    """Find what is not 0 in each column of ``bits``, intensities of shape (n_sites, N) as int32.

    Returns
    -------
    found : tuple of ndarray
        ``codes``, ``sites`` and ``counts`` as of :func:`gather`, in scratch memory, and what only compiled code needs.
    valid : bool
        Whether no intensity is negative or not finite.
    """
    found = scratch_arrays(*room_to_find(*bits.shape))
    return found, _find(bits, found)


def room_to_find(n_sites, n_images):
    """Return shapes and types of the arrays of :func:`find`."""
    return (
        ((n_images, n_sites + LANES), np.uint16),
        ((n_images, n_sites + LANES), np.uint16),
        ((2 + (n_sites - 1) // PAGE, n_images), np.int64),
        ((LANES, LANES), np.int32),
        ((LANES, LANES), np.uint16),
    )


@lean_kernel
def _find(bits, found):
    return valid_codes(bits, found)


@inner
def valid_codes(bits, found):
    """Write what :func:`find` returns to ``found``; return whether all intensities are valid."""
    codes, sites, counts, padded, turned = found
    doubtful = gather(bits, (padded, turned), codes, sites, counts)
    for i in range(bits.shape[1]):
        largest = np.uint16(0)
        for j in range(counts[-1, i]):
            largest = codes[i, j] if codes[i, j] > largest else largest
        doubtful |= largest >= _INFINITE_CODE
    return not doubtful or _valid(bits)


@inner
def _valid(bits):
    """Return whether no intensity is negative, infinite or no number; -0 is not negative."""
    for site in range(len(bits)):
        for i in range(bits.shape[1]):
            value = bits[site, i]
            if value >= _INFINITY or (value < 0 and value & _MAGNITUDE != 0):
                return False
    return True


@inner
def share(n, bins):
    """Return of how many intensities a bin has its spikes, and how many bins have any."""
    return (n // bins, bins) if n >= bins else (np.int64(1), n)
