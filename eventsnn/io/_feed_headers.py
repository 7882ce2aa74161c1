"""What a stream of events begins with: headers of recordings, taken off while their bytes come."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from eventsnn.io import _aedat_header, aedat2, aedat3, aedat4, event_stream, prophesee_dat
from eventsnn.io._prophesee_header import parse_header
from eventsnn.io.chunk import Chunk, Columns
from eventsnn.io.prophesee_raw import decode_words, described
from eventsnn.io.recording import Decode, EventFileError, Recording, Tally

if TYPE_CHECKING:
    from eventsnn.io.feed import Feed

#: For people: whose headers are known.
HEADERS = "Prophesee RAW or DAT, AEDAT 2, 3.1 or 4, or Event Stream"

_PIECE = 4096
_LONGEST = 1 << 16  # bytes of a header's line
_MOST = 1 << 25  # bytes of a header
_HDF5 = b"\x89HDF\r\n\x1a\n"

# Given what has come so far, and whether more may: the recording and where its header ends, None if more is needed.
_Take = Callable[["Feed", Path, bytes, bool], tuple[Recording, int] | None]


def headed(feed: Feed, path: Path, sensor: tuple[int, int] | None) -> Recording | None:
    """Take the header off a feed, if it begins with one, and return its events as a recording.

    Raises
    ------
    EventFileError
        If the header is damaged or of another format.
    """
    start, more = b"", True
    while more:
        take = next((take for sign, take in _KINDS.items() if start.startswith(sign)), None)
        if take is None and not any(sign.startswith(start) for sign in _KINDS):
            break
        if take is not None and (found := take(feed, path, start, True)) is not None:
            return _begun(feed, start, *found, sensor)
        if len(start) > _MOST:
            raise EventFileError(f"expected a header of at most {_MOST} bytes", path, len(start))
        piece = feed.take(_PIECE)
        start, more = start + piece, bool(piece)
    take = next((take for sign, take in _KINDS.items() if start.startswith(sign)), None)
    if take is not None and (found := take(feed, path, start, False)) is not None:
        return _begun(feed, start, *found, sensor)
    feed.unread(start)
    return None


def _begun(feed: Feed, start: bytes, recording: Recording, end: int, sensor: tuple[int, int] | None) -> Recording:
    feed.unread(start[end:])
    return recording if sensor is None else replace(recording, sensor=sensor)


def _prophesee(feed: Feed, path: Path, start: bytes, more: bool) -> tuple[Recording, int] | None:
    header = parse_header(io.BytesIO(start))
    lines, rest = start[: header.end].splitlines(), start[header.end :]
    if more and not (bool(lines) and lines[-1].lstrip(b"%").strip() == b"end") and not _is_no_line(rest, b"%"):
        return None
    if not prophesee_dat.recognize(path, start):
        words, found = described(header)
        return Recording(path, words.title, found, _from(feed, decode_words, words), header.fields), header.end
    if more and len(rest) < 2:
        return None
    version, found = prophesee_dat.described(header, rest[:2])
    decode = _from(feed, prophesee_dat.decode_events, version)
    return Recording(path, prophesee_dat.title(version), found, decode, header.fields), header.end + 2


def _aedat2(feed: Feed, path: Path, start: bytes, more: bool) -> tuple[Recording, int] | None:
    header = _aedat_header.parse_header(cast("BinaryIO", io.BytesIO(start)))
    if more and not _is_no_line(start[header.end :], b"#"):
        return None
    if (camera := aedat2.named_camera(header)) is None:
        raise EventFileError("expected an AEDAT 2 header that names the camera (AEChip) of a stream", path)
    decode = _from(feed, aedat2.decode_events, camera[0], 4)
    return aedat2.recording_of(path, header, *camera, decode), header.end


def _aedat3(feed: Feed, path: Path, start: bytes, more: bool) -> tuple[Recording, int] | None:
    if more and f"\n{aedat3.END}".encode() not in start[: start.rfind(b"\n")]:
        return None
    header = _aedat_header.parse_header(cast("BinaryIO", io.BytesIO(start)), aedat3.END)
    return aedat3.recording_of(path, header, _from(feed, aedat3.decode_events)), header.end


def _aedat4(feed: Feed, path: Path, start: bytes, more: bool) -> tuple[Recording, int] | None:
    first = start[: aedat4.BEFORE]
    if more and len(first) < aedat4.BEFORE:
        return None
    end = aedat4.BEFORE + aedat4.header_length(first, path)
    if len(start) < end:
        if more:
            return None
        raise EventFileError("ends within its header", path, len(start))
    content, sensor, metadata = aedat4.described(start[aedat4.BEFORE : end], path)

    def decode(size: int, tally: Tally) -> Iterator[Chunk]:
        stream = cast("BinaryIO", io.BufferedReader(_Raw(feed)))
        return aedat4.decode_events(stream, content, None, Columns(size), tally)

    return Recording(path, "AEDAT 4.0", sensor, decode, metadata), end


def _event_stream(feed: Feed, path: Path, start: bytes, more: bool) -> tuple[Recording, int] | None:
    if more and len(start) < event_stream.HEADER:
        return None
    kind = event_stream.kind_of(start[: event_stream.HEADER], path)
    decode = _from(feed, event_stream.decode_events, kind)
    return event_stream.recording_of(path, start, decode), event_stream.HEADER


def _hdf5(feed: Feed, path: Path, start: bytes, more: bool) -> tuple[Recording, int] | None:
    raise EventFileError(f"is HDF5, which cannot be read while it comes; expected {HEADERS}, or bare events", path)


def _is_no_line(rest: bytes, sign: bytes) -> bool:
    """Tell whether what follows a header is seen to be no line of it."""
    return bool(rest) and (rest[:1] != sign or b"\n" in rest or len(rest) > _LONGEST)


def _from(feed: Feed, decode: Callable[..., Iterator[Chunk]], *what: object) -> Decode:
    return partial(_decoded, feed, decode, what)


def _decoded(
    feed: Feed, decode: Callable[..., Iterator[Chunk]], what: tuple[object, ...], size: int, tally: Tally
) -> Iterator[Chunk]:
    return decode(cast("BinaryIO", feed), *what, Columns(size), tally)


class _Raw(io.RawIOBase):
    """A feed as Python's own streams are."""

    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self._feed = feed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        return self._feed.readinto(memoryview(buffer))  # type: ignore[arg-type]


_KINDS: dict[bytes, _Take] = {
    b"% ": _prophesee,
    b"#!AER-DAT2.": _aedat2,
    b"#!AER-DAT3.": _aedat3,
    b"#!AER-DAT4.0": _aedat4,
    event_stream.SIGNATURE: _event_stream,
    _HDF5: _hdf5,
}
