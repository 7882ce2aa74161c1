"""Each violation of the event file's format once, and damage at random: a clear error, never a wrong array."""

import struct
import zlib

import h5py
import numpy as np
import pytest
from test_hdf5 import random_events

from eventsnn.events import Events
from eventsnn.io import DatasetError, EventDataset, EventFileError, check, info, write
from eventsnn.io._chunk_kernels import fletcher32

PLAIN = {"chunks": (16384,), "maxshape": (None,), "fletcher32": True}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.h5"


@pytest.fixture
def written(path):
    events = random_events()
    write(path, events, source="somewhere", encoder={"bins": 15})
    return events


def put(file, name, data, **options):
    """Replace a dataset."""
    if name in file:
        del file[name]
    file.create_dataset(name, data=data, **(PLAIN | options))


def changed(file, name, change, **options):
    values = file[name][:]
    put(file, name, change(values), **options)


def set_entry(index, value):
    def change(values):
        values[index] = value
        return values

    return change


def attribute(name, value):
    return lambda file: file.attrs.__setitem__(name, value)


def without_attribute(name):
    return lambda file: file.attrs.__delitem__(name)


def column(name, change, **options):
    return lambda file: changed(file, name, change, **options)


def long_encoder(data, **options):
    """The encoder as a dataset, which is where one with large arrays lies."""

    def change(file):
        del file.attrs["encoder"]
        put(file, "encoder", data, **options)

    return change


def linked_encoder(file):
    del file.attrs["encoder"]
    file["encoder"] = h5py.ExternalLink("other.h5", "/encoder")


def soft_link(file):
    file.move("events/x", "elsewhere")
    file["events/x"] = h5py.SoftLink("/elsewhere")


def external_link(file):
    del file["events/x"]
    file["events/x"] = h5py.ExternalLink("other.h5", "/events/x")


def external_group(file):
    del file["events"]
    file["events"] = h5py.ExternalLink("other.h5", "/events")


def external_storage(file):
    del file["events/x"]
    file.create_dataset("events/x", (347,), "u1", external=[("secret.txt", 0, 347)])


def virtual(file):
    del file["events/x"]
    layout = h5py.VirtualLayout((347,), "u1")
    layout[:] = h5py.VirtualSource("other.h5", "events/x", (347,))
    file.create_virtual_dataset("events/x", layout)


def bomb(file):
    del file["events"]
    for name in "tcyx":
        file.create_dataset(f"events/{name}", (2**36,), "u1", **PLAIN)
    file.attrs["n_events"] = 2**36
    put(file, "offsets", np.array([0, 0, 0, 0, 0, 2**36]))


def twice(file):
    """Inflate nested: a filter used twice squares what a few bytes can become."""
    del file["events/x"]
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((347,))
    for prepare in (plist.set_deflate, plist.set_deflate, plist.set_fletcher32):
        prepare()
    space = h5py.h5s.create_simple((347,))
    h5py.h5d.create(file["events"].id, b"x", h5py.h5t.STD_U8LE, space, plist)


def inflated(file):
    """Declare more than the stored bytes can hold."""
    put(file, "labels", np.arange(2**17), chunks=(2**17,), compression="gzip")
    file["labels"].id.write_direct_chunk((0,), b"x")
    put(file, "offsets", np.zeros(2**17 + 1, "i8") + 347 * (np.arange(2**17 + 1) > 0))
    file.attrs["n_samples"] = 2**17


def hole(file):
    del file["events/t"]
    values = file.create_dataset("events/t", (347,), "u1", chunks=(50,), fletcher32=True)
    values[:300] = 0


def short_chunk(file):
    """Store a chunk that inflates to less than it should, with a valid checksum: HDF5 would read beyond its end."""
    put(file, "events/x", file["events/x"][:], chunks=(100,), compression="gzip")
    packed = zlib.compress(bytes(10)) + bytes(1000)
    one, two = fletcher32(np.frombuffer(packed, np.uint8))
    file["events/x"].id.write_direct_chunk((200,), packed + struct.pack("<HH", int(one) or 65535, int(two) or 65535))


def bare_chunk(file):
    """Store a chunk that never passed the checksum, as its filter mask says: reading would not notice damage."""
    put(file, "events/x", file["events/x"][:], chunks=(100,), compression="gzip")
    file["events/x"].id.write_direct_chunk((200,), bytes(100), filter_mask=0b11)


def polarity(file):
    del file["events/p"]
    file["events/p"] = 1 - file["events/c"][:]


