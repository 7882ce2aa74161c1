"""AEDAT 4 and ST-MNIST: recordings, files written by hand, and broken ones."""

import io
import struct
import sys
import zlib

import numpy as np
import pytest
import scipy.io
from event_files import aedat4, aedat4_header, aedat4_packet, drained, events, mat_variable
from hypothesis import given, settings
from hypothesis import strategies as st

import eventsnn as es
from eventsnn.io._flatbuffer import root
from eventsnn.io.recording import CUT_END

CUT_PACKET = "packets that the end of the file cuts"
MAT = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
SAMPLE = [
    (5, 1, 2, 0),
    (900, 345, 0, 1),
    (900, 0, 259, 1),
    (10**15, 9, 9, 0),
    (10**15, 9, 10, 1),
    (10**15 + 1, 1, 1, 1),
]


def compressor(compression):
    """Return what compresses packets; the test is skipped without the package for it."""
    if compression in (1, 2):
        return pytest.importorskip("lz4.frame").compress
    return pytest.importorskip("zstandard").ZstdCompressor().compress if compression else bytes


# AEDAT 4


def test_a_recording_of_dv(data_path):
    pytest.importorskip("lz4.frame")
    recording = es.open(data_path / "events" / "tonic" / "sample.aedat4")
    assert (recording.format, recording.sensor) == ("AEDAT 4.0", (320, 240))
    stream = recording.chunks(1000)
    assert sum(map(len, stream)) == 111_954
    report = stream.report
    assert (report.dropped, report.skipped) == ({}, {"packets of inertial measurements": 59})
    assert round((report.latest - report.earliest) / 1e6, 2) == 0.59


@pytest.mark.parametrize("compression", range(5))
@given(data=st.data(), size=st.integers(1, 40))
def test_what_is_written_is_read(file, compression, data, size):
    compress = compressor(compression)
    expected = [*SAMPLE, *data.draw(events(346, 260, start=2 * 10**15, most=12))]
    recording = es.open(file(aedat4_header(compression) + aedat4(expected, compress)))
    assert (recording.format, recording.width, recording.height) == ("AEDAT 4.0", 346, 260)
    found, report = drained(recording, size)
    assert found == expected
    assert report.dropped == {}
    assert set(report.skipped) == {"packets of inertial measurements"}


@pytest.mark.parametrize("compression", [0, 1, 3])
def test_packets_larger_than_a_piece(file, compression):
    compress = compressor(compression)
    many = [(i, i % 346, i % 260, i % 2) for i in range(150_001)]
    recording = es.open(file(aedat4_header(compression) + aedat4_packet(many, 0, compress)))
    assert drained(recording, 1001)[0] == many


