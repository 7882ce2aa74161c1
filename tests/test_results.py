"""The tables of both READMEs are what the recorded measurements say."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.render import ALL_RESULTS, README, all_results, read, results, with_results  # noqa: E402
from benchmarks.render_peers import full, newest, targets_table  # noqa: E402


def test_readme_shows_the_recorded_results():
    text = README.read_text()
    assert with_results(text, results()) == text
    assert read("mnist"), "no measurement is recorded"
    assert all(f"{line['test_accuracy']:.2%}" in text for line in {r["model"]: r for r in read("mnist")}.values())


def test_readme_of_the_benchmarks_shows_the_newest_comparison():
    text = ALL_RESULTS.read_text()
    assert with_results(text, all_results()) == text
    assert all(f"### {workload}\n" in text for workload, _, _ in newest(read("peers")))


def test_only_the_newest_run_of_a_stage_is_shown():
    old = {"workload": "w", "stage": "s", "peer": "gone", "run": "1"}
    new = {"workload": "w", "stage": "s", "peer": "eventsnn", "run": "2"}
    other = {"workload": "w", "stage": "t", "peer": "gone", "run": "1"}
    absent = {"peer": "gone", "absent": "not installed", "run": "2"}
    assert newest([old, new, other, absent]) == {("w", "s", "eventsnn"): new, ("w", "t", "gone"): other}


def lines_of(workload, stage, **milliseconds):
    names = {"ours": "eventsnn", "spyketorch": "SpykeTorch", "dense": "dense PyTorch"}
    common = {
        "workload": workload,
        "stage": stage,
        "run": "1",
        "processor": "CPU",
        "samples": 10,
        "load": 0.0,
        "note": "",
    }
    common |= {"date": "today", "commit": "abc", "samples_are": "Digits", "version": "1", "differs": ""}
    return [common | {"peer": names[peer], "cpu_seconds": [t / 100]} for peer, t in milliseconds.items()]


def test_ratios_are_of_median_processor_time():
    lines = lines_of("mozafari2019_mnist", "all layers", ours=2, spyketorch=5, dense=30)
    lines[0]["cpu_seconds"] = [0.02, 0.02, 9.0]
    row = "| inference, three layers, learnt weights | 2.5 | 15 | – | – |"
    assert row in targets_table(lines, []).splitlines()
    assert "| all layers | 2 | 5 (2.5 x) | 30 (15 x) |  |  |" in full(lines).splitlines()


def test_disagreement_is_shown():
    lines = lines_of("w", "layer 1", ours=2, spyketorch=5)
    counts = {"what": "spikes", "of": 1000}
    lines[1] |= {"agreement": counts | {"differ": 3}, "agreement_rounded": counts | {"differ": 0}, "differs": "order"}
    cell = "3 of 1,000 spikes (0 of 1,000 spikes); order"
    assert f"| layer 1 | {cell} |" in full(lines).splitlines()
