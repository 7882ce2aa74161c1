"""Render what ``benchmarks/nmnist.py`` measured."""

from __future__ import annotations

import statistics
from typing import Any


def section(measured: list[dict[str, Any]]) -> str:
    """Return the section of the newest measurements, empty if there are none."""
    lines = {(line.get("input"), line.get("model"), line.get("seed")): line for line in measured}
    runs = [line for line in lines.values() if "model" in line]
    if not runs:
        return ""
    last, loads = runs[-1], [line["load"] for line in lines.values()]
    head = [
        f"Recordings of N-MNIST: {last['train_recordings']:,} to learn from, {last['test_recordings']} to test once,",
        f"on {last['processor']} (`python -m benchmarks.nmnist FOLDER`), with a load of",
        f"{min(loads):.1f} to {max(loads):.1f} on the machine. One test recording more or less is 1 %. C was chosen by",
        "cross-validation on the training set; the layer had learnt from all of it, without labels.",
        "",
        "| what decides | test accuracy | of single seeds | cross-validated on the training set |",
        "|---|---|---|---|",
    ]
    inputs = [line for line in lines.values() if "input" in line]
    rows = [
        f"| linear SVM on {line['input']} | {_share(line['test_accuracy'])} | | {line['cross_validated']:.1%} |"
        for line in inputs
    ]
    for name in dict.fromkeys(line["model"] for line in runs):
        some = [line for line in runs if line["model"] == name]
        own = [line["cross_validated"] for line in some if "cross_validated" in line]
        rows.append(_row(f"`{name}`", some, f"{statistics.mean(own):.1%}" if own else ""))
        random = [line["shuffled"] for line in some if "shuffled" in line]
        if random:
            folds = f"{statistics.mean(line['cross_validated'] for line in random):.1%}"
            rows.append(_row(f"`{name}`, learnt weights shuffled", random, folds))
    return "\n## N-MNIST\n\n" + "\n".join([*head, *rows]) + "\n\n" + _gain(inputs, runs) + _speed(runs)


def _gain(inputs: list[dict[str, Any]], runs: list[dict[str, Any]]) -> str:
    """Return what learning adds, by cross-validation, which is over more recordings than the test."""
    some = [line for line in runs if "shuffled" in line]
    if not inputs or not some:
        return ""
    own = statistics.mean(line["cross_validated"] for line in some)
    random = statistics.mean(line["shuffled"]["cross_validated"] for line in some)
    best = max(inputs, key=lambda line: line["cross_validated"])
    return (
        f"By cross-validation STDP adds {100 * (own - random):+.1f} points to the same layer with shuffled weights,\n"
        f"and the whole layer {100 * (own - best['cross_validated']):+.1f} points to the linear machine\n"
        f"on {best['input']}. "
        "Maps, threshold and leak were chosen by such cross-validation, for the learnt weights.\n"
    )


def _share(accuracy: float) -> str:
    return f"{accuracy:.0%}"


def _row(name: str, runs: list[dict[str, Any]], folds: str) -> str:
    found = [line["test_accuracy"] for line in runs]
    spread = f" ± {statistics.stdev(found):.1%}" if len(found) > 1 else ""
    return f"| {name} | {statistics.mean(found):.1%}{spread} | {', '.join(map(_share, found))} | {folds} |"


def _speed(runs: list[dict[str, Any]]) -> str:
    """Return what the networks do in a second of processor time."""
    parts = []
    for name in dict.fromkeys(line["model"] for line in runs):
        some = [line for line in runs if line["model"] == name]
        spikes, factor, taken = (
            statistics.median(values)
            for values in (
                [line["speed"]["spikes_a_second"] for line in some],
                [line["speed"]["times_real_time"] for line in some],
                [line["train_cpu_seconds"] for line in some],
            )
        )
        parts.append(
            f"`{name}` takes {spikes / 1e6:.2f} million spikes a second of processor time (median of the seeds),\n"
            f"{factor:,.0f} times as fast as the recordings last, and learns in {taken:.0f} s of it."
        )
    last = runs[-1]
    parts.append(
        f"A recording has {last['events_a_recording']:,.0f} events, of which {last['input_spikes']:,.0f}\n"
        "are the first of their pixel in a saccade: these are the spikes that pass through the network."
    )
    return "\n".join(parts) + "\n"
