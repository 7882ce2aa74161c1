"""Samples laid out as SHD and SSC: ragged rows, seconds of 16 bits, labels, and one clear error for the rest."""

import pickle
import struct

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventsnn as es
from eventsnn.io import SpikeSamples, check
from eventsnn.summaries import check_line, summary_lines

N = 11


def some_samples(seed=0):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 40, N)
    sizes[3] = 0
    return [(rng.random(n).astype("f2"), rng.integers(0, 700, n)) for n in sizes], rng.integers(0, 20, N)


def write(path, samples=None, labels=None, time="f2", unit="u2", **options):
    if samples is None:
        samples, labels = some_samples()
    with h5py.File(path, "w") as file:
        for name, kind, column in (("times", time, 0), ("units", unit, 1)):
            data = file.create_dataset(f"spikes/{name}", (len(samples),), h5py.vlen_dtype(kind), **options)
            for i, sample in enumerate(samples):
                data[i] = np.asarray(sample[column]).astype(kind)
        if labels is not None:
            file["labels"] = labels
        file["extra/keys"] = np.array([b"one", b"two"])
    return samples, labels


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shd_train.h5"


@pytest.mark.parametrize("options", [{}, {"chunks": (3,)}, {"chunks": (4,), "compression": "gzip", "shuffle": True}])
@pytest.mark.parametrize("time", ["f2", "f4", "f8"])
def test_samples_are_exact(path, time, options):
    samples, labels = write(path, time=time, **options)
    found = es.open(path)
    assert isinstance(found, SpikeSamples)
    assert (len(found), found.shape, found.unit) == (N, (1, 1, 700), "us")
    assert (found.labels == labels).all()
    assert found.n_events == sum(len(t) for t, _ in samples)
    microseconds = [np.rint(t.astype("f8") * 1e6).astype("i8") for t, _ in samples]
    assert found.duration == max(int(t.max(initial=0)) for t in microseconds) + 1
    events = found.load()
    assert events.duration == found.duration
    assert (events.labels == labels).all()
    for i, (t, (_, unit)) in enumerate(zip(microseconds, samples, strict=True)):
        order = np.lexsort((unit, t))
        one = events[i]
        assert (one.time == t[order]).all()
        assert (one.x == unit[order]).all()
        assert not one.y.any()
        assert not one.channel.any()
        assert found[i].equals(one)
    assert es.concatenate(list(found.batches(4))).equals(events)
    assert found[[5, 2, 5]].equals(events[[5, 2, 5]])
    assert pickle.loads(pickle.dumps(found))[-1].equals(events[N - 1])


def test_half_floats_are_not_multiplied_as_such(path):
    write(path, [([1.25, 0.1], [1, 2])], [0])
    assert es.open(path).load().time.tolist() == [99_976, 1_250_000]  # float16 has 0.0999755859375, and 65504 at most


def test_files_without_samples_or_labels(path):
    write(path, [], None)
    found = es.open(path)
    assert (len(found), found.labels, found.n_events, found.duration) == (0, None, 0, 1)
    assert len(found.load()) == 0
    write(path, [([0.5], [3])], None)
    assert es.open(path).load().labels is None


def test_a_duration_and_more_units(path):
    write(path, [([0.5], [800])], [3], time="f8")
    with pytest.raises(es.EventFileError, match="sample 0 expects units from 0 to 699, found 800 to 800"):
        es.open(path).load()
    assert SpikeSamples(path, units=801, duration=10**6).load().duration == 10**6
    with pytest.raises(es.EventFileError, match="time 500000, outside the duration 400000"):
        SpikeSamples(path, units=801, duration=400_000).load()
    for options in ({"units": 0}, {"duration": 0}):
        with pytest.raises(ValueError, match="expected 1 to 65536 units and a positive duration"):
            SpikeSamples(path, **options)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        es.open(path).batches(0)
    with pytest.raises(ValueError, match="takes no width"):
        es.open(path, width=3)


