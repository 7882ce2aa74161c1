"""``convert``: files of any format to one event file, the same whoever does it and wherever it is cut."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import eventsnn
from eventsnn import parts
from eventsnn.convert import Options, convert, find_sources
from eventsnn.io import EventDataset, EventFileError, check, info
from eventsnn.io.chunk import EVENT_DTYPE
from eventsnn.io.extract import Extract
from eventsnn.io.own_recording import open_recording
from eventsnn.io.samples_writer import SamplesWriter

ROOT = Path(eventsnn.__file__).parents[1]
CANONICAL = ("t", "p", "y", "x")


def random_array(n, seed=0, span=30_000, start=0):
    rng = np.random.default_rng(seed)
    array = np.zeros(n, EVENT_DTYPE)
    array["t"] = start + np.sort(rng.integers(0, span, n))
    array["x"], array["y"], array["p"] = rng.integers(0, 20, n), rng.integers(0, 10, n), rng.integers(0, 2, n)
    return array


def write_dat(path, array, sensor=(20, 10)):
    """Write Prophesee's DAT, version 2."""
    words = np.zeros((len(array), 2), "<u4")
    words[:, 0] = array["t"]
    words[:, 1] = array["p"].astype("u4") << 28 | array["y"].astype("u4") << 14 | array["x"]
    head = f"% Version 2\n% Width {sensor[0]}\n% Height {sensor[1]}\n".encode()
    path.write_bytes(head + bytes([12, 8]) + words.tobytes())


def structured(events, t_offset=0):
    (whole,) = events.to_structured()
    array = np.zeros(len(whole), EVENT_DTYPE)
    for name in CANONICAL:
        array[name] = whole[name]
    array["t"] += t_offset
    return array


def in_order(array):
    return np.sort(array, order=CANONICAL)


@pytest.fixture
def folder(tmp_path):
    """Return a folder of seven recordings in two classes, one of which has no event."""
    for i in range(7):
        path = tmp_path / "in" / ("10" if i % 2 else "9") / f"{i}.dat"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_dat(path, random_array(40 * i, i, start=1000 * i))
    (tmp_path / "in" / "9" / ".hidden").write_text("no recording")
    return tmp_path / "in"


