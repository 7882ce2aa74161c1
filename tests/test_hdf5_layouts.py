"""Recordings in HDF5 as others lay them out: columns exactly, windows of time, and one clear error for the rest."""

import bz2
import pickle
import struct
import sys
import warnings
import zlib
from itertools import pairwise

import h5py
import numpy as np
import pytest
import zstandard

import eventsnn as es
from eventsnn.io._hdf5_lengths import stated_length
from eventsnn.io._hdf5_table import NO_POLARITY
from eventsnn.io.recording import OUTSIDE

N = 1234


def some_events(n=N, seed=0, origin=5_000, disorder=0):
    """Times (some equal), columns, rows and polarities."""
    rng = np.random.default_rng(seed)
    t = origin + np.cumsum(rng.integers(0, 60, n)) - rng.integers(0, disorder + 1, n)
    return t, rng.integers(0, 640, n), rng.integers(0, 480, n), rng.integers(0, 2, n)


def put(file, name, values, dtype, chunks=97, **options):
    values = np.asarray(values).astype(dtype)
    if isinstance(chunks, int):
        chunks = (min(chunks, len(values)), *values.shape[1:])
    if chunks is None or not len(values):
        chunks = None
        options = {}
    file.create_dataset(name, data=values, chunks=chunks, **options)