def test_info_and_check(path):
    write(path, [([0.5, 0.25], [3, 4]), ([], [])], [1, 1])
    facts = es.io.info(path)
    assert (facts["format"], facts["samples"], facts["labels"]) == ("SHD", 2, {"classes": [1], "counts": [2]})
    checked = es.io.check(path)
    assert [checked[k] for k in ("events", "duration", "earliest", "latest")] == [2, 500_001, 250_000, 500_000]
    assert summary_lines(facts)[1:3] == ["  format         SHD", "  samples        2"]
    assert check_line(path, check(path)).endswith("sound; 2 samples, 2 events, times 250000 to 500000 us")


def test_training_takes_it(path):
    write(path)
    net = es.Network([es.Dense(3, threshold=2.0)], shape=(1, 1, 700))
    assert len(net.run(es.open(path))) == N


def ragged(name, kind, n=N):
    def change(file):
        del file[f"spikes/{name}"]
        file.create_dataset(f"spikes/{name}", (n,), kind)

    return change


def fewer(file):
    ragged("units", h5py.vlen_dtype("u2"), N - 1)(file)
    file["spikes/units"][0] = [1]


def put(name, values):
    def change(file):
        if name in file:
            del file[name]
        file[name] = values

    return change


def set_row(name, row, values):
    return lambda file: file[f"spikes/{name}"].__setitem__(row, values)


def virtual(file):
    del file["spikes/units"]
    layout = h5py.VirtualLayout((N,), h5py.vlen_dtype("u2"))
    layout[:] = h5py.VirtualSource("other.h5", "units", (N,), h5py.vlen_dtype("u2"))
    file.create_virtual_dataset("spikes/units", layout)


def short_chunk(file):
    """Descriptors of rows that end before they should, which the library would read beyond."""
    del file["spikes/units"]
    data = file.create_dataset("spikes/units", (N,), h5py.vlen_dtype("u2"), chunks=(N,), compression="gzip")
    data.id.write_direct_chunk((0,), b"abc", filter_mask=1)


VIOLATIONS = {
    "text": (ragged("units", h5py.string_dtype()), "spikes/units expects rows of numbers"),
    "rows of text": (ragged("units", h5py.vlen_dtype(h5py.string_dtype())), "spikes/units expects rows of numbers"),
    "numbers": (put("spikes/units", np.zeros(N)), "spikes/units expects rows of numbers"),
    "big-endian": (ragged("units", h5py.vlen_dtype(">u2")), "spikes/units expects rows of little-endian numbers"),
    "never written": (ragged("units", h5py.vlen_dtype("u2")), "spikes/units declares 176 bytes, found 0 stored"),
    "other length": (
        fewer,
        "as many spikes/times as spikes/units, found 11 and 10",
    ),
    "virtual": (virtual, "spikes/units keeps its data in another file"),
    "a link": (
        lambda f: (f.__delitem__("spikes/units"), f["spikes"].__setitem__("units", h5py.ExternalLink("o.h5", "/u"))),
        "spikes/units is a soft or external link",
    ),
    "few labels": (put("labels", np.zeros(3, int)), "labels expects 11 whole numbers, found int64 of shape"),
    "labels of text": (put("labels", [b"a"] * N), "labels expects numbers"),
    "labels of floats": (put("labels", np.zeros(N)), "labels expects 11 whole numbers, found float64"),
    "unequal": (set_row("units", 4, np.zeros(77, "u2")), "sample 4 has .* times and 77 units"),
    "negative time": (
        set_row("times", 4, np.full(len(some_samples()[0][4][0]), -1, "f2")),
        "sample 4 expects times from 0",
    ),
    "no number": (set_row("times", 4, np.full(len(some_samples()[0][4][0]), np.nan, "f2")), "sample 4 expects times"),
    "unit": (
        set_row("units", 4, np.full(len(some_samples()[0][4][0]), 700, "u2")),
        "sample 4 expects units from 0 to 699",
    ),
    "short chunk": (short_chunk, "spikes/units: the chunk at row 0 expects 176 bytes, found 3"),
}


