"""``eventsnn train --resume`` takes no training for another, and of two trainings of one RUN the second is refused."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import eventsnn
from eventsnn import cli, unfinished
from eventsnn.models import CAMERA_MODELS, MODELS, Model, digits
from eventsnn.unfinished import check_same, describe_training, locked

ROOT = Path(eventsnn.__file__).parents[1]
OPTIONS = {"seed": 0, "backend": None, "validation": None}
TOML = """
size = [8, 8]
seed = 4
[encoder]
latency = {type = "EqualBins", bins = 6}
[[encoder.stages]]
type = "Filter"
padding = 1
kernels = [{type = "DoG", window = 3, sigma1 = 0.5, sigma2 = 1}]
[[layers]]
type = "Conv"
features = 4
kernel = 3
threshold = 3
[[steps]]
layer = 0
epochs = 2
rule = {type = "STDP", a_plus = 0.1, a_minus = -0.1}
[readout]
kind = "fired"
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return a folder, to work in, with an experiment and data for it."""
    monkeypatch.chdir(tmp_path)
    Path("own.toml").write_text(TOML)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 8)).astype(np.uint8)
    from eventsnn.experiment import Experiment
    from eventsnn.io import write

    encoder = Experiment.load("own.toml").model.encoder
    write("data.h5", encoder.encode(pixels, np.arange(12) % 2), encoder=encoder, extra={"image_size": [8, 8]})
    return tmp_path


@pytest.fixture
def train(capsys):
    """Return a function that trains the experiment and returns exit code, stdout and the last line of stderr."""

    def run(*options):
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main(["train", "own.toml", "--data", "data.h5", "-o", "run", "--checkpoint-every", "0", *options])
        out, err = capsys.readouterr()
        return left.value.code or 0, out, (err.splitlines() or [""])[-1]

    return run


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def cut(train, monkeypatch, done=1):
    """Train, but for an interrupt when so many batches have been learnt."""
    from eventsnn.backends import Backend

    calls, learn = [], Backend.learn

    def interrupted(*arguments, **options):
        if len(calls) == done:
            raise KeyboardInterrupt
        calls.append(1)
        return learn(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Backend, "learn", interrupted)
        assert train()[0] == 130


def edit(old, new):
    text = Path("own.toml").read_text()
    assert old in text
    Path("own.toml").write_text(text.replace(old, new))


EDITS = [
    (("a_plus = 0.1", "a_plus = 0.2"), "steps[0].rule.a_plus: then 0.1, now 0.2"),
    (('kind = "fired"', 'kind = "latency"'), 'readout.kind: then "fired", now "latency"'),
    (("threshold = 3", "threshold = inf"), 'layers[0].threshold: then 3, now "inf"'),
    (("seed = 4", "seed = 5"), "seed: then 4, now 5"),
    (("epochs = 2", "epochs = 2\ndropout = 0.5"), "steps[0].dropout: then 0, now 0.5"),
]


@pytest.mark.parametrize(("change", "said"), EDITS)
def test_a_run_of_an_experiment_that_was_edited_is_not_complete(change, said, place, train):
    assert train()[0] == 0
    before = (place / "run" / "network.h5").read_bytes()
    edit(*change)
    line = f"eventsnn train: run: of another training than this one ({said}); --force replaces it"
    assert train("--resume") == (1, "", line)
    assert ((place / "run" / "network.h5").read_bytes(), names(place)) == (before, ["data.h5", "own.toml", "run"])
    edit(*reversed(change))
    assert train("--resume")[:2] == (0, "Complete already: run\n")


@pytest.mark.parametrize(("change", "said"), EDITS)
def test_an_edited_experiment_does_not_continue(change, said, place, train, monkeypatch):
    cut(train, monkeypatch)
    kept = place / "run.checkpoint"
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    assert set(before) == {"step-1.h5", "training.json"}
    edit(*change)
    code, _, line = train("--resume")
    expected = f"run.checkpoint: of another training than this one ({said}); --force without --resume begins anew"
    assert (code, line) == (1, f"eventsnn train: {expected}")
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
    assert train("--force")[0] == 0
    assert names(place) == ["data.h5", "own.toml", "run"]


def test_options_count_too(place, train):
    assert train("--validation", "0.5")[0] == 0
    code, _, line = train("--resume", "--validation", "0.25", "--seed", "9", "--epochs", "3", "--backend", "cpu")
    assert code == 1
    said = '(--backend: then null, now "cpu"; --validation: then 0.5, now 0.25; seed: then 4, now 9; and 1 more)'
    assert said in line


def test_the_text_does_not_count(place, train, monkeypatch):
    """Comments, defaults written out, the order of keys, 3 for 3.0 and other names of files are the same experiment."""
    cut(train, monkeypatch)
    edit("threshold = 3", "stride = 1 # the default\nthreshold = 3.0")
    edit("size = [8, 8]\nseed = 4\n", 'seed = 4\nsize = [8, 8]\nname = "own"\n')
    assert train("--resume")[0] == 0
    Path("own.toml").rename("renamed.toml")
    Path("own.toml").symlink_to("renamed.toml")
    assert train("--resume")[:2] == (0, "Complete already: run\n")


def test_what_the_checkpoints_are_of_is_not_taken_on_trust(place, train, monkeypatch):
    cut(train, monkeypatch)
    for text, said in (("{", "not the description of a training: "), ("[]", "expected a JSON object, found list")):
        (place / "run.checkpoint" / "training.json").write_text(text)
        code, _, line = train("--resume")
        assert (code, said in line) == (1, True)


def test_a_training_that_does_not_begin_leaves_no_checkpoints(place, train, monkeypatch):
    def fail(*_, **__):
        raise ValueError("no")

    monkeypatch.setattr(Model, "train", fail)
    code, out, line = train()
    assert (code, line, "--resume" in out) == (1, "eventsnn train: no", False)
    assert names(place) == ["data.h5", "own.toml"]


@pytest.mark.parametrize("name", MODELS | CAMERA_MODELS)
def test_every_model_can_be_described_in_json(name):
    described = describe_training((MODELS | CAMERA_MODELS)[name](), "mnist", **OPTIONS)
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    assert describe_training((MODELS | CAMERA_MODELS)[name](), "mnist", **OPTIONS | {"seed": 1}) != described


def test_long_values_are_shown_in_short(tmp_path):
    described = describe_training(digits(), "d" * 500, **OPTIONS)
    assert described["--data"].startswith("sha256 ")
    with pytest.raises(ValueError, match=r"then \[0, 0, .*\.\.\., now absent\)") as error:
        check_same(tmp_path, {"maps": [0] * 999}, {}, "")
    assert len(str(error.value)) < 300


# One at a time

HOLD = """
import sys
from pathlib import Path
from eventsnn.unfinished import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def hold(run):
    """Start a process that has a run locked until its stdin is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "locked\n"
    return process


@pytest.mark.parametrize("option", [(), ("--resume",), ("--force",)])
def test_the_second_training_of_a_run_is_refused(option, place, train):
    (place / "link").symlink_to(place)
    first = hold(place / "link" / "run")
    try:
        refused = "eventsnn train: run: another process is training it now; wait for its end, or stop it"
        assert train(*option) == (1, "", refused)
        assert names(place) == [".run.lock", "data.h5", "link", "own.toml"]
    finally:
        first.communicate("")
    assert first.returncode == 0
    assert names(place) == ["data.h5", "link", "own.toml"]
    assert train(*option)[0] == 0
    assert names(place) == ["data.h5", "link", "own.toml", "run"]


def test_a_run_is_locked_as_long_as_it_is_trained(place, train, monkeypatch):
    def other(*_, **__):
        with pytest.raises(ValueError, match="another process is training it now"), locked(Path("run")):
            pass
        with locked(Path("another")):
            assert names(place) == [".another.lock", ".run.lock", "data.h5", "own.toml"]
        raise ValueError("seen")

    monkeypatch.setattr("eventsnn.runs.train", other)
    assert train()[2] == "eventsnn train: seen"
    assert names(place) == ["data.h5", "own.toml"]


def test_a_killed_process_locks_nothing(place, train):
    first = hold(place / "run")
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert (place / ".run.lock").exists()
    assert train()[0] == 0
    assert names(place) == ["data.h5", "own.toml", "run"]


def test_a_lock_that_was_removed_meanwhile_is_made_anew(place, monkeypatch):
    """The first removes its file between the second's opening and locking it."""
    import fcntl

    lock, tries = fcntl.flock, []

    def slow(file, operation):
        if not tries:
            (place / ".run.lock").unlink()
        tries.append(file)
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", slow)
    with locked(Path("run")):
        assert os.path.samestat(os.stat(".run.lock"), os.fstat(tries[-1]))
    assert len(tries) == 2
    assert names(place) == ["data.h5", "own.toml"]


def test_where_files_cannot_be_locked_there_is_a_warning(place, monkeypatch):
    import errno
    import fcntl

    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.warns(UserWarning, match="run: files cannot be locked here"), unfinished.locked(Path("run")):
        pass
    assert names(place) == ["data.h5", "own.toml"]


def test_a_lock_that_cannot_be_made_is_an_error_of_the_run(place, train, monkeypatch):
    os_open = os.open

    def refuse(path, *rest, **options):
        if str(path).endswith(".lock"):
            raise PermissionError(13, "Permission denied", str(path))
        return os_open(path, *rest, **options)

    monkeypatch.setattr(os, "open", refuse)
    assert train() == (1, "", f"eventsnn train: {place / 'run'}: Permission denied")
