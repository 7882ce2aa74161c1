"""Arrays and a few plain values in one HDF5 file: written whole or not at all, read without trust."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from eventsnn.targets import replace_file

_GZIP_BEST = 1100  # deflate cannot shrink further; a file that claims so holds nothing there
_FILTERS = {1, 2, 3}  # deflate, shuffle, fletcher32


def write(
    path: str | os.PathLike[str], kind: tuple[str, int], meta: Mapping[str, Any], arrays: Mapping[str, Any]
) -> None:
    """Write arrays and JSON values to ``path``: beside it first, then renamed into place.

    Parameters
    ----------
    path : path
        Target; replaced if it exists. A link stays one, and its target is written.
    kind : (str, int)
        Name and version of the format, for :func:`read` to check.
    meta : mapping
        JSON values.
    arrays : mapping of str to ndarray
        Of fixed dtype, at least one-dimensional and not empty; names may hold ``/``.

    Raises
    ------
    OSError
        If it cannot be written, on a full disk for instance; ``path`` is what it was before.
    """
    import h5py

    from eventsnn import __version__

    values = dict(meta) | {"arrays": {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()}}
    text = np.frombuffer(json.dumps(values, allow_nan=False).encode(), np.uint8)
    whole = io.BytesIO()  # h5py's own errors on a full disk come late, and without the reason
    with h5py.File(whole, "w") as file:
        file.attrs["format"], file.attrs["format_version"] = kind
        file.attrs["created_by"] = f"eventsnn {__version__}"
        for name, array in {"meta": text, **arrays}.items():
            file.create_dataset(name, data=array, compression="gzip", compression_opts=1, shuffle=True, fletcher32=True)
    replace_file(path, whole.getbuffer())


def read(path: str | os.PathLike[str], kind: tuple[str, int]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what :func:`write` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is truncated, corrupt, of another or a newer format, or inconsistent. Links to other files and
        data outside of the file are refused, never followed.
    """
    import h5py

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with _clear_errors(path), h5py.File(path, "r") as file:
        _check_kind(file.attrs, kind)
        meta = json.loads(_read_array(file, "meta").tobytes())
        if not isinstance(meta, dict) or not isinstance(meta.get("arrays"), dict):
            raise ValueError("'meta' does not list the arrays")
        declared = meta.pop("arrays")
        arrays = {name: _read_array(file, name) for name in declared}
        for name, array in arrays.items():
            if [array.dtype.str, list(array.shape)] != declared[name]:
                raise ValueError(f"{name!r} was written as {declared[name]}, found {array.dtype.str} {array.shape}")
    return meta, arrays


@contextmanager
def _clear_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn whatever a broken file makes h5py or json raise into one kind of error that names the file."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a file that eventsnn can read: {error}") from error


def _check_kind(attributes: Any, kind: tuple[str, int]) -> None:
    found = attributes.get("format")
    if found != kind[0]:
        raise ValueError(f"format expects {kind[0]!r}, got {found!r}")
    version = int(attributes["format_version"])
    if version > kind[1]:
        raise ValueError(f"format_version {version} is newer than {kind[1]}, the latest that this eventsnn reads")
    if version < 1:
        raise ValueError(f"format_version expects 1 to {kind[1]}, got {version}")


def _read_array(file: Any, name: str) -> np.ndarray:
    import h5py

    node = file
    for part in name.split("/"):
        if not isinstance(node, h5py.Group) or not isinstance(node.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{name!r} is missing, or a link that is not followed")
        node = node[part]
    if not isinstance(node, h5py.Dataset):
        raise ValueError(f"{name!r} is not a dataset")
    _check_storage(name, node)
    return node[()]


def _check_storage(name: str, node: Any) -> None:
    if node.is_virtual or node.external:
        raise ValueError(f"{name!r} keeps its data in another file")
    if node.dtype.kind not in "iufb" or node.ndim == 0:
        raise ValueError(f"{name!r} has dtype {node.dtype} and shape {node.shape}, expected an array of numbers")
    plist = node.id.get_create_plist()
    filters = {plist.get_filter(i)[0] for i in range(plist.get_nfilters())}
    if not filters <= _FILTERS:
        raise ValueError(f"{name!r} uses the HDF5 filters {sorted(filters - _FILTERS)}")
    stored = node.id.get_storage_size()
    if node.nbytes > _GZIP_BEST * stored:
        raise ValueError(f"{name!r} claims {node.nbytes} bytes, {stored} are stored")
    if node.chunks is None or node.id.get_num_chunks() != math.prod(
        -(-n // c) for n, c in zip(node.shape, node.chunks, strict=True)
    ):
        raise ValueError(f"{name!r} has holes that would read as zeros")
