"""The command line: each command's work against the library, and its errors: one line, nothing left behind."""

import errno
import hashlib
import importlib
import io
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from rich.console import Console
from rich.progress import Progress

import eventsnn
from eventsnn import cli, console, demo, sources
from eventsnn.io import EventDataset, check, info, load_images, write
from eventsnn.models import MODELS, Model, Trained, digits
from eventsnn.runs import hold_out

ROOT = Path(eventsnn.__file__).parents[1]
RUN_FILES = {"log.json", "snapshots.h5", "model.json", "network.h5", "readout.h5"}


def bars(n, size, seed):
    """Return ``n`` images of one bright bar each, upright (class 0) or lying (class 1) by turns, and their classes."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 30, (n, size, size)).astype(np.uint8)
    for i, at in enumerate(rng.integers(3, size - 4, n)):
        band = slice(at, at + 2)
        images[i][(slice(2, -2), band) if i % 2 == 0 else (band, slice(2, -2))] = 220
    return images, (np.arange(n) % 2).astype(np.uint8)


def write_idx(folder, name, images, labels):
    for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
        header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        (folder / f"{name}-{kind}-ubyte").write_bytes(header + array.tobytes())


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Return a folder of idx files: 48 training and 20 test images of 16x16 pixels, two classes."""
    folder = tmp_path_factory.mktemp("images")
    write_idx(folder, "train", *bars(48, 16, seed=0))
    write_idx(folder, "t10k", *bars(20, 16, seed=1))
    return folder


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    """Return the folder of a run of the digits' model on the training images."""
    run = tmp_path_factory.mktemp("runs") / "run"
    with pytest.raises(SystemExit) as left:
        cli.main(["train", "digits", "--data", str(images), "-o", str(run), "--epochs", "2,1", "--seed", "3"])
    assert not left.value.code
    return run


@pytest.fixture
def succeed(call):
    """Return a function that runs a command line that must succeed, and returns its stdout and stderr."""

    def run(*arguments):
        code, out, err = call(*arguments)
        assert code == 0, err
        return out, err

    return run


def assert_same(found, expected):
    for name in ("time", "channel", "y", "x", "offsets", "labels"):
        assert (getattr(found, name) == getattr(expected, name)).all()
    assert (found.shape, found.unit, found.duration) == (expected.shape, expected.unit, expected.duration)


def files(folder):
    """Return every file and folder below a folder, with the files' bytes."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def shell(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "eventsnn", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        **options,
    )


# Help, version, start


def test_version():
    process = shell("--version")
    assert process.communicate() == (f"eventsnn {eventsnn.__version__}\n", "")
    assert process.returncode == 0


COMMANDS = ("demo", "encode", "info", "check", "train", "evaluate", "plot", "features", "live")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_that_is_correct(command, succeed):
    out, _ = succeed(command, "--help")
    example = re.search(r"Example: eventsnn (.*)", out)[1].split()
    assert example[0] == command
    typer.main.get_command(cli.app).commands[command].make_context(command, example[1:])  # else it raises
    assert "\x1b" not in out


def test_without_a_command_there_is_help(succeed):
    out, _ = succeed()
    for command in COMMANDS:
        assert re.search(rf"\b{command}\b", out)


def test_help_looks_as_elsewhere(succeed, monkeypatch):
    monkeypatch.setenv("COLUMNS", "90")
    for command in ("train", "info"):
        out, _ = succeed(command, "--help")
        assert re.search(rf"Usage: eventsnn {command} \[OPTIONS\] (MODEL|FILE)\s", out)
        assert "<bool>" not in out
    assert "<bool>" not in succeed("--help")[0]


@pytest.mark.parametrize("module", ["numpy", "numpy.linalg", "typer", "eventsnn.cli", "eventsnn.models"])
def test_an_interrupt_while_it_starts(module):
    """Ctrl-C comes when a module is about to be imported."""
    program = f"""
import runpy, signal, sys
class Interrupt:
    def find_spec(name, *_):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Interrupt)
runpy.run_module("eventsnn", run_name="__main__")
"""
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (130, "", "")


def test_the_installed_program_is_this_one():
    script = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["scripts"]["eventsnn"]
    module, name = script.split(":")
    assert getattr(importlib.import_module(module), name) is importlib.import_module("eventsnn.__main__").main


def test_without_a_place_for_compiled_code_there_is_one_warning():
    program = """
from numba.core import caching
caching.InTreeCacheLocator.from_function = classmethod(lambda *_: None)  # the package cannot be written
from eventsnn.console import one_line_errors
with one_line_errors("eventsnn", False):
    import eventsnn.backends.cpu, eventsnn.encode._kernels
