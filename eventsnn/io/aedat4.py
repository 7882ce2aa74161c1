"""AEDAT 4.0, as DV writes it: packets of events, compressed with LZ4 or Zstandard or not at all.

x runs to the right, y down, and 1 is brighter: nothing is turned by default. Times are microseconds since 1970. Of
several cameras' events only the first stream's are read. What is compressed needs the package ``lz4`` or ``zstandard``
(``pip install eventsnn[aedat4]``). It is decompressed in pieces, so that no packet asks for more memory than the file
has.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from eventsnn.io._flatbuffer import root
from eventsnn.io._records import CUT_PACKET
from eventsnn.io.chunk import Columns, Rows, most_events
from eventsnn.io.recording import CUT_END, EventFileError, Recording, Tally

_SIGNATURE = b"#!AER-DAT4.0\r\n"
#: bytes of a file before the description of the streams, whose length they end with
BEFORE = len(_SIGNATURE) + 4
_LONGEST = 1 << 24  # bytes of the description of the streams
_LARGEST = 1 << 26  # bytes of a packet, where no file's size says how many there can be
_PIECE = 1 << 20  # bytes decompressed at once
_BUFFER = 1 << 18  # bytes read at once
_MOST_INFLATED = 1100  # times the bytes of a packet; LZ4's limit is 255
_PACKAGES = {0: "", 1: "lz4", 2: "lz4", 3: "zstandard", 4: "zstandard"}  # by the file's number of the compression
_TABLES = {"lz4": b"\x04\x22M\x18", "zstandard": b"\x28\xb5\x2f\xfd"}  # what the table behind the packets begins with
_HEAD = struct.Struct("<ii")  # of a packet: its stream, and the bytes that follow
_SIZE = 16  # bytes of an event: 8 of its time, 2 of its column, 2 of its row, 1 of its polarity
_LEAST = 5  # bytes of an event in a packet, usually
_OTHER = {"FRME": "packets of frames", "IMUS": "packets of inertial measurements", "TRIG": "packets of triggers"}

# Yields what a packet holds.
_Unpack = Callable[[bytes], Iterator[bytes]]


@dataclass(frozen=True)
class Content:
    """Where packets begin and end (None: with the file), how they are compressed, what each stream has; ours."""

    begin: int
    end: int | None
    package: str
    kinds: dict[int, str]
    chosen: int | None


def recognize(path: Path, start: bytes) -> bool:
    """Tell whether the first line names the version."""
    return start.startswith(_SIGNATURE[:12])


def open_aedat4(path: Path) -> Recording:
    """Read the header of an AEDAT 4.0 file.

    Raises
    ------
    EventFileError
        If it is damaged, or a package that decompresses the events is missing.
    """
    with path.open("rb") as stream:
        start = stream.read(BEFORE)
        data = stream.read(header_length(start, path))
    if len(data) < header_length(start, path):
        raise EventFileError("ends within its header", path, len(start) + len(data))
    content, sensor, metadata = described(data, path)
    decode = partial(_decode, path, content)
    return Recording(path, "AEDAT 4.0", sensor, decode, metadata, into=decode)


def header_length(start: bytes, path: Path) -> int:
    """Return how many bytes of a header follow a file's first 18 bytes; raises as :func:`open_aedat4`."""
    if len(start) < BEFORE or not start.startswith(_SIGNATURE):
        raise EventFileError("ends within its header", path, len(start))
    if (length := int.from_bytes(start[-4:], "little")) > _LONGEST:
        raise EventFileError(f"expected a header of at most {_LONGEST} bytes, found {length}", path, len(_SIGNATURE))
    return length


