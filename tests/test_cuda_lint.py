"""No function of NumPy is called on what lies on the device, read from the source."""

import ast
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import eventsnn.backends

ROOM = Path(eventsnn.backends.__file__).parent
LAUNCHERS = sorted(
    p
    for p in ROOM.glob("*.py")
    if "device import" in p.read_text(encoding="utf-8") and p.name != "cuda_rules.py"  # which has texts and no arrays
)
# Elsewhere, the functions to which arrays of the device come.
PASSED = {
    "events.py": {"where", "_contiguous", "_take", "unchecked", "n_events", "nbytes", "replace_fields", "__len__"},
    "batches.py": {"put", "fetch", "worked", "by_halves", "_map_arrays"},
    "backends/backend.py": {"select", "_sample_counts", "first_winners"},
}
# Attributes that are arrays of the device wherever they are found; those that a class is given are found out.
COLUMNS = {"time", "channel", "y", "x", "offsets", "potential", "labels", "rank", "rows", "starts", "decay"}
ARGUMENTS = {"values", "when", "fired", "potential", "rank", "keep"}  # parameters that are
DESCRIPTIONS = {"shape", "size", "dtype", "nbytes", "n_events"}  # of an array or batch, known on the host
CROSSINGS = {"asnumpy", "fetch", "last", "len", "int", "structure"}  # what comes out of these is the host's
UPLOADS = {"upload", "put"}  # and out of these the device's
BY_CALL = {"map", "partial", "filter"}  # which call the function that they are given


class Known(NamedTuple):
    """Names of attributes, and of functions by what they return, that are arrays of the device."""

    attributes: frozenset[str]
    functions: frozenset[str]


def called(node):
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def of_xp(node):
    """Tell whether a call is of the device's array module, ``xp.f()`` or ``self.xp.f()``."""
    owner = node.func.value if isinstance(node.func, ast.Attribute) else None
    return getattr(owner, "attr", getattr(owner, "id", None)) in ("xp", "_xp")


def on_device(node, names, known):
    """Tell whether an expression is, or holds, an array of the device."""
    if isinstance(node, ast.Call):
        if called(node) in CROSSINGS:
            return False
        if of_xp(node) or called(node) in UPLOADS | known.functions:
            return True
        if called(node) == "getattr":
            name = node.args[1]
            return not isinstance(name, ast.Constant) or name.value in known.attributes
    if isinstance(node, ast.Attribute) and node.attr in known.attributes | DESCRIPTIONS:
        return node.attr in known.attributes
    if isinstance(node, ast.Name):
        return node.id in names
    if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Is | ast.IsNot):
        return False
    if isinstance(node, ast.GeneratorExp | ast.ListComp | ast.SetComp):
        return on_device(node.elt, names, known)
    return any(on_device(child, names, known) for child in ast.iter_child_nodes(node))


def bound(target):
    """Return the names that a target binds, and those of attributes of ``self`` with a dot before them."""
    attributes = (n for n in ast.walk(target) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "self")
    bare = (n.id for n in ast.walk(target) if isinstance(n, ast.Name) and n.id != "self")
    return {f".{n.attr}" for n in attributes} | set(bare)


def pairs(node):
    """Return targets and values of what binds names, one by one where there are several of both."""
    if isinstance(node, ast.For | ast.comprehension):
        return [(node.target, node.iter)]
    if isinstance(node, ast.AugAssign | ast.NamedExpr | ast.AnnAssign):
        return [(node.target, node.value)] if node.value else []
    if not isinstance(node, ast.Assign):
        return []
    target, value = node.targets[0], node.value
    several = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
    return list(zip(target.elts, value.elts, strict=True)) if several else [(target, value)]


def names_on_device(function, known):
    """Return the names in a function, ``.name`` for attributes of self, that are bound to arrays of the device."""
    names, before = {a.arg for a in function.args.args} & ARGUMENTS, None
    while names != before:
        before = set(names)
        for node in ast.walk(function):
            names |= {n for target, value in pairs(node) if on_device(value, names, known) for n in bound(target)}
    return names


def functions_of(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def learnt(trees, known):
    """Return what is known after attributes and functions were looked at until nothing new is found."""
    before = None
    while known != before:
        before = known
        for function in (f for tree in trees for f in functions_of(tree)):
            names = names_on_device(function, known)
            returned = [n.value for n in ast.walk(function) if isinstance(n, ast.Return) and n.value is not None]
            gives = any(on_device(value, names, known) for value in returned) and function.name not in CROSSINGS
            attributes = {name[1:] for name in names if name.startswith(".")}
            known = Known(known.attributes | attributes, known.functions | ({function.name} if gives else set()))
    return known


@cache
def of_launchers():
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in LAUNCHERS]
    return learnt(trees, Known(frozenset(COLUMNS), frozenset()))