"""
    nowhere = {"HOME": "/dev/null/x", "XDG_CACHE_HOME": "/dev/null/x", "LOCALAPPDATA": "/dev/null/x"}
    env = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"} | nowhere
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True)
    assert run.returncode == 0
    assert re.fullmatch(r"eventsnn: no folder .* set NUMBA_CACHE_DIR to .*\n", run.stderr)


def test_what_cannot_be_kept_is_compiled_all_the_same():
    from eventsnn.jit import kernel

    names = {}
    exec("def increased(x): return x + 1", names)  # in no file, so Numba finds no place for it either
    with pytest.warns(RuntimeWarning, match="NUMBA_CACHE_DIR"):
        compiled = kernel(names["increased"])
    assert compiled(2) == 3
    assert compiled.stats.cache_path is None


def test_compiled_code_is_kept():
    from eventsnn.backends.cpu._conv import conv_samples
    from eventsnn.encode._kernels import transform

    assert all(function.stats.cache_path for function in (conv_samples, transform))


def test_the_start_leaves_heavy_libraries_out():
    program = "import sys, json, eventsnn.cli; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"numba", "sklearn", "matplotlib", "scipy", "h5py", "PIL", "pooch"} & set(json.loads(run.stdout))


# encode, info, check


def test_encode_writes_what_the_encoder_gives(images, tmp_path, succeed, monkeypatch):
    monkeypatch.setattr(sources, "_CHUNK", 7)  # several chunks, the last one not full
    out, _ = succeed("encode", images, "-o", tmp_path / "a.h5", "--encoder", "digits", "--split", "test")
    source = load_images(images, "test")
    expected = digits().encoder.encode(source.pixels, source.labels)
    with EventDataset(tmp_path / "a.h5") as dataset:
        loaded, origin = dataset.load(), dataset.provenance
    assert_same(loaded, expected)
    assert origin["source_sha256"] == source.sha256
    assert origin["encoder"] == digits().encoder.to_dict()
    assert origin["extra"] == {"classes": ["0", "1"], "image_size": [16, 16]}
    assert "20 images of 16x16 pixels, encoder digits" in out
    assert list(tmp_path.iterdir()) == [tmp_path / "a.h5"]


@pytest.mark.parametrize(("split", "samples"), [("train", 48), ("test", 20), ("all", 68)])
def test_encode_takes_a_part(split, samples, images, tmp_path, succeed):
    succeed("encode", images, "-o", tmp_path / "a.h5", "--split", split)
    assert info(tmp_path / "a.h5")["samples"] == samples


def test_encode_takes_the_part_of_an_archive(tmp_path, succeed):
    pixels, labels = bars(6, 16, seed=0)
    parts = {"x_train": pixels[:4], "y_train": labels[:4], "x_test": pixels[4:], "y_test": labels[4:]}
    np.savez(tmp_path / "a.npz", **parts)
    for option, samples in (([], 4), (["--split", "train"], 4), (["--split", "test"], 2), (["--split", "all"], 6)):
        succeed("encode", tmp_path / "a.npz", "-o", tmp_path / "a.h5", *option)
        assert info(tmp_path / "a.h5")["samples"] == samples
    np.savez(tmp_path / "b.npz", images=pixels, labels=labels)
    for option in ([], ["--split", "all"]):
        succeed("encode", tmp_path / "b.npz", "-o", tmp_path / "a.h5", *option)
        assert info(tmp_path / "a.h5")["samples"] == 6


def test_encode_rescales(images, tmp_path, succeed):
    succeed("encode", images, "-o", tmp_path / "model.h5")
    succeed("encode", images, "-o", tmp_path / "given.h5", "--size", "12x20")
    assert info(tmp_path / "model.h5")["shape"] == [6, 28, 28]
    assert info(tmp_path / "given.h5")["shape"] == [6, 12, 20]


def refuse(path, *_, **__):
    raise PermissionError(errno.EACCES, "Permission denied", str(path))


@pytest.mark.parametrize(
    ("out", "message"), [("a.h5", r"\S*/a.h5: Permission denied"), ("absent/a.h5", ".*existing folder.*")]
)
def test_encode_looks_at_the_output_first(out, message, images, tmp_path, call, monkeypatch):
    monkeypatch.setattr(sources, "read_images", lambda *_: pytest.fail("reads images"))
    monkeypatch.setattr(Path, "touch", refuse)
    code, printed, err = call("encode", images, "-o", tmp_path / out)
    assert (code, printed) == (1, "")
    assert re.fullmatch(f"eventsnn encode: {message}\n", err)
    assert ".tmp" not in err


def test_train_names_the_run_that_cannot_be_made(images, tmp_path, call, monkeypatch):
    monkeypatch.setattr(Path, "mkdir", refuse)
    code, _, err = call("train", "digits", "--data", images, "-o", tmp_path / "run")
    assert (code, err) == (1, f"eventsnn train: {tmp_path / 'run'}: Permission denied\n")


def save_png(path, seed, size=16):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size)).astype(np.uint8)).save(path)


def test_images_of_many_sizes_need_the_option(tmp_path, call):
    for size in (16, 18):
        save_png(tmp_path / "images" / "cat" / f"{size}.png", 0, size)
    arguments = ("encode", tmp_path / "images", "-o", tmp_path / "a.h5", "--encoder", "mozafari2018")
    code, _, err = call(*arguments)
    assert code == 1
    assert "images differ in size" in err
    assert "--size HxW" in err
    assert call(*arguments, "--size", "16x16")[0] == 0


def test_a_folder_of_classes_without_parts_is_taken_whole(tmp_path):
    for i in range(4):
        save_png(tmp_path / "whole" / ("cat" if i < 3 else "dog") / f"{i}.png", i)
        save_png(tmp_path / "parts" / ("train" if i < 3 else "test") / "cat" / f"{i}.png", i)
    assert [len(sources.read_images(str(tmp_path / "whole"), part, None)) for part in ("train", "test")] == [4, 4]
    assert [len(sources.read_images(str(tmp_path / "parts"), part, None)) for part in ("train", "test")] == [3, 1]


def test_a_folder_beside_idx_files_does_not_mix_their_parts(images, tmp_path):
    for path in images.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "raw").mkdir()
    assert len(sources.read_images(str(tmp_path), "train", None)) == 48


def test_mnist_is_downloaded_unless_it_lies_here(images, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "fetch_mnist", lambda: images)
    monkeypatch.chdir(tmp_path)
    assert len(sources.read_images("mnist", "test", None)) == 20
    (tmp_path / "mnist").mkdir()
    write_idx(tmp_path / "mnist", "t10k", *bars(3, 16, seed=1))
    assert len(sources.read_images("mnist", "test", None)) == 3


@pytest.fixture
def encoded(images, tmp_path, succeed):
    """Return an event file of the training images, encoded for the digits' model."""
    succeed("encode", images, "-o", tmp_path / "train.h5", "--encoder", "digits")
    return tmp_path / "train.h5"


