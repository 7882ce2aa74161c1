"""What is compiled our way does what Python does, and gets along with what Numba compiles its own way."""

import ast
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

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


def names(values, n, out):
    here = 2 * n
    out[0] = here
    here = values
    for j in range(np.uint64(n)):
        out[j] += here[j]
    for j in range(n):
        here = out if j % 2 else values
        out[j] += here[j] * -j
    total, step = 0, 1
    while total < 20:
        total, step = total + step, total
        step = step if step > 0 else n
    if n > 3:
        late = n
    for i in range(3):
        if i > 0:
            n += late
        late = i
    return here[0], total, step, n, late


@pytest.mark.parametrize("n", [3, 4, 6])
def test_what_is_called_the_same_is_what_was_assigned_last(n):
    assert_same(names, np.arange(6, dtype=np.float32) + 2, n, np.zeros(6, np.float32))


def precisions(n):
    x = np.float32(n)
    y = x * np.float32(0.1)
    if n > 1:
        x = np.float64(n)
    return x * y


def counts(n):
    x = n
    y = x * x
    for _ in range(2):
        x = x + 0.5
    return x, y


@pytest.mark.parametrize(("mixed", "found"), [(precisions, "float32 and float64"), (counts, "int64 and float64")])
def test_a_variable_of_two_kinds_of_numbers_is_refused(mixed, found):
    with pytest.raises(TypeError, match=f"x expects one type of number, got {found}"):
        jit.lean_kernel(mixed)(3)


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


@jit.inner
def thrice_the_sum(cells):
    return scaled_sum(cells, 3.0)


@njit
def from_numba(cells):
    return thrice_the_sum(cells) + np.sum(cells)


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


UNTRIED = """
import sys

import numba

numba.__version__ = "0.999.0"

import numpy as np
import pytest

from eventsnn import jit

assert not jit.OWN_COMPILER
options = ["-q", "-p", "no:xdist", "-p", "no:cacheprovider", "-o", "addopts="]
sys.exit(pytest.main([*options, "-k", sys.argv[2], sys.argv[1]]))
"""


def test_other_versions_of_numba_compile_their_own_way(tmp_path):
    program = [sys.executable, "-c", UNTRIED, __file__, "of_python or error or either_way or contiguous or later"]
    run = subprocess.run(program, env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "skipped" not in run.stdout


@pytest.mark.parametrize("version", ["0.61.2", "0.999.0", "1.0.0", "2.0.0rc1", "0+unknown", "later"])
def test_our_compiler_is_left_alone_where_nobody_tried_it(version):
    assert not jit.is_tried(version)


@pytest.mark.parametrize("version", ["0.62.0", "0.62.1", "0.68.1", "0.68.0rc1"])
def test_our_compiler_is_used_where_it_was_tried(version):
    assert jit.is_tried(version)


KERNELS = {
    "eventsnn/__init__.py": "",
    "eventsnn/scale.py": "from eventsnn.jit import inner\n\n\n@inner\ndef scaled(x):\n    return 2 * x\n",
    "eventsnn/entry.py": "from eventsnn.jit import lean_kernel\nfrom eventsnn.scale import scaled\n\n\n"
    "@lean_kernel\ndef run(x):\n    return scaled(x)\n",
}
RUN = "from eventsnn.entry import run; print(run(3), sum(run.stats.cache_hits.values()))"


@pytest.fixture
def package(tmp_path):
    """Return a function that runs a kernel of a small package with our jit.py, and what it has kept."""
    for name, text in KERNELS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for name in ("jit", "compiling", "lowering", "variables", "building", "unboxing", "calling"):
        source = Path(jit.__file__).with_name(f"{name}.py")
        (tmp_path / "eventsnn" / source.name).write_text(source.read_text())

    def run(*options, program=RUN):
        env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "kept"), "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, *options, "-c", program]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True).stdout.split()

    return run


def test_kept_code_is_used_until_what_it_was_made_of_changes(package, tmp_path):
    assert package() == ["6", "0"]
    assert package("-O") == ["6", "1"]
    for name in ("scale", "calling"):
        before = sorted(tmp_path.rglob("*.nb?"))
        source = tmp_path / "eventsnn" / f"{name}.py"
        source.write_text(source.read_text().replace("2 * x", "5 * x") + "# changed\n")
        assert package() == ["15", "0"]
        after = sorted(tmp_path.rglob("*.nb?"))
        assert len(after) == len(before)
        assert not set(after) & set(before)


def test_kept_code_of_either_compiler_is_not_that_of_the_other(package):
    plain = "import numba; numba.__version__ = '0.999.0'; " + RUN
    assert package() == ["6", "0"]
    assert package(program=plain) == ["6", "0"]
    assert package(program=plain) == ["6", "1"]
    assert package() == ["6", "0"]


def test_all_that_kernels_import_of_the_package_is_found():
    folder = Path(jit.__file__).parent
    for path in folder.rglob("*.py"):
        text = path.read_text()
        if "eventsnn.jit import" not in text:
            continue
        module = ".".join(path.relative_to(folder.parent).with_suffix("").parts)
        _, imported = jit._text(module)
        for node in ast.parse(text).body:
            assert not (isinstance(node, ast.Import) and any(a.name.startswith("eventsnn") for a in node.names)), module
            if isinstance(node, ast.ImportFrom):
                assert not node.level, module
                if (node.module or "").startswith("eventsnn"):
                    assert node.module in imported, module
                    whole = folder.parent.joinpath(*node.module.split("."))
                    assert not any((whole / f"{a.name}.py").exists() for a in node.names), module