VIOLATIONS = {
    # attributes
    "no format": (without_attribute("format"), "without the attribute 'format'"),
    "other format": (attribute("format", "frames"), "'format' expects 'eventsnn-events', found 'frames'"),
    "format of another type": (attribute("format", 3), "'format' expects text, found"),
    "format not UTF-8": (attribute("format", np.bytes_(b"\xff\xfe")), "'format' expects text in UTF-8"),
    "source not UTF-8": (
        lambda f: f.attrs.create("source", b"caf\xe9", dtype=h5py.string_dtype()),  # of variable length
        r"'source' expects text in UTF-8, found b'caf\\xe9'",
    ),
    "short sha256": (attribute("source_sha256", "ab" * 31), "'source_sha256' expects 64 lower-case hexadecimal digits"),
    "upper-case sha256": (attribute("source_sha256", "AB" * 32), "'source_sha256' expects 64 lower-case"),
    "sha256 and more": (attribute("source_sha256", "ab" * 32 + "\n"), "'source_sha256' expects 64 lower-case"),
    "no version": (without_attribute("format_version"), "'format_version' is missing"),
    "newer": (attribute("format_version", 2), "format version 2 is newer than 1.*upgrade"),
    "version 0": (attribute("format_version", 0), "'format_version' expects an integer from 1"),
    "version 1.0": (attribute("format_version", 1.0), "'format_version' expects an integer"),
    "two versions": (attribute("format_version", [1, 1]), r"'format_version' expects shape \(\), found \(2,\)"),
    "no shape": (without_attribute("sensor_size"), "'sensor_size' is missing"),
    "2-D shape": (attribute("sensor_size", [11, 9]), r"'sensor_size' expects shape \(3,\), found \(2,\)"),
    "float shape": (attribute("sensor_size", [11.0, 9.0, 2.0]), "'sensor_size' expects integers"),
    "shape of 0": (attribute("sensor_size", [11, 9, 0]), "three sizes from 1 to 65536"),
    "contradicting width": (attribute("width", 12), "'width' is 12, but 'sensor_size' says 11"),
    "contradicting height": (attribute("height", 8), "'height' is 8, but 'sensor_size' says 9"),
    "unit": (attribute("time_unit", "ms"), r"'time_unit' expects one of \('bin', 'us'\), found 'ms'"),
    "no unit": (without_attribute("time_unit"), "'time_unit' is missing"),
    "duration 0": (attribute("duration", 0), "'duration' expects an integer from 1"),
    "duration beyond int64": (attribute("duration", np.uint64(2**63)), r"'duration' expects .* to 2\*\*63 - 1, found"),
    "no duration": (without_attribute("duration"), "'duration' is missing"),
    "not sorted": (attribute("sorted", 0), "'sorted' expects 1, found 0"),
    "negative samples": (attribute("n_samples", -1), "'n_samples' expects an integer from 0"),
    "other samples": (attribute("n_samples", 4), r"offsets expects 5 entries, found shape \(6,\)"),
    "other events": (attribute("n_events", 346), r"events/t expects 346 entries, found shape \(347,\)"),
    "encoder not JSON": (attribute("encoder", "{'a': 1}"), "'encoder' expects a JSON object"),
    "encoder not an object": (attribute("encoder", "[1]"), "'encoder' expects a JSON object, found list"),
    "encoder with NaN": (attribute("encoder", '{"a": NaN}'), "'encoder' expects a JSON object.*NaN"),
    "number beyond float64": (
        attribute("extra", '{"a": [-1e999]}'),
        "'extra' expects a JSON object.*-1e999 is too large",
    ),
    "encoder too deep": (attribute("encoder", '{"a":' * 9999 + "1" + "}" * 9999), "'encoder' expects a JSON object"),
    "long encoder not JSON": (long_encoder(np.frombuffer(b"{1}", np.uint8)), "'encoder' expects a JSON object"),
    "long encoder not UTF-8": (long_encoder(np.full(9, 255, np.uint8)), "'encoder' cannot be read"),
    "long encoder of numbers": (long_encoder(np.zeros(9)), "encoder expects one of the types .u1, found <f8"),
    "long encoder in rows": (
        long_encoder(np.zeros((3, 3), np.uint8), chunks=(3, 3), maxshape=None),
        r"encoder expects 0 entries, found shape \(3, 3\)",
    ),
    "long encoder without checksum": (long_encoder(np.zeros(9, np.uint8), fletcher32=False), "fletcher32 checksum"),
    "long encoder elsewhere": (linked_encoder, "encoder is a soft or external link"),
    "encoder a group": (
        lambda f: (f.attrs.__delitem__("encoder"), f.create_group("encoder")),
        "encoder expects a dataset, found a group",
    ),
    # structure
    "no events": (lambda f: f.__delitem__("events"), "events is missing"),
    "events a dataset": (lambda f: put(f, "events", np.zeros(3)), "'events' expects a group"),
    "no column": (lambda f: f["events"].__delitem__("y"), "events/y is missing"),
    "column a group": (lambda f: (f.__delitem__("events/y"), f.create_group("events/y")), "expects a dataset"),
    "no offsets": (lambda f: f.__delitem__("offsets"), "offsets is missing"),
    "short column": (column("events/x", lambda v: v[:-1]), r"events/x expects 347 entries, found shape \(346,\)"),
    "long column": (column("events/x", lambda v: np.append(v, v[:1])), r"found shape \(348,\)"),
    "2-D column": (
        column("events/x", lambda v: v[:, None], chunks=(9, 1), maxshape=None),
        r"events/x expects 347 entries, found shape \(347, 1\)",
    ),
    "scalar offsets": (lambda f: put(f, "offsets", 3, chunks=None, maxshape=None, fletcher32=None), "found shape"),
    "long labels": (column("labels", lambda v: np.append(v, 1)), r"labels expects 5 entries, found shape \(6,\)"),
    "other polarity": (polarity, "events/p expects a hard link to events/c"),
    # types
    "float time": (column("events/t", lambda v: v.astype("f4")), "events/t expects one of the types .* found <f4"),
    "signed channel": (column("events/c", lambda v: v.astype("i1")), r"events/c expects .* found \|i1"),
    "big-endian": (column("events/y", lambda v: v.astype(">u2")), "events/y expects .* found >u2"),
    "wide channel": (column("events/c", lambda v: v.astype("u4")), "events/c expects .* found <u4"),
    "boolean channel": (column("events/c", lambda v: v.astype(bool)), "events/c expects .* found"),
    "compound": (column("events/x", lambda v: v.astype([("a", "u1")])), "events/x expects"),
    "text": (
        column("events/x", lambda v: [str(n) for n in v], dtype=h5py.string_dtype(), fletcher32=False),
        "events/x expects one of the types",
    ),
    "unsigned offsets": (
        column("offsets", lambda v: v.astype("u8")),
        "offsets expects one of the types <i8, found <u8",
    ),
    "long groups": (lambda f: put(f, "groups", np.arange(6)), r"groups expects 5 entries, found shape \(6,\)"),
    "float groups": (lambda f: put(f, "groups", np.zeros(5)), "groups expects one of the types <i8, found <f8"),
    "float labels": (column("labels", lambda v: v.astype("f8")), "labels expects one of the types <i8, found <f8"),
    # storage
    "soft link": (soft_link, "events/x is a soft or external link"),
    "external link": (external_link, "events/x is a soft or external link"),
    "external group": (external_group, "events is a soft or external link"),
    "external storage": (external_storage, "keeps its data in another file"),
    "virtual": (virtual, "keeps its data in another file"),
    "contiguous": (
        column("events/x", lambda v: v, chunks=None, maxshape=None, fletcher32=None),
        "events/x expects chunks .* found None",
    ),
    "huge chunks": (column("events/x", lambda v: v, chunks=(2**21,)), "expects chunks of 1 to 1048576"),
    "no checksum": (column("events/x", lambda v: v, fletcher32=False), "expects the fletcher32 checksum"),
    "chunk without checksum": (bare_chunk, "events/x expects .* checksum, the chunk at entry 200 is without"),
    "other filter": (
        column("events/x", lambda v: v.astype("u2"), scaleoffset=0, fletcher32=None),
        r"only the filters .* found the filter ids \[6",
    ),
    "bomb": (bomb, "expects 4194304 stored chunks, found 0"),
    "repeated filter": (twice, r"each filter at most once, found the filter ids \[1, 1, 3\]"),
    "inflated": (inflated, "labels declares 1048576 bytes in 1 stored"),
    "hole": (hole, "events/t expects 7 stored chunks, found 6"),
    # values
    "offsets start late": (column("offsets", set_entry(0, 1)), "start at 0 and end at the 347 events, found 1 and 347"),
    "offsets end early": (
        column("offsets", set_entry(5, 346)),
        "start at 0 and end at the 347 events, found 0 and 346",
    ),
    "offsets fall": (column("offsets", set_entry(2, 20)), "must not fall, but entry 2 is 20 after 40"),
    "offsets beyond": (column("offsets", set_entry(2, 348)), "must not fall, but entry 3 is 340 after 348"),
}
VALUE_VIOLATIONS = {
    "time beyond the duration": (column("events/t", set_entry(339, 15)), "time 15, outside the duration 15"),
    "time unsorted": (column("events/t", set_entry(0, 14)), "must be sorted"),
    "time negative": (column("events/t", lambda v: set_entry(0, -1)(v.astype("i8"))), "time -1, expected 0 or more"),
    "channel outside": (lambda f: f["events/c"].__setitem__(-1, 2), "channel 2, expected 0 to 1"),
    "row outside": (column("events/y", set_entry(-1, 9)), "y 9, expected 0 to 8"),
    "column outside": (column("events/x", set_entry(-1, 11)), "x 11, expected 0 to 10"),
    "chunk that is too short": (short_chunk, "events/x: the chunk at row 200 expects 100 bytes, found 10"),
    "columns out of order": (column("events/x", lambda v: v[::-1]), "must be sorted"),
}