def test_info(encoded, succeed):
    out, err = succeed("info", encoded, "--json")
    assert json.loads(out.splitlines()[-1]) == info(encoded)
    people, nothing = succeed("info", encoded)
    assert people == err
    assert nothing == ""
    with EventDataset(encoded) as dataset:
        for text in (
            f"{len(dataset)}",
            f"{dataset.n_events:,}",
            f"{dataset.shape[0]} channels of 16 x 16",
            "2 classes of 24 samples",
        ):
            assert text in people
    assert re.search(r"encoder +digits\n", people)


def test_info_and_check_of_a_recording(tmp_path, succeed, call):
    path = tmp_path / "cut.raw"
    words = [8 << 28 | 1, 1 << 28 | 5 << 22 | 3 << 11 | 4, 0xA << 28]
    path.write_bytes(b"% evt 2.0\n% geometry 640x480\n" + b"".join(w.to_bytes(4, "little") for w in words))
    people, _ = succeed("info", path)
    for text in ("format         Prophesee EVT2", "sensor         640 x 480", "evt:           2.0", "not known before"):
        assert f"  {text}" in people
    out, _ = succeed("info", path, "--json")
    assert json.loads(out.splitlines()[-1]) == info(path)
    out, _ = succeed("check", path)
    assert out == f"{path}: sound Prophesee EVT2; 1 events; skipped 1 triggers; times 69 to 69 us\n"
    path.write_bytes(path.read_bytes() + bytes(3))
    code, out, err = call("check", path)
    assert (code, out) == (1, "")
    lost = "lost 3 bytes after the last whole word; skipped 1 triggers"
    assert err == f"eventsnn check: {path}: 1 events; {lost}\n"


