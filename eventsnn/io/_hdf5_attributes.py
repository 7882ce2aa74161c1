"""What small things in an HDF5 file say, whatever they are: attributes and datasets of one number."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from eventsnn.io._hdf5_columns import Column, find
from eventsnn.io._hdf5_file import is_plain
from eventsnn.io._hdf5_heap import value_of
from eventsnn.io.recording import EventFileError

if TYPE_CHECKING:
    import h5py

_MOST, _LONGEST = 64, 1000  # attributes described, and characters of each


def attribute(file: h5py.File, name: str) -> Any:
    """Return an attribute of the root that is text, a number, or few of them; None if there is none such."""
    if name not in file.attrs:
        return None
    stored = file.attrs.get_id(name)
    if not is_plain(stored) or int(np.prod(stored.shape or (1,), dtype=object)) > 16:
        return None
    value = value_of(file, name)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value if isinstance(value, str) or np.asarray(value).dtype.kind in "iufb" else None


def text(file: h5py.File, name: str) -> str | None:
    """Return an attribute of the root as text; None if there is none."""
    value = attribute(file, name)
    return None if value is None else str(value)


def integers(file: h5py.File, name: str, count: int) -> list[int] | None:
    """Return an attribute that is (at least) so many whole numbers; None if there is none such."""
    value = attribute(file, name)
    if value is None or isinstance(value, str) or (flat := np.ravel(value)).size < count:
        return None
    return [int(v) for v in flat[:count]] if all(np.isfinite(flat) & (flat == np.trunc(flat))) else None


def describe(file: h5py.File) -> dict[str, str]:
    """Return the attributes of the root as text."""
    found = {name: text(file, name) for name in islice(file.attrs, _MOST)}
    return {name: value[:_LONGEST] for name, value in found.items() if value is not None}


def whole_number(file: h5py.File, where: str) -> int | None:
    """Return a dataset of one whole number, or None if there is no such dataset.

    Raises
    ------
    EventFileError
        If it is anything else.
    """
    item = find(file, where)
    if item is None:
        return None
    shape = getattr(item, "shape", None)
    if shape not in ((), (1,)):
        raise EventFileError(f"{where} expects one number, found shape {shape}")
    value = np.ravel(Column(item, where)[0:1] if shape else scalar_of(item, where))[0]
    if not abs(float(value)) < 2.0**62 or value != int(value):
        raise EventFileError(f"{where} expects a whole number of microseconds or pixels, found {value}")
    return int(value)


def scalar_of(item: Any, where: str) -> Any:
    """Return the value of a dataset without dimensions, which has neither chunks nor filters."""
    if item.is_virtual or item.id.get_create_plist().get_external_count():
        raise EventFileError(f"{where} keeps its data in another file, which is refused")
    if item.dtype.kind not in "iuf" or item.dtype.itemsize > 8:
        raise EventFileError(f"{where} expects a number, found {item.dtype!s:.80}")
    return item[()]
