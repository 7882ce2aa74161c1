"""Rules of one's own as CUDA C++, compiled as C++ and compared with Python; what has no translation."""

import ctypes
import math
import subprocess
from itertools import product

import hostcuda
import numpy as np
import pytest
import strategies

from eventsnn.backends import cuda_rules
from eventsnn.backends.updates import asks_for, with_all_arguments

pytestmark = pytest.mark.skipif(hostcuda.COMPILER is None, reason="no C++ compiler here; CXX may name one")
CALLED = """
extern "C" int call(const double *asked, double *value) {
    bool wrong = false;
    *value = own_rule(asked[0], asked[1], asked[2], asked[3], &wrong);
    return wrong;
}
"""
RATE = 0.125
TABLE = np.array([0.125])
WEIGHTS, TIMES, POTENTIALS = (0.5, 0.1, -0.3), (1.0, 0.0, -2.0, 7.0, -math.inf), (1.5, 30.25)


@pytest.fixture
def translated(tmp_path):
    """Return a function that translates and compiles a rule: ``(w, dt, potential, reward) -> (value, wrong)``."""

    def make(function):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        program, library = folder / "rule.cpp", folder / "rule.so"
        program.write_text(f"#include <math.h>\n#define __device__\n{cuda_rules.translated(function)}\n{CALLED}")
        subprocess.run([hostcuda.COMPILER, *hostcuda.FLAGS, "-O0", str(program), "-o", str(library)], check=True)
        call = ctypes.CDLL(str(library)).call

        def run(*asked):
            value = ctypes.c_double()
            wrong = call((ctypes.c_double * 4)(*asked), ctypes.byref(value))
            return value.value, bool(wrong)

        return run

    return make


def outcomes(function, run, exactly=True):
    """Compare a rule with its translation for all kinds of arguments; return what came out."""
    usual, found = with_all_arguments(function, asks_for(function)), []
    for asked in product(WEIGHTS, TIMES, POTENTIALS, (1.0, -1.0)):
        value, wrong = run(*asked)
        try:
            expected = usual(*asked)
        except ZeroDivisionError:
            assert wrong
            continue
        assert not wrong
        assert value == (expected if exactly else pytest.approx(expected, rel=1e-14)), asked
        found.append(value)
    return found


def helped(x, scale=2, *, power=1.0):
    if x > 100:
        return 1
    return half(x) * scale * power


half = lambda x: x / 2  # noqa: E731


def with_everything(w, dt, reward, potential):
    """Use every statement, and most expressions."""
    steps: float = 3
    gain = other = 1 / (1 + abs(dt)) if not (dt < -1 or w > 3) else 0.25
    if 0 <= dt < 1 and w:
        gain += 2 // 3 - -7 % 3
    elif dt == -math.inf:
        pass
    else:
        other *= -(potential**2)
    steps -= RATE + TABLE[0] * np.float64(2.0)
    chosen = max(min(w, gain, 0.75), -other) or 5
    return chosen + helped(steps, power=reward) / 8 + (dt > 0) - (math.sqrt(4) + math.floor(-1.5) == 0)


def with_division(w, dt, potential, reward):
    return (potential / dt + potential // (w - 0.5) + w % dt) if dt < 5 else w


@pytest.mark.parametrize("function", [with_everything, with_division, *strategies.FUNCTIONS])
def test_arithmetic_equals_python_to_the_bit(function, translated):
    assert len(set(outcomes(function, translated(function)))) > 5


RULES = [
    lambda w, dt: math.exp(max(dt, -20)) + np.tanh(w) + math.log1p(w),
    lambda w, dt: math.atan2(w, 2) ** 3 + math.pow(abs(w), 0.5),
    lambda w, dt, potential: np.exp(-potential) * float(np.float32(w)) + int(w * 10) + bool(dt),
]


@pytest.mark.parametrize("number", range(len(RULES)))
def test_mathematical_functions_equal_python_to_the_last_place(number, translated):
    outcomes(RULES[number], translated(RULES[number]), exactly=False)


def half_returned(w, dt):  # noqa: RET503
    if dt > 0:
        return w
    w += dt


def test_a_way_without_a_return_is_wrong(translated):
    run = translated(half_returned)
    assert run(0.5, 1, 0, 0) == (0.5, False)
    assert run(0.5, -1, 0, 0)[1]


def test_what_a_rule_takes_from_outside_is_taken_as_it_is_now():
    texts = []
    for rate in (0.125, 0.25, 0.125):

        def rule(w, dt, rate=rate):
            return w + rate

        def taking(w, dt):
            return rule(w, dt)

        texts.append(cuda_rules.translated(taking))
    assert "0.125" in texts[0]
    assert texts[0] == texts[2] != texts[1]


def recursive(w, dt):
    return recursive(w, dt)


def with_a_loop(w, dt):
    for _ in range(3):
        w = w + 1
    return w


def with_many(w, dt):
    return len(*w)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (with_a_loop, r"For in with_a_loop, line \d+ of .*test_cuda_rules\.py; it may use arithmetic"),
        (recursive, "recursive calls itself in recursive, line"),
        (with_many, r"the call `len\(\*w\)`"),
        (lambda w, dt: [w][0], r"Subscript `\[w\]\[0\]` in <lambda>"),
        (lambda w, dt: print(w), r"the call `print\(w\)`"),
        (lambda w, dt: math.exp(w, 1), r"the call `math.exp\(w, 1\)`"),
        (lambda w, dt: helped(w, 1, 2), r"the call `helped\(w, 1, 2\)` \(too many positional"),
        (lambda w, dt: w @ dt, "the operator MatMult"),
        (lambda w, dt: w in dt, "the comparison In"),
        (lambda w, dt: w + "1", r"`'1'`, of type str,"),
        (lambda w, dt: w + TABLE, "`TABLE`, of type ndarray,"),
        (lambda w, dt: w + TABLE[3], r"`TABLE\[3\]` \(index 3 is out of bounds"),
        (lambda w, dt: w + absent, "the name 'absent', which is not defined"),  # noqa: F821
        (lambda w, dt: w + math.absent, "Attribute `math.absent`"),
    ],
)
def test_what_has_no_translation_is_refused_by_name(function, message):
    with pytest.raises(TypeError, match="the rule cannot be translated for the GPU: " + message):
        cuda_rules.translated(function)


def test_a_rule_without_source_is_refused():
    names = {}
    exec("def rule(w, dt): return w", names)
    with pytest.raises(TypeError, match=r"the source of rule .* cannot be read"):
        cuda_rules.translated(names["rule"])


def test_a_rule_whose_file_was_changed_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "changing_rules.py"
    path.write_text("def rule(w, dt):\n    return w + 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    from changing_rules import rule

    assert "1.0" in cuda_rules.translated(rule)
    path.write_text("# a line more\ndef rule(w, dt):\n    return w + 2\n")
    with pytest.raises(TypeError, match="is not what it was"):
        cuda_rules.translated(rule)
