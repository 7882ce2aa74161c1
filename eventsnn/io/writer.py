"""Write events to HDF5 (``data/FORMAT.md``): append, then commit by rename."""

from __future__ import annotations

import dataclasses
import operator
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eventsnn.events import Events, Shape, TimeUnit, check_shape
from eventsnn.io._checks import COLUMNS, UNITS
from eventsnn.io._output import Output
from eventsnn.io._storage import (
    CHUNK_RECORDING,
    CHUNK_SAMPLES,
    Compression,
    commit,
    dtypes,
    filters,
    fits_attribute,
    provenance,
    write_attributes,
)
from eventsnn.targets import check_folder, hidden, shown_as

if TYPE_CHECKING:
    import h5py

_FLUSH, _PIECE = 1 << 18, 1 << 20  # events gathered before they are written, and as many of them at a time


class EventWriter:
    """Write an event file by appending batches; it appears under its name when the ``with`` block ends well.

    Until then everything goes to a temporary file in the same folder, removed when the block raises: an existing
    file stays as it was.

    Parameters
    ----------
    path : str or Path
        The file to make or replace.
    shape : tuple of int
        Grid ``(channels, height, width)`` of every batch.
    duration : int
        Length of every stimulus in time units; decides the stored type of the times.
    unit : {"bin", "us"}
        What times count.
    compression : {"gzip", "lzf", "blosc2", "none"}
        Always with a checksum. Any HDF5 program reads ``"gzip"`` and ``"none"``; ``"lzf"`` needs h5py, ``"blosc2"`` the
        package hdf5plugin (``pip install 'eventsnn[fast]'``), which reads two to three times as fast.
    chunk : int, optional
        Events per chunk. Default: 65536 for one recording, 16384 for a set of samples.
    source, source_sha256 : str, optional
        Where the stimuli came from and the SHA-256 of their content, 64 hexadecimal digits.
    encoder, extra : mapping or dataclass, optional
        The encoder with its parameters, and anything else worth keeping; stored as JSON. NumPy values become
        numbers and lists; what has ``to_dict()``, as :class:`~eventsnn.encode.ImageEncoder` does, becomes that, any
        other dataclass its fields and ``"type"``, its class.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as above; nothing has been written then.
    OSError
        Inside the ``with`` block and at its end: if the file cannot be written, on a full disk for instance.

    Examples
    --------
    >>> with EventWriter("train.h5", (6, 28, 28), 15, source="mnist") as writer:    # doctest: +SKIP
    ...     for batch in encoded:
    ...         writer.append(batch)
    """

    def __init__(
        self,
        path: str | Path,
        shape: Shape,
        duration: int,
        unit: TimeUnit = "bin",
        *,
        compression: Compression = "gzip",
        chunk: int | None = None,
        source: str | Path | None = None,
        source_sha256: str | None = None,
        encoder: Any = None,
        extra: Any = None,
    ) -> None:
        self._path = Path(os.path.realpath(path))
        self._shape, self._unit = check_shape(shape), unit
        self._duration = operator.index(duration)
        self._compression, self._chunk = compression, chunk
        _check_options(self._path, self._duration, unit, compression, chunk)
        self._texts = provenance(source, source_sha256, encoder, extra)
        self._dtypes = dtypes(self._shape, self._duration)
        self._output: Output | None = None
        self._temporary, self._cleanup = self._path, ExitStack()
        self._start()

    def _start(self) -> None:
        self._pending: dict[str, list[np.ndarray]] = {name: [] for name, _, _ in COLUMNS}
        self._n_pending = 0
        self._counts: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []
        self._groups: list[np.ndarray] = []

    def __enter__(self) -> EventWriter:
        self._start()
        try:
            self._temporary = self._cleanup.enter_context(hidden(self._path))
            with shown_as(self._temporary, self._path):
                self._output = Output(self._temporary)
                self._output.do(lambda file: None)  # made by now
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._discard()
            return
        if self._output is None:
            raise RuntimeError(f"{self._path}: writing failed earlier, nothing was committed")
        try:
            with shown_as(self._temporary, self._path):
                self._finish(self._output)
                commit(self._temporary, self._path)
        finally:
            self._discard()

    def append(self, events: Events, groups: np.ndarray | None = None) -> None:
        """Add the samples of a batch.

        Parameters
        ----------
        events : Events
            With labels in all batches, or in none.
        groups : ndarray of integers, shape (n_samples,), optional
            Which samples belong together: those of one class with one number, as views of one object do.

        Raises
        ------
        ValueError
            If shape, unit or duration are not the file's, only some batches have labels or groups, the batch carries
            potentials (the format has no place for them), or its events are not valid; nothing was added then.
        RuntimeError
            If the writer is not open.
        OSError
            If it cannot be written; nothing will be, then.
        """
        output = self._output
        if output is None:
            raise RuntimeError(f"{self._path}: append works only inside the writer's with block")
        self._check_batch(events)
        self._check_groups(events, groups)
        dataclasses.replace(events)  # validates again: a batch may have been built unchecked
        for name, field, _ in COLUMNS:
            self._pending[name].append(getattr(events, field).astype(self._dtypes[name]))
        self._counts.append(np.diff(events.offsets))
        if events.labels is not None:
            self._labels.append(events.labels.copy())
        if groups is not None:
            self._groups.append(groups.astype(np.int64))
        self._n_pending += events.n_events
        if self._n_pending >= _FLUSH:
            self._flush_or_discard(output)

    def _check_batch(self, events: Events) -> None:
        for name, wanted in (("shape", self._shape), ("unit", self._unit), ("duration", self._duration)):
            if (found := getattr(events, name)) != wanted:
                raise ValueError(f"{self._path}: batches expect {name} {wanted!r}, got {found!r}")
        if events.potential is not None:
            raise ValueError(
                f"{self._path}: event files hold no potentials, but the batch has them; "
                "drop them with replace_fields(events, potential=None)"
            )
        if self._counts and (events.labels is None) != (not self._labels):
            has, had = ("no labels", "labels") if events.labels is None else ("labels", "no labels")
            raise ValueError(f"{self._path}: this batch has {has}, the batches before it had {had}")

    def _check_groups(self, events: Events, groups: np.ndarray | None) -> None:
        if groups is not None and (groups.shape != (len(events),) or groups.dtype.kind not in "iu"):
            found = f"{groups.dtype} of shape {groups.shape}"
            raise ValueError(f"{self._path}: groups expects {len(events)} integers, got {found}")
        if self._counts and (groups is None) != (not self._groups):
            has, had = ("no groups", "groups") if groups is None else ("groups", "no groups")
            raise ValueError(f"{self._path}: this batch has {has}, the batches before it had {had}")

    def _flush_or_discard(self, output: Output) -> None:
        try:
            with shown_as(self._temporary, self._path):
                output.do(lambda file: self._flush(file, output, whole_chunks=True))
        except BaseException:
            self._discard()
            raise

    def _flush(self, file: h5py.File, output: Output, *, whole_chunks: bool) -> None:
        """Write what is pending; in whole chunks, so that none is compressed twice."""
        if "events" not in file:
            self._create_columns(file)
        count = self._n_pending
        for name, _, _ in COLUMNS:
            column = file["events"][name]
            if whole_chunks:
                count = self._n_pending // column.chunks[0] * column.chunks[0]
            left, rest = _cut(self._pending[name], count)
            stored = column.shape[0]
            column.resize((stored + count,))
            while left:
                piece, left = _cut(left, -(-_PIECE // column.chunks[0]) * column.chunks[0])
                values = piece[0] if len(piece) == 1 else np.concatenate(piece)
                column[stored : stored + len(values)] = values
                stored += len(values)
                output.check()  # what is written after an error stays in memory
            self._pending[name] = [values.copy() for values in rest]
        self._n_pending -= count

    def _create_columns(self, file: h5py.File) -> None:
        recording = sum(len(c) for c in self._counts) == 1
        chunk = self._chunk or (CHUNK_RECORDING if recording else CHUNK_SAMPLES)
        group = file.create_group("events")
        for name, _, _ in COLUMNS:
            self._create(group, name, np.empty(0, self._dtypes[name]), chunk)
        if self._shape[0] <= 2:
            group["p"] = group["c"]  # a hard link: readers of camera files look for the polarity here

    def _create(self, group: h5py.Group, name: str, values: np.ndarray, chunk: int) -> None:
        group.create_dataset(name, data=values, chunks=(chunk,), maxshape=(None,), **filters(self._compression))

    def _finish(self, output: Output) -> None:
        output.do(lambda file: self._complete(file, output))
        output.close()
        self._output = None
        output.check()

    def _complete(self, file: h5py.File, output: Output) -> None:
        self._flush(file, output, whole_chunks=False)
        offsets = np.cumsum(np.concatenate([np.zeros(1, np.int64), *self._counts]), dtype=np.int64)
        self._create(file, "offsets", offsets, CHUNK_SAMPLES)
        for name, column in (("labels", self._labels), ("groups", self._groups)):
            if column:
                self._create(file, name, np.concatenate(column).astype(np.int64), CHUNK_SAMPLES)
        if not fits_attribute(encoder := self._texts.get("encoder", "")):
            self._create(file, "encoder", np.frombuffer(encoder.encode(), np.uint8), CHUNK_RECORDING)
        counts = {"n_samples": len(offsets) - 1, "n_events": int(offsets[-1])}
        write_attributes(file, self._shape, self._unit, self._duration, self._texts, **counts)

    def _discard(self) -> None:
        """Let go of the file; one that has not come under its name is removed."""
        output, self._output = self._output, None
        try:
            if output is not None:
                output.close()
        finally:
            self._cleanup.close()


def _cut(arrays: list[np.ndarray], count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the first ``count`` values and the rest, without a copy."""
    first, rest = [], []
    for values in arrays:
        if count:
            first.append(values[:count])
        if len(values) > count:
            rest.append(values[count:])
        count = max(count - len(values), 0)
    return first, rest


def write(path: str | Path, events: Events, **options: Any) -> None:
    """Write one batch to a new event file, in place of an existing one.

    Parameters
    ----------
    path : str or Path
        The file to make or replace.
    events : Events
        Its shape, duration and unit become the file's.
    **options
        ``compression``, ``chunk``, ``source``, ``source_sha256``, ``encoder`` and ``extra`` of
        :class:`EventWriter`.

    Raises
    ------
    ValueError, TypeError
        As :class:`EventWriter` and its ``append``; an existing file is left as it was.
    """
    with EventWriter(path, events.shape, events.duration, events.unit, **options) as writer:
        writer.append(events)


def _check_options(path: Path, duration: int, unit: str, compression: Compression, chunk: int | None) -> None:
    check_folder(path)
    if not 1 <= duration < 2**63:
        raise ValueError(f"duration expects 1 to 2**63 - 1, got {duration}")
    if unit not in UNITS:
        raise ValueError(f"unit expects one of {UNITS}, got {unit!r}")
    filters(compression)
    if chunk is not None and not 1 <= operator.index(chunk) <= 1 << 20:
        raise ValueError(f"chunk expects 1 to {1 << 20} events, got {chunk}")