def numpys(tree):
    """Return the names that NumPy and its functions have in a module, whatever they were imported or bound as."""
    found = {"np", "numpy"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.asname or "numpy" for a in node.names if a.name.split(".")[0] == "numpy"}
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "numpy":
            found |= {a.asname or a.name for a in node.names}
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Attribute) and root(node.value) in found:
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def root(node):
    while isinstance(node, ast.Attribute):
        node = node.value
    return getattr(node, "id", None)


def wrong_calls(source, among=None):
    """Return the calls of NumPy's functions that are given an array of the device; ``among`` some functions."""
    tree, found = ast.parse(source), []
    known, numpy = learnt([tree], of_launchers()), numpys(tree)
    for function in functions_of(tree):
        if among is not None and function.name not in among:
            continue
        names = names_on_device(function, known)
        for node in (n for n in ast.walk(function) if isinstance(n, ast.Call)):
            given = [*node.args, *(k.value for k in node.keywords)]
            if called(node) == "__array__":
                given = [node.func.value]
            elif root(node.func) not in numpy and not (called(node) in BY_CALL and root(node.args[0]) in numpy):
                continue
            found += [ast.unparse(node)] if any(on_device(a, names, known) for a in given) else []
    return found


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda p: p.name)
def test_launchers_call_no_numpy_on_device_arrays(path):
    assert wrong_calls(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("name", PASSED)
def test_what_device_arrays_pass_through_calls_no_numpy_on_them(name):
    source = (ROOM.parent / name).read_text(encoding="utf-8")
    assert {f.name for f in functions_of(ast.parse(source))} >= PASSED[name]
    assert wrong_calls(source, PASSED[name]) == []


def test_launchers_are_looked_at():
    assert {"cuda.py", "cuda_images.py", "cuda_learning.py"} <= {p.name for p in LAUNCHERS}


def test_what_a_class_holds_on_the_device_is_known():
    held = {"_limit", "_failed", "_asked", "_winners", "_at_spike", "_quiet", "_given", "_classes", "_decides"}
    assert held <= of_launchers().attributes
    assert not {"_order", "_found", "_lesson", "_numbers", "_sizes"} & of_launchers().attributes


@pytest.mark.parametrize(
    "body",
    [
        "np.diff(events.offsets)",
        "a = self.xp.empty(3); b = a + 1; np.abs(b)",
        "np.sum(packed.rows.max())",
        "np.log(values)",
        "import numpy as n; n.log(values)",
        "from numpy import log as ln; ln(values)",
        "log = np.log; log(values)",
        "list(map(np.log, [values]))",
        "np.add.reduce(getattr(events, name) for name in names)",
        "np.sort(self._device.upload(a))",
    ],
)
def test_the_lint_sees_what_is_wrong(body):
    assert wrong_calls(f"def f(self, events, packed, values):\n    {body}\n")


@pytest.mark.parametrize(
    ("name", "after", "plant"),
    [
        ("backends/cuda_learning.py", '"""Present everything; return the winners."""', "np.isfinite(self._limit)"),
        ("backends/cuda_learning.py", '"""Present everything; return the winners."""', "np.sort(self._failed)"),
        ("backends/cuda_learning.py", "None else lesson.positions[part]", "np.concatenate([self._winners, winners])"),
        ("backends/cuda_learning.py", '"""Write thresholds back, and', "np.max(self._quiet)"),
        ("backends/cuda.py", "starts, of_sample, fired = self.gather(", "numpy.sort(fired)"),
        ("backends/cuda.py", "fires = (fired, potential,", "[np.unique(c) for c in columns.values()]"),
        ("backends/cuda.py", "fires = (fired, potential,", "columns['time'].__array__()"),
        ("events.py", "kept = keep.cumsum(", "np.cumsum(keep)"),
        ("events.py", "low, high = int(self.offsets[start])", "np.diff(self.offsets)"),
        ("batches.py", "arrays = {name: getattr(events, name)", "[np.sort(a) for a in arrays.values()]"),
    ],
)
def test_the_lint_sees_what_is_planted(name, after, plant):
    lines = (ROOM.parent / name).read_text(encoding="utf-8").splitlines()
    at = next(i for i, line in enumerate(lines) if after in line)
    indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
    at += 1 if not after.startswith('"""Write') else 5
    planted = "\n".join([*lines[:at], indent + plant, *lines[at:]])
    assert len(wrong_calls(planted, PASSED.get(name))) == 1


@pytest.mark.parametrize(
    "body",
    [
        "np.zeros(3)",
        "np.diff(self.xp.asnumpy(events.offsets))",
        "np.int64(len(a.time) + values.size)",
        "b = [self.xp.asnumpy(c) for c in (events.x, values)]; np.sort(b)",
        "np.int32(values is None)",
    ],
)
def test_the_lint_lets_pass_what_is_right(body):
    assert wrong_calls(f"def f(self, events, a, values):\n    {body}\n") == []
