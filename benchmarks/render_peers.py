"""Tables of the comparison with other programs, from ``results/peers.jsonl``."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

Line = dict[str, Any]
Chosen = dict[tuple[str, str, str], Line]  #: by workload, stage and program

MOZAFARI, UNTRAINED = "mozafari2019_mnist", "mozafari2019_mnist, untrained"
OURS, TWO = "eventsnn", "eventsnn, 2 threads"
PEERS = ("SpykeTorch", "dense PyTorch", "Spyker dense", "Spyker sparse")
SPYKER = PEERS[2:]
TRAINED = (60_000, 10_000)  # images of MNIST to learn from and to test on
EPOCHS = (2, 4, 20)


def newest(lines: Iterable[Line]) -> Chosen:
    """Return the measurements, of each stage of a workload those of its newest run."""
    found = [line for line in lines if "stage" in line]
    runs = {(line["workload"], line["stage"]): line["run"] for line in found}
    return {
        (line["workload"], line["stage"], line["peer"]): line
        for line in found
        if runs[line["workload"], line["stage"]] == line["run"]
    }


def cpu(line: Line) -> float:
    """Return the median processor time of an image, in seconds."""
    return statistics.median(line["cpu_seconds"]) / line["samples"]


def slower(ours: Line, theirs: Line) -> str:
    """Return how many times our processor time another program needs, the median of the ratios turn by turn."""
    each = zip(ours["cpu_seconds"], theirs["cpu_seconds"], strict=True)
    value = statistics.median(their / our for our, their in each)
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def load(lines: Iterable[Line]) -> str:
    """Return how busy the machine was; 1 is the benchmark itself."""
    loads = [line["load"] for line in lines if "load" in line]
    return f"a load of {min(loads):.1f} to {max(loads):.1f}"


# The README's table


def targets_table(lines: list[Line], whole_mnist: list[Line]) -> str:
    """Return the table of the README: how many times faster than each peer."""
    chosen = newest(lines)
    if not chosen:
        return ""
    last = list(chosen.values())[-1]
    rows = [
        (
            "inference, three layers, learnt weights",
            times(chosen, MOZAFARI, "all layers", ("SpykeTorch", "dense PyTorch")),
        ),
        (
            "the same, untrained: nearly all fire",
            times(chosen, UNTRAINED, "all layers", ("SpykeTorch", "dense PyTorch")),
        ),
        ("inference, two layers", times(chosen, MOZAFARI, "layers 1-2", PEERS)),
        ("learning layer 1", times(chosen, MOZAFARI, "learning layer 1", PEERS)),
        ("learning layer 2, on kept spikes of layer 1", times(chosen, MOZAFARI, "learning layer 2", PEERS)),
        ("images to events", times(chosen, MOZAFARI, "encoding", PEERS)),
        ("images to events, Spyker's front end", times(chosen, "spyker_mnist", "encoding", PEERS)),
    ]
    head = [
        f"The MNIST network of Mozafari 2019 against other programs on {last['processor']}, one thread each, the same",
        f"images and weights, processor time, with {load(chosen.values())} on the machine at the time",
        "(`python -m benchmarks.peers`; [all of it](benchmarks/README.md)).",
        "",
        "| eventsnn is so many times as fast as | " + " | ".join(PEERS) + " |",
        "|---|" + "---|" * len(PEERS),
    ]
    head += ["| " + " | ".join((work, *cells)) + " |" for work, cells in rows]
    return "\n".join([*head, "", *sentences(chosen, whole_mnist)])


def times(chosen: Chosen, workload: str, stage: str, peers: Iterable[str]) -> list[str]:
    """Return for each program how many times faster we are; a dash where it was not measured."""
    ours = chosen.get((workload, stage, OURS))
    cells = []
    for peer in PEERS:
        line = chosen.get((workload, stage, peer))
        measured = peer in peers and ours is not None and line is not None and "cpu_seconds" in line
        cells.append(slower(ours, line) if measured else "–")  # type: ignore[arg-type]
    return cells


def sentences(chosen: Chosen, whole_mnist: list[Line]) -> list[str]:
    """Return what does not fit into the table: additions, threads, a whole training."""
    return [text for text in (additions(chosen), threads(chosen), whole(chosen, whole_mnist)) if text]


def additions(chosen: Chosen) -> str:
    """Return the rates of synaptic additions of the three layers."""
    rates = []
    for workload in (MOZAFARI, UNTRAINED):
        lines = [chosen.get((workload, f"layer {layer}", OURS)) for layer in (1, 2, 3)]
        if any(line is None for line in lines):
            return ""
        rates.append(", ".join(f"{line['additions_per_second'] / 1e9:.1f}" for line in lines if line))
        peak = statistics.median(line["vector_adds_per_second"] for line in lines if line) / 1e9
    return (
        f"Synaptic additions that the layers are defined by, billion a second: {rates[0]} in layers 1, 2 and 3\n"
        f"(untrained: {rates[1]}); adding vectors in the first-level cache, this core makes {peak:.1f}."
    )


def threads(chosen: Chosen) -> str:
    """Return how much faster two threads are, and how much a loop in registers was meanwhile, where that is known."""
    found = []
    for stage, name in (("all layers, many images", "inference"), ("encoding, many images", "encoding")):
        one, two = (chosen.get((MOZAFARI, stage, peer)) for peer in (OURS, TWO))
        if one and two:
            meanwhile = f" (the loop {gain(one, two, 'loop_wall_seconds')})" if "loop_wall_seconds" in two else ""
            found.append(f"{name} of {two['samples']:,} images {gain(one, two, 'wall_seconds')}{meanwhile}")
    loop = ";\na loop in registers shows what the machine allowed in the same turns" if "loop" in "".join(found) else ""
    return f"Two threads are faster than one by a factor of: {', '.join(found)} (wall time{loop})." if found else ""


def gain(one: Line, two: Line, field: str) -> str:
    """Return the median ratio of wall times turn by turn: neighbours come and go."""
    pairs = zip(one[field], two[field], strict=True)
    return f"{statistics.median(first / second for first, second in pairs):.2f}"


def whole(chosen: Chosen, whole_mnist: list[Line]) -> str:
    """Return how long a whole training takes, SpykeTorch's extrapolated from its steps."""
    stages = ("learning layer 1", "learning layer 2 from the input", "learning layer 3 from the input")
    steps = [chosen.get((MOZAFARI, stage, "SpykeTorch")) for stage in (*stages, "encoding", "all layers")]
    measured = [line for line in whole_mnist if line["model"] == MOZAFARI]
    if not measured or any(line is None or "cpu_seconds" not in line for line in steps):
        return ""
    *learn, encode, test = (cpu(line) for line in steps if line)
    learning, testing = TRAINED
    seconds = sum(learning * n * each for n, each in zip(EPOCHS, learn, strict=True))
    seconds += (learning + testing) * encode + testing * test
    line = measured[-1]
    steps_text = f"SpykeTorch's one thread would take {seconds:,.0f} s, extrapolated from its steps."
    return (
        f"The whole of it, 2 + 4 + 20 epochs of 60,000 images with evaluation, took {line['seconds']['total']:.0f} s\n"
        f"on {line['threads']} threads; {steps_text}"
    )


