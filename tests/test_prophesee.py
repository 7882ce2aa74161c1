"""Prophesee's RAW and DAT files: recordings, files written by hand, and broken ones."""

import io
import tracemalloc
import warnings

import numpy as np
import pytest
from event_files import drained
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prophesee_files import HIGH2, HIGH3, counts_of, dat, events_of, evt2, evt3, evt21, header, steps

import eventsnn as es
from eventsnn.io._decoding import whole_words
from eventsnn.io.recording import BEFORE_TIME, CUT_END, EVENT_DTYPE, OUTSIDE, UNKNOWN, Tally

HD = {"geometry": "1280x720"}
DAT = header(Data="file containing Event2D events.", Version=2, Height=720, Width=1280)
WRITERS = {
    "Prophesee EVT2": (header(evt="2.0", **HD), evt2),
    "Prophesee EVT2.1": (header(format="EVT21;height=720;width=1280;endianness=little"), evt21),
    "Prophesee EVT3": (header(evt="3.0", **HD), evt3),
    "Prophesee DAT 2": (DAT + bytes([0, 8]), dat),
}

FIRST = ("event", 0, 1, 2, 1)  # before the time begins anew, which no file tells of its first


# Recordings


@pytest.mark.parametrize(
    ("name", "format_name", "sensor", "n_events", "last"),
    [
        ("faery/evt2.raw", "Prophesee EVT2", (640, 480), 521_252, None),
        ("expelliarmus/evt3_sample.raw", "Prophesee EVT3", (1280, 720), 219_596, None),
        ("tonic/sample_ncars.dat", "Prophesee DAT 2", None, 2_009, 99.95),
    ],
)
def test_recordings_have_their_events(data_path, name, format_name, sensor, n_events, last):
    recording = es.open(data_path / "events" / name)
    assert (recording.format, recording.sensor) == (format_name, sensor)
    assert recording.n_events in (None, n_events)
    stream = recording.chunks(4099)
    chunks = list(stream)
    assert sum(map(len, chunks)) == stream.report.n_events == n_events
    assert (stream.report.dropped, stream.report.skipped) == ({}, {})
    if sensor is not None:
        assert (max(c.x.max() for c in chunks), max(c.y.max() for c in chunks)) == (sensor[0] - 1, sensor[1] - 1)
    if last is not None:
        assert round(stream.report.latest / 1000, 2) == last


def test_evt3_equals_another_programs_decoding(data_path):
    """Its times are a multiple of 4096 us too late: one more for each step backward of TIME_LOW, 11 in all."""
    folder = data_path / "events" / "expelliarmus"
    found, other = es.open(folder / "evt3_sample.raw").read(), np.load(folder / "evt3_sample.npy")
    for name in ("x", "y", "p"):
        np.testing.assert_array_equal(found[name], other[name])
    late = other["t"] - found["t"]
    assert sorted(set(np.diff(late).tolist())) == [0, 4096]
    assert (late[0], late[-1]) == (0, 11 * 4096)


# Files written by hand


@pytest.mark.parametrize("name", list(WRITERS))
@pytest.mark.parametrize("height", [720, 500])
def test_an_array_of_some_blocks(file, name, height):
    """Vectors have more events than the file has bytes, so that room must be made for them, too."""
    head, write = WRITERS[name]
    bits = np.random.default_rng(3).integers(0, 1 << 32, 5000).tolist()
    steps = [FIRST, *(("vector", 3, 7 * i % 1200, i % 720, i & 1, bits[i]) for i in range(5000))]
    recording = es.open(file(head + write(steps)), width=1280, height=height)
    t, x, y, p = np.array([event for event in events_of(steps) if event[2] < height]).T
    assert len(t) > 40_000
    for how, expected in (
        ({}, (t, x, y, p)),
        ({"flip_x": True, "swap_polarity": True}, (t, 1279 - x, y, 1 - p)),
        ({"swap_xy": True, "flip_y": True}, (t, y, 1279 - x, p)),
    ):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            events = recording.adjusted(**how).read()
        for letter, column in zip("txyp", expected, strict=True):
            np.testing.assert_array_equal(events[letter], column)
        lost = len(events_of(steps)) - len(t)
        assert [str(w.message).partition("; ")[2] for w in warned] == [f"lost {lost:,} {OUTSIDE}"] * (lost > 0)


