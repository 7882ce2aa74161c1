"""A network on a stream of events while it comes: a decision for each window, and how long it took."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, Full, Queue
from typing import BinaryIO, TypeAlias

import numpy as np

from eventsnn.encode import ByTime, CameraEncoder, CameraSample, WindowChannels
from eventsnn.events import Events
from eventsnn.io import EVENT_DTYPE
from eventsnn.io.chunk import Chunk
from eventsnn.io.feed import Feed, feed_recording, open_feed
from eventsnn.io.own_recording import open_recording
from eventsnn.io.recording import Recording, Report, Stream
from eventsnn.network import Network
from eventsnn.readout import FittedReadout, spike_features

_BLOCK = 1 << 14  # words or events read at a time
_WAITING = 256  # blocks that may wait for the network; then reading waits
_LOOK = 0.1  # seconds between two looks whether anybody still wants what was read

# When it came, and a chunk, the end (None) or what went wrong.
Arrival: TypeAlias = tuple[float, Chunk | BaseException | None]
Waiting: TypeAlias = "Queue[Arrival]"


@dataclass(frozen=True)
class LiveWindow:
    """What a network says about one window.

    Parameters
    ----------
    index : int
        0, 1, 2, ...
    start, length : int
        In microseconds, on the clock of the camera.
    events : Events
        What went into the network: one sample.
    output : Events
        The spikes of its last layer.
    decision : int
        The class that the readout or the network decides for, where it has no classes the map that fired first; -1
        where it was silent.
    latency : float
        Seconds from the arrival of the last event that the window had to wait for (the first at or after its end, say)
        until the decision.
    network_seconds : float
        How long the network took of this.
    """

    index: int
    start: int
    length: int
    events: Events = field(repr=False)
    output: Events = field(repr=False)
    decision: int
    latency: float
    network_seconds: float


class Live:
    """Windows one after another, each as soon as it is complete; :func:`live` makes it. Closing it ends the reading.

    Attributes
    ----------
    report : Report
        What was read so far, and what was lost.
    """

    def __init__(
        self,
        arrivals: _Arrivals,
        network: Network,
        encoder: CameraEncoder | WindowChannels,
        readout: FittedReadout | None,
    ) -> None:
        self._arrivals, self._network, self._readout = arrivals, network, readout
        self._samples = _samples(encoder, arrivals)
        self._indices = itertools.count()

    def __iter__(self) -> Live:
        return self

    def __next__(self) -> LiveWindow:
        sample: CameraSample = next(self._samples)
        begun = time.perf_counter()
        output, decision = _decided(self._network, self._readout, sample.events)
        now = time.perf_counter()
        passed = (now - self._arrivals.arrived, now - begun)
        return LiveWindow(next(self._indices), sample.start, sample.length, sample.events, output, decision, *passed)

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading and release the source."""
        self._samples.close()  # type: ignore[attr-defined]
        self._arrivals.close()

    @property
    def report(self) -> Report:
        """What was read so far."""
        return self._arrivals.report


