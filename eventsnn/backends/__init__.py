"""The seam between what is computed and the machine that computes it.

A :class:`Backend` is one value with a handful of whole-loop kernels; its docstrings are the kernels' contract.
Every implementation gives the same bits: float32 potentials are summed one spike after another in canonical
order, for any batch size and any number of threads.
"""

from __future__ import annotations

import os
import re
from functools import cache

from eventsnn.backends.backend import Backend, Decision, Pooled
from eventsnn.backends.competition import Found
from eventsnn.backends.lesson import Lesson
from eventsnn.backends.neurons import Geometry, LeakTable, Neurons
from eventsnn.backends.updates import Reward, ThresholdAdaptation, Update

__all__ = [
    "Backend",
    "Decision",
    "Found",
    "Geometry",
    "LeakTable",
    "Lesson",
    "Neurons",
    "Pooled",
    "Reward",
    "ThresholdAdaptation",
    "Update",
    "get",
]

NAMES = ("cpu", "reference")  #: those that are always there
_DEVICE = re.compile(r"cuda(?::(\d+))?")


def get(name: str | None = None) -> Backend:
    """Return a backend by name, by default the one that ``EVENTSNN_BACKEND`` names, else ``"cpu"``.

    Parameters
    ----------
    name : str, optional
        ``"cpu"``, ``"reference"``, ``"cuda"`` or, for one of several devices, ``"cuda:1"``.

    Raises
    ------
    ValueError
        If there is no backend of that name.
    RuntimeError
        If CuPy or the device is missing; it says what to install.
    """
    wanted = name or os.environ.get("EVENTSNN_BACKEND") or "cpu"
    device = _DEVICE.fullmatch(wanted)
    if wanted not in NAMES and not device:
        raise ValueError(f"backend expects one of {', '.join(NAMES)}, cuda, cuda:1 and so on, got {wanted!r}")
    return _make(wanted if device is None else f"cuda:{int(device[1] or 0)}")


@cache
def _make(name: str) -> Backend:
    if name.startswith("cuda"):
        from eventsnn.backends.cuda import CudaBackend

        return CudaBackend(int(name.removeprefix("cuda:")))
    if name == "reference":
        from eventsnn.backends.reference import ReferenceBackend

        return ReferenceBackend()
    from eventsnn.backends.cpu import CpuBackend

    return CpuBackend()