@pytest.mark.parametrize("name", list(WRITERS))
@given(steps=steps(), size=st.integers(1, 40), start=st.integers(0, HIGH3 - 1))
def test_what_is_written_is_read(file, name, steps, size, start):
    head, write = WRITERS[name]
    steps = [FIRST, *steps]
    recording = es.open(file(head + write(steps, start)))
    assert (recording.format, recording.width, recording.height) == (name, 1280, 720)
    found, report = drained(recording, size)
    expected = events_of(steps, start)
    assert found == expected
    if write is not dat:
        triggers, monitoring, unknown = counts_of(steps)
        counted = {"triggers": triggers, "words of the camera's state": monitoring}
        assert report.skipped == {what: n for what, n in counted.items() if n}
        assert report.dropped == ({UNKNOWN: unknown} if unknown else {})
    else:
        assert recording.n_events == len(expected)


@given(steps=steps())
def test_legacy_evt21_has_its_halves_swapped(file, steps):
    body = evt21(steps, legacy=True)
    for head in (
        header(format="EVT21;height=720;width=1280;endianness=legacy"),
        header(evt="2.1", integrator_name="Prophesee", system_ID=49, **HD),
    ):
        assert drained(es.open(file(head + body)))[0] == events_of(steps)


@pytest.mark.parametrize("write", [evt2, evt21])
@given(steps=steps(longest=900_000), before=st.integers(1, 3_000_000))
@example([("event", 1, 3, 4, 0)], 1)
def test_evt2_continues_after_its_time_begins_anew(file, write, steps, before):
    head, steps = header(evt="2.0" if write is evt2 else "2.1", **HD), [FIRST, *steps]
    assert drained(es.open(file(head + write(steps, HIGH2 - before))))[0] == events_of(steps, HIGH2 - before)


def test_evt3_continues_after_16_seconds(file):
    every_second = [("event", 999_999 + (i % 7), i, i, i % 2) for i in range(60)]
    found, report = drained(es.open(file(WRITERS["Prophesee EVT3"][0] + evt3(every_second))))
    assert found == events_of(every_second)
    assert report.latest > 3 * HIGH3
    assert report.backward == 0


def test_dat_continues_after_71_minutes(file):
    written = [("event", (1 << 32) - 5, 1, 2, 0), ("event", 4, 1, 2, 1), ("event", 7, 3, 4, 1), ("event", -9, 0, 0, 0)]
    found, report = drained(es.open(file(WRITERS["Prophesee DAT 2"][0] + dat(written))))
    assert found == events_of(written)
    assert (report.backward, report.furthest_back) == (1, 9)


def test_times_that_run_backward_stay(file):
    words = [0x8001, 0x6010, 0x0005, 0x2001, 0x6008, 0x2002, 0x8000, 0x6FFF, 0x2003, 0x8002, 0x2004]
    body = b"".join(word.to_bytes(2, "little") for word in words)
    found, report = drained(es.open(file(WRITERS["Prophesee EVT3"][0] + body)))
    assert found == [(4112, 1, 5, 0), (4104, 2, 5, 0), (4095, 3, 5, 0), (8192, 4, 5, 0)]
    assert (report.backward, report.furthest_back) == (2, 17)


@pytest.mark.parametrize(
    ("name", "body", "lost"),
    [
        ("Prophesee EVT2", evt2([("event", 5, 1, 1, 1)])[4:] + evt2([("event", 70, 9, 9, 1)]), 1),
        ("Prophesee EVT2.1", evt21([("vector", 5, 1, 1, 1, 0xFF)])[8:] + evt21([("event", 70, 9, 9, 1)]), 8),
        ("Prophesee EVT3", evt3([("vector", 5, 1, 1, 1, 0xFF)])[2:] + evt3([("event", 70, 9, 9, 1)]), 8),
        ("Prophesee EVT3", evt3([("event", 5, 1, 1, 1)])[2:] + evt3([("event", 70, 9, 9, 1)]), 1),
    ],
)
def test_events_before_the_first_time_are_left_out(file, name, body, lost):
    found, report = drained(es.open(file(WRITERS[name][0] + body)))
    assert found == [(70, 9, 9, 1)]
    assert report.dropped == {BEFORE_TIME: lost}


