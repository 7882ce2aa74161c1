"""``eventsnn plot`` and ``eventsnn features``: their files against the library, and that a failure leaves nothing."""

import errno
import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import eventsnn as es
from eventsnn import pictures, plot
from eventsnn.encode import ZCA, DoG, EqualBins, Filter, Gabor, ImageEncoder, OnOff
from eventsnn.events import replace_fields
from eventsnn.history import History
from eventsnn.io import Images, write
from eventsnn.models import Model, Step, Trained
from eventsnn.pictures import draw
from eventsnn.readout import Feature, LinearReadout
from eventsnn.runs import describe_data, read_log, write_log
from eventsnn.snapshots import read_snapshots, write_snapshots
from eventsnn.sources import write_encoded

ENCODER = ImageEncoder((Filter([DoG(3, 0.5, 1), DoG(3, 1, 0.5)], padding=1, threshold=5),), EqualBins(6))
LAYERS = (es.Conv(4, kernel=3, threshold=3), es.Pool(2))


def stripes(n=12):
    """Return images with a line in a random place, lying or upright by turns."""
    pixels, rng = np.zeros((n, 8, 8), np.uint8), np.random.default_rng(0)
    for i, at in enumerate(rng.integers(1, 7, n)):
        pixels[i][(at, slice(None)) if i % 2 else (slice(None), at)] = 200
    return Images(pixels, np.arange(n) % 2, ("upright", "lying"), "stripes")


def make(folder, encoder, readout=None):
    """Train a small network and leave it with its log in a folder, and the data beside it."""
    images, data = stripes(), folder / "data.h5"
    write_encoded(data, images, encoder)
    steps = (Step(0, es.STDP(0.1, -0.1), epochs=2),)
    with es.EventDataset(data) as dataset:
        trained = Model("stripes", encoder, (8, 8), LAYERS, steps, readout).train(dataset)
    trained.save(folder / "run")
    write_snapshots(folder / "run" / "snapshots.h5", trained.records)
    write_log(folder / "run", {"command": "train", "steps": [record.to_dict() for record in trained.records]})
    return trained, folder / "run", data


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("run"), ENCODER, LinearReadout(kind="latency"))


OF_RUN = {"evolution-0.png", "features-0.png", "weights-0.png", "convergence.png"}
OF_DATA = {"spikes.png", "confusion.png"}


def of_samples(*numbers):
    return {f"{name}-{n}.png" for n in numbers for name in ("raster", "latency-input", "latency-0")}


@pytest.fixture
def undrawn(monkeypatch):
    """Let no picture be drawn: tests of where the files go need not know what is in them."""
    for name in ("features", "weights_histogram", "evolution"):
        monkeypatch.setattr(plot, name, lambda *_, **__: None)
    monkeypatch.setattr(pictures, "png", lambda axes: b"a picture")


def test_plot_draws_the_run_and_the_data(made, tmp_path, call):
    _, run, data = made
    out = tmp_path / "pictures"
    code, said, _ = call("plot", run, "-o", out)
    assert (code, {path.name for path in out.iterdir()}) == (0, OF_RUN)
    assert all(name in said for name in OF_RUN)
    (out / "raster-3.png").write_text("of before")
    (out / "mine.txt").touch()
    assert call("plot", run, "-o", out, "--data", data, "--sample", "3", "--sample", "-2", "--sample", "10")[0] == 0
    written = OF_RUN | OF_DATA | of_samples(3, 10)
    assert {path.name for path in out.iterdir()} == written | {"mine.txt"}
    for name in written:
        with Image.open(out / name) as picture:
            picture.load()
            assert min(picture.size) > 150
            assert len(picture.convert("L").getcolors()) > 2  # there is something on it


