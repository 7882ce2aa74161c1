"""The circumstances of a measurement: versions, processor, threads."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from eventsnn import __version__
from eventsnn.threads import default_threads

_LIBRARIES = ("numpy", "numba", "h5py", "scipy", "scikit-learn", "torch")


def environment() -> dict[str, Any]:
    """Return what a measurement was made with, as JSON values.

    Returns
    -------
    dict
        ``date`` (UTC, ``YYYY-MM-DD``), ``eventsnn``, ``python`` and the versions of the libraries that are installed,
        ``system``, ``processor``, ``cpus`` that this process may use, ``threads`` that kernels use.
    """
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "eventsnn": __version__,
        "python": platform.python_version(),
        **_versions(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cpus": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "threads": default_threads(),
    }


def processor() -> str:
    """Return the model name of the CPU."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _versions() -> dict[str, str]:
    found = {}
    for distribution in importlib.metadata.distributions():
        name = (distribution.metadata["Name"] or "").lower()
        if name in _LIBRARIES:
            found[name] = distribution.version
    return dict(sorted(found.items()))