@pytest.mark.parametrize("compression", [0, 1, 3])
@pytest.mark.parametrize("size", [1, 3, 4, 5, 12])
def test_events_of_many_packets_are_gathered(file, compression, size):
    many = [(i, i % 346, i % 260, i % 2) for i in range(26)]
    recording = es.open(file(aedat4_header(compression) + aedat4(many, compressor(compression))))
    chunks = list(recording.chunks(size))
    assert [len(chunk) for chunk in chunks] == [size] * (26 // size) + [26 % size] * (26 % size > 0)
    assert [event for chunk in chunks for event in chunk.to_structured().tolist()] == many


@pytest.mark.parametrize("compression", [0, 1, 3])
def test_events_before_a_damaged_packet_are_given(file, compression):
    compress = compressor(compression)
    sound = aedat4_header(compression) + aedat4(SAMPLE, compress, 4)
    broken = aedat4_packet(SAMPLE[:3], 0, compress, count=5)
    recording = es.open(file(sound + broken + aedat4(SAMPLE, compress)))
    chunks = recording.chunks()
    assert next(chunks).to_structured().tolist() == SAMPLE + SAMPLE[:3]
    with pytest.raises(es.EventFileError, match="2 events fewer than it says") as caught:
        next(chunks)
    assert caught.value.offset == len(sound)


@settings(max_examples=300)
@given(st.data())
def test_the_compiled_reading_of_a_table_is_the_checked_one(data):
    """Whatever the bytes: it finds the same vector, or says that there is none to be trusted."""
    from eventsnn.io._record_kernels import aedat4_vector

    packet = bytearray(aedat4_packet(SAMPLE[:2])[8:])
    for _ in range(data.draw(st.integers(0, 4), "changes")):
        place = data.draw(st.integers(0, 40), "place")
        packet[place] = data.draw(st.sampled_from([0, 1, 2, 4, 5, 6, 7, 8, 127, 128, 255]), "value")
    packet = bytes(packet[: data.draw(st.integers(0, len(packet)) | st.just(len(packet)), "end")])
    try:
        expected = root(packet, b"EVTS", 4).vector(0)
    except es.EventFileError:
        expected = None
    assert aedat4_vector(np.frombuffer(packet, np.uint8)) == (expected or (-1, 0))


def test_the_table_of_the_file_is_no_packet(file):
    head, body = aedat4_header(), aedat4(SAMPLE)
    path = file(aedat4_header(end=len(head) + len(body)) + body + b"FTAB" * 9)
    assert drained(es.open(path))[0] == SAMPLE


@pytest.mark.parametrize("compression", [1, 3])
def test_the_table_ends_packets_where_the_header_names_no_end(file, compression):
    """As it is while a file that grows is followed, until its writer closes it."""
    compress = compressor(compression)
    path = file(aedat4_header(compression) + aedat4(SAMPLE, compress) + compress(b"FTAB" * 9))
    found, report = drained(es.open(path))
    assert (found, report.dropped) == (SAMPLE, {})


def test_a_file_that_ends_before_its_table_is_cut(file):
    head, body = aedat4_header(), aedat4_packet(SAMPLE)
    found, report = drained(es.open(file(aedat4_header(end=len(head) + 2 * len(body)) + body)))
    assert (found, report.dropped) == (SAMPLE, {"packets that the end of the file cuts": 1})


def test_events_of_a_second_camera_are_counted(file):
    path = file(aedat4_header() + aedat4_packet(SAMPLE) + aedat4_packet(SAMPLE, 3) + aedat4_packet([]))
    found, report = drained(es.open(path))
    assert (found, report.skipped) == (SAMPLE, {"packets of other streams": 1})


@pytest.mark.parametrize(("compression", "package"), [(1, "lz4"), (3, "zstandard")])
def test_a_missing_package_is_named(file, monkeypatch, compression, package):
    for name in ("lz4", "lz4.frame", "zstandard"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(es.EventFileError, match=rf"needs the package {package} \(pip install eventsnn\[aedat4\]\)"):
        es.open(file(aedat4_header(compression)))
    assert drained(es.open(file(aedat4_header() + aedat4(SAMPLE))))[0] == SAMPLE


@pytest.mark.parametrize(
    ("content", "place", "message"),
    [
        (aedat4_header()[:16], 16, "ends within its header"),
        (aedat4_header()[:-1], len(aedat4_header()) - 1, "ends within its header"),
        (b"#!AER-DAT4.0\r\n" + b"\xff" * 9, 14, "header of at most 16777216 bytes, found 4294967295"),
        (aedat4_header().replace(b"IOHE", b"IOHA"), None, "expected b'IOHE', found b'IOHA'"),
        (aedat4_header(9), 14, "expected the compression 0 to 4, found 9"),
        (aedat4_header(0) + struct.pack("<ii", 0, -5), len(aedat4_header()), "a size of -5 bytes"),
        (aedat4_header(0) + struct.pack("<ii", 0, 9) + bytes(9), len(aedat4_header()), "expected b'EVTS'"),
        (aedat4_header() + aedat4_packet(SAMPLE, count=9), len(aedat4_header()), "3 events fewer than it says"),
        (aedat4_header() + aedat4_packet([], count=2**32 - 1), len(aedat4_header()), "more than it can"),
        (aedat4_header(end=20) + aedat4(SAMPLE), 14, "behind it, found 20"),
        (aedat4_header(end=len(aedat4_header()) + 20) + aedat4(SAMPLE), len(aedat4_header()), "where the header has"),
    ],
)
def test_what_cannot_be(file, content, place, message):
    path = file(content)
    with pytest.raises(es.EventFileError) as caught:
        drained(es.open(path))
    assert message in str(caught.value)
    assert (caught.value.path, caught.value.offset) == (path, place)


@pytest.mark.parametrize("compression", [1, 3])
def test_compressed_data_that_are_damaged(file, compression):
    compress = compressor(compression)
    head, body = aedat4_header(compression), bytearray(aedat4_packet(SAMPLE, 0, compress))
    for broken in (bytes(body[:8]) + b"xxxx" + bytes(body[12:]), struct.pack("<ii", 0, 20) + bytes(body[8:28])):
        with pytest.raises(es.EventFileError, match="a packet that cannot be read") as caught:
            drained(es.open(file(head + broken)))
        assert caught.value.offset == len(head)


@pytest.mark.parametrize("compression", [0, 1, 3])
def test_a_file_cut_anywhere(file, compression):
    compress = compressor(compression)
    head = aedat4_header(compression)
    content = head + aedat4(SAMPLE, compress, 2)
    for end in range(len(content)):
        try:
            found, report = drained(es.open(file(content[:end])), 7)
        except es.EventFileError:
            assert end < len(head)
            continue
        assert found == SAMPLE[: len(found)]
        assert set(report.dropped) <= {CUT_END, CUT_PACKET}


# ST-MNIST


def spikes_of(matrix):
    """Return what a reader should find in a matrix of 101 rows."""
    found = []
    for column in matrix.T:
        t = round(float(column[100]) * 1e6)
        found += [(t, k % 10, k // 10, int(column[k] > 0)) for k in range(100) if column[k]]
    return found


def mat_file(data, columns, kind=9, name="spiketrain", compress=True):
    variable = mat_variable(name, 101, columns, kind, data)
    if compress:
        packed = zlib.compress(variable)
        variable = struct.pack("<II", 15, len(packed)) + packed
    return MAT + variable


def test_a_recording_of_stmnist(data_path):
    path = data_path / "events" / "tonic" / "sample_stmnist.mat"
    recording = es.open(path)
    assert (recording.format, recording.sensor) == ("ST-MNIST", (10, 10))
    found, report = drained(recording, 1000)
    assert len(found) == 2346
    assert found == spikes_of(scipy.io.loadmat(path)["spiketrain"])
    assert (report.dropped, report.backward) == ({}, 0)


matrices = st.integers(0, 12).flatmap(
    lambda n: st.tuples(
        st.lists(st.sampled_from([-1, 0, 0, 0, 1]), min_size=100 * n, max_size=100 * n),
        st.lists(st.floats(-1e9, 1e9), min_size=n, max_size=n),
    )
)


@given(parts=matrices, size=st.integers(1, 40), compress=st.booleans())
def test_spikes_that_are_written_are_read(file, parts, size, compress):
    matrix = np.vstack([np.array(parts[0], float).reshape(100, -1), np.array(parts[1])[None]])
    stream = io.BytesIO()
    scipy.io.savemat(stream, {"other": np.arange(4), "spiketrain": matrix}, do_compression=compress)
    if matrix.size:
        assert drained(es.open(file(stream.getvalue())), size)[0] == spikes_of(matrix)
    assert drained(es.open(file(mat_file(matrix.T.tobytes(), matrix.shape[1], compress=compress))), size)[
        0
    ] == spikes_of(matrix)


def test_numbers_of_other_types(file):
    matrix = np.zeros((101, 3), np.int8)
    matrix[7], matrix[100] = [1, -1, 0], [0, 1, 2]
    assert drained(es.open(file(mat_file(matrix.T.tobytes(), 3, kind=1))))[0] == [(0, 7, 0, 1), (10**6, 7, 0, 0)]


def test_times_that_are_none_are_counted(file):
    matrix = np.zeros((101, 4))
    matrix[3], matrix[4, 0], matrix[100] = 1, np.nan, [np.nan, np.inf, 1e300, 0.25]
    found, report = drained(es.open(file(mat_file(matrix.T.tobytes(), 4))))
    assert found == [(250_000, 3, 0, 1)]
    assert report.dropped == {"events without a time that can be": 3}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (MAT[:-1], "expected a little-endian MATLAB 5 file"),
        (MAT[:-4] + b"\x01\x00MI", "expected a little-endian MATLAB 5 file"),
        (MAT, "of 101 rows, found none"),
        (mat_file(bytes(808), 1, name="other"), "found 'other'"),
        (mat_file(bytes(808), 2), "expected 101x2 numbers, found 808 bytes of kind 9"),
        (mat_file(bytes(808), 1, kind=18), "found 808 bytes of kind 18"),
        (MAT + struct.pack("<II", 3, 8) + bytes(8), "expected a matrix, found an element of kind 3"),
        (MAT + struct.pack("<II", 15, 99) + bytes(99), "cannot be decompressed"),
        (MAT + struct.pack("<II", 14, 99) + bytes(9), "found another element or the end"),
    ],
)
def test_matrices_that_cannot_be(file, content, message):
    path = file(content)
    with pytest.raises(es.EventFileError) as caught:
        drained(es.open(path))
    assert message in str(caught.value)
    assert caught.value.path == path
    assert 0 <= caught.value.offset <= len(content)


@pytest.mark.parametrize("compress", [False, True])
def test_spikes_cut_anywhere(file, compress):
    matrix = np.eye(101, 6)
    matrix[100] = range(6)
    content = mat_file(matrix.T.tobytes(), 6, compress=compress)
    for end in range(1, len(content), 1 if compress else 7):
        try:
            found, report = drained(es.open(file(content[:end])), 3)
        except es.EventFileError:
            continue
        assert found == spikes_of(matrix)[: len(found)]
        assert len(found) + report.dropped.get("columns that the end of the file cuts", 0) == 6


# Damage


def check_outcome(path, size):
    """A file gives events that lie on its sensor, or one error that names it."""
    error = None
    try:
        recording = es.open(path)
        for chunk in recording.chunks(size):
            assert 1 <= len(chunk) <= size
            assert {len(column) for column in (chunk.x, chunk.y, chunk.p)} == {len(chunk)}
            assert chunk.p.max() <= 1
            assert recording.sensor is None or chunk.x.max() < recording.width
    except es.EventFileError as caught:
        error = caught
    assert error is None or (error.path == path and str(path) in str(error))


@pytest.mark.parametrize("compression", [0, 1, 3, "mat", "zipped mat"])
@settings(max_examples=60)
@given(data=st.data(), size=st.integers(1, 100))
def test_damaged_files(file, compression, data, size):
    if isinstance(compression, int):
        content = bytearray(aedat4_header(compression) + aedat4(SAMPLE, compressor(compression), 2))
    else:
        content = bytearray(mat_file(np.eye(101, 6).T.tobytes(), 6, compress=compression == "zipped mat"))
    places = st.one_of(st.integers(0, 8 * len(content) - 1), st.integers(0, min(8 * len(content), 4000) - 1))
    for _ in range(data.draw(st.integers(0, 8), "flips")):
        place = data.draw(places, "bit")
        content[place // 8] ^= 1 << place % 8
    check_outcome(file(bytes(content[: data.draw(st.integers(0, len(content)), "end")])), size)