def test_plot_without_log_readout_and_features_in_pixels(tmp_path, call):
    whole = ImageEncoder((ZCA.fit(stripes().pixels / 255), OnOff()), EqualBins(6))
    _, run, data = make(tmp_path, whole)
    (run / "log.json").unlink()
    (run / "snapshots.h5").unlink()  # as in a run of an earlier version
    code, said, _ = call("plot", run, "-o", tmp_path / "out", "--data", data)
    assert code == 0
    assert said.splitlines()[0] == f"{run}: no picture of how features came about, since there is no snapshots.h5"
    expected = (OF_RUN | OF_DATA | of_samples(0, 1)) - {"confusion.png", "convergence.png", "evolution-0.png"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == expected


def titles(trained, data, samples=()):
    """Return the first title of each picture of samples."""
    with es.EventDataset(data) as dataset:
        found = dict(pictures._of_samples(trained, dataset, samples))
    del found["spikes"]
    return {name: axes.get_title("left") for name, axes in found.items()}


def test_samples_of_distinct_classes_are_drawn(made, tmp_path):
    trained, _, data = made
    found = titles(trained, data)
    assert {f"{name}.png" for name in found} == of_samples(0, 1)  # of two classes
    assert found["raster-1"].startswith("sample 1, class lying; input: ")
    assert found["latency-0-0"].startswith("sample 0, class upright; 0: Conv")
    with es.EventDataset(data) as dataset:
        spikes = dataset.load()
    for labels, numbers in ((None, [0]), ([5, 5, 5, 9, 2, 7, *[2] * 6], [4, 0, 5])):
        file = tmp_path / "a.h5"
        write(file, spikes.with_labels(labels) if labels else replace_fields(spikes, labels=None))
        found = titles(trained, file)
        assert {f"{name}.png" for name in found} == of_samples(*numbers)
    assert found["raster-5"].startswith("sample 5, class 7; input: ")


def test_evolution_of_a_run_ends_with_the_kept_epoch(made, tmp_path, monkeypatch):
    trained, run, _ = made
    drawn = []

    def evolution(net, layer, recorded, encoder, signed):
        assert signed
        drawn.append((layer, {moment: weights.copy() for moment, weights in recorded.items()}))
        return es.plot.features(net, layer, encoder)

    monkeypatch.setattr("eventsnn.plot.evolution", evolution)
    draw(run, tmp_path / "last")
    other = shutil.copytree(run, tmp_path / "other")
    earlier = Trained.load(other)
    earlier.network.set_weights(0, 1 - earlier.network.weights[0])
    earlier.save(other)
    draw(other, tmp_path / "kept")
    (first, last), (second, kept) = drawn
    assert first == second == 0
    assert list(last) == [0, 24]
    assert np.array_equal(last[24], trained.network.weights[0])
    assert list(kept) == [0, 24, "kept"]
    assert np.array_equal(kept["kept"], 1 - trained.network.weights[0])


def test_features_above_gabor_filters_are_not_added_up(tmp_path, monkeypatch):
    bars = ImageEncoder((Filter([Gabor(5, 0), Gabor(5, 90)], padding=2, threshold=5),), EqualBins(6))
    _, run, _ = make(tmp_path, bars)
    found, drawn = [], {"features": es.plot.features, "evolution": es.plot.evolution}
    for name, draws in drawn.items():

        def spies(*arguments, draws=draws, **options):
            found.append(options["signed"])
            return draws(*arguments, **options)

        monkeypatch.setattr(es.plot, name, spies)
    draw(run, tmp_path / "out")
    assert found == [False, False]


@pytest.mark.usefixtures("undrawn")
def test_plot_refuses_and_leaves_nothing(made, tmp_path, call):
    _, run, data = made
    out, file = tmp_path / "out", tmp_path / "file"
    file.touch()
    for wrong, line in (
        (["plot", tmp_path, "-o", out], "not a trained model"),
        (["plot", run, "-o", file], "expected a folder, found a file"),
        (["plot", run, "-o", tmp_path / "a" / "b"], "expected a name in an existing folder"),
        (["plot", run, "-o", out, "--data", data, "--sample", "12"], "sample expects an index into 12 samples, got 12"),
        (["plot", run, "-o", out, "--data", tmp_path / "none"], "no such file or folder"),
    ):
        code, _, said = call(*wrong)
        assert code == 1
        assert line in said.splitlines()[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


def test_snapshots_of_another_network_are_refused(made, tmp_path, call):
    _, run, _ = made
    other = shutil.copytree(run, tmp_path / "other")
    kept = read_snapshots(run / "snapshots.h5")
    for layer, cut, said in ((0, np.s_[:, :, 1:], "expects snapshots of"), (1, np.s_[:], "whose layer 1 learns")):
        moments = {at: weights[cut] for at, weights in kept[0].items()}
        write_snapshots(other / "snapshots.h5", [History(layer, (), np.zeros((0, 2)), 0.0, True, snapshots=moments)])
        code, _, line = call("plot", other, "-o", tmp_path / "out")
        assert code == 1
        assert said in line
        assert not (tmp_path / "out").exists()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def earlier_pictures(folder):
    folder.mkdir()
    for name in ("convergence.png", "features-0.png", "mine.txt"):
        (folder / name).write_text("earlier")
    return contents(folder)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("failing", sorted(OF_RUN))
def test_a_disk_that_fills_leaves_the_earlier_pictures(made, tmp_path, call, monkeypatch, failing):
    _, run, _ = made
    old, new = tmp_path / "old", tmp_path / "new"
    before, write = earlier_pictures(old), Path.write_bytes

    def fills(path, content):
        if path.name == failing:
            write(path, content[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", fills)
    for out in (old, new):
        code, _, said = call("plot", run, "-o", out)
        assert (code, said) == (1, f"eventsnn plot: {out / failing}: No space left on device\n")
    assert contents(old) == before
    assert list(tmp_path.iterdir()) == [old]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("failing", sorted(OF_RUN))
def test_pictures_are_replaced_all_or_none(made, tmp_path, call, monkeypatch, failing):
    _, run, _ = made
    out, rename = tmp_path / "out", os.rename
    before = earlier_pictures(out)

    def refuses(source, target):
        if Path(target) == out / failing:
            raise PermissionError(errno.EPERM, "Operation not permitted", str(source))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuses)
    code, _, said = call("plot", run, "-o", out)
    assert (code, said) == (1, f"eventsnn plot: {out / failing}: Operation not permitted\n")
    assert contents(out) == before


@pytest.mark.usefixtures("undrawn")
def test_a_folder_with_the_name_of_a_picture_stays(made, tmp_path, call):
    _, run, _ = made
    out = tmp_path / "out"
    (out / "weights-0.png").mkdir(parents=True)
    (out / "weights-0.png" / "mine.txt").touch()
    code, _, said = call("plot", run, "-o", out)
    assert (code, said) == (1, f"eventsnn plot: {out / 'weights-0.png'}: Is a directory\n")
    assert [str(path.relative_to(out)) for path in out.rglob("*")] == ["weights-0.png", "weights-0.png/mine.txt"]


@pytest.mark.usefixtures("undrawn")
def test_a_folder_by_another_name_is_drawn_into(made, tmp_path, call):
    _, run, _ = made
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "later").symlink_to(tmp_path / "fresh")
    for link, real in (("link", "real"), ("later", "fresh")):
        assert call("plot", run, "-o", tmp_path / link)[0] == 0
        assert {path.name for path in (tmp_path / real).iterdir()} == OF_RUN
    assert {path.name for path in tmp_path.iterdir()} == {"link", "real", "later", "fresh"}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("how", ["images", "file", "other"])
def test_decisions_on_what_was_learnt_are_marked(made, tmp_path, call, monkeypatch, how):
    _, run, data = made
    run, marked, confusion = shutil.copytree(run, tmp_path / "run"), [], es.plot.confusion
    with es.EventDataset(data) as dataset:
        learnt = describe_data(str(data), dataset)
    assert learnt["sha256"] != learnt["provenance"]["source_sha256"] is not None
    if how != "images":
        learnt["provenance"]["source_sha256"] = None
    if how != "file":
        learnt["sha256"] = None
    write_log(run, read_log(run) | {"data": learnt})

    def draws(*arguments, **options):
        axes = confusion(*arguments, **options)
        marked.append("trained on" in axes.get_title("left"))
        return axes

    monkeypatch.setattr("eventsnn.plot.confusion", draws)
    code, said, _ = call("plot", run, "-o", tmp_path / "out", "--data", data)
    assert (code, marked) == (0, [how != "other"])
    assert ("these are the samples that it was trained on" in said) == (how != "other")


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("data", [3, {"provenance": [1]}])
def test_a_damaged_log_is_one_clear_error(made, tmp_path, call, data):
    _, run, events = made
    run = shutil.copytree(run, tmp_path / "run")
    write_log(run, {"data": data})
    for command in (["plot", run, "-o", tmp_path / "out", "--data", events], ["evaluate", run, "--data", events]):
        code, _, said = call(*command)
        assert (code, said.splitlines()[-1].split(": ", 1)[1]) == (
            1,
            f"{run / 'log.json'}: data expects what was learnt from, found something else",
        )
    write_log(run, {"steps": [1, 2]})
    code, _, said = call("plot", run, "-o", tmp_path / "out")
    assert code == 1
    assert said.startswith(f"eventsnn plot: {run / 'log.json'}: expected the history of a layer that learnt")
    assert list(tmp_path.iterdir()) == [run]


def same(found, expected):
    return (found.features != expected).nnz == 0 and found.features.shape == expected.shape


def test_features_are_those_of_the_readout(made, tmp_path, call):
    trained, run, data = made
    out = tmp_path / "f.h5"
    code, said, _ = call("features", run, "--data", data, "-o", out)
    found = es.read_features(out)
    assert code == 0
    assert "12 samples, 36 features (latency)" in said
    with es.EventDataset(data) as dataset:
        assert same(found, es.features(trained.network, dataset, "latency"))
        assert np.array_equal(found.labels, dataset.labels)
    assert found.features.dtype == np.float64
    assert found.meta["grid"] == [4, 3, 3]
    assert found.meta["feature"] == {"kind": "latency", "target": 0.75, "regions": None}
    assert trained.readout.predict(found.features).tolist() == trained.predict(stripes().pixels).tolist()


def test_features_of_a_kind(made, tmp_path, call):
    trained, run, data = made
    out = tmp_path / "f.h5"
    options = ["--kind", "target-time", "--target", "0.5", "--regions", "2x3"]
    assert call("features", run, "--data", data, "-o", out, *options)[0] == 0
    with es.EventDataset(data) as dataset:
        assert same(es.read_features(out), es.features(trained.network, dataset, Feature("target-time", 0.5, (2, 3))))


def test_features_refuse_and_leave_the_earlier_file(made, tmp_path, call):
    _, run, data = made
    out = tmp_path / "f.h5"
    out.write_text("earlier")
    for wrong, status, line in (
        (["-o", out, "--kind", "loud"], 2, "kind expects one of fired"),
        (["-o", out, "--regions", "2x2"], 2, "--regions expects --kind too"),
        (["-o", out, "--kind", "counts", "--regions", "2"], 2, "--regions expects HxW, as 2x2, got '2'"),
        (["-o", out, "--kind", "counts", "--regions", "9x9"], 1, "regions expects at most 3 x 3"),
        (["-o", tmp_path / "a" / "f.h5"], 1, "expected the name of a file in an existing folder"),
        (["-o", data], 1, "expected a file other than the data"),
    ):
        code, _, said = call("features", run, "--data", data, *wrong)
        assert (code, line in said.splitlines()[-1]) == (status, True), said
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"f.h5": "earlier"}
    assert es.EventDataset(data).labels is not None


def silent_features(path, labels):
    net = es.Network(LAYERS, (2, 8, 8))
    matrix = es.features(net, es.Events.empty((2, 8, 8), 3, duration=5))
    es.write_features(path, matrix, labels)
    return matrix


@pytest.mark.parametrize("labels", [None, [4, 0, 2]])
def test_features_of_silence(tmp_path, labels):
    matrix = silent_features(tmp_path / "f.h5", labels)
    found = es.read_features(tmp_path / "f.h5")
    assert same(found, matrix)
    assert (found.labels if labels is None else found.labels.tolist()) == labels
    assert found.meta == {}


def test_write_features_refuses_labels_of_others(tmp_path):
    with pytest.raises(ValueError, match="labels expects one for each of 3 samples"):
        silent_features(tmp_path / "f.h5", [1, 2])
    assert not list(tmp_path.iterdir())


def test_read_features_trusts_nothing(made, tmp_path):
    trained, _, data = made
    with es.EventDataset(data) as dataset:
        matrix, path = es.features(trained.network, dataset), tmp_path / "f.h5"
    assert matrix.nnz
    es.write_features(path, matrix)
    whole = path.read_bytes()
    with h5py.File(path) as file:
        at = file["data"].id.get_chunk_info(0).byte_offset
    path.write_bytes(whole[: at + 3] + bytes([whole[at + 3] ^ 1]) + whole[at + 4 :])
    with pytest.raises(ValueError, match="not a file that eventsnn can read"):
        es.read_features(path)
    matrix.indices[0] = 99
    es.write_features(path, matrix)
    with pytest.raises(ValueError, match="inconsistent features"):
        es.read_features(path)
    trained.network.save(path)
    with pytest.raises(ValueError, match="format expects 'eventsnn-features', got"):
        es.read_features(path)


def test_the_log_of_a_run_makes_the_curves(made):
    _, run, _ = made
    log = json.loads((run / "log.json").read_text())
    assert es.plot.convergence(run).lines[0].get_ydata().tolist() == [point[1] for point in log["steps"][0]["curve"]]
