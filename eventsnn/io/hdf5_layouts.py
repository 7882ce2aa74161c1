"""HDF5 as others lay it out, read in place: DSEC, Monash, v2e, MVSEC, M3ED, tonic's cache, Metavision, SHD.

A layout says in which datasets time, column, row and polarity lie. x runs to the right, y down and 1 is brighter:
nothing is turned by default. Times become microseconds in int64: seconds are multiplied by 1,000,000 and rounded to the
nearest (half to even), an offset that the file has is added. Polarities of -1 and 1, and booleans, become 0 and 1.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from eventsnn.columns import ALIASES
from eventsnn.io._checks import FORMAT
from eventsnn.io._hdf5_attributes import attribute, describe, integers, whole_number
from eventsnn.io._hdf5_columns import contents, find, is_dataset, opened
from eventsnn.io._hdf5_table import Layout, Place, Table, decode
from eventsnn.io.metavision_hdf5 import open_metavision
from eventsnn.io.recording import EventFileError, Recording
from eventsnn.io.spike_samples import SpikeSamples, holds_spikes

if TYPE_CHECKING:
    import h5py

Side = Literal["left", "right"]
Sensor = tuple[int, int] | None

# Where the float times of a recording span less than so many, fractions are rather of seconds than of microseconds.
_SHORTEST = 10_000


def is_own(path: Path) -> bool:
    """Tell whether an HDF5 file is one of this package, or too damaged to tell, so that its reader says what is wrong.

    One that lost only its attribute ``format`` is not taken for a recording.
    """
    try:
        with opened(path) as file:
            return "format_version" in file.attrs or attribute(file, "format") == FORMAT
    except EventFileError:
        return True


def open_layout(path: Path, side: Side | None = None) -> Recording | SpikeSamples:
    """Open an HDF5 file that is not of this package.

    Parameters
    ----------
    path : Path
        The file.
    side : {"left", "right"}, optional
        Of files with two cameras. Default: left, unless only the right one is there.

    Raises
    ------
    EventFileError
        If the layout is unknown (the error says what is there), a link leads out of the file, datasets are not as they
        must be, or there is no such side.
    """
    with opened(path) as file:
        if side is None and holds_spikes(file):
            return SpikeSamples(path)
        if side is None and find(file, "CD/events") is not None:
            return open_metavision(path, file)
        layout, sensor, metadata = _layout(file, side)
        table = Table(file, layout)
        _check_unit(table, layout)
        seek = partial(decode, path, layout)
        whole = partial(seek, None, None)
        return Recording(path, layout.format, sensor, whole, describe(file) | metadata, len(table), seek=seek)


def _layout(file: h5py.File, side: Side | None) -> tuple[Layout, Sensor, dict[str, str]]:
    """Return where the events are, the size of the sensor and what else is known."""
    if (found := _two_cameras(file, side)) is not None:
        return found
    if side is not None:
        raise EventFileError(f"has no two cameras to choose side={side!r} from; it holds {contents(file)}")
    for known in (_columns, _matrix, _records):
        if (layout := known(file)) is not None:
            offset = {} if not layout.offset else {"t_offset": str(layout.offset)}
            return layout, _sensor(file), offset | _target(file)
    raise EventFileError(f"is HDF5 of no known layout; it holds {contents(file)}")


def _columns(file: h5py.File) -> Layout | None:
    """DSEC, with times ``t`` in microseconds, and Monash (event_utils, e2vid), with ``ts`` in seconds."""
    names = {key: next((n for n in choice if find(file, f"events/{n}") is not None), None) for key, choice in _NAMES}
    places: list[Place | None] = [(f"events/{name}", None) for name in names.values() if name is not None]
    if len(places) < len(names):
        return None
    if names["t"] == "ts":
        seconds = getattr(find(file, "events/ts"), "dtype", np.dtype("i8")).kind == "f"
        return Layout("Monash HDF5", places, seconds=seconds)
    anchored = find(file, "ms_to_idx_offset") is not None  # an index that begins elsewhere
    index = None if anchored or find(file, "ms_to_idx") is None else "ms_to_idx"
    return Layout("DSEC HDF5", places, offset=whole_number(file, "t_offset") or 0, index=index)


_NAMES = (("t", ("t", "ts")), ("x", ("x", "xs")), ("y", ("y", "ys")), ("p", ("p", "ps")))


def _two_cameras(file: h5py.File, side: Side | None) -> tuple[Layout, Sensor, dict[str, str]] | None:
    """M3ED (columns) and MVSEC (a matrix x, y, seconds, polarity)."""
    for room, events in (("prophesee", "t"), ("davis", "events")):
        present = [name for name in ("left", "right") if find(file, f"{room}/{name}/{events}") is not None]
        if not present:
            continue
        if side is not None and side not in present:
            raise EventFileError(f"has no side {side!r} in /{room}, only {' and '.join(present)}")
        chosen = side or present[0]
        where = f"{room}/{chosen}"
        metadata = {"side": chosen, "sides": " ".join(present)}
        if room == "davis":
            matrix: list[Place | None] = [(f"{where}/events", column) for column in (2, 0, 1, 3)]
            return Layout("MVSEC HDF5", matrix, seconds=True), (346, 260), metadata
        columns: list[Place | None] = [(f"{where}/{name}", None) for name in "txyp"]
        index = f"{where}/ms_map_idx" if find(file, f"{where}/ms_map_idx") is not None else None
        return Layout("M3ED HDF5", columns, index=index), _sensor(file), metadata
    return None


def _matrix(file: h5py.File) -> Layout | None:
    """v2e and 3ET: rows of t, x, y, p."""
    item = find(file, "events")
    if not is_dataset(item) or item.dtype.names:
        return None
    if item.dtype.kind not in "iu":
        expected = "expects whole microseconds, columns, rows and polarities"
        raise EventFileError(f"events {expected}, found {item.dtype!s:.80}, whose columns and unit would be a guess")
    return Layout("v2e HDF5", [("events", column) for column in range(4)])


def _records(file: h5py.File) -> Layout | None:
    """Structured arrays: a sample in tonic's cache, or ``/events`` alone."""
    for where, name in (("data/0", "tonic cache"), ("events", "structured HDF5")):
        if not is_dataset(item := find(file, where)) or (where == "data/0" and find(file, "target/0") is None):
            continue
        if not (names := item.dtype.names):
            raise EventFileError(f"{where} expects events with fields, found {item.dtype!s:.80} of shape {item.shape}")
        fields = {key: next((n for n in ALIASES[key] if n in names), None) for key in "txyp"}
        if fields["t"] is None or fields["x"] is None:
            raise EventFileError(f"{where} expects fields t, x, y and p, found {names}"[:200])
        return Layout(name, [None if field is None else (where, field) for field in fields.values()])
    return None


