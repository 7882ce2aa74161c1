"""Writing event files: batch by batch, all or nothing."""

import errno
import re
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from test_hdf5 import random_events

from eventsnn.events import Events, concatenate, replace_fields
from eventsnn.io import EventDataset, EventWriter, _chunk_kernels, _chunks, check, info, write, writer


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.h5"


@pytest.fixture
def written(path):
    events = random_events()
    write(path, events)
    return events


@pytest.mark.parametrize("flush", [1, 64, 1 << 18])
def test_appending_equals_writing_at_once(path, flush, monkeypatch):
    monkeypatch.setattr(writer, "_FLUSH", flush)
    events = random_events(4, [5, 90, 0, 33, 12, 200, 1])
    with EventWriter(path, events.shape, events.duration, chunk=16) as out:
        for start, stop in ((0, 1), (1, 1), (1, 3), (3, 7)):
            out.append(events[start:stop])
    assert EventDataset(path).load().equals(events)


def test_a_writer_can_write_again(path):
    events = random_events()
    out = EventWriter(path, events.shape, events.duration)
    for stop in (5, 2):
        with out:
            out.append(events[:stop])
        assert EventDataset(path).load().equals(events[:stop])


def test_the_writer_keeps_no_reference_to_a_batch(path):
    events = random_events()
    kept = events[np.arange(5)]
    with EventWriter(path, events.shape, events.duration) as out:
        out.append(events)
        for name in ("time", "channel", "y", "x", "offsets", "labels"):
            getattr(events, name)[:] = 0
    assert EventDataset(path).load().equals(kept)


def test_nothing_appended_is_no_samples(path):
    with EventWriter(path, (1, 2, 3), 7, "us"):
        pass
    dataset = EventDataset(path)
    assert dataset.load().equals(Events.empty((1, 2, 3), 0, duration=7, unit="us"))
    assert info(path)["density"] == 0.0
    assert check(path)["latest"] is None


# Writing fails


def leftovers(path):
    return sorted(p.name for p in path.parent.iterdir() if p != path)


@pytest.mark.parametrize("flush", [1, 1 << 18])
def test_an_exception_leaves_the_old_file(path, written, flush, monkeypatch):
    monkeypatch.setattr(writer, "_FLUSH", flush)
    before = path.read_bytes()

    def interrupted():
        with EventWriter(path, written.shape, written.duration) as out:
            out.append(random_events(5))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == before
    assert leftovers(path) == []


def test_a_failing_disk_leaves_the_old_file(path, written, monkeypatch):
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr(h5py.Dataset, "__setitem__", full)
    monkeypatch.setattr(writer, "_FLUSH", 1)

    def ignoring_the_error():
        with EventWriter(path, (2, 9, 11), 15, chunk=16) as out:
            with pytest.raises(OSError, match="no space"):
                out.append(written)
            with pytest.raises(RuntimeError, match="inside the writer's with block"):
                out.append(written)

    with pytest.raises(RuntimeError, match="nothing was committed"):
        ignoring_the_error()
    assert path.read_bytes() == before
    assert leftovers(path) == []


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (random_events(shape=(2, 9, 12)), r"shape \(2, 9, 11\), got \(2, 9, 12\)"),
        (random_events(unit="us"), "unit 'bin', got 'us'"),
        (random_events(duration=16), "duration 15, got 16"),
        (random_events(labels=False), "this batch has no labels, the batches before it had labels"),
        (replace_fields(random_events(), potential=np.zeros(347, np.float32)), "hold no potentials"),
        (replace_fields(random_events(), time=random_events().time[::-1].copy()), "must be sorted"),
        (replace_fields(random_events(), x=random_events().x + np.uint16(9)), "expected 0 to 10"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_and_not_added(path, batch, message):
    events = random_events()
    with EventWriter(path, events.shape, events.duration) as out:
        out.append(events)
        with pytest.raises(ValueError, match=message):
            out.append(batch)
        out.append(events)
    assert EventDataset(path).load().equals(concatenate([events, events]))


def test_labels_after_none_are_refused(path):
    with EventWriter(path, (2, 9, 11), 15) as out:
        out.append(random_events(labels=False))
        with pytest.raises(ValueError, match="this batch has labels, the batches before it had no labels"):
            out.append(random_events())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"duration": 0}, "duration expects 1 to"),
        ({"duration": 2**63}, "duration expects 1 to"),
        ({"shape": (1, 2)}, "shape expects"),
        ({"unit": "ms"}, "unit expects"),
        ({"compression": "zip"}, "compression expects"),
        ({"chunk": 0}, "chunk expects"),
        ({"source_sha256": "AB" * 32}, "64 lower-case hexadecimal digits"),
        ({"source": "a\0b"}, "without NUL"),
        ({"extra": {"a": "x" * 60_000}}, "at most 60000 bytes"),
        ({"extra": {"a": float("nan")}}, "extra expects values that JSON can hold"),
        ({"encoder": {"a": object()}}, "encoder expects values that JSON can hold: a object is not"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(path, options, message):
    arguments = {"shape": (1, 2, 3), "duration": 5} | options
    with pytest.raises(ValueError, match=message):
        EventWriter(path, **arguments)
    assert leftovers(path) == []


def test_wrong_types_and_places_are_refused(path, tmp_path):
    with pytest.raises(TypeError, match="encoder expects a mapping or a dataclass, got list"):
        EventWriter(path, (1, 1, 1), 1, encoder=[1])
    with pytest.raises(TypeError):
        EventWriter(path, (1, 1, 1), 1.5)
    with pytest.raises(ValueError, match="is a folder"):
        EventWriter(tmp_path, (1, 1, 1), 1)
    with pytest.raises(ValueError, match="no folder"):
        EventWriter(tmp_path / "missing" / "a.h5", (1, 1, 1), 1)


def test_errors_name_the_file_and_not_the_hidden_one(path, written, monkeypatch):
    before = path.read_bytes()

    def write_with(owner, name, error):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, lambda *names, **_: (_ for _ in ()).throw(error(str(names[0]))))
            with pytest.raises(OSError, match=re.escape(str(path))) as caught:
                write(path, written)
        assert ".tmp" not in str(caught.value)
        return caught.value

    refused = write_with(Path, "touch", lambda name: PermissionError(errno.EACCES, "Permission denied", name))
    assert (refused.errno, refused.filename) == (errno.EACCES, str(path))
    write_with(writer.os, "replace", lambda name: OSError(errno.EBUSY, "busy", name))
    write_with(Path, "open", lambda name: OSError(f"cannot open {name}"))
    assert path.read_bytes() == before
    assert leftovers(path) == []


