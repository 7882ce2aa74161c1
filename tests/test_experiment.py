"""Experiments as TOML: what is written comes back, the example is the model, and errors name place and nearest key."""

import copy
import json
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eventsnn import cli
from eventsnn.encode import EqualBins, ImageEncoder, Linear, MaxPool, OnOff, PatchZCA, Standardize
from eventsnn.experiment import Experiment, model_from_dict, model_to_dict
from eventsnn.layers import Conv, Dense, FeatureInhibition, Normal, PointwiseInhibition, Pool, inf
from eventsnn.models import CAMERA_MODELS, MODELS, Model, Step, digits
from eventsnn.plasticity import (
    RSTDP,
    STDP,
    WTA,
    Adaptive,
    Annealing,
    Competition,
    Custom,
    Suppression,
    ThresholdAdaptation,
)
from eventsnn.readout import Feature, LinearReadout

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits.toml"

EVERYTHING = Model(
    "everything",
    ImageEncoder((Standardize(), OnOff(0.1, "off"), MaxPool(2)), Linear(100), pointwise=True),
    (12, 14),
    (
        Conv(4, kernel=(3, 2), padding=(1, 0), stride=(1, 2), threshold=(1, 2, 3, 4.5), leak=3.5, init=Normal(0.5, 0)),
        PointwiseInhibition(),
        FeatureInhibition((1, 3)),
        Pool(2, 1),
        Dense(6, threshold=inf),
    ),
    (
        Step(
            0,
            STDP((0.1, 0.2, 0.3, 0.4), -0.1, (-1, 2), dependence="multiplicative", tau=2.5, beta=3),
            WTA(2, 1, pointwise=False),
            schedule=Annealing(0.9),
            adaptation=ThresholdAdaptation(0.1, 0.75, 2),
            suppression=Suppression(1.5, 40),
            patches=True,
            stop_below=0.01,
        ),
        Step(4, RSTDP((0.1, -0.1), (-0.1, 0.1), adaptive=None), epochs=3, dropout=0.25, shuffle=True, mini_batch=4),
    ),
    LinearReadout(0.5, Feature("target-time", 0.5, (1, 1))),
)