# benchmarks/README.md


def full(lines: list[Line]) -> str:
    """Return all tables, workload by workload, and who was absent from the newest run."""
    chosen = newest(lines)
    workloads = list(dict.fromkeys(workload for workload, _, _ in chosen))
    parts = [part for workload in workloads for part in workload_tables(workload, chosen)]
    absent = [line for line in lines if "absent" in line and line["run"] == lines[-1]["run"]]
    parts += [f"Absent from the newest run: {line['peer']} ({line['absent']})." for line in absent]
    return "\n".join(parts)


def workload_tables(workload: str, chosen: Chosen) -> list[str]:
    """Return the tables of times and of agreement of one workload."""
    lines = {key[1:]: line for key, line in chosen.items() if key[0] == workload}
    stages = [stage for stage in dict.fromkeys(stage for stage, _ in lines) if (stage, TWO) not in lines]
    peers = [peer for peer in (OURS, *PEERS) if any((stage, peer) in lines for stage in stages)]
    two = [threads(chosen), ""] if workload == MOZAFARI and threads(chosen) else []
    return [
        f"### {workload}\n",
        circumstances(lines),
        "",
        times_table(stages, peers, lines),
        "",
        *reasons("Not offered", "not_offered", lines),
        *two,
        "Answers that differ from ours; in brackets with weights rounded to 1/256, which make every sum exact:",
        "",
        agreement_table(stages, peers[1:], lines),
        "",
        *reasons("Why they differ, where it is not the order of sums", "differs", lines),
    ]


