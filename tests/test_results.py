"""The tables of both READMEs are what the recorded measurements say."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.render import ALL_RESULTS, README, all_results, read, results, with_results  # noqa: E402
from benchmarks.render_peers import newest  # noqa: E402


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
