"""A user's own rule on a GPU: the Python function, read from its source, as CUDA C++ in double precision.

Understood is what such rules consist of: numbers, arithmetic, comparisons, ``and``, ``or``, ``not``, conditional
expressions, ``if`` statements, assignments, ``min``, ``max``, ``abs``, ``math`` and its like in NumPy, Python helpers,
and constants from outside (globals, closures, attributes, entries of arrays), which are taken as they are now. All
values are doubles, as on the CPU; a truth value is 1 or 0.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import linecache
import math
from collections.abc import Iterator
from functools import lru_cache, reduce
from types import CodeType, FunctionType
from typing import Any, cast

import numpy as np

from eventsnn.backends.device import Device, source
from eventsnn.backends.updates import RuleFunction, asks_for

_ARITHMETIC = {ast.Add: "({} + {})", ast.Sub: "({} - {})", ast.Mult: "({} * {})", ast.Div: "divided({}, {}, wrong)",
               ast.FloorDiv: "floor_divided({}, {}, wrong)", ast.Mod: "modulo({}, {}, wrong)",
               ast.Pow: "power({}, {}, wrong)"}  # fmt: skip
_COMPARISONS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
_UNARY = {ast.UAdd: "({})", ast.USub: "(-{})", ast.Not: "(double)({} == 0)"}
#: functions of one or two doubles that are called alike in ``math`` and in C
_SAME = (
    "exp", "expm1", "log", "log10", "log1p", "log2", "sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "atan2",
    "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "fabs", "floor", "ceil", "trunc", "fmod", "hypot", "copysign",
    "erf", "erfc",
)  # fmt: skip
_CALLS: dict[Any, str] = {getattr(math, name): f"{name}({{}})" for name in _SAME} | {
    math.pow: "power({}, wrong)",
    math.isnan: "(double)isnan({})",
    math.isinf: "(double)isinf({})",
    math.isfinite: "(double)isfinite({})",
    abs: "fabs({})",
    pow: "power({}, wrong)",
    float: "(double)({})",
    int: "trunc({})",
    bool: "(double)(({}) != 0)",
    np.exp: "exp({})",
    np.log: "log({})",
    np.sqrt: "sqrt({})",
    np.tanh: "tanh({})",
    np.sin: "sin({})",
    np.cos: "cos({})",
    np.abs: "fabs({})",
    np.float64: "(double)({})",
    np.float32: "(double)(float)({})",
}
_ARGUMENTS = {"atan2": 2, "fmod": 2, "hypot": 2, "copysign": 2, "pow": 2}
_LEAST = {min: "least", max: "greatest"}
_ABSENT = object()


def with_rule(device: Device, function: RuleFunction) -> Device:
    """Return the device with kernels that hold a user's rule; what it takes from outside is taken as it is now.

    Raises
    ------
    TypeError
        If the rule uses what has no translation; it says what, and in which line.
    """
    # The text holds all that the rule takes from outside, so it is its own key.
    return _compiled(device, with_own(source(("kernels.cu", "learn.cu")), function))


@lru_cache(maxsize=64)
def _compiled(device: Device, text: str) -> Device:
    return device.with_source(text)


def with_own(kernels: str, function: RuleFunction) -> str:
    """Return the text of all kernels with that of a user's rule."""
    return f"{translated(function)}\n{kernels}"


def translated(function: RuleFunction) -> str:
    """Return a user's rule as CUDA C++: ``own_rule(w, dt, potential, reward, wrong)`` and all that it calls.

    Raises
    ------
    TypeError
        If the rule uses what has no translation; it says what, and in which line.
    """
    names, program = asks_for(function), _Program()
    call = program.called(cast(FunctionType, function))
    given = ", ".join(["w", "dt", *names, "wrong"])
    return "\n".join(
        [
            source(("own.cu",)),
            *program.declared,
            *program.texts,
            "__device__ double own_rule(double w, double dt, double potential, double reward, bool *wrong) {",
            f"    return {call}({given});",
            "}",
        ]
    )


