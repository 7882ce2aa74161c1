"""Render what ``benchmarks/scale.py`` measured."""

from __future__ import annotations

from typing import Any


def tables(measured: list[dict[str, Any]]) -> str:
    """Return the tables of the newest measurements."""
    lines = {key(line): line for line in measured}
    parts = [
        table([line for line in lines.values() if line["benchmark"] == name])
        for name, table in (("events", events_table), ("density", density_table), ("memory", memory_table))
    ]
    return "\n## Scale\n" + "".join(f"\n{part}\n" for part in parts) + "\n"


def key(line: dict[str, Any]) -> tuple[Any, ...]:
    """Return what a line measures."""
    names = ("benchmark", "growth", "samples", "shape", "density", "task", "events")
    return tuple(str(line.get(name)) for name in names)


def events_table(lines: list[dict[str, Any]]) -> str:
    head = [
        "Cost against events: a layer of 30 maps with kernels of 5 x 5, a tenth of the pixels of two channels fire",
        "(`python -m benchmarks.scale`; processor time of one thread, learning with five winners).",
        "",
        "| what grows | stimuli | grid | events | inference, µs an event | learning, µs an event |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *(events_row(line) for line in lines)])


def events_row(line: dict[str, Any]) -> str:
    micro = [1e6 * line[f"{name}_cpu_seconds"] / line["events"] for name in ("inference", "learning")]
    grid = " x ".join(map(str, line["shape"]))
    return f"| {line['growth']} | {line['samples']:,} | {grid} | {line['events']:,} | {micro[0]:.3f} | {micro[1]:.3f} |"


def density_table(lines: list[dict[str, Any]]) -> str:
    first = lines[0]
    head = [
        f"Cost against density: the same layer on a grid of {first['shape'][1]} x {first['shape'][2]}, "
        f"{first['bins']} bins, beside {first['dense']}",
        "on batch and time folded together, one thread each. Density is the share of input lines that fire.",
        crossover(lines),
        "",
        "| density | events a stimulus | ms a stimulus | dense, ms a stimulus | dense / ours |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*head, *(density_row(line) for line in lines)])


def crossover(lines: list[dict[str, Any]]) -> str:
    faster = [line["density"] for line in lines if line["cpu_seconds"] < line["dense_cpu_seconds"]]
    slower = [line["density"] for line in lines if line["cpu_seconds"] >= line["dense_cpu_seconds"]]
    if not slower:
        return "Dense is faster at none of these densities."
    return f"Dense is faster from a density between {max(faster, default=0):.1%} and {min(slower):.1%} on."


def density_row(line: dict[str, Any]) -> str:
    n = line["samples"]
    ours, dense = 1e3 * line["cpu_seconds"] / n, 1e3 * line["dense_cpu_seconds"] / n
    return f"| {line['density']:.1%} | {line['events'] / n:,.0f} | {ours:.3f} | {dense:.2f} | {dense / ours:.1f} |"


def memory_table(lines: list[dict[str, Any]]) -> str:
    head = [
        f"Peak memory (resident) of each task under a limit of {lines[0]['limit_bytes'] / 2**30:.0f} GiB of private "
        "memory (`RLIMIT_DATA`), two layers with",
        "pooling; `fit` with two epochs and `memory` of 128 MiB.",
        "",
        "| task | events in the file | peak | time |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *(memory_row(line) for line in sorted(lines, key=lambda line: line["task"]))])


def memory_row(line: dict[str, Any]) -> str:
    return (
        f"| {line['task']} | {line['events'] / 1e6:.1f} million | {line['peak_gib']:.2f} GiB | "
        f"{line['wall_seconds']:.0f} s |"
    )
