"""Write events to HDF5 (``data/FORMAT.md``): append, then commit by rename."""

from __future__ import annotations

import dataclasses
import json
import operator
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import eventsnn
from eventsnn.events import Events, Shape, TimeUnit, check_shape
from eventsnn.io._checks import COLUMNS, FORMAT, UNITS, VERSION, is_sha256
from eventsnn.io._output import Output
from eventsnn.targets import check_folder, fsync, hidden, shown_as

if TYPE_CHECKING:
    import h5py

Compression = Literal["none", "gzip", "lzf"]

_FILTERS: dict[str, dict[str, Any]] = {
    "none": {},
    "gzip": {"compression": "gzip", "compression_opts": 1, "shuffle": True},
    "lzf": {"compression": "lzf", "shuffle": True},
}
_CHUNK_SAMPLES, _CHUNK_RECORDING = 16384, 65536
_FLUSH, _PIECE = 1 << 18, 1 << 20  # events gathered before they are written, and as many of them at a time
_MAX_TEXT = 60_000  # HDF5 keeps longer attributes outside of its checksummed structures
_MAX_ENCODER = 1 << 30  # bytes of an encoder with fitted arrays, which lies in a dataset if it is no such text


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
    compression : {"gzip", "lzf", "none"}
        Always with a checksum. Any HDF5 program reads ``"gzip"`` and ``"none"``; ``"lzf"`` needs h5py.
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
        self._texts = _provenance(source, source_sha256, encoder, extra)
        self._dtypes = _dtypes(self._shape, self._duration)
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
                _commit(self._temporary, self._path)
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
        chunk = self._chunk or (_CHUNK_RECORDING if recording else _CHUNK_SAMPLES)
        group = file.create_group("events")
        for name, _, _ in COLUMNS:
            self._create(group, name, np.empty(0, self._dtypes[name]), chunk)
        if self._shape[0] <= 2:
            group["p"] = group["c"]  # a hard link: readers of camera files look for the polarity here

    def _create(self, group: h5py.Group, name: str, values: np.ndarray, chunk: int) -> None:
        filters = _FILTERS[self._compression] | {"fletcher32": True, "chunks": (chunk,), "maxshape": (None,)}
        group.create_dataset(name, data=values, **filters)

    def _finish(self, output: Output) -> None:
        output.do(lambda file: self._complete(file, output))
        output.close()
        self._output = None
        output.check()

    def _complete(self, file: h5py.File, output: Output) -> None:
        self._flush(file, output, whole_chunks=False)
        counts = np.concatenate([np.zeros(1, np.int64), *self._counts])
        offsets = np.cumsum(counts, dtype=np.int64)
        self._create(file, "offsets", offsets, _CHUNK_SAMPLES)
        for name, column in (("labels", self._labels), ("groups", self._groups)):
            if column:
                self._create(file, name, np.concatenate(column).astype(np.int64), _CHUNK_SAMPLES)
        if len(encoder := self._texts.get("encoder", "").encode()) > _MAX_TEXT:
            self._create(file, "encoder", np.frombuffer(encoder, np.uint8), _CHUNK_RECORDING)
        self._write_attributes(file, n_samples=len(offsets) - 1, n_events=int(offsets[-1]))

    def _write_attributes(self, file: h5py.File, **counts: int) -> None:
        channels, height, width = self._shape
        numbers = {"width": width, "height": height, "duration": self._duration, "sorted": 1, **counts}
        texts = {"format": FORMAT, "time_unit": self._unit, "created_by": f"eventsnn {eventsnn.__version__}"}
        attrs = file.attrs
        attrs["format_version"] = np.int64(VERSION)
        attrs["sensor_size"] = np.array([width, height, channels], np.int64)
        for name, number in numbers.items():
            attrs[name] = np.int64(number)
        for name, text in (texts | self._texts).items():
            # Fixed length: variable-length text lies in a heap without checksum.
            if len(encoded := text.encode()) <= _MAX_TEXT:
                attrs.create(name, np.bytes_(encoded), dtype=_text_type(len(encoded)))

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


def _check_options(path: Path, duration: int, unit: str, compression: str, chunk: int | None) -> None:
    check_folder(path)
    if not 1 <= duration < 2**63:
        raise ValueError(f"duration expects 1 to 2**63 - 1, got {duration}")
    if unit not in UNITS:
        raise ValueError(f"unit expects one of {UNITS}, got {unit!r}")
    if compression not in _FILTERS:
        raise ValueError(f"compression expects one of {tuple(_FILTERS)}, got {compression!r}")
    if chunk is not None and not 1 <= operator.index(chunk) <= 1 << 20:
        raise ValueError(f"chunk expects 1 to {1 << 20} events, got {chunk}")


def _dtypes(shape: Shape, duration: int) -> dict[str, str]:
    """Return the smallest stored type of each column."""
    limits = dict(zip(("t", "c", "y", "x"), (duration, *shape), strict=True))
    sizes = (("<u1", 1 << 8), ("<u2", 1 << 16), ("<u4", 1 << 32), ("<i8", 1 << 63))
    return {name: next(dtype for dtype, size in sizes if limit <= size) for name, limit in limits.items()}


def _provenance(source: str | Path | None, sha256: str | None, encoder: Any, extra: Any) -> dict[str, str]:
    if sha256 is not None and not is_sha256(sha256):
        raise ValueError(f"source_sha256 expects 64 lower-case hexadecimal digits, got {sha256!r}")
    texts = {"source": None if source is None else str(source), "source_sha256": sha256}
    for name, value in (("encoder", encoder), ("extra", extra)):
        texts[name] = None if value is None else _as_json(name, value)
    for name, text in texts.items():
        most = _MAX_ENCODER if name == "encoder" else _MAX_TEXT
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


def _text_type(length: int) -> Any:
    import h5py

    return h5py.string_dtype("utf-8", length)


def _commit(temporary: Path, path: Path) -> None:
    """Make the file durable, then visible under its name."""
    fsync(temporary)
    os.replace(temporary, path)
    if os.name == "posix":  # elsewhere folders cannot be opened
        fsync(path.parent)
