"""The study of accuracy and cost: what it varies, how runs are kept and shared, and the front by hand."""

import json
import math
import os
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import eventsnn as es
from eventsnn.encode import ByTime, CameraEncoder, EqualBins, FirstSpike, ImageEncoder, Rank, WindowChannels
from eventsnn.layers import Conv, PointwiseInhibition, Pool
from eventsnn.models import Model, Step, digits, goupy2022_mnist, mozafari2019_mnist, mozafari2019_mnist_svm, nmnist
from eventsnn.network import Network
from eventsnn.plasticity import STDP, WTA
from eventsnn.readout import LinearReadout
from eventsnn.sources import write_encoded
from eventsnn.study import Tradeoff, front, means, results, tradeoff
from eventsnn.study.variations import Setting, settings_of, varied

ROOT = Path(__file__).parents[1]
SMALL = Model(
    "small",
    ImageEncoder((), EqualBins(8)),
    (8, 8),
    (Conv(8, kernel=3, padding=1, threshold=3), Pool(2)),
    (Step(0, STDP(0.004, -0.003), WTA(3, radius=1), epochs=1),),
    LinearReadout(C=0.1),
)
STUDY = Tradeoff(
    SMALL, train=100, test=60, thresholds=(0.5, 2.0), bins=(4,), winners=(1,), inhibition=("none", 0), seeds=(0, 1)
)
NOTHING = {"thresholds": (), "bins": (), "winners": (), "inhibition": (), "seeds": (0,)}
TIMES = ("seconds", "train_seconds", "environment")


