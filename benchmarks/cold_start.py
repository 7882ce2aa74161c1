"""What a first run costs before it computes: imports, and compiling every kernel of a training.

``python -m benchmarks.cold_start``. Processor time of new processes, so that neighbours count little; compilation with
an empty cache of Numba against a second process that finds it filled.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks.record import append, environment

IMPORT = "from eventsnn import Network, evaluate, fit"  # "import eventsnn" alone loads nothing
TRAIN = """
import numpy as np
from eventsnn.models import digits, mozafari2019_mnist
for model in (mozafari2019_mnist(), digits()):
    images = np.random.default_rng(0).integers(0, 255, (40, *model.size)).astype(np.uint8)
    events = model.encoder.encode(images, np.arange(40) % 10)
    trained = model.with_epochs([1] * len(model.steps)).train(events)
    trained.evaluate(events)
"""


def main() -> None:
    nothing = statistics.median(seconds("pass") for _ in range(5))
    imports = statistics.median(seconds(IMPORT) for _ in range(5))
    with tempfile.TemporaryDirectory() as cache:
        os.environ["NUMBA_CACHE_DIR"] = cache
        first = seconds(TRAIN)
        again = statistics.median(seconds(TRAIN) for _ in range(3))
    line: dict[str, Any] = {
        "benchmark": "cold_start",
        "python_alone_cpu_seconds": nothing,
        "import_cpu_seconds": imports - nothing,
        "first_training_cpu_seconds": first,
        "same_with_filled_cache_cpu_seconds": again,
        "compilation_cpu_seconds": first - again,
    }
    append("cold_start", environment() | line)


def seconds(program: str) -> float:
    """Return the processor time of a new Python process that runs ``program``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", program], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
