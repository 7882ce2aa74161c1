"""The event file: what is written is read, and nothing else is."""

import json
import multiprocessing
import os
import pickle
from dataclasses import dataclass

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventsnn.events import Events, concatenate
from eventsnn.io import DatasetError, EventDataset, _gather, check, hdf5, info, write


def random_events(seed=0, counts=(40, 0, 300, 7, 0), shape=(2, 9, 11), duration=15, labels=True, **fields):
    """Spikes anywhere on the grid, the same pixel more than once, some samples empty."""
    random = np.random.default_rng(seed)
    n = sum(counts)
    return Events.from_columns(
        random.integers(0, duration, n),
        *(random.integers(0, size, n) for size in shape),
        shape=shape,
        offsets=np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
        duration=duration,
        labels=random.integers(0, 10, len(counts)) if labels else None,
        **fields,
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.h5"


@pytest.fixture
def written(path):
    events = random_events()
    write(path, events, source="somewhere é", source_sha256="ab" * 32, encoder={"bins": 15}, extra={"note": [1, 2]})
    return events


@st.composite
def batches(draw):
    sizes = st.sampled_from([1, 2, 3, 255, 256, 257, 65536])
    shape = draw(st.tuples(sizes, sizes, sizes))
    duration = draw(st.sampled_from([1, 15, 256, 257, 65536, 65537, 2**32, 2**32 + 1, 2**62]))
    counts = draw(st.lists(st.integers(0, 30), max_size=6))
    return random_events(
        draw(st.integers(0, 99)),
        counts,
        shape,
        duration,
        labels=draw(st.booleans()),
        unit=draw(st.sampled_from(["bin", "us"])),
    )


# What is written is read


@settings(max_examples=40, deadline=None)
@given(events=batches(), compression=st.sampled_from(["gzip", "lzf", "none"]))
def test_round_trip(events, compression, tmp_path_factory):
    path = tmp_path_factory.mktemp("round") / "events.h5"
    write(path, events, compression=compression)
    with EventDataset(path) as dataset:
        assert dataset.load().equals(events)
        assert len(dataset) == len(events)
        assert (dataset.shape, dataset.unit, dataset.duration) == (events.shape, events.unit, events.duration)
        assert dataset.n_events == events.n_events
    assert check(path)["events"] == events.n_events


@pytest.mark.parametrize(
    ("duration", "shape", "dtypes"),
    [
        (256, (256, 1, 256), "u1 u1 u1 u1"),
        (257, (257, 256, 257), "u2 u2 u1 u2"),
        (65536, (1, 65536, 1), "u2 u1 u2 u1"),
        (65537, (1, 1, 1), "u4 u1 u1 u1"),
        (2**32, (1, 1, 1), "u4 u1 u1 u1"),
        (2**32 + 1, (1, 1, 1), "i8 u1 u1 u1"),
    ],
)
def test_columns_have_the_smallest_type(path, duration, shape, dtypes):
    c, y, x = (np.array([n - 1]) for n in shape)
    write(path, Events.from_columns([duration - 1], c, y, x, shape=shape, duration=duration))
    with h5py.File(path) as file:
        assert [file["events"][n].dtype.str.lstrip("<|") for n in "tcyx"] == dtypes.split()
    assert EventDataset(path).load().time.tolist() == [duration - 1]


INDICES = [
    0,
    -1,
    np.int64(3),
    slice(None),
    slice(1, 3),
    slice(4, 1),
    slice(-2, None),
    slice(None, None, 2),
    slice(None, None, -1),
    [],
    [2, 0, 2, -1],
    np.array([4, 1]),
    np.array([True, False, True, True, False]),
]


@pytest.mark.parametrize("index", INDICES, ids=repr)
@pytest.mark.parametrize("block", [1, 50, 1 << 18])
def test_slices_equal_slices_in_memory(path, written, index, block, monkeypatch):
    for module in (hdf5, _gather):
        monkeypatch.setattr(module, "BLOCK", block)
    assert EventDataset(path)[index].equals(written[index])


@pytest.mark.parametrize("index", [5, -6, [9], [0.5], True, np.zeros((2, 2), int), np.ones(4, bool), "a", (0, 1)])
def test_wrong_indices_are_refused(path, written, index):
    with pytest.raises(IndexError):
        EventDataset(path)[index]


@pytest.mark.parametrize("chunk", [1, 16, 1 << 14])
def test_random_subsets_across_chunks(path, chunk):
    random = np.random.default_rng(1)
    events = random_events(2, random.integers(0, 9, 200))
    write(path, events, chunk=chunk)
    dataset = EventDataset(path)
    for size in (1, 3, 30, 150):
        index = random.integers(0, 200, size)
        assert dataset[index].equals(events[index])


def test_a_slice_reads_only_its_chunks(path, monkeypatch):
    events = random_events(3, [100] * 50)
    write(path, events, chunk=100, compression="none")
    raw = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        spoilt = file["events/t"].id.get_chunk_info(20).byte_offset
    raw[spoilt] ^= 1
    path.write_bytes(raw)
    dataset = EventDataset(path)
    assert dataset[:20].equals(events[:20])
    assert dataset[[0, 49, 21, 19]].equals(events[[0, 49, 21, 19]])
    with pytest.raises(DatasetError, match=r"events\.h5"):
        dataset[20]


def test_batches_cover_the_data_in_order(path, written):
    parts = list(EventDataset(path).batches(2))
    assert [len(p) for p in parts] == [2, 2, 1]
    assert concatenate(parts).equals(written)
    with pytest.raises(ValueError, match="size of at least 1, got 0"):
        EventDataset(path).batches(0)


def test_iteration_ends(path, written):
    assert concatenate(EventDataset(path)).equals(written)


# The file


def test_the_file_is_as_other_programs_expect(path, written):
    assert path.read_bytes()[8] == 3  # superblock of HDF5 1.10
    with h5py.File(path) as file:
        for name in ("events/t", "events/c", "events/y", "events/x", "offsets", "labels"):
            plist = file[name].id.get_create_plist()
            assert [plist.get_filter(i)[0] for i in range(plist.get_nfilters())] == [2, 1, 3]
            assert plist.get_filter(1)[2] == (1,)
            assert file[name].chunks == (16384,)
        assert file["events/p"] == file["events/c"]
        np.testing.assert_array_equal(file["events/p"][:], written.channel)
        for name in ("format", "time_unit", "created_by", "source", "source_sha256", "encoder", "extra"):
            assert h5py.check_string_dtype(file.attrs.get_id(name).dtype).length  # fixed, so checksummed
        assert file.attrs["sensor_size"].tolist() == [11, 9, 2]
        assert (file.attrs["width"], file.attrs["height"], file.attrs["sorted"]) == (11, 9, 1)


def test_chunks_and_polarity_depend_on_the_data(path):
    write(path, random_events(counts=(10,), shape=(3, 4, 5)))
    with h5py.File(path) as file:
        assert file["events/t"].chunks == (65536,)
        assert "p" not in file["events"]


@dataclass(frozen=True)
class Filters:
    sigma: float
    kernel: np.ndarray


def test_provenance(path, written):
    provenance = EventDataset(path).provenance
    created_by = provenance.pop("created_by")
    assert created_by.startswith("eventsnn ")
    assert provenance == {
        "source": "somewhere é",
        "source_sha256": "ab" * 32,
        "encoder": {"bins": 15},
        "extra": {"note": [1, 2]},
    }
    write(path, written, encoder={"filters": Filters(np.float32(0.5), np.eye(2))})
    filters = {"type": "Filters", "sigma": 0.5, "kernel": [[1.0, 0.0], [0.0, 1.0]]}
    assert EventDataset(path).provenance == {"created_by": created_by, "encoder": {"filters": filters}}


def test_info_and_check(path, written):
    summary = info(path)
    assert json.loads(json.dumps(summary)) == summary
    classes, counts = np.unique(written.labels, return_counts=True)
    expected = {
        "bytes": path.stat().st_size,
        "samples": 5,
        "events": 347,
        "shape": [2, 9, 11],
        "unit": "bin",
        "duration": 15,
        "labels": {"classes": classes.tolist(), "counts": counts.tolist()},
    }
    assert {name: summary[name] for name in expected} == expected
    assert summary["density"] == pytest.approx(written.density().mean())
    times = {"empty_samples": 2, "earliest": int(written.time.min()), "latest": int(written.time.max())}
    assert check(path) == summary | times


def test_returned_arrays_are_the_callers(path, written):
    dataset = EventDataset(path)
    part = dataset[0:3]
    part.labels[:] = -1
    part.offsets[:] = 0
    assert dataset.load().equals(written)
    with pytest.raises(ValueError, match="read-only"):
        dataset.labels[0] = 3


# Processes


def _load_elsewhere(dataset, queue):
    part = dataset[1:4]
    queue.put((os.getpid(), dataset._opened[0], part))


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_dataset_works_in_another_process(path, written, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    dataset = EventDataset(path)
    dataset[0]
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=_load_elsewhere, args=(dataset, queue))
    process.start()
    pid, opened_by, part = queue.get(timeout=60)
    process.join()
    assert pid == opened_by != os.getpid()
    assert part.equals(written[1:4])
    assert dataset.load().equals(written)


def test_pickle_holds_a_path_not_the_data(path, written):
    packed = pickle.dumps(EventDataset(path))
    assert len(packed) < 2000
    assert pickle.loads(packed).load().equals(written)


def test_close_and_reopen(path, written):
    first, second = EventDataset(path), EventDataset(path)
    first.close()
    assert second.load().equals(written)
    assert first.load().equals(written)
    first.close()
    write(path, random_events(9))
    with pytest.raises(DatasetError, match="replaced"):
        first.load()


def test_an_open_dataset_keeps_its_file_when_the_name_gets_another(path, written):
    dataset = EventDataset(path)
    write(path, random_events(9))
    assert dataset.load().equals(written)
    assert EventDataset(path).load().equals(random_events(9))
