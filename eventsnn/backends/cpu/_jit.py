"""How kernels are compiled."""

from numba import njit

#: entry points, called from Python; compiled code is kept on disk
kernel = njit(cache=True, nogil=True)
#: what entry points call: without wrappers for Python, which would take most of the time to compile
inner = njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