@pytest.mark.parametrize(("violate", "message"), VIOLATIONS.values(), ids=VIOLATIONS)
def test_a_violation_is_refused_at_open(path, written, violate, message):
    with h5py.File(path, "r+") as file:
        violate(file)
    for read in (EventDataset, info, check):
        with pytest.raises(DatasetError, match=message) as caught:
            read(path)
        assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(("violate", "message"), VALUE_VIOLATIONS.values(), ids=VALUE_VIOLATIONS)
def test_wrong_values_are_refused_when_read(path, written, violate, message):
    with h5py.File(path, "r+") as file:
        violate(file)
    for read in (lambda p: EventDataset(p).load(), check, lambda p: list(EventDataset(p).batches(1))):
        with pytest.raises(DatasetError, match=message) as caught:
            read(path)
        assert str(caught.value).startswith(str(path))


def test_secrets_are_not_read_through_external_storage(path, written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.txt").write_bytes(b"\1" * 347)
    with h5py.File(path, "r+") as file:
        external_storage(file)
    with h5py.File(path) as file:
        assert file["events/x"][0] == 1  # the attack works on a reader without the check
    with pytest.raises(DatasetError, match="another file"):
        EventDataset(path)


def test_chunks_that_share_their_bytes_are_refused(path):
    """A small file whose index points 60 times at one chunk would otherwise read as 60 chunks of valid data."""
    n, size = 60 * 65536, 65536
    with h5py.File(path, "w", libver="earliest") as file:
        texts = {"format": "eventsnn-events", "time_unit": "bin"}
        numbers = {"format_version": 1, "duration": 1, "sorted": 1, "n_samples": 1, "n_events": n}
        for name, value in (texts | numbers | {"sensor_size": [1, 1, 1]}).items():
            file.attrs[name] = value
        put(file, "offsets", np.array([0, n]), chunks=(2,))
        column = file.create_dataset("events/t", data=np.zeros(n, "u1"), chunks=(size,), fletcher32=True).id
        chunks = [column.get_chunk_info(i) for i in range(60)]
        for name in "cyx":
            file["events"][name] = file["events/t"]
    EventDataset(path).load()
    raw, first = path.read_bytes(), chunks[0]
    end = first.byte_offset + first.size
    for chunk in chunks:
        raw = raw.replace(struct.pack("<Q", chunk.byte_offset), struct.pack("<Q", first.byte_offset))
    path.write_bytes(raw[:40] + struct.pack("<Q", end) + raw[48:end])
    with pytest.raises(DatasetError, match=f"declares {n} bytes in {60 * first.size} stored, in a file of {end}"):
        EventDataset(path)


def test_what_the_format_allows_is_read(path, written):
    with h5py.File(path, "r+") as file:
        for name in ("created_by", "source", "encoder", "width", "height"):
            del file.attrs[name]
        file.attrs["format"] = "eventsnn-events"  # of variable length
        file.attrs["comment"] = "other attributes are ignored"
        file["other"] = np.zeros((3, 3))
        del file["events/p"]
        changed(file, "events/t", lambda v: v.astype("i8"), chunks=(7,))
        changed(file, "events/x", lambda v: v.astype("u2"), compression="lzf")
    dataset = EventDataset(path)
    assert dataset.load().equals(written)
    assert dataset.provenance == {}


def test_chunks_that_compression_would_not_shrink_are_read(path):
    """HDF5 leaves lzf out of these, as their filter mask says; the checksum is there."""
    events = random_events(0, [9000], shape=(65536, 65536, 65536))
    write(path, events, compression="lzf", chunk=9000)
    with h5py.File(path) as file:
        assert file["events/x"].id.get_chunk_info(0).filter_mask
    assert EventDataset(path).load().equals(events)


def test_zeros_that_compress_best_are_no_bomb(path):
    n = 200_000
    zeros = np.zeros(n, int)
    events = Events.from_columns(zeros, zeros, zeros, zeros, shape=(1, 1, 1), duration=2**40)
    write(path, events, chunk=1 << 20)
    assert EventDataset(path).load().equals(events)


# Files of another kind


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected an HDF5 file, found one that starts with b''"),
        (b"t,x,y,p\n1,2,3,4\n", "expected an HDF5 file, found one that starts with b't,x,y,p"),
        (b"\x89HDF\r\n\x1a\n", "damaged or unreadable"),
        (b"\x89HDF\r\n\x1a\n" + bytes(500), "damaged or unreadable"),
    ],
)
def test_a_foreign_file_is_refused(path, content, message):
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        EventDataset(path)