def test_one_recording_stays_one(tmp_path):
    array = random_array(5000, start=123_456)
    np.random.default_rng(1).shuffle(array[1000:1200])
    write_dat(tmp_path / "a.dat", array)
    account = convert([tmp_path / "a.dat"], tmp_path / "a.h5")
    assert (account.read, account.written, account.samples) == (5000, 5000, 1)
    assert account.backward > 100
    with EventDataset(tmp_path / "a.h5") as dataset:
        assert np.array_equal(structured(dataset.load(), dataset.t_offset), in_order(array))
        assert dataset.shape == (2, 10, 20)
        stored = dataset.provenance["extra"]["conversion"]
    assert (stored["read"], stored["backward"]) == (5000, account.backward)
    assert check(tmp_path / "a.h5")["events"] == 5000
    assert sorted(os.listdir(tmp_path)) == ["a.dat", "a.h5"]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 200),
    st.none() | st.tuples(st.integers(0, 19), st.integers(0, 9), st.integers(1, 20), st.integers(1, 10)),
    st.none() | st.tuples(st.integers(0, 30_000), st.none() | st.integers(1, 30_000)),
    st.none() | st.integers(0, 20_000),
    st.integers(1, 25),
)
def test_extracts_are_what_they_say(tmp_path, n, crop, time, origin, step):
    """What is taken is what a definition event by event takes, and all else is counted."""
    array = random_array(n, n, start=10_000)
    write_dat(tmp_path / "a.dat", array)
    crop = crop and (min(crop[0], crop[2] - 1), min(crop[1], crop[3] - 1), *crop[2:])
    time = time and (time[0], None if time[1] is None else time[0] + time[1])
    account = convert([tmp_path / "a.dat"], tmp_path / "a.h5", Options(Extract(crop, time, origin, step)))
    kept = []
    base = origin if origin is not None else int(array["t"][0]) if n else 0
    start, stop = time or (0, None)
    x0, y0, x1, y1 = crop or (0, 0, 20, 10)
    for t, x, y, p in array.tolist():
        soon_enough = stop is None or t < base + stop
        timely = (time is None and origin is None) or (base + start <= t and soon_enough)
        if timely and x0 <= x < x1 and y0 <= y < y1:
            kept.append((t, (x - x0) // step, (y - y0) // step, p))
    with EventDataset(tmp_path / "a.h5") as dataset:
        assert np.array_equal(structured(dataset.load(), dataset.t_offset), in_order(np.array(kept, EVENT_DTYPE)))
        assert dataset.shape == (2, -(-(y1 - y0) // step), -(-(x1 - x0) // step))
        if stop is not None:
            assert (dataset.duration, dataset.t_offset) == (stop - start, base + start)
    assert (account.read, account.written) == (n, len(kept))
    assert sum(account.left_out.values()) == n - len(kept)


@pytest.mark.parametrize(
    "fields",
    [{"crop": (5, 0, 5, 4)}, {"crop": (-1, 0, 5, 4)}, {"time": (5, 5)}, {"time": (-1, 5)}, {"downsample": 0}],
)
def test_extracts_that_cannot_be(fields):
    with pytest.raises(ValueError, match="expects"):
        Extract(**fields)


def test_event_files_are_recordings_too(tmp_path):
    """Cut from the event file that it became, a recording's samples are those cut from its first file."""
    array = random_array(5000, start=123_456)
    write_dat(tmp_path / "a.dat", array)
    convert([tmp_path / "a.dat"], tmp_path / "whole.h5")
    for name, options in (
        ("part", Options(Extract(crop=(2, 1, 14, 9), time=(3_000, 20_000), downsample=2))),
        ("window", Options(window=7_000)),
        ("turned", Options(orientation={"flip_x": True, "swap_polarity": True})),
    ):
        convert([tmp_path / "a.dat"], tmp_path / f"{name}.h5", options)
        account = convert([tmp_path / "whole.h5"], tmp_path / f"{name}_again.h5", options)
        assert account.read == len(array)
        with EventDataset(tmp_path / f"{name}.h5") as first, EventDataset(tmp_path / f"{name}_again.h5") as second:
            assert first.load().equals(second.load())
            assert (first.shape, first.duration, first.t_offset) == (second.shape, second.duration, second.t_offset)
    window, message = (
        tmp_path / "window.h5",
        "expected a recording, found samples of a data set: 5 samples of 2 channels",
    )
    with pytest.raises(ValueError, match=message):
        convert([window], tmp_path / "x.h5")


def test_encoded_samples_are_no_recording(tmp_path):
    path = tmp_path / "encoded.h5"
    eventsnn.io.write(path, eventsnn.Events.empty((2, 9, 12), 1, unit="us"), encoder={"type": "other"})
    with pytest.raises(ValueError, match="found samples of a data set: 1 samples of 2 channels, times in us, encoded"):
        open_recording(path)


def test_a_crop_beyond_the_sensor(tmp_path):
    write_dat(tmp_path / "a.dat", random_array(10))
    with pytest.raises(ValueError, match="crop expects a part of the sensor of 20 x 10"):
        convert([tmp_path / "a.dat"], tmp_path / "a.h5", Options(Extract(crop=(0, 0, 21, 5))))
    assert os.listdir(tmp_path) == ["a.dat"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 100), st.integers(1, 40_000))
@example(100, 1)
def test_windows(tmp_path, n, length):
    array = random_array(n, n, span=min(30_000, 150 * length), start=777)
    write_dat(tmp_path / "a.dat", array)
    account = convert([tmp_path / "a.dat"], tmp_path / "a.h5", Options(window=length))
    since = array["t"] - (array["t"][0] if n else 0)
    with EventDataset(tmp_path / "a.h5") as dataset:
        assert len(dataset) == account.samples == (since[-1] // length + 1 if n else 1)
        assert dataset.duration == length
        for i in range(len(dataset)):
            expected = array[since // length == i]
            expected["t"] = since[since // length == i] % length
            assert np.array_equal(structured(dataset[i]), in_order(expected))
    check(tmp_path / "a.h5")


def test_a_folder_of_classes(folder, tmp_path):
    account = convert([folder], tmp_path / "a.h5", jobs=1)
    assert (account.files, account.samples, account.written) == (7, 7, 40 * 21)
    with EventDataset(tmp_path / "a.h5") as dataset:
        assert dataset.labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
        assert dataset.provenance["extra"]["classes"] == ["9", "10"]
        for sample, i in enumerate([0, 2, 4, 6, 1, 3, 5]):
            array = random_array(40 * i, i, start=1000 * i)
            first = array["t"][0] if i else 0
            assert np.array_equal(structured(dataset[sample], first), in_order(array))
    assert check(tmp_path / "a.h5")["empty_samples"] == 1
    assert sorted(os.listdir(tmp_path)) == ["a.h5", "in"]


def test_clocks_are_kept_on_demand(folder, tmp_path):
    convert([folder], tmp_path / "a.h5", Options(Extract(origin=0, time=(0, 10**6))), jobs=1)
    with EventDataset(tmp_path / "a.h5") as dataset:
        assert dataset.duration == 10**6
        assert np.array_equal(structured(dataset[1]), in_order(random_array(80, 2, start=2000)))


def test_windows_of_several_files_are_groups(folder, tmp_path):
    convert([folder], tmp_path / "a.h5", Options(window=10_000), jobs=1)
    with EventDataset(tmp_path / "a.h5") as dataset:
        numbers, counts = np.unique(dataset.groups, return_counts=True)
        assert numbers.tolist() == list(range(7))
        assert counts.tolist() == [1, 3, 3, 3, 3, 3, 3]
        assert [int(dataset.labels[dataset.groups == i][0]) for i in range(7)] == [0, 0, 0, 0, 1, 1, 1]
    assert info(tmp_path / "a.h5")["groups"] == 7


def test_processes_change_nothing(folder, tmp_path, monkeypatch):
    convert([folder], tmp_path / "one.h5", jobs=1)
    monkeypatch.setattr(parts, "_FILES", 2)
    convert([folder], tmp_path / "two.h5", jobs=2)
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()


@pytest.mark.parametrize("skip", [False, True])
def test_broken_files(folder, tmp_path, skip, monkeypatch):
    monkeypatch.setattr(parts, "_FILES", 3)
    (folder / "9" / "5.dat").write_bytes(b"nothing that is known")
    (folder / "10" / "a.dat").write_bytes(b"\x89HDF\r\n\x1a\n damaged")
    if not skip:
        with pytest.raises(EventFileError, match=r"9/5\.dat: is of no known format.*--skip-broken") as caught:
            convert([folder], tmp_path / "a.h5", jobs=1)
        assert caught.value.path == folder / "9" / "5.dat"
        assert not (tmp_path / "a.h5").exists()
        return
    account = convert([folder], tmp_path / "a.h5", jobs=1, skip_broken=True)
    assert [Path(path).name for path, _ in account.broken] == ["5.dat", "a.dat"]
    assert (account.files, account.samples) == (7, 7)
    with EventDataset(tmp_path / "a.h5") as dataset:
        assert dataset.labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
        assert dataset.provenance["extra"]["conversion"]["n_broken"] == 2


def test_all_files_broken(tmp_path):
    (tmp_path / "in").mkdir()
    for name in "ab":
        (tmp_path / "in" / name).write_bytes(b"nothing")
    with pytest.raises(EventFileError, match="all the others of 2 files are broken"):
        convert([tmp_path / "in"], tmp_path / "a.h5", jobs=1, skip_broken=True)


def test_a_cut_conversion_continues(folder, tmp_path, monkeypatch):
    """What is done is not done again, and the file is the same; it is not taken for another conversion."""
    monkeypatch.setattr(parts, "_FILES", 2)
    convert([folder], tmp_path / "whole.h5", jobs=1)
    out, write, calls = tmp_path / "a.h5", parts._write, []

    def interrupted(task, files):
        calls.append(task.first)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return write(task, files)

    monkeypatch.setattr(parts, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert([folder], out, jobs=1)
    assert not out.exists()
    with pytest.raises(ValueError, match="was cut; --resume continues it, --force begins anew"):
        convert([folder], out, jobs=1)
    with pytest.raises(ValueError, match="of another conversion than this one, with other options"):
        convert([folder], out, Options(window=100), jobs=1, resume=True)
    os.utime(folder / "9" / "2.dat", ns=(5, 5))
    with pytest.raises(ValueError, match=r"with other .*9/2\.dat; --force"):
        convert([folder], out, jobs=1, resume=True)
    convert([folder], out, jobs=1, force=True)
    assert calls == [0, 2, 4, 0, 2, 4, 6]
    assert out.read_bytes() == (tmp_path / "whole.h5").read_bytes()
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        convert([folder], out, jobs=1)
    convert([folder], out, jobs=1, resume=True)
    assert calls == [0, 2, 4, 4, 6]
    assert out.read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.h5", "in", "whole.h5"]


def test_sources_that_cannot_be(folder, tmp_path):
    with pytest.raises(ValueError, match="expect files or one folder"):
        find_sources([folder, folder])
    (folder / "loose.dat").write_bytes(b"")
    with pytest.raises(ValueError, match=r"found both \(loose\.dat\)"):
        find_sources([folder])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="found none"):
        find_sources([tmp_path / "empty"])


def test_samples_refuse_events_after_their_duration(tmp_path):
    array = random_array(50)
    chunk = eventsnn.io.Chunk(*(np.ascontiguousarray(array[name]) for name in ("t", "x", "y", "p")))
    with (
        pytest.raises(ValueError, match="expect times before 105"),
        SamplesWriter(tmp_path / "a.h5", 20, 10, duration=100) as writer,
    ):
        writer.add([chunk], start=5)
    assert os.listdir(tmp_path) == []


def command(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "eventsnn", "convert", *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder, *arguments):
    process = command(folder, *arguments)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def test_command(tmp_path):
    write_dat(tmp_path / "a.dat", random_array(1000, span=100_000))
    options = ("--time", "20ms,", "--crop", "4,2,16,10", "--downsample", 2, "--flip-y", "--json")
    code, out, err = run(tmp_path, "a.dat", "-o", "a.h5", *options)
    assert code == 0, err
    found = json.loads(out.splitlines()[-1])
    assert found["read"] == 1000
    assert found["written"] + sum(found["left_out"].values()) == 1000
    assert "events outside the crop" in err
    assert info(tmp_path / "a.h5")["shape"] == [2, 4, 6]
    assert info(tmp_path / "a.h5")["events"] == found["written"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("a.dat", "--time", "5"), 2, "--time expects START,STOP, as 10s,12.5s, got '5'"),
        (("a.dat", "--time", "5,6"), 2, "expects a time with its unit, as 1.5s, 20ms or 300us, got '5'"),
        (("a.dat", "--window", "1.5us"), 2, "--window expects whole microseconds"),
        (("a.dat", "--window", "0s"), 2, "--window expects more than 0us"),
        (("a.dat", "--crop", "1,2,3"), 2, "--crop expects X0,Y0,X1,Y1, as 0,0,640,480, got '1,2,3'"),
        (("a.dat", "--crop", "3,2,3,9"), 2, "crop expects x0,y0,x1,y1"),
        (("b.dat",), 1, "b.dat: no such file"),
        (("broken",), 1, "broken: is of no known format"),
    ],
)
def test_errors_are_one_line(tmp_path, call, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    write_dat(tmp_path / "a.dat", random_array(10))
    (tmp_path / "broken").write_bytes(b"nothing")
    found, _, err = call("convert", *arguments, "-o", "a.h5")
    assert found == code
    assert message in err
    assert len(err.splitlines()) == 1
    assert sorted(os.listdir(tmp_path)) == ["a.dat", "broken"]


@pytest.mark.skipif(sys.platform == "win32", reason="processes are not killed so on Windows")
def test_killed_and_continued(tmp_path):
    for i in range(800):
        path = tmp_path / "in" / str(i % 2) / f"{i}.dat"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_dat(path, random_array(30, i))
    process = command(tmp_path, "in", "-o", "a.h5", "--jobs", 2)
    kept = tmp_path / "a.h5.parts"
    deadline = time.monotonic() + 120
    while len(list(kept.glob("0*.json"))) < 1 and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "a.h5").exists()
    done = {path: path.stat().st_mtime_ns for path in kept.glob("0*.json")}
    assert done
    code, out, err = run(tmp_path, "in", "-o", "a.h5", "--jobs", 2, "--resume")
    assert code == 0, err
    assert "events written  24,000" in out
    convert([tmp_path / "in"], tmp_path / "b.h5", jobs=1)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert sorted(path for path in os.listdir(tmp_path) if "lock" not in path) == ["a.h5", "b.h5", "in"]
