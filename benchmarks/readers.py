"""How fast recordings are read, beside the readers on PyPI that read the same file.

``python -m benchmarks.readers [--data ../shared/data] [--events 5000000]``. Each file is read whole, from the cache of
the system into one structured array, by all programs in turn, round after round; the fastest round of each counts.
Peers are imported if they are there (``aedat``, ``event_stream``, ``expelliarmus``, ``faery``, ``tonic``) and named as
absent if not. What another program reads must have as many events, or it is said to differ.
"""

from __future__ import annotations

import argparse
import importlib
import struct
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import eventsnn as es
from benchmarks.record import append, environment

ROUNDS = 7
SENSOR = (1280, 720)
Read = Callable[[Path], int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--events", type=int, default=5_000_000, help="of the files that are made here")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--dry", action="store_true", help="print, but do not record")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, paths, peers in workloads(options.data, Path(folder), options.events):
            if all(path.exists() for path in paths):
                report(name, paths, peers, options)
            else:
                print(f"{name}: {paths[0]} is absent")


def workloads(data: Path, folder: Path, n: int) -> list[tuple[str, list[Path], dict[str, Read]]]:
    """Return name, files and peers of each task."""
    made, real = made_files(folder, n), data / "events"
    nmnist = sorted((data / "nmnist").glob("T*/*/*.bin")) or [data / "nmnist"]
    prophesee = {"faery": faery}
    return [
        ("EVT2, made", [made["evt2"]], prophesee | {"expelliarmus": partial(expelliarmus, "evt2")}),
        ("EVT2", [real / "faery/evt2.raw"], prophesee | {"expelliarmus": partial(expelliarmus, "evt2")}),
        ("EVT2.1, made", [made["evt21"]], {}),
        ("EVT3, made", [made["evt3"]], prophesee | {"expelliarmus": partial(expelliarmus, "evt3")}),
        ("EVT3", [real / "expelliarmus/evt3_sample.raw"], prophesee | {"expelliarmus": partial(expelliarmus, "evt3")}),
        ("DAT, made", [made["dat"]], prophesee | {"expelliarmus": partial(expelliarmus, "dat")}),
        ("DAT", [real / "tonic/sample_ncars.dat"], {"expelliarmus": partial(expelliarmus, "dat")}),
        ("AEDAT 2", [real / "ne15/test.aedat"], {"tonic": partial(tonic_aedat, "read_dvs_128")}),
        ("AEDAT 3.1, made", [made["aedat3"]], {"tonic": partial(tonic_aedat, "read_dvs_ibm")}),
        ("AEDAT 4", [real / "tonic/sample.aedat4"], {"aedat": aedat, "faery": faery, "tonic": tonic_aedat4}),
        ("Event Stream, colour", [real / "faery/color.es"], {"event_stream": event_stream}),
        ("Event Stream, DVS, made", [made["es"]], {"event_stream": event_stream, "faery": faery}),
        ("Event Stream, ATIS, made", [made["atis"]], {"event_stream": event_stream, "faery": faery}),
        ("1,100 of N-MNIST", nmnist, {"tonic": tonic}),
        ("npy, made", [made["npy"]], {"numpy": lambda path: len(np.load(path))}),
        ("text, made", [made["csv"]], {"faery": faery_csv}),
    ]


def report(name: str, paths: list[Path], peers: dict[str, Read], options: argparse.Namespace) -> None:
    """Time all programs on some files and record a line for each."""
    programs = {"eventsnn": ours} | peers
    counts, absent = {}, {}
    for program, read in programs.items():
        try:
            counts[program] = sum(map(read, paths))
        except ImportError as error:
            absent[program] = f"absent: {error}"
        except Exception as error:  # what a peer makes of a file is its own affair, and is recorded
            absent[program] = f"failed: {type(error).__name__}: {error}"
    seconds: dict[str, list[tuple[float, float]]] = {program: [] for program in counts}
    for _ in range(options.rounds):
        for program in counts:
            seconds[program].append(timed(programs[program], paths))
    for program, why in absent.items():
        print(f"{name}: {program} {why}")
    for program, n in counts.items():
        cpu, wall = (min(values) for values in zip(*seconds[program], strict=True))
        line: dict[str, Any] = {
            "benchmark": "readers",
            "file": name,
            "program": program,
            "version": version_of(program),
        }
        line |= {"events": n, "differs": n != counts["eventsnn"], "million_events_per_cpu_second": n / cpu / 1e6}
        line |= {"million_events_per_second": n / wall / 1e6, "absent": absent}
        if options.dry:
            print(f"{name:26} {program:13} {n:9,} events {n / cpu / 1e6:8.1f} M/s of CPU {n / wall / 1e6:8.1f} M/s")
        else:
            append("readers", environment() | line)


def timed(read: Read, paths: list[Path]) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    for path in paths:
        read(path)
    return time.process_time() - cpu, time.perf_counter() - wall


def version_of(program: str) -> str:
    try:
        return version(program)
    except PackageNotFoundError:
        return es.__version__ if program == "eventsnn" else ""


# Programs


def ours(path: Path) -> int:
    recording = es.open(path)
    assert isinstance(recording, es.Recording)
    return len(recording.read())


def expelliarmus(encoding: str, path: Path) -> int:
    return len(importlib.import_module("expelliarmus").Wizard(encoding=encoding).read(path))


def faery(path: Path) -> int:
    return len(importlib.import_module("faery").events_stream_from_file(path).to_array())


