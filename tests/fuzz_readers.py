# ruff: noqa: E402
"""A coverage-guided fuzz run of all readers by hand, beyond what the tests draw.

Needs ``pip install atheris``, which the tests do not. ``python tests/fuzz_readers.py bytes|hdf5 FOLDER [options]``
mutates small files of every format, written here and cut from the recordings in ``EVENTSNN_DATA``, in FOLDER; options
are libFuzzer's, as ``-max_total_time=1200``. Whatever bytes they are, the outcome has to be events on their sensor or
one ``EventFileError`` that names the file. With ``NUMBA_BOUNDSCHECK=1`` (and a ``NUMBA_CACHE_DIR`` of its own) kernels
say when they leave an array; with ``NUMBA_DISABLE_JIT=1`` their branches guide the search too.

What was run, with atheris 3.0.0 on Python 3.11 and two shared cores, and found:

- ``bytes`` (RAW, DAT, AEDAT 2 to 4, ``.es``, ``.bin``, ``.mat``, ``.npy``, ``.npz``, text), 2026-11-22: 595,400 files
  in 11 minutes with interpreted kernels and 977,193 in 11 minutes with compiled ones that check bounds: nothing. After
  AEDAT 4, ``.bin`` and arrays were given compiled readers, 161,026 more in 6 minutes, the latter way: nothing.
- ``hdf5`` (the layouts of others, ECF, SHD, our own), 2026-11-22, compiled kernels: within a minute the HDF5 library
  goes round forever, or takes 4 GB, in a damaged heap of rows and texts of any length. Since then rows are looked up by
  ourselves and the library sees sound heaps only (``_hdf5_rows.py``, ``_hdf5_heap.py``); another 152,379 files in
  12.5 minutes: nothing. Interpreted kernels were not run on HDF5.
"""

import importlib
import os
import struct
import sys
import warnings
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import atheris
import numpy as np

TESTS = Path(__file__).parent
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

import eventsnn.jit

INTERPRETED = os.environ.get("NUMBA_DISABLE_JIT") == "1"
if INTERPRETED:  # which has no intrinsics
    eventsnn.jit.trailing_zeros = lambda word: (int(word) & -int(word)).bit_length() - 1
# Numba cannot compile instrumented code.
KERNELS = [f"eventsnn.io.{path.stem}" for path in (TESTS.parent / "eventsnn" / "io").glob("*_kernel*.py")]
with atheris.instrument_imports(include=["eventsnn.io"], exclude=[] if INTERPRETED else KERNELS):
    import eventsnn as es
    from eventsnn.io import _hdf5_table, _records, formats, metavision_hdf5  # noqa: F401

    for name in KERNELS:
        importlib.import_module(name)

import ecf_files
import event_files as small
import h5py
import prophesee_files as prophesee
from conftest import DATA

EVENTS = [(5, 1, 2, 0), (900, 33, 0, 1), (900, 0, 33, 1), (40_000, 9, 9, 0), (40_001, 9, 10, 1), (99_999, 1, 1, 1)] * 3
STEPS = [("event", 7, 3, 4, 1), ("vector", 90, 64, 5, 0, 0xF0F0_1234), ("word", 0xA), ("event", 70_000, 1279, 719, 0)]
HEADS = {  # of recordings: where the events begin is up to the reader, a head is cut wherever it ends
    "faery/evt2.raw": 1500, "expelliarmus/evt3_sample.raw": 1500, "faery/color.es": 600, "tonic/sample_ncars.dat": 900,
    "ne15/test.aedat": 1200, "stdp-nmnist/jAERdata.aedat": 1500, "tonic/sample.aedat4": 40_000,
}  # fmt: skip


def main() -> None:
    kind, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (_bytes() if kind == "bytes" else _hdf5()).items():
        (folder / f"seed-{name}").write_bytes(content)
    scratch = Path(os.environ.get("FUZZ_SCRATCH", "/dev/shm")) / f"fuzz-{kind}-{os.getpid()}"
    warnings.simplefilter("ignore")
    options = ["-timeout=60", "-rss_limit_mb=3000", f"-max_len={4096 if kind == 'bytes' else 1 << 16}", *sys.argv[3:]]
    atheris.Setup([sys.argv[0], *options, str(folder)], lambda data: one(scratch, data))
    atheris.Fuzz()


def one(path: Path, data: bytes) -> None:
    """Read bytes as a file; what is neither events nor the error that it may be is raised."""
    path.write_bytes(data)
    try:
        found = es.open(path)
        if isinstance(found, es.io.Recording):
            _checked(found)
        elif isinstance(found, es.EventDataset):
            with found:
                for _ in found.verify():
                    pass
        else:
            for _ in found.batches(3):
                pass
    except es.EventFileError as error:
        if error.path is None or Path(error.path) != path or not error.reason:
            raise AssertionError(f"an error that names no file: {error!r}") from error


def _checked(recording: "es.io.Recording") -> None:
    stream, n = recording.chunks(1000), 0
    for chunk in stream:
        assert 1 <= len(chunk) <= 1000
        assert [column.dtype.str for column in (chunk.t, chunk.x, chunk.y, chunk.p)] == ["<i8", "<u2", "<u2", "|u1"]
        assert len(chunk.x) == len(chunk.y) == len(chunk.p) == len(chunk)
        assert chunk.p.max() <= 1
        if recording.sensor is not None:
            assert chunk.x.max() < recording.width
            assert chunk.y.max() < recording.height
        n += len(chunk)
    assert stream.report.n_events == n
    if recording.into is not None:  # which puts them into one array by another way
        assert len(recording.read()) == n


