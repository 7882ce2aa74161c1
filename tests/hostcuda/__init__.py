"""A stand-in for CuPy and a CUDA device: NumPy as the array module, the shipped kernels compiled by a C++ compiler."""

import ctypes
import functools
import os
import re
import shutil
import subprocess
import tempfile
import threading
import weakref
from pathlib import Path

import numpy as np

from eventsnn.backends import device
from eventsnn.backends.cuda import CudaBackend

SHIM = Path(__file__).parent / "shim.h"
ORDERS = {"ascending": 0, "descending": 1, "scattered": 2}
COMPILER = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
FLAGS = ("-std=c++17", "-O1", "-g", "-ffp-contract=off", "-fPIC", "-shared", "-pthread", "-Wno-unknown-pragmas")


class HostArray(np.ndarray):
    """Stands for an array on the device: no function of NumPy takes it."""

    @property
    def __cuda_array_interface__(self):
        return self.__array_interface__

    def __array_function__(self, function, types, args, kwargs):
        raise TypeError(f"numpy.{function.__name__} was called on an array of the device")


class HostArrays:
    """The functions of CuPy that the CUDA backend uses, over NumPy; new memory is full of rubbish.

    Parameters
    ----------
    limit : float
        Bytes that arrays may take together; beyond it there is a MemoryError, as CuPy's is.
    """

    def __init__(self, limit=np.inf):
        self.limit, self.used, self.refused = limit, 0, 0
        self._counting = threading.RLock()  # an array may end while another is counted

    def asarray(self, array):
        return self._given(np.array(array))

    def asnumpy(self, array):
        assert isinstance(array, HostArray), type(array)
        return np.array(array.view(np.ndarray))

    def empty(self, shape, dtype):
        array = np.empty(shape, dtype)
        array.view(np.uint8).fill(0xA5)
        return self._given(array)

    def zeros(self, shape, dtype):
        return self._given(np.zeros(shape, dtype))

    def full(self, shape, value, dtype):
        return self._given(np.full(shape, value, dtype))

    def cumsum(self, array):
        return self._given(array.view(np.ndarray).cumsum(dtype=array.dtype))

    def concatenate(self, arrays):
        return self._given(np.concatenate([self._taken(a) for a in arrays]))

    def _taken(self, array):
        assert isinstance(array, HostArray), type(array)
        return array.view(np.ndarray)

    def _given(self, array):
        with self._counting:
            if self.used + array.nbytes > self.limit:
                self.refused += 1
                raise MemoryError(f"{self.used} bytes of {self.limit} are in use, {array.nbytes} more are wanted")
            self.used += array.nbytes
        weakref.finalize(array, self._given_back, array.nbytes)
        return array.view(HostArray)

    def _given_back(self, nbytes):
        with self._counting:
            self.used -= nbytes


_launching = threading.Lock()  # the scheduler of fibers is one for all that load the library


class HostModule:
    """The kernels as a shared library, launched as ``cupy.RawModule`` launches them."""

    def __init__(self, path, order="ascending"):
        self._library, self._order = ctypes.CDLL(str(path)), ORDERS[order]
        self.together = 0  # launches of several blocks that may wait for each other

    def get_function(self, name):
        function = getattr(self._library, f"launch_{name}")
        kernel = functools.partial(self._launch, name, function)
        kernel.kernel = kernel  # what cupy.RawKernel has beneath, which takes one argument more
        return kernel

    def _launch(self, name, function, grid, block, args, *, shared_mem=0, enable_cooperative_groups=False):
        assert len(block) == 1
        assert len(grid) <= 2
        held = [_argument(a) for a in args]
        pointers = (ctypes.c_void_p * len(held))(*(value.ctypes.data for value, _ in held))
        sizes = (ctypes.c_int * len(held))(*(size for _, size in held))
        shape = (ctypes.c_uint * 3)(*(*grid, 1)[:2], block[0])
        self.together += enable_cooperative_groups and grid[0] > 1
        with _launching:
            self._library.set_order(self._order, int(enable_cooperative_groups))
            failed = function(shape, ctypes.c_size_t(shared_mem), pointers, sizes, len(held))
        if failed < 0:
            raise TypeError(f"kernel {name}: argument {-1 - failed} is not what the source declares")
        if failed:
            raise RuntimeError(f"kernel {name}: some threads ended while others waited for them")


def _argument(value):
    """Return what holds an argument's bytes and their number, negative for pointers to the device."""
    if isinstance(value, HostArray):
        assert value.flags.c_contiguous
        return np.array([value.ctypes.data], np.uint64), -8
    if isinstance(value, np.ndarray):
        assert value.dtype.names, f"an array of the host is not a kernel's argument: {value!r}"
        return value, value.nbytes
    assert isinstance(value, np.generic), f"{value!r} has no size that the source declares"
    return np.array([value]), -8 if isinstance(value, np.uint64) else value.nbytes  # an address, if null


def build(source=None, flags=()):
    """Compile the kernels, or a changed copy of their source, into a shared library; return its path."""
    return _build(device.source() if source is None else source, tuple(flags))


_made = tempfile.TemporaryDirectory(prefix="eventsnn-hostcuda-", ignore_cleanup_errors=True)  # goes with the process


@functools.cache
def _build(source, flags):
    folder = Path(tempfile.mkdtemp(dir=_made.name))
    names = re.findall(r'extern "C" __global__ void (?:__launch_bounds__\(.*?\) )?([a-z]\w*)\(', source)
    names += re.findall(r"^NEURONS\((\w+)", source, re.MULTILINE)  # the kernels that a macro defines
    exports = "".join(f"EXPORT({name})\n" for name in names)
    program = folder / "kernels.cpp"
    program.write_text(f'#include "{SHIM}"\n#line 1 "kernels.cu"\n{source}\n{exports}')
    library = folder / "kernels.so"
    subprocess.run([COMPILER, *FLAGS, *flags, str(program), "-o", str(library)], check=True)
    return library


def backend(threads=8, order="ascending", *, source=None, arrays=None, processors=1):
    """Return the CUDA backend on a device that is this machine's CPU."""
    arrays = HostArrays() if arrays is None else arrays

    def compiled(text):
        return HostModule(build(text), order)

    return CudaBackend(
        device.Device(arrays, HostModule(build(source), order), threads, processors=processors, compiled=compiled)
    )