def test_check_of_folders_and_several_files(tmp_path, call):
    folder, one, good = tmp_path / "set", tmp_path / "one.bin", b"".join(bytes([1, 2, 0, 0, t]) for t in range(5))
    for name in ("0/a.bin", "0/b.bin", "1/c.bin"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(good)
    (folder / "0" / ".hidden").write_text("no recording")
    one.write_bytes(good)
    code, out, err = call("check", folder, one)
    sound = f"{one}: sound ATIS bin; 5 events; times 0 to 4 us\n"
    assert (code, out, err) == (0, f"{folder}: 3 of 3 files sound, 15 events\n" + sound, "")
    (folder / "0" / "b.bin").write_text("no recording")
    code, out, err = call("check", folder, one)
    assert (code, out) == (1, f"{folder}: 2 of 3 files sound, 10 events; 1 broken\n" + sound)
    assert err.startswith(f"eventsnn check: {folder / '0' / 'b.bin'}: is of no known format; ")
    assert err.count("\n") == 1
    (tmp_path / "none").mkdir()
    code, out, err = call("check", tmp_path / "none")
    assert (code, out) == (1, "")
    assert err == f"eventsnn check: {tmp_path / 'none'}: expected recordings or event files, found none\n"


def test_info_does_not_let_a_file_command_the_terminal(encoded, tmp_path, succeed):
    with EventDataset(encoded) as dataset:
        write(tmp_path / "a.h5", dataset.load(), source="mine\x1b[2J\x9b31m\r\nevents 0\u2028\u202eé")
    out, _ = succeed("info", tmp_path / "a.h5")
    assert r"  source         mine\x1b[2J\x9b31m\r\nevents 0\u2028\u202eé" in out.splitlines()


def test_an_error_does_not_command_the_terminal(tmp_path, call):
    (tmp_path / "a\x1b[2J.h5").write_text("no HDF5")
    _, _, err = call("check", tmp_path / "a\x1b[2J.h5")
    assert r"a\x1b[2J.h5: is of no known format" in err


def test_check(encoded, call):
    code, out, _ = call("check", encoded)
    assert (code, out.startswith(f"{encoded}: sound; 48 samples, {check(encoded)['events']:,} events")) == (0, True)
    content = bytearray(encoded.read_bytes())
    content[len(content) // 2] ^= 1
    encoded.write_bytes(content)
    code, out, err = call("check", encoded)
    assert (code, out) == (1, "")
    assert re.fullmatch(rf"eventsnn check: {encoded}: .*\n", err)


# train


def test_train_leaves_a_model_and_its_log(trained, images):
    assert {path.name for path in trained.iterdir()} == RUN_FILES
    assert list(trained.parent.iterdir()) == [trained]
    log = json.loads((trained / "log.json").read_text())
    assert log["command"] == "train"
    assert log["arguments"]["epochs"] == [2, 1]
    assert (log["seed"], log["backend"], log["model"]) == (3, "cpu", "digits")
    assert log["versions"]["eventsnn"] == eventsnn.__version__
    assert log["data"]["samples"] == 48
    assert log["data"]["provenance"]["source_sha256"] == load_images(images, "train").sha256
    assert [[epoch["presented"] for epoch in step["epochs"]] for step in log["steps"]] == [[48, 48], [48]]
    assert log["validation"]["samples"] == 0
    assert log["seconds"]["total"] > log["seconds"]["train"] > 0


def test_train_is_the_models_training(trained, images):
    model, source = digits().with_epochs([2, 1]), load_images(images, "train")
    expected = model.train(model.encoder.encode(source.pixels, source.labels), seed=3)
    found = Trained.load(trained)
    for layer, weights in expected.network.weights.items():
        assert (found.network.weights[layer] == weights).all()
    assert (found.readout.coefficients == expected.readout.coefficients).all()


def test_train_takes_an_event_file_and_hashes_it(trained, encoded, tmp_path, succeed):
    run = tmp_path / "run"
    succeed("train", "digits", "--data", encoded, "-o", run, "--epochs", "2,1", "--seed", "3")
    found, expected = Trained.load(run).network, Trained.load(trained).network
    assert all((found.weights[layer] == weights).all() for layer, weights in expected.weights.items())
    digest = hashlib.sha256(encoded.read_bytes()).hexdigest()
    assert json.loads((run / "log.json").read_text())["data"]["sha256"] == digest


def test_a_model_takes_images_of_the_size_it_has_learnt_from(images, tmp_path, succeed):
    succeed("encode", images, "-o", tmp_path / "a.h5", "--encoder", "digits", "--size", "20x22")
    out, _ = succeed("train", "digits", "--data", tmp_path / "a.h5", "-o", tmp_path / "run", "--epochs", "1,1")
    assert "images of 20x22 pixels, not 16x16 as published" in out
    result = json.loads(succeed("evaluate", tmp_path / "run", "--data", images, "--json")[0].splitlines()[-1])
    assert result["data"]["shape"][1:] == [20, 22]
    source = load_images(images, "test", size=(20, 22))
    assert result["accuracy"] == np.mean(Trained.load(tmp_path / "run").predict(source.pixels) == source.labels)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (None, r"images of 16x16 pixels expect the grid \(2, 16, 16\), found \(2, 20, 20\)"),
        ({"image_size": [16, 20]}, r"images of 16x20 pixels expect the grid \(2, 16, 20\)"),
        ({"image_size": "16x16"}, "image_size expects a size that the encoder takes, found '16x16'"),
        ({"image_size": [20, -20]}, r"image_size expects a size that the encoder takes, found \[20, -20\]"),
    ],
)
def test_a_file_with_a_wrong_image_size_is_refused(extra, message, tmp_path, call):
    encoder = digits().encoder
    pixels, labels = bars(4, 20, seed=0)
    write(tmp_path / "a.h5", encoder.encode(pixels, labels), encoder=encoder, extra=extra)
    code, _, err = call("train", "digits", "--data", tmp_path / "a.h5", "-o", tmp_path / "run")
    assert code == 1
    assert re.fullmatch(rf"eventsnn train: .*/a.h5: {message}.*\n", err)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.h5"]


def test_other_seed_and_backend(trained, images, tmp_path, succeed):
    run, small = tmp_path / "run", tmp_path / "small"
    small.mkdir()
    write_idx(small, "train", *bars(6, 16, seed=0))
    for seed, backend in ((3, "cpu"), (3, "reference"), (4, "cpu")):
        out = run.with_name(f"{seed}-{backend}")
        options = ("--epochs", "1,1", "--seed", seed, "--backend", backend)
        succeed("train", "digits", "--data", small, "-o", out, *options)
        assert json.loads((out / "log.json").read_text())["backend"] == backend
    first, reference, other = (Trained.load(tmp_path / n).network.weights[2] for n in ("3-cpu", "3-reference", "4-cpu"))
    assert (first == reference).all()
    assert (first != other).any()