def test_a_link_to_a_file_stays_a_link(path, written, tmp_path):
    link = tmp_path / "link.h5"
    link.symlink_to(path)
    write(link, random_events(9))
    assert link.is_symlink()
    assert EventDataset(path).load().equals(random_events(9))


@pytest.mark.parametrize("dtype", ["u2", "u4", "u8"])
@pytest.mark.parametrize("n", [0, 1, 7, 1000])
def test_shuffled_values_are_those_of_the_filter(dtype, n):
    values = np.random.default_rng(n).integers(0, np.iinfo(dtype).max, n, dtype)
    out, back = np.empty(values.nbytes, np.uint8), np.empty(n, dtype)
    _chunk_kernels.shuffle(values, out)
    np.testing.assert_array_equal(out, values.view(np.uint8).reshape(n, values.itemsize).T.ravel())
    _chunk_kernels.unshuffle(out, back)
    np.testing.assert_array_equal(back, values)


def runs(rng):
    return np.repeat(rng.integers(0, 256, 300), rng.integers(1, 700, 300))


COMPRESSED = {
    "zeros": lambda rng: np.zeros(70_000),
    "noise": lambda rng: rng.integers(0, 256, 40_000),
    "two values": lambda rng: rng.integers(0, 2, 40_000),
    "few values": lambda rng: rng.geometric(0.5, 40_000),
    "runs of all lengths": runs,
    "runs of 1 to 600": lambda rng: np.repeat(np.arange(600) % 2, np.arange(600) + 1),
    "codes that would be too long": lambda rng: rng.permutation(np.repeat(np.arange(24), FIBONACCI)),
    "one byte": lambda rng: np.array([7]),
    "four bytes": lambda rng: np.full(4, 255),
}
FIBONACCI = [1, 1]
while len(FIBONACCI) < 24:
    FIBONACCI.append(FIBONACCI[-1] + FIBONACCI[-2])


@pytest.mark.parametrize("block", [1000, 16384, 1 << 17])
@pytest.mark.parametrize("name", COMPRESSED)
def test_zlib_undoes_what_is_deflated(name, block):
    data = COMPRESSED[name](np.random.default_rng(block)).astype(np.uint8)
    packed = _chunks._deflated(data, block)
    assert zlib.decompress(packed) == data.tobytes()
    assert len(packed) <= 1.01 * len(data) + 200 * (len(data) // block + 1)


def test_deflated_columns_are_not_larger_than_zlib_makes_them():
    data = np.minimum(np.random.default_rng(0).geometric(0.2, 1 << 16), 255).astype(np.uint8)
    assert len(_chunks._deflated(data, 1 << 16)) < 1.02 * len(zlib.compress(data, 1))