def test_events_outside_the_sensor_are_left_out(file):
    body = evt3(
        [("event", 5, 1280, 1, 1), ("event", 5, 1, 720, 1), ("vector", 0, 1279, 719, 1, 3), ("event", 1, 5, 5, 0)]
    )
    found, report = drained(es.open(file(WRITERS["Prophesee EVT3"][0] + body)))
    assert found == [(10, 1279, 719, 1), (11, 5, 5, 0)]
    assert report.dropped == {OUTSIDE: 3}


def test_vectors_without_a_base_leave_the_sensor(file):
    body = evt3([("vector", 0, 2047, 1, 1, 0)]) + b"\xff\x4f" * 6000
    found, report = drained(es.open(file(header(evt="3.0") + body)))
    assert found == []
    assert report.dropped == {OUTSIDE: 72_000}


def test_dat_of_version_1(file):
    written = [("event", 5, 303, 239, 1), ("event", 2, 0, 1, 0)]
    for head in (header(Data="file containing ATIS events."), header(Version=1)):
        recording = es.open(file(head + bytes([0, 8]) + dat(written, version=1)))
        assert recording.format == "Prophesee DAT 1"
        assert drained(recording)[0] == events_of(written)
        turned = es.open(recording.path, width=304, height=240, flip_y=True)
        assert drained(turned)[0] == [(5, 303, 0, 1), (7, 0, 238, 0)]


# Headers


@pytest.mark.parametrize(
    ("fields", "sensor"),
    [
        ({"evt": "3.0", "geometry": "320x240"}, (320, 240)),
        ({"format": "EVT3;height=240;width=320"}, (320, 240)),
        ({"format": "EVT3", "evt": "3.0"}, None),
        ({"evt": "3.0", "system_ID": 21}, (640, 480)),
        ({"evt": "3.0", "system_ID": 0x80 | 0x19}, (640, 480)),
        ({"evt": "3.0", "system_ID": 48, "integrator_name": "Prophesee"}, (1280, 720)),
        ({"evt": "3.0", "system_ID": 48, "integrator_name": "Another"}, None),
        ({"evt": "3.0", "system_ID": "x"}, None),
    ],
)
def test_the_size_of_the_sensor(file, fields, sensor):
    assert es.open(file(header(**fields))).sensor == sensor


def test_metadata_is_what_the_header_says(file):
    recording = es.open(
        file(b"% date 2024-01-02 03:04:05\n%\n% evt 2.0\n% note a  b\n% end\n" + evt2([("event", 37, 1, 2, 1)]))
    )
    assert recording.metadata == {"date": "2024-01-02 03:04:05", "evt": "2.0", "note": "a  b"}
    assert drained(recording)[0] == [(37, 1, 2, 1)]


@pytest.mark.parametrize("separator", [b"", b"% end\n"])
def test_events_may_begin_like_a_line(file, separator):
    """A word whose first byte is a percent sign, with and without a line that ends the header."""
    body = evt2([("event", 0, 4, 37, 1)])[:4] + (1 << 28 | 4 << 11 | ord("%")).to_bytes(4, "little")
    body = body[4:] + body + b"\n" * 4
    found, _ = drained(es.open(file(header(evt="2.0") + separator + body)))
    assert found[0] == (0, 4, 37, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header(format="HISTO3D;height=320;width=320"), "expected Prophesee's EVT2, EVT2.1 or EVT3, found 'HISTO3D;"),
        (header(evt="4.0"), "found 'evt 4.0'"),
        (header(evt="3.0", geometry="0x720"), "width and height expect 1 to 2048, found '0x720'"),
        (header(evt="3.0", geometry="999999999x720"), "width and height expect 1 to 2048, found '999999999x720'"),
        (header(format="EVT3;height=-3;width=1e9"), "found '1e9x-3'"),
        (DAT, "ends within its header"),
        (DAT + bytes([12]), "ends within its header"),
        (DAT + bytes([14, 24]), "found kind 14 of 24 bytes"),
        (DAT + bytes([0, 9]), "found kind 0 of 9 bytes"),
        (header(Version=7) + bytes([0, 8]), "expected DAT of version 1 or 2, found '7'"),
        (header(Version=2, Width=10**15, Height=3) + bytes([0, 8]), "Width and Height expect 1 to 16384"),
        (b"% evt 3.0\n" + b"% x\n" * 300_000, "header of at most 1048576 bytes"),
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


