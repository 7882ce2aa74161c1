"""Render the tables of both READMEs from the recorded measurements: ``python -m benchmarks.render``."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks import (
    at_scale,
    render_gpu,
    render_nmnist,
    render_peers,
    render_recordings,
    render_studies,
    scale_tables,
)
from benchmarks.record import RESULTS

README = Path(__file__).parents[1] / "README.md"
ALL_RESULTS = Path(__file__).parent / "README.md"
SCALE = Path(__file__).parent / "SCALE.md"
BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"


def main() -> None:
    README.write_text(with_results(README.read_text(), results()))
    ALL_RESULTS.write_text(with_results(ALL_RESULTS.read_text(), all_results()))
    SCALE.write_text(with_results(SCALE.read_text(), at_scale.tables(read("shares"))))


def with_results(text: str, made: str) -> str:
    """Return a README's text with its results made anew."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + made + END + after


def all_results() -> str:
    """Return what ``benchmarks/README.md`` shows."""
    tables = render_nmnist.section(read("nmnist")) + render_studies.section(read("sparsity"))
    tables += render_recordings.section(read("readers"), read("recordings")) + scale_tables.tables(read("scale"))
    return f"\n{render_peers.full(read('peers'))}\n" + tables


def results() -> str:
    """Return the tables, each from the newest measurement of its kind."""
    runs = {(line["model"], line["seed"]): line for line in read("mnist")}
    parts = [mnist_table(list(runs.values()))] if runs else []
    parts += [selection_table(lines) for lines in by_model(read("selection")).values()]
    if seeds := {(line["model"], line["seed"]): line for line in read("objects")}:
        parts.append(objects_table([seeds[key] for key in sorted(seeds)]))
        parts.extend(low_seeds(list(seeds.values())))
    if peers := render_peers.targets_table(read("peers"), read("mnist")):
        parts.append(peers)
    parts.append(render_gpu.gpu_section(read("gpu"), render_gpu.fingerprint()))
    parts += [start_sentence(line) for line in read("cold_start")[-1:]]
    return "".join(f"\n{part}\n" for part in parts) + "\n"


