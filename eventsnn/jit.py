"""How kernels are compiled."""

import warnings
from collections.abc import Callable
from typing import Any

from numba import njit


def kernel(function: Callable[..., Any], **options: Any) -> Any:
    """Compile an entry point, called from Python; compiled code is kept on disk where there is a place for it."""
    try:
        return njit(cache=True, nogil=True, no_cfunc_wrapper=True, **options)(function)
    except RuntimeError as error:  # Numba's word for no such place
        if "no locator" not in str(error):
            raise
    warnings.warn(
        "no folder to keep compiled code in can be written, so it is compiled each time, which takes long; "
        "set NUMBA_CACHE_DIR to a folder that can be",
        RuntimeWarning,
        stacklevel=1,
    )
    return njit(nogil=True, no_cfunc_wrapper=True, **options)(function)


def lean_kernel(function: Callable[..., Any]) -> Any:
    """Compile an entry point that makes no array, so that nobody needs to count references to arrays.

    Numba counts them wherever an array is taken out of a tuple, in the innermost loops too.
    """
    return kernel(function, _nrt=False)


#: what entry points call: without wrappers for Python, which would take most of the time to compile
making_arrays = njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
#: the same for functions that make no array
inner = njit(nogil=True, _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)
