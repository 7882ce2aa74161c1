"""Recordings in HDF5: nothing is lost but the order of simultaneous events; other programs read them."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import eventsnn
from eventsnn.io import Chunk, DatasetError, EventDataset, EventFileError, RecordingWriter, _chunks, check
from eventsnn.io._order import Sorter
from eventsnn.io.chunk import EVENT_DTYPE

CANONICAL = ("t", "p", "y", "x")
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def random_array(n=5000, span=40_000, seed=0, width=20, height=10):
    rng = np.random.default_rng(seed)
    array = np.zeros(n, EVENT_DTYPE)
    array["t"] = rng.integers(0, span, n)
    array["x"], array["y"], array["p"] = rng.integers(0, width, n), rng.integers(0, height, n), rng.integers(0, 2, n)
    return array


def chunk_of(array):
    return Chunk(*(np.ascontiguousarray(array[name]) for name in ("t", "x", "y", "p")))


def write(path, array, size=1000, **options):
    chunk = chunk_of(array)
    with RecordingWriter(path, 20, 10, **options) as writer:
        for start in range(0, len(array), size):
            writer.append(chunk[start : start + size])


def structured(events, t_offset=0):
    (whole,) = events.to_structured()
    array = np.zeros(len(whole), EVENT_DTYPE)
    for name in CANONICAL:
        array[name] = whole[name]
    array["t"] += t_offset
    return array


arrays = st.lists(
    st.tuples(st.integers(-3000, 3000), st.integers(0, 19), st.integers(0, 9), st.integers(0, 1)), max_size=60
).map(lambda rows: np.array(rows, EVENT_DTYPE))


@quick
@given(arrays, st.integers(1, 70), st.integers(-(2**62), 2**62))
def test_round_trip_loses_the_order_of_simultaneous_events_only(tmp_path, array, size, clock):
    array["t"] += clock
    path = tmp_path / "a.h5"
    write(path, array, size)
    check(path)
    with EventDataset(path) as dataset:
        back = structured(dataset.load(), dataset.t_offset)
        assert dataset.shape == (2, 10, 20)
        assert dataset.duration == (np.ptp(array["t"]) + 1 if len(array) else 1)
    assert np.array_equal(back, np.sort(array, order=CANONICAL))
    with h5py.File(path) as file:
        t = file["events/t"][:]
        milliseconds = np.arange(len(file["ms_to_idx"])) * 1000
        assert np.array_equal(file["ms_to_idx"][:], np.searchsorted(t, milliseconds))
        assert milliseconds[-1] > (t[-1] if len(t) else 0)


@quick
@given(arrays, st.integers(0, 7000), st.integers(1, 7000))
def test_between_is_a_half_open_window(tmp_path, array, start, length):
    path = tmp_path / "a.h5"
    write(path, array, start=-3000, stop=3001)
    with EventDataset(path) as dataset:
        window = dataset.between(start, start + length)
    t = array["t"] + 3000
    inside = array[(t >= start) & (t < start + length)]
    assert window.duration == length
    assert np.array_equal(structured(window, start - 3000), np.sort(inside, order=CANONICAL))


def test_between_of_a_sample_without_index(tmp_path):
    latency = np.random.default_rng(0).integers(-1, 15, (30, 2, 9, 11))
    events = eventsnn.Events.from_latency(latency, duration=15, labels=np.arange(30))
    eventsnn.io.write(tmp_path / "a.h5", events)
    with EventDataset(tmp_path / "a.h5") as dataset:
        window = dataset.between(4, 9, 7)
    expected = events[7].where((events[7].time >= 4) & (events[7].time < 9))
    assert np.array_equal(window.time + 4, expected.time)
    assert np.array_equal(window.x, expected.x)
    assert (window.duration, window.labels.tolist()) == (5, [7])


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (5, 5), (6, 5), (0, 1 << 63)])
def test_between_refuses(tmp_path, start, stop):
    write(tmp_path / "a.h5", random_array(10))
    with EventDataset(tmp_path / "a.h5") as dataset, pytest.raises(ValueError, match="0 <= start < stop"):
        dataset.between(start, stop)


def test_pieces_are_the_whole(tmp_path):
    write(tmp_path / "a.h5", random_array())
    with EventDataset(tmp_path / "a.h5") as dataset:
        parts = list(dataset.pieces(size=700))
        assert [part.n_events for part in parts] == [700] * 7 + [100]
        assert np.array_equal(np.concatenate([part.time for part in parts]), dataset.load().time)


def test_memory_holds_no_more_than_said():
    """A stream in order is given out as soon as more than ``hold`` events wait."""
    sorter, array = Sorter(100), np.sort(random_array(1000, 10**6), order="t")
    for start in range(0, 1000, 10):
        list(sorter.push(chunk_of(array[start : start + 10])))
        assert sorter._n_held <= 110


def test_too_late_says_how_far(tmp_path):
    array = np.sort(random_array(5000, 10**6), order="t")
    array["t"][4000] = 7
    with pytest.raises(EventFileError, match=r"7 us comes after one at \d+ us and more than 1,\d\d\d others.*1,000 ev"):
        write(tmp_path / "a.h5", array, 100, hold=1000)
    assert os.listdir(tmp_path) == []
    write(tmp_path / "a.h5", array, 100, hold=4000)


def test_a_broken_time_is_no_index_of_terabytes(tmp_path):
    array = random_array(10)
    array["t"][3] = 1 << 60
    with pytest.raises(EventFileError, match="times span 1,152,921,504,607 s, expected at most 134,218"):
        write(tmp_path / "a.h5", array)


@pytest.mark.parametrize(("field", "value"), [("x", 20), ("y", 10), ("p", 2)])
def test_events_outside_are_refused(tmp_path, field, value):
    array = random_array(10)
    array[field][3] = value
    with pytest.raises(ValueError, match=f"expect {field} below {value}, got {value}"):
        write(tmp_path / "a.h5", array)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("times", [(10, None), (None, 100), (0, 100)])
def test_events_before_the_start_or_after_the_stop_are_refused(tmp_path, times):
    start, stop = times
    array = random_array(100, 200)
    array["t"][:2] = 0, 199
    with pytest.raises(ValueError, match="expect times from"):
        write(tmp_path / "a.h5", array, start=start, stop=stop)


@pytest.mark.parametrize("compression", ["gzip", "none", "lzf", "blosc2"])
def test_compressions(tmp_path, compression):
    if compression == "blosc2":
        pytest.importorskip("hdf5plugin", reason="the extra 'fast' is not installed")
    array = random_array(200_000)
    write(tmp_path / "a.h5", array, 50_000, compression=compression)
    with EventDataset(tmp_path / "a.h5") as dataset:
        assert np.array_equal(structured(dataset.load(), dataset.t_offset), np.sort(array, order=CANONICAL))
    content = bytearray((tmp_path / "a.h5").read_bytes())
    with h5py.File(tmp_path / "a.h5") as file:
        where = file["events/x"].id.get_chunk_info(1)
    content[where.byte_offset + where.size // 2] ^= 4
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(DatasetError, match=r"a\.h5"):
        check(tmp_path / "a.h5")


def test_blosc2_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(ValueError, match=r"hdf5plugin: pip install 'eventsnn\[fast\]'"):
        RecordingWriter(tmp_path / "a.h5", 20, 10, compression="blosc2")


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i8"])
def test_chunks_are_as_hdf5_writes_them(tmp_path, dtype, compress):
    options = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if compress else {}
    rng = np.random.default_rng(0)
    values = [np.zeros(999, dtype), rng.integers(0, 3, 999).astype(dtype), np.full(999, -1).astype(dtype)]
    values.append(rng.integers(0, 256, 999 * 8).astype("u1").view(dtype)[:999])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i, column in enumerate(values):
            theirs = file.create_dataset(str(i), data=column, chunks=(999,), fletcher32=True, **options)
            mask, content = _chunks.encode(column, 999, compress=compress)
            if compress:  # by another strategy, which may win or lose a little, and with a table of codes
                assert len(content) <= 1.02 * len(theirs.id.read_direct_chunk((0,))[1]) + 160
            else:
                assert (mask, content) == theirs.id.read_direct_chunk((0,))
            ours = file.create_dataset(f"ours{i}", (999,), dtype, chunks=(999,), fletcher32=True, **options)
            ours.id.write_direct_chunk((0,), content, mask)
    with h5py.File(tmp_path / "a.h5") as file:
        for i, column in enumerate(values):
            assert np.array_equal(file[f"ours{i}"][:], column)


def test_a_wrong_index_is_found(tmp_path):
    path = tmp_path / "a.h5"
    write(path, random_array())
    with h5py.File(path, "r+") as file:
        file["ms_to_idx"][20] -= 3
    with pytest.raises(DatasetError, match=r"ms_to_idx expects .* for millisecond 20"):
        check(path)
    with EventDataset(path) as dataset, pytest.raises(DatasetError, match="ms_to_idx is wrong"):
        dataset.between(19_000, 20_000)
    with h5py.File(path, "r+") as file:
        file["ms_to_idx"][20] = 1 << 40
    with EventDataset(path) as dataset, pytest.raises(DatasetError, match="ms_to_idx has"):
        dataset.between(19_000, 20_000)


def test_clocks_that_disagree(tmp_path):
    path = tmp_path / "a.h5"
    write(path, random_array())
    with h5py.File(path, "r+") as file:
        file["t_offset"][()] = 5
    with pytest.raises(DatasetError, match="t_offset is 5, but the attribute"):
        EventDataset(path)


def window_by_dsec(path, start, stop):
    """Read a window as programs for DSEC do: by the index, then by search, in plain h5py; times with their offset."""
    with h5py.File(path) as file:
        offset = int(file["t_offset"][()])
        start, stop = start - offset, stop - offset
        index = file["ms_to_idx"]
        low, high = int(index[start // 1000]), int(index[-(-stop // 1000)])
        t = file["events/t"][low:high]
        inside = slice(*(low + np.searchsorted(t, [start, stop])))
        columns = {name: file["events"][name][inside] for name in ("t", "x", "y", "p")}
        assert (file.attrs["width"], file.attrs["height"]) == (20, 10)
    return columns | {"t": columns["t"] + offset}


def test_dsec_style_by_h5py(tmp_path):
    array = random_array(span=100_000)
    array["t"] += 10**15
    write(tmp_path / "a.h5", array)
    first = int(array["t"].min())
    found = window_by_dsec(tmp_path / "a.h5", first + 10_500, first + 31_250)
    expected = np.sort(array[(array["t"] >= first + 10_500) & (array["t"] < first + 31_250)], order=CANONICAL)
    for name in CANONICAL:
        assert np.array_equal(found[name], expected[name])


def test_dsec_style_by_another_program(tmp_path):
    """evutils reads DSEC's layout; it is GPL, so it is no dependency, and used where somebody has installed it."""
    reading = pytest.importorskip("evutils.io", reason="evutils is not installed")
    array = random_array()
    array["t"] += 10**9
    write(tmp_path / "a.h5", array)
    found, expected = reading.EventReader(tmp_path / "a.h5").read_all(), np.sort(array, order=CANONICAL)
    for name in CANONICAL:
        assert np.array_equal(found[name].astype(np.int64), expected[name].astype(np.int64))


@pytest.mark.skipif(sys.platform == "win32", reason="files can be limited in size only on POSIX systems")
@pytest.mark.parametrize("limit", [0, 3000, 30_000, 60_000])
def test_a_full_disk_is_one_error(tmp_path, limit):
    program = f"""
import os, resource, signal, sys
import test_recording_writer as t
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
array = t.np.sort(t.random_array(100_000), order="t")
t.write("warm.h5", array[:10])
os.remove("warm.h5")
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    t.write("a.h5", array, hold=5000)
except OSError as error:
    print(error.strerror, error.filename, os.listdir())
"""
    paths = [str(Path(eventsnn.__file__).parents[1]), str(Path(__file__).parent)]
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"File too large {os.path.realpath(tmp_path / 'a.h5')} []\n"
