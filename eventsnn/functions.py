"""Functions of a user's own: what they are at a moment, as text, and copies that hold nothing compiled earlier.

What a Python function does follows from its code and from what it takes from outside: closure, defaults, globals,
attributes of these, and the same of the functions that it calls. All of that may change between two calls, so whoever
keeps something that was made of a function keeps :func:`identify` of it, too.
"""

from __future__ import annotations

import builtins
import dis
import enum
import functools
import hashlib
import importlib.util
import inspect
import sysconfig
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, ModuleType
from typing import Any, TypeVar

import numpy as np

_T = TypeVar("_T")

_PLAIN = (type(None), type(...), bool, int, float, complex, str, bytes, enum.Enum)
_NAMED = (type, ModuleType, BuiltinFunctionType, FunctionType, np.ufunc, type(np.argmax))
_CODE = (
    "co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_flags", "co_code", "co_exceptiontable", "co_names",
    "co_varnames", "co_cellvars", "co_freevars",
)  # fmt: skip
_ABSENT = object()


class UnknownError(ValueError):
    """A function takes something from outside that cannot be told from another."""


def identify(function: Callable[..., Any]) -> str:
    """Return a function as text: its name, and a hash of its code and of everything that it takes from outside.

    Numbers, strings, arrays and containers of them count by value; functions by their code and what they take
    themselves; what this package, the standard library or an installed one defines by name. The text is the same in
    every process of one version of Python, which compiles the code.

    Raises
    ------
    UnknownError
        If it takes anything else: a random generator, an open file, an instance of a class of the user's.
    """
    try:
        text = _Writer().text(function)
    except RecursionError:
        raise UnknownError(f"{function!r} takes something from outside that contains itself") from None
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{name} {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def copied(function: Any, make: Callable[[FunctionType], _T]) -> _T:
    """Return ``make`` of a copy of a Python function, in which the functions that it names are made likewise.

    A helper that Numba has compiled holds what it took from outside at that moment; its copy starts from the Python
    function behind it.
    """
    return _copied(function, make, {})


def _copied(function: FunctionType, make: Callable[[FunctionType], _T], known: dict[int, _T]) -> _T:
    code, outside = function.__code__, dict(function.__globals__)
    cells = tuple(CellType() for _ in code.co_freevars)
    copy = FunctionType(code, outside, function.__name__, function.__defaults__, cells)
    copy.__kwdefaults__, copy.__qualname__ = function.__kwdefaults__, function.__qualname__
    made = known[id(function)] = make(copy)  # before its helpers, which may call it

    def own(value: Any) -> Any:
        helper = _of_users(value)
        if helper is None:
            return value
        return known[id(helper)] if id(helper) in known else _copied(helper, make, known)

    for name in {path[0] for path in _reads(code, code.co_freevars)} & set(outside):
        outside[name] = own(outside[name])
    for cell, original in zip(cells, function.__closure__ or (), strict=True):
        if (value := _content(original)) is not _ABSENT:
            cell.cell_contents = own(value)
    return made


class _Writer:
    """Writes values as text; a function that comes again, as in a recursion, counts by its number."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}

    def text(self, value: Any) -> str:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        if isinstance(value, _PLAIN):
            return f"{kind}:{value!r}"
        if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
            return f"{kind}:{value.dtype!r}{value.shape}{hashlib.sha256(value.tobytes()).hexdigest()}"
        if isinstance(value, CodeType):
            return repr([getattr(value, name) for name in _CODE]) + self.text(value.co_consts)
        if (function := _of_users(value)) is not None:
            return self._function(function)
        if isinstance(value, _NAMED) and _has_name(value):
            return f"{kind}:{getattr(value, '__module__', '')}.{value.__name__}"
        return f"{kind}({', '.join(self._parts(value))})"

    def _parts(self, value: Any) -> Iterable[str]:
        """Return what a value consists of as text, in an order that does not change."""
        if type(value) in (dict, set, frozenset):
            return sorted(map(self.text, value.items() if isinstance(value, dict) else value))
        if isinstance(value, tuple | list):
            return map(self.text, value)
        if is_dataclass(value) and not isinstance(value, type) and _is_library(type(value).__module__):
            return [f"{field.name}={self.text(getattr(value, field.name))}" for field in fields(value)]
        if isinstance(value, functools.partial):
            return map(self.text, (value.func, value.args, value.keywords))
        if inspect.ismethod(value):
            return map(self.text, (value.__func__, value.__self__))
        raise UnknownError(repr(value))

    def _function(self, function: FunctionType) -> str:
        if id(function) in self._seen:
            return f"function {self._seen[id(function)]}"
        self._seen[id(function)] = len(self._seen)
        defaults = self.text((function.__defaults__, function.__kwdefaults__))
        return "\n".join([self.text(function.__code__), defaults, *self._outside(function)])

    def _outside(self, function: FunctionType) -> Iterator[str]:
        """Yield what a function takes from outside, name by name."""
        code, where = function.__code__, vars(builtins) | function.__globals__
        where |= {n: _content(c) for n, c in zip(code.co_freevars, function.__closure__ or (), strict=True)}
        for path in sorted(_reads(code, code.co_freevars)):
            name, *attributes = path
            try:
                yield f"{'.'.join(path)} = {self._reached(where.get(name, _ABSENT), attributes)}"
            except UnknownError as error:
                raise UnknownError(f"{function.__name__} takes {'.'.join(path)} from outside, {error}") from None
        for name in _imports(code):
            if not _is_library(name):
                raise UnknownError(f"{function.__name__} imports {name!r}")

    def _reached(self, value: Any, attributes: list[str]) -> str:
        """Return the text of the first value on the way along attributes that has one; modules are only a way."""
        if value is _ABSENT:
            return "absent"
        seen = dict(self._seen)
        try:
            if not attributes or not isinstance(value, ModuleType):
                return self.text(value)
        except UnknownError:
            if not attributes:
                raise
        self._seen = seen
        return self._reached(getattr(value, attributes[0], _ABSENT), attributes[1:])


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that has no value yet
        return _ABSENT


def _of_users(value: Any) -> FunctionType | None:
    """Return a Python function, the one behind it if Numba has compiled it; None if it is not the user's, or none."""
    function = value if isinstance(value, FunctionType | ModuleType | type) else getattr(value, "py_func", None)
    return function if isinstance(function, FunctionType) and not _is_library(function.__module__ or "") else None


def _has_name(value: Any) -> bool:
    """Tell whether a name says all: it is a library's, and not a method of some object, as ``random.random`` is."""
    if not isinstance(getattr(value, "__self__", None), ModuleType | None):
        return False
    if isinstance(value, np.ufunc):  # anybody can make one, without a module
        return getattr(np, value.__name__, None) is value
    return _is_library(value.__name__ if isinstance(value, ModuleType) else value.__module__ or "")


@functools.cache
def _is_library(module: str) -> bool:
    """Tell whether a module, by name, is of this package, the standard library or an installed one."""
    if module == "__main__":  # the file of that one may be an installed launcher's
        return False
    top = module.partition(".")[0]
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # no name, of a relative import, or a module without origin
        return False
    origin = "" if spec is None or spec.origin is None else spec.origin
    paths = sysconfig.get_paths()
    folders = (Path(paths[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    own = top == __package__ or origin in ("built-in", "frozen")
    return own or any(Path(origin).is_relative_to(folder) for folder in folders)


def _reads(code: CodeType, free: Collection[str]) -> set[tuple[str, ...]]:
    """Return the names that code, and functions inside it, take from outside, each with the attributes taken of it."""
    found: set[tuple[str, ...]] = set()
    path: tuple[str, ...] = ()
    for step in dis.get_instructions(code):
        if path and step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            path = (*path, step.argval)
        elif step.opname != "EXTENDED_ARG":
            found.add(path)
            outer = step.opname in ("LOAD_GLOBAL", "LOAD_NAME") or ("DEREF" in step.opname and step.argval in free)
            path = (step.argval,) if outer else ()
    return (found | {path}).union(*(_reads(inner, free) for inner in _inside(code))) - {()}


def _imports(code: CodeType) -> set[str]:
    """Return the modules that code and the functions inside it import."""
    own = {step.argval for step in dis.get_instructions(code) if step.opname == "IMPORT_NAME"}
    return own.union(*map(_imports, _inside(code)))


def _inside(code: CodeType) -> list[CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, CodeType)]
