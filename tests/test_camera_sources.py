"""The command line on folders of recordings: encoded as the library does, trained on, evaluated, drawn; and refused."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from event_files import atis_bin
from test_experiment import toml
from test_nmnist import bars, small

import eventsnn as es
from eventsnn import cli
from eventsnn.camera_sources import find_recordings, holds_recordings
from eventsnn.convert import convert
from eventsnn.encode import ByTime, CameraEncoder, FindHotPixels, FirstSpike, Whole, WindowChannels
from eventsnn.experiment import Experiment
from eventsnn.io import EventDataset
from eventsnn.models import Trained, nmnist
from eventsnn.sources import hold_out

NAMES = ["2", "10"]  # of classes, in the order of numbers


def one_bin(x=9, y=9):
    """A short recording, long enough to be recognized."""
    return atis_bin([(5 + i, x, y, i % 2) for i in range(20)])


def write_class_folders(folder, n, seed):
    """Recordings of bars by class, as N-MNIST's files, which have 34x34 pixels; return them in the order of files."""
    arrays, labels = bars(n, seed=seed)
    found = {name: [] for name in NAMES}
    for i, (array, label) in enumerate(zip(arrays, labels, strict=True)):
        path = folder / NAMES[label] / f"{i}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        events = [(int(t), int(x), int(y), int(p)) for x, y, t, p in array]
        path.write_bytes(atis_bin(sorted([*events, (400_000, 12, 12, 1)])))  # so late that nobody takes it
        found[NAMES[label]].append(path)
    return [path for name in NAMES for path in found[name]], sorted(labels)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for part, n in (("Train", 80), ("Test", 40)):
        write_class_folders(folder / part, n, seed=n)
    (folder / "list.txt").write_text("not a recording")
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A small network for bars, as TOML."""
    model = replace(small(nmnist()), size=(34, 34), name="bars")
    path = tmp_path_factory.mktemp("recipe") / "bars.toml"
    path.write_text("\n".join(f"{key} = {toml(value)}" for key, value in Experiment(model, 5).to_dict().items()))
    assert Experiment.load(path) == Experiment(model, 5)
    return path


@pytest.fixture(scope="module")
def run(data, recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    with pytest.raises(SystemExit) as left:
        cli.main(["train", str(recipe), "--data", str(data), "-o", str(out), "--epochs", "8"])
    assert not left.value.code
    return out


def expected(folder, encoder):
    """What a folder of a part becomes, by the library."""
    paths = [path for name in NAMES for path in sorted((folder / name).iterdir(), key=lambda path: int(path.stem))]
    labels = [NAMES.index(path.parent.name) for path in paths]
    return encoder.encode([es.open(path) for path in paths], labels)


def test_a_run_decides_live_as_it_evaluates(run, data, call, tmp_path):
    trained = Trained.load(run)
    paths = sorted(path for folder in (data / "Test").iterdir() for path in folder.iterdir())[:4]
    for path, decision in zip(paths, trained.predict([es.open(path) for path in paths]), strict=True):
        code, out, _ = call("live", path, "--network", run, "--json")
        assert (code, json.loads(out.splitlines()[0])["decision"]) == (0, decision)
    code, out, _ = call("live", paths[0], "--network", run, "--window", "20ms", "--json")
    assert (code, json.loads(out.splitlines()[0])["length"]) == (0, 60_000)
    (tmp_path / "run").mkdir()
    for name in ("network.h5", "readout.h5"):
        if (run / name).exists():
            (tmp_path / "run" / name).write_bytes((run / name).read_bytes())
    (tmp_path / "run" / "model.json").write_text("{}")
    code, _, err = call("live", paths[0], "--network", tmp_path / "run")
    assert (code, "model.json: not the description of a model" in err) == (1, True)


def test_a_run_is_what_the_library_trains(run, data, recipe):
    model = Experiment.load(recipe).model.with_epochs([8])
    again = model.train(expected(data / "Train", model.encoder), seed=5)
    trained = Trained.load(run)
    np.testing.assert_array_equal(trained.network.weights[0], again.network.weights[0])
    assert (trained.encoder, trained.size) == (model.encoder, (34, 34))
    log = json.loads((run / "log.json").read_text())
    assert log["data"]["provenance"]["extra"] == {"classes": NAMES, "image_size": [34, 34]}
    assert log["data"]["samples"] == 80


def test_evaluate_features_and_pictures(run, data, call, tmp_path):
    test = expected(data / "Test", nmnist().encoder)
    accuracy = Trained.load(run).evaluate(test).accuracy
    assert accuracy > 0.75
    for source in (data, data / "Test"):  # the part of a folder, or the folder itself
        code, out, err = call("evaluate", run, "--data", source, "--json")
        found = json.loads(out)
        assert (code, found["accuracy"], found["trained_on_these"]) == (0, accuracy, False)
        assert "classes are compared by number" not in out + err
    assert json.loads(call("evaluate", run, "--data", data / "Train", "--json")[1])["trained_on_these"]
    shutil.copytree(data / "Test" / "10", tmp_path / "some" / "10")
    assert "these are 10, the learnt ones 2, 10" in call("evaluate", run, "--data", tmp_path / "some")[1]
    assert call("features", run, "--data", data, "--split", "test", "-o", tmp_path / "f.h5")[0] == 0
    assert es.read_features(tmp_path / "f.h5").labels.tolist() == test.labels.tolist()
    code, out, err = call("plot", run, "--data", data, "-o", tmp_path / "pictures")
    assert code == 0, err
    assert {"features-0.png", "confusion.png", "raster-0.png"} <= {path.name for path in tmp_path.glob("pictures/*")}


def test_encoded_once_and_used_again(run, data, recipe, call, tmp_path):
    file = tmp_path / "test.h5"
    code, out, _ = call("encode", data, "--encoder", recipe, "--split", "test", "-o", file)
    assert (code, out.splitlines()[0]) == (0, f"{data} (test): 40 recordings, encoder {recipe}")
    with EventDataset(file) as dataset:
        assert dataset.load().equals(expected(data / "Test", nmnist().encoder))
        assert dataset.groups is None
    assert "encoder        nmnist" in call("info", file)[1]
    assert call("evaluate", run, "--data", file)[1] == call("evaluate", run, "--data", data)[1].replace(
        f"{data} (test)", str(file)
    )
    other = tmp_path / "other.h5"  # as the file before; nmnist is for recordings the encoder that nobody has to name
    for options in (["--encoder", file], []):
        assert call("encode", data / "Test", *options, "-o", other)[0] == 0
        assert EventDataset(other).load().equals(EventDataset(file).load())


def test_converted_recordings(data, call, tmp_path):
    convert([data / "Test"], tmp_path / "all.h5", jobs=1)
    code, _, err = call("encode", tmp_path / "all.h5", "--encoder", "nmnist", "-o", tmp_path / "encoded.h5")
    assert code == 0, err
    with EventDataset(tmp_path / "all.h5") as whole, EventDataset(tmp_path / "encoded.h5") as found:
        assert found.load().equals(nmnist().encoder.encode(whole.load()))
        assert found.provenance["extra"] == {"classes": NAMES, "image_size": [34, 34]}


def test_windows_of_recordings_are_groups(data, call, tmp_path):
    encoder = CameraEncoder(ByTime(105_000, origin=0), FirstSpike(bins=15))
    description = tmp_path / "encoder.json"
    description.write_text(json.dumps(encoder.to_dict()))
    assert call("encode", data / "Test", "--encoder", description, "-o", tmp_path / "windows.h5")[0] == 0
    with EventDataset(tmp_path / "windows.h5") as dataset:
        numbers, counts = np.unique(dataset.groups, return_counts=True)
        assert numbers.tolist() == list(range(40))
        assert (counts == 4).all()
        first = sorted((data / "Test" / "2").iterdir(), key=lambda path: int(path.stem))[0]
        assert dataset[:4].equals(encoder.encode(es.open(first), 0))
        training, held = hold_out(dataset, 0.25)
        assert not set(dataset.groups[training.indices]) & set(dataset.groups[held.indices])
    alone = tmp_path / "alone.h5"
    assert call("encode", first, "--encoder", description, "-o", alone)[0] == 0
    with EventDataset(alone) as dataset:
        assert (len(dataset), dataset.labels, dataset.groups) == (4, None, None)


def test_models_of_windows_decide_for_each():
    arrays, labels = bars(40)
    encoder = CameraEncoder(Whole(315_000), FirstSpike(bins=30))
    model = replace(small(nmnist()), encoder=encoder)
    train = es.concatenate([encoder.encode(a, int(k), sensor=(12, 12)) for a, k in zip(arrays, labels, strict=True)])
    assert model.train(train).predict(arrays).shape == (40,)


def test_classes_have_the_same_numbers_in_both_parts(tmp_path):
    for name in ("Train/a", "Train/b", "Train/c", "test/c"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.bin").write_bytes(one_bin())
    assert find_recordings(str(tmp_path), "test").labels == [2]
    assert find_recordings(str(tmp_path), "all").labels == [0, 1, 2, 2]
    assert find_recordings(str(tmp_path), "train").classes == ["a", "b", "c"]
    assert holds_recordings(str(tmp_path))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "expected recordings, or one folder of them for each class, found none"),
        ({"a/1.bin": b"\x00" * 7}, "1.bin: is of no known format"),
        ({"a/1.png": b"\x89PNG"}, "1.png: is of no known format"),
        ({"a/1.bin": one_bin(239)}, "does not say the sensor's size; 'eventsnn encode --size HxW' does"),
        (
            {"a/1.bin": one_bin(), "b/2.raw": b"% evt 2.0\n% geometry 640x480\n"},
            "found one of 640 x 480",
        ),
        ({"train/a/1.bin": one_bin()}, "expected a folder 'test', found ['train']"),
    ],
)
def test_what_cannot_be_encoded(call, tmp_path, files, message):
    source, out = tmp_path / "in", tmp_path / "out.h5"
    source.mkdir()
    for name, content in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    part = ["--split", "test"] if (source / "train").exists() else []
    code, _, err = call("encode", source, "--encoder", "nmnist", *part, "-o", out)
    assert code == 1
    assert message in err.replace("\n", " ")
    assert not out.exists()


@pytest.mark.parametrize(("options", "turned"), [
    (["--flip-x"], {"flip_x": True}),
    (["--swap-xy", "--flip-y"], {"swap_xy": True, "flip_y": True}),
    (["--swap-polarity", "--no-flip-x"], {"swap_polarity": True, "flip_x": False}),
])  # fmt: skip
def test_recordings_are_turned(options, turned, data, call, tmp_path):
    out, paths = tmp_path / "o.h5", find_recordings(str(data / "Test" / "2"), "train").paths
    assert call("encode", data / "Test" / "2", "--encoder", "nmnist", *options, "-o", out)[0] == 0
    expected = nmnist().encoder.encode([es.open(path, **turned) for path in paths])
    assert not expected.equals(nmnist().encoder.encode([es.open(path) for path in paths]))
    with EventDataset(out) as found:
        assert found.load().equals(expected)
        assert found.provenance["extra"]["orientation"] == turned


def test_what_cannot_be_turned(data, call, tmp_path):
    assert call("convert", data / "Test" / "2", "-o", tmp_path / "whole.h5")[0] == 0
    code, _, err = call("encode", tmp_path / "whole.h5", "--encoder", "nmnist", "--flip-x", "-o", tmp_path / "o.h5")
    assert (code, "found an event file; 'convert' turns it" in err) == (1, True)
    code, _, err = call("encode", "digits", "--flip-x", "-o", tmp_path / "o.h5")
    assert (code, "expect recordings of a camera" in err) == (2, True)
    assert not (tmp_path / "o.h5").exists()


@pytest.mark.parametrize("name", ["Test/2", "one", "whole.h5"])
def test_a_part_of_recordings_without_parts(name, data, run, call, tmp_path):
    """All of them is not the test part."""
    source = data / name
    if name == "one":
        source = next((data / "Test" / "2").iterdir())
    elif name == "whole.h5":
        source = tmp_path / name
        assert call("convert", data / "Test" / "2", "-o", source)[0] == 0
    for part in ("train", "test"):
        code, _, err = call("encode", source, "--encoder", "nmnist", "--split", part, "-o", tmp_path / "o.h5")
        assert (code, f"--split {part} expects a source with parts" in err) == (2, True)
    assert call("features", run, "--data", source, "--split", "test", "-o", tmp_path / "o.h5")[0] == 2
    assert not (tmp_path / "o.h5").exists()
    for option in ([], ["--split", "all"]):
        assert call("encode", source, "--encoder", "nmnist", *option, "-o", tmp_path / "o.h5")[0] == 0


def test_what_does_not_fit_is_refused(run, data, call, tmp_path):
    code, _, err = call("evaluate", run, "--data", tmp_path / "nowhere")
    assert (code, "expected a recording, a folder of recordings" in err) == (1, True)
    first = next((data / "Test" / "2").iterdir())
    code, _, err = call("train", "digits", "--data", first, "-o", tmp_path / "run")
    assert (code, "expected an HDF5 file" in err) == (1, True)
    hot = CameraEncoder(Whole(1000), FirstSpike(), [FindHotPixels(5)])
    (tmp_path / "hot.json").write_text(json.dumps(hot.to_dict()))
    code, _, err = call("encode", first, "--encoder", tmp_path / "hot.json", "-o", tmp_path / "o.h5")
    assert (code, "has a filter to fit" in err) == (1, True)
    assert call("encode", first, "--encoder", "nmnist", "-o", tmp_path / "o.h5")[0] == 0
    code, _, err = call("encode", tmp_path / "o.h5", "--encoder", "nmnist", "-o", tmp_path / "p.h5")
    assert (code, "holds samples that an encoder made" in err) == (1, True)
    other = WindowChannels(CameraEncoder(ByTime(1000), FirstSpike()), 2)
    (tmp_path / "other.json").write_text(json.dumps(other.to_dict()))
    assert call("encode", first, "--encoder", tmp_path / "other.json", "-o", tmp_path / "o.h5")[0] == 0
    code, _, err = call("evaluate", run, "--data", tmp_path / "o.h5")
    assert (code, "made by another encoder, the model expects nmnist" in err) == (1, True)
    (tmp_path / "bad.json").write_text("{")
    assert (
        "expected an encoder's to_dict() as JSON"
        in call("encode", first, "--encoder", tmp_path / "bad.json", "-o", tmp_path / "o.h5")[2]
    )


def test_a_size_that_recordings_do_not_say(call, tmp_path):
    (tmp_path / "a.bin").write_bytes(one_bin(239, 179))
    assert call("encode", tmp_path / "a.bin", "--size", "180x240", "-o", tmp_path / "o.h5")[0] == 0
    with EventDataset(tmp_path / "o.h5") as dataset:
        assert (dataset.shape, dataset.n_events) == ((6, 180, 240), 2)


def test_nmnist(data_path, call, tmp_path):
    """The test set from the folder that holds both parts has the classes that its list says."""
    assert call("encode", data_path / "nmnist", "--split", "test", "-o", tmp_path / "test.h5")[0] == 0
    lines = (data_path / "nmnist" / "test100.txt").read_text().splitlines()[1:]
    with EventDataset(tmp_path / "test.h5") as found:
        assert found.labels.tolist() == sorted(int(line.split()[1]) for line in lines)
        assert (found.shape, found.unit, found.duration) == ((6, 34, 34), "us", 105_000)