WRITTEN = [
    ("event", 9, 1, 2, 0),
    ("vector", 4097, 30, 7, 1, 0xF0F0A5A5),
    ("word", 0xA),
    ("event", 64, 1279, 719, 1),
] * 4


@pytest.mark.parametrize("name", list(WRITERS))
def test_a_file_cut_anywhere(file, name):
    head, write = WRITERS[name]
    content = head + write(WRITTEN, 100)
    whole = events_of(WRITTEN, 100)
    for end in range(len(content)):
        try:
            found, report = drained(es.open(file(content[:end])), 7)
        except es.EventFileError:
            assert end < len(head)
            continue
        # A header that is cut within its last line has lost that line alone.
        if end >= len(head):
            assert found == whole[: len(found)]
            width = {evt2: 4, evt3: 2}.get(write, 8)
            assert report.dropped.get(CUT_END, 0) == (end - len(head)) % width
        else:
            assert len(found) <= (len(head) - end) // 2 + 40


def test_a_cut_end_is_told(file):
    path = file(WRITERS["Prophesee EVT3"][0] + evt3(WRITTEN)[:-1])
    with pytest.warns(RuntimeWarning, match=r"recording: \d+ events; lost 1 bytes after the last whole word"):
        es.open(path).read()


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
@given(data=st.data(), steps=steps(), size=st.integers(1, 100))
def test_damaged_files(file, name, data, steps, size):
    head, write = WRITERS[name]
    content = bytearray(head + write(steps))
    for _ in range(data.draw(st.integers(0, 8), "flips")):
        place = data.draw(st.integers(0, 8 * len(content) - 1), "bit")
        content[place // 8] ^= 1 << place % 8
    end = data.draw(st.integers(0, len(content)), "end")
    check_outcome(file(bytes(content[:end])), size)


@pytest.mark.parametrize("name", list(WRITERS))
@given(body=st.binary(max_size=400), size=st.integers(1, 100))
def test_any_bytes_after_a_header(file, name, body, size):
    check_outcome(file(WRITERS[name][0] + body), size)


@given(lines=st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), max_size=6))
@example([b" evt 3.0", b"\x00\x01"])
@example([b" format EVT3;width=;height", b" geometry x"])
@example([b" Version 2", b" Width", b" Height 9"])
@example([b" evt 2.0", " system_ID \u0663".encode()])
def test_any_header(file, lines):
    check_outcome(file(b"".join(b"%" + line + b"\n" for line in lines) + bytes(20)), 10)


def test_memory_does_not_depend_on_the_file(file):
    """Words that hold 32 events each: 3.2 million events from 800 kB, in chunks of 1,000."""
    body = evt21([("event", 5, 0, 1, 1)])[:8] + (0x1000_0801_FFFF_FFFF).to_bytes(8, "little") * 100_000
    recording = es.open(file(WRITERS["Prophesee EVT2.1"][0] + body))
    assert len(next(recording.chunks(1000))) == 1000 - 1000 % 32  # compiled by now
    tracemalloc.start()
    stream = recording.chunks(1000)
    n = sum(len(chunk) for chunk in stream)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n == 3_200_000
    assert peak < 200_000


class Pipe(io.RawIOBase):
    """A stream that gives a few bytes at a time."""

    def __init__(self, content, step):
        self.left, self.step = content, step

    def readinto(self, buffer):
        n = min(len(buffer), self.step, len(self.left))
        buffer[:n], self.left = self.left[:n], self.left[n:]
        return n


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 100])
def test_words_that_come_in_pieces(step):
    tally = Tally()
    content = bytes(range(1, 64))
    words = [word for block in whole_words(Pipe(content, step), "<u4", 3, tally) for word in block.tolist()]
    assert words == np.frombuffer(content[:60], "<u4").tolist()
    assert tally.dropped == {CUT_END: 3}


@pytest.mark.parametrize("name", list(WRITERS))
def test_files_without_events(file, name):
    recording = es.open(file(WRITERS[name][0]))
    assert recording.read().dtype == EVENT_DTYPE
    assert len(recording.read()) == 0
