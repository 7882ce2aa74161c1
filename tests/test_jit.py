"""What is compiled our way does what Python does, and gets along with what Numba compiles its own way."""

from collections import namedtuple

import numpy as np
import pytest
from numba import njit, types
from numba.extending import intrinsic, models, register_model

from eventsnn import jit


def read_and_write(values, cells, flags, i):
    values[i] += values[-1]
    values[-2] = values[i - 1] * values[0]
    cells[i, -1] = cells[-i, 1] + cells[0, i]
    cells[-1, 0] = values[np.uint64(2)]
    flags[i] = not flags[-1]
    return values[i], cells[1, 1], flags[i], len(cells), len(values)


def count(start, stop, step, out):
    n = 0
    for i in range(stop):
        out[n] = i
        n += 1
    for i in range(start, stop):
        out[n] = i
        n += 1
    for i in range(start, stop, step):
        out[n] = i
        n += 1
    for i in range(np.uint64(max(stop, 0))):
        for _ in range(2):
            if i == 1:
                continue
            out[n] = i
            n += 1
    return n


def arithmetic(a, b, out):
    out[0], out[1], out[2], out[3] = a // b, a % b, a << 3, a >> 1
    out[4] = a if a > b else b
    out[5] = a & b | a ^ b
    out[6] = (a + b) ** 2
    return a / b, -a, a == b, not a < b


def assert_same(function, *arguments):
    ours, expected = ([a.copy() if isinstance(a, np.ndarray) else a for a in arguments] for _ in range(2))
    assert jit.lean_kernel(function)(*ours) == function(*expected)
    for found, wanted in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("i", [1, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint16])
def test_elements_are_those_of_python(i, dtype):
    cells = np.arange(12, dtype=dtype).reshape(3, 4)
    assert_same(read_and_write, np.arange(5, dtype=dtype), cells, np.array([True, False, True]), i)


@pytest.mark.parametrize("limits", [(0, 5, 1), (2, 5, 2), (5, 2, -1), (-3, 4, 3), (3, 3, 1), (4, -2, 1), (4, -2, -4)])
def test_ranges_are_those_of_python(limits):
    assert_same(count, *limits, np.zeros(60, np.int64))


@pytest.mark.parametrize("pair", [(7, 3), (-7, 3), (7, -3), (-7, -3), (5, 5)])
def test_operators_are_those_of_python(pair):
    assert_same(arithmetic, *pair, np.zeros(7, np.int64))


def test_a_division_by_zero_is_an_error():
    with pytest.raises(ZeroDivisionError):
        jit.lean_kernel(arithmetic)(1, 0, np.zeros(7, np.int64))


Pair = namedtuple("Pair", "cells factor")


def take_apart(nested, empty, flag, nothing, count):
    cells, (row, strided), pair = nested
    pair.cells[0, 1, 1] = pair.factor
    sizes = cells.shape, row.shape, strided.shape, pair.cells.shape, len(empty)
    return sizes, cells[1, 2], row[-1], strided[1], strided[-1], flag, nothing is None, count


@pytest.mark.parametrize("flag", [True, False])
def test_arguments_are_what_python_gave(flag):
    row, cells = np.arange(8, dtype=np.uint8), np.arange(12, dtype=np.float32).reshape(3, 4)
    found, expected = (Pair(np.zeros((2, 3, 2)), 2.5) for _ in range(2))
    for _ in range(3):
        given = jit.lean_kernel(take_apart)((cells, (row, row[::3]), found), (), flag, None, -7)
        assert given == take_apart((cells, (row, row[::3]), expected), (), flag, None, -7)
    np.testing.assert_array_equal(found.cells, expected.cells)


@jit.inner
def scaled_sum(cells, factor):
    total = np.float64(0)
    for y in range(cells.shape[0]):
        row = cells[y]
        for x in range(len(row)):
            total += row[x] * factor
    return total


@jit.kernel
def through_numba(cells):
    sums = np.cumsum(cells.ravel())
    return scaled_sum(cells, 2.0), sums, np.zeros_like(sums)


@njit
def from_numba(cells):
    return scaled_sum(cells, 3.0) + np.sum(cells)


def test_functions_of_either_way_call_those_of_the_other():
    cells = np.arange(6.0).reshape(2, 3)
    total, sums, zeros = through_numba(cells)
    assert total == 30
    np.testing.assert_array_equal(sums, [0, 1, 3, 6, 10, 15])
    np.testing.assert_array_equal(zeros, np.zeros(6))
    assert from_numba(cells) == 60
    assert from_numba(cells[:, ::1]) == 60


def test_arrays_that_are_not_contiguous_are_read_as_they_lie():
    cells = np.arange(24.0).reshape(4, 6)

    @njit
    def half(array):
        return scaled_sum(array, 1.0)

    assert half(cells[::2, ::3]) == cells[::2, ::3].sum()
    assert half(np.asfortranarray(cells)) == cells.sum()


def test_types_that_become_known_later_can_be_used():
    class Late(types.Type):
        pass

    register_model(Late)(models.OpaqueModel)

    @intrinsic
    def make(_context, number):
        kind = Late("Late")
        return kind(number), lambda context, _builder, _signature, _args: context.get_constant_null(kind)

    def through(n):
        late = make(n)
        for _ in range(n):
            late = make(n)
        return late is None or n

    assert jit.lean_kernel(through)(2) == 2
