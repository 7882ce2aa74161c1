"""Functions of a user's own: what makes two of them the same, and copies that hold nothing compiled earlier."""

import functools
import os
import random
import subprocess
import sys
from enum import Enum
from types import ModuleType, SimpleNamespace

import numba
import numpy as np
import pytest

from eventsnn.events import Events
from eventsnn.functions import UnknownError, copied, identify


def made(source, **outside):
    """Return the function ``f`` of a program that finds these names outside."""
    exec(source, outside)
    return outside["f"]


def module(**values):
    found = ModuleType("settings_of_the_user")
    vars(found).update(values)
    return found


def within(value):
    return lambda w: w + value


def with_default(value):
    def f(w, a=value):
        return w + a

    return f


def with_keyword(value):
    def f(w, *, a=value):
        return w + a

    return f


def within_a_class(value):
    class Settings:
        rate = value

    return lambda w: w + Settings.rate


def helped(value, wrap=lambda f: f):
    helper = made("def f(w): return w + A", A=value)
    return made("def f(w): return helper(w)", helper=wrap(helper))


def recursive(value):
    def f(w):
        return w if w > value else f(w + 1)

    return f


def event(value):
    return Events.from_columns([value], [0], [0], [0], shape=(1, 1, 1), duration=9)


class Colour(Enum):
    RED = 1
    BLUE = 2


USE_A, USE_M = "def f(w): return w + A", "def f(w): return w + m.inner.a"
PAIRS = {
    "constant": (made("def f(w): return w + 1"), made("def f(w): return w + 2")),
    "type of a constant": (made("def f(w): return 1"), made("def f(w): return 1.0")),
    "sign of zero": (made(USE_A, A=0.0), made(USE_A, A=-0.0)),
    "operation": (made("def f(w): return w + w"), made("def f(w): return w * w")),
    "other name": (made("def f(w): return A"), made("def f(w): return B")),
    "global": (made(USE_A, A=1.0), made(USE_A, A=2.0)),
    "absent": (made(USE_A), made(USE_A, A=2.0)),
    "builtin replaced": (made("def f(w): return abs(w)"), made("def f(w): return abs(w)", abs=float)),
    "array": (made(USE_A, A=np.array([1, 2])), made(USE_A, A=np.array([1, 3]))),
    "dtype": (made(USE_A, A=np.zeros(2, np.int32)), made(USE_A, A=np.zeros(2, np.float32))),
    "shape": (made(USE_A, A=np.zeros((2, 1))), made(USE_A, A=np.zeros((1, 2)))),
    "item": (made(USE_A, A={"a": [1, (2, 3)]}), made(USE_A, A={"a": [1, (2, 4)]})),
    "set": (made(USE_A, A={1, 2}), made(USE_A, A={1, 3})),
    "enumeration": (made(USE_A, A=Colour.RED), made(USE_A, A=Colour.BLUE)),
    "attribute": (made(USE_M, m=module(inner=module(a=1))), made(USE_M, m=module(inner=module(a=2)))),
    "attribute of an object": tuple(made(USE_M, m=SimpleNamespace(inner=SimpleNamespace(a=a))) for a in (1, 2)),
    "attribute of a class": (within_a_class(1), within_a_class(2)),
    "attribute absent": (made(USE_M, m=module(inner=module())), made(USE_M, m=module(inner=module(a=2)))),
    "closure": (within(1), within(2)),
    "default": (with_default(1), with_default(2)),
    "keyword's default": (with_keyword(1), with_keyword(2)),
    "recursion": (recursive(1), recursive(2)),
    "helper": (helped(1), helped(2)),
    "compiled helper": (helped(1, numba.njit), helped(2, numba.njit)),
    "helper of a module": tuple(
        made("def f(w): return m.soft(w)", m=module(soft=made(USE_A, A=a))) for a in (1, 2)
    ),
    "inner function": tuple(made("def f(w): return (lambda: w + A)()", A=a) for a in (1, 2)),
    "inner comprehension": tuple(made("def f(w): return [A for _ in w]", A=a) for a in (1, 2)),
    "arguments given": (functools.partial(max, 1), functools.partial(max, 2)),
    "events": (within(event(1)), within(event(2))),
    "library function": (made(USE_A, A=np.argmax), made(USE_A, A=np.argmin)),
    "universal function": (made(USE_A, A=np.exp), made(USE_A, A=np.log)),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_functions_that_differ_are_told_apart(name):
    first, second = PAIRS[name]
    assert identify(first) != identify(second)
    assert identify(first) == identify(first)


def test_equal_functions_are_equal():
    for make in (within, with_default, with_keyword, within_a_class, helped, recursive):
        assert identify(make(0.5)) == identify(make(0.5))
    assert identify(made("\n\ndef f(w): # another place\n    return w + 1")) == identify(made("def f(w): return w + 1"))
    assert identify(helped(1)) == identify(helped(1, numba.njit))
    assert identify(within(np.arange(3))).startswith("within.<locals>.<lambda> ")


def test_what_a_function_does_not_use_does_not_count():
    assert identify(made(USE_A, A=1, B=1)) == identify(made(USE_A, A=1, B=object()))
    first, second = (made(USE_M, m=module(inner=module(a=1, b=b))) for b in (1, 2))
    assert identify(first) == identify(second)
    shadowed = "def f(w):\n    def g():\n        A = w\n        return lambda: A\n    return g()()"
    assert identify(made(shadowed, A=1)) == identify(made(shadowed, A=object()))


PROGRAM = """
from eventsnn.functions import identify
import numpy as np
A, S = {"x": np.arange(5.0)}, {"a", "b", "c", "d"}
def helper(w): return f(w) if w in {"e", "g", "h"} else np.exp(A["x"])
def f(w, k=frozenset("xyz")): return helper(w) + (w in S)
print(identify(f))
"""


def test_the_text_is_the_same_in_every_process():
    found = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "123"
    }
    assert len(found) == 1


