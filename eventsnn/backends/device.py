"""What a device is to the CUDA backend: arrays, compiled kernels, and launching these.

The only module that names CuPy. Another array module and another kernel module may stand for a device: that is
how the tests run the shipped kernels and their launcher on a machine without one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from eventsnn.backends import nvrtc

MOST_THREADS = 256  #: of a block, as in kernels.cu
SOURCES = ("kernels.cu", "images.cu", "learn.cu")  #: compiled together, in this order
_INSTALL = "pip install 'eventsnn[cuda13]' (or [cuda12], after the CUDA version that `nvidia-smi` shows)"


def source(names: Sequence[str] = SOURCES) -> str:
    """Return the text of all kernels, or of some files beside this one."""
    return "\n".join((Path(__file__).parent / name).read_text(encoding="utf-8") for name in names)


class Device:
    """An array module, a kernel module and how kernels are launched.

    Parameters
    ----------
    xp : module
        ``cupy``, or what has these of its functions: ``asarray``, ``asnumpy``, ``empty``, ``zeros``, ``full``,
        ``cumsum``, ``concatenate``.
    module : object
        ``cupy.RawModule`` of :func:`source`, or what has its ``get_function``.
    threads : int
        Of a block, up to :data:`MOST_THREADS`. Results do not depend on it.
    current : callable
        Makes a context in which ``xp`` and ``module`` work on this device.
    upload : callable, optional
        What copies an array of the host to the device; default ``xp.asarray``.
    compiled : callable, optional
        Makes a kernel module of another text, for rules of a user's own.
    processors : int
        Blocks that may run at the same time, and wait for each other.
    failures : tuple of type
        What is raised when the device itself fails.
    wait : callable
        Returns when what this thread has launched is done.
    """

    def __init__(
        self,
        xp: Any,
        module: Any,
        threads: int = MOST_THREADS,
        current: Callable[[], AbstractContextManager[Any]] = nullcontext,
        upload: Callable[[np.ndarray], Any] | None = None,
        compiled: Callable[[str], Any] | None = None,
        processors: int = 1,
        failures: tuple[type[Exception], ...] = (),
        wait: Callable[[], object] = lambda: None,
    ) -> None:
        self.wait = wait
        self.xp, self.threads, self.current = xp, threads, current
        self.module, self._kernels = module, dict[str, Any]()
        self.upload = upload or xp.asarray
        self.compiled, self.processors, self.failures = compiled, processors, failures

    def with_source(self, text: str) -> Device:
        """Return the same device with kernels of another text.

        Raises
        ------
        RuntimeError
            If the device cannot compile.
        """
        if self.compiled is None:
            raise RuntimeError("this device has no compiler, so it cannot run a rule of your own")
        given = (self.threads, self.current, self.upload, self.compiled, self.processors, self.failures, self.wait)
        return Device(self.xp, self.compiled(text), *given)

    def launch(
        self,
        name: str,
        blocks: int | tuple[int, int],
        *args: Any,
        shared: int = 0,
        threads: int | None = None,
        together: bool = False,
    ) -> None:
        """Launch a kernel with ``shared`` bytes of shared memory a thread; nothing happens where there is no block.

        Blocks ``together``, of which there are no more than ``processors``, may wait for each other. Arguments are
        device arrays, NumPy scalars, structures from :func:`structure`, and None for a null pointer.
        """
        grid = blocks if isinstance(blocks, tuple) else (blocks,)
        threads = threads or self.threads
        if min(grid) > 0:
            kernel = self._kernels.get(name) or self._kernels.setdefault(name, self.module.get_function(name))
            given = tuple(np.uint64(0) if a is None else a for a in args)
            how = {"shared_mem": shared * threads}
            if together:
                kernel, how = kernel.kernel, how | {"enable_cooperative_groups": True}
            kernel(grid, (threads,), given, **how)

    def for_each(self, name: str, n: int, *args: Any) -> None:
        """Launch a kernel with at least ``n`` threads."""
        self.launch(name, -(-n // self.threads), *args)

    def last(self, array: Any) -> int:
        """Return the last entry of an array of integers, once the device has come to it."""
        return int(self.xp.asnumpy(array[-1:])[0])


def pointer(array: Any) -> int:
    """Return the address of a device array, 0 for None."""
    return 0 if array is None else int(array.__cuda_array_interface__["data"][0])


def structure(dtype: np.dtype, *values: Any) -> np.ndarray:
    """Return a C structure as kernels take it by value; device arrays become their addresses, structures its parts.

    The caller keeps the arrays until the kernel is launched; after that, memory is given away in stream order.
    """
    return np.array([tuple(map(_part, values))], dtype)


def _part(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.names:
        return value[0]
    return value if isinstance(value, int | float | np.number) else pointer(value)


def record(numbers: str = "", pointers: str = "", *more: tuple[str, str]) -> np.dtype:
    """Return the dtype of a C structure: pointers, 32-bit integers, then ``more``."""
    fields = [(name, "u8") for name in pointers.split()] + [(name, "i4") for name in numbers.split()]
    return np.dtype([*fields, *more], align=True)


@cache
def cuda_device(index: int) -> Device:
    """Return a CUDA device, through CuPy.

    Raises
    ------
    RuntimeError
        If CuPy is not installed, or there is no such device; it says what to install.
    """
    try:
        import cupy
    except ImportError as error:
        raise RuntimeError(f"the cuda backend needs CuPy, which cannot be imported ({error}): {_INSTALL}") from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        found = f"the cuda backend needs a CUDA device and its driver, found none ({error})"
        raise RuntimeError(f"{found}: {_remedy(cupy.cuda.runtime)}") from error
    if index >= count:
        raise RuntimeError(f"backend cuda:{index} expects a device below {count}, the number of CUDA devices here")
    here = cupy.cuda.Device(index)

    architecture = f"sm_{here.compute_capability}"
    folder = Path(os.environ.get("CUPY_CACHE_DIR") or Path.home() / ".cupy" / "kernel_cache")

    def compiled(text: str) -> Any:
        return cupy.RawModule(path=str(nvrtc.compiled(text, architecture, folder)))

    def wait() -> None:
        cupy.cuda.get_current_stream().synchronize()

    with here:
        module, upload, processors = compiled(source()), uploader(cupy), here.attributes["MultiProcessorCount"]
        current = partial(cupy.cuda.Device, index)
        failures = (cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError)
        return Device(cupy, module, MOST_THREADS, current, upload, compiled, processors, failures, wait)


def _remedy(runtime: Any) -> str:
    """Return what to install or change where CuPy finds no device."""
    try:
        driver, own = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    except runtime.CUDARuntimeError:
        driver, own = 0, 0
    if not driver:
        return "install NVIDIA's driver; it is there when `nvidia-smi` shows the device"
    if driver // 1000 >= own // 1000:
        return "`nvidia-smi` shows whether there is one; CUDA_VISIBLE_DEVICES may hide it"
    versions = f"the driver is for CUDA {_version(driver)}, CuPy for CUDA {_version(own)}: install a newer driver"
    older = f", or pip uninstall cupy-cuda{own // 1000}x and pip install 'eventsnn[cuda12]'"
    return versions + (older if driver // 1000 == 12 else "")


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def uploader(cupy: Any) -> Callable[[np.ndarray], Any]:
    """Return what copies to the present device while kernels run there: through pinned memory, on a stream of its own.

    The caller waits, so an upload overlaps kernels that another thread launches (``batches.worked``).
    """
    copying = cupy.cuda.Stream(non_blocking=True)

    def upload(array: Any) -> Any:
        if isinstance(array, cupy.ndarray):
            return array
        there = cupy.empty(array.shape, array.dtype)
        if array.nbytes:
            pinned = cupy.cuda.alloc_pinned_memory(array.nbytes)
            staged = np.frombuffer(pinned, array.dtype, array.size).reshape(array.shape)
            staged[...] = array
            # The memory may have just been given back, while kernels that use it still wait in the other stream.
            copying.wait_event(cupy.cuda.get_current_stream().record())
            there.set(staged, stream=copying)
            copying.synchronize()
        return there

    return upload
