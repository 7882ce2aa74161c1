"""What a first run costs before it computes: imports, and compiling the kernels of a training.

``python -m benchmarks.cold_start``. Processor time of new processes, so that neighbours count little, and wall time;
compilation with an empty cache of Numba against a second process that finds it filled, of a first training of
``mozafari2019_mnist`` (``mozafari_...``) and of one that ``digits`` follows.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from benchmarks.record import append, environment

IMPORT = "from eventsnn import Network, evaluate, fit"  # "import eventsnn" alone loads nothing
TRAIN = """
import numpy as np
from eventsnn.models import digits, mozafari2019_mnist
for model in ({models}):
    images = np.random.default_rng(0).integers(0, 255, (40, *model.size)).astype(np.uint8)
    events = model.encoder.encode(images, np.arange(40) % 10)
    trained = model.with_epochs([1] * len(model.steps)).train(events)
    trained.evaluate(events)
"""
FIRST = TRAIN.format(models="mozafari2019_mnist(),")
ALL = TRAIN.format(models="mozafari2019_mnist(), digits()")


def main() -> None:
    nothing = statistics.median(seconds("pass")[0] for _ in range(5))
    imports = statistics.median(seconds(IMPORT)[0] for _ in range(5))
    line: dict[str, Any] = {
        "benchmark": "cold_start",
        "python_alone_cpu_seconds": nothing,
        "import_cpu_seconds": imports - nothing,
        **training("mozafari_", FIRST),
        **training("", ALL),
    }
    append("cold_start", environment() | line)


def training(which: str, program: str) -> dict[str, float]:
    """Return the seconds of a training with an empty cache and with a filled one, and their difference."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["NUMBA_CACHE_DIR"] = cache
        first = seconds(program)
        runs = np.array([seconds(program) for _ in range(3)])
    line: dict[str, float] = {}
    for kind, begun, again in zip(("cpu", "wall"), first, np.median(runs, axis=0).tolist(), strict=True):
        line |= {
            f"{which}first_training_{kind}_seconds": begun,
            f"{which}same_with_filled_cache_{kind}_seconds": again,
            f"{which}compilation_{kind}_seconds": begun - again,
        }
    return line


def seconds(program: str) -> tuple[float, float]:
    """Return the processor time and the wall time of a new Python process that runs ``program``."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


if __name__ == "__main__":
    main()