def test_a_reward_modulated_layer_is_chosen_on_held_out_training_images(tmp_path, succeed):
    write_idx(tmp_path, "train", *bars(36, 28, seed=0))
    write_idx(tmp_path, "t10k", *bars(4, 28, seed=1))
    out, _ = succeed("train", "mozafari2019_mnist", "--data", tmp_path, "-o", tmp_path / "run", "--epochs", "1,1,3")
    log = json.loads((tmp_path / "run" / "log.json").read_text())
    # of 18 images of a class, round(18 / 12) are held out
    assert log["validation"]["samples"] == 4
    assert {epoch["presented"] for step in log["steps"] for epoch in step["epochs"]} == {32}
    accuracies = log["steps"][-1]["validation"]
    assert len(accuracies) == 3
    assert log["validation"]["accuracy"] == max(accuracies)
    assert "trains on 32; 4 are held out and choose the epoch" in out
    assert f"kept epoch {accuracies.index(max(accuracies)) + 1}, with {max(accuracies):.2%}" in out


def test_validation_can_be_asked_for_and_left_out(images, tmp_path, succeed):
    common = ("train", "digits", "--data", images, "--epochs", "1,1", "-o")
    succeed(*common, tmp_path / "some", "--validation", "0.25")
    log = json.loads((tmp_path / "some" / "log.json").read_text())
    assert log["validation"]["samples"] == 12
    assert log["steps"][0]["epochs"][0]["presented"] == 36
    last = load_images(images, "train")[36:]
    decided = Trained.load(tmp_path / "some").predict(last.pixels)
    assert log["validation"]["accuracy"] == np.mean(decided == last.labels)
    succeed(*common, tmp_path / "none", "--validation", "0")
    assert json.loads((tmp_path / "none" / "log.json").read_text())["validation"]["samples"] == 0


def test_held_out_are_the_last_of_each_class(tmp_path):
    events = digits().encoder.encode(bars(10, 16, seed=0)[0], np.array([0, 1, 1, 0, 2, 2, 1, 1, 0, 2]))
    write(tmp_path / "a.h5", events)
    with EventDataset(tmp_path / "a.h5") as dataset:
        training, held_out = hold_out(dataset, 0.5)
        # of the zeros 0, 3 and 8 the last two (1.5 rounds to the even number), of the ones and twos alike
        assert held_out.indices.tolist() == [3, 5, 6, 7, 8, 9]
        assert training.indices.tolist() == [0, 1, 2, 4]
        for part in (training, held_out):
            expected = events[part.indices]
            assert_same(part.load(), expected)
            assert_same(eventsnn.concatenate(list(part.batches(3))), expected)
            assert (part.labels == expected.labels).all()
            assert (len(part), part.n_events) == (len(expected), expected.n_events)
            assert (part.shape, part.unit, part.duration) == (expected.shape, expected.unit, expected.duration)


def test_force_replaces_a_run_and_nothing_else(trained, images, tmp_path, succeed, call):
    run = tmp_path / "run"
    arguments = ("train", "digits", "--data", images, "-o", run, "--epochs", "1,1")
    succeed(*arguments)
    (run / "notes.txt").write_text("mine")
    before = files(tmp_path)
    code, _, err = call(*arguments)
    assert (code, err) == (1, f"eventsnn train: {run}: exists and is not empty; --force replaces an earlier run\n")
    assert files(tmp_path) == before
    succeed(*arguments, "--seed", "1", "--force")
    assert {path.name for path in run.iterdir()} == RUN_FILES | {"notes.txt"}
    assert json.loads((run / "log.json").read_text())["seed"] == 1
    assert Trained.load(run).network.seed == 1
    (run / "log.json").unlink()
    code, _, err = call(*arguments, "--force")
    assert code == 1
    assert "only what 'eventsnn train' made is replaced" in err


# evaluate


def test_evaluate(trained, images, succeed):
    out, err = succeed("evaluate", trained, "--data", images, "--json")
    found = json.loads(out)
    test = load_images(images, "test")
    assert found["accuracy"] == np.mean(Trained.load(trained).predict(test.pixels) == test.labels)
    assert found["samples"] == 20
    assert not found["trained_on_these"]
    assert "synaptic operations" in err
    people, _ = succeed("evaluate", trained, "--data", images)
    assert f"20 samples, accuracy {found['accuracy']:.2%}" in people


def test_evaluate_and_features_take_a_backend(trained, encoded, tmp_path, succeed, monkeypatch):
    used, load, few = [], Trained.load, tmp_path / "few.h5"
    with EventDataset(encoded) as data:
        write(few, data[:3], encoder=digits().encoder.to_dict())  # the reference takes its time

    def noted(run, backend):
        used.append(backend)
        return load(run, backend)

    monkeypatch.setattr(Trained, "load", noted)
    found = []
    for backend in ("reference", "cpu"):
        monkeypatch.setenv("EVENTSNN_BACKEND", "no such backend")  # which is then of no account
        out, _ = succeed("evaluate", trained, "--data", few, "--backend", backend, "--json")
        succeed("features", trained, "--data", few, "-o", tmp_path / "f.h5", "--backend", backend)
        matrix = eventsnn.read_features(tmp_path / "f.h5").features.toarray()
        found.append((json.loads(out)["accuracy"], matrix.tolist()))
    assert used == ["reference", "reference", "cpu", "cpu"]
    assert found[0] == found[1]