def faery_csv(path: Path) -> int:
    module = importlib.import_module("faery")
    return len(module.events_stream_from_file(path, dimensions_fallback=SENSOR).to_array())


def aedat(path: Path) -> int:
    decoder = importlib.import_module("aedat").Decoder(path)
    return len(np.concatenate([packet["events"] for packet in decoder if "events" in packet]))


def event_stream(path: Path) -> int:
    with importlib.import_module("event_stream").Decoder(str(path)) as decoder:
        return len(np.concatenate(list(decoder)))


def tonic(path: Path) -> int:
    fields = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", bool)])
    return len(importlib.import_module("tonic.io").read_mnist_file(path, fields))


def tonic_aedat(name: str, path: Path) -> int:
    return len(getattr(importlib.import_module("tonic.io"), name)(str(path))[1])


def tonic_aedat4(path: Path) -> int:
    return len(importlib.import_module("tonic.io").read_aedat4(str(path)))


# Files


def made_files(folder: Path, n: int) -> dict[str, Path]:
    """Write the same events in several formats: 10 million a second, rows that jump, both polarities."""
    rng = np.random.default_rng(0)
    t = np.cumsum(rng.integers(0, 2, n // 5)).repeat(5)[: n // 5 * 5]
    x, y, p = (rng.integers(0, high, len(t)) for high in (*SENSOR, 2))
    y = y[::5].repeat(5)
    contents = {
        "evt2": b"% evt 2.0\n% geometry 1280x720\n% end\n" + evt2_words(t, x, y, p),
        "evt21": b"% evt 2.1\n% geometry 1280x720\n% end\n" + evt21_words(t, x, y, p),
        "evt3": b"% evt 3.0\n% geometry 1280x720\n% end\n" + evt3_words(t, x, y, p),
        "dat": b"% Data file containing CD events.\n% Version 2\n% Width 1280\n% Height 720\n" + bytes([12, 8])
        + ((p << 28 | y << 14 | x) << 32 | t).astype("<u8").tobytes(),
        "aedat3": b"#!AER-DAT3.1\r\n#Source 1: made\r\n#!END-HEADER\r\n" + aedat3_packets(t, x, y, p),
        "es": b"Event Stream" + bytes([2, 0, 0, 1]) + np.array(SENSOR, "<u2").tobytes() + es_bytes(t, x, y, p),
        "atis": b"Event Stream" + bytes([2, 0, 0, 2]) + np.array(SENSOR, "<u2").tobytes() + es_bytes(t, x, y, p, 2),
    }  # fmt: skip
    suffix = {"evt2": "raw", "evt21": "raw", "evt3": "raw", "aedat3": "aedat", "atis": "es"}
    paths = {name: folder / f"{name}.{suffix.get(name, name)}" for name in contents}
    for name, content in contents.items():
        paths[name].write_bytes(content)
    table = np.zeros(len(t), es.io.EVENT_DTYPE)
    table["t"], table["x"], table["y"], table["p"] = t, x, y, p
    paths["npy"], paths["csv"] = folder / "made.npy", folder / "made.csv"
    np.save(paths["npy"], table)
    few = slice(0, len(t) // 10)
    rows = zip(*(column[few].tolist() for column in (t, x, y, p)), strict=True)
    paths["csv"].write_text("t,x,y,p\n" + "".join(f"{a},{b},{c},{d}\n" for a, b, c, d in rows))
    return paths


def with_times(words: np.ndarray, high: np.ndarray, dtype: str) -> bytes:
    """Put the word for the upper bits of the time before each event that needs another."""
    new = np.flatnonzero(np.diff(high, prepend=-1))
    return np.insert(words, new, high[new]).astype(dtype).tobytes()


def evt2_words(t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> bytes:
    return with_times(p << 28 | (t & 63) << 22 | x << 11 | y, 8 << 28 | t >> 6, "<u4")


def evt21_words(t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> bytes:
    words = (p << 28 | (t & 63) << 22 | x << 11 | y).astype(np.uint64) << np.uint64(32) | np.uint64(1)
    return with_times(words, (8 << 28 | t >> 6).astype(np.uint64) << np.uint64(32), "<u8")


def evt3_words(t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> bytes:
    """Return words for the time, the row, and five events of each."""
    first = slice(None, None, 5)
    rows = np.stack([8 << 12 | t[first] >> 12 & 4095, 6 << 12 | t[first] & 4095, y[first]], axis=1)
    events = (2 << 12 | p << 11 | x).reshape(-1, 5)
    return np.concatenate([rows, events], axis=1).astype("<u2").tobytes()


def aedat3_packets(t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray, size: int = 4096) -> bytes:
    """Return polarity packets of so many events."""
    words = np.stack([1 | p << 1 | y << 2 | x << 17, t], axis=1).astype("<u4")
    packets = [words[begin : begin + size] for begin in range(0, len(words), size)]
    heads = (struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, len(part), len(part), len(part)) for part in packets)
    return b"".join(head + part.tobytes() for head, part in zip(heads, packets, strict=True))


def es_bytes(t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray, bits: int = 1) -> bytes:
    """Return events of a DVS, or with 2 bits before the time those of an ATIS: brighter, and no exposure."""
    events = np.zeros(len(t), [("first", "u1"), ("x", "<u2"), ("y", "<u2")])
    events["first"], events["x"], events["y"] = np.diff(t, prepend=0) << bits | p << bits - 1, x, y
    return events.tobytes()


if __name__ == "__main__":
    main()