def _bytes() -> dict[str, bytes]:
    header = prophesee.header
    files = {
        "evt2": header(evt="2.0", geometry="1280x720") + prophesee.evt2(STEPS * 3),
        "evt21": header(format="EVT21;height=720;width=1280") + prophesee.evt21(STEPS * 3),
        "evt21-old": header(evt="2.1", system_ID=0x20) + prophesee.evt21(STEPS, legacy=True),
        "evt3": header(evt="3.0") + b"% end\n" + prophesee.evt3(STEPS * 3),
        "dat1": header(Version=1) + bytes([0, 8]) + prophesee.dat([("event", 3, 5, 6, 1)] * 9, version=1),
        "dat2": header(Version=2, Width=1280, Height=720) + bytes([12, 8]) + prophesee.dat(STEPS * 2),
        "atis": small.atis_bin([*EVENTS[:6], (9_000_000, 3, 3, 1)]),
        "dvs128": small.aedat2_header(" AEChip: DVS128") + small.dvs128(EVENTS),
        "aedat1": b"#!AER-DAT1.0\r\n" + small.aedat1(EVENTS),
        "davis": small.aedat2_header(" AEChip: eu.seebetter.ini.chips.davis.Davis346red") + small.davis346(EVENTS),
        "aedat3": small.AEDAT3 + small.aedat3(EVENTS[:6]) + small.packet(2, 100, [bytes(100)]),
        "aedat4": small.aedat4_header() + small.aedat4(EVENTS),
        "aedat4-lz4": small.aedat4_header(1) + small.aedat4(EVENTS, __import__("lz4.frame").frame.compress),
        "aedat4-zstd": small.aedat4_header(3)
        + small.aedat4(EVENTS, __import__("zstandard").ZstdCompressor(level=1).compress),
        "es-dvs": small.es_header(1, 300, 200) + small.es_dvs(EVENTS[:6], 200),
        "es-atis": small.es_header(2, 304, 240) + small.es_atis(EVENTS[:6], 240),
        "es-colour": small.es_header(4, 320, 240) + small.es_colour(EVENTS[:6], 240),
        "csv": b"t,x,y,p\n" + b"".join(b"%d,%d,%d,%d\n" % event for event in EVENTS),
        "text": b"34 34\n" + b"".join(b"%.6f %d %d %d\n" % (t / 1e6, x, y, p) for t, x, y, p in EVENTS),
        "mat": _mat(zlib.compress),
        "mat-plain": _mat(None),
    }
    for name, length in HEADS.items():
        if (path := DATA / "events" / name).exists():
            files[f"head-{path.name}"] = path.read_bytes()[:length]
    return files | _arrays()


def _mat(compress) -> bytes:
    train = (np.arange(101 * 8).reshape(8, 101) % 7 == 0).astype("u1")
    variable = small.mat_variable("spiketrain", 101, 8, 2, train.tobytes())
    if compress is not None:
        data = compress(variable)
        variable = struct.pack("<II", 15, len(data)) + data
    return b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H2s", 0x100, b"IM") + variable


def _arrays() -> dict[str, bytes]:
    record = np.array(EVENTS, [("t", "i8"), ("x", "u2"), ("y", "u2"), ("p", "u1")])
    fields = np.zeros(len(record), [("x", "<i2"), ("p", "?"), ("y", "<i4"), ("z", "S3"), ("t", "<u4")])
    for name in "txyp":
        fields[name] = record[name]
    files = {}
    for name, value in (("record", record), ("fields", fields), ("table", np.array(EVENTS, "f8")[:, [1, 2, 0, 3]])):
        np.save(stream := BytesIO(), value)
        files[f"npy-{name}"] = stream.getvalue()
    columns = {name: record[name] for name in "txyp"}
    for name, save, arrays in (
        ("columns", np.savez, columns),
        ("packed", np.savez_compressed, {"event_data": record}),
    ):
        save(stream := BytesIO(), **arrays)
        files[f"npz-{name}"] = stream.getvalue()
    with zipfile.ZipFile(stream := BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("e.npy", files["npy-record"])
    return files | {"npz-one": stream.getvalue()}


def _hdf5() -> dict[str, bytes]:
    from test_hdf5_layouts import LAYOUTS, some_events

    path, files = Path("/dev/shm") / f"seed-{os.getpid()}.h5", {}
    some = some_events(120)
    for name, (layout, _, _) in LAYOUTS.items():
        with h5py.File(path, "w") as file:
            layout(file, some[0], some[1] // 2, some[2] // 2, some[3])
        files[name.replace(" ", "-").replace(",", "")] = path.read_bytes()
    with h5py.File(path, "w") as file:
        for name, kind, values in (("times", "f4", some[0] / 1e6), ("units", "u2", some[1])):
            rows = file.create_dataset(f"spikes/{name}", (6,), h5py.vlen_dtype(kind))
            for i in range(6):
                rows[i] = values[i : i + 9]
        file["labels"] = np.arange(6)
    files["SHD"] = path.read_bytes()
    chunks = [ecf_files.encode(some[0], some[1], some[2], some[3], mode) for mode in range(3)]
    for mode, chunk in enumerate(chunks):
        ecf_files.write_chunks(path, 120, [chunk], 120)
        files[f"ecf-{mode}"] = path.read_bytes()
    batch = es.Events.from_columns(*(some[i] for i in (0, 3, 2, 1)), shape=(2, 480, 640), unit="us", labels=[3])
    es.io.write(path, batch)
    files["own"] = path.read_bytes()
    path.unlink()
    return files


if __name__ == "__main__":
    main()