def read(name: str) -> list[dict[str, Any]]:
    path = RESULTS / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def mnist_table(lines: list[dict[str, Any]]) -> str:
    """Return one row per model; times of learning are means over a layer's epochs; times are the last seed's."""
    machine = lines[-1]["processor"]
    head = [
        f"Whole MNIST on {machine}, a shared machine with other work beside (`python -m benchmarks.mnist FOLDER`).",
        "Epochs and readouts were chosen on held-out training images; the factor of the rates of",
        "`mozafari2019_mnist_quick` (2, the only one tried) with the test accuracy in sight.",
        "`falez2019_mnist` has C = 0.01 and regions of 6x6 in place of the published 1 and 2x2, with which 97.9 % of",
        "5,000 held-out training images were right instead of 99.1 %.",
        "SpykeTorch reports 95,007 s.",
        "",
        "| model | test accuracy (of single seeds) | epochs | threads | encode 60,000 | "
        "learn, ms a sample and epoch, by layer | spikes a test image, by layer (and input, where recorded) | total "
        "| peak memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *(mnist_row(runs) for runs in by_model(lines).values())])


def mnist_row(runs: list[dict[str, Any]]) -> str:
    line, accuracies = runs[-1], [run["test_accuracy"] for run in runs]
    accuracy = ", ".join(f"{one:.2%}" for one in accuracies)
    if len(runs) > 1:
        accuracy = f"{statistics.mean(accuracies):.2%} ± {statistics.stdev(accuracies):.2%} ({accuracy})"
    epochs = " + ".join(str(len(step["epoch_seconds"])) for step in line["steps"])
    per_sample = [1e3 * statistics.mean(step["epoch_seconds"]) / line["training_images"] for step in line["steps"]]
    spikes = [layer["spikes"] for layer in line["test_activity"] if layer["synaptic_operations"]]
    given = f"input {line['input_spikes']:.0f}, " if "input_spikes" in line else ""
    cells = (
        f"`{line['model']}`",
        accuracy,
        epochs,
        str(line["threads"]),
        f"{line['encode_60000_seconds']:.1f} s",
        ", ".join(f"{time:.3f}" for time in per_sample),
        given + ", ".join(f"{count:.0f}" for count in spikes),
        f"{line['seconds']['total']:.0f} s",
        f"{line['peak_memory_gib']:.1f} GiB",
    )
    return "| " + " | ".join(cells) + " |"


def by_model(lines: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    return {line["model"]: [other for other in lines if other["model"] == line["model"]] for line in lines}


def selection_table(lines: list[dict[str, Any]]) -> str:
    """Return the accuracy of a model's readouts on held-out training images: a row per epochs and regions, over C."""
    last = lines[-1]
    strengths = sorted({line["C"] for line in lines})
    found = {(tuple(line["epochs"]), tuple(line["regions"] or ()), line["C"], line["seed"]): line for line in lines}
    rows = sorted({key[:2] for key in found})
    seeds = len({line["seed"] for line in lines})
    head = [
        f"What `{last['model']}` decides right of the last {last['held_out_images']:,} training images after learning",
        f"from the first {last['training_images']:,}, measured after the choice (`python -m benchmarks.selection`,",
        f"{seeds} seed{'s' * (seeds > 1)}).",
        "",
        "| epochs | regions | " + " | ".join(f"C = {strength:g}" for strength in strengths) + " |",
        "|---|---|" + "---|" * len(strengths),
    ]
    return "\n".join([*head, *(selection_row(row, strengths, found) for row in rows)])


def selection_row(
    row: tuple[tuple[int, ...], tuple[int, ...]], strengths: list[float], found: dict[Any, dict[str, Any]]
) -> str:
    epochs, regions = row
    cells = [" + ".join(map(str, epochs)), "x".join(map(str, regions)) or "none"]
    for strength in strengths:
        right = [line["held_out_accuracy"] for key, line in found.items() if key[:3] == (epochs, regions, strength)]
        cells.append(f"{statistics.mean(right):.2%}" if right else "")
    return "| " + " | ".join(cells) + " |"


def objects_table(lines: list[dict[str, Any]]) -> str:
    """Return one row per model, over its seeds."""
    machine = f"{lines[-1]['processor']}, {lines[-1]['threads']} thread"
    head = [
        "Objects in photographs, each seed with a split, weights and a dropout of its own, epochs chosen on held-out",
        f"training images, tested once (`python -m benchmarks.objects FOLDER`; {machine}, shared with other work).",
        "",
        "| model | test accuracy, mean and standard deviation | of single seeds | training, test images | epochs "
        "| learn, a sample | spikes a sample, input and layer |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *(objects_row(name, runs) for name, runs in by_model(lines).items())])


def objects_row(name: str, runs: list[dict[str, Any]]) -> str:
    accuracies = [run["test_accuracy"] for run in runs]
    spread = statistics.stdev(accuracies) if len(runs) > 1 else 0.0
    cells = (
        f"`{name}`",
        f"{statistics.mean(accuracies):.1%} ± {spread:.1%}",
        ", ".join(f"{accuracy:.1%}" for accuracy in accuracies),
        f"{runs[0]['training_images']}, {runs[0]['test_images']}",
        ", ".join(str(run["epochs"]) for run in runs),
        f"{1e3 * statistics.mean(run['seconds']['train_per_sample'] for run in runs):.2f} ms",
        f"{statistics.mean(run['input_spikes'] for run in runs):.0f}, "
        f"{statistics.mean(run['test_activity'][0]['spikes'] for run in runs):.0f}",
    )
    return "| " + " | ".join(cells) + " |"


def low_seeds(lines: list[dict[str, Any]]) -> list[str]:
    """Return a sentence on the seeds of ETH-80 that alone stay below 80 %."""
    low = [line for line in lines if line["model"] == "mozafari2018_eth80" and line["test_accuracy"] < 0.8]
    found = ", ".join(f"{line['test_accuracy']:.1%} with seed {line['seed']}" for line in low)
    return [f"Single seeds stay below 80 % on ETH-80: {found}."] if low else []


def start_sentence(line: dict[str, Any]) -> str:
    return (
        f"`from eventsnn import Network, evaluate, fit` takes {line['import_cpu_seconds']:.2f} s of processor time; "
        f"compiling\nevery kernel of a first training {line['compilation_cpu_seconds']:.0f} s, once: "
        "compiled code is kept on disk."
    )


if __name__ == "__main__":
    main()