def live(
    source: str | os.PathLike[str] | BinaryIO | Recording,
    network: Network,
    encoder: CameraEncoder | WindowChannels,
    readout: FittedReadout | None = None,
    *,
    follow: bool = False,
    format: str | None = None,  # noqa: A002
    sensor: tuple[int, int] | None = None,
    swap_xy: bool | None = None,
    flip_x: bool | None = None,
    flip_y: bool | None = None,
    swap_polarity: bool | None = None,
) -> Live:
    """Run a network on each window of a stream of events as it comes.

    A window that ends with a time is complete when an event at or after its end has come, so a camera that sees nothing
    at all gives no windows. A thread reads; where the network is slower than the camera, up to 256 blocks wait, which
    counts as latency, and then the source has to.

    Parameters
    ----------
    source : str, path, binary stream or Recording
        ``"-"`` (standard input), ``"tcp://HOST:PORT"``, an open stream such as a pipe; or a recording or its file.
    network : Network
        Its grid is that of the encoder's samples.
    encoder : CameraEncoder or WindowChannels
        Its cut makes the windows; of the latter every ``count`` of them, laid over each other, are one here. Windows of
        :class:`~eventsnn.encode.ByTime` with an ``origin`` stay on the camera's clock, but those that end before the
        first event are passed over: a clock may begin years before it. Without one they begin with the first event.
    readout : FittedReadout, optional
        Decides from the last layer's spikes. Default: the first spike of the last layer decides.
    follow : bool
        Wait for more at the end of a file, as ``tail -f`` does, until this is closed. The file has a header that can
        be read as it comes then, as of a stream, or is of ``format``.
    format : {"evt2", "evt21", "evt3", "events"}, optional
        What a stream holds that has no header: Prophesee's words, or events of 13 bytes, ``eventsnn.io.EVENT_DTYPE``.
        Headers are those of Prophesee RAW and DAT, AEDAT 2 (if it names the camera), 3.1 and 4, and Event Stream.
    sensor : (int, int), optional
        Width and height, where the source does not say, as the coordinates in it are.
    swap_xy, flip_x, flip_y, swap_polarity : bool, optional
        How coordinates and polarities of the source become those of its events; see
        :class:`~eventsnn.io.recording.Orientation`. Default: as its format usually is, as :func:`eventsnn.open` has it;
        of what has no header, as it comes; of a recording, as it has been opened.

    Returns
    -------
    Live
        An iterator over :class:`LiveWindow` and a context manager. A recording's windows are those of
        ``encoder.samples``, from the first on that does not end before the first event.

    Raises
    ------
    ValueError, OSError
        If the source cannot be opened, its format or sensor is not known, or the network does not take its windows.

    Examples
    --------
    >>> encoder = CameraEncoder(ByTime(10_000), FirstSpike())
    >>> with live("tcp://camera:5000", net, encoder) as windows:  # doctest: +SKIP
    ...     for window in windows:
    ...         print(window.decision, f"{1000 * window.latency:.1f} ms")
    """
    turned = {"swap_xy": swap_xy, "flip_x": flip_x, "flip_y": flip_y, "swap_polarity": swap_polarity}
    arrivals = _arrivals(source, follow, format, sensor, turned)
    try:
        if arrivals.width is None or arrivals.height is None:
            given = "sensor=(width, height), or --sensor on the command line"
            raise ValueError(f"{arrivals.path}: does not say the sensor's size; give it as {given}")
        network.check_input(encoder.output_shape((2, arrivals.height, arrivals.width)))
        _warm(network, encoder, readout, (arrivals.width, arrivals.height))
    except BaseException:
        arrivals.close()
        raise
    return Live(arrivals, network, encoder, readout)


class _Arrivals:
    """A recording that says when the last of what it gave had come."""

    def __init__(self, recording: Recording, feed: Feed | None) -> None:
        self.width, self.height, self.path = recording.width, recording.height, recording.path
        self.arrived = time.perf_counter()
        self._recording, self._feed, self._closed = recording, feed, threading.Event()
        self._stream: Stream | None = None
        self._chunks = self._come()
        self._ahead: Chunk | None = None

    @property
    def report(self) -> Report:
        return Report() if self._stream is None else self._stream.report

    def first_time(self) -> int | None:
        """Wait for the first event and return its time; None if none comes."""
        self._ahead = next(self._chunks, None)
        return None if self._ahead is None else int(self._ahead.t[0])

    def chunks(self, size: int) -> Iterator[Chunk]:
        """Yield chunks as they come."""
        if self._ahead is not None:
            yield self._ahead
            self._ahead = None
        yield from self._chunks

    def _come(self) -> Iterator[Chunk]:
        self._stream = self._recording.chunks(_BLOCK)
        if self._feed is None:
            for chunk in self._stream:
                self.arrived = time.perf_counter()
                yield chunk
        else:
            yield from self._as_they_come(self._feed, self._stream)

    def close(self) -> None:
        self._closed.set()
        if self._feed is not None:
            self._feed.close()
        elif self._stream is not None:
            self._stream.close()

    def _as_they_come(self, feed: Feed, stream: Stream) -> Iterator[Chunk]:
        waiting: Waiting = Queue(_WAITING)
        threading.Thread(target=_read, args=(feed, stream, waiting, self._closed), daemon=True).start()
        while not self._closed.is_set():
            try:
                self.arrived, item = waiting.get(timeout=_LOOK)
            except Empty:
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item


