"""How kernels are compiled, and kept on disk.

With versions of Numba that were tried, by a compiler of our own (``compiling.py``), which takes a fraction of the time;
with others as Numba compiles any function, which needs nothing but what Numba offers to everybody. Both give the same
results.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

#: first and last minor version of Numba of which each was tried with our compiler
TRIED = (0, 62), (0, 68)


def is_tried(version: str) -> bool:
    """Tell whether our compiler was tried with a version of Numba."""
    minor = re.match(r"(\d+)\.(\d+)\.", version)
    return minor is not None and TRIED[0] <= (int(minor[1]), int(minor[2])) <= TRIED[1]


OWN_COMPILER = is_tried(numba.__version__)

_ENTRY: dict[str, Any] = {}
_INNER: dict[str, Any] = {}
if OWN_COMPILER:
    from eventsnn.compiling import Compiler, InnerCompiler

    _ENTRY, _INNER = {"pipeline_class": Compiler}, {"pipeline_class": InnerCompiler}


def kernel(function: Callable[..., Any], **options: Any) -> Any:
    """Compile an entry point, called from Python; compiled code is kept on disk where there is a place for it."""
    options |= {"nogil": True, "no_cfunc_wrapper": True, **_ENTRY}
    try:
        return _kept(function, options)
    except RuntimeError as error:  # Numba's word for no such place
        if "no locator" not in str(error):
            raise
    warnings.warn(
        "no folder to keep compiled code in can be written, so it is compiled each time, which takes long; "
        "set NUMBA_CACHE_DIR to a folder that can be",
        RuntimeWarning,
        stacklevel=1,
    )
    return njit(**options)(function)


def _kept(function: Any, options: dict[str, Any]) -> Any:
    """Compile a function and keep it in files that have its state in their names.

    Numba asks whether the text of the function's own file is as it was, not those of the functions that it calls,
    and knows nothing of our way to call them. It makes names of files of the qualified name.
    """
    name, state = function.__qualname__, _state(function.__module__ or "")
    function.__qualname__ = f"{name}-{state}"
    try:
        compiled = njit(cache=True, **options)(function)
    finally:
        function.__qualname__ = name
    compiled.__qualname__ = name
    if compiled is not function:  # as it is with NUMBA_DISABLE_JIT
        stem = f"{Path(function.__code__.co_filename).stem}.{name}-".replace("<", "").replace(">", "")
        _remove_others(compiled.stats.cache_path, stem, state)
    return compiled


@functools.cache
def _state(module: str) -> str:
    """Return what changes with the versions, with a module of this package and with all that it imports of it."""
    found: dict[str, bytes] = {}
    left = [__name__, "eventsnn.compiling", *([module] if module.startswith("eventsnn.") else [])]
    while left:
        if (name := left.pop()) not in found:
            found[name], imported = _text(name)
            left += imported
    state = hashlib.sha256(repr((numba.__version__, llvmlite.__version__, sorted(found))).encode())
    for name in sorted(found):
        state.update(found[name])
    return state.hexdigest()[:16]


@functools.cache
def _text(module: str) -> tuple[bytes, list[str]]:
    """Return a module's text, and what it imports of this package at its top."""
    spec: Any = importlib.util.find_spec(module)
    text = spec.loader.get_data(spec.origin)
    return text, [name.decode() for name in re.findall(rb"^from (eventsnn\S*) import", text, re.MULTILINE)]


def _remove_others(folder: str, stem: str, state: str) -> None:
    """Remove what was kept of a function in other states."""
    for name in _listed(folder):
        if name.startswith(stem) and not name.startswith(stem + state):
            with contextlib.suppress(OSError):  # somebody else's, or in use: it takes room and nothing else
                Path(folder, name).unlink()


@functools.cache
def _listed(folder: str) -> list[str]:
    return os.listdir(folder)


def lean_kernel(function: Callable[..., Any], **options: Any) -> Any:
    """Compile an entry point that makes no array, so that nobody needs to count references to arrays.

    Numba counts them wherever an array is taken out of a tuple, in the innermost loops too.
    """
    return kernel(function, _nrt=False, **options)


_CALLED: dict[str, Any] = {"nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, **_INNER}
#: what entry points call: without wrappers for Python, which would take most of the time to compile
making_arrays = njit(**_CALLED)
#: the same for functions that make no array
inner = njit(_nrt=False, **_CALLED)


def _emit_trailing_zeros(typing_context, word):
    """Return how many zeros a word that is not 0 ends with."""
    return types.int64(types.uint32), lambda context, builder, signature, args: builder.zext(
        builder.cttz(args[0], ir.IntType(1)(True)), ir.IntType(64)
    )


#: for words of 32 bits
trailing_zeros: Any = intrinsic(_emit_trailing_zeros)