def test_other_hdf5_is_refused(path):
    with h5py.File(path, "w") as file:
        file["events/t"] = np.arange(3)
    with pytest.raises(DatasetError, match="HDF5 without the attribute 'format'"):
        EventDataset(path)


def test_missing_and_folder_are_refused(path, tmp_path):
    with pytest.raises(DatasetError, match=r"events\.h5: no such file"):
        EventDataset(path)
    with pytest.raises(DatasetError, match="found a directory"):
        EventDataset(tmp_path)


# Damage


@pytest.fixture(scope="module", params=["gzip", "lzf", "none"])
def intact(request, tmp_path_factory):
    events = random_events(6, [50, 900, 0, 1500, 50], shape=(2, 30, 30))
    path = tmp_path_factory.mktemp("damage") / "events.h5"
    write(path, events, compression=request.param, chunk=1024, extra={"note": "x" * 500})
    return events, path


def stored_bytes(path):
    """Positions of all bytes of chunks that hold data."""
    positions = []
    with h5py.File(path) as file:
        for name in ("events/t", "events/c", "events/y", "events/x", "offsets", "labels"):
            item = file[name].id
            for i in range(item.get_num_chunks()):
                chunk = item.get_chunk_info(i)
                positions.append(np.arange(chunk.byte_offset, chunk.byte_offset + chunk.size))
    return np.concatenate(positions)


