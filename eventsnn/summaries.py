"""What ``eventsnn info`` and ``eventsnn check`` say about a file, for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from eventsnn.io import EventFileError, Report, check
from eventsnn.sources import encoder_name


def summary_lines(summary: dict[str, Any]) -> list[str]:
    """Return what :func:`eventsnn.io.info` found as a table for people."""
    if "samples" not in summary:
        return _recording_lines(summary)
    grid = "{} channels of {} x {} (height x width)".format(*summary["shape"])
    if "format" in summary:
        rows = {"format": summary["format"], "samples": f"{summary['samples']:,}", "shape": grid}
        rows |= {"labels": _classes(summary["labels"]), "file": f"{summary['bytes']:,} bytes"}
        return _table(summary["path"], rows)
    origin = summary["provenance"]
    rows = {
        "samples": f"{summary['samples']:,}",
        "events": f"{summary['events']:,}, {summary['events'] / max(summary['samples'], 1):,.1f} a sample",
        "shape": grid,
        "time unit": {"bin": "bin", "us": "microsecond"}[summary["unit"]],
        "duration": f"{summary['duration']:,}",
        "density": f"{summary['density']:.4f} spikes per neuron and sample",
        "labels": _classes(summary["labels"]),
        "file": f"{summary['bytes']:,} bytes, format version {summary['format_version']}",
    }
    if summary["t_offset"]:
        rows["clock"] = f"begins at {summary['t_offset']:,} us"
    if summary["groups"] is not None:
        rows["groups"] = f"{summary['groups']:,}"
    rows |= {name.replace("_", " "): text for name, text in origin.items() if name not in ("encoder", "extra")}
    if "encoder" in origin:
        rows["encoder"] = encoder_name(origin["encoder"]) or json.dumps(origin["encoder"])
    if "extra" in origin:
        rows["extra"] = json.dumps(origin["extra"])
    return _table(summary["path"], rows)


def _recording_lines(summary: dict[str, Any]) -> list[str]:
    events, sensor = summary["events"], summary["sensor"]
    rows = {
        "format": summary["format"],
        "events": "not known before they are read" if events is None else f"{events:,}",
        "sensor": "not said" if sensor is None else "{} x {} (width x height)".format(*sensor),
        "time unit": "microsecond",
        "file": f"{summary['bytes']:,} bytes",
    }
    turned = ", ".join(name for name, value in summary["orientation"].items() if value)
    rows |= {"turned": turned} if turned else {}
    return _table(summary["path"], rows | {f"{name}:": text for name, text in summary["metadata"].items()})


def _table(title: str, rows: dict[str, str]) -> list[str]:
    width = max(15, *(len(name) + 1 for name in rows))
    return [title, *(f"  {name:<{width}}{text}" for name, text in rows.items())]


def _classes(labels: dict[str, list[int]] | None) -> str:
    return "none" if labels is None else f"{len(labels['classes'])} classes of {_range(labels['counts'])} samples"


def _range(counts: list[int]) -> str:
    low, high = min(counts, default=0), max(counts, default=0)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def check_lines(paths: Sequence[Path]) -> Iterator[tuple[str, bool]]:
    """Read files, and all files of folders, to their ends; yield lines for people, and whether each is of an error.

    A sound file has a line if it was named, a folder one for all of its sound files, and every broken file one.

    Raises
    ------
    OSError
        If a file or folder cannot be read.
    ValueError
        If a folder holds no file.
    """
    for path in paths:
        if not path.is_dir():
            yield _checked(path)[:2]
            continue
        files = list(_files(path))
        if not files:
            raise ValueError(f"{path}: expected recordings or event files, found none")
        sound = events = 0
        for file in files:
            line, is_error, found = _checked(file)
            if is_error:
                yield line, True
            else:
                sound, events = sound + 1, events + found
        broken = f"; {len(files) - sound:,} broken" * (sound < len(files))
        yield f"{path}: {sound:,} of {len(files):,} files sound, {events:,} events{broken}", False


def _files(folder: Path) -> Iterator[Path]:
    """Yield what is not hidden in a folder and its folders, in order."""
    for path in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


def _checked(path: Path) -> tuple[str, bool, int]:
    """Return a line, whether it is of an error, and how many events the file has."""
    try:
        found = check(path)
        return check_line(path, found), False, found["events"]
    except EventFileError as error:
        return str(error), True, 0


def check_line(path: Path, found: dict[str, Any]) -> str:
    """Return what :func:`eventsnn.io.check` found in one line.

    Raises
    ------
    EventFileError
        If anything of a recording was lost.
    """
    if "samples" in found:
        times = f"times {found['earliest']} to {found['latest']} {found['unit']}" if found["events"] else "no times"
        return f"{path}: sound; {found['samples']:,} samples, {found['events']:,} events, {times}"
    counts = {name: found[name] for name in ("earliest", "latest", "dropped", "skipped", "backward", "furthest_back")}
    report = Report(found["events"], **counts)
    if report.dropped:
        raise EventFileError(str(report), path)
    times = f"; times {report.earliest} to {report.latest} us" if report.n_events else ""
    return f"{path}: sound {found['format']}; {report}{times}"
