"""Recordings: chunks, orientation, what is left out and counted, and how files are recognized."""

import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventsnn as es
from eventsnn.io import EVENT_DTYPE, Chunk, Orientation, Recording, write
from eventsnn.io.recording import OUTSIDE


def chunk_of(t, x, y, p):
    return Chunk(np.array(t, np.int64), np.array(x, np.uint16), np.array(y, np.uint16), np.array(p, np.uint8))


def decode_blocks(blocks, size, tally):
    tally.skip("triggers", 2)
    yield from (chunk_of(*zip(*block, strict=True)) for block in blocks)


def recording(*blocks, sensor=(10, 6), **fields):
    return Recording(Path(__file__), "a format", sensor, partial(decode_blocks, blocks), **fields)


EVENTS = [(5, 0, 1, 0), (7, 9, 5, 1), (7, 3, 2, 1), (9, 4, 0, 0)]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 100])
def test_chunks_are_the_events_in_order(size):
    stream = recording(EVENTS[:3], EVENTS[3:]).chunks(size)
    chunks = list(stream)
    assert all(1 <= len(chunk) <= size for chunk in chunks)
    assert [event for chunk in chunks for event in chunk.to_structured().tolist()] == EVENTS
    assert [chunks[0].t.dtype, chunks[0].x.dtype, chunks[0].y.dtype, chunks[0].p.dtype] == ["i8", "u2", "u2", "u1"]
    assert stream.report == es.io.Report(4, 5, 9, skipped={"triggers": 2})
    assert str(stream.report) == "4 events; skipped 2 triggers"


def test_read_and_columns_without_events():
    assert recording().read().dtype == EVENT_DTYPE
    assert [len(recording().read()), len(recording().columns())] == [0, 0]
    assert recording().to_events().n_events == 0


def test_more_events_than_the_file_has_bytes():
    events = [(t, t % 10, t % 6, t % 2) for t in range(3 * Path(__file__).stat().st_size)]
    assert recording(events[:9], events[9:]).read().tolist() == events
    columns = recording(events[:9], events[9:]).columns()
    assert columns.to_structured().tolist() == events


def test_a_size_that_is_none():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        recording().chunks(0)


def test_the_report_grows_with_the_stream():
    stream = recording(EVENTS).chunks(3)
    assert stream.report.n_events == 0
    next(stream)
    assert (stream.report.n_events, stream.report.latest) == (3, 7)
    stream.close()
    assert list(stream) == []


def test_events_outside_the_sensor_are_counted_and_left_out():
    events = [*EVENTS[:2], (8, 10, 0, 1), (8, 0, 6, 1), (8, 65535, 65535, 1), EVENTS[3]]
    with pytest.warns(RuntimeWarning, match="test_recording.py: 3 events; lost 3 events outside the sensor; skipped 2"):
        assert recording(events).read().tolist() == [*EVENTS[:2], EVENTS[3]]
    stream = recording(events, events[2:4]).chunks()
    assert [len(chunk) for chunk in stream] == [3]
    assert stream.report.dropped == {OUTSIDE: 5}
    assert len(recording(events, sensor=None).read()) == 6


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"flip_x": True}, (9, 1, 0)),
        ({"flip_y": True}, (0, 4, 0)),
        ({"swap_xy": True}, (1, 0, 0)),
        ({"swap_xy": True, "flip_x": True}, (4, 0, 0)),  # the mirror is that of the turned picture, 6 wide
        ({"swap_xy": True, "flip_y": True}, (1, 9, 0)),
        ({"swap_polarity": True}, (0, 1, 1)),
        ({"width": 20, "height": 30, "flip_x": True, "flip_y": True}, (19, 28, 0)),
        ({"width": 20, "flip_x": True, "flip_y": True}, (19, 4, 0)),
    ],
)
def test_orientation(options, expected):
    found = recording(EVENTS[:1]).adjusted(**options)
    assert found.read()[["x", "y", "p"]].tolist() == [expected]
    sensor = (options.get("width", 10), options.get("height", 6))
    assert (found.width, found.height) == (sensor[::-1] if "swap_xy" in options else sensor)


