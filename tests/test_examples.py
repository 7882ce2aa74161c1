"""Each program and experiment in ``examples/`` runs, in a folder of its own, and does what it promises."""

import functools
import re
import runpy
from pathlib import Path
from typing import NamedTuple

import pytest

from eventsnn import cli
from eventsnn.io import load_images
from eventsnn.models import Trained

EXAMPLES = Path(__file__).parents[1] / "examples"

# What each leaves in its folder.
WRITTEN = {
    "by_hand": set(),
    "live_camera": {"bars"},
    "own_rule": set(),
    "pictures": {"raster", "evolution", "features", "latency", "weights", "convergence", "spikes", "confusion"},
    "recording": {"bar"},
    "sklearn_readout": {"test-features"},
    "threshold_adaptation": set(),
}


def test_all_examples_are_here():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(WRITTEN)


class Ran(NamedTuple):
    """What an example printed, its folder, and its variables at the end."""

    lines: list
    folder: Path
    variables: dict


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a function that runs an example, the first time that it is asked for."""

    @functools.cache
    def once(name):
        folder, lines = tmp_path_factory.mktemp(name), []
        say = {"print": lambda *words: lines.append(" ".join(map(str, words)))}
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            return Ran(lines, folder, runpy.run_path(str(EXAMPLES / f"{name}.py"), say, "__main__"))

    return once


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_it_writes_what_it_says(name, run):
    lines, folder, _ = run(name)
    assert lines
    assert {path.stem for path in folder.iterdir()} == WRITTEN[name]


@pytest.mark.parametrize(
    ("name", "results"), [("live_camera", 1), ("own_rule", 2), ("sklearn_readout", 9), ("threshold_adaptation", 2)]
)
def test_it_learns(name, results, run):
    shares = [float(share) for line in run(name).lines for share in re.findall(r"([\d.]+)% of the held-out", line)]
    assert len(shares) == results
    assert all(share > 90 for share in shares)  # of ten classes


EXPERIMENTS = sorted(path for path in EXAMPLES.glob("*.toml") if not path.stem.startswith("study_"))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_runs_as_it_says(path, tmp_path, monkeypatch):
    command = re.search(r"^#   eventsnn (train .* -o run)$", path.read_text(encoding="utf-8"), re.MULTILINE)[1].split()
    monkeypatch.chdir(tmp_path)
    assert command[1] == f"examples/{path.name}"
    with pytest.raises(SystemExit) as left:
        cli.main([command[0], str(path), *command[2:]])
    assert not left.value.code
    trained, test = Trained.load("run"), load_images("digits", "test", size=(16, 16))
    assert (trained.predict(test.pixels) == test.labels).mean() > 0.95


def test_the_loop_by_hand_is_short_and_equals_fit(run):
    assert len((EXAMPLES / "by_hand.py").read_text(encoding="utf-8").splitlines()) <= 30
    found = run("by_hand").variables
    assert (found["net"].weights[0] == found["fitted"].weights[0]).all()
    assert (found["net"].weights[0] != found["new_network"]().weights[0]).any()


def test_a_recording_goes_through_a_network(run):
    lines = run("recording").lines
    assert lines[0] == "60,000 events of Prophesee DAT 2 in bar.h5"
    counts = [tuple(map(int, re.findall(r"(\d+) (?:events|spikes)", line))) for line in lines[1:]]
    assert len(counts) == 5
    assert all(400 < n_events < 800 and n_spikes for n_events, n_spikes in counts)


def test_thresholds_come_to_their_target(run):
    found = run("threshold_adaptation").variables
    net, train = found["net"], found["train"]
    when = net.backend.pointwise(net.run(train, stop=1)).time.mean() / train.duration
    assert abs(when - found["TARGET"]) < 0.1
    assert net.thresholds[0].min() > 4  # from 2
