"""Events in NumPy's files: every layout, and broken files."""

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from event_files import drained, events
from hypothesis import given, settings
from hypothesis import strategies as st

import eventsnn as es
from eventsnn.io import EVENT_DTYPE, EventFileError, open_arrays
from eventsnn.io.recording import OUTSIDE

SAMPLE = [(5, 1, 2, 0), (900, 345, 0, 1), (900, 0, 259, 1), (40_000, 9, 9, 0), (40_001, 9, 10, 1)]
NO_TIME = "events without a time that can be"


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def npz(save=np.savez, **arrays):
    stream = io.BytesIO()
    save(stream, **arrays)
    return stream.getvalue()


def structured(found, **fields):
    """Return an array whose fields (name=(letter, dtype)) are in the order given."""
    array = np.zeros(len(found), [(name, dtype) for name, (_, dtype) in fields.items()])
    for name, (letter, _) in fields.items():
        if letter in "txyp":
            array[name] = [event["txyp".index(letter)] for event in found]
    return array


def columns(found, order="txyp", dtype=np.int64):
    whole = np.array(found, np.int64).reshape(-1, 4)
    return np.stack([whole[:, "txyp".index(k)] for k in order], axis=1).astype(dtype)


def signed(found):
    table = columns(found)
    table[:, 3] = 2 * table[:, 3] - 1
    return table


LAYOUTS = {
    "tonic": lambda e: npy(structured(e, x=("x", "<i2"), y=("y", "<i2"), t=("t", "<i8"), p=("p", "?"))),
    "big-endian": lambda e: npy(structured(e, p=("p", ">i2"), t=("t", ">u8"), y=("y", ">u4"), x=("x", ">f4"))),
    "more fields": lambda e: npy(structured(
        e, z=("-", "S3"), t=("t", "i8"), X=("x", "u2"), on=("p", "u1"), y=("y", "u2"))),
    "seconds": lambda e: npy(structured(
        [(t / 1e6, *r) for t, *r in e], t=("t", "f8"), x=("x", "u2"), y=("y", "u2"), p=("p", "i1"))),
    "n-imagenet": lambda e: npz(np.savez_compressed, event_data=structured(
        e, x=("x", "u2"), y=("y", "u2"), t=("t", "i8"), p=("p", "?"))),
    "n-imagenet, other names": lambda e: npz(event_data=structured(
        e, x_pos=("x", "u2"), y_pos=("y", "u2"), timestamp=("t", "u4"), polarity=("p", "?"))),
    "spikingjelly": lambda e: npz(**dict(zip("txyp", columns(e).T, strict=True))),
    "columns of one number": lambda e: npz(np.savez_compressed, **{k: columns(e, k) for k in "pyxt"}),
    "evimo": lambda e: npy(columns(e)),
    "signed": lambda e: npy(signed(e)),
    "fortran": lambda e: npy(np.asfortranarray(columns(e))),
    "four rows": lambda e: npy(np.ascontiguousarray(columns(e).T)),
    "fortran in an archive": lambda e: npz(
        np.savez_compressed, events=np.asfortranarray(columns(e)), label=np.array(3)),
    "seconds of floats": lambda e: npy(columns(e, dtype=float) / [1e6, 1, 1, 1]),
}  # fmt: skip


@pytest.mark.parametrize("name", list(LAYOUTS))
@settings(max_examples=50)
@given(data=st.data(), size=st.integers(1, 40))
def test_what_is_written_is_read(file, name, data, size):
    expected = [*SAMPLE, *data.draw(events(346, 260, start=100_000))]
    recording = es.open(file(LAYOUTS[name](expected)))
    assert (recording.format, recording.sensor, recording.n_events) == ("NumPy", None, len(expected))
    found, report = drained(recording, size)
    assert found == expected
    assert (report.dropped, report.skipped) == ({}, {})


@pytest.mark.parametrize("order", ["xytp", "pyxt", "x_ytp"])
@pytest.mark.parametrize("arrange", [np.ascontiguousarray, np.asfortranarray, np.transpose])
def test_another_order_of_columns(file, order, arrange):
    expected = [*SAMPLE, (50_000, 3, 4, 0)]
    table = np.stack([columns(expected, k)[:, 0] if k != "_" else np.full(6, 77) for k in order], axis=1)
    path = file(npy(arrange(table)))
    assert drained(open_arrays(path, columns=order))[0] == expected


def test_es_imagenet(file):
    """Rows are y, x, t; brighter and darker events are apart."""
    brighter, darker = ([e for e in SAMPLE if e[3] == p] for p in (1, 0))
    content = npz(pos=columns(brighter, "yxt", np.uint16), neg=columns(darker, "yxt", np.uint16))
    found, report = drained(es.open(file(content)), 2)
    assert found == brighter + darker
    assert (report.backward, es.open(file(content)).n_events) == (2, 5)
    assert drained(open_arrays(file(content), columns="yxt", unit="ms"))[0][0] == (900_000, 345, 0, 1)