class Own:
    def method(self, w):
        return w


def containing_itself():
    items = []
    items.append(items)
    return items


UNKNOWN = {
    "f takes A from outside, Generator": made(USE_A, A=np.random.default_rng(0)),
    "f takes A from outside, <.*Own object": made(USE_A, A=Own()),
    "f takes A from outside, <class .*Own": made(USE_A, A=Own),
    "f takes A from outside, <cyfunction Generator.random": made(USE_A, A=np.random.default_rng(0).random),
    r"f takes m\.random\.random from outside": made("def f(w): return m.random.random()", m=np),
    r"f takes m\.random from outside": made("def f(w): return m.random()", m=random),
    "f takes A from outside, <module 'settings_of_the_user'>": made(USE_A, A=module()),
    "f takes A from outside, array": made(USE_A, A=np.array([None])),
    "f takes g from outside, g takes A from outside, Generator": made(
        "def f(w): return g(w)\ndef g(w): return A", A=np.random.default_rng(0)
    ),
    "f imports 'settings_of_the_user'": made("def f(w):\n    import settings_of_the_user as s\n    return s.a"),
    "f imports ''": made("def f(w):\n    from . import s\n    return s.a"),
    "contains itself": made(USE_A, A=containing_itself()),
    "Own object": Own().method,
    "functools._lru_cache_wrapper": functools.lru_cache(within(1)),
}


@pytest.mark.parametrize("message", UNKNOWN)
def test_what_cannot_be_told_apart_is_refused(message):
    with pytest.raises(UnknownError, match=message):
        identify(UNKNOWN[message])


def test_a_notebook_is_not_a_library(monkeypatch):
    # There the module __main__ is a launcher in site-packages.
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", numba.__spec__)
    functions = [made(USE_A, A=a, __name__="__main__") for a in (1, 2)]
    assert identify(functions[0]) != identify(functions[1])


def test_a_copy_does_the_same_and_its_helpers_are_made_anew():
    compiled = numba.njit(made(USE_A, A=1.0))
    f = made("def f(w, *, k=2): return helper(w) * k", helper=compiled)
    assert f(1) == 4
    compiled.py_func.__globals__["A"] = 2.0
    assert f(1) == 4  # Numba keeps what it compiled
    names = []
    copy = copied(f, lambda function: names.append(function.__name__) or function)
    assert copy(1) == 6
    assert names == ["f", "f"]
    assert f.__globals__["helper"] is compiled


def test_copies_of_functions_that_call_each_other():
    source = "def f(w): return w if w > 5 else g(w + A)\ndef g(w): return f(w)"
    f = made(source, A=3)
    copy = copied(f, lambda function: function)
    f.__globals__["A"] = 100
    assert copy(0) == 6
    assert copied(recursive(4), lambda function: function)(0) == 5
    unset = made("def outer():\n    def f(w): return later if w else 7\n    return f\n    later = 1\nf = outer()")
    assert copied(unset, lambda function: function)(0) == 7
