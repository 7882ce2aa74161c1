"""Events in NumPy's files: ``.npy`` and ``.npz``, read in blocks; what would be unpickled is refused.

Recognized are an array with fields ``t, x, y, p`` in any order and under their usual names (N-ImageNet, DVS-Lip,
tonic); one array for each of them in an ``.npz`` (SpikingJelly); an array of numbers with four columns, taken for ``t,
x, y, p`` (EVIMO); and ``pos`` and ``neg`` with columns ``y, x, t`` (ES-ImageNet), of which the brighter come first.
Integer times are microseconds, others seconds, unless a unit is given. Nothing is turned; polarities of -1 become 0.
The size of the sensor is unknown.
"""

from __future__ import annotations

import errno
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from eventsnn.io import _npz
from eventsnn.io._columns import Unit, check_letters, check_unit, chunk_of, letters_of
from eventsnn.io.chunk import EVENT_DTYPE, Columns, Rows, most_events
from eventsnn.io.recording import CUT_END, Chunk, EventFileError, Recording, Tally

_NPY, _ZIP = b"\x93NUMPY", b"PK\x03\x04"
_WIDEST = 1 << 12  # bytes of a row
_BLOCK = 1 << 20  # bytes of a block of rows at most
_SPARE = 8  # bytes behind them that kernels may load, but not use
_CUT_ROWS = "rows that the end of the file cuts"
_PAIR = ("pos", "neg")


@dataclass(frozen=True)
class _Array:
    """One array of a file: its name in an ``.npz``, where its numbers begin, and what they are."""

    name: str | None
    begin: int
    dtype: np.dtype
    shape: tuple[int, ...]
    fortran: bool

    def __str__(self) -> str:
        return (
            f"{self.dtype} of shape {self.shape}" if self.name is None else f"{self.name!r}: {self.dtype} {self.shape}"
        )


@dataclass(frozen=True)
class _Run:
    """Rows of numbers that lie one after another; ``places`` says which numbers of a row are t, x, y and p."""

    array: _Array
    begin: int
    dtype: np.dtype
    rows: int
    places: dict[str, str | int]


@dataclass(frozen=True)
class _Group:
    """Runs that are read side by side, the polarity if no column has it, and whether columns are taken for granted."""

    runs: tuple[_Run, ...]
    polarity: int | None = None
    is_guess: bool = False


def recognize(path: Path, start: bytes) -> bool:
    """Tell whether a file begins as NumPy's do."""
    return start.startswith((_NPY, _ZIP))


def open_arrays(path: str | Path, *, columns: str | None = None, unit: Unit | None = None) -> Recording:
    """Find the events in a file of NumPy's.

    Parameters
    ----------
    path : str or Path
        An ``.npy`` or ``.npz`` file.
    columns : str, optional
        What the columns of an array of plain numbers are, as ``"xytp"``; ``_`` for what is no event.
    unit : {"ns", "us", "ms", "s"}, optional
        What times count. Default: microseconds for integers, seconds for others.

    Returns
    -------
    Recording
        See :meth:`Recording.adjusted` for another orientation.

    Raises
    ------
    EventFileError
        If it is damaged, or holds no such arrays.
    ValueError
        If ``columns`` or ``unit`` does not fit.
    """
    file = Path(path).absolute()
    check_unit(unit)
    if columns is not None:
        check_letters(columns if "p" in columns else columns + "p")
    with _sound(file):
        arrays = _arrays(file)
    groups = _groups(arrays, columns, file)
    n_events = sum(group.runs[0].rows for group in groups)
    if unit not in (None, "us") or (fields := _integers(groups)) is None:
        return Recording(file, "NumPy", None, partial(_decode, file, groups, unit), n_events=n_events)
    run = groups[0].runs[0]
    decode = partial(_decode_integers, file, run, fields)
    into = partial(_into, file, run) if _is_of_events(run) else decode
    return Recording(file, "NumPy", None, decode, n_events=n_events, into=into)


