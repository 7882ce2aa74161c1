"""Disks that are full: one error that names the file, nothing left behind, and a process that ends as it should."""

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from test_killed import write_images

import eventsnn
from eventsnn.events import Events
from eventsnn.io import EventDataset, EventWriter, writer
from eventsnn.io._output import _Disk

resource = pytest.importorskip("resource", reason="files can be limited in size only on POSIX systems")

ROOT = Path(eventsnn.__file__).parents[1]
LIMITS = 64


def random_events(n_samples=300):
    latency = np.random.default_rng(0).integers(-1, 15, (n_samples, 2, 9, 11))
    return Events.from_latency(latency, duration=15, labels=np.arange(n_samples) % 7)


def append_all(path, events, compression="gzip"):
    with EventWriter(path, events.shape, events.duration, compression=compression, chunk=512) as out:
        for start in range(0, len(events), 10):
            out.append(events[start : start + 10])


def meet_the_limits(folder, compression):
    """Write one file under many limits of its size, and end while there is one; run in a process of its own."""
    writer._FLUSH = writer._PIECE = 4096
    folder, events = Path(folder).resolve(), random_events()
    path = folder / "a.h5"
    append_all(path, events, compression)
    before, hard = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    limits = np.unique(np.linspace(0, len(before) - 1, LIMITS).astype(int)).tolist()
    early = 0
    for limit in [*limits, 0]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        with pytest.raises(OSError, match="File too large") as caught:
            append_all(path, events, compression)
        assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
        early += any(entry.name == "append" for entry in caught.traceback)
        del caught
        assert path.read_bytes() == before
        assert os.listdir(folder) == ["a.h5"]
        assert n_open() == 0
    assert 10 < early < len(limits)  # the others failed while the file was completed
    print("done", len(limits))


def n_open():
    """Return how many files and what is in them HDF5 has open in this process."""
    kinds = h5py.h5f.OBJ_FILE | h5py.h5f.OBJ_DATASET | h5py.h5f.OBJ_GROUP | h5py.h5f.OBJ_ATTR
    return h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, kinds)


def python(folder, *arguments, limit=None):
    """Run Python in a folder where no file may grow beyond a limit."""

    def begin():
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(Path(__file__).parent)))},
        capture_output=True,
        text=True,
        timeout=300,
        preexec_fn=begin,
    )


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_writing_fails_well_wherever_the_disk_is_full(compression, tmp_path):
    (tmp_path / "out").mkdir()
    work = f"import test_full_disk as t; t.meet_the_limits('out', {compression!r})"
    done = python(tmp_path, "-c", work)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout.split()[1]) >= 60


ENCODE = ("encode", "images", "-o", "e.h5")
TRAIN = ("train", "digits", "--data", "images", "--epochs", "1,1", "-o", "run")


@pytest.mark.parametrize(
    ("command", "limit"),
    [*((ENCODE, limit) for limit in (100, 1000, 20_000, 60_000)), *((TRAIN, limit) for limit in (100, 1000, 9000))],
)
def test_a_full_disk_is_one_line(command, limit, tmp_path):
    write_images(tmp_path / "images")
    done = python(tmp_path, "-m", "eventsnn", *command, limit=limit)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if not line.startswith("  ")]  # without those of the progress
    named = re.escape(str(tmp_path / command[-1]))
    assert len(lines) == 1
    assert re.fullmatch(rf"eventsnn {command[0]}: {named}[\w./]*: File too large", lines[0])
    assert os.listdir(tmp_path) == ["images"]


def test_a_full_file_system(tmp_path):
    """``/dev/full`` refuses every write with the error of a disk that has no space left."""
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full here")
    disk = _Disk(Path("/dev/full"))
    with h5py.File(disk, "w") as file:
        file["a"] = np.arange(1000)
    disk.close()
    assert disk.error.errno == errno.ENOSPC


def test_what_could_not_be_written_can_be_read_back(tmp_path):
    """HDF5 may read again what it wrote before and after the disk was full; in memory there is nothing but the rest."""
    path, rng, expected = tmp_path / "a", np.random.default_rng(1), bytearray(600)
    path.touch()
    disk = _Disk(path)
    for i in range(80):
        if i == 30:
            disk._file.close()
            disk._file = path.open("rb", buffering=0)
            disk._file.write = refuse
        start, length = rng.integers(0, 500), rng.integers(1, 100)
        content = rng.bytes(length)
        disk.seek(start)
        assert disk.write(content) == length
        expected[start : start + length] = content
        buffer = bytearray(600)
        disk.seek(0)
        count = disk.readinto(buffer)
        assert buffer == expected
        assert count == disk.seek(0, os.SEEK_END)
    assert disk.error.errno == errno.ENOSPC
    assert len(disk._late) == 50


def refuse(content):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_interrupted_while_hdf5_writes(tmp_path, monkeypatch):
    """Ctrl-C during any write: it comes out, HDF5 notices nothing, nothing stays, and the next file is as ever."""
    events, path, on_disk, elsewhere = random_events(60), tmp_path / "a.h5", _Disk.write, n_open()
    monkeypatch.setattr(writer, "_FLUSH", 2048)
    at = [0]

    def interrupted(disk, content):
        at[0] -= 1
        if not at[0]:
            os.kill(os.getpid(), signal.SIGINT)
        return on_disk(disk, content)

    monkeypatch.setattr(_Disk, "write", interrupted)
    append_all(path, events)
    writes, whole = -at[0], path.read_bytes()
    path.unlink()
    for i in range(1, writes + 1):
        at[0] = i
        with pytest.raises(KeyboardInterrupt):
            append_all(path, events)
        assert os.listdir(tmp_path) == []
        assert n_open() == elsewhere
    append_all(path, events)
    assert path.read_bytes() == whole
    assert EventDataset(path).load().equals(events)