def described(data: bytes, path: Path) -> tuple[Content, tuple[int, int] | None, dict[str, str]]:
    """Return what the header says of packets, of the sensor and else; raises as :func:`open_aedat4`."""
    table = root(data, b"IOHE", 0)
    package = _package(table.integer(0, 4), path)
    begin, end, text = BEFORE + len(data), table.integer(1, 8, -1), table.text(2)
    if 0 < end < begin:
        raise EventFileError(f"expected packets up to byte {begin} or behind it, found {end}", path, len(_SIGNATURE))
    streams = re.split(r'<node name="(\d{1,9})" path="[^"]*/outInfo/\d+/">', text)
    about = {int(number): part for number, part in zip(streams[1::2], streams[2::2], strict=True)}
    kinds = {number: _attribute(part, "typeIdentifier") for number, part in about.items()}
    chosen = next((number for number, kind in kinds.items() if kind == "EVTS"), None)
    content = Content(begin, end if end > 0 else None, package, kinds, chosen)
    said = {
        name: _attribute(about.get(-1 if chosen is None else chosen, ""), name) for name in ("source", "sizeX", "sizeY")
    }
    sensor = (int(said["sizeX"]), int(said["sizeY"])) if said["sizeX"].isdigit() and said["sizeY"].isdigit() else None
    return content, sensor, {k: v for k, v in said.items() if v}


def _package(compression: int, path: Path) -> str:
    """Return the package that decompresses, if it is there."""
    if compression not in _PACKAGES:
        raise EventFileError(f"expected the compression 0 to 4, found {compression}", path, len(_SIGNATURE))
    package = _PACKAGES[compression]
    try:
        import_module({"lz4": "lz4.frame", "": "zlib"}.get(package, package))
    except ImportError:
        reason = f"is compressed; reading it needs the package {package} (pip install eventsnn[aedat4])"
        raise EventFileError(reason, path) from None
    return package


def _attribute(text: str, key: str) -> str:
    found = re.search(rf'<attr key="{key}" type="\w+">([^<]{{0,200}})</attr>', text)
    return found[1] if found else ""


def _decode(path: Path, content: Content, size: int, tally: Tally, rows: Rows | None = None) -> Iterator[Any]:
    length = path.stat().st_size
    with path.open("rb", buffering=_BUFFER) as stream:
        stream.seek(content.begin)
        yield from decode_events(stream, content, length, rows or Columns(size), tally)


