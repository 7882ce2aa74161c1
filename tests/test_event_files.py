"""N-MNIST's files, AEDAT 2 and 3, Event Stream: recordings, files written by hand, and broken ones."""

import itertools
import struct
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from event_files import (
    AEDAT3,
    aedat1,
    aedat2_header,
    aedat3,
    atis_bin,
    davis346,
    drained,
    dvs128,
    es_atis,
    es_colour,
    es_dvs,
    es_header,
    events,
    packet,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import eventsnn as es
from eventsnn.io.atis_bin import open_bin, recognize
from eventsnn.io.recording import CUT_END, OUTSIDE, UNKNOWN

# By name: header, writer, sensor, bytes of a record in which a cut is noticed (None: it may fall into a packet)
DAVIS = aedat2_header(" AEChip: eu.seebetter.ini.chips.davis.Davis346red")
WRITERS = {
    "ATIS bin": (b"", atis_bin, (34, 34)),
    "AEDAT 2.0 (DVS128)": (aedat2_header(" AEChip: DVS128"), dvs128, (128, 128)),
    "AEDAT 2.0 (DAVIS)": (DAVIS, davis346, (346, 260)),
    "AEDAT 1.0 (DVS128)": (b"#!AER-DAT1.0\r\n# from jAER\r\n", aedat1, (128, 128)),
    "AEDAT 3.1": (AEDAT3, aedat3, (128, 128)),
    "Event Stream (DVS)": (es_header(1, 300, 200), partial(es_dvs, height=200), (300, 200)),
    "Event Stream (ATIS)": (es_header(2, 304, 240), partial(es_atis, height=240), (304, 240)),
    "Event Stream (colour)": (es_header(4, 320, 240), partial(es_colour, height=240), (320, 240)),
}
SAMPLE = [(5, 1, 2, 0), (900, 33, 0, 1), (900, 0, 33, 1), (40_000, 9, 9, 0), (40_001, 9, 10, 1), (99_999, 1, 1, 1)]


def polarities_kept(name, found):
    return [(*event[:3], 1) for event in found] if name == "Event Stream (colour)" else list(found)


# Recordings


@pytest.mark.parametrize(
    ("name", "format_name", "sensor", "n_events", "last"),
    [
        ("events/faery/color.es", "Event Stream (colour)", (320, 240), 473_225, 999_000),
        ("events/ne15/test.aedat", "AEDAT 2.0 (DVS128)", (128, 128), 400_670, 99_999_946),
        ("events/stdp-nmnist/jAERdata.aedat", "AEDAT 2.0 (DAVIS)", None, 320, 302_706),
        ("events/tonic/sample_aedat_header.aedat", "AEDAT 2.0 (DAVIS)", (346, 260), 0, None),
        ("nmnist/tonic_sample_nmnist.bin", "ATIS bin", (34, 34), 4_325, 311_175),
    ],
)
def test_recordings_have_their_events(data_path, name, format_name, sensor, n_events, last):
    recording = es.open(data_path / name)
    assert (recording.format, recording.sensor) == (format_name, sensor)
    stream = recording.chunks(4099)
    assert sum(map(len, stream)) == stream.report.n_events == n_events
    assert stream.report.latest == last
    assert (stream.report.dropped, stream.report.skipped, stream.report.backward) == ({}, {}, 0)


def test_every_recording_of_nmnist(data_path):
    """Two columns of each file equal another way to read them, and none is lost."""
    paths = sorted((data_path / "nmnist").glob("T*/*/*.bin"))
    assert len(paths) == 1100
    for path in paths:
        whole = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 5)
        found = es.open(path)
        columns = found.columns()
        assert (found.format, found.sensor, len(columns)) == ("ATIS bin", (34, 34), len(whole))
        np.testing.assert_array_equal(columns.x, whole[:, 0])
        np.testing.assert_array_equal(columns.p, whole[:, 2] >> 7)
        assert (np.diff(columns.t) >= 0).all()


# Files written by hand


