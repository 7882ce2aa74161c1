"""The names of the file format (``data/FORMAT.md``), and what is checked before any event is read."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eventsnn.events import Shape, TimeUnit, check_shape
from eventsnn.io._hdf5_columns import Column
from eventsnn.io._hdf5_file import DatasetError, is_plain, own, where_of
from eventsnn.io._hdf5_heap import value_of

if TYPE_CHECKING:
    import h5py

FORMAT = "eventsnn-events"
VERSION = 1
UNITS: tuple[TimeUnit, ...] = ("bin", "us")

# Column in the file, field of Events, types it may have.
COLUMNS = (
    ("t", "time", ("<u1", "<u2", "<u4", "<i8")),
    ("c", "channel", ("<u1", "<u2")),
    ("y", "y", ("<u1", "<u2")),
    ("x", "x", ("<u1", "<u2")),
)

_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf", 32026: "blosc2"}
_FLETCHER32, _BLOSC2 = 3, 32026
_MAX_CHUNK = 1 << 20
_MAX_INFLATION = 1100  # deflate's limit is 1032
_LARGEST = 2**63 - 1  # of numbers that lie in int64 once they are read


@dataclass(frozen=True)
class Header:
    """What the attributes of an event file say."""

    shape: Shape
    unit: TimeUnit
    duration: int
    n_samples: int
    n_events: int
    t_offset: int
    provenance: dict[str, Any]


def is_sha256(text: str) -> bool:
    """Tell whether a text is a SHA-256, written as files have it."""
    return re.fullmatch("[0-9a-f]{64}", text) is not None


def read_header(file: h5py.File) -> Header:
    """Read and check the attributes."""
    if "format" not in file.attrs:
        raise DatasetError(f"expected an event file, found HDF5 without the attribute 'format' = {FORMAT!r}")
    if (name := _text(file, "format")) != FORMAT:
        raise DatasetError(f"attribute 'format' expects {FORMAT!r}, found {name!r}")
    version = _integer(file, "format_version", low=1)
    if version > VERSION:
        raise DatasetError(f"format version {version} is newer than {VERSION}, the newest known here; upgrade eventsnn")
    unit = _text(file, "time_unit")
    if unit not in UNITS:
        raise DatasetError(f"attribute 'time_unit' expects one of {UNITS}, found {unit!r}")
    if (is_sorted := _integer(file, "sorted", low=0)) != 1:
        raise DatasetError(f"attribute 'sorted' expects 1, found {is_sorted}")
    return Header(
        shape=_grid(file),
        unit="bin" if unit == "bin" else "us",
        duration=_integer(file, "duration", low=1),
        n_samples=_integer(file, "n_samples", low=0),
        n_events=_integer(file, "n_events", low=0),
        t_offset=_clock(file),
        provenance=_provenance(file),
    )


def _clock(file: h5py.File) -> int:
    """Return the attribute ``t_offset``, which has a checksum, once the dataset of that name agrees with it."""
    import h5py

    stored = _integer(file, "t_offset", low=-_LARGEST - 1) if "t_offset" in file.attrs else 0
    if not file.id.links.exists(b"t_offset"):
        return stored
    item = own(file, "t_offset")
    if not isinstance(item, h5py.Dataset) or item.shape != () or item.dtype != np.dtype("<i8"):
        raise DatasetError(f"t_offset expects a dataset of one <i8, found {item!r}")
    if item.is_virtual or item.id.get_create_plist().get_external_count():
        raise DatasetError("t_offset keeps its data in another file, which is refused")
    if item[()] != stored:
        raise DatasetError(f"t_offset is {item[()]}, but the attribute of that name says {stored}")
    return stored


def checked_group(parent: h5py.Group, name: str) -> h5py.Group:
    """Return a group that is really in this file."""
    import h5py

    item = own(parent, name)
    if not isinstance(item, h5py.Group):
        raise DatasetError(f"{name!r} expects a group, found a dataset")
    return item


def checked_dataset(
    parent: h5py.Group, name: str, dtypes: tuple[str, ...], length: int, cache_bytes: int = 0
) -> Column:
    """Return a column whose type, length, storage and filters are as the format demands; reads none of it."""
    import h5py

    item, where = own(parent, name), where_of(parent, name)
    if not isinstance(item, h5py.Dataset):
        raise DatasetError(f"{where} expects a dataset, found a group")
    if item.is_virtual or item.id.get_create_plist().get_external_count():
        raise DatasetError(f"{where} keeps its data in another file, which is refused")
    if item.dtype not in [np.dtype(d) for d in dtypes]:
        raise DatasetError(f"{where} expects one of the types {', '.join(dtypes)}, found {item.dtype.str}")
    if item.shape != (length,):
        raise DatasetError(f"{where} expects {length} entries, found shape {item.shape}")
    _check_filters(item, where)
    _check_storage(item, where)
    return Column(item, where, cache_bytes=cache_bytes)


def check_polarity_link(events: h5py.Group) -> None:
    """Refuse an ``events/p`` that is not another name of ``events/c``."""
    if events.id.links.exists(b"p") and own(events, "p") != events["c"]:
        raise DatasetError("events/p expects a hard link to events/c, found other data")


def check_offsets(offsets: np.ndarray, n_events: int) -> None:
    """Refuse offsets that do not run from 0 to ``n_events`` without falling."""
    if offsets[0] != 0 or offsets[-1] != n_events:
        raise DatasetError(
            f"offsets expects to start at 0 and end at the {n_events} events, found {offsets[0]} and {offsets[-1]}"
        )
    falls = np.flatnonzero(offsets[1:] < offsets[:-1])
    if len(falls):
        i = int(falls[0])
        raise DatasetError(f"offsets must not fall, but entry {i + 1} is {offsets[i + 1]} after {offsets[i]}")


def _check_filters(item: h5py.Dataset, where: str) -> None:
    if item.chunks is None or not 1 <= item.chunks[0] <= _MAX_CHUNK:
        raise DatasetError(f"{where} expects chunks of 1 to {_MAX_CHUNK} entries, found {item.chunks}")
    plist = item.id.get_create_plist()
    found = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    if unknown := [f for f in found if f not in _FILTERS]:
        raise DatasetError(f"{where} expects only the filters {_FILTERS}, found the filter ids {unknown}")
    if len(set(found)) != len(found):
        raise DatasetError(f"{where} expects each filter at most once, found the filter ids {found}")
    if _BLOSC2 in found:
        _load_blosc2(where)
    if _FLETCHER32 not in found:
        raise DatasetError(f"{where} expects the fletcher32 checksum, found the filter ids {found}")
    # A chunk may leave out single filters: compression that would not make it smaller, but never its checksum.
    left_out = 1 << found.index(_FLETCHER32)
    bare = item.id.chunk_iter(lambda chunk: chunk.chunk_offset[0] if chunk.filter_mask & left_out else None)
    if bare is not None:
        raise DatasetError(f"{where} expects the fletcher32 checksum, the chunk at entry {bare} is without")


def _load_blosc2(where: str) -> None:
    """Make the filter known to HDF5, or say what has it."""
    try:
        import hdf5plugin  # noqa: F401
    except ImportError as error:
        message = f"{where} is compressed by blosc2, which expects the package hdf5plugin: pip install 'eventsnn[fast]'"
        raise DatasetError(f"{message} ({error})") from None


def _check_storage(item: h5py.Dataset, where: str) -> None:
    """Refuse holes, which would read as zeros, and sizes that the stored bytes cannot back."""
    wanted = -(-item.shape[0] // item.chunks[0])
    if (chunks := item.id.get_num_chunks()) != wanted:
        raise DatasetError(f"{where} expects {wanted} stored chunks, found {chunks}")
    stored, file_size = item.id.get_storage_size(), item.file.id.get_filesize()
    if stored > file_size or item.nbytes > _MAX_INFLATION * stored:
        raise DatasetError(f"{where} declares {item.nbytes} bytes in {stored} stored, in a file of {file_size}")


def _text(file: h5py.File, name: str) -> str:
    value = _attribute(file, name, ())
    if not isinstance(value, str | bytes):
        raise DatasetError(f"attribute {name!r} expects text, found {value!r}")
    # Of variable length it comes decoded, with surrogates for bytes that are not UTF-8.
    stored = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
    try:
        return stored.decode("utf-8")
    except UnicodeDecodeError:
        raise DatasetError(f"attribute {name!r} expects text in UTF-8, found {bytes(stored)!r:.80}") from None


def _integer(file: h5py.File, name: str, low: int) -> int:
    value = _attribute(file, name, ())
    if not isinstance(value, np.integer) or not low <= value <= _LARGEST:
        raise DatasetError(f"attribute {name!r} expects an integer from {low} to 2**63 - 1, found {value!r}")
    return int(value)


def _attribute(file: h5py.File, name: str, shape: tuple[int, ...]) -> Any:
    if name not in file.attrs:
        raise DatasetError(f"attribute {name!r} is missing")
    stored = file.attrs.get_id(name)
    if (found := stored.shape) != shape:
        raise DatasetError(f"attribute {name!r} expects shape {shape}, found {found}")
    if not is_plain(stored):
        raise DatasetError(f"attribute {name!r} expects text or numbers, found {stored.dtype!s:.80}")
    return value_of(file, name)


def _grid(file: h5py.File) -> Shape:
    size = _attribute(file, "sensor_size", (3,))
    if size.dtype.kind not in "iu":
        raise DatasetError(f"attribute 'sensor_size' expects integers, found {size.dtype}")
    width, height, channels = (int(n) for n in size)
    for name, value in (("width", width), ("height", height)):
        if name in file.attrs and (found := _integer(file, name, low=1)) != value:
            raise DatasetError(f"attribute {name!r} is {found}, but 'sensor_size' says {value}")
    try:
        return check_shape((channels, height, width))
    except ValueError as error:
        raise DatasetError(f"attribute 'sensor_size' [width, height, channels]: {error}") from None


def _provenance(file: h5py.File) -> dict[str, Any]:
    texts: dict[str, Any] = {n: _text(file, n) for n in ("created_by", "source", "source_sha256") if n in file.attrs}
    if "source_sha256" in texts and not is_sha256(texts["source_sha256"]):
        found = texts["source_sha256"]
        raise DatasetError(f"attribute 'source_sha256' expects 64 lower-case hexadecimal digits, found {found!r:.80}")
    texts |= {n: _json(f"attribute {n!r}", _text(file, n)) for n in ("encoder", "extra") if n in file.attrs}
    if "encoder" not in file.attrs and file.id.links.exists(b"encoder"):
        texts["encoder"] = _long_encoder(file)
    return texts


def _long_encoder(file: h5py.File) -> dict[str, Any]:
    """Return the encoder that is too long for an attribute."""
    item = own(file, "encoder")
    length = item.shape[0] if len(getattr(item, "shape", ())) == 1 else 0
    stored = checked_dataset(file, "encoder", ("|u1",), length)
    try:
        text = stored[:].tobytes().decode("utf-8")
    except (OSError, ValueError) as error:
        raise DatasetError(f"'encoder' cannot be read: {error}") from None
    return _json("dataset 'encoder'", text)


def _json(where: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where} expects a JSON object, found text that is not: {error}") from None
    if not isinstance(value, dict):
        raise DatasetError(f"{where} expects a JSON object, found {type(value).__name__}")
    return value


def _finite(text: str) -> float:
    if math.isinf(number := float(text)):
        raise ValueError(f"{text:.40} is too large for a float64")
    return number


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