@pytest.mark.parametrize(("unit", "dtype", "expected"), [
    ("ns", "i8", 12), ("us", "i8", 12_345), ("ms", "u4", 12_345_000), ("s", "i4", 12_345_000_000), (None, "i4", 12_345),
    ("us", "f8", 12_345), ("ms", "f4", 12_345_000), (None, "f8", 12_345_000_000), ("ns", "f8", 12),
])  # fmt: skip
def test_units(file, unit, dtype, expected):
    path = file(npy(structured([(12_345, 1, 2, 1)], t=("t", dtype), x=("x", "u1"), y=("y", "u1"), p=("p", "?"))))
    assert drained(open_arrays(path, unit=unit))[0] == [(expected, 1, 2, 1)]


def test_what_cannot_be_an_event_is_counted(file):
    array = structured(SAMPLE, t=("t", "f8"), x=("x", "f8"), y=("y", "i8"), p=("p", "i1"))
    array["t"][:3], array["x"][3], array["y"][4] = [np.nan, np.inf, -1e30], np.nan, -1
    assert drained(open_arrays(file(npy(array)), unit="us"))[1].dropped == {NO_TIME: 3, OUTSIDE: 2}
    array = structured(SAMPLE, t=("t", "u8"), x=("x", "u8"), y=("y", "i8"), p=("p", "i1"))
    array["t"][0], array["x"][3] = 2**64 - 1, 2**64 - 1
    found, report = drained(es.open(file(npy(array))))
    assert (found, report.dropped) == ([*SAMPLE[1:3], SAMPLE[4]], {NO_TIME: 1, OUTSIDE: 1})


INTEGERS = ["i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", ">i2", ">i8"]


@settings(max_examples=200)
@given(data=st.data())
def test_integers_of_any_width(file, data):
    """What is no event is counted, whatever the types: a compiled loop must not take it for something else."""

    def value(dtype, letter):
        whole = np.iinfo(dtype)
        near = [-1, 0, 1] if letter == "p" else [0, 1, 127, 128, 32767, 32768, 65535, 65536, 2**62 - 1, 2**62, -(2**62)]
        return st.sampled_from(
            [v for v in (*near, -1, -(2**62) - 1, whole.min, whole.max) if whole.min <= v <= whole.max]
        )

    types = {k: data.draw(st.sampled_from(INTEGERS), k) for k in "txyp"}
    places = data.draw(st.permutations("txyp_"), "order")
    rows = data.draw(st.lists(st.tuples(*(value(types[k], k) for k in "txyp")), min_size=1, max_size=6))
    if not data.draw(st.booleans(), "strange polarities"):
        rows = [(t, x, y, p if p in (-1, 0, 1) else 1) for t, x, y, p in rows]
    array = np.zeros(len(rows), [(k, types.get(k, "S3")) for k in places])
    for k, column in zip("txyp", zip(*rows, strict=True), strict=True):
        array[k] = column
    recording = es.open(file(npy(array)))
    if not {p for *_, p in rows} <= {-1, 0, 1}:
        with pytest.raises(EventFileError, match="expected polarities of -1, 0 or 1, found"):
            drained(recording)
        return
    timely = [row for row in rows if -(2**62) <= row[0] < 2**62]
    inside = [(t, x, y, int(p > 0)) for t, x, y, p in timely if 0 <= x < 65536 and 0 <= y < 65536]
    counts = {NO_TIME: len(rows) - len(timely), OUTSIDE: len(timely) - len(inside)}
    found, report = drained(recording, data.draw(st.integers(1, 7), "size"))
    assert (found, report.dropped) == (inside, {name: count for name, count in counts.items() if count})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(columns(SAMPLE * 10, "xytp")), "expected times in the first column"),
        (npy(columns(SAMPLE, "xtyp", float) / [1, 1e6, 1, 1]), "expected whole numbers in column x, found 5e-06"),
        (npy(np.zeros((5, 3))), "expected fields t, x, y, p"),
        (npy(np.zeros(5)), "found float64 of shape (5,)"),
        (npy(np.zeros(3, [("t", "i8"), ("x", "i8"), ("y", "i8")])), "expected fields t, x, y, p"),
        (npy(np.zeros(3, [("t", "i8", 2), ("x", "i8"), ("y", "i8"), ("p", "i8")])), "expected fields t, x, y, p"),
        (npy(np.zeros(3, [("t", "i8"), ("ts", "i8"), ("x", "i8"), ("y", "i8"), ("p", "i8")])), "expected fields t, x"),
        (npz(a=np.zeros((5, 4)), b=np.zeros((5, 4))), "found 'a': float64 (5, 4); 'b': float64 (5, 4)"),
        (npz(t=np.zeros(3), x=np.zeros(3), y=np.zeros(3), p=np.zeros(4)), "found 't': float64 (3,); 'x'"),
        (npz(images=np.zeros((2, 9, 9), "u1")), "found 'images': uint8 (2, 9, 9)"),
        (b"PK\x03\x04" + npz(), "found no arrays"),
        (npy(np.array([{"t": 1}], object)), "found object of shape (1,)"),
        (b"PK\x03\x04", "not a readable file of NumPy's: File is not a zip file"),
        (b"\x93NUMPY\x07\x00", "version (7, 0)"),
        (b"\x93NUMPY\x01\x00\x10\x00" + b"(" * 16, "not a readable file of NumPy's"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b"{", "not a readable file of NumPy's"),
        (npy(columns(SAMPLE)).replace(b"(5, 4)", b"(-5,4)"), "of a size that cannot be"),
    ],
)
def test_arrays_that_cannot_be(file, content, message):
    path = file(content)
    with pytest.raises(es.EventFileError) as caught:
        drained(es.open(path))
    assert message in str(caught.value)
    assert caught.value.path == path