def test_every_bit_flip_in_a_chunk_is_an_error(intact, tmp_path):
    _, source = intact
    raw, random = source.read_bytes(), np.random.default_rng(0)
    broken = tmp_path / "broken.h5"
    for position in random.choice(stored_bytes(source), 60):
        data = bytearray(raw)
        data[position] ^= 1 << random.integers(8)
        broken.write_bytes(data)
        with pytest.raises(DatasetError, match=r"broken\.h5"):
            check(broken)


def test_a_bit_flip_anywhere_is_an_error_or_harmless(intact, tmp_path):
    events, source = intact
    raw, random = source.read_bytes(), np.random.default_rng(1)
    chunks = set(stored_bytes(source).tolist())
    structure = [i for i in range(len(raw)) if i not in chunks]
    broken, refused = tmp_path / "broken.h5", 0
    for position in random.choice(structure, 60):
        data = bytearray(raw)
        data[position] ^= 1 << random.integers(8)
        broken.write_bytes(data)
        try:
            with EventDataset(broken) as dataset:
                found = dataset.load(), dataset.provenance
        except DatasetError:
            refused += 1
        else:
            assert found[0].equals(events)
            assert found[1] == EventDataset(source).provenance
    assert refused > 0


def test_a_truncated_file_is_an_error(intact, tmp_path):
    _, source = intact
    raw = source.read_bytes()
    broken = tmp_path / "broken.h5"
    for length in {*np.linspace(0, len(raw) - 1, 40).astype(int).tolist(), 7, 8, 9, 47, 48, len(raw) - 1}:
        broken.write_bytes(raw[:length])
        with pytest.raises(EventFileError, match=r"broken\.h5"):
            check(broken)
