"""Render what ``benchmarks/readers.py``, ``recordings.py`` and ``long_recording.py`` measured."""

from __future__ import annotations

from typing import Any


def section(readers: list[dict[str, Any]], recordings: list[dict[str, Any]]) -> str:
    """Return the section of the newest measurements, empty if there are none."""
    stored = {line["compression"]: line for line in recordings if line["benchmark"] == "storage"}
    long = {(line["events"], line["step"]): line for line in recordings if line["benchmark"] == "long recording"}
    parts = [_readers(readers)] if readers else []
    parts += [_storage(list(stored.values()))] if stored else []
    parts += [_long([long[key] for key in sorted(long)])] if long else []
    return "\n## Recordings\n\n" + "\n\n".join(parts) + "\n" if parts else ""


def _readers(measured: list[dict[str, Any]]) -> str:
    """Return a row for each file of the newest run, with the factor by which eventsnn is faster than each peer."""
    lines = {(line["file"], line["program"]): line for line in measured if line["commit"] == measured[-1]["commit"]}
    peers = sorted({program for _, program in lines} - {"eventsnn"})
    versions = {program: line["version"] for (_, program), line in lines.items()}
    head = [
        "Million events a second of processor time that are read from cached files on one core of",
        f"{measured[-1]['processor']}, the quickest of some rounds in turns (`python -m benchmarks.readers`).",
        "In brackets how many times as fast eventsnn is. `numpy` is `np.load`, which looks at no event.",
        "",
        "| file | events | eventsnn | " + " | ".join(f"{peer} {versions[peer]}" for peer in peers) + " |",
        "|---|---|---|" + "---|" * len(peers),
    ]
    rows = []
    for file in dict.fromkeys(file for file, _ in lines):
        ours = lines[file, "eventsnn"]
        cells = [file, f"{ours['events']:,}", f"{_speed(ours):.0f}"]
        found = [lines.get((file, peer)) for peer in peers]
        cells += [f"{_speed(one):.0f} ({_speed(ours) / _speed(one):.2g} x)" if one else "–" for one in found]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([*head, *rows])


def _speed(line: dict[str, Any]) -> float:
    return float(line["million_events_per_cpu_second"])


def _storage(lines: list[dict[str, Any]]) -> str:
    head = [
        f"Recordings in HDF5, {lines[-1]['events']:,} events, {lines[-1]['threads']} threads, wall time "
        "(`python -m benchmarks.recordings`).",
        "",
        "| compression | bytes an event | written, million a second | read, million a second | a window of 10 ms |",
        "|---|---|---|---|---|",
    ]
    names = {"gzip": "`gzip`, the default", "blosc2": "`blosc2` (`fast`)"}
    rows = (
        f"| {names.get(line['compression'], line['compression'])} | {line['bytes_per_event']:.1f} "
        f"| {line['write_million_events_a_second']:.1f} | {line['read_million_events_a_second']:.1f} "
        f"| {line['milliseconds_a_window']:.1f} ms |"
        for line in lines
    )
    return "\n".join([*head, *rows])


def _long(lines: list[dict[str, Any]]) -> str:
    head = [
        "Long recordings under a limit of 1 GiB of memory (`python -m benchmarks.long_recording`).",
        "",
        "| events | step | processor time | ns an event | peak memory |",
        "|---|---|---|---|---|",
    ]
    rows = (
        f"| {line['events']:,} | {line['step']} | {line['cpu_seconds']:.1f} s "
        f"| {line['cpu_nanoseconds_an_event']:.0f} | {line['peak_gib']:.2f} GiB |"
        for line in lines
    )
    return "\n".join([*head, *rows])
