"""Go through workloads and tasks, let the peers take turns, write records."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import dense, spyker, spyketorch
from benchmarks.peers.agreement import compare, sentence
from benchmarks.peers.measuring import Turns, digits, measure
from benchmarks.peers.ours import Ours
from benchmarks.peers.tasks import Absent, Job, NotOffered, Peer, Task
from benchmarks.peers.workloads import WORKLOADS, NoData, Options
from benchmarks.peers.yardstick import loop
from benchmarks.record import append, environment
from eventsnn.study import vector_adds_per_second

ROOT = Path(__file__).parents[2]
PEERS = ("spyketorch", "spyker-dense", "spyker-sparse", "dense")
LOOPS = {threads: f"loop, {threads} threads" for threads in (1, 2)}
ALONE = 3  # times as many turns where nothing but eventsnn is measured
ROUNDED = 16  # samples of the comparison with rounded weights; each is learnt from on its own

Write = Callable[[dict[str, Any]], None]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    arguments = parse(argv)
    common = environment() | {"benchmark": "peers", "run": time.strftime("%Y-%m-%dT%H:%M:%S")}
    print(f"{common['processor']}, one thread each")

    def write(line: dict[str, Any]) -> None:
        if not arguments.dry_run:
            append("peers", common | line)

    peers = present(arguments, write)
    options = Options(arguments.data, arguments.scratch, arguments.images)
    for name in arguments.workloads:
        try:
            workload = WORKLOADS[name](options)
        except NoData as reason:
            print(f"{name}: {reason}")
            continue
        print(f"{name}: {workload.describes}")
        for task in workload.tasks:
            run(
                task,
                peers,
                arguments.repeats,
                partial(_with, write, {"workload": name, "samples_are": workload.describes}),
            )


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments."""
    shared = ROOT.parent / "shared" / "data"
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--images", type=int, default=128, help="images a task; fewer of the large ones (default 128)")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each program (default 3)")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), metavar="NAME")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), metavar="NAME", help=", ".join(PEERS))
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("EVENTSNN_DATA") or shared))
    parser.add_argument(
        "--spyketorch", type=Path, default=Path(os.environ.get("SPYKETORCH") or ROOT.parent / "SpykeTorch")
    )
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "eventsnn-peers")
    parser.add_argument("--dry-run", action="store_true", help="print, and record nothing")
    return parser.parse_args(argv)


def present(arguments: argparse.Namespace, write: Write) -> list[Peer]:
    """Return ourselves and the peers that are here; record those that are absent."""
    loaders: dict[str, Callable[[], Peer]] = {
        "spyketorch": lambda: spyketorch.load(arguments.spyketorch),
        "spyker-dense": lambda: spyker.load(sparse=False),
        "spyker-sparse": lambda: spyker.load(sparse=True),
        "dense": dense.load,
    }
    peers: list[Peer] = [Ours(1)]
    for name in arguments.peers:
        try:
            peers.append(loaders[name]())
        except Absent as reason:
            print(f"{name} is absent: {reason}")
            write({"peer": name, "absent": str(reason)})
    return [*peers, Ours(2)]


def run(task: Task, peers: Sequence[Peer], repeats: int, write: Write) -> None:
    """Measure one task, compare the answers with ours, and write a line for each peer."""
    jobs: dict[str, Job] = {}
    ours, *others = peers
    for peer in peers:
        if task.alone != (peer.threads > 1) and peer is not ours:
            continue
        try:
            jobs[peer.name] = peer.prepare(task)
        except NotOffered as reason:
            write({"stage": task.stage, "peer": peer.name, "not_offered": str(reason)})
    if task.alone:  # what two threads can gain at the time
        jobs |= {name: loop(threads) for threads, name in LOOPS.items()}
        repeats *= ALONE
    answers: dict[str, np.ndarray] = {}
    machine = {"load": os.getloadavg()[0], "vector_adds_per_second": digits(vector_adds_per_second())}
    turns = measure(jobs, repeats, answers.__setitem__)
    for peer in (ours, *(p for p in others if p.name in jobs)):
        line = _line(task, peer, jobs[peer.name], turns[peer.name], machine)
        if peer is not ours:
            line |= agreements(task, ours, peer, jobs[peer.name], answers)
        if peer.threads in LOOPS and task.alone:
            line["loop_wall_seconds"] = [digits(seconds) for seconds in turns[LOOPS[peer.threads]].wall]
        _say(task, line, turns[ours.name])
        write(line)


def agreements(task: Task, ours: Peer, peer: Peer, job: Job, answers: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return how far a peer's answers agree with ours, and how far with weights that make every sum exact."""
    same = answers[ours.name] if job.batch == 1 else Ours(1).prepare(task, job.batch).run()
    found: dict[str, Any] = {"agreement": compare(task.answer, same, answers[peer.name]), "differs": job.differs}
    if task.events is not None and not task.alone:
        few = task.rounded().first(ROUNDED)
        each = [few] if task.lesson is None else [few.first(1, i) for i in range(few.samples)]
        pair = [np.concatenate([who.prepare(one).run() for one in each]) for who in (ours, peer)]
        found["agreement_rounded"] = compare(task.answer, *pair)
    return found


def _line(task: Task, peer: Peer, job: Job, turns: Turns, machine: dict[str, float]) -> dict[str, Any]:
    line: dict[str, Any] = machine | {
        "stage": task.stage,
        "peer": peer.name,
        "version": peer.version,
        "threads": peer.threads,
    }
    line |= {"samples": task.samples, "note": job.note} | turns.record(task.samples)
    if task.additions is not None:
        each = task.additions / task.samples
        rate = each * line["images_per_second"]
        line |= {"additions_per_image": each, "additions_per_second": digits(rate)}
        line |= {"share_of_peak": digits(rate / machine["vector_adds_per_second"])}
    return line


def _say(task: Task, line: dict[str, Any], ours: Turns) -> None:
    milliseconds = 1e3 / line["images_per_second"]
    ratio = np.median(line["cpu_seconds"]) / np.median(ours.cpu)
    text = f"  {task.stage:32} {line['peer']:20} {milliseconds:9.3f} ms of CPU an image, {ratio:7.2f} of ours"
    if "agreement" in line:
        text += f"; {sentence(line['agreement'])}"
    if "agreement_rounded" in line:
        text += f"; rounded weights: {sentence(line['agreement_rounded'])}"
    print(text, flush=True)


def _with(write: Write, more: dict[str, Any], line: dict[str, Any]) -> None:
    write(more | line)