@pytest.mark.parametrize("name", list(WRITERS))
@given(data=st.data(), size=st.integers(1, 40))
def test_what_is_written_is_read(file, name, data, size):
    head, write, sensor = WRITERS[name]
    expected = [*SAMPLE, *data.draw(events(*sensor, start=100_000))]
    recording = es.open(file(head + write(expected)))
    if name != "AEDAT 2.0 (DVS128)" and name != "AEDAT 2.0 (DAVIS)":
        assert recording.format == name
    assert (recording.width, recording.height) == sensor
    found, report = drained(recording, size)
    assert found == polarities_kept(name, expected)
    assert report.dropped == {}
    skipped = {"AEDAT 3.1": "inertial measurements", "Event Stream (ATIS)": "exposure measurements"}.get(name)
    assert set(report.skipped) == ({skipped} if skipped else set())


@pytest.mark.parametrize("name", ["ATIS bin", "AEDAT 2.0 (DVS128)", "AEDAT 2.0 (DAVIS)", "AEDAT 3.1"])
@given(data=st.data())
def test_times_continue_after_an_overflow(file, name, data):
    head, write, sensor = WRITERS[name]
    period = {"ATIS bin": 1 << 23, "AEDAT 3.1": 1 << 31}.get(name, 1 << 32)
    start = period - data.draw(st.integers(100_000, 1_000_000))
    if name == "ATIS bin":  # the time of 23 bits begins within it
        start = data.draw(st.integers(0, period - 200_000))
    drawn = data.draw(events(*sensor, longest=2_000_000))
    expected = [(start + t, *rest) for t, *rest in [*SAMPLE, *((100_000 + t, *rest) for t, *rest in drawn)]]
    assert drained(es.open(file(head + write(expected))), 7)[0] == expected


def test_rows_of_240_are_no_events(file):
    body = bytes(
        [9, 9, 0x80, 0, 1, 0, 240, 0, 0, 0, 9, 9, 0, 0, 2, 5, 240, 255, 255, 255, 8, 8, 0, 0, 3, 1, 1, 0, 0, 4]
    )
    assert drained(es.open(file(body)))[0] == [(1, 9, 9, 1), (8194, 9, 9, 0), (16387, 8, 8, 0), (16388, 1, 1, 0)]


@settings(max_examples=200)
@given(data=st.data())
def test_what_looks_like_events_of_40_bits(data):
    """Four or more whose times, overflows added, run forward but for less than one in fifty; 34x34 if they fit."""
    rows = st.sampled_from([0, 1, 33, 34, 239, 240, 241])
    steps = data.draw(st.lists(st.tuples(st.integers(-2, 40), st.integers(28, 36), rows), max_size=120))
    body, clock = b"", data.draw(st.sampled_from([10, (1 << 23) - 50]))
    for step, x, y in steps:
        clock = max(clock + step, 0)
        body += bytes([x, y]) + (clock & 0x7FFFFF).to_bytes(3, "big")
    found = [struct.unpack(">BBBH", body[i : i + 5]) for i in range(0, len(body), 5)]
    times = [(high & 127) << 16 | low for _, y, high, low in found if y != 240]
    added = [8192 * sum(y == 240 for _, y, *_ in found[:i]) for i, (_, y, *_) in enumerate(found) if y != 240]
    times = [time + more for time, more in zip(times, added, strict=True)]
    back = sum(later < time for time, later in itertools.pairwise(times))
    forward = any(later > time for time, later in itertools.pairwise(times))
    expected = len(times) > 3 and 50 * back < len(times) and forward
    assert recognize(Path("a.bin"), body) == expected
    if body:
        fits = all(x < 34 and (y < 34 or y == 240) for x, y, *_ in found)
        assert open_bin(Path("a.bin"), body).sensor == ((34, 34) if fits else None)


def test_caltech101_does_not_say_its_size(file):
    body = atis_bin([*SAMPLE, (100_000, 239, 179, 1)])
    assert es.open(file(body)).sensor is None
    assert es.open(file(body), width=240, height=180).to_events().n_events == 7


def test_what_is_no_pixel_of_a_davis_is_skipped(file):
    words = struct.pack(">IIIIII", 1 << 31 | 5, 9, 1 << 10, 10, 1 << 22 | 7 << 12 | 1 << 11, 11)
    found, report = drained(es.open(file(aedat2_header() + words)))
    assert found == [(11, 7, 1, 1)]
    assert report.skipped == {"words of frames and inertial measurements": 1, "triggers and special events": 1}


