"""No function of NumPy is called on what lies on the device, read from the source."""

import ast
from pathlib import Path

import pytest

import eventsnn.backends

ROOM = Path(eventsnn.backends.__file__).parent
LAUNCHERS = sorted(p for p in ROOM.glob("*.py") if "device import" in p.read_text(encoding="utf-8"))
# Attributes that are arrays of the device wherever they are found in a launcher.
COLUMNS = {"time", "channel", "y", "x", "offsets", "potential", "labels", "rank", "rows", "starts", "decay"}
ARGUMENTS = {"values", "when", "fired", "potential", "rank"}  # parameters that are
DESCRIPTIONS = {"shape", "size", "dtype", "nbytes"}  # of an array, known on the host
CROSSINGS = {"asnumpy", "last", "len", "int", "structure"}  # what comes out of these is the host's


def called(node):
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def of_xp(node):
    """Tell whether a call is of the device's array module, ``xp.f()`` or ``self.xp.f()``."""
    owner = node.func.value if isinstance(node.func, ast.Attribute) else None
    return getattr(owner, "attr", getattr(owner, "id", None)) in ("xp", "_xp")


def on_device(node, names):
    """Tell whether an expression is, or holds, an array of the device."""
    if isinstance(node, ast.Call):
        if called(node) in CROSSINGS:
            return False
        if of_xp(node):
            return True
    if isinstance(node, ast.Attribute) and node.attr in COLUMNS | DESCRIPTIONS:
        return node.attr in COLUMNS
    if isinstance(node, ast.Name) and node.id in names:
        return True
    return any(on_device(child, names) for child in ast.iter_child_nodes(node))


def bound(target):
    return {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}


def pairs(assignment):
    """Return targets and values of an assignment, one by one where there are several of both."""
    target, value = assignment.targets[0], assignment.value
    several = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
    return list(zip(target.elts, value.elts, strict=True)) if several else [(target, value)]


def names_on_device(function):
    """Return the local names of a function that are bound to arrays of the device."""
    names, before = {a.arg for a in function.args.args} & ARGUMENTS, None
    while names != before:
        before = set(names)
        for node in ast.walk(function):
            if isinstance(node, ast.Assign):
                names |= {n for pair in pairs(node) if on_device(pair[1], names) for n in bound(pair[0])}
            if isinstance(node, ast.For) and on_device(node.iter, names):
                names |= bound(node.target)
    return names


def wrong_calls(source):
    """Return the calls of NumPy's functions that are given an array of the device."""
    found = []
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef):
            continue
        names = names_on_device(function)
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("np."):
                given = [*node.args, *(k.value for k in node.keywords)]
                found += [ast.unparse(node)] if any(on_device(a, names) for a in given) else []
    return found


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda p: p.name)
def test_launchers_call_no_numpy_on_device_arrays(path):
    assert wrong_calls(path.read_text(encoding="utf-8")) == []


def test_launchers_are_looked_at():
    assert {"cuda.py", "cuda_images.py"} <= {p.name for p in LAUNCHERS}


@pytest.mark.parametrize(
    "body",
    [
        "np.diff(events.offsets)",
        "a = self.xp.empty(3); b = a + 1; np.abs(b)",
        "np.sum(packed.rows.max())",
        "np.log(values)",
    ],
)
def test_the_lint_sees_what_is_wrong(body):
    assert wrong_calls(f"def f(self, events, packed, values):\n    {body}\n")


@pytest.mark.parametrize(
    "body", ["np.zeros(3)", "np.diff(self.xp.asnumpy(events.offsets))", "np.int64(len(a.time) + values.size)"]
)
def test_the_lint_lets_pass_what_is_right(body):
    assert wrong_calls(f"def f(self, events, a, values):\n    {body}\n") == []