class _Program:
    """The functions that a rule consists of, each translated once."""

    def __init__(self) -> None:
        self.declared: list[str] = []
        self.texts: list[str] = []
        self._names: dict[int, str] = {}
        self._open: set[int] = set()

    def called(self, function: FunctionType) -> str:
        """Return the name of the translation of a Python function; raise ValueError if it calls itself."""
        if id(function) in self._open:
            raise ValueError(f"{function.__name__} calls itself")
        if id(function) not in self._names:
            name = self._names[id(function)] = f"own_{len(self._names)}"
            self._open.add(id(function))
            head, body = _Function(function, self).text(name)
            self._open.remove(id(function))
            self.declared.append(f"{head};")
            self.texts.append(f"{head} {{\n{body}\n}}")
        return self._names[id(function)]


class _Function:
    """One Python function as text."""

    def __init__(self, function: FunctionType, program: _Program) -> None:
        self._function, self._program, self._node = function, program, _parsed(function)
        arguments = self._node.args
        if arguments.vararg or arguments.kwarg:
            raise self._refused(self._node, "*args and **kwargs")
        self._arguments = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        body = ast.walk(self._node)
        self._locals = sorted({n.id for n in body if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)})

    def text(self, name: str) -> tuple[str, str]:
        """Return head and body in C++."""
        arguments = "".join(f"double {_own(a)}, " for a in self._arguments)
        fresh = [n for n in self._locals if n not in self._arguments]
        lines = [f'    double {_own(n)} = nan("");' for n in fresh]
        if isinstance(self._node, ast.Lambda):
            lines.append(f"    return {self._value(self._node.body)};")
        else:
            lines += self._block(self._node.body, "    ")
            if not isinstance(self._node.body[-1], ast.Return):
                lines += ["    *wrong = true;  // it ended without a return", "    return 0;"]
        return f"__device__ double {name}({arguments}bool *wrong)", "\n".join(lines)

    # Statements

    def _block(self, body: list[ast.stmt], indent: str) -> list[str]:
        return [line for statement in body for line in self._statement(statement, indent)]

    def _statement(self, node: ast.stmt, indent: str) -> list[str]:
        match node:
            case ast.Return(value=ast.expr() as value):
                return [f"{indent}return {self._value(value)};"]
            case ast.Assign(value=value, targets=targets) if all(isinstance(t, ast.Name) for t in targets):
                names = " = ".join(_own(t.id) for t in targets if isinstance(t, ast.Name))
                return [f"{indent}{names} = {self._value(value)};"]
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                return [f"{indent}{_own(name)} = {self._value(value)};"]
            case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
                return [f"{indent}{_own(name)} = {self._binary(node, op, _own(name), self._value(value))};"]
            case ast.If(test=test, body=body, orelse=orelse):
                lines = [f"{indent}if ({self._truth(test)}) {{", *self._block(body, indent + "    ")]
                return [*lines, f"{indent}}} else {{", *self._block(orelse, indent + "    "), f"{indent}}}"]
            case ast.Pass() | ast.Expr(value=ast.Constant()):
                return []
        raise self._refused(node, type(node).__name__)

    # Expressions

    def _truth(self, node: ast.expr) -> str:
        return f"({self._value(node)}) != 0"

    def _value(self, node: ast.expr) -> str:
        """Return an expression in C++, a double."""
        if (known := self._known(node)) is not _ABSENT:
            return self._number(node, known)
        match node:
            case ast.Name(id=name) if name in self._arguments or name in self._locals:
                return _own(name)
            case ast.BinOp(left=left, op=op, right=right):
                return self._binary(node, op, self._value(left), self._value(right))
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
                return _UNARY[type(op)].format(self._value(operand))
            case ast.BoolOp(op=op, values=values):
                return self._either(isinstance(op, ast.And), [self._value(v) for v in values])
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return f"({self._truth(test)} ? {self._value(body)} : {self._value(orelse)})"
            case ast.Compare():
                return self._comparison(node)
            case ast.Call():
                return self._call(node)
        raise self._refused(node, f"{type(node).__name__} `{ast.unparse(node)}`")

    def _binary(self, node: ast.AST, op: ast.operator, left: str, right: str) -> str:
        if type(op) not in _ARITHMETIC:
            raise self._refused(node, f"the operator {type(op).__name__}")
        if isinstance(op, ast.Pow) and right == "2.0":  # as Numba has it, which differs from pow in the last place
            return f"squared({left})"
        return _ARITHMETIC[type(op)].format(left, right)

    def _either(self, both: bool, values: list[str]) -> str:
        """Return `and` or `or`, whose value is that of the operand that decides."""
        first, *rest = values
        if not rest:
            return first
        later = self._either(both, rest)
        return f"({first} != 0 ? {later} : {first})" if both else f"({first} != 0 ? {first} : {later})"

    def _comparison(self, node: ast.Compare) -> str:
        operands, parts = [self._value(n) for n in (node.left, *node.comparators)], []
        for op, left, right in zip(node.ops, operands, operands[1:], strict=False):
            if type(op) not in _COMPARISONS:
                raise self._refused(node, f"the comparison {type(op).__name__}")
            parts.append(f"{left} {_COMPARISONS[type(op)]} {right}")
        return f"(double)({' && '.join(parts)})"

    def _call(self, node: ast.Call) -> str:
        called = self._known(node.func)
        if called is _ABSENT:
            raise self._refused(node, f"the call `{ast.unparse(node)}`")
        helper = called if isinstance(called, FunctionType) else getattr(called, "py_func", None)
        if isinstance(helper, FunctionType):
            return self._helper(node, helper)
        if node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
            raise self._refused(node, f"the call `{ast.unparse(node)}`")
        given = [self._value(a) for a in node.args]
        if (called is min or called is max) and len(given) > 1:
            return reduce(lambda first, other: f"{_LEAST[called]}({first}, {other})", given)
        wanted = _ARGUMENTS.get(getattr(called, "__name__", ""), 1)
        if not _is_hashable(called) or called not in _CALLS or len(given) != wanted:
            raise self._refused(node, f"the call `{ast.unparse(node)}`")
        return _CALLS[called].format(", ".join(given))

    def _helper(self, node: ast.Call, helper: FunctionType) -> str:
        """Return the call of a Python function, its defaults filled in."""
        try:
            bound = inspect.signature(helper).bind(*node.args, **{str(k.arg): k.value for k in node.keywords})
        except TypeError as error:
            raise self._refused(node, f"the call `{ast.unparse(node)}` ({error})") from None
        bound.apply_defaults()
        given = [self._value(v) if isinstance(v, ast.expr) else self._number(node, v) for v in bound.arguments.values()]
        try:
            name = self._program.called(helper)
        except ValueError as error:
            raise self._refused(node, str(error)) from None
        return f"{name}({', '.join([*given, 'wrong'])})"

    # What comes from outside

    def _known(self, node: ast.expr) -> Any:
        """Return the value of an expression of what comes from outside, or _ABSENT."""
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name) if name not in self._arguments and name not in self._locals:
                return self._outside(node, name)
            case ast.Attribute(value=value, attr=attr):
                owner = self._known(value)
                return _ABSENT if owner is _ABSENT else getattr(owner, attr, _ABSENT)
            case ast.Subscript(value=value, slice=index):
                return self._entry(node, self._known(value), self._known(index))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                number = self._known(operand)
                return -number if _is_number(number) else _ABSENT
            case ast.Tuple(elts=parts):
                values = [self._known(p) for p in parts]
                return _ABSENT if any(v is _ABSENT for v in values) else tuple(values)
        return _ABSENT

    def _entry(self, node: ast.expr, owner: Any, index: Any) -> Any:
        if owner is _ABSENT or index is _ABSENT:
            return _ABSENT
        try:
            return owner[index]
        except (LookupError, TypeError) as error:
            raise self._refused(node, f"`{ast.unparse(node)}` ({error})") from None

    def _outside(self, node: ast.expr, name: str) -> Any:
        function = self._function
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        if name in cells:
            return cells[name].cell_contents
        if name in function.__globals__:
            return function.__globals__[name]
        if hasattr(builtins, name):
            return getattr(builtins, name)
        raise self._refused(node, f"the name {name!r}, which is not defined")

    def _number(self, node: ast.AST, value: Any) -> str:
        if not _is_number(value):
            what = ast.unparse(node) if isinstance(node, ast.expr) else repr(value)
            raise self._refused(node, f"`{what}`, of type {type(value).__name__},")
        return _literal(float(value))

    def _refused(self, node: Any, what: str) -> TypeError:
        code = self._function.__code__
        return TypeError(
            f"the rule cannot be translated for the GPU: {what} in {self._function.__name__}, line {node.lineno} of "
            f"{code.co_filename}; it may use arithmetic, comparisons, if, assignments, min, max, abs, math, and "
            "helpers that do so"
        )


