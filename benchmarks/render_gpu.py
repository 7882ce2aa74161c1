"""What the README says of the CUDA backend on a device, from ``results/gpu.jsonl``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

BACKENDS = Path(__file__).parents[1] / "eventsnn" / "backends"
WORK = {
    "all layers": "inference `mozafari2019_mnist`, learnt weights, transfers included",
    "learning layer 1": "learning layer 1, online and exact",
    "learning layer 2": "learning layer 2, online and exact",
}
PEERS = ("dense PyTorch", "SpykeTorch")


def fingerprint() -> str:
    """Return the SHA-256 of :func:`sources`."""
    return hashlib.sha256(b"\0".join(f.name.encode() + b"\0" + f.read_bytes() for f in sources())).hexdigest()


def sources() -> list[Path]:
    """Return the kernels, what compiles and launches them, and what writes kernels of rules."""
    return sorted([*BACKENDS.glob("*.cu"), *BACKENDS.glob("cuda*.py"), BACKENDS / "device.py", BACKENDS / "nvrtc.py"])


def gpu_section(lines: list[dict[str, Any]], current: str) -> str:
    """Return what is known of the CUDA backend on a device; ``current`` is the fingerprint of the sources."""
    if not lines:
        return (
            "**No figure for a GPU**: the CUDA backend was never run on a device, since none could be had.\n"
            "Its kernels are tested on the CPU, through the same launcher, and compiled for sm_75 to sm_100;\n"
            "`pytest -m gpu` and `python -m benchmarks.gpu` wait for a device."
        )
    tests, figures = (next(filter(has, reversed(lines)), None) for has in (_has_tests, _has_figures))
    parts = []
    if tests is not None:
        outcome = ", ".join(f"{n} {word}" for word, n in tests["tests"].items() if n)
        parts.append(f"The tests of the CUDA backend {_record(tests, current)} (`pytest -m gpu`): {outcome}.")
    if figures is not None:
        parts.append(_figures(figures, current))
    else:
        parts.append("**No figure for a GPU** yet: its speed was not measured.")
    return "\n\n".join(parts)


def _has_tests(line: dict[str, Any]) -> bool:
    return "tests" in line


def _has_figures(line: dict[str, Any]) -> bool:
    return any(stage in line for stage in WORK)


def _record(line: dict[str, Any], current: str) -> str:
    of = "the present kernels" if line["sources"] == current else "**earlier kernels** than the present ones"
    return f"on {line['device']}, {line['date']}, commit {line['commit']}, a record of {of}"


def _figures(line: dict[str, Any], current: str) -> str:
    head = [
        f"What it reaches {_record(line, current)}",
        "(`python -m benchmarks.gpu`; medians of warm runs by device events):",
        "",
        "| work, samples a second | eventsnn | " + " | ".join(PEERS) + " |",
        "|---|---|" + "---|" * len(PEERS),
    ]
    rows = [_row(name, line[stage]) for stage, name in WORK.items() if stage in line]
    return "\n".join([*head, *rows, "", *_sentences(line)])


def _row(name: str, rates: dict[str, float]) -> str:
    ours = rates["eventsnn"]
    theirs = [f"{rates[p]:,.0f} ({ours / rates[p]:.1f} x)" if p in rates else "–" for p in PEERS]
    return f"| {name} | {ours:,.0f} | " + " | ".join(theirs) + " |"


def _sentences(line: dict[str, Any]) -> list[str]:
    found = []
    if "layers" in line and "l2_bytes_per_second" in line:
        l2 = line["l2_bytes_per_second"]
        rates = ", ".join(f"{layer['bytes_per_second'] / l2:.0%}" for layer in line["layers"])
        found.append(
            f"Layer kernels load weights at {rates} of what the second-level cache gives, {l2 / 1e12:.1f} TB/s."
        )
    if "nmnist_times_real_time" in line:
        found.append(f"N-MNIST, every event: {line['nmnist_times_real_time']:,.0f} times real time.")
    return found