def test_what_is_not_given_stays():
    turned = recording(EVENTS, orientation=Orientation(flip_y=True))
    assert turned.adjusted().orientation == Orientation(flip_y=True)
    assert turned.adjusted(flip_y=False, swap_polarity=True).orientation == Orientation(swap_polarity=True)


@pytest.mark.parametrize("options", [{"flip_x": True}, {"width": 4}, {"width": 0, "height": 3}, {"width": 1 << 17}])
def test_orientation_that_cannot_be(options):
    with pytest.raises(ValueError, match=r"test_recording.py: .*width"):
        recording(EVENTS, sensor=None).adjusted(**options)


@given(st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=6), max_size=4), st.integers(1, 7))
def test_times_that_run_backward_are_given_and_counted(blocks, size):
    stream = recording(*[[(t, 0, 0, 0) for t in block] for block in blocks]).chunks(size)
    given_times = [int(t) for chunk in stream for t in chunk.t]
    times = [t for block in blocks for t in block]
    assert given_times == times
    late = [max(times[:i]) - t for i, t in enumerate(times) if i and max(times[:i]) > t]
    report = stream.report
    assert (report.backward, report.furthest_back) == (len(late), max(late, default=0))
    assert (report.earliest, report.latest) == (min(times, default=None), max(times, default=None))


def test_events_in_canonical_order():
    events = recording(EVENTS).to_events()
    assert events.shape == (2, 6, 10)
    assert (events.unit, events.duration) == ("us", 5)
    assert events.to_structured()[0].tolist() == [(0, 1, 0, 0), (3, 2, 2, 1), (9, 5, 2, 1), (4, 0, 4, 0)]
    assert recording(EVENTS).to_events(origin=5, duration=50).duration == 50
    with pytest.raises(ValueError, match="time -1"):
        recording(EVENTS).to_events(origin=6)
    with pytest.raises(ValueError, match="width= and height="):
        recording(EVENTS, sensor=None).to_events()


def fail(size, tally):
    yield chunk_of(*zip(*EVENTS, strict=True))
    raise es.EventFileError("expected sense", offset=77)


def test_an_error_names_file_and_place():
    broken = Recording(Path("some.raw"), "a format", None, fail)
    stream = broken.chunks()
    assert len(next(stream)) == 4
    with pytest.raises(es.EventFileError, match=r"^some.raw: byte 77: expected sense$") as caught:
        next(stream)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.path, again.offset) == (str(caught.value), Path("some.raw"), 77)
    assert list(stream) == []


def test_a_sensor_from_a_file_that_cannot_be():
    with pytest.raises(es.EventFileError, match=r"test_recording.py: .*1 to 65536, found \(0, 5\)"):
        recording(sensor=(0, 5))


def test_a_recording_can_be_pickled():
    found = pickle.loads(pickle.dumps(recording(EVENTS)))
    assert found.read().tolist() == EVENTS


def test_event_files_of_the_package(tmp_path):
    events = es.Events.from_latency(np.array([[[0, 3], [-1, 2]]]))
    write(tmp_path / "own.raw", events)
    found = es.open(tmp_path / "own.raw")
    assert isinstance(found, es.EventDataset)
    assert found.load().equals(events)
    with pytest.raises(ValueError, match="takes no width, flip_x"):
        es.open(tmp_path / "own.raw", width=3, flip_x=False)


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        (b"", "it is empty"),
        (bytes(100), "it starts with zeros"),
        (b"\x7fELF something", r"it starts with b'\\x7fELF something'"),
    ],
)
def test_unknown_formats(tmp_path, content, seen):
    path = tmp_path / "file.raw"
    path.write_bytes(content)
    with pytest.raises(es.EventFileError, match=f"file.raw: is of no known format; {seen}"):
        es.open(path)


def test_what_is_no_file(tmp_path):
    with pytest.raises(es.EventFileError, match="expected a file, found a directory"):
        es.open(tmp_path)
    with pytest.raises(es.EventFileError, match="none: no such file"):
        es.open(tmp_path / "none")


def test_damaged_hdf5_is_the_same_kind_of_error(tmp_path):
    (tmp_path / "x.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(es.DatasetError, match=r"^\S+x.h5: [^/]*$") as caught:
        es.open(tmp_path / "x.h5")
    assert isinstance(caught.value, es.EventFileError)
    assert caught.value.path == tmp_path / "x.h5"