def _arrays(path: Path) -> list[_Array]:
    with path.open("rb") as stream:
        if stream.read(len(_NPY)) == _NPY:
            stream.seek(0)
            return [_array(None, stream)]
    with zipfile.ZipFile(path) as archive:
        found = []
        for info in archive.infolist():
            if info.file_size > _npz._MAX_INFLATION * min(info.compress_size, path.stat().st_size):
                raise ValueError(f"{info.filename!r:.80} declares {info.file_size} bytes, more than the file can hold")
            if info.filename.endswith(".npy"):
                with archive.open(info) as member:
                    found.append(_array(info.filename.removesuffix(".npy"), member, info.file_size))
        return found


def _array(name: str | None, stream: IO[bytes], length: int | None = None) -> _Array:
    try:
        shape, fortran, dtype = _npz._header(stream)
    except (
        SyntaxError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
        MemoryError,
        tokenize.TokenError,
    ) as error:
        raise ValueError(f"an array has a header that is none: {error}") from None
    array = _Array(name, stream.tell(), dtype, shape, fortran)
    if min(shape, default=0) < 0:
        raise ValueError(f"an array of a size that cannot be: {array}")
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if length is not None and array.begin + size > length:
        raise ValueError(f"{name!r} declares shape {shape}, more than the {length} bytes that it has")
    return array


def _groups(arrays: list[_Array], columns: str | None, path: Path) -> tuple[_Group, ...]:
    """Return where the events are."""
    named = {array.name: array for array in arrays}
    if set(_PAIR) <= set(named):
        order = columns or "yxt"
        pair = [_table(named[name], order + "p" * ("p" not in order), width=len(order)) for name in _PAIR]
        if all(pair):
            return tuple(_Group(cast("tuple[_Run, ...]", runs), 1 - i) for i, runs in enumerate(pair))
    letters = letters_of(array.name or "" for array in arrays)
    if sorted(letters.replace("_", "")) == sorted("txyp") and columns is None:
        parts = {letter: array for letter, array in zip(letters, arrays, strict=True) if letter != "_"}
        rows = {int(np.prod(array.shape)) for array in parts.values()}
        if len(rows) == 1 and all(_is_plain(a.dtype) and _is_flat(a.shape) for a in parts.values()):
            return (_Group(tuple(_Run(a, a.begin, a.dtype, rows.copy().pop(), {k: 0}) for k, a in parts.items())),)
    tables = [runs for array in arrays if (runs := _fields(array) or _table(array, columns))]
    if len(tables) != 1:
        seen = "; ".join(map(str, arrays[:20])) or "no arrays"
        expected = "expected fields t, x, y, p, an array for each of them, or one of four columns (or columns= given)"
        raise EventFileError(f"{expected}; found {seen}", path)
    return (_Group(tables[0], is_guess=columns is None and tables[0][0].dtype.names is None),)


def _is_plain(dtype: np.dtype) -> bool:
    return dtype.kind in "biuf" and dtype.itemsize <= 8


def _is_flat(shape: tuple[int, ...]) -> bool:
    return len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)


def _fields(array: _Array) -> tuple[_Run, ...] | None:
    """Return an array with fields as one run, or None if it has not those of events."""
    if array.dtype.names is None or not _is_flat(array.shape) or array.dtype.itemsize > _WIDEST:
        return None
    letters = letters_of(array.dtype.names)
    fields = {k: name for k, name in zip(letters, array.dtype.names, strict=True) if k != "_"}
    if sorted(letters.replace("_", "")) != sorted("txyp") or not all(
        _is_plain(array.dtype[f]) for f in fields.values()
    ):
        return None
    return (_Run(array, array.begin, array.dtype, array.shape[0], dict(fields)),)


def _table(array: _Array, columns: str | None, width: int = 4) -> tuple[_Run, ...] | None:
    """Return an array of numbers with columns as runs, or None if it has others."""
    width = len(columns) if columns and width == 4 else width
    if not _is_plain(array.dtype) or len(array.shape) != 2 or width not in array.shape:
        return None
    order = columns or "txyp"
    check_letters(order)
    across = array.shape[1] != width  # one row for each of t, x, y and p
    rows = array.shape[1 if across else 0]
    places = {k: i for i, k in enumerate(order) if k != "_" and i < width}
    if array.fortran == across:
        return (_Run(array, array.begin, np.dtype((array.dtype, (width,))), rows, dict(places)),)
    step = rows * array.dtype.itemsize
    return tuple(_Run(array, array.begin + i * step, array.dtype, rows, {k: 0}) for k, i in places.items())


