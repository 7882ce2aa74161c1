"""The README's tables are what the recorded measurements say."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.render import README, low_seeds, mnist_row, read, selection_table, with_results  # noqa: E402


def test_readme_shows_the_recorded_results():
    text = README.read_text()
    assert with_results(text) == text
    assert read("mnist"), "no measurement is recorded"
    assert all(f"{line['test_accuracy']:.2%}" in text for line in {r["model"]: r for r in read("mnist")}.values())


def test_times_are_of_a_sample_and_input_spikes_are_shown_where_recorded():
    line = read("mnist")[0] | {"training_images": 50, "steps": [{"epoch_seconds": [1.0, 2.0]}]}
    line.pop("input_spikes", None)
    assert "| 30.000 | 1011, 2770 |" in mnist_row([line])
    assert "| 30.000 | input 123, 1011, 2770 |" in mnist_row([line | {"input_spikes": 123.4}])


def test_what_falls_short_is_said():
    good, bad = ({"model": "mozafari2018_eth80", "seed": i, "test_accuracy": x} for i, x in enumerate((0.81, 0.79)))
    assert low_seeds([good]) == []
    assert "79.0% with seed 1" in low_seeds([good, bad])[0]


def test_a_selection_is_the_mean_over_seeds():
    line = {"model": "m", "seed": 0, "training_images": 5, "held_out_images": 2, "epochs": [1, 2], "regions": [2, 2]}
    lines = [line | {"C": 0.1, "held_out_accuracy": 0.5}, line | {"C": 0.1, "held_out_accuracy": 1.0, "seed": 1}]
    rows = selection_table([*lines, line | {"C": 1.0, "held_out_accuracy": 0.25}]).splitlines()
    assert rows[-1] == "| 1 + 2 | 2x2 | 75.00% | 25.00% |"