def decode_events(
    stream: BinaryIO, content: Content, length: int | None, target: Columns | Rows, tally: Tally
) -> Iterator[Any]:
    """Yield what the target makes of the events of a stream that stands behind its header.

    Parameters
    ----------
    stream : binary stream
        Whose ``read`` gives as many bytes as asked for, unless it ends.
    content : Content
        What the header says.
    length : int or None
        Bytes of the whole; None for a stream, which ends when it ends and cannot be entered elsewhere. Its packets are
        given one by one, as they come; those of a file are small, and gathered until the target's size is reached.
    target : Columns or Rows
        Where events are put.
    tally : Tally
        As of :data:`Decode`.
    """
    from eventsnn.io._record_kernels import aedat4_events

    unpack = _unpacker(content.package)
    n, capacity = 0, 0  # events that the target has been given, and has room for
    if length is not None:
        target.expect(most_events(length, _LEAST))
    try:
        for place, body in _packets(stream, content, length, tally):
            for data, begin, end in _runs(body, unpack, place):
                while begin < end:
                    if n == capacity:
                        if n:
                            yield target.taken(n)
                        n, capacity = 0, target.size if length is not None else min(target.size, (end - begin) // _SIZE)
                        out = target.room(capacity)
                    n, begin = aedat4_events(data, begin, end, out, n, capacity)
            if length is None and n:
                yield target.taken(n)
                n = capacity = 0
    except EventFileError:
        if n:
            yield target.taken(n)
        raise
    if n:
        yield target.taken(n)


def _runs(body: bytes, unpack: _Unpack, place: int) -> Iterator[tuple[np.ndarray, int, int]]:
    """Yield bytes, and from where to where events are in them; an error names the packet's place."""
    try:
        yield from _events(unpack(body), _MOST_INFLATED * len(body))
    except EventFileError as error:
        raise EventFileError(f"a packet that cannot be read: {error.reason}", offset=place) from None


def _packets(stream: BinaryIO, content: Content, length: int | None, tally: Tally) -> Iterator[tuple[int, bytes]]:
    """Yield place and body of each packet of the chosen stream; count the others."""
    place = content.begin
    while content.end is None or place < content.end:
        head = stream.read(8)
        if len(head) < 8:
            tally.drop(CUT_END, len(head))
            # Nothing tells whether packets or only their table are missing.
            tally.drop(CUT_PACKET, int(not head and content.end is not None))
            return
        if content.end is None and head[:4] == _TABLES.get(content.package):
            return  # whoever wrote the file has closed it since its header was read
        number, size = _HEAD.unpack(head)
        if size < 0 or (length is None and size > _LARGEST):
            raise EventFileError(f"expected a packet, found a size of {size} bytes", offset=place)
        if content.end is not None and place + 8 + size > content.end:
            reason = f"expected a packet up to byte {content.end}, where the header has packets end, found {size} bytes"
            raise EventFileError(reason, offset=place)
        if length is not None and place + 8 + size > length:
            tally.drop(CUT_PACKET)
            return
        chosen = number == content.chosen
        body = stream.read(size) if chosen else b""
        if (len(body) if chosen else _passed_over(stream, size, length is not None)) < size:
            tally.drop(CUT_PACKET)
            return
        if chosen:
            yield place, body
        else:
            kind = content.kinds.get(number, "")
            tally.skip(_OTHER.get(kind, "packets of other streams"))
        place += 8 + size


def _passed_over(stream: BinaryIO, size: int, seekable: bool) -> int:
    """Pass over bytes and return how many there were; of a file there are as many."""
    if seekable:
        stream.seek(size, 1)
        return size
    passed = 0
    while passed < size and (got := len(stream.read(min(size - passed, _BUFFER)))):
        passed += got
    return passed


def _unpacker(package: str) -> _Unpack:
    """Return what yields what a packet holds, decompressed, in pieces of bounded size."""
    if not package:
        return lambda body: iter((body,))
    if package == "zstandard":
        return partial(_pieces_of_zstd, import_module("zstandard"))
    frame = import_module("lz4.frame")
    # One for all packets: it has memory of its own, which takes as long to make as to decompress a packet.
    return partial(_pieces_of_lz4, frame, frame.create_decompression_context())


def _pieces_of_zstd(zstandard: Any, body: bytes) -> Iterator[bytes]:
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 24).stream_reader(body) as reader:
            while piece := reader.read(_PIECE):
                yield piece
    except zstandard.ZstdError as error:
        raise EventFileError(str(error)) from None


def _pieces_of_lz4(frame: Any, context: Any, body: bytes) -> Iterator[bytes]:
    frame.reset_decompression_context(context)
    most = min(_PIECE, max(1 << 12, 8 * len(body)))  # it takes as much memory at once
    rest, is_end = memoryview(body), False
    while not is_end:
        try:
            piece, taken, is_end = frame.decompress_chunk(context, rest, max_length=most)
        except (RuntimeError, EOFError) as error:
            raise EventFileError(str(error)) from None
        rest = rest[taken:]
        if not piece and not is_end:
            raise EventFileError("its compressed data end too early")
        yield piece


def _events(pieces: Iterator[bytes], most: int) -> Iterator[tuple[np.ndarray, int, int]]:
    """Yield where a packet of at most ``most`` bytes has its events: in a vector whose place the first piece tells."""
    from eventsnn.io._record_kernels import aedat4_vector

    piece = next(pieces, b"")
    data = np.frombuffer(piece, np.uint8)
    begin, left = aedat4_vector(data)
    if begin < 0:  # it has no vector, or is damaged, and how is said here
        if (where := root(piece, b"EVTS", 4).vector(0)) is None:
            return
        begin, left = where
    if left * _SIZE > most:
        raise EventFileError(f"it says that it holds {left} events, more than it can")
    while left:
        count = min(left, (len(data) - begin) // _SIZE)
        yield data, begin, begin + count * _SIZE
        if not (left := left - count):
            return
        rest, piece = data[begin + count * _SIZE :].tobytes(), next(pieces, b"")
        if not piece:
            raise EventFileError(f"it holds {left} events fewer than it says")
        data, begin = np.frombuffer(rest + piece, np.uint8), 0