def test_evaluate_says_when_the_samples_are_known(trained, encoded, succeed):
    out, _ = succeed("evaluate", trained, "--data", encoded, "--json")
    assert json.loads(out)["trained_on_these"]


# Errors


def spoiled_by(name):
    """Return what spoils the arguments of a command in a way of that name: (command, message)."""
    return {
        "no data": (["train", "digits", "--data", "absent", "-o", "run"], "absent: no such file or folder"),
        "no images": (
            ["train", "digits", "--data", "empty", "-o", "run"],
            "empty: expected folders of images (.bmp, ",
        ),
        "not an event file": (["train", "digits", "--data", "text", "-o", "run"], "expected an HDF5 file"),
        "other encoder": (
            ["train", "kheradpisheh2018_mnist", "--data", "train.h5", "-o", "run"],
            "made by the encoder digits, the model expects kheradpisheh2018_mnist",
        ),
        "no encoder": (["train", "digits", "--data", "plain.h5", "-o", "run"], "does not say which encoder made it"),
        "foreign encoder": (["train", "digits", "--data", "odd.h5", "-o", "run"], "an encoder that is not known here"),
        "no labels": (["train", "digits", "--data", "unlabelled.h5", "-o", "run"], "data expects samples with labels"),
        "none to hold out": (
            ["train", "digits", "--data", "train.h5", "-o", "run", "--validation", "0.01"],
            "validation expects a part of the 48 samples",
        ),
        "run is a file": (["train", "digits", "--data", "train.h5", "-o", "text"], "text: expected a folder"),
        "run in no folder": (["train", "digits", "--data", "train.h5", "-o", "a/run"], "a is none"),
        "no run": (["evaluate", "empty", "--data", "train.h5"], "not a trained model"),
        "evaluate other encoder": (["evaluate", "trained", "--data", "other.h5"], "the model expects digits"),
        "evaluate no data": (["evaluate", "trained", "--data", "absent"], "absent: no such file or folder"),
        "encode nothing": (["encode", "absent", "-o", "new.h5"], "absent: expected a folder"),
        "encode into no folder": (["encode", "images", "-o", "a/new.h5"], "expects a name in an existing folder"),
        "info of nothing": (["info", "absent.h5"], "no such file"),
        "check of text": (["check", "text"], "is of no known format; it starts with b'not HDF5'"),
        "demo elsewhere": (["demo", "--out", "images"], "only what 'eventsnn demo' made is replaced"),
    }[name]


