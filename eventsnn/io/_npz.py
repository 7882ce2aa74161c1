"""Arrays of an ``.npz`` file, each checked by what it declares before it is read."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

_MAX_INFLATION = 1100  # deflate's limit is 1032
_MOST_CLASSES = 1 << 16
_KEYS = {"images": ("images",), "labels": ("labels", "category", "y"), "groups": ("groups", "group", "object")}
_PARTS = ("train", "test")


class Part(NamedTuple):
    """Images as a file has them; groups and names are None where it says nothing of them."""

    pixels: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None
    names: tuple[str, ...] | None


def is_npz(path: str | Path) -> bool:
    """Tell by its suffix whether a file is an ``.npz``."""
    return Path(path).suffix.lower() == ".npz" and Path(path).is_file()


def parts(path: Path) -> tuple[str, ...]:
    """Return the parts that a file has: ``train`` and ``test``, one of them, or none if it is not parted."""
    with _opened(path) as archive:
        return tuple(part for part in _PARTS if f"x_{part}" in _members(archive))


def read_images(path: Path, part: str | None) -> Part:
    """Read the images of a file that is not parted, or of one part, without trusting what it declares.

    Raises
    ------
    ValueError
        If the file is damaged or does not hold such arrays; the message names it.
    """
    with _opened(path) as archive:
        return _part(archive, part)


def _part(archive: zipfile.ZipFile, part: str | None) -> Part:
    wanted = _KEYS if part is None else {"images": (f"x_{part}",), "labels": (f"y_{part}",)}
    members = _members(archive)
    keys = {what: [name for name in names if name in members] for what, names in wanted.items()}
    for what, found in keys.items():
        if len(found) > 1 or (not found and what != "groups"):
            expected = " or ".join(map(repr, wanted[what])) + (" (or x_train, y_train, ...)" if part is None else "")
            raise ValueError(
                f"expected {what} under {expected}, found the arrays {', '.join(sorted(members)) or 'none'}"
            )
    pixels = _array(archive, keys["images"][0], "uint8 of 3 axes (images, height, width)", "u1", 3)
    labels = _numbers(archive, keys["labels"][0], len(pixels))
    if len(labels) and not 0 <= labels.min() <= labels.max() < _MOST_CLASSES:
        raise ValueError(f"labels expects 0 to {_MOST_CLASSES - 1}, found {labels.min()} to {labels.max()}")
    groups = _numbers(archive, keys["groups"][0], len(pixels)) if keys.get("groups") else None
    named, names = f"{keys['labels'][0]}_names", None
    if named in members:
        names = tuple(map(str, _array(archive, named, "text of 1 axis", "U", 1)))
    return Part(pixels, labels, groups, names)


def _numbers(archive: zipfile.ZipFile, name: str, length: int) -> np.ndarray:
    expected = f"{length} integers, one for each image"
    values = _array(archive, name, expected, "iu", 1)
    if len(values) != length or (values.dtype == np.uint64 and values.max(initial=0) >= 2**63):
        raise ValueError(f"{name!r} expects {expected}, found {values.dtype} of shape {values.shape}")
    return values.astype(np.int64)


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    return {info.filename.removesuffix(".npy"): info for info in archive.infolist()}


def _array(archive: zipfile.ZipFile, name: str, expected: str, kinds: str, axes: int) -> np.ndarray:
    """Read one array if its header says that it is of a kind (or of the type ``u1``) and has so many axes."""
    info = _members(archive)[name]
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name!r} is compressed in another way than NumPy does")
    with archive.open(info) as stream:
        shape, fortran, dtype = _header(stream)
        if not (dtype == np.uint8 if kinds == "u1" else dtype.kind in kinds) or len(shape) != axes:
            raise ValueError(f"{name!r} expects {expected}, found {dtype} of shape {shape}")
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        # Before reading, so that a damaged or hostile header cannot ask for all the memory.
        if min(shape) < 0 or size > _MAX_INFLATION * min(info.compress_size, _length(archive)):
            raise ValueError(f"{name!r} declares shape {shape}, more than the file can hold")
        data = stream.read(size + 1)
    if len(data) != size:
        found = "more" if len(data) > size else "fewer"
        raise ValueError(f"{name!r} expects {size} bytes for shape {shape}, found {found}")
    array: np.ndarray = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    return np.ascontiguousarray(array.astype(dtype.newbyteorder("="), copy=False))


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"an array is in version {version} of NumPy's format; expected 1.0 or 2.0")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, fortran, dtype = read(stream)
    except (SyntaxError, TypeError, KeyError, tokenize.TokenError) as error:  # NumPy's parser, of what is no header
        raise ValueError(f"an array has a header that is none: {error}") from None
    return shape, fortran, dtype


def _length(archive: zipfile.ZipFile) -> int:
    return Path(str(archive.filename)).stat().st_size


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a file, and turn whatever is wrong with it into one ``ValueError`` that names it."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    # RuntimeError: encrypted, or compressed in a way that is not known here
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ValueError(f"{path}: not a readable .npz file: {error}") from error
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path}: {error}") from None