def timeless(rows):
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Return the rows of a study that nothing has cut, and their file."""
    out = tmp_path_factory.mktemp("study") / "rows.jsonl"
    return tradeoff(STUDY, out), out


def test_rows_say_what_was_run(study):
    rows, out = study
    assert results.read(out) == json.loads(json.dumps(rows))
    settings = [(row["threshold"], row["bins"], row["winners"], row["inhibition"]) for row in rows[::2]]
    assert settings == [
        (1, 8, 3, 1),
        (0.5, 8, 3, 1),
        (2, 8, 3, 1),
        (1, 4, 3, 1),
        (1, 8, 1, 1),
        (1, 8, 3, "none"),
        (1, 8, 3, 0),
    ]
    assert [row["seed"] for row in rows] == [0, 1] * 7
    assert len({row["run"] for row in rows}) == 14
    for row in rows:
        assert (row["study"], row["dataset"], row["model"]) == ("tradeoff", "digits", "small")
        assert (row["config"]["train_samples"], row["config"]["test_samples"]) == (100, 60)
        assert row["environment"]["numpy"] == np.__version__
        assert row["seconds"] > 0
        assert row["train_seconds"] > 0
        assert sum(row["spikes_by_layer"]) == pytest.approx(row["spikes"])
    assert "kernel=(3, 3), threshold=1.5" in rows[2]["config"]["recipe"]["layers"][0]


def test_a_row_is_what_a_training_by_hand_gives(study):
    rows, _ = study
    images = {part: es.io.load_images("digits", part) for part in ("train", "test")}
    parts = {}
    for part, count in (("train", 100), ("test", 60)):
        chosen = np.sort(np.random.default_rng(0).permutation(len(images[part]))[:count])
        parts[part] = ImageEncoder((), EqualBins(8)).encode(images[part].pixels[chosen], images[part].labels[chosen])
    model = replace(SMALL, layers=(replace(SMALL.layers[0], threshold=6.0), SMALL.layers[1]))
    expected = model.train(parts["train"], seed=1).evaluate(parts["test"])
    row = next(row for row in rows if row["threshold"] == 2 and row["seed"] == 1)
    assert row["accuracy"] == expected.accuracy
    assert row["spikes_by_layer"] == [layer.spikes for layer in expected.layers]
    assert row["operations"] == expected.synaptic_operations


def test_settings_have_their_effect(study):
    """Lower thresholds bring more spikes; fewer bins bring more spikes in, since fewer are dropped."""
    point = {(m["threshold"], m["bins"], m["winners"], m["inhibition"]): m for m in means(study[0])}
    usual = point[1, 8, 3, 1]
    assert point[0.5, 8, 3, 1]["spikes"] > usual["spikes"] > point[2, 8, 3, 1]["spikes"]
    assert point[1, 4, 3, 1]["input_spikes"] > usual["input_spikes"]
    assert point[1, 4, 3, 1]["operations"] > usual["operations"]
    for other in ((1, 8, 1, 1), (1, 8, 3, "none"), (1, 8, 3, 0)):  # what is learnt differs
        assert point[other]["spikes"] != usual["spikes"]


def test_pointwise_inhibition_lets_one_map_fire():
    rows = tradeoff(replace(STUDY, thresholds=(), bins=(), winners=(), inhibition=("pointwise",), seeds=(0,)))
    free, inhibited = rows
    assert inhibited["spikes_by_layer"][0] <= 64 < free["spikes_by_layer"][0]
    assert len(inhibited["spikes_by_layer"]) == 2  # the spikes of neurons that are inhibited are none


def test_the_recipe_may_be_an_experiment():
    few = {"thresholds": (), "bins": (), "inhibition": (), "seeds": (1,)}
    path = str(ROOT / "examples" / "digits.toml")
    (row,) = tradeoff(Tradeoff.quick(model=path, train=60, test=20, epochs=(1, 1), **few))
    assert row["model"] == "digits"
    assert row["seed"] == 1
    assert ", epochs=1," in row["config"]["recipe"]["steps"][1]


def test_numbers_of_numpy_are_numbers():
    settings = Tradeoff(thresholds=tuple(np.array([0.5, 1.0])), seeds=list(np.arange(2)))
    assert json.dumps([settings.thresholds, settings.seeds]) == "[[0.5, 1.0], [0, 1]]"


def test_energies_are_of_the_picojoules_given(study):
    (row,) = tradeoff(Tradeoff(SMALL, train=100, test=60, **NOTHING, pj_per_operation=2, pj_per_mac=0.5))
    usual = study[0][0]
    assert row["operations"] == usual["operations"]
    assert row["energy"] == pytest.approx((row["operations"] - row["stopped"]) * 2e-12)
    assert row["dense_energy"] == pytest.approx(usual["dense_energy"] * 0.5 / 4.6)
    assert (row["config"]["pj_per_operation"], row["config"]["pj_per_mac"]) == (2, 0.5)
    with pytest.raises(ValueError, match="pj_per_mac expects a finite number of at least 0, got -1"):
        Tradeoff(pj_per_mac=-1)


@pytest.mark.parametrize("cut", [1, 7])
def test_what_was_cut_continues(cut, study, tmp_path):
    rows, out = study
    half = tmp_path / "half.jsonl"
    results.write(half, rows[cut:] if cut == 1 else rows[:cut])
    told = []
    again = tradeoff(STUDY, half, resume=True, say=told.append)
    assert timeless(again) == timeless(rows)
    assert len(told) == (1 if cut == 1 else 7)
    kept = {row["run"]: row for row in results.read(half)}
    assert [kept[row["run"]] == row for row in rows].count(True) == len(rows) - len(told)
    assert timeless(results.read(half)) == timeless(results.read(out))


def test_processes_change_nothing(study, tmp_path):
    rows, _ = study
    out = tmp_path / "rows.jsonl"
    assert timeless(tradeoff(STUDY, out, jobs=2)) == timeless(rows)
    assert timeless(results.read(out)) == timeless(rows)
    assert not [path for path in tmp_path.iterdir() if path != out]


def test_a_cluster_changes_nothing(study, tmp_path):
    distributed = pytest.importorskip("distributed", reason="Dask is not installed: pip install 'eventsnn[dask]'")
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None, "processes": True}
    few = replace(STUDY, bins=(), winners=(), inhibition=())
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        found = tradeoff(few, tmp_path / "rows.jsonl", client=client)
    assert timeless(found) == timeless(study[0])[:6]
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_thresholds_change_after_learning():
    few = replace(STUDY, thresholds=(0.5, 1, 2), bins=(), winners=(), inhibition=(), seeds=(0,), retrain=False)
    rows = tradeoff(few)
    assert [row["threshold"] for row in rows] == [1, 0.5, 2]
    assert len({row["train_seconds"] for row in rows}) == 1  # they are one training
    assert rows[1]["spikes"] > rows[0]["spikes"] > rows[2]["spikes"]
    same = tradeoff(replace(few, thresholds=(), retrain=True))
    assert same[0]["accuracy"] == rows[0]["accuracy"]
    assert same[0]["spikes"] == rows[0]["spikes"]


def test_an_interrupt_keeps_what_is_done(tmp_path):
    out = tmp_path / "rows.jsonl"
    program = f"""