@pytest.mark.parametrize("options", [{"columns": "txy_"}, {"columns": "txypt"}, {"columns": "abc"}, {"unit": "h"}])
def test_options_that_cannot_be(file, options):
    with pytest.raises(ValueError, match=r"(columns|unit) expects .* got"):
        open_arrays(file(npy(columns(SAMPLE))), **options)


def test_an_array_that_claims_terabytes(file):
    path = file(npy(columns(SAMPLE)).replace(b"(5, 4), }" + b" " * 9, b"(5000000000000, 4)"[:18].ljust(9)))
    path.write_bytes(npy(columns(SAMPLE)).replace(b"(5, 4), }          ", b"(5000000000, 4), } "))
    recording = es.open(path)
    assert recording.n_events == 5_000_000_000
    tracemalloc.start()
    found, report = drained(recording)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == SAMPLE
    assert report.dropped == {"rows that the end of the file cuts": 5_000_000_000 - 5}
    assert peak < 8_000_000


def bomb(declared, content):
    """Return an archive whose directory declares another size than there is."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("events.npy", content)
    whole = bytearray(stream.getvalue())
    at = whole.rindex(b"PK\x01\x02") + 24
    whole[at : at + 4] = struct.pack("<I", declared)
    return bytes(whole)


def test_archives_that_claim_more_than_they_have(file):
    big = npy(columns(SAMPLE)).replace(b"(5, 4), }          ", b"(5000000000, 4), } ")
    for content, message in [
        (bomb(4_000_000_000, big), "declares 4000000000 bytes, more than the file can hold"),
        (bomb(len(big), big), "declares shape (5000000000, 4), more than the 288 bytes that it has"),
    ]:
        with pytest.raises(es.EventFileError) as caught:
            es.open(file(content))
        assert message in str(caught.value)


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_files_cut_anywhere(file, name):
    content = LAYOUTS[name](SAMPLE)
    for end in range(1, len(content), 3):
        try:
            found, report = drained(es.open(file(content[:end])), 2)
        except es.EventFileError:
            continue
        assert found == SAMPLE[: len(found)]
        assert len(found) + report.dropped["rows that the end of the file cuts"] == len(SAMPLE)


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name not in ("more fields", "signed")])
@settings(max_examples=60)
@given(data=st.data(), size=st.integers(1, 100))
def test_damaged_files(file, name, data, size):
    content = bytearray(LAYOUTS[name](SAMPLE))
    for _ in range(data.draw(st.integers(0, 6), "flips")):
        place = data.draw(st.integers(0, 8 * len(content) - 1), "bit")
        content[place // 8] ^= 1 << place % 8
    path, error = file(bytes(content[: data.draw(st.integers(0, len(content)), "end")])), None
    try:
        for chunk in es.open(path).chunks(size):
            assert 1 <= len(chunk) <= size
            assert {len(column) for column in (chunk.x, chunk.y, chunk.p)} == {len(chunk)}
            assert chunk.p.max() <= 1
    except es.EventFileError as caught:
        error = caught
    assert error is None or (error.path == path and str(path) in str(error))


@pytest.mark.parametrize("names", ["txyp", ("ts", "x", "y", "pol")])
def test_events_as_read_returns_them(tmp_path, names):
    """They are read to where they are wanted; times that cannot be, and rows that are cut, are left out."""
    n = 70_000
    events = np.zeros(n, EVENT_DTYPE)
    events["t"], events["x"], events["y"], events["p"] = np.arange(n), np.arange(n) % 999, 65535, np.arange(n) % 2
    events["t"][[40_000, 40_001]] = [1 << 62, -(1 << 63)]
    path = tmp_path / "events.npy"
    named = events.view(np.dtype([(name, of) for name, (_, of) in zip(names, EVENT_DTYPE.descr, strict=True)]))
    np.save(path, named)
    path.write_bytes(path.read_bytes()[: -13 - 5])
    recording = es.open(path)
    lost = "69,996 events; lost (?=.*2 events without a time that can be)(?=.*8 bytes after)(?=.*2 rows that)"
    with pytest.warns(RuntimeWarning, match=lost):
        found = recording.read()
    np.testing.assert_array_equal(found, np.delete(events, [40_000, 40_001, n - 2, n - 1]))
    with pytest.warns(RuntimeWarning, match=lost):
        np.testing.assert_array_equal(recording.columns().to_structured(), found)
    events["p"][50_000] = 2
    np.save(path, events)
    with pytest.raises(EventFileError, match="polarities of -1, 0 or 1, found 2"):
        es.open(path).read()