def test_what_is_no_pixel_of_a_dvs128_is_left_out(file):
    words = struct.pack(">IIIIII", 1 << 15, 9, 1 << 16, 10, 1 << 8 | 7 << 1 | 1, 11)
    found, report = drained(es.open(file(aedat2_header(" AEChip: DVS128") + words)))
    assert found == [(11, 120, 126, 0)]
    assert (report.skipped, report.dropped) == ({"triggers and special events": 1}, {UNKNOWN: 1})


def test_a_time_in_a_header_is_no_field(file):
    head = aedat2_header(" AEChip: DVS128", " Created 2015-09-17 14:42:20.9", " Start:2015", " Size 3: 9")
    found = {"AEChip": "DVS128", "Start": "2015", "Size 3": "9"}
    assert es.open(file(head + dvs128(SAMPLE))).metadata == found


def test_addresses_tell_the_camera(file):
    assert es.open(file(aedat2_header() + dvs128(SAMPLE))).format == "AEDAT 2.0 (DVS128)"
    unknown = es.open(file(aedat2_header() + davis346(SAMPLE)))
    assert (unknown.format, unknown.sensor) == ("AEDAT 2.0 (DAVIS)", None)
    turned = es.open(unknown.path, width=346, height=260, flip_x=True, flip_y=True)
    assert drained(turned)[0] == SAMPLE


def test_orientations_of_other_programs(file):
    """Of one event in column 3 from the right and row 5 from below, darker."""
    path = file(aedat2_header(" AEChip: DVS128") + struct.pack(">II", 5 << 8 | 3 << 1 | 1, 8))
    assert drained(es.open(path))[0] == [(8, 124, 122, 0)]
    plain = {"flip_x": False, "flip_y": False, "swap_polarity": False}
    assert drained(es.open(path, **plain))[0] == [(8, 3, 5, 1)]
    assert drained(es.open(path, swap_xy=True))[0] == [(8, 122, 124, 0)]


def test_a_word_may_begin_like_a_line(file):
    body = struct.pack(">II", ord("#") << 24 | 7 << 12, 9) + struct.pack(">II", ord("\n") << 24, 10)
    assert drained(es.open(file(aedat2_header() + body)))[1].n_events == 2


def test_packets_of_aedat3(file):
    invalid = struct.pack("<II", 5 << 17, 77)
    valid = struct.pack("<II", 1 | 5 << 17 | 3 << 2, 78)
    body = packet(0, 8, [bytes(8)] * 3) + packet(2, 100, [bytes(100)]) + packet(1, 8, [invalid, valid])
    found, report = drained(es.open(file(AEDAT3 + body + packet(12, 4, [bytes(4)] * 9))))
    assert found == [(78, 5, 3, 0)]
    assert report.dropped == {"events that the camera's program marked as invalid": 1}
    assert report.skipped == {"special events": 3, "frames": 1, "records of another kind": 9}


@pytest.mark.parametrize(
    ("body", "place", "message"),
    [
        (packet(1, 8, [bytes(8)]) + packet(1, 12, [bytes(12)]), 36, "polarity events of 8 bytes"),
        (packet(1, 8, [bytes(8)], capacity=0), 0, "header of a packet"),
        (packet(3, -36, []), 0, "header of a packet"),
        (packet(1, 8, [], overflow=-1), 0, "header of a packet"),
        (packet(-1, 8, []), 0, "header of a packet"),
    ],
)
def test_packets_that_cannot_be(file, body, place, message):
    with pytest.raises(es.EventFileError, match=message) as caught:
        drained(es.open(file(AEDAT3 + body)))
    assert caught.value.offset == len(AEDAT3) + place


def test_a_packet_that_claims_more_than_there_is(file):
    head = struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, 2**31 - 1, 2**31 - 1, 0)
    found, report = drained(es.open(file(AEDAT3 + head + struct.pack("<II", 1, 5) * 3)))
    assert len(found) == 3
    assert report.dropped == {"packets that the end of the file cuts": 1}


