"""Prophesee's HDF5 and its codec: the golden file, chunks encoded by hand, and damage."""

import struct

import h5py
import numpy as np
import pytest
from ecf_files import ECF, EVENT_CD, encode, write_chunks
from hypothesis import given
from hypothesis import strategies as st

import eventsnn as es
from eventsnn.io import _hdf5_kernels as kernels

LENGTH = 300


def random_events(n, seed=0, spread=20):
    """Events in bursts, as cameras give them: runs of times, rows and neighbouring columns."""
    rng = np.random.default_rng(seed)
    t = 1000 + np.cumsum(np.where(rng.random(n) < 0.3, rng.integers(0, spread, n), 0))
    y = np.repeat(rng.integers(0, 720, n // 5 + 1), 5)[:n]
    x = np.minimum(rng.integers(0, 1280) + np.cumsum(rng.integers(0, 4, n)) % 400, 1279)
    p = np.repeat(rng.integers(0, 2, n // 9 + 1), 9)[:n]
    return t, x, y, p


def chunked(events, mode, length=LENGTH):
    n = len(events[0])
    return [encode(*(c[i : i + length] for c in events), mode) for i in range(0, n, length)]


def assert_read(recording, events):
    got = recording.read()
    for name, values in zip("txyp", events, strict=True):
        assert (got[name] == values).all()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "some.hdf5"


def test_the_golden_file_equals_its_truth(golden_path):
    folder = golden_path.parent
    if not (folder / "metavision_ecf.hdf5").exists():
        pytest.skip("metavision_ecf.hdf5 is not beside the golden file")
    recording, truth = es.open(folder / "metavision_ecf.hdf5"), np.load(folder / "metavision_ecf_truth.npz")
    assert (recording.n_events, recording.sensor) == (136_075, (1280, 720))
    assert_read(recording, [truth[name] for name in "txyp"])
    t = truth["t"]
    for start in [*t[::9973].tolist(), int(t[16384]), int(t[-1])]:
        inside = (t >= start) & (t < start + 10_000)
        got = recording.between(start, start + 10_000).read()
        assert (got["t"] == t[inside]).all()
        assert (got["x"] == truth["x"][inside]).all()


@pytest.mark.parametrize("mode", [0, 1, 2])
@pytest.mark.parametrize("n", [1, 2, 3, 299, 300, 301, 1234])
def test_chunks_encoded_by_hand(path, mode, n):
    events = random_events(n)
    write_chunks(path, n, chunked(events, mode), LENGTH)
    recording = es.open(path)
    assert (recording.format, recording.n_events) == ("Metavision HDF5", n)
    assert_read(recording, events)
    assert [len(c) <= 7 for c in recording.chunks(7)] == [True] * sum(
        -(-min(300, n - i) // 7) for i in range(0, n, 300)
    )


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_long_runs_and_long_gaps(path, mode):
    n = 70_000
    t = np.repeat([5, 5 + 15, 5 + 15 + 2**40, 5 + 15 + 2**40 + 255], [30_000, 14, 39_986 - 15, 15])
    events = (t, np.full(n, 2047), np.full(n, 2047), np.arange(n) // 65_000)
    write_chunks(path, n, chunked(events, mode, 35_000), 35_000)
    assert_read(es.open(path).adjusted(width=2048, height=2048), events)


def test_a_chunk_byte_by_byte():
    """Mode 0, from the description alone: time 1000 twice, 1003 once; row 5 three times; columns 8, 9, 13; 1, 1, 0."""
    data = (
        struct.pack("<IQ", 3 << 2, 1000)
        + bytes([0x02, 0x31])
        + struct.pack("<HHBB", 5 << 5 | 3, 8 << 5 | 0b10001, 0x82, 1)
    )
    columns = [np.zeros(3, d) for d in ("i8", "u2", "u2", "u1")]
    assert kernels.ecf(np.frombuffer(data, np.uint8), 3, *columns) == len(data)
    assert [c.tolist() for c in columns] == [[1000, 1000, 1003], [8, 9, 13], [5, 5, 5], [1, 1, 0]]


def test_a_last_chunk_that_was_filled_up(path):
    events = random_events(2 * LENGTH)
    write_chunks(path, LENGTH + 7, chunked(events, 1), LENGTH)
    assert_read(es.open(path), [c[: LENGTH + 7] for c in events])


def test_no_events(path):
    write_chunks(path, 0, [], LENGTH)
    assert len(es.open(path).read()) == len(es.open(path).between(0, 9).read()) == 0


def test_a_time_shift(path):
    events = random_events(500)
    write_chunks(path, 500, chunked(events, 2), LENGTH, time_shift="900")
    recording = es.open(path)
    assert (recording.read()["t"] == events[0] - 900).all()
    start = int(events[0][300]) - 900
    assert (
        len(recording.between(start, start + 50).read())
        == ((events[0] - 900 >= start) & (events[0] - 900 < start + 50)).sum()
    )
    write_chunks(path, 500, chunked(events, 2), LENGTH, time_shift="soon")
    with pytest.raises(es.EventFileError, match="'time_shift' expects microseconds, found 'soon'"):
        es.open(path)


EVENTS = random_events(2 * LENGTH)
SOUND = chunked(EVENTS, 0)
VIOLATIONS = {
    "cut header": ([SOUND[0][:11], SOUND[1]], {}, "chunk 0 expects events compressed by ECF, found 11 bytes"),
    "cut times": ([SOUND[0], SOUND[1][:110]], {}, "chunk 1 ends within its events"),
    "cut end": ([SOUND[0][:-1], SOUND[1]], {}, "chunk 0 ends within its events"),
    "few events": ([encode(*(c[:299] for c in EVENTS), 0), SOUND[1]], {}, "chunk 0 expects 300 events, found 299"),
    "many events": ([encode(*(c[:301] for c in EVENTS), 0), SOUND[1]], {}, "chunk 0 expects 300 events, found 301"),
    "terabytes": ([struct.pack("<IQ", 0xFFFFFFFC, 0), SOUND[1]], {}, "chunk 0 expects 300 events, found 1073741823"),
    "a long run": (
        [struct.pack("<IQ", 300 << 2, 0) + b"\x0f\xff\xff" + bytes(200), SOUND[1]],
        {},
        "chunk 0 repeats events beyond their number",
    ),
    "a late time": ([SOUND[0][:4] + b"\xff" * 8 + SOUND[0][12:], SOUND[1]], {}, "chunk 0 has times that cannot be"),
    "a long gap": ([SOUND[0][:12] + b"\xff" * 300, SOUND[1]], {}, "chunk 0 has times that cannot be"),
    "runs of nothing": ([SOUND[0][:12] + b"\0" * 500, SOUND[1]], {}, "chunk 0 ends within its events"),
    "a chunk missing": ([SOUND[0]], {}, "CD/events expects 2 stored chunks, found 1"),
    "not compressed": (SOUND, {"mask": 1}, "chunk 0 expects events compressed by ECF, .* filter mask 1"),
    "another filter": (SOUND, {"filters": (ECF, 2)}, "CD/events expects no other filter beside ECF"),
    "a filter before": (SOUND, {"filters": (2, ECF)}, "CD/events expects no other filter beside ECF"),
}


@pytest.mark.parametrize(("chunks", "options", "message"), VIOLATIONS.values(), ids=VIOLATIONS)
def test_a_violation_is_one_error(path, chunks, options, message):
    write_chunks(path, 600, chunks, LENGTH, **options)
    with pytest.raises(es.EventFileError, match=message) as caught:
        es.open(path).read()
    assert str(caught.value).startswith(f"{path}: ")


def test_a_declared_size_that_the_bytes_cannot_hold(path):
    write_chunks(path, 10**6, [bytes(12)], 10**6)
    with pytest.raises(es.EventFileError, match="declares 1000000 events in 12 bytes"):
        es.open(path)


def test_other_fields(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("CD/events", data=np.zeros(3, [("x", "u2"), ("t", "i8")]))
    with pytest.raises(es.EventFileError, match="CD/events expects a field 'y'"):
        es.open(path)


def test_the_dtype_is_that_of_the_vendor():
    assert (EVENT_CD.itemsize, EVENT_CD.fields["t"][1]) == (16, 8)


def decoded(data, n):
    """What the kernel makes of any bytes; memory around its columns must stay as it was."""
    margin = 64
    columns = [np.full(n + 2 * margin, 77, d) for d in ("i8", "u2", "u2", "u1")]
    end = kernels.ecf(np.frombuffer(bytes(data), np.uint8), n, *(c[margin : margin + n] for c in columns))
    for column in columns:
        assert (column[:margin] == 77).all()
        assert (column[margin + n :] == 77).all()
    assert end == len(data) or end in kernels.ECF_ERRORS or 12 <= end <= len(data)
    return end


def test_cut_at_every_byte():
    for mode in (0, 1, 2):
        data = encode(*random_events(40, seed=mode), mode)
        assert decoded(data, 40) == len(data)
        for length in range(12, len(data)):
            assert decoded(data[:length], 40) == -1


def test_two_thousand_damaged_chunks():
    rng = np.random.default_rng(5)
    chunks = [encode(*random_events(200, seed=seed), seed % 3) for seed in range(6)]
    wrong = 0
    for trial in range(2000):
        data = bytearray(chunks[trial % 6])
        for _ in range(rng.integers(1, 4)):
            place = int(rng.integers(12 if trial % 2 else 4, len(data)))
            data[place] ^= 1 << int(rng.integers(8))
        data = data[: rng.integers(12, len(data) + 1)] if trial % 3 == 0 else data
        wrong += decoded(data, 200) < 0
    assert 200 < wrong < 2000  # some are found out, others are other events


@given(st.binary(min_size=12, max_size=120), st.integers(0, 200))
def test_any_bytes(data, n):
    decoded(data, n)
