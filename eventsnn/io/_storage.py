"""How event files are stored, whoever writes them: filters, types, attributes, provenance (``data/FORMAT.md``)."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import eventsnn
from eventsnn.events import Shape, TimeUnit
from eventsnn.io._checks import FORMAT, VERSION, is_sha256
from eventsnn.targets import fsync

if TYPE_CHECKING:
    import h5py

Compression = Literal["none", "gzip", "lzf", "blosc2"]

#: What a compression may be called.
COMPRESSIONS: tuple[Compression, ...] = ("none", "gzip", "lzf", "blosc2")
CHUNK_SAMPLES, CHUNK_RECORDING = 16384, 65536

MAX_TEXT = 60_000  # HDF5 keeps longer attributes outside of its checksummed structures
MAX_ENCODER = 1 << 30  # bytes of an encoder with fitted arrays, which lies in a dataset if it is no such text


def filters(compression: Compression) -> dict[str, Any]:
    """Return what h5py is to be told of a dataset, which has a checksum in any case.

    Raises
    ------
    ValueError
        If there is no such compression, or what it needs is not installed.
    """
    if compression not in COMPRESSIONS:
        raise ValueError(f"compression expects one of {COMPRESSIONS}, got {compression!r}")
    if compression == "none":
        return {"fletcher32": True}
    if compression == "blosc2":
        return {"fletcher32": True, **_blosc2()}
    level = {"compression_opts": 1} if compression == "gzip" else {}
    return {"compression": compression, "shuffle": True, "fletcher32": True, **level}


def _blosc2() -> dict[str, Any]:
    try:
        import hdf5plugin
    except ImportError as error:
        message = "compression 'blosc2' expects the package hdf5plugin: pip install 'eventsnn[fast]'"
        raise ValueError(f"{message} ({error})") from None
    # Else the plug-in starts threads anew for each chunk, which takes several times as long as to compress it.
    os.environ.setdefault("BLOSC_NTHREADS", "1")
    return dict(hdf5plugin.Blosc2(cname="lz4", clevel=5, filters=hdf5plugin.Blosc2.BITSHUFFLE))


def dtypes(shape: Shape, duration: int) -> dict[str, str]:
    """Return the smallest stored type of each column."""
    limits = dict(zip(("t", "c", "y", "x"), (duration, *shape), strict=True))
    sizes = (("<u1", 1 << 8), ("<u2", 1 << 16), ("<u4", 1 << 32), ("<i8", 1 << 63))
    return {name: next(dtype for dtype, size in sizes if limit <= size) for name, limit in limits.items()}


def provenance(source: str | Path | None, sha256: str | None, encoder: Any, extra: Any) -> dict[str, str]:
    """Return what is said of a file's origin as texts, those that are there.

    Raises
    ------
    ValueError, TypeError
        If something cannot be stored.
    """
    if sha256 is not None and not is_sha256(sha256):
        raise ValueError(f"source_sha256 expects 64 lower-case hexadecimal digits, got {sha256!r}")
    texts = {"source": None if source is None else str(source), "source_sha256": sha256}
    for name, value in (("encoder", encoder), ("extra", extra)):
        texts[name] = None if value is None else _as_json(name, value)
    for name, text in texts.items():
        most = MAX_ENCODER if name == "encoder" else MAX_TEXT
        if text is not None and ("\0" in text or len(text.encode()) > most):
            found = f"{len(text.encode())} bytes" + (" with NUL" if "\0" in text else "")
            raise ValueError(f"{name} expects text of at most {most} bytes without NUL, got {found}")
    return {name: text for name, text in texts.items() if text}


def _as_json(name: str, value: Any) -> str:
    value = value.to_dict() if callable(getattr(value, "to_dict", None)) else value
    if not isinstance(value, Mapping) and not dataclasses.is_dataclass(value):
        raise TypeError(f"{name} expects a mapping or a dataclass, got {type(value).__name__}")
    try:
        return json.dumps(value, default=_plain, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} expects values that JSON can hold: {error}") from None


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__} | fields
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} is not one of them")


def fits_attribute(text: str) -> bool:
    """Tell whether a text can be an attribute; a longer one needs a dataset."""
    return len(text.encode()) <= MAX_TEXT


def write_attributes(
    file: h5py.File,
    shape: Shape,
    unit: TimeUnit,
    duration: int,
    texts: dict[str, str],
    **counts: int,
) -> None:
    """Write the attributes of the root; ``counts`` are ``n_samples``, ``n_events`` and what else is a number."""
    channels, height, width = shape
    numbers = {"width": width, "height": height, "duration": duration, "sorted": 1, **counts}
    said = {"format": FORMAT, "time_unit": unit, "created_by": f"eventsnn {eventsnn.__version__}"} | texts
    attrs = file.attrs
    attrs["format_version"] = np.int64(VERSION)
    attrs["sensor_size"] = np.array([width, height, channels], np.int64)
    for name, number in numbers.items():
        attrs[name] = np.int64(number)
    for name, text in said.items():
        # Fixed length: variable-length text lies in a heap without checksum.
        if fits_attribute(text):
            attrs.create(name, np.bytes_(text.encode()), dtype=_text_type(len(text.encode())))


def _text_type(length: int) -> Any:
    import h5py

    return h5py.string_dtype("utf-8", length)


def commit(temporary: Path, path: Path) -> None:
    """Make the file durable, then visible under its name."""
    fsync(temporary)
    os.replace(temporary, path)
    if os.name == "posix":  # elsewhere folders cannot be opened
        fsync(path.parent)
