"""Prophesee's HDF5 ("Metavision"), with its codec ECF decoded here: no plug-in of the HDF5 library is needed.

The codec holds each chunk of usually 16,384 events as runs of times, rows and polarities; times never run backward
within a file. What the attribute ``time_shift`` says is subtracted from the times, as Prophesee's own programs do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eventsnn.io._hdf5_attributes import describe
from eventsnn.io._hdf5_columns import ECF, Column, find, opened
from eventsnn.io._hdf5_table import Layout, Table
from eventsnn.io._hdf5_table import decode as decode_table
from eventsnn.io.recording import EVENT_DTYPE, Chunk, EventFileError, Recording, Tally

if TYPE_CHECKING:
    import h5py

_EVENTS = "CD/events"
_FORMAT = "Metavision HDF5"
_HEADER = 12  # bytes of a chunk: number and kind of events, first time
_MOST = 3  # events that a byte may hold


def open_metavision(path: Path, file: h5py.File) -> Recording:
    """Return the recording of an open file that has ``/CD/events``.

    Raises
    ------
    EventFileError
        If that is not as it must be.
    """
    metadata = describe(file)
    shift = metadata.get("time_shift", "0")
    if not re.fullmatch(r"-?\d{1,18}", shift):
        raise EventFileError(f"attribute 'time_shift' expects microseconds, found {shift!r:.80}")
    offset, sensor = -max(int(shift), 0), _sensor(metadata)
    if _is_ecf(file):
        n_events = len(_Chunks(file, offset))
        decode = partial(_decode, path, offset)
    else:
        layout = Layout(_FORMAT, [(_EVENTS, name) for name in "txyp"], offset=offset)
        n_events = len(Table(file, layout))
        decode = partial(decode_table, path, layout)
    return Recording(path, _FORMAT, sensor, partial(decode, None, None), metadata, n_events, seek=decode)


class _Chunks:
    """Chunks of ECF in an open file."""

    def __init__(self, file: h5py.File, offset: int) -> None:
        self._column = Column(find(file, _EVENTS), _EVENTS, ecf=True)
        dtype = self._column.dtype
        if set(dtype.names or ()) != set("txyp") or len(self._column.shape) != 1:
            raise EventFileError(f"{_EVENTS} expects fields t, x, y and p in one row, found {dtype!s:.80}")
        if self._column.filters[0][0] != ECF or len(self._column.filters) > 1:
            raise EventFileError(f"{_EVENTS} expects no other filter beside ECF, found {self._column.filters}"[:200])
        if len(self._column) > _MOST * self._column.stored:
            raise EventFileError(f"{_EVENTS} declares {len(self._column)} events in {self._column.stored} bytes")
        self._offset, self.length = offset, int(self._column.chunks[0])

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, number: int) -> Chunk:
        """Return the events of a chunk."""
        from eventsnn.io import _hdf5_kernels as kernels

        data, wanted = self._stored(number), min(self.length, len(self) - number * self.length)
        held = int(data[:4].view("<u4")[0]) >> 2
        if not wanted <= held <= min(self.length, _MOST * len(data)):
            raise self._error(number, f"expects {wanted} events, found {held} in {len(data)} bytes")
        columns = [np.empty(wanted, EVENT_DTYPE[name]) for name in ("t", "x", "y", "p")]
        end = kernels.ecf(data, held, *columns) if held == wanted else self._longer(data, held, columns)
        if end < 0:
            raise self._error(number, kernels.ECF_ERRORS[int(end)])
        columns[0] += self._offset
        return Chunk(*columns)

    def _longer(self, data: np.ndarray, held: int, columns: list[np.ndarray]) -> int:
        """Decode a last chunk that was filled up."""
        from eventsnn.io import _hdf5_kernels as kernels

        whole = [np.empty(held, column.dtype) for column in columns]
        end = int(kernels.ecf(data, held, *whole))
        for column, values in zip(columns, whole, strict=True):
            column[:] = values[: len(column)]
        return end

    def first(self, start: int) -> int:
        """Return the first chunk that may hold an event from ``start`` on."""
        low, high = 0, -(-len(self) // self.length)
        while low < high:
            middle = (low + high) // 2
            if int(self._stored(middle)[4:_HEADER].view("<u8")[0]) + self._offset < start:
                low = middle + 1
            else:
                high = middle
        return max(low - 1, 0)

    def _stored(self, number: int) -> np.ndarray:
        mask, data = self._column.compressed(number * self.length)
        if mask or len(data) < _HEADER:
            raise self._error(number, f"expects events compressed by ECF, found {len(data)} bytes, filter mask {mask}")
        return np.frombuffer(data, np.uint8)

    def _error(self, number: int, reason: str) -> EventFileError:
        return EventFileError(f"{_EVENTS}: chunk {number} {reason}")


def _decode(path: Path, offset: int, start: int | None, stop: int | None, size: int, tally: Tally) -> Iterator[Chunk]:
    with opened(path) as file:
        chunks = _Chunks(file, offset)
        first = 0 if start is None else chunks.first(start)
        for number in range(first, -(-len(chunks) // chunks.length)):
            chunk = chunks[number]
            if stop is not None and chunk.t[0] >= stop:
                return
            yield chunk


def _is_ecf(file: h5py.File) -> bool:
    item = find(file, _EVENTS)
    plist = getattr(item, "id", item).get_create_plist() if hasattr(item, "chunks") else None
    return plist is not None and any(plist.get_filter(i)[0] == ECF for i in range(plist.get_nfilters()))


def _sensor(metadata: dict[str, Any]) -> tuple[int, int] | None:
    if found := re.fullmatch(r"(\d{1,5})x(\d{1,5})", metadata.get("geometry", "")):
        return int(found[1]), int(found[2])
    sizes = [
        re.search(rf"(?:^|;){name}=(\d{{1,5}})(?:;|$)", metadata.get("format", "")) for name in ("width", "height")
    ]
    return None if sizes[0] is None or sizes[1] is None else (int(sizes[0][1]), int(sizes[1][1]))