def dsec(file, t, x, y, p, chunks=97, t_dtype="u4", p_dtype="u1", offset=None, index="u8", **options):
    put(file, "events/t", t, t_dtype, chunks, **options)
    put(file, "events/x", x, "u2", chunks and 100, **options)
    put(file, "events/y", y, "u2", chunks and 1234, **options)
    put(file, "events/p", p, p_dtype, chunks, **options)
    if offset is not None:
        file["t_offset"] = np.int64(offset)
    if index is not None:
        put(file, "ms_to_idx", np.searchsorted(t, np.arange(max(t, default=0) // 1000 + 1) * 1000), index, 7)


def monash(file, t, x, y, p, names=("ts", "xs", "ys", "ps")):
    kinds = ("f8", "i2", "i2", "?")
    for name, values, kind in zip(names, (t / 1e6, x, y, p), kinds, strict=True):
        put(file, f"events/{name}", values, kind)
    file.attrs["sensor_resolution"] = [480, 640, 1]


def v2e(file, t, x, y, p, **options):
    put(file, "events", np.stack([t, x, y, p], axis=1), "u4", **({"compression": "gzip"} | options))


def mvsec(file, t, x, y, p, side="left"):
    put(file, f"davis/{side}/events", np.stack([x, y, 1.5e9 + t / 1e6, 2 * p - 1], axis=1), "f8", chunks=None)


def m3ed(file, t, x, y, p, side="left"):
    for name, values, kind in (("x", x, "u2"), ("y", y, "u2"), ("t", t, "i8"), ("p", p, "i1")):
        put(file, f"prophesee/{side}/{name}", values, kind, 400, compression="lzf", maxshape=(None,))
    put(file, f"prophesee/{side}/ms_map_idx", np.searchsorted(t, np.arange(max(t, default=0) // 1000 + 1) * 1000), "u8")


def tonic_cache(file, t, x, y, p):
    record = np.empty(len(t), [("x", "i2"), ("y", "i2"), ("t", "i8"), ("p", "?")])
    record["x"], record["y"], record["t"], record["p"] = x, y, t, p
    put(file, "data/0", record, record.dtype, compression="lzf")
    file["target/0"] = 7


def metavision(file, t, x, y, p, **options):
    names, places = ["x", "y", "p", "t"], [0, 2, 4, 8]
    kinds = {"names": names, "formats": ["<u2", "<u2", "<i2", "<i8"], "offsets": places, "itemsize": 16}
    record = np.zeros(len(t), kinds)
    record["x"], record["y"], record["t"], record["p"] = x, y, t, p
    put(file, "CD/events", record, record.dtype, 500, **options)
    file.attrs["geometry"] = "640x480"


LAYOUTS = {
    "DSEC": (dsec, "DSEC HDF5", 0),
    "DSEC gzip": (lambda f, *e: dsec(f, *e, compression="gzip", shuffle=True, fletcher32=True), "DSEC HDF5", 0),
    "DSEC fletcher32 lzf": (lambda f, *e: dsec(f, *e, compression="lzf", fletcher32=True), "DSEC HDF5", 0),
    "DSEC whole": (lambda f, *e: dsec(f, *e, chunks=None), "DSEC HDF5", 0),
    "DSEC big-endian": (lambda f, *e: dsec(f, *e, t_dtype=">u8", p_dtype=">i2", index="i4"), "DSEC HDF5", 0),
    "DSEC float": (lambda f, *e: dsec(f, *e, t_dtype="f8", index=None), "DSEC HDF5", 0),
    "DSEC offset": (lambda f, *e: dsec(f, *e, offset=55_000_000_123), "DSEC HDF5", 55_000_000_123),
    "DSEC offset below 0": (lambda f, *e: dsec(f, *e, offset=-77_777, index=None), "DSEC HDF5", -77_777),
    "DSEC booleans": (lambda f, *e: dsec(f, *e, p_dtype="?"), "DSEC HDF5", 0),
    "DSEC signs": (lambda f, t, x, y, p: dsec(f, t, x, y, 2 * p - 1, p_dtype="i1"), "DSEC HDF5", 0),
    "DSEC signs unsigned": (lambda f, t, x, y, p: dsec(f, t, x, y, 255 + 2 * p, p_dtype="u1"), "DSEC HDF5", 0),
    "Monash": (monash, "Monash HDF5", 0),
    "Monash, old": (lambda f, *e: monash(f, *e, names=("ts", "x", "y", "p")), "Monash HDF5", 0),
    "v2e": (v2e, "v2e HDF5", 0),
    "v2e in tiles": (lambda f, *e: v2e(f, *e, chunks=(101, 3)), "v2e HDF5", 0),
    "MVSEC": (mvsec, "MVSEC HDF5", 1_500_000_000_000_000),
    "M3ED": (m3ed, "M3ED HDF5", 0),
    "tonic cache": (tonic_cache, "tonic cache", 0),
    "Metavision": (metavision, "Metavision HDF5", 0),
    "Metavision gzip": (lambda f, *e: metavision(f, *e, compression="gzip", shuffle=True), "Metavision HDF5", 0),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "some.h5"


def write(path, layout, *events, **options):
    with h5py.File(path, "w") as file:
        layout(file, *(events or some_events()), **options)
    return es.open(path)


def read(recording, size=100_000):
    """All events, as from chunks of a size."""
    chunks = [c.to_structured() for c in recording.chunks(size)]
    return np.concatenate(chunks) if chunks else np.empty(0, es.io.EVENT_DTYPE)


@pytest.mark.parametrize(("layout", "name", "offset"), LAYOUTS.values(), ids=LAYOUTS)
def test_columns_are_exact(path, layout, name, offset):
    t, x, y, p = some_events()
    if name == "MVSEC HDF5":
        x, y = x // 2, y // 2
    recording = write(path, layout, t, x, y, p)
    assert (recording.format, recording.n_events) == (name, N)
    for size in (1, 89, N, 100_000):
        got = read(recording, size)
        assert (got["t"] == t + offset).all()
        assert (got["x"] == x).all()
        assert (got["y"] == y).all()
        assert (got["p"] == p).all()
    assert (pickle.loads(pickle.dumps(recording)).read() == got).all()


@pytest.mark.parametrize("disorder", [0, 5_000])
@pytest.mark.parametrize(("layout", "name", "offset"), LAYOUTS.values(), ids=LAYOUTS)
def test_windows_hold_what_lies_in_them(path, layout, name, offset, disorder):
    t, x, y, p = some_events(disorder=disorder)
    x, y = x // 2, y // 2
    recording = write(path, layout, t, x, y, p)
    when = t + offset
    low, high = int(when.min()), int(when.max())
    cuts = [low, low + 1, low + 999, low + 1000, low + 12_345, low + 20_000, high, high + 1, high + 99_999]
    for start, stop in [(low - 99_999, low), *pairwise(cuts), (low, high + 1), (high, low)]:
        inside = (when >= start) & (when < stop)
        got = read(recording.between(start, stop))
        assert (got["t"] == when[inside]).all()
        assert (got["x"] == x[inside]).all()


def test_a_window_reads_little(path):
    recording = write(path, dsec)
    with h5py.File(path, "r+") as file:  # the first chunk of the rows cannot be read any more
        data = file["events/t"]
        assert data.chunks == (97,)
        del file["events/p"]
        put(file, "events/p", np.zeros(N), "u1", 97, compression="gzip")
        file["events/p"].id.write_direct_chunk((0,), b"nonsense")
    middle = int(some_events()[0][N // 2])
    assert len(recording.between(middle, middle + 1000).read())
    with pytest.raises(es.EventFileError, match=r"some.h5: events/p: the chunk at row 0 is damaged"):
        recording.read()


@pytest.mark.parametrize("index", [np.full(30, 10**9), np.zeros(30), np.full(30, -5), np.full(2, N), np.zeros(0)])
def test_an_index_that_is_wrong_is_not_trusted(path, index):
    t = some_events()[0]
    recording = write(path, dsec, index=None)
    with h5py.File(path, "r+") as file:
        file["ms_to_idx"] = index.astype("i8")
    recording = es.open(path)
    for start in (0, int(t[0]), int(t[700]), int(t[-1]), int(t[-1]) + 10**6):
        inside = (t >= start) & (t < start + 3000)
        assert len(read(recording.between(start, start + 3000))) == inside.sum()


def test_recordings_without_an_index_are_cut_too(tmp_path):
    chunk = es.io.Chunk(
        *(np.array(v, d) for v, d in (([9, 3, 5], "i8"), ([1, 2, 3], "u2"), ([0] * 3, "u2"), ([0] * 3, "u1")))
    )
    recording = es.Recording(tmp_path, "a format", None, lambda size, tally: iter([chunk, chunk]))
    assert recording.between(4, 9).read()["t"].tolist() == [5, 5]
    assert recording.between(4, 10).between(9, 99).read()["t"].tolist() == [9, 9]


@pytest.mark.parametrize(("layout", "name", "offset"), LAYOUTS.values(), ids=LAYOUTS)
def test_an_empty_recording(path, layout, name, offset):
    recording = write(path, layout, *(np.zeros(0, int),) * 4)
    assert (len(recording.read()), len(recording.between(0, 10).read())) == (0, 0)


def test_an_empty_recording_with_room_for_more(path):
    with h5py.File(path, "w") as file:
        for name in "txyp":
            file.create_dataset(f"events/{name}", (0,), "i8", maxshape=(None,), chunks=(10,), compression="gzip")
    assert len(es.open(path).read()) == 0


def test_sensors(path):
    assert write(path, dsec).sensor is None
    with h5py.File(path, "r+") as file:
        file["events/height"], file["events/width"] = 480, 640
    assert es.open(path).sensor == (640, 480)
    with h5py.File(path, "r+") as file:
        del file["events/height"], file["events/width"]
        file.attrs["width"], file.attrs["height"] = 640, np.uint16(480)
    assert (es.open(path).sensor, es.open(path).metadata["width"]) == ((640, 480), "640")
    assert write(path, monash).sensor == (640, 480)
    assert write(path, mvsec).sensor == (346, 260)
    assert write(path, metavision).sensor == (640, 480)
    with h5py.File(path, "r+") as file:
        del file.attrs["geometry"]
        file.attrs["format"] = "ECF;height=720;width=1280"
    assert es.open(path).sensor == (1280, 720)


def test_sides(path):
    left, right = some_events(seed=1), some_events(seed=2)
    for layout in (m3ed, mvsec):
        with h5py.File(path, "w") as file:
            layout(file, *right, side="right")
        assert es.open(path).metadata["side"] == "right"
        with pytest.raises(es.EventFileError, match=r"has no side 'left' in .* only right"):
            es.open(path, side="left")
        with h5py.File(path, "r+") as file:
            layout(file, *left, side="left")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # MVSEC's sensor is smaller
            events = [es.open(path, side=side).between(-1, 2**62).read() for side in (None, "left", "right")]
        assert (events[0] == events[1]).all()
        assert not np.array_equal(events[1], events[2])
    write(path, dsec)
    with pytest.raises(es.EventFileError, match="no two cameras to choose side='left' from"):
        es.open(path, side="left")
    (path.parent / "cut.raw").write_bytes(b"% evt 2.0\n")
    with pytest.raises(ValueError, match="takes no side='left'"):
        es.open(path.parent / "cut.raw", side="left")


def test_a_time_shift_is_subtracted_as_prophesee_does(path):
    write(path, metavision)
    with h5py.File(path, "r+") as file:
        file.attrs["time_shift"] = "4000"
    recording = es.open(path)
    assert (recording.read()["t"] == some_events()[0] - 4000).all()
    assert recording.metadata["time_shift"] == "4000"
    with h5py.File(path, "r+") as file:
        file.attrs["time_shift"] = "-4000"
    assert (es.open(path).read()["t"] == some_events()[0]).all()


def test_seconds_are_rounded_to_the_nearest_microsecond(path):
    seconds = np.array([0.0000004, 0.0000006, 0.1 + 0.2, 1.0000015, 1500000000.123456])
    rest = (np.zeros(5, int),) * 3
    recording = write(path, lambda f, t, *e: monash(f, t * 1e6, *e), seconds, *rest)
    assert recording.read()["t"].tolist() == [0, 1, 300_000, 1_000_002, 1_500_000_000_123_456]


def test_events_that_cannot_be_are_left_out_and_counted(path):
    t, x, y, p = (
        np.arange(6),
        np.array([1, -1, 70_000, 2, 3, 4]),
        np.array([1, 1, 1, -7, 3, 3]),
        np.array([0, 1, 1, 1, 2, -1]),
    )
    with h5py.File(path, "w") as file:
        for name, values in (("t", t), ("x", x), ("y", y), ("p", p)):
            put(file, f"events/{name}", values, "i4", 2)
    stream = es.open(path).chunks()
    assert [event for chunk in stream for event in chunk.to_structured().tolist()] == [(0, 1, 1, 0), (5, 4, 3, 0)]
    assert stream.report.dropped == {OUTSIDE: 3, NO_POLARITY: 1}


def replaced(name, values, **options):
    def change(file):
        if name in file:
            del file[name]
        file.create_dataset(name, data=values, **options)

    return change


def linked(link):
    def change(file):
        file.move("events/x", "elsewhere")
        file["events/x"] = link

    return change


def external_storage(file):
    del file["events/x"]
    file.create_dataset("events/x", (N,), "u2", external=[("secret.txt", 0, 2 * N)])


def virtual(file):
    del file["events/x"]
    layout = h5py.VirtualLayout((N,), "u2")
    layout[:] = h5py.VirtualSource("other.h5", "events/x", (N,))
    file.create_virtual_dataset("events/x", layout)


def bomb(file):
    """32 GB in a few kB: chunks that are not there."""
    for name in "txyp":
        del file[f"events/{name}"]
        file.create_dataset(f"events/{name}", (2**33,), "u1", chunks=(2**20,), compression="gzip")


def full_bomb(file):
    """The same with all chunks there, of zeros."""
    for name in "txyp":
        del file[f"events/{name}"]
        data = file.create_dataset(f"events/{name}", (2**24,), "i8", chunks=(2**22,), compression="gzip", shuffle=True)
        for row in range(0, 2**24, 2**22):
            data.id.write_direct_chunk((row,), b"x\x9cc\0\1")


def chunk_of(name, data, mask=0, **options):
    """A chunk that holds other bytes than it should."""

    def change(file):
        values = file[f"events/{name}"][:]
        replaced(f"events/{name}", values, chunks=(500,), **options)(file)
        file[f"events/{name}"].id.write_direct_chunk((500,), data, filter_mask=mask)

    return change


def odd_numbers(file):
    """Numbers of 12 bits in 16."""
    del file["events/x"]
    kind = h5py.h5t.STD_U16LE.copy()
    kind.set_precision(12)
    h5py.h5d.create(file["events"].id, b"x", kind, h5py.h5s.create_simple((N,)))


def hidden_filter(number):
    """A dataset compressed by a filter that is not there."""

    def change(file):
        del file["events/x"]
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((N,))
        plist.set_filter(number, h5py.h5z.FLAG_OPTIONAL)
        data = h5py.h5d.create(file["events"].id, b"x", h5py.h5t.STD_U16LE, h5py.h5s.create_simple((N,)), plist)
        data.write_direct_chunk((0,), b"12345678")

    return change


def repeated_filter(file):
    del file["events/x"]
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((N,))
    plist.set_deflate()
    plist.set_deflate()
    h5py.h5d.create(file["events"].id, b"x", h5py.h5t.STD_U16LE, h5py.h5s.create_simple((N,)), plist)


VIOLATIONS = {
    "soft link": (linked(h5py.SoftLink("/elsewhere")), "events/x is a soft or external link"),
    "external link": (linked(h5py.ExternalLink("other.h5", "/events/x")), "events/x is a soft or external link"),
    "external storage": (external_storage, "events/x keeps its data in another file"),
    "virtual": (virtual, "events/x keeps its data in another file"),
    "offset elsewhere": (
        lambda f: f.__setitem__("t_offset", h5py.ExternalLink("other.h5", "/t")),
        "t_offset is a soft or external link",
    ),
    "index elsewhere": (
        lambda f: (f.__delitem__("ms_to_idx"), f.__setitem__("ms_to_idx", h5py.SoftLink("/x"))),
        "ms_to_idx is a soft or external link",
    ),
    "text": (replaced("events/x", ["a"] * N, dtype=h5py.string_dtype()), "events/x expects numbers, found object"),
    "references": (
        lambda f: replaced("events/x", [f.ref] * N, dtype=h5py.ref_dtype)(f),
        "events/x expects numbers, found object",
    ),
    "ragged": (
        lambda f: (f.__delitem__("events/x"), f.create_dataset("events/x", (N,), h5py.vlen_dtype("u2"))),
        "events/x expects numbers, found object",
    ),
    "complex": (replaced("events/x", np.zeros(N, "c16")), "events/x expects numbers, found complex128"),
    "12 bits": (odd_numbers, "events/x expects numbers of a usual type"),
    "two dimensions": (replaced("events/x", np.zeros((N, 1))), r"events/x expects shape \(n,\), found \(1234, 1\)"),
    "three dimensions": (replaced("events/x", np.zeros((N, 1, 1))), "events/x expects one or two dimensions"),
    "scalar": (replaced("events/x", 3), r"events/x expects one or two dimensions, found shape \(\)"),
    "nothing": (lambda f: replaced("events/x", h5py.Empty("u2"))(f), "events/x expects one or two dimensions"),
    "short": (replaced("events/x", np.zeros(N - 1, "u2")), "one length, found events/t 1234, events/x 1233,"),
    "a group": (lambda f: (f.__delitem__("events/x"), f.create_group("events/x")), "events/x expects a dataset"),
    "offset of many": (replaced("t_offset", [1, 2]), r"t_offset expects one number, found shape \(2,\)"),
    "offset too large": (replaced("t_offset", np.uint64(2**63)), "t_offset expects a whole number"),
    "offset of no number": (replaced("t_offset", np.nan), "t_offset expects a whole number"),
    "offset of text": (replaced("t_offset", "7"), "t_offset expects a number, found object"),
    "index of fractions": (replaced("ms_to_idx", [0.5]), "ms_to_idx expects rows, found float64"),
    "a sensor of none": (
        lambda f: f.attrs.update(width=0, height=5),
        r"width and height expect 1 to 65536, found \(0, 5\)",
    ),
    "bomb": (bomb, "events/t expects 8192 stored chunks, found 0"),
    "bomb of chunks": (full_bomb, "declares 536870912 bytes in 80 stored"),
    "hole": (
        lambda f: (f.__delitem__("events/x"), f.create_dataset("events/x", (N,), "u2", chunks=(100,))),
        "events/x expects 13 stored chunks, found 0",
    ),
    "never written": (
        lambda f: (f.__delitem__("events/x"), f.create_dataset("events/x", (N,), "u2")),
        "events/x declares 2468 bytes, found 0 stored",
    ),
    "filter": (hidden_filter(32123), "events/x is compressed with HDF5 filter 32123, which is not known here"),
    "ecf": (hidden_filter(36559), "events/x is compressed with HDF5 filter 36559, which is not known here"),
    "repeated filter": (
        repeated_filter,
        r"events/x expects each filter at most once, found the filter ids \[1, 1\]",
    ),
    "seconds for microseconds": (
        replaced("events/t", np.arange(N) / 1e3),
        "events/t expects microseconds, .* seconds, it",
    ),
    # only reading finds these
    "short chunk": (chunk_of("x", b"ab", 1, compression="gzip"), "row 500 expects 1000 bytes, found 2"),
    "short gzip": (
        chunk_of("x", b"x\x9cc\0\0\0\1\0\1", compression="gzip"),
        "chunk at row 500 expects 1000 bytes, found 1",
    ),
    "long gzip": (chunk_of("x", zlib.compress(bytes(10**6)), compression="gzip"), "row 500 is damaged"),
    "cut gzip": (chunk_of("x", zlib.compress(bytes(1000))[:-1], compression="gzip"), "row 500 is damaged"),
    "no gzip": (chunk_of("x", b"nonsense", compression="gzip"), "row 500 is damaged"),
    "short lzf": (chunk_of("x", b"\2abc", compression="lzf"), "row 500 expects 1000 bytes, found 3"),
    "long lzf": (chunk_of("x", b"\0a" + b"\xe0\xff\0" * 9, compression="lzf"), "row 500 is damaged"),
    "early lzf": (chunk_of("x", b"\x20\0\0", compression="lzf"), "row 500 is damaged"),
    "cut lzf": (chunk_of("x", b"\5abc", compression="lzf"), "row 500 is damaged"),
    "checksum": (chunk_of("x", bytes(1000) + b"abcd", fletcher32=True), "row 500 is damaged"),
    "short checksum": (chunk_of("x", b"abc", fletcher32=True), "row 500 is damaged"),
    "no number": (replaced("events/t", np.full(N, np.nan)), "expected times, found nan to nan"),
    "infinite": (replaced("events/t", np.full(N, -np.inf)), "expected times, found -inf"),
    "beyond int64": (replaced("events/t", np.full(N, 2**64 - 1, "u8")), "expected times, found 18446744073709551615"),
    "fractions": (replaced("events/x", np.full(N, 3.25)), "expected whole columns and rows, found 3.25"),
    "x of no number": (replaced("events/x", np.full(N, np.nan)), "expected whole columns and rows, found nan"),
}


@pytest.mark.parametrize(("violate", "message"), VIOLATIONS.values(), ids=VIOLATIONS)
def test_a_violation_is_one_error(path, violate, message):
    write(path, dsec)
    with h5py.File(path, "r+") as file:
        violate(file)
    with pytest.raises(es.EventFileError, match=message) as caught:
        es.open(path).read()
    assert str(caught.value).startswith(f"{path}: ")


def test_attributes_of_other_types_are_passed_over(path):
    write(path, dsec)
    with h5py.File(path, "r+") as file:
        ragged = np.empty(1, h5py.vlen_dtype("i4"))
        ragged[0] = np.arange(3, dtype="i4")
        file.attrs.create("ragged", ragged)
        file.attrs["reference"] = file["events"].ref
        file.attrs["text"], file.attrs["long"] = "night", np.arange(17)
    assert es.open(path).metadata == {"text": "night"}


def test_secrets_are_not_read(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.txt").write_bytes(b"\1" * 2 * N)
    write(path, dsec)
    with h5py.File(path, "r+") as file:
        external_storage(file)
        assert file["events/x"][0] == 257  # the attack works on a reader without the check
    with pytest.raises(es.EventFileError, match="another file"):
        es.open(path)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (16, bytes(16), "object 0 of a heap comes once too often"),
        (16 + 8, b"\xff" * 8, "object 1 of a heap goes beyond its end"),
        (4, b"\7", "expected a collection of a heap"),
        (-1, b"\xff" * 4, "expects at most 16777216 bytes, says 4294967295"),
    ],
)
def test_texts_of_any_length_in_a_damaged_heap(path, place, value, message):
    """The HDF5 library goes round forever in some, and takes 4 GB for others."""
    assert write(path, metavision).sensor == (640, 480)
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    begin = heap + place if place >= 0 else content.rindex(struct.pack("<Q", heap)) - 4
    content[begin : begin + len(value)] = value
    path.write_bytes(content)
    with pytest.raises(es.EventFileError, match=message):
        es.open(path)


PLUGINS = {32001: "Blosc", 32015: "Zstandard", 32004: "LZ4", 32008: "Bitshuffle", 32026: "Blosc2"}


@pytest.mark.parametrize("number", PLUGINS)
def test_a_filter_that_is_missing_is_named_with_its_package(path, number, monkeypatch):
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    if h5py.h5z.filter_avail(number):
        pytest.skip("the filter is there")
    write(path, dsec)
    with h5py.File(path, "r+") as file:
        hidden_filter(number)(file)
    with pytest.raises(es.EventFileError, match=rf"{PLUGINS[number]} \(HDF5 filter {number}\).*pip install hdf5plugin"):
        es.open(path)


def test_bzip2_needs_no_plug_in(path):
    """As its plug-in stores it: whole streams, whose length nobody states."""
    some = some_events()
    write(path, dsec, *some)
    wanted = es.open(path).read()
    for cut, inflated, message in (
        (None, 0, None),
        (9, 0, "is damaged"),
        (None, 5, "is damaged"),
        (None, -5, "expects"),
    ):
        with h5py.File(path, "r+") as file:
            del file["events/x"]
            plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plist.set_chunk((N,))
            plist.set_filter(307, h5py.h5z.FLAG_OPTIONAL, (9,))
            item = h5py.h5d.create(file["events"].id, b"x", h5py.h5t.STD_U16LE, h5py.h5s.create_simple((N,)), plist)
            raw = some[1].astype("<u2").tobytes()
            raw = raw[:inflated] if inflated < 0 else raw + bytes(inflated)
            item.write_direct_chunk((0,), bz2.compress(raw)[:cut])
        if message is None:
            assert (es.open(path).read() == wanted).all()
            continue
        with pytest.raises(es.EventFileError, match=f"events/x: the chunk at row 0 {message}"):
            es.open(path).read()


def test_lengths_that_chunks_of_plug_ins_state():
    """Of Zstandard as the package writes it, of Blosc2 as its plug-in did."""
    for length in (3, 300, 70_000):
        data = zstandard.ZstdCompressor().compress(bytes(length))
        assert stated_length(32015, data) == length
    unknown = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(3000))
    assert stated_length(32015, unknown) is None
    assert stated_length(32015, b"\x28\xb5\x2f\xfd\xa0\x01") is None
    frame = blosc2_frame(b"compressed data of any kind", 4000)
    assert stated_length(32026, frame) == 4000
    assert stated_length(32026, blosc2_frame(b"", 4000, place=-(1 << 63))) == 4000  # all bytes are the same
    wrong = [
        frame[:50],
        frame[:-1],
        b"\x9e" + bytes(200),
        blosc2_frame(b"", 4000),
        blosc2_frame(b"data", 4000, place=8),
    ]
    wrong += [
        blosc2_frame(b"data", 4000, place=-1),
        blosc2_frame(b"data", 4000, inner=40),
        frame[:58] + bytes(4) + frame[62:],
    ]
    for data in wrong:
        assert stated_length(32026, data) is None


def blosc2_frame(data, length, place=0, inner=None):
    """A contiguous frame of one chunk, without what lies behind its index."""
    chunk = struct.pack("<BBBBiii16x", 5, 1, 5, 8, inner or length, length, len(data) + 32) + data if data else b""
    index = struct.pack("<BBBBiii16xq", 5, 1, 7, 8, 8, 8, 40, place)
    frame = 97 + len(chunk) + len(index)
    head = b"\x9e\xa8b2frame\0\xd2" + struct.pack(">i", 97) + b"\xcf" + struct.pack(">Q", frame) + b"\xa4\x12\0\x50\x03"
    head += (
        b"\xd3" + struct.pack(">q", length) + b"\xd3" + struct.pack(">q", len(chunk)) + b"\xd2" + struct.pack(">i", 8)
    )
    return (
        (head + b"\xd2" + struct.pack(">i", length) + b"\xd2" + struct.pack(">i", length)).ljust(97, b"\0")
        + chunk
        + index
    )


def test_filters_of_plug_ins(path):
    plugins = pytest.importorskip("hdf5plugin")
    t, x, y, p = some_events()
    x[:200] = 0  # chunks of nothing else have a form of their own
    kinds = {"Blosc": plugins.Blosc(cname="zstd"), "Blosc2": plugins.Blosc2(), "Zstd": plugins.Zstd(clevel=22)}
    kinds |= {"LZ4": plugins.LZ4(), "Bitshuffle": plugins.Bitshuffle()}
    for options in kinds.values():
        for more in ({}, {"fletcher32": True}, {"shuffle": True}):
            recording = write(path, dsec, t, x, y, p, **options, **more)
            got = recording.read()
            assert (got["t"] == t).all()
            assert (got["x"] == x).all()
        assert (write(path, v2e, t, x, y, p, **({"compression": None} | dict(options))).read()["y"] == y).all()
        with h5py.File(path, "w") as file:  # the library would read beyond the end of a shorter one
            dsec(file, t, x, y, p, **options)
            put(file, "small", np.arange(10), "u2", 10, **options)
            file["events/x"].id.write_direct_chunk((100,), file["small"].id.read_direct_chunk((0,))[1])
        with pytest.raises(es.EventFileError, match="events/x: the chunk at row 100 is damaged"):
            es.open(path).read()
    write(path, dsec, t, x, y, p)
    with h5py.File(path, "r+") as file:
        del file["events/t"]
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((N,))
        plist.set_deflate(1)  # behind which nobody sees what Zstandard states
        plist.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (1,))
        item = h5py.h5d.create(file["events"].id, b"t", h5py.h5t.STD_U32LE, h5py.h5s.create_simple((N,)), plist)
        item.write_direct_chunk((0,), b"x")
    with pytest.raises(es.EventFileError, match="events/t expects one compression, found the HDF5 filters"):
        es.open(path)


UNKNOWN = {
    "nothing": (lambda f: None, "no known layout; it holds nothing"),
    "pictures": (lambda f: f.create_dataset("images", (3, 4), "f4"), "no known layout; it holds /images"),
    "much": (lambda f: [f.create_group(f"g{i}") for i in range(20)], "it holds /g0, /g1, .*, /g15, ..."),
    "half": (lambda f: f.create_dataset("events/x", (3,), "i4"), "no known layout; it holds /events"),
    "frames of tonic": (
        lambda f: (f.create_dataset("data/0", (3, 4), "f4"), f.create_dataset("target/0", (), "i8")),
        r"data/0 expects events with fields, found float32 of shape \(3, 4\)",
    ),
    "other fields": (
        lambda f: f.create_dataset("events", (3,), [("a", "i4")]),
        r"fields t, x, y and p, found \('a',\)",
    ),
    "rows of floats": (lambda f: f.create_dataset("events", (3, 4), "f8"), "found float64, whose columns and unit"),
    "rows of five": (
        lambda f: f.create_dataset("events", data=np.zeros((3, 5), int)),
        r"expects shape \(n, 4\), found \(3, 5\)",
    ),
    "matrix in a column": (
        lambda f: f.create_dataset("davis/left/events", data=np.zeros(4)),
        r"shape \(n, 4\), found \(4,\)",
    ),
    "events of Metavision a group": (
        lambda f: f.create_group("CD/events"),
        "CD/events expects a dataset, found a group",
    ),
    "cameras elsewhere": (
        lambda f: f.__setitem__("prophesee", h5py.ExternalLink("other.h5", "/")),
        "prophesee is a soft or external link",
    ),
}


@pytest.mark.parametrize(("make", "message"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_no_layout(path, make, message):
    with h5py.File(path, "w") as file:
        make(file)
    with pytest.raises(es.EventFileError, match=message):
        es.open(path)


def test_a_file_of_the_package_is_recognized_before_the_others(path):
    es.io.write(path, es.Events.from_latency(np.array([[[0, 3], [-1, 2]]])))
    assert isinstance(es.open(path), es.EventDataset)
    with pytest.raises(ValueError, match="takes no side"):
        es.open(path, side="left")
    with h5py.File(path, "r+") as file:
        del file.attrs["format"]
    with pytest.raises(es.DatasetError, match="without the attribute 'format'"):
        es.open(path)


def test_info_and_check(path):
    write(path, m3ed)
    assert (es.io.info(path)["format"], es.io.info(path)["events"]) == ("M3ED HDF5", N)
    assert es.io.check(path)["dropped"] == {}
