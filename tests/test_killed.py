"""Trainings that are killed while they learn and write, again and again, end with the bits of one that was not."""

import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

import eventsnn
from eventsnn.targets import hidden, sweep

ROOT = Path(eventsnn.__file__).parents[1]
EPOCHS = {3: "40,150", 30: "300,900"}  # more than are learnt between so many kills, with a checkpoint after each


def write_images(folder):
    """Write 48 images of 16x16 pixels and two classes, as idx files."""
    rng = np.random.default_rng(0)
    labels = (np.arange(48) % 2).astype(np.uint8)
    images = rng.integers(0, 30, (48, 16, 16)).astype(np.uint8)
    for i, at in enumerate(rng.integers(3, 12, 48)):
        images[i][(slice(2, -2), slice(at, at + 2)) if labels[i] else (slice(at, at + 2), slice(2, -2))] = 220
    folder.mkdir()
    for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
        header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        (folder / f"train-{kind}-ubyte").write_bytes(header + array.tobytes())


def begin(folder, run, kills, *options):
    arguments = ("train", "digits", "--data", "images", "-o", run, "--epochs", EPOCHS[kills], *options)
    return subprocess.Popen(
        [sys.executable, "-m", "eventsnn", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def written(checkpoints):
    """Return when something in the folder was last made or renamed."""
    return checkpoints.stat().st_mtime_ns if checkpoints.is_dir() else 0


def kill(process, checkpoints, seconds):
    """Kill a training some seconds after its first checkpoint, for None in a write; return whether it was at work."""
    before = written(checkpoints)
    while written(checkpoints) == before and process.poll() is None:
        time.sleep(0.002)
    if seconds is None:
        while process.poll() is None and not any(name.endswith(".tmp") for name in os.listdir(checkpoints)):
            pass  # a write takes a millisecond
    else:
        time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def learnt(run):
    """Return all arrays of a run, and what its log says that does not depend on the clock."""
    arrays = {}
    for name in ("network.h5", "readout.h5"):
        with h5py.File(run / name) as file:
            file.visititems(lambda at, node: arrays.update({at: node[()]}) if isinstance(node, h5py.Dataset) else None)
    steps = json.loads((run / "log.json").read_text())["steps"]
    epochs = [[{k: v for k, v in e.items() if "second" not in k} for e in step["epochs"]] for step in steps]
    return arrays, [epochs, [step["curve"] for step in steps]]


DIES = """
import os, signal, sys
from eventsnn.__main__ import main
from eventsnn.io._output import _Disk

write, left = _Disk.write, [9]

def dies(disk, content):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return write(disk, content)

_Disk.write = dies
sys.argv[0] = "eventsnn"
main()
"""


@pytest.mark.parametrize(
    "command",
    [
        ("train", "digits", "--data", "images", "--epochs", "1,1", "-o", "made"),
        ("encode", "images", "--encoder", "digits", "-o", "made"),
    ],
)
def test_what_was_encoded_before_a_kill_is_removed(command, tmp_path):
    write_images(tmp_path / "images")
    for program in (["-c", DIES], ["-c", DIES], ["-m", "eventsnn"]):
        process = subprocess.Popen(
            [sys.executable, *program, *command],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        errors = process.communicate(timeout=300)[1]
        found = sorted(path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock"))
        if program[0] == "-c":
            assert process.returncode == -signal.SIGKILL, errors
            assert [name.endswith(".tmp") for name in found] == [True, False]  # of the last one only
        else:
            assert process.returncode == 0, errors
            assert found == ["images", "made"]


def test_what_a_living_process_makes_is_left_alone(tmp_path):
    target = tmp_path / "a"
    with hidden(target) as file, hidden(target, folder=True) as folder:
        file.write_bytes(b"half")
        (folder / "b").write_bytes(b"half")
        with hidden(target):
            assert len(list(tmp_path.iterdir())) == 3
        sweep(target)
        assert (file.read_bytes(), (folder / "b").read_bytes()) == (b"half", b"half")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_a_training_killed_at_random_moments(kills, tmp_path):
    write_images(tmp_path / "images")
    end(begin(tmp_path, "whole", kills))
    draw, checkpoints = random.Random(kills), tmp_path / "cut.checkpoint"
    in_writes = 0
    for i in range(kills):
        process = begin(tmp_path, "cut", kills, "--resume", "--checkpoint-every", "0")
        assert kill(process, checkpoints, draw.uniform(0, 0.2) if i % 2 else None)
        in_writes += any(path.name.endswith(".tmp") for path in checkpoints.iterdir())
        assert not (tmp_path / "cut").exists()
    assert in_writes or kills < 10  # it is a matter of chance
    refused = begin(tmp_path, "cut", kills)
    assert "--resume continues it" in refused.communicate()[1]
    assert refused.returncode == 1
    end(begin(tmp_path, "cut", kills, "--resume"))
    found, expected = learnt(tmp_path / "cut"), learnt(tmp_path / "whole")
    assert found[1] == expected[1]
    assert set(found[0]) == set(expected[0])
    assert all(np.array_equal(found[0][name], array) for name, array in expected[0].items())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut", "images", "whole"]
    assert "Complete already" in end(begin(tmp_path, "cut", kills, "--resume"))
