"""Which reader a file needs: its content says, never its name."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from eventsnn.io import (
    aedat2,
    aedat3,
    aedat4,
    arrays,
    atis_bin,
    event_stream,
    hdf5_layouts,
    prophesee_dat,
    prophesee_raw,
    stmnist,
    text,
)
from eventsnn.io.hdf5 import EventDataset
from eventsnn.io.recording import EventFileError, Recording
from eventsnn.io.spike_samples import SpikeSamples

_START = 4096  # bytes that a format is recognized by
_READ = 1 << 16  # bytes read for that: all of a small file, so that its reader need not read it again
_HDF5 = b"\x89HDF\r\n\x1a\n"

#: Given the path and the file's first 4096 bytes (all, if it is shorter): is it this format?
Recognize = Callable[[Path, bytes], bool]
#: Reads the header. Raises :class:`EventFileError` if the file is damaged.
Open = Callable[[Path], Recording | EventDataset | SpikeSamples]


def open(  # noqa: A001
    path: str | Path,
    *,
    width: int | None = None,
    height: int | None = None,
    swap_xy: bool | None = None,
    flip_x: bool | None = None,
    flip_y: bool | None = None,
    swap_polarity: bool | None = None,
    side: Literal["left", "right"] | None = None,
) -> Recording | EventDataset | SpikeSamples:
    """Open a file of events of any known format, which its content tells.

    Parameters
    ----------
    path : str or Path
        A recording of an event camera, or an event file of this package (HDF5).
    width, height : int, optional
        Size of the sensor, as the coordinates in the file are. Events outside of it are left out and counted. Default:
        what the file says.
    swap_xy, flip_x, flip_y, swap_polarity : bool, optional
        How coordinates and polarities of the file become those of the events; see
        :class:`~eventsnn.io.recording.Orientation`. Default: x to the right, y down and 1 for brighter, as the format's
        reader says.
    side : {"left", "right"}, optional
        Which camera of a file that has two (HDF5 of M3ED and MVSEC). Default: left, unless only the right one is there.

    Returns
    -------
    Recording, EventDataset or SpikeSamples
        The latter two for many samples, which take none of the options: event files of this package, and files laid
        out as SHD and SSC.

    Raises
    ------
    EventFileError
        If there is no such file, its format is unknown (the error says what was seen), or its header is damaged.
    ValueError
        If an option does not fit; see :meth:`Recording.adjusted`.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> recording = eventsnn.open("night.raw")      # doctest: +SKIP
    >>> for chunk in recording.chunks():            # doctest: +SKIP
    ...     print(chunk.t[0], len(chunk))
    """
    file = path if isinstance(path, Path) and path.is_absolute() else Path(path).absolute()
    start = _start_of(file)
    head = start[:_START]
    opener = next((opener for recognize, opener in FORMATS if recognize(file, head)), None)
    if opener is None:
        raise EventFileError(f"is of no known format; {_seen(start)}", file)
    if side is not None:
        if opener is not _open_hdf5:
            raise ValueError(f"{file}: is of a format of one camera, which takes no side={side!r}")
        opener = partial(_open_hdf5, side=side)
    elif opener is atis_bin.open_bin:
        opener = partial(atis_bin.open_bin, content=start if len(start) < _READ else b"")
    options: dict[str, Any] = {"width": width, "height": height, "swap_xy": swap_xy}
    options |= {"flip_x": flip_x, "flip_y": flip_y, "swap_polarity": swap_polarity}
    try:
        found = opener(file)
    except EventFileError as error:
        raise error if error.path is not None else EventFileError(error.reason, file, error.offset) from None
    if isinstance(found, Recording):
        return found.adjusted(**options) if any(value is not None for value in options.values()) else found
    if given := [name for name, value in (options | {"side": side}).items() if value is not None]:
        raise ValueError(f"{file}: is a file of many samples, which takes no {', '.join(given)}")
    return found


def _start_of(path: Path) -> bytes:
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise EventFileError("no such file", path) from None
    if not stat.S_ISREG(mode):  # a pipe would block
        raise EventFileError("expected a file, found a directory or device", path)
    with io.open(path, "rb", buffering=0) as stream:  # noqa: UP020, since open is ours here
        return stream.read(_READ)


def _seen(start: bytes) -> str:
    """Say what a file looks like, for the error that it is unknown."""
    if not start:
        return "it is empty"
    if not start[:64].strip(b"\0"):
        return "it starts with zeros"
    return f"it starts with {start[:24]!r}"


def _is_hdf5(path: Path, start: bytes) -> bool:
    return start.startswith(_HDF5)


def _open_hdf5(path: Path, side: Literal["left", "right"] | None = None) -> Recording | EventDataset | SpikeSamples:
    return EventDataset(path) if hdf5_layouts.is_own(path) else hdf5_layouts.open_layout(path, side)


#: Asked in this order; the first that recognizes a file opens it. What recognizes by a signature comes before what
#: judges by plausibility.
FORMATS: tuple[tuple[Recognize, Open], ...] = (
    (_is_hdf5, _open_hdf5),
    (prophesee_raw.recognize, prophesee_raw.open_raw),
    (prophesee_dat.recognize, prophesee_dat.open_dat),
    (aedat2.recognize, aedat2.open_aedat2),
    (aedat3.recognize, aedat3.open_aedat3),
    (aedat4.recognize, aedat4.open_aedat4),
    (event_stream.recognize, event_stream.open_es),
    (arrays.recognize, arrays.open_arrays),
    (stmnist.recognize, stmnist.open_mat),
    (text.recognize, text.open_text),
    (atis_bin.recognize, atis_bin.open_bin),
)