def circumstances(lines: dict[tuple[str, str], Line]) -> str:
    """Return what a table's figures were measured with."""
    last = [line for line in lines.values() if "samples" in line][-1]
    versions = {peer: line["version"] for (_, peer), line in lines.items() if "version" in line and peer != TWO}
    parts = [
        f"{last['samples_are']}. {last['date']}, commit {last['commit']}, {last['processor']}, ",
        f"{load(lines.values())}. ",
        "; ".join(f"{peer}: {version}" for peer, version in versions.items()),
    ]
    return "".join(parts) + "."


def reasons(title: str, field: str, lines: dict[tuple[str, str], Line]) -> list[str]:
    """Return a list of what a field says about each program, with the stages that it says it about."""
    said: dict[tuple[str, str], list[str]] = {}
    for (stage, peer), line in lines.items():
        if line.get(field) and (field != "differs" or line.get("agreement", {}).get("differ")):
            said.setdefault((peer, line[field]), []).append(stage)
    points = [f"- {peer}: {text} ({', '.join(stages)})" for (peer, text), stages in said.items()]
    return [f"{title}:\n", *points, ""] if points else []


def agreement_table(stages: list[str], peers: list[str], lines: dict[tuple[str, str], Line]) -> str:
    """Return how many answers of each program differ from ours; stages without a comparison are left out."""
    rows = []
    for stage in stages:
        found = [lines.get((stage, peer), {}) for peer in peers]
        kinds = [line["agreement"]["what"] for line in found if "agreement" in line]
        if kinds:
            rows.append((f"{stage}: {kinds[0]}", *(agreement_cell(line) for line in found)))
    return grid(["", *peers], rows)


def grid(head: list[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def times_table(stages: list[str], peers: list[str], lines: dict[tuple[str, str], Line]) -> str:
    """Return milliseconds of processor time an image, with ratios to ours, and rates of additions."""
    head = ["ms of CPU an image", *peers, "additions, billion a second", "of the core's own rate"]
    rows = []
    for stage in stages:
        cells = [time_cell(lines, stage, peer) for peer in peers]
        rows.append((stage, *cells, *addition_cells(lines.get((stage, OURS), {}))))
    return grid(head, rows)


def time_cell(lines: dict[tuple[str, str], Line], stage: str, peer: str) -> str:
    """Return milliseconds and the ratio to ours, or a dash."""
    line, ours = lines.get((stage, peer)), lines.get((stage, OURS))
    if line is None or ours is None or "not_offered" in line:
        return "–"
    text = f"{1e3 * cpu(line):.3g}"
    return text if peer == OURS else f"{text} ({slower(ours, line)} x)"


def addition_cells(line: Line) -> tuple[str, str]:
    """Return the rate of synaptic additions and its share of the vector-add loop's."""
    if "additions_per_second" not in line:
        return "", ""
    return f"{line['additions_per_second'] / 1e9:.1f}", f"{line['share_of_peak']:.0%}"


def agreement_cell(line: Line) -> str:
    """Return how many answers differ from ours, and in brackets with rounded weights."""
    if "agreement" not in line:
        return "–"
    text = counts(line["agreement"])
    return f"{text} ({counts(line['agreement_rounded'])})" if "agreement_rounded" in line else text


def counts(agreement: dict[str, Any]) -> str:
    """Return how many of how many differ."""
    return f"{agreement['differ']:,} of {agreement['of']:,}"
