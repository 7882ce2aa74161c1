"""What 1,000 GPUs and a million hours of recordings would need, from measured rates: the tables of ``SCALE.md``.

Everything is computed from the newest records of ``python -m benchmarks.shares`` and what :data:`ASSUMED` says; nothing
here was measured on several machines or on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eventsnn.parallel import SHARD

HOURS, GPUS = 1e6, 1000
#: what was not measured: a camera of 640 x 480 pixels, links between machines, bytes of an event and of a feature
ASSUMED = {"camera": 1e6, "link": 1.25e9, "spike": 14, "feature": 12}
TARGET = 1000  # times real time on one GPU, as the project wants it; no GPU has been measured
WORKERS = (1, 2, 4, 16, 64, 256, 1000)
MINI_BATCH = 4096


@dataclass(frozen=True)
class Half:
    """One layer's mini-batch, for a sample: seconds of finding and of changing, bytes that come back; its weights."""

    layer: int
    find: float
    reach: float
    change: float
    back: float
    weights: float

    @classmethod
    def of(cls, line: dict[str, Any]) -> Half:
        n = line["mini_batch"]
        seconds = (line[f"{name}_cpu_seconds"] / n for name in ("find", "reach", "change"))
        back = (line["near_bytes"] + line["winners_bytes"]) / n
        return cls(line["layer"], *seconds, back, line["weights_bytes"])

    def seconds(self, workers: int, samples: int, tasks: dict[str, float]) -> float:
        """Return how long a mini-batch takes: found by workers, sent to one process, applied there one by one."""
        shared = (self.find + self.reach) / workers
        link = self.back * samples + self.weights * workers
        handing_out = tasks["round_trip_seconds"] + tasks["task_seconds"] * max(workers - 2, 0)
        return (shared + self.change) * samples + link / ASSUMED["link"] + handing_out

    @property
    def alone(self) -> float:
        """Return the seconds of a sample in one process, which sends nothing."""
        return self.find + self.change

    @property
    def limit(self) -> float:
        """Return how many times as fast any number of workers can be, with mini-batches however large."""
        return self.alone / (self.change + self.back / ASSUMED["link"])


def tables(records: list[dict[str, Any]]) -> str:
    """Return all tables, from the newest record of each part."""
    newest = {(line["part"], line.get("layer")): line for line in records}
    file, inference, tasks = (newest[part, None] for part in ("file", "inference", "tasks"))
    halves = [Half.of(line) for (part, _), line in sorted(newest.items(), key=str) if part == "learning"]
    parts = [measured(file, inference, tasks), a_million_hours(file, inference), a_thousand_gpus(file)]
    parts += [joining(file, inference, tasks), learning(halves), speed_up(halves, tasks)]
    return "".join(f"\n{part}\n" for part in parts) + "\n"


def measured(file: dict[str, Any], inference: dict[str, Any], tasks: dict[str, Any]) -> str:
    per_event = inference["events"] / inference["cpu_seconds"]
    rows = {
        "events in a second of recording": f"{events_per_second(file):,.0f}",
        "bytes of an event in the file": f"{file['bytes'] / file['events']:.2f}",
        "events that a core reads in a second, every check included": millions(reading_rate(file)),
        "events that a thread of the CPU sends through the network in a second": millions(per_event),
        "the same, times real time": f"{per_event / events_per_second(file):,.0f}",
        "events that a GPU sends through the network in a second, *g*": "not measured",
        "spikes that come out, for each event that goes in": f"{inference['output_spikes'] / inference['events']:.2f}",
        "Dask: answering two tasks, and each further task": f"{1e3 * tasks['round_trip_seconds']:.0f} ms, "
        f"{1e3 * tasks['task_seconds']:.1f} ms",
    }
    where = f"{file['processor']}, commit {file['commit']}, {file['date']}"
    head = [
        f"Measured on N-MNIST with the camera network of `benchmarks.peers` ({where}).",
        "",
        "| what | |",
        "|---|---|",
    ]
    return "\n".join([*head, *(f"| {name} | {value} |" for name, value in rows.items())])


def a_million_hours(file: dict[str, Any], inference: dict[str, Any]) -> str:
    head = [
        "A million hours. The second row assumes a camera of 640 x 480 pixels with a million events a second, and the",
        "same cost of an event, which is a lower bound: it grows with the grid (`benchmarks/README.md`).",
        "",
        "| recordings | events | files | reading all once, hours of a core | through the network, hours of a thread | "
        "the same on 1,000 threads |",
        "|---|---|---|---|---|---|",
    ]
    per_event = inference["events"] / inference["cpu_seconds"]
    rows = []
    for name, rate in (("as N-MNIST's", events_per_second(file)), ("640 x 480, assumed", ASSUMED["camera"])):
        events = HOURS * 3600 * rate
        stored = events * file["bytes"] / file["events"] / 1e12
        hours = events / per_event / 3600
        cells = (
            name,
            f"{events:.1e}",
            f"{stored:,.0f} TB",
            f"{events / reading_rate(file) / 3600:,.0f}",
            f"{hours:,.0f}",
        )
        rows.append(f"| {' | '.join(cells)} | {hours / 1000:,.0f} h |")
    return "\n".join([*head, *rows])