def _own(name: str) -> str:
    return f"v_{name}"


def _is_number(value: Any) -> bool:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return value.dtype.kind in "biuf"
    return isinstance(value, bool | int | float | np.bool_ | np.integer | np.floating)


def _is_hashable(value: Any) -> bool:
    return getattr(type(value), "__hash__", None) is not None


def _literal(value: float) -> str:
    if math.isnan(value):
        return 'nan("")'
    if math.isinf(value):
        return "(1e308 * 10)" if value > 0 else "(-1e308 * 10)"
    text = repr(value)  # which reads back as the same double
    text = text if any(c in text for c in ".e") else text + ".0"
    return f"({text})" if value < 0 or text.startswith("-") else text


def _parsed(function: FunctionType) -> ast.FunctionDef | ast.Lambda:
    """Return a function's syntax tree, from the file that it was read from.

    Raises
    ------
    TypeError
        If there is no such file, or it holds another text by now.
    """
    code = function.__code__
    linecache.checkcache(code.co_filename)
    text = "".join(linecache.getlines(code.co_filename, function.__globals__))
    for node in _functions(text, code):
        return node
    raise TypeError(
        f"the rule cannot be translated for the GPU: the source of {function.__name__} (line {code.co_firstlineno} of "
        f"{code.co_filename}) cannot be read, or is not what it was; define it in a file"
    )


