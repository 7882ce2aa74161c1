"""Files of HDF5: opened with care, never led to other files, whatever goes wrong named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eventsnn.io.recording import EventFileError

if TYPE_CHECKING:
    import h5py

_CACHE = 1 << 20  # bytes that the library may keep; chunks are kept by who reads them
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


class DatasetError(EventFileError):
    """An event file of this package that is damaged, inconsistent, or of a newer version; or a file that is none."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while reading ``path`` into one :class:`DatasetError` that names it."""
    try:
        yield
    except EventFileError as error:
        raise DatasetError(error.reason, path, error.offset) from None
    # h5py reports damage as any of these, depending on which structure is hit.
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as error:
        raise DatasetError(f"damaged or unreadable: {error}", path) from error


def open_file(path: Path) -> h5py.File:
    """Open an HDF5 file for reading, after the checks that need no HDF5 library."""
    if not path.exists():
        raise DatasetError("no such file")
    if not path.is_file():
        raise DatasetError("expected an event file, found a directory or device")
    with path.open("rb") as stream:
        start = stream.read(len(_SIGNATURE))
    if start != _SIGNATURE:
        raise DatasetError(f"expected an HDF5 file, found one that starts with {start!r}")
    import h5py

    # Locks only where the file system has them; read-only and network mounts often do not.
    return h5py.File(path, "r", rdcc_nbytes=_CACHE, rdcc_nslots=10007, locking="best-effort")


def where_of(parent: h5py.Group, name: str) -> str:
    return f"{parent.name}/{name}".lstrip("/")


def is_plain(stored: Any) -> bool:
    """Tell whether a stored value is text or numbers; what else HDF5 knows, it reads without care if it is damaged."""
    import h5py

    return stored.get_type().get_class() in (h5py.h5t.STRING, h5py.h5t.INTEGER, h5py.h5t.FLOAT)


def own(parent: h5py.Group, name: str) -> Any:
    """Look up a name without following soft or external links, which could lead to other files."""
    import h5py

    links = parent.id.links
    if not links.exists(name.encode()):
        raise DatasetError(f"{where_of(parent, name)} is missing")
    if links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise DatasetError(f"{where_of(parent, name)} is a soft or external link, which is refused")
    return parent[name]
