"""One line of JSON per measurement, with the circumstances that it was made in."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def environment() -> dict[str, Any]:
    """Return versions, commit, processor and number of CPUs."""
    from eventsnn.environment import environment as circumstances

    root = Path(__file__).parents[1]
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no", "eventsnn"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    commit = git.stdout.strip() + ("+changes" if changed.stdout.strip() else "")
    return circumstances() | {"commit": commit}


def peak_memory_gib() -> float:
    """Return the largest resident size of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def append(name: str, line: dict[str, Any]) -> None:
    """Append a measurement to ``results/<name>.jsonl`` and print it."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(line)
    with (RESULTS / f"{name}.jsonl").open("a") as file:
        file.write(text + "\n")
    print(text, flush=True)
