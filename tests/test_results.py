"""The README's tables are what the recorded measurements say."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.render import README, read, with_results  # noqa: E402


def test_readme_shows_the_recorded_results():
    text = README.read_text()
    assert with_results(text) == text
    assert read("mnist"), "no measurement is recorded"
    assert all(f"{line['test_accuracy']:.2%}" in text for line in {r["model"]: r for r in read("mnist")}.values())