def _read(feed: Feed, stream: Stream, waiting: Waiting, closed: threading.Event) -> None:
    """Put what comes with the moment it came, then None, or what went wrong."""
    try:
        for chunk in stream:
            _put(waiting, (feed.arrived, chunk), closed)
            if closed.is_set():
                return
        _put(waiting, (feed.arrived, None), closed)
    except BaseException as error:
        _put(waiting, (feed.arrived, error), closed)


def _put(waiting: Waiting, item: Arrival, closed: threading.Event) -> None:
    while not closed.is_set():
        try:
            waiting.put(item, timeout=_LOOK)
        except Full:
            continue
        return


def _arrivals(
    source: str | os.PathLike[str] | BinaryIO | Recording,
    follow: bool,
    format: str | None,  # noqa: A002
    sensor: tuple[int, int] | None,
    turned: dict[str, bool | None],
) -> _Arrivals:
    if isinstance(source, str | os.PathLike) and not _is_address(source) and not follow and format is None:
        size = {} if sensor is None else dict(zip(("width", "height"), sensor, strict=True))
        source = open_recording(Path(source), **size)
    if isinstance(source, Recording):
        if source.sensor is None and sensor is not None:
            source = source.adjusted(width=sensor[0], height=sensor[1])
        return _Arrivals(_turned(source, turned), None)
    feed = open_feed(source, follow=follow)
    try:
        return _Arrivals(_turned(feed_recording(feed, format, sensor), turned), feed)
    except BaseException:
        feed.close()
        raise


def _turned(recording: Recording, turned: dict[str, bool | None]) -> Recording:
    # Without a size there is no mirroring, and nothing else either: then it has to be given.
    return recording if recording.sensor is None else recording.adjusted(**turned)


def _samples(encoder: CameraEncoder | WindowChannels, arrivals: _Arrivals) -> Iterator[CameraSample]:
    """Yield windows, from the first on that does not end before the first event: there may be very many before."""
    first = arrivals.first_time()
    chosen = encoder if first is None else _begun(encoder, first)
    yield from chosen.samples(arrivals)  # type: ignore[arg-type]


def _begun(encoder: CameraEncoder | WindowChannels, first: int) -> CameraEncoder | WindowChannels:
    """Return the encoder with the windows left out that end before the first event, groups of them as a whole."""
    camera, count = (encoder.encoder, encoder.count) if isinstance(encoder, WindowChannels) else (encoder, 1)
    cut = camera.cut
    if not isinstance(cut, ByTime) or cut.origin is None:
        return encoder
    step = cut.length if cut.step is None else cut.step
    passed = (first - cut.origin - cut.length) // step + 1
    if passed < count:
        return encoder
    camera = replace(camera, cut=replace(cut, origin=cut.origin + passed // count * count * step))
    return replace(encoder, encoder=camera) if isinstance(encoder, WindowChannels) else camera


def _is_address(source: str | os.PathLike[str]) -> bool:
    return source == "-" or os.fspath(source).startswith("tcp://")


def _warm(
    network: Network,
    encoder: CameraEncoder | WindowChannels,
    readout: FittedReadout | None,
    sensor: tuple[int, int],
) -> None:
    """Compile what the first window would wait for."""
    sample = next(encoder.samples(np.zeros(1, EVENT_DTYPE), sensor=sensor), None)
    if sample is not None:
        _decided(network, readout, sample.events)


def _decided(network: Network, readout: FittedReadout | None, sample: Events) -> tuple[Events, int]:
    """Return the spikes of the last layer, and what is decided."""
    output, n = network.run(sample), len(network.layers)
    if readout is not None:
        return output, int(readout.predict(spike_features(output, readout.kind))[0])
    winner = int(network.decide(output, n, n).winners[0, 0])
    return output, winner if winner < 0 or network.classes is None else int(network.classes[winner])