def test_events_outside_the_sensor_are_left_out(file):
    body = struct.pack("<BHHBHH", 0, 300, 5, 0, 5, 5)
    found, report = drained(es.open(file(es_header(1, 300, 200) + body)))
    assert found == [(0, 5, 194, 0)]
    assert report.dropped == {OUTSIDE: 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (es_header(1, 3, 2)[:14], "ends within its header"),
        (es_header(1, 3, 2)[:18], "ends within its header"),
        (es_header(0, 3, 2), "found generic events, which have no pixels"),
        (es_header(3, 3, 2), "found kind 3"),
        (es_header(1, 0, 2), "found 0x2; files of version 2 without a size"),
        (b"Event Stream" + bytes([1, 0, 0, 1, 9, 9, 9, 9]), "expected version 2 of Event Stream, found 1.0.0"),
        (AEDAT3[:-3], "a header that ends with #!END-HEADER"),
        (AEDAT3.replace(b"RAW", b"SerialTS"), "expected the format RAW, found 'SerialTS'"),
        (b"#!AER-DAT2.0\r\n" + (b"# " + b"x" * 4000 + b"\r\n") * 4200, "header of at most 16777216 bytes"),
        (atis_bin(SAMPLE)[:-1], "expected 5 bytes for each event, found 29 in all"),
    ],
)
def test_headers_that_cannot_be(file, content, message):
    path = file(content)
    with pytest.raises(es.EventFileError) as caught:
        es.open(path)
    assert message in str(caught.value)
    assert caught.value.path == path
    assert 0 <= caught.value.offset <= len(content)


# Broken files


@pytest.mark.parametrize("name", list(WRITERS))
def test_a_file_cut_anywhere(file, name):
    head, write, _ = WRITERS[name]
    content = head + write(SAMPLE * 3 if name == "AEDAT 3.1" else SAMPLE)
    whole, _ = drained(es.open(file(content)))
    for end in range(len(content)):
        try:
            found, report = drained(es.open(file(content[:end])), 7)
        except es.EventFileError:
            assert end < len(head) or name == "ATIS bin"
            continue
        if end >= len(head):
            assert found == whole[: len(found)]
            assert set(report.dropped) <= {CUT_END, "packets that the end of the file cuts"}


def check_outcome(path, size):
    """A file gives events that lie on its sensor, or one error that names it."""
    error = None
    try:
        check_events(es.open(path), size)
    except es.EventFileError as caught:
        error = caught
    assert error is None or (error.path == path and str(path) in str(error))


def check_events(recording, size):
    for chunk in recording.chunks(size):
        assert 1 <= len(chunk) <= size
        assert {len(column) for column in (chunk.x, chunk.y, chunk.p)} == {len(chunk)}
        assert chunk.p.max() <= 1
        if recording.sensor is not None:
            assert chunk.x.max() < recording.width
            assert chunk.y.max() < recording.height


@pytest.mark.parametrize("name", list(WRITERS))
@settings(max_examples=60)
@given(data=st.data(), size=st.integers(1, 100))
def test_damaged_files(file, name, data, size):
    head, write, sensor = WRITERS[name]
    content = bytearray(head + write([*SAMPLE, *data.draw(events(*sensor, start=100_000))]))
    for _ in range(data.draw(st.integers(0, 8), "flips")):
        place = data.draw(st.integers(0, 8 * len(content) - 1), "bit")
        content[place // 8] ^= 1 << place % 8
    check_outcome(file(bytes(content[: data.draw(st.integers(0, len(content)), "end")])), size)


@pytest.mark.parametrize("name", list(WRITERS))
@given(body=st.binary(max_size=400), size=st.integers(1, 100))
def test_any_bytes_after_a_header(file, name, body, size):
    check_outcome(file(WRITERS[name][0] + body), size)


@pytest.mark.parametrize("name", list(WRITERS))
def test_memory_does_not_depend_on_the_file(file, name):
    """Two megabytes in chunks of a thousand events."""
    head, write, _ = WRITERS[name]
    body = write([(50 * i, i % 34, i % 33, i % 2) for i in range(999)])
    recording = es.open(file(head + body * (2_000_000 // len(body))))
    next(recording.chunks(1000))  # compiled by now
    tracemalloc.start()
    n = sum(map(len, recording.chunks(1000)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n == 2_000_000 // len(body) * 999
    assert peak < 400_000
