"""What the README says of the CUDA backend on a device, from ``results/gpu.jsonl``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

BACKENDS = Path(__file__).parents[1] / "eventsnn" / "backends"
LAUNCHING = ("device.py", "nvrtc.py")  # beside cuda*.py
WORK = {
    "all layers": "inference `mozafari2019_mnist`, learnt weights, transfers included",
    "learning layer 1": "learning layer 1, online and exact",
    "learning layer 2": "learning layer 2, online and exact",
}
PEERS = ("dense PyTorch", "SpykeTorch")


def fingerprint() -> str:
    """Return the SHA-256 of the kernels and of what launches them."""
    files = sorted([*BACKENDS.glob("*.cu"), *BACKENDS.glob("cuda*.py"), *(BACKENDS / name for name in LAUNCHING)])
    return hashlib.sha256(b"\0".join(f.name.encode() + b"\0" + f.read_bytes() for f in files)).hexdigest()


def gpu_section(lines: list[dict[str, Any]], current: str) -> str:
    """Return what is known of the CUDA backend on a device; ``current`` is the fingerprint of the sources."""
    if not lines:
        return (
            "**No figure for a GPU**: the CUDA backend was never run on a device, since none could be had.\n"
            "Its kernels are tested on the CPU, through the same launcher, and compiled for sm_75 to sm_100;\n"
            "`pytest -m gpu` and `python -m benchmarks.gpu` wait for a device."
        )
    last = lines[-1]
    of = "the present kernels" if last["sources"] == current else "**earlier kernels** than the present ones"
    tests = ", ".join(f"{n} {word}" for word, n in last["tests"].items() if n)
    head = [
        f"The CUDA backend on {last['device']}, {last['date']}, commit {last['commit']}: a record of {of}",
        f"(`python -m benchmarks.gpu`; medians of warm runs by device events; tests on the device: {tests}).",
        "",
        "| work, samples a second | eventsnn | " + " | ".join(PEERS) + " |",
        "|---|---|" + "---|" * len(PEERS),
    ]
    rows = [_row(name, last[stage]) for stage, name in WORK.items() if stage in last]
    return "\n".join([*head, *rows, "", *_sentences(last)])


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