@pytest.fixture(scope="module")
def workplace(images, trained, tmp_path_factory):
    """Return a folder with what the error tests need."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "empty").mkdir()
    (folder / "text").write_text("not HDF5")
    (folder / "images").symlink_to(images)
    (folder / "trained").symlink_to(trained)
    source, encoder = load_images(images, "train"), digits().encoder
    events = encoder.encode(source.pixels, source.labels)
    write(folder / "train.h5", events, encoder=encoder.to_dict())
    write(folder / "plain.h5", events)
    np.savez(folder / "whole.npz", images=source.pixels, labels=source.labels)
    save_png(folder / "classes" / "cat" / "0.png", 0)
    write(folder / "odd.h5", events, encoder={"type": "Retina"})
    write(folder / "other.h5", events, encoder=MODELS["mozafari2019_mnist"]().encoder.to_dict())
    write(folder / "unlabelled.h5", encoder.encode(source.pixels), encoder=encoder.to_dict())
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "no data",
        "no images",
        "not an event file",
        "other encoder",
        "no encoder",
        "foreign encoder",
        "no labels",
        "none to hold out",
        "run is a file",
        "run in no folder",
        "no run",
        "evaluate other encoder",
        "evaluate no data",
        "encode nothing",
        "encode into no folder",
        "info of nothing",
        "check of text",
        "demo elsewhere",
    ],
)
def test_an_error_is_one_line_and_leaves_nothing(name, workplace, call, monkeypatch):
    monkeypatch.chdir(workplace)
    arguments, message = spoiled_by(name)
    before = files(workplace)
    code, _, err = call(*arguments)
    last = err.splitlines()[-1]
    assert code == 1
    assert re.fullmatch(rf"eventsnn {arguments[0]}: .*{re.escape(message)}.*", last)
    # other lines are those of phases that ended before
    assert all(re.fullmatch(r"  \w.* s", line) for line in err.splitlines()[:-1])
    assert files(workplace) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "No such command 'trian'"),
        (["train", "digits", "--data", "train.h5"], "Missing option '--out'"),
        (["train", "none", "--data", "train.h5", "-o", "run"], "MODEL expects one of mozafari2019_mnist, "),
        (
            ["train", "mozafari2018", "--data", "train.h5", "-o", "run"],
            "got 'mozafari2018'; the nearest is 'mozafari2018_eth80'",
        ),
        (["train", "digits", "--data", "train.h5", "-o", "run", "--epochs", "3"], "epochs expects 2 positive numbers"),
        (["train", "digits", "--data", "train.h5", "-o", "run", "--epochs", "1,x"], "--epochs '1,x'"),
        (["train", "digits", "--data", "train.h5", "-o", "run", "--backend", "none"], "one of cpu, reference"),
        (["train", "digits", "--data", "train.h5", "-o", "run", "--seed", "-1"], "--seed"),
        (["train", "digits", "--data", "train.h5", "-o", "run", "--validation", "1"], "--validation"),
        (["encode", "images", "-o", "new.h5", "--size", "28"], "--size expects HxW, as 28x28, got '28'"),
        (["encode", "images", "-o", "new.h5", "--split", "half"], "--split expects one of train, test, all"),
        (["encode", "images", "-o", "new.h5", "--encoder", "none"], "--encoder expects one of "),
        (["encode", "whole.npz", "-o", "new.h5", "--split", "test"], "--split test expects a source with parts"),
        (["encode", "whole.npz", "-o", "new.h5", "--split", "train"], "found none in whole.npz"),
        (["encode", "classes", "-o", "new.h5", "--split", "test"], "found none in classes"),
        (["features", "trained", "--data", "train.h5", "-o", "f.h5", "--split", "test"], "found none in train.h5"),
        (["features", "trained", "--data", "whole.npz", "-o", "f.h5", "--split", "test"], "found none in whole.npz"),
    ],
)
def test_wrong_usage(arguments, message, workplace, call, monkeypatch):
    monkeypatch.chdir(workplace)
    before = files(workplace)
    code, out, err = call(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert "--help" in err
    assert files(workplace) == before


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (MemoryError("Unable to allocate 9 GiB"), 1, "out of memory: Unable to allocate 9 GiB"),
        (OSError(errno.ENOSPC, "No space left on device", "network.h5"), 1, "network.h5: No space left on device"),
        (ValueError("two\n  lines"), 1, "two lines"),
        (ZeroDivisionError("a bug"), 1, "ZeroDivisionError: a bug (--debug shows where)"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_whatever_happens_in_training(error, code, message, workplace, call, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.chdir(workplace)
    monkeypatch.setattr(Model, "train", fail)
    before = files(workplace)
    found, _, err = call("train", "digits", "--data", "images", "-o", "run")
    assert (found, err.splitlines()[-1]) == (code, f"eventsnn train: {message}")
    assert "Traceback" not in err
    assert files(workplace) == before


def test_a_checkpoint_that_is_in_the_way(images, tmp_path, call):
    run, kept = tmp_path / "run", tmp_path / "run.checkpoint" / "step-1.h5"
    kept.parent.mkdir()
    kept.write_bytes(b"half of a file")
    before = files(tmp_path)
    arguments = ("train", "digits", "--data", images, "-o", run, "--epochs", "1,1")
    for options, message in (
        ([], f"{kept.parent}: a training of {run} has not ended; --resume continues it, --force begins anew"),
        (["--resume"], f"{kept}: not a file that eventsnn can read"),
    ):
        code, _, err = call(*arguments, *options)
        assert (code, message in err.splitlines()[-1]) == (1, True)
        assert files(tmp_path) == before
    code, _, err = call(*arguments, "--force")
    assert code == 0, err
    assert list(tmp_path.iterdir()) == [run]


def test_a_full_disk_while_training(images, tmp_path, call, monkeypatch):
    kept, sync = tmp_path / "run.checkpoint" / "step-1.h5", os.fsync

    def full(descriptor):
        if kept.exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    arguments = ("train", "digits", "--data", images, "-o", tmp_path / "run", "--epochs", "2,1", "--seed", "3")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        code, out, err = call(*arguments, "--checkpoint-every", "0")
    assert (code, err.splitlines()[-1]) == (1, f"eventsnn train: {kept}: No space left on device")
    assert f"{kept.parent} holds how far training has come: --resume continues it" in out
    assert set(tmp_path.rglob("*")) == {kept.parent, kept, kept.with_name("training.json")}
    assert call(*arguments, "--resume")[0] == 0
    assert list(tmp_path.iterdir()) == [tmp_path / "run"]


@pytest.mark.parametrize("arguments", [["--debug", "info", "absent.h5"], ["info", "absent.h5", "--debug"]])
def test_debug_shows_the_traceback(arguments, call):
    code, _, err = call(*arguments)
    assert code == 1
    assert err.startswith("Traceback (most recent call last):\n")
    assert re.search(r"\neventsnn info: .*absent.h5: no such file\n$", err)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_training_and_leaves_only_what_resumes_it(number, code, workplace):
    before = files(workplace)
    arguments = ("train", "digits", "--data", "images", "-o", "run", "--epochs", "99999,1")
    process = shell(*arguments, cwd=workplace)
    kept = workplace / "run.checkpoint"
    try:
        while not (kept / "step-1.h5").exists():  # written when the first layer begins to learn
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code
    assert "Traceback" not in err
    assert set(files(workplace)) - set(before) == {kept, kept / "step-1.h5", kept / "training.json"}
    shutil.rmtree(kept)


def test_a_closed_pipe_is_no_error(workplace):
    process = shell("info", workplace / "train.h5")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1


# Progress


def shown_lines(calls, monkeypatch, short):
    """Return phase and count of each line that calls of ``progress`` leave."""
    monkeypatch.setattr(console, "_SHORT", short)
    stream = io.StringIO()
    progress = console.Phases(Progress(console=Console(file=stream, width=80), disable=True))
    for call in calls:
        progress(*call)
    progress.end()
    progress.end()
    lines = stream.getvalue().splitlines()
    assert all(line.endswith(" s") for line in lines)
    return [(line[:30].strip(), line[30:39].strip()) for line in lines]


EPOCHS = [(done, 1000, f"layer 0, epoch {i}/2") for i in (1, 2) for done in (500, 1000)]


def test_phases_end_in_lines(monkeypatch):
    calls = [*EPOCHS, (1000, 1000, "layer 2, epoch 1/1"), (0, 1, "linear readout"), (300, 1000, "evaluate")]
    rest = [("layer 2, epoch 1/1", "1,000"), ("linear readout", ""), ("evaluate", "300")]
    assert shown_lines(calls, monkeypatch, short=-1) == [
        ("layer 0, epoch 1/2", "1,000"),
        ("layer 0, epoch 2/2", "1,000"),
        *rest,
    ]
    assert shown_lines(calls, monkeypatch, short=1e9) == [("layer 0, epochs 1-2/2", "2,000"), *rest]


def test_the_same_phase_can_come_again(monkeypatch):
    calls = [(7, 7, "encode"), (5, 5, "encode"), *EPOCHS, *EPOCHS]
    again = ("layer 0, epochs 1-2/2", "2,000")
    assert shown_lines(calls, monkeypatch, short=1e9) == [("encode", "7"), ("encode", "5"), again, again]


def test_a_terminal_sees_a_bar():
    stream = io.StringIO()
    with Progress(console=Console(file=stream, width=100, force_terminal=True), auto_refresh=False) as shown:
        progress = console.Phases(shown)
        progress(500, 1000, "layer 0, epoch 2/2")
        shown.refresh()
    assert re.search(r"layer 0, epoch 2/2 .*75%", stream.getvalue())


# demo


@pytest.fixture
def few_digits(monkeypatch):
    """Let the demo see 100 digits of each part, and learn for one epoch."""
    read = sources.read_images
    monkeypatch.setattr(demo, "read_images", lambda *arguments: read(*arguments)[:100])
    monkeypatch.setattr(demo, "digits", lambda: digits().with_epochs([1, 1]))


DEMO_FILES = RUN_FILES | {"train.h5", "test.h5", "raster.png"}
DEMO_FILES |= {"features-layer-0.png", "features-layer-2.png"}


def test_demo(few_digits, tmp_path, succeed, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "eventsnn-demo").mkdir()
    out, err = succeed("demo", "--json")
    folder = tmp_path / "eventsnn-demo"
    assert {path.name for path in folder.iterdir()} == DEMO_FILES
    assert list(tmp_path.iterdir()) == [folder]
    found, log = json.loads(out), json.loads((folder / "log.json").read_text())
    assert {Path(name).name for name in found["files"]} == DEMO_FILES
    test = load_images("digits", "test", size=(16, 16))[:100]
    assert found["accuracy"] == np.mean(Trained.load(folder).predict(test.pixels) == test.labels)
    assert log["result"]["accuracy"] == found["accuracy"]
    assert [layer["synaptic_operations"] > 0 for layer in found["layers"]] == [True, False, True, False]
    for name in ("raster.png", "features-layer-0.png", "features-layer-2.png"):
        with Image.open(folder / name) as picture:
            assert len(np.unique(np.asarray(picture.convert("L")))) > 2
    assert f"{found['accuracy']:.2%} of the held-out digits right" in err
    next_command = re.search(r"Next: eventsnn (.*)", err)[1].split()
    assert f"accuracy {found['accuracy']:.2%}" in succeed(*next_command)[0]


def test_demo_replaces_its_own_and_keeps_the_users(few_digits, tmp_path, succeed, monkeypatch):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "log.json").write_text('{"command": "demo"}')
    (folder / "features-layer-5.png").touch()  # of the earlier demo
    (folder / "notes.txt").write_text("mine")
    monkeypatch.setattr(demo, "_draw", lambda folder, *_: (folder / "raster.png").touch())
    succeed("demo", "--out", folder)
    expected = {name for name in DEMO_FILES if "features" not in name} | {"notes.txt"}
    assert {path.name for path in folder.iterdir()} == expected
    assert json.loads((folder / "log.json").read_text())["model"] == "digits"