def toml(value):
    """Return a value as TOML; unlike JSON it has infinity, and no null."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    assert isinstance(value, str | bool | int | float), value
    return json.dumps(value).replace("Infinity", "inf")


def through_toml(experiment):
    text = "\n".join(f"{key} = {toml(value)}" for key, value in experiment.to_dict().items())
    return Experiment.from_dict(tomllib.loads(text))


@pytest.mark.parametrize(
    "model", [*(make() for make in (MODELS | CAMERA_MODELS).values()), EVERYTHING], ids=lambda model: model.name
)
def test_what_is_written_comes_back(model):
    assert through_toml(Experiment(model, seed=7)) == Experiment(model, seed=7)


def test_a_fitted_encoder_comes_back():
    stage = PatchZCA.fit(np.random.default_rng(0).random((20, 9, 9)), window=3)
    encoder = ImageEncoder((stage, OnOff(0.05)), EqualBins(15))
    model = Model("whitened", encoder, (9, 9), (Conv(2, kernel=3, threshold=1),), (Step(0, STDP(0.1, -0.1)),))
    assert through_toml(Experiment(model)) == Experiment(model, 0)


def test_the_example_is_the_model():
    assert Experiment.load(EXAMPLE) == Experiment(digits(), seed=1)


def test_defaults():
    data = {"name": "small", "size": [4, 4], "encoder": {"latency": {"type": "EqualBins", "bins": 5}, "stages": []}}
    data |= {"layers": [{"type": "Dense", "features": 2, "threshold": 3}]}
    data |= {"steps": [{"layer": 0, "rule": {"type": "RSTDP", "reward": [1, -1], "punish": [-1, 1]}}]}
    rule = RSTDP((1, -1), (-1, 1), (0.2, 0.8), stabilizer=False, adaptive=Adaptive(0, 1, 1000))
    model = Model("small", ImageEncoder((), EqualBins(5)), (4, 4), (Dense(2, threshold=3),), (Step(0, rule),))
    assert Experiment.from_dict(data) == Experiment(model, 0)
    assert Experiment.from_dict(data | {"epochs": [9]}).model.steps[0].epochs == 9
    assert "adaptive" not in model_to_dict(digits())["steps"][0]["rule"]


def test_the_name_is_the_files_where_there_is_none(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(EXAMPLE.read_text().replace('name = "digits"', ""))
    assert Experiment.load(path).model == replace(digits(), name="mine")


def changed(*path, to):
    """Return the example with the value at a path replaced."""
    data = copy.deepcopy(tomllib.loads(EXAMPLE.read_text()))
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    return data


@pytest.mark.parametrize(
    ("path", "to", "message"),
    [
        (("layer",), [], "an experiment has no key 'layer'; the nearest known is 'layers'"),
        (("sed",), 1, r"an experiment has no key 'sed'; the nearest known is 'seed' \(known: .*, seed, epochs\)"),
        (("epoch",), [1], "an experiment has no key 'epoch'; the nearest known is 'epochs'"),
        (("steps", 0, "epoch"), 1, r"steps\[0\] has no key 'epoch'; the nearest known is 'epochs'"),
        (("steps", 1, "rule", "a_pluss"), 1, r"steps\[1\].rule has no key 'a_pluss'; the nearest known is 'a_plus'"),
        (("steps", 1, "rule", "type"), "SDTP", r"rule has the unknown type 'SDTP'; the nearest known is 'STDP'"),
        (("steps", 1, "rule"), {"a_plus": 1}, r"steps\[1\].rule lacks the key 'type' \(one of STDP, RSTDP\)"),
        (("steps", 1, "rule"), {"type": "STDP", "a_plus": 1}, r"steps\[1\].rule lacks the key 'a_minus'"),
        (("steps", 0, "rule", "a_plus"), "much", r"steps\[0\].rule.a_plus: .*valid number.*; got 'much'"),
        (("steps", 0, "rule", "bounds"), [1, 0], r"steps\[0\].rule: bounds expects finite lower < upper"),
        (("steps", 0, "competition", "k"), 0, r"steps\[0\].competition: WTA: k expects an integer of at least 1"),
        (("steps", 0, "shuffle"), 1, r"steps\[0\].shuffle: .*valid boolean; got 1"),
        (("steps", 0, "schedule"), [], r"steps\[0\].schedule expects a table, got \[\]"),
        (("steps", 0, "epochs"), 0, r"steps\[0\].epochs expects at least 1, got 0"),
        (("steps", 0, "layer"), 1, r"steps\[0\].layer: "),
        (("layers", 0, "kernal"), 3, r"layers\[0\] has no key 'kernal'; the nearest known is 'kernel'"),
        (("layers", 0, "threshold"), "9", r"layers\[0\].threshold: .*; got '9'"),
        (("layers", 0, "init"), {"men": 1}, r"layers\[0\].init has no key 'men'; the nearest known is 'mean'"),
        (("layers",), 3, "layers expects a list of tables, got 3"),
        (("encoder", "stages", 0, "kernels", 0, "windw"), 3, "encoder: .*'windw'; the nearest known is 'window'"),
        (("encoder",), "kheradpisheh", "encoder expects a table, got 'kheradpisheh'"),
        (("readout", "kind"), "fird", "readout.kind has the unknown kind 'fird'; the nearest known is 'fired' "),
        (("readout", "kind"), {"kind": "fird"}, "readout.kind.kind has the unknown kind 'fird'; the nearest"),
        (("size",), [0, 16], r"size expects \[height, width\] of at least 1, got \[0, 16\]"),
        (("readout", "C"), -1.0, "readout: LinearReadout expects C > 0, got -1"),
        (("size",), [16], r"size\[1\]: Field required"),
        (("size",), [2, 2], r"encoder and layers do not fit size \[2, 2\]: layer 3 \(Pool\(2\)\)"),
        (("epochs",), [1], "epochs expects 2 positive numbers for digits, got"),
        (("epochs",), 3, "epochs expects a list of integers, one for each step, got 3"),
        (("seed",), -1, "seed expects an integer of at least 0, got -1"),
        (("seed",), "1", "seed expects an integer of at least 0, got '1'"),
    ],
)
def test_refused(path, to, message):
    data = changed(*path, to=to)
    if path == ("steps", 0, "epochs"):
        del data["epochs"]
    with pytest.raises(ValueError, match=message) as caught:
        Experiment.from_dict(data)
    assert "\n" not in str(caught.value)


def test_functions_cannot_be_written():
    rule = replace(digits(), steps=(Step(0, Custom(lambda w, dt: w)),))
    competition = replace(digits(), steps=(Step(0, STDP(1, -1), Competition(lambda spikes: [])),))
    with pytest.raises(ValueError, match="rule: a Custom holds a function"):
        model_to_dict(rule)
    with pytest.raises(ValueError, match="competition: a Competition holds a function"):
        model_to_dict(competition)
    with pytest.raises(ValueError, match="model expects a table, got 3"):
        model_from_dict(3)


def test_files_that_are_none(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("size = [1,")
    with pytest.raises(ValueError, match=r"broken\.toml: "):
        Experiment.load(path)
    with pytest.raises(FileNotFoundError):
        Experiment.load(tmp_path / "absent.toml")


def train(*arguments):
    with pytest.raises(SystemExit) as left:
        cli.main(["train", *map(str, arguments)])
    return left.value.code or 0


def test_the_command_trains_a_file(tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text(EXAMPLE.read_text().replace("seed = 1 ", "seed = 5 ").replace("[2, 4]", "[1, 1]"))
    common = ["--data", "digits", "--backend", "cpu"]
    assert train(path, *common, "-o", tmp_path / "file") == 0
    assert train("digits", *common, "-o", tmp_path / "name", "--seed", 5, "--epochs", "1,1") == 0
    log = json.loads((tmp_path / "file" / "log.json").read_text())
    assert (log["seed"], log["model"], log["arguments"]["model"]) == (5, "digits", str(path))
    assert (tmp_path / "file" / "model.json").read_text() == (tmp_path / "name" / "model.json").read_text()
    steps = json.loads((tmp_path / "name" / "log.json").read_text())["steps"]
    assert [s["epochs"][0]["winners"] for s in steps] == [s["epochs"][0]["winners"] for s in log["steps"]]
    assert train(path, *common, "-o", tmp_path / "other", "--seed", 6, "--epochs", "2,1") == 0
    log = json.loads((tmp_path / "other" / "log.json").read_text())
    assert (log["seed"], [len(step["epochs"]) for step in log["steps"]]) == (6, [2, 1])


def test_pydantic_comes_with_the_first_file():
    program = "import sys, eventsnn.cli; print('pydantic' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], cwd=EXAMPLE.parents[1], capture_output=True, check=True)
    assert run.stdout.strip() == b"False"


def test_the_command_refuses_a_bad_file(tmp_path, capsys):
    path = tmp_path / "bad.toml"
    path.write_text(EXAMPLE.read_text().replace("kernel = 5", "kernle = 5"))
    assert train(path, "--data", "digits", "-o", tmp_path / "run") == 1
    error = capsys.readouterr().err
    assert "layers[0] has no key 'kernle'; the nearest known is 'kernel'" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
