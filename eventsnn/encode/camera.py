"""Recordings of event cameras to samples: filters, a cut, and a rule that turns events into spikes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from eventsnn.encode import _values
from eventsnn.encode._cutting import NOTHING, grids, pieces, started
from eventsnn.encode._stream import Source, sources_of
from eventsnn.encode.camera_filters import FILTERS, FindHotPixels, StreamFilter
from eventsnn.encode.camera_latency import EVENT_LATENCIES, EventLatency
from eventsnn.encode.cuts import CUTS, Cut
from eventsnn.encode.latency import LATENCIES
from eventsnn.events import Events, Shape, concatenate, replace_fields

if TYPE_CHECKING:
    from eventsnn.io.recording import Recording


class CameraSample(NamedTuple):
    """One sample, when it starts on the clock of the recording, and how long it is, in microseconds."""

    events: Events
    start: int
    length: int


@dataclass(frozen=True)
class CameraEncoder:
    """Turn the stream of an event camera into samples.

    An encoder is a value: compare it, vary it with :func:`dataclasses.replace`, store :meth:`to_dict`. What comes out
    does not depend on how the stream is read. Times that run backward by at most 10 ms, as cameras have them, are taken
    for the latest before them.

    Parameters
    ----------
    cut : Whole, ByTime, ByCount or ByTable
        What a sample is.
    latency : EveryEvent, FirstSpike, TimeSurface or EventCount
        How its events become spikes. Those of :class:`ByCount`, of an index table and of ``Whole()`` have no length in
        microseconds that is known beforehand, so their times are bins.
    filters : sequence of StreamFilter
        :class:`Refractory`, :class:`BackgroundActivity`, :class:`HotPixels`, :class:`Crop`, :class:`Downsample`,
        :class:`Polarity`, applied to the stream in this order, before it is cut. :class:`FindHotPixels` stands for a
        filter that :meth:`fit` has yet to make.

    Examples
    --------
    >>> encoder = CameraEncoder(ByTime(10_000), FirstSpike(bins=15), [Refractory(1000), BackgroundActivity(5000)])
    >>> events = np.array([(3, 1, 0, 1), (12_000, 0, 2, 0)], [("t", "i8"), ("x", "u2"), ("y", "u2"), ("p", "u1")])
    >>> replace(encoder, filters=()).encode(events, sensor=(4, 3))
    Events(2 samples, 2 spikes, shape=(2, 3, 4), duration=15 bin)
    """

    cut: Cut
    latency: EventLatency
    filters: Sequence[StreamFilter] = ()

    def __post_init__(self) -> None:
        for name, method in (("cut", "bounds"), ("latency", "start")):
            value = getattr(self, name)
            if isinstance(value, type) or not callable(getattr(value, method, None)):
                raise ValueError(f"CameraEncoder: {name} expects a value with {method}(), got {value!r}")
        _values.members(self, "filters", "output_shape", least=0)
        self.latency.duration(self.cut.length, (1, 1, 1))  # says so if times have no end

    @property
    def fitted(self) -> bool:
        """Whether no filter has to be fitted before the first event is encoded."""
        return not any(isinstance(stage, FindHotPixels) for stage in self.filters)

    def fit(self, source: Recording | Events | np.ndarray, *, sensor: tuple[int, int] | None = None) -> CameraEncoder:
        """Return the encoder with each :class:`FindHotPixels` replaced by the pixels found; itself if there is none.

        Parameters
        ----------
        source, sensor
            As :meth:`encode` takes them. It is read once for each such filter.
        """
        found = self
        for i, stage in enumerate(self.filters):
            if isinstance(stage, FindHotPixels):
                counts = _counts(found.filters[:i], source, sensor)
                found = replace(found, filters=(*found.filters[:i], stage.found(counts), *found.filters[i + 1 :]))
        return found

    def encode(
        self,
        source: Recording | Events | np.ndarray,
        label: int | None = None,
        *,
        sensor: tuple[int, int] | None = None,
    ) -> Events:
        """Return all samples of a recording as one batch.

        Parameters
        ----------
        source : Recording, Events or structured ndarray
            What :func:`eventsnn.open` gives, camera events in microseconds (each sample of ``Events`` is a recording of
            its own, and its label goes to all that is cut from it), or an array with fields ``x, y, t, p`` in the order
            of the recording.
        label : int, optional
            The class of all samples, where neither the cut nor the source has labels.
        sensor : (int, int), optional
            Width and height, for a structured array.

        Returns
        -------
        Events
            In canonical order, on the grid :meth:`output_shape`.

        Raises
        ------
        TypeError, ValueError
            If the source is none of these, the sensor's size is not known, does not fit a filter, labels come from two
            sides, or times run backward by more than 10 ms.
        """
        samples = [sample.events for sample in self.samples(source, label, sensor=sensor)]
        if samples:
            return concatenate(samples)
        shape = source.shape if isinstance(source, Events) else next(sources_of(source, sensor)).shape
        return self.latency.start(self.cut.length, self.output_shape(shape))(NOTHING)[:0]

    def stream(
        self,
        source: Recording | Events | np.ndarray,
        label: int | None = None,
        *,
        sensor: tuple[int, int] | None = None,
    ) -> Iterator[Events]:
        """Yield sample after sample, each a batch of one; parameters as of :meth:`encode`.

        Memory depends on the longest sample, not on the recording.
        """
        return (sample.events for sample in self.samples(source, label, sensor=sensor))

    def samples(
        self,
        source: Recording | Events | np.ndarray,
        label: int | None = None,
        *,
        sensor: tuple[int, int] | None = None,
    ) -> Iterator[CameraSample]:
        """Yield sample after sample with its start and length; parameters as of :meth:`encode`.

        A sample comes as soon as nothing more can belong to it.
        """
        for part in sources_of(source, sensor):
            yield from self._samples(part, label)

    def _samples(self, source: Source, label: int | None) -> Iterator[CameraSample]:
        shape = self.output_shape(source.shape)
        emit = self.latency.start(self.cut.length, shape)
        for piece in pieces(self.cut, self.filters, source.shape, source.blocks):
            known = {value for value in (label, source.label, piece.label) if value is not None}
            if len(known) > 1:
                raise ValueError(f"labels expect one origin: call, source or cut; found {sorted(known)} for one sample")
            events = emit(piece)
            labels = np.array(list(known), np.int64) if known else None
            yield CameraSample(replace_fields(events, labels=labels), piece.start, piece.length)

    def output_shape(self, shape: Shape) -> Shape:
        """Return the grid (channels, height, width) of the samples of a camera's grid, usually ``(2, height, width)``.

        Raises
        ------
        ValueError
            If a filter does not fit it.
        """
        return grids(self.filters, shape)[-1]

    def to_dict(self) -> dict[str, Any]:
        """Return the encoder as a dict of plain values, fit for JSON, from which :meth:`from_dict` restores it."""
        return _values.to_plain(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CameraEncoder:
        """Return the encoder that :meth:`to_dict` wrote.

        Raises
        ------
        ValueError
            If a type or parameter is unknown, missing or has a bad value; the message names the nearest known one.
        """
        parts = {
            "cut": ("cut", CUTS),
            "latency": ("event latency", EVENT_LATENCIES),
            "filters": ("filter", FILTERS),
            "rule": ("latency rule", LATENCIES),
        }
        return _values.from_plain(data, "encoder", (cls,), parts)


def _counts(filters: Sequence[StreamFilter], source: Any, sensor: tuple[int, int] | None) -> np.ndarray:
    """Return how often each pixel fired after some filters, int64 of shape (height, width)."""
    counts: np.ndarray | None = None
    for part in sources_of(source, sensor):
        _, height, width = grids(filters, part.shape)[-1]
        counts = np.zeros(height * width, np.int64) if counts is None else counts
        step = started(filters, part.shape)
        for block in map(step, part.blocks):
            counts += np.bincount(block.y.astype(np.int64) * width + block.x, minlength=height * width)
    if counts is None:
        raise ValueError("fit expects at least one recording, got none")
    return counts.reshape(height, width)