def _target(file: h5py.File) -> dict[str, str]:
    item = find(file, "target/0")
    simple = is_dataset(item) and item.shape == () and item.dtype.kind in "iuf" and not item.is_virtual
    return {"target": str(whole_number(file, "target/0"))} if simple else {}


def _sensor(file: h5py.File) -> Sensor:
    """Return width and height from wherever a file has them."""
    if (resolution := integers(file, "sensor_resolution", 2)) is not None:
        return resolution[1], resolution[0]
    sizes = [whole_number(file, f"events/{name}") for name in ("width", "height")]
    if None in sizes:
        sizes = [next(iter(integers(file, name, 1) or []), None) for name in ("width", "height")]
    return None if sizes[0] is None or sizes[1] is None else (sizes[0], sizes[1])


def _check_unit(table: Table, layout: Layout) -> None:
    """Refuse float times that are rather seconds, although the layout's are microseconds."""
    n = len(table)
    if layout.seconds or not n or (start := table.raw_times(0, min(n, 1000))).dtype.kind != "f":
        return
    span = abs(float(table.raw_times(n - 1, n)[0]) - float(start[0]))
    if span < _SHORTEST and not (start == np.trunc(start)).all():
        where = layout.time[0]
        raise EventFileError(f"{where} expects microseconds, found fractions that span {span}: seconds, it seems")