def a_thousand_gpus(file: dict[str, Any]) -> str:
    """Return what feeding the GPUs takes, as formulas, and for the rate that is aimed at."""
    rate, width = events_per_second(file), file["bytes"] / file["events"]
    aimed = TARGET * rate
    hours = HOURS * 3600 * rate / (GPUS * aimed) / 3600
    rows = [
        ("hours for a million hours as N-MNIST's", f"{HOURS * rate:.2e} / ({GPUS} *g*)", f"{hours:.1f}"),
        ("bytes a second from storage", f"{GPUS * width:,.0f} *g*", f"{GPUS * width * aimed / 1e9:,.0f} GB/s"),
        (
            "cores that read and check, for each GPU",
            f"*g* / {reading_rate(file):.1e}",
            f"{aimed / reading_rate(file):.2f}",
        ),
        ("bytes a second to each GPU", f"{ASSUMED['spike']} *g*", f"{ASSUMED['spike'] * aimed / 1e9:.2f} GB/s"),
    ]
    head = [
        f"A thousand GPUs of *g* events a second each. The last column is for the rate aimed at, {TARGET:,} times real",
        f"time (*g* = {millions(aimed)}), which nobody has measured.",
        "",
        "| what | formula | at the rate aimed at |",
        "|---|---|---|",
    ]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])


def joining(file: dict[str, Any], inference: dict[str, Any], tasks: dict[str, Any]) -> str:
    """Return from how many workers one process can take results."""
    recordings = inference["recordings"] / inference["cpu_seconds"]  # of one thread in a second
    each = inference["output_spikes"] / inference["recordings"] * ASSUMED["feature"]
    maps = 64 * ASSUMED["feature"]
    shards = inference["events"] / inference["cpu_seconds"] / SHARD
    rows = [
        ("a feature for each neuron that fired", f"{each:,.0f}", f"{ASSUMED['link'] / each / recordings:,.0f}"),
        ("features summed over each map", f"{maps:,.0f}", f"{ASSUMED['link'] / maps / recordings:,.0f}"),
        ("decisions", "8", f"{ASSUMED['link'] / 8 / recordings:,.0f}"),
        (
            f"Dask's scheduler, shards of {SHARD / 1e6:.1f} million events",
            "",
            f"{1 / tasks['task_seconds'] / shards:,.0f}",
        ),
    ]
    head = [
        "One process takes all results, at 10 Gbit/s (assumed), and one scheduler hands out all tasks. A GPU counts as",
        f"so many threads of the CPU as *g* is times {millions(inference['events'] / inference['cpu_seconds'])}.",
        "",
        "| what comes back | bytes a recording | threads of the CPU that fill it |",
        "|---|---|---|",
    ]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])


def learning(halves: list[Half]) -> str:
    head = [
        "Learning in mini-batches: what one sample costs where, in microseconds of a thread of the CPU, and what it",
        "sends. The limit is for any number of workers and mini-batches however large, beside one thread that learns",
        "alone.",
        "",
        "| layer | find winners (shared) | cut out their fields (shared) | change weights (one process) | "
        "bytes back, a sample | weights, bytes to each worker and mini-batch | limit |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = []
    for half in halves:
        micro = (f"{1e6 * seconds:.0f}" for seconds in (half.find, half.reach, half.change))
        cells = (str(half.layer), *micro, f"{half.back:,.0f}", f"{half.weights:,.0f}", f"{half.limit:.1f} x")
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([*head, *rows])


def speed_up(halves: list[Half], tasks: dict[str, float]) -> str:
    head = [
        f"How many times as fast as one thread alone, with mini-batches of {MINI_BATCH:,} (below 1: slower).",
        "",
        f"| workers | {' | '.join(f'layer {half.layer}' for half in halves)} |",
        "|---" * (len(halves) + 1) + "|",
    ]
    rows = []
    for workers in WORKERS:
        gains = (MINI_BATCH * half.alone / half.seconds(workers, MINI_BATCH, tasks) for half in halves)
        rows.append(f"| {workers:,} | {' | '.join(f'{gain:.2f}' for gain in gains)} |")
    return "\n".join([*head, *rows])


def events_per_second(file: dict[str, Any]) -> float:
    """Return events in a second of recording."""
    rate: float = file["events"] / file["recorded_seconds"]
    return rate


def reading_rate(file: dict[str, Any]) -> float:
    """Return events that a core reads in a second."""
    rate: float = file["events"] / file["reading_cpu_seconds"]
    return rate


def millions(rate: float) -> str:
    return f"{rate / 1e6:.2f} million"