@pytest.mark.parametrize(("violate", "message"), VIOLATIONS.values(), ids=VIOLATIONS)
def test_a_violation_is_one_error(path, violate, message):
    write(path)
    with h5py.File(path, "r+") as file:
        violate(file)
    with pytest.raises(es.EventFileError, match=message) as caught:
        es.open(path).load()
    assert str(caught.value).startswith(f"{path}: ")


def heap_of(raw):
    """Where the first collection of rows begins, and where its first object."""
    begin = raw.index(b"GCOL")
    return begin, begin + 16


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, b"GCOX", "expected a collection of a heap"),
        (4, b"\2", "expected a collection of a heap"),
        (8, struct.pack("<Q", 1 << 40), "expected a collection of a heap"),
        (16 + 8, struct.pack("<Q", 1 << 30), "object 1 of a heap goes beyond its end"),
        (16, struct.pack("<H", 999), "spikes/times: row 0 expected 2 bytes in object 1 of a heap, found none"),
        (16, bytes(2), "spikes/times: row 0 object 0 of a heap comes once too often"),
        (16 + 8, struct.pack("<Q", 1), "spikes/times: row 0 expected 2 bytes in object 1 of a heap, found 1 bytes"),
        (16 + 8, bytes(8), "spikes/times: row 0 object 0 of a heap comes once too often"),
    ],
)
def test_a_damaged_heap(path, place, value, message):
    write(path, [([0.5], [3]), ([0.25], [4])], None)
    changed = bytearray(path.read_bytes())
    begin, _ = heap_of(changed)
    changed[begin + place : begin + place + len(value)] = value
    path.write_bytes(changed)
    with pytest.raises(es.EventFileError, match=message):
        SpikeSamples(path, duration=10**6).load()


def test_a_heap_of_nothing_ends(path):
    """Objects without a length, in which the HDF5 library stays forever."""
    write(path, [([0.5], [3])], None)
    changed = bytearray(path.read_bytes())
    begin, first = heap_of(changed)
    changed[first : begin + 4096] = (struct.pack("<HHIQ", 5, 1, 0, 0) * 256)[: begin + 4096 - first]
    path.write_bytes(changed)
    with pytest.raises(es.EventFileError, match="object 5 of a heap comes once too often"):
        SpikeSamples(path, duration=10**6).load()


@given(st.data())
def test_bytes_changed_in_the_heap(file, data):
    """Rows come as they were, or as others of the same length, or with one error."""
    path = file(b"")
    write(path)
    changed = bytearray(path.read_bytes())
    begin, _ = heap_of(changed)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[begin + data.draw(st.integers(0, 4095))] = data.draw(st.integers(0, 255))
    path.write_bytes(changed)
    error, n = None, N
    try:
        n = len(SpikeSamples(path, duration=10**15, units=65536).load())
    except es.EventFileError as caught:
        error = caught
    assert n == N
    assert error is None or error.path == path


def test_rows_in_the_header_are_refused(path):
    write(path)
    with h5py.File(path, "r+") as file:
        del file["spikes/units"]
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.COMPACT)
        kind = h5py.h5t.py_create(h5py.vlen_dtype("u2"), logical=True)
        h5py.h5d.create(file["spikes"].id, b"units", kind, h5py.h5s.create_simple((N,)), plist)
    with pytest.raises(es.EventFileError, match="lies in its own header"):
        es.open(path).load()


def test_rows_that_share_their_bytes_are_refused(path):
    """A small file whose rows all are the same large one would take any amount of memory."""
    samples = [(np.zeros(5000), np.zeros(5000))] + [([0], [0])] * 50
    write(path, samples, None)
    raw = path.read_bytes()
    with h5py.File(path) as file:
        starts = {name: file[f"spikes/{name}"].id.get_offset() for name in ("times", "units")}
    changed = bytearray(raw)
    for start in starts.values():
        for row in range(51):
            changed[start + 16 * row : start + 16 * row + 16] = raw[start : start + 16]
    path.write_bytes(changed)
    assert len(SpikeSamples(path, duration=10)[7].time) == 5000
    with pytest.raises(es.EventFileError, match=r"samples up to .* have .* bytes, in a file of"):
        es.open(path).load()