def _decode(path: Path, groups: tuple[_Group, ...], unit: str | None, size: int, tally: Tally) -> Iterator[Chunk]:
    for group in groups:
        with _sound(path), ExitStack() as stack:
            streams = [stack.enter_context(_opened(path, run)) for run in group.runs]
            yield from _chunks(group, streams, unit, size, tally)


def _chunks(group: _Group, streams: list[IO[bytes]], unit: str | None, size: int, tally: Tally) -> Iterator[Chunk]:
    step = min(size, max(1, _BLOCK // max(run.dtype.itemsize for run in group.runs)))
    for begin in range(0, group.runs[0].rows, step):
        wanted = min(step, group.runs[0].rows - begin)
        columns: dict[str, np.ndarray] = {}
        for run, stream in zip(group.runs, streams, strict=True):
            data = _exactly(stream, wanted * run.dtype.itemsize)
            columns |= _columns(run, data, tally)
        n = min(map(len, columns.values()))
        if group.polarity is not None:
            columns["p"] = np.full(n, group.polarity, np.int8)
        if group.is_guess and not begin:
            _check_times(columns["t"])
        yield chunk_of({name: column[:n] for name, column in columns.items()}, unit, tally)
        if n < wanted:
            tally.drop(_CUT_ROWS, group.runs[0].rows - begin - n)
            return


def _integers(groups: tuple[_Group, ...]) -> np.ndarray | None:
    """Return where the integers t, x, y and p of each row are, as ``put_fields`` takes it; None if they are others."""
    run = groups[0].runs[0]
    if len(groups) > 1 or groups[0].is_guess or sorted(run.places) != sorted("txyp"):
        return None
    found = []
    for letter in "txyp":
        place = run.places[letter]
        if isinstance(place, str):
            dtype, begin = cast("tuple[np.dtype, int]", cast("dict", run.dtype.fields)[place][:2])
        else:
            dtype = run.dtype.base
            begin = place * dtype.itemsize
        bits, signed = 8 * dtype.itemsize, dtype.kind == "i"
        if dtype.kind not in "biu" or dtype.newbyteorder("<") != dtype or (dtype.kind == "u" and bits == 64):
            return None
        mask, most = (1 << bits) - 1, (1 << min(16, bits - signed)) - 1
        # What 64 bits hold is all of its mask, which is -1 as a number with sign.
        other = {"t": 1 << bits - 1 if signed and bits < 64 else 0, "p": int(signed)}.get(letter, mask & ~most)
        found.append((begin, *(value - (1 << 64) if value >> 63 else value for value in (mask, other))))
    return np.array(found, np.int64)


def _decode_integers(
    path: Path, run: _Run, fields: np.ndarray, size: int, tally: Tally, rows: Rows | None = None
) -> Iterator[Any]:
    """Put rows of integers to where they are wanted; what is wrong with them is found out by :func:`chunk_of`."""
    from eventsnn.io._event_kernels import put_fields

    target, width = rows or Columns(size), run.dtype.itemsize
    target.expect(min(run.rows, most_events(path.stat().st_size)))
    step = max(1, min(target.size, _BLOCK // width, run.rows))
    data = np.empty(step * width + _SPARE, np.uint8)
    with _sound(path), _opened(path, run) as stream:
        for begin in range(0, run.rows, step):
            wanted = min(step, run.rows - begin)
            n, rest = divmod(_filled(stream, data[: wanted * width]), width)
            tally.drop(CUT_END, rest)
            if put_fields(data, width, fields, target.room(n), n):
                yield target.taken(n)
            else:
                yield target.add(chunk_of(_columns(run, data[: n * width].tobytes(), tally), "us", tally))
            if n < wanted:
                tally.drop(_CUT_ROWS, run.rows - begin - n)
                return


def _is_of_events(run: _Run) -> bool:
    """Tell whether rows are those of ``EVENT_DTYPE``, under whatever names."""
    fields, whole = run.dtype.fields, EVENT_DTYPE.fields
    if fields is None or whole is None or run.dtype.itemsize != EVENT_DTYPE.itemsize:
        return False
    return all(fields[str(place)][:2] == whole[letter][:2] for letter, place in run.places.items())


def _into(path: Path, run: _Run, size: int, tally: Tally, rows: Rows) -> Iterator[np.ndarray]:
    """Read bytes that are those of ``EVENT_DTYPE`` to where they are wanted; what is wrong with them is left out."""
    from eventsnn.io._event_kernels import is_sound

    width, n_bytes = EVENT_DTYPE.itemsize, path.stat().st_size
    rows.expect(min(run.rows, most_events(n_bytes)))
    with _sound(path), _opened(path, run) as stream:
        for begin in range(0, run.rows, size):
            wanted = min(size, run.rows - begin)
            room = rows.room(wanted)
            n, rest = divmod(_filled(stream, room[: wanted * width]), width)
            tally.drop(CUT_END, rest)
            data = room[: n * width]
            if is_sound(data):
                yield rows.taken(n)
            else:
                yield rows.add(chunk_of(_columns(run, data.tobytes(), tally), "us", tally))
            if n < wanted:
                tally.drop(_CUT_ROWS, run.rows - begin - n)
                return


def _filled(stream: IO[bytes], data: np.ndarray) -> int:
    """Return how many bytes could be read, up to as many as there is room for."""
    view, n = data.data, 0
    while n < len(data) and (got := stream.readinto(view[n:])):  # type: ignore[attr-defined]
        n += got
    return n


def _check_times(t: np.ndarray) -> None:
    """Refuse what is taken for times if it runs backward as often as coordinates do."""
    if 3 * np.count_nonzero(t[1:] < t[:-1]) > len(t):
        raise EventFileError("expected times in the first column, which run forward; columns= names another order")


def _columns(run: _Run, data: bytes, tally: Tally) -> dict[str, np.ndarray]:
    """Return the columns of some rows, in the machine's order of bytes."""
    width = run.dtype.itemsize
    tally.drop(CUT_END, len(data) % width)
    base, shape = run.dtype.subdtype or (run.dtype, ())
    rows: np.ndarray = np.frombuffer(data, base, len(data) // width * int(np.prod(shape, dtype=int))).reshape(
        -1, *shape
    )
    picked = {
        k: rows[place] if isinstance(place, str) else rows[:, place] if shape else rows
        for k, place in run.places.items()
    }
    return {k: column.astype(column.dtype.newbyteorder("="), copy=False) for k, column in picked.items()}


@contextmanager
def _opened(path: Path, run: _Run) -> Iterator[IO[bytes]]:
    """Open a file, or an array in it, where a run begins."""
    with path.open("rb") as stream:
        if run.array.name is None:
            stream.seek(run.begin)
            yield stream
            return
        with zipfile.ZipFile(stream) as archive, archive.open(f"{run.array.name}.npy") as member:
            left = run.begin
            while left and (part := member.read(min(left, _BLOCK))):
                left -= len(part)
            yield member


def _exactly(stream: IO[bytes], count: int) -> bytes:
    parts = []
    while count and (part := stream.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


@contextmanager
def _sound(path: Path) -> Iterator[None]:
    """Turn whatever is wrong with a file into one error that names it."""
    try:
        yield
    except EventFileError:
        raise
    # RuntimeError: encrypted, or compressed in a way that is not known here
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, OverflowError) as error:
        raise EventFileError(f"not a readable file of NumPy's: {error}", path) from None
    except KeyError as error:
        raise EventFileError(f"has changed since it was opened: {error}", path) from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # what a place that cannot be in the file gives
            raise
        raise EventFileError("not a readable file of NumPy's: a place outside of it", path) from None
