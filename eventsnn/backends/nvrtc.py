"""Compiling kernels for a device at run time, once for each text: NVIDIA's compiler, told exactly what it is to do.

CuPy's own compilation always adds ``-ftz=true``, which makes tiny floats zero, and the bits differ from the CPU's.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

OPTIONS = ("--std=c++17", "--fmad=false")  # a fused multiply-add rounds once where the other backends round twice


def compiled(text: str, architecture: str, folder: Path) -> Path:
    """Return a file with the machine code of kernels; it is kept in a folder, and used by later processes.

    Parameters
    ----------
    text : str
        CUDA C++.
    architecture : str
        Of the device, such as ``"sm_90"``.
    folder : Path
        Made if it does not exist.

    Raises
    ------
    RuntimeError
        If the text does not compile; it holds what the compiler says.
    """
    from cupy.cuda import nvrtc

    options = (*OPTIONS, f"--gpu-architecture={architecture}")
    key = hashlib.sha256(repr((text, options, nvrtc.getVersion())).encode()).hexdigest()[:32]
    path = folder / f"eventsnn-{key}.cubin"
    if not path.exists():
        program = nvrtc.createProgram(text, "kernels.cu", (), ())
        try:
            nvrtc.compileProgram(program, options)
        except nvrtc.NVRTCError as error:
            raise RuntimeError(f"the kernels do not compile ({error}): {nvrtc.getProgramLog(program)}") from error
        folder.mkdir(parents=True, exist_ok=True)
        written = folder / f".{path.name}.{os.getpid()}.tmp"
        written.write_bytes(nvrtc.getCUBIN(program))
        written.replace(path)
    return path