if __name__ == "__main__":
    from dataclasses import replace
    from test_tradeoff import STUDY, tradeoff
    tradeoff(replace(STUDY, seeds=tuple(range(200))), {str(out)!r}, jobs=2)
"""
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    process = subprocess.Popen(
        [sys.executable, "program.py"], cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, stderr=subprocess.PIPE
    )
    while not out.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert b"KeyboardInterrupt" in process.communicate(timeout=60)[1]
    rows = results.read(out)
    assert 0 < len(rows) < 1400
    assert sorted(path.name for path in tmp_path.iterdir()) == ["program.py", "rows.jsonl"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "goupi2022_mnist"}, "unknown name 'goupi2022_mnist'; the nearest known is 'goupy2022_mnist'"),
        ({"thresholds": (1.0, 0.0)}, "thresholds expects a finite number above 0, got 0"),
        ({"bins": (0,)}, "bins expects an integer of at least 1, got 0"),
        ({"winners": (2.5,)}, "winners expects an integer of at least 1, got 2.5"),
        ({"inhibition": ("all",)}, "inhibition expects factors .* none, pointwise, got 'all'"),
        ({"inhibition": (-1,)}, "inhibition expects a finite number of at least 0, got -1"),
        ({"seeds": ()}, "seeds expects at least one"),
        ({"seeds": (1, 1)}, "seeds expects at least one, each once"),
        ({"train": 5000}, "train expects at most the 1438 samples that there are, got 5000"),
        ({"test": -1}, "test expects an integer of at least 0, got -1"),
        ({"epochs": (1, 2)}, "epochs expects 1 positive numbers for small"),
        ({"data": "nowhere"}, "nowhere"),
        ({"model": "nmnist"}, "data expects a folder of recordings .* found none at digits"),
        ({"model": replace(SMALL, encoder=ImageEncoder((), Rank()))}, "bins expects an encoder with bins"),
        ({"model": replace(SMALL, layers=(Conv(2, kernel=9, threshold=1), Pool(2)))}, "small with Setting"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(changes, message, tmp_path):
    with pytest.raises((ValueError, OSError), match=message):
        tradeoff(replace(STUDY, **changes), tmp_path / "rows.jsonl")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("changes", [{"thresholds": 1.0}, {"model": 3}, {"data": None}])
def test_values_of_another_kind_are_refused(changes):
    with pytest.raises(TypeError, match=next(iter(changes))):
        replace(STUDY, **changes)


def test_a_file_that_is_there_is_no_other_study(study, tmp_path):
    rows, out = study
    with pytest.raises(ValueError, match=r"is there already; --resume \(resume=True\) continues it"):
        tradeoff(STUDY, out)
    with pytest.raises(ValueError, match="holds 7 runs with other settings"):
        tradeoff(replace(STUDY, seeds=(0,)), out, resume=True)
    other = tmp_path / "other.jsonl"
    results.write(other, [rows[0] | {"study": "sparsity"}])
    with pytest.raises(ValueError, match="of the study sparsity"):
        tradeoff(STUDY, other, resume=True)
    with pytest.raises(ValueError, match="jobs expects an integer of at least 1, got 0"):
        tradeoff(STUDY, jobs=0)
    with pytest.raises(TypeError, match=r"client expects a distributed\.Client"):
        tradeoff(STUDY, client="tcp://nowhere")


def test_event_files_are_taken_as_they_are(study, tmp_path):
    rows, _ = study
    paths = {}
    for part in ("train", "test"):
        paths[part] = str(tmp_path / f"{part}.h5")
        write_encoded(paths[part], es.io.load_images("digits", part), SMALL.image_encoder)
    files = replace(STUDY, data=paths["train"], test_data=paths["test"])
    with pytest.raises(ValueError, match=r"bins expects images, which it encodes; .* leave it empty"):
        tradeoff(files)
    found = tradeoff(replace(files, thresholds=(), bins=(), winners=(), inhibition=()))
    measures = ("accuracy", "spikes_by_layer", "operations")
    assert [[row[name] for name in measures] for row in found] == [[row[name] for name in measures] for row in rows[:2]]
    held = tradeoff(replace(files, test_data="", test=0, thresholds=(), bins=(), winners=(), inhibition=(), seeds=(0,)))
    labels = es.io.load_images("digits", "train").labels
    assert held[0]["config"]["test_samples"] == sum(round(0.2 * (labels == label).sum()) for label in range(10))


def camera_model():
    encoder = WindowChannels(CameraEncoder(ByTime(1000, origin=0), FirstSpike()), 1)
    layers = (Conv(4, kernel=3, threshold=1, leak=500.0), Pool(2))
    step = Step(0, STDP(0.1, -0.1, tau=250), WTA(1))
    return Model("bars", encoder, (8, 8), layers, (step,), LinearReadout())


def recordings(folder, n=6):
    """Write event files of bars across (class 0) or upright (class 1), one for each recording."""
    rng = np.random.default_rng(1)
    for label in (0, 1):
        for number in range(n):
            along, at = rng.integers(0, 8, 40), rng.integers(2, 6)
            x, y = (along, np.full(40, at)) if label else (np.full(40, at), along)
            columns = {"time": np.sort(rng.integers(0, 1000, 40)), "channel": rng.integers(0, 2, 40), "y": y, "x": x}
            events = es.Events.from_columns(**columns, shape=(2, 8, 8), duration=1000, unit="us")
            target = folder / str(label) / f"{number}.h5"
            target.parent.mkdir(parents=True, exist_ok=True)
            es.io.write(target, events)


def test_recordings_in_folders_of_their_classes(tmp_path):
    recordings(tmp_path / "Train")
    recordings(tmp_path / "Test", n=2)
    settings = Tradeoff(camera_model(), str(tmp_path), thresholds=(), bins=(4,), inhibition=(), seeds=(0,))
    rows = tradeoff(settings)
    assert [row["bins"] for row in rows] == [None, 4]
    assert [row["config"]["test_samples"] for row in rows] == [4, 4]
    assert rows[0]["input_spikes"] == rows[1]["input_spikes"]
    held = tradeoff(replace(settings, data=str(tmp_path / "Train"), bins=()))
    assert [held[0]["config"][f"{part}_samples"] for part in ("train", "test")] == [10, 2]


def test_bins_keep_time_constants_in_proportion():
    model = varied(camera_model(), Setting(bins=10))
    assert model.encoder.encoder.latency == FirstSpike(bins=10)
    assert model.layers[0].leak == 5
    assert model.steps[0].rule.tau == 2.5
    assert varied(nmnist(), Setting(bins=105)).layers[0].leak == 20


def test_thresholds_of_a_layer_that_decides_stay():
    layers = varied(mozafari2019_mnist(), Setting(threshold=2)).layers
    assert [layer.threshold for layer in layers if isinstance(layer, Conv)] == [30, 20, math.inf]


def test_inhibition_everywhere_and_nowhere():
    everywhere = varied(mozafari2019_mnist(), Setting(inhibition="pointwise"))
    kinds = [type(layer) for layer in everywhere.layers]
    assert kinds == [Conv, PointwiseInhibition, Pool, Conv, PointwiseInhibition, Pool, Conv]
    assert [step.layer for step in everywhere.steps] == [0, 3, 6]
    nowhere = varied(goupy2022_mnist(), Setting(inhibition="none"))
    assert [type(layer) for layer in nowhere.layers] == [Conv, Pool]
    assert nowhere.steps[0].competition == WTA(7, radius=0, pointwise=False)
    assert varied(goupy2022_mnist(), Setting(inhibition="pointwise")) == goupy2022_mnist()
    for model in (everywhere, nowhere):
        Network(model.layers, model.image_encoder.output_shape(*model.size)).check_trainable(model.steps[-1].layer)


def test_winners_and_radius_of_what_learns_without_reward():
    winners = varied(mozafari2019_mnist(), Setting(winners=2))
    assert [step.competition.k for step in winners.steps] == [2, 2, 1]
    radius = varied(mozafari2019_mnist(), Setting(inhibition=2))
    assert [step.competition.radius for step in radius.steps] == [6, 2, 0]
    with pytest.raises(ValueError, match="winners expects a layer that learns without reward"):
        varied(replace(SMALL, steps=()), Setting(winners=2))


@pytest.mark.parametrize(("name", "count"), [("study_mnist", 9), ("study_nmnist", 9)])
def test_the_examples_are_settings(name, count):
    text = (ROOT / "examples" / f"{name}.toml").read_text(encoding="utf-8")
    values = tomllib.loads(text)
    assert values.pop("study") == "tradeoff"
    settings = Tradeoff(**values)
    assert f"eventsnn study tradeoff examples/{name}.toml" in text
    model = {"mozafari2019_mnist_svm": mozafari2019_mnist_svm, "nmnist": nmnist}[settings.model]()
    axes = {
        "threshold": settings.thresholds,
        "bins": settings.bins,
        "winners": settings.winners,
        "inhibition": settings.inhibition,
    }
    found = settings_of(model, axes, settings.grid)
    assert len(found) == count
    assert len({varied(model, setting) for setting in found}) == count  # none says what another does


def test_sweeps_have_each_setting_once():
    axes = {"threshold": (0.5, 1.0), "bins": (15, 5), "winners": (), "inhibition": (1,)}
    around = settings_of(digits(), axes, grid=False)
    assert around == [Setting(), Setting(threshold=0.5), Setting(bins=5)]
    grid = settings_of(digits(), axes, grid=True)
    assert grid == [Setting(0.5, 15), Setting(0.5, 5), Setting(1, 15), Setting(1, 5)]
    assert len(settings_of(goupy2022_mnist(), {"inhibition": ("pointwise",)}, grid=False)) == 1  # it has that


def row(threshold, seed, accuracy, spikes, **others):
    return {
        "study": "tradeoff", "dataset": "d", "model": "m", "threshold": threshold, "bins": 15, "winners": 5,
        "inhibition": 1, "seed": seed, "accuracy": accuracy, "spikes": spikes, "energy": spikes * 1e-9,
        "operations": 10 * spikes, "config": {"seed": seed},
    } | others  # fmt: skip


def test_intervals_by_hand():
    """Student's t of 2 degrees of freedom at 97.5 % is 4.30265 (any table); 0.1 * 4.30265 / sqrt(3) = 0.24841."""
    found = means([row(1, 0, 0.7, 100), row(1, 1, 0.8, 200), row(1, 2, 0.9, 600), row(2, 0, 0.5, 10)])
    assert [one["seeds"] for one in found] == [3, 1]
    assert found[0]["accuracy"] == pytest.approx(0.8)
    assert found[0]["accuracy_low"] == pytest.approx(0.8 - 0.24841, abs=1e-5)
    assert found[0]["accuracy_high"] == pytest.approx(0.8 + 0.24841, abs=1e-5)
    assert found[0]["accuracy_std"] == pytest.approx(0.1)
    assert found[0]["spikes"] == 300
    assert found[0]["energy"] == pytest.approx(3e-7)
    assert found[1]["accuracy_low"] is None


