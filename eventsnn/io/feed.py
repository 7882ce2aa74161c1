"""Events that come while they are read: from a pipe, a socket, or a file that another program still writes."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from eventsnn.io._feed_headers import HEADERS, headed
from eventsnn.io.chunk import EVENT_DTYPE, Chunk, Columns
from eventsnn.io.prophesee_raw import Words, decode_words
from eventsnn.io.recording import EventFileError, Recording, Tally

_WORDS = {"evt2": Words("EVT2"), "evt21": Words("EVT21"), "evt3": Words("EVT3")}
#: What a stream without a header may hold: Prophesee's words, or 13 bytes an event as in ``EVENT_DTYPE``.
FEED_FORMATS = (*_WORDS, "events")

_PAUSE = 0.005  # seconds between two looks at a file that may grow
_CONNECT = 10.0  # seconds


class Feed:
    """Bytes that come when they come, as :func:`open_feed` makes it.

    Attributes
    ----------
    name : str
        Where they come from.
    arrived : float
        When the last ones came, on the clock of ``time.perf_counter``.
    """

    def __init__(self, name: str, read: Callable[[memoryview], int], close: Callable[[], None]) -> None:
        self.name, self.arrived = name, time.perf_counter()
        self._read, self._close, self._ahead, self._given = read, close, b"", 0

    def readinto(self, view: memoryview) -> int:
        """Wait for some bytes, take at most as many as there is room for, and return how many; 0 at the end."""
        if self._ahead:
            n = min(len(view), len(self._ahead))
            view[:n], self._ahead = self._ahead[:n], self._ahead[n:]
        else:
            n = self._read(view)
            self.arrived = time.perf_counter()
        self._given += n
        return n

    def tell(self) -> int:
        """Return how many bytes were taken so far."""
        return self._given

    def take(self, most: int) -> bytes:
        """Wait for some bytes and return at most so many."""
        memory = bytearray(most)
        return bytes(memory[: self.readinto(memoryview(memory))])

    def unread(self, data: bytes) -> None:
        """Give back what was taken last."""
        self._ahead = data + self._ahead
        self._given -= len(data)

    def close(self) -> None:
        """End it; who waits for bytes of a growing file or of a socket gets none any more."""
        self._close()


def open_feed(source: str | os.PathLike[str] | BinaryIO, *, follow: bool = False) -> Feed:
    """Open a source of bytes.

    Parameters
    ----------
    source : str, path or binary stream
        ``"-"``, the standard input; ``"tcp://HOST:PORT"``, which is connected to; a file; or an open stream, such as a
        pipe, which stays open.
    follow : bool
        Wait for more at the end of a file.

    Raises
    ------
    ValueError
        If an address is not as above.
    OSError
        If there is no such file, or nobody listens there.
    """
    if not isinstance(source, str | os.PathLike):
        read = getattr(source, "readinto1", None) or getattr(source, "readinto", None)
        if read is None:
            raise TypeError(f"a stream of events expects a method readinto(), got {type(source).__name__}")
        return Feed(str(getattr(source, "name", "stream")), read, lambda: None)
    text = os.fspath(source)
    if text == "-":
        stream = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115
        return Feed("stdin", cast("Any", stream).readinto, lambda: None)
    return _connected(text) if text.startswith("tcp://") else _file(Path(text), follow)


def feed_recording(feed: Feed, format: str | None = None, sensor: tuple[int, int] | None = None) -> Recording:  # noqa: A002
    """Return the events of a feed as a recording, which can be read once; waits for the header, if there is one.

    Parameters
    ----------
    feed : Feed
        Of Prophesee's RAW with or without its header; of DAT, AEDAT 2 (whose header names the camera), 3.1 or 4 and
        Event Stream with theirs; or bare events.
    format : {"evt2", "evt21", "evt3", "events"}, optional
        What it holds, where there is no header.
    sensor : (int, int), optional
        Width and height, where no header has them.

    Raises
    ------
    ValueError
        If the format is unknown, or needed and not given.
    EventFileError
        If the header is damaged or of another format, or begins an HDF5 file.
    """
    if format is not None and format not in FEED_FORMATS:
        raise ValueError(f"format expects one of {', '.join(FEED_FORMATS)}, got {format!r}")
    path = Path(feed.name)
    if format != "events" and (found := headed(feed, path, sensor)) is not None:
        return found
    if format is None:
        known = ", ".join(FEED_FORMATS)
        raise ValueError(f"{feed.name}: has no header of {HEADERS}, so its format is needed: one of {known}")
    if format == "events":
        return Recording(path, "bare events", sensor, partial(_decode_events, feed))
    return Recording(path, _WORDS[format].title, sensor, partial(_decode_words, feed, _WORDS[format]))


def _decode_words(feed: Feed, words: Words, size: int, tally: Tally) -> Iterator[Chunk]:
    return decode_words(cast("BinaryIO", feed), words, Columns(size), tally)


def _decode_events(feed: Feed, size: int, tally: Tally) -> Iterator[Chunk]:
    from eventsnn.io._decoding import whole_words

    for events in whole_words(cast("BinaryIO", feed), EVENT_DTYPE, size, tally):
        if events["p"].max() > 1:
            raise EventFileError(f"polarities expect 0 and 1, found {events['p'].max()}")
        yield Chunk(*(np.ascontiguousarray(events[name]) for name in ("t", "x", "y", "p")))


def _connected(address: str) -> Feed:
    host, colon, port = address.removeprefix("tcp://").rpartition(":")
    if not (host and colon and port.isdecimal() and int(port) < 65536):
        raise ValueError(f"an address expects tcp://HOST:PORT, got {address!r}")
    try:
        connection = socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT)
    except OSError as error:  # which names no address
        raise OSError(error.errno, error.strerror or str(error), address) from None
    connection.settimeout(None)

    def close() -> None:
        with suppress(OSError):  # the other side was faster
            connection.shutdown(socket.SHUT_RDWR)  # so that whoever waits for bytes is told
        connection.close()

    return Feed(address, connection.recv_into, close)


def _file(path: Path, follow: bool) -> Feed:
    stream, wanted = path.open("rb", buffering=0), threading.Event()
    wanted.set()

    def read(view: memoryview) -> int:
        n = 0
        while wanted.is_set() and not (n := stream.readinto(view)) and follow:
            if os.fstat(stream.fileno()).st_size < stream.tell():
                raise EventFileError("became shorter while it was read", path)
            time.sleep(_PAUSE)
        return n

    return Feed(str(path), read, wanted.clear)