def _functions(text: str, code: CodeType) -> Iterator[ast.FunctionDef | ast.Lambda]:
    """Yield the functions of a text whose code this is, the innermost first."""
    tree, codes = _read(text)
    if (code.co_firstlineno, code.co_code, code.co_names) not in codes:
        return
    lines = [
        p for p in code.co_positions() if p[2] or p[3]
    ]  # those of instructions that stand for no text are 0 or None
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.Lambda) or isinstance(node, ast.Lambda) != (
            code.co_name == "<lambda>"
        ):
            continue
        begin, end = (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)
        if all(begin <= (p[0] or 0, p[2] or 0) and (p[1] or 0, p[3] or 0) <= end for p in lines):
            found.append((begin, node))
    yield from (node for _, node in sorted(found, key=lambda pair: pair[0], reverse=True))


@lru_cache(maxsize=16)
def _read(text: str) -> tuple[ast.Module, set[tuple[Any, ...]]]:
    """Return the syntax tree of a text, and what tells the functions in it apart; nothing of one that is no program."""
    try:
        tree = ast.parse(text)
        module = compile(text, "", "exec", dont_inherit=True)
    except SyntaxError:
        return ast.Module([], []), set()
    return tree, {(code.co_firstlineno, code.co_code, code.co_names) for code in _codes(module)}


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