def test_the_front_by_hand():
    points = {
        0.25: (0.9, 500),
        0.5: (0.95, 400),
        1.0: (0.8, 100),
        1.5: (0.8, 120),
        2.0: (0.7, 50),
        3.0: (0.7, 50),
        4.0: (0.1, 60),
    }
    rows = [row(threshold, 0, *point) for threshold, point in points.items()]
    assert [one["threshold"] for one in front(rows)] == [2, 3, 1, 0.5]  # equals do not beat each other
    dear = [one | {"energy": 1 / one["spikes"]} for one in rows]
    assert [one["threshold"] for one in front(dear, "energy")] == [0.25, 0.5]


def test_the_front_is_of_means_within_a_data_set():
    rows = [row(1, 0, 1.0, 100), row(1, 1, 0.5, 100), row(2, 0, 0.8, 90), row(2, 1, 0.8, 90)]
    assert [one["threshold"] for one in front(rows)] == [2]
    others = [row(1, 0, 0.1, 100, dataset="e")]
    assert [(one["dataset"], one["threshold"]) for one in front(rows + others)] == [("d", 2), ("e", 1)]


def test_rows_of_something_else_have_no_front():
    with pytest.raises(ValueError, match="expected rows of the study tradeoff, got one of 'scaling'"):
        means([{"study": "scaling"}])
    with pytest.raises(ValueError, match="each seed once"):
        means([row(1, 0, 1.0, 100), row(1, 0, 0.5, 100)])
    with pytest.raises(ValueError, match="unknown name 'spike'; the nearest known is 'spikes'"):
        front([], "spike")
