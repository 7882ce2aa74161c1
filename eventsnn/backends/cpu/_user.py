"""A user's own rule, compiled into a loop over the weights of one map, and its call from compiled kernels.

The kernels receive the loop's address, so they are compiled once for all rules and stay cached on disk; a new rule
compiles in a fraction of a second.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, cfunc, njit, types
from numba.core.errors import NumbaError
from numba.extending import intrinsic

from eventsnn.backends.updates import RuleFunction, asks_for, with_all_arguments

_NEVER = np.int64(1) << 60
_FLOATS, _INTEGERS = types.CPointer(types.float32), types.CPointer(types.int64)
_SIGNATURE = types.int64(
    _FLOATS, _INTEGERS, types.int64, types.int64, types.float64, types.float64, types.float32, types.float32,
    types.CPointer(types.float64),
)  # fmt: skip
#: what the loop returns
RAISED, NOT_FINITE = 1, 2


@lru_cache(maxsize=64)
def compile_rule(function: RuleFunction) -> Any:
    """Return a C callback that changes one map's weights; keep it for as long as its address is used.

    Raises
    ------
    TypeError
        If Numba cannot compile the function.
    """
    rule = _compiled(with_all_arguments(_compiled(function), asks_for(function)))
    try:
        return cfunc(_SIGNATURE)(_loop(_compiled(_guarded(rule))))
    except NumbaError as error:
        raise TypeError(f"the rule {function.__name__} cannot be compiled by Numba: {error}") from error


def _compiled(function: Any) -> Any:
    return njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


def _guarded(rule: Any) -> Any:
    """Return the rule as a function of the same arguments that gives weight and status, and never raises."""

    def guarded(w, dt, potential, reward):  # type: ignore[no-untyped-def]
        new, status = 0.0, 0
        try:
            new = rule(w, dt, potential, reward)
        except Exception:
            status = RAISED
        return np.float32(new), status

    return guarded


def _loop(guarded: Any) -> Any:
    def loop(first, deciding, n, time, potential, reward, lower, upper, failed):  # type: ignore[no-untyped-def]
        weights, times = carray(first, (n,)), carray(deciding, (n,))
        for row in range(n):
            old = np.float64(weights[row])
            dt = np.float64(time - times[row]) if times[row] < _NEVER else -np.inf
            w, status = guarded(old, dt, potential, reward)
            if status == 0 and not np.isfinite(w):
                status = NOT_FINITE
            if status != 0:
                asked = carray(failed, (4,))
                asked[0], asked[1], asked[2], asked[3] = old, dt, potential, reward
                return status
            weights[row] = min(max(w, lower), upper)
        return 0

    return loop


@intrinsic
def call_rule(typingctx, address, weights, times, time, potential, reward, lower, upper, failed):  # type: ignore[no-untyped-def]
    """Call the loop at ``address`` for one map's weights; return 0 or what went wrong."""
    i64, f32, f64 = types.int64, types.float32, types.float64
    signature = i64(i64, weights, times, i64, f64, f64, f32, f32, failed)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def array(i: int) -> Any:
            return context.make_array(sig.args[i])(context, builder, args[i])

        deciding = array(2)
        n = builder.extract_value(deciding.shape, 0)
        values = [array(1).data, deciding.data, n, *args[3:8], array(8).data]
        loop = ir.FunctionType(ir.IntType(64), [value.type for value in values])
        return builder.call(builder.inttoptr(args[0], loop.as_pointer()), values)

    return signature, codegen
