"""The direction of imports, read from the source, and what ``import eventsnn`` leaves out."""

import ast
import copy
import importlib
import json
import pickle
import pydoc
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import eventsnn

PACKAGE = Path(eventsnn.__file__).parent

# Rooms from the inside out: each may import from those further in (and from itself). A room that is not listed is
# outside of all: nothing listed may import it.
ORDER = [
    ("calling",),
    ("building", "unboxing", "variables"),
    ("lowering",),
    ("compiling",),
    ("validation", "threads", "targets", "jit", "ahead", "functions", "checks", "memory", "markup"),
    ("notebook",),
    ("store", "processes"),
    ("columns",),
    ("events",),
    ("backends",),
    ("layers", "batches"),
    ("devices", "wiring", "running"),
    ("profile",),
    ("network",),
    ("competition",),
    ("rules",),
    ("schedules",),
    ("plasticity", "readout", "history", "presentation", "checkpoint"),
    ("snapshots", "plausible"),
    ("selection",),
    ("learner",),
    ("train",),
    ("evaluation",),
    ("models",),
]
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
OUTSIDE = len(ORDER)
WITHIN_EVENTS = {"events", "columns", "validation", "threads", "targets", "memory", "markup", "notebook"}
WITHIN_EVENTS |= {"building", "calling", "unboxing", "variables", "lowering", "compiling", "jit"}
BESIDE = {"encode": WITHIN_EVENTS, "io": WITHIN_EVENTS}  # rooms that know only events, and what these are made of
GPU_ROOMS = ("backends", "parallel")


def sources():
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def running_nodes(tree):
    """Yield the nodes of a program, but not what only a type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield node
            yield from running_nodes(node)


def imported_rooms(path):
    """Yield the rooms of the package that a file imports, anywhere in it."""
    for node in running_nodes(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "eventsnn" and parts[1:] not in ([], ["__version__"]):
                yield parts[1]


@cache
def edges():
    found = set()
    for path in sources():
        if path != PACKAGE / "__init__.py":  # it gathers the names of all
            found |= {(room_of(path), room) for room in imported_rooms(path) if room != room_of(path)}
    return found


def allowed(room, target):
    if room in BESIDE:
        return target in BESIDE[room]
    if target in BESIDE:
        return room not in RANK or room == "models" or (room, target) == ("presentation", "io")
    return RANK.get(target, OUTSIDE) < RANK.get(room, OUTSIDE) or (room not in RANK and target not in RANK)


def test_imports_go_one_way():
    wrong = sorted(f"{room} imports {target}" for room, target in edges() if not allowed(room, target))
    assert wrong == []


def test_the_walk_sees_imports():
    assert {("network", "layers"), ("train", "network"), ("layers", "backends"), ("backends", "events")} <= edges()


def test_the_rule_refuses_the_wrong_way():
    assert not allowed("events", "network")
    assert not allowed("layers", "cli")
    assert not allowed("io", "network")
    assert not allowed("train", "encode")
    assert not allowed("plasticity", "readout")
    assert allowed("cli", "encode")
    assert allowed("models", "encode")


def test_no_circles():
    graph = {}
    for room, target in edges():
        graph.setdefault(room, set()).add(target)
    done, path = set(), []

    def visit(room):
        assert room not in path, " -> ".join([*path, room])
        if room not in done:
            path.append(room)
            for target in sorted(graph.get(room, ())):
                visit(target)
            path.pop()
            done.add(room)

    for room in sorted(graph):
        visit(room)


def test_gpu_words_occur_in_backends_only():
    places = [path for path in sources() if room_of(path) not in GPU_ROOMS]
    naming = [path.name for path in places if re.search("cupy|cuda", path.read_text(encoding="utf-8"), re.IGNORECASE)]
    assert naming == []


def loaded(program):
    """Return the names of the modules that a program brings into a fresh interpreter."""
    program += "; import sys, json; print(json.dumps(sorted(sys.modules)))"
    root = str(PACKAGE.parent)
    run = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout))


def test_import_loads_nothing():
    names = loaded("import eventsnn")
    assert {name for name in names if name.startswith("eventsnn")} == {"eventsnn"}
    assert "numpy" not in names


def test_networks_and_learning_leave_heavy_libraries_out():
    names = loaded("from eventsnn import Network, Conv, STDP, WTA, features, evaluate, fit")
    assert {"numpy", "eventsnn.train"} <= names
    assert not names & {"numba", "sklearn", "matplotlib", "scipy", "h5py", "PIL", "pooch"}


def test_studies_are_imported_one_by_one():
    assert {name for name in loaded("import eventsnn.study") if name.startswith("eventsnn")} == {
        "eventsnn",
        "eventsnn.study",
    }
    assert not loaded("import eventsnn as es; es.study.profile") & {"numba", "matplotlib", "h5py"}
    assert set(eventsnn.study.__all__) <= set(dir(eventsnn.study))
    assert all(getattr(eventsnn.study, name) is not None for name in eventsnn.study.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = eventsnn.study.nothing


def test_public_names_are_there():
    for name in eventsnn.__all__:
        assert getattr(eventsnn, name) is not None
    assert set(eventsnn.__all__) <= set(dir(eventsnn))


def test_type_checkers_see_the_names_of_programs():
    """What is imported for type checkers is what ``__getattr__`` finds, in the same modules."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    typed = {alias.name: node.module for node in block.body for alias in node.names}
    assert sorted(typed) == sorted(eventsnn.__all__)
    for name, module in typed.items():
        part = importlib.import_module(module)
        found = getattr(part, name) if module != "eventsnn" else importlib.import_module(f"eventsnn.{name}")
        assert getattr(eventsnn, name) is found


@pytest.mark.parametrize("ask", ["es.fit", "es.encode.DoG", "es.Events", "es.inf"])
def test_a_name_is_found_in_a_fresh_interpreter(ask):
    assert "numpy" in loaded(f"import eventsnn as es; {ask}; {ask}")


def test_a_copy_and_a_pickle_are_equal():
    rule = eventsnn.STDP(0.1, -0.2)
    assert pickle.loads(pickle.dumps(rule)) == copy.deepcopy(rule) == rule


def test_help_shows_every_name():
    shown = pydoc.plain(pydoc.render_doc(eventsnn))
    assert [name for name in eventsnn.__all__ if name not in shown] == []


def test_unknown_name():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = eventsnn.nothing
