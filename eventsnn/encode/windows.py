"""Several windows of a recording as one sample, each with channels of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from eventsnn.encode import _values
from eventsnn.encode.camera import CameraEncoder, CameraSample
from eventsnn.encode.cuts import ByTime
from eventsnn.events import Events, Shape, concatenate

if TYPE_CHECKING:
    from eventsnn.io.recording import Recording


@dataclass(frozen=True)
class WindowChannels:
    """The first windows of a recording laid over each other: one sample, in which each window has its own channels.

    A neuron behind it sees what happened in all windows at once, as if they were simultaneous, and still tells them
    apart. For recordings that repeat a movement, as the three saccades of N-MNIST. Channel ``p`` of window ``k`` is
    channel ``k * n + p``, where ``n`` is the number of channels that ``encoder`` gives; times count from the start of
    the window.

    Parameters
    ----------
    encoder : CameraEncoder
        Cuts the windows by :class:`ByTime`, and says how their events become spikes.
    count : int
        Windows of a sample; what comes after them is left out, and missing ones are empty.

    Raises
    ------
    ValueError
        If the encoder cuts by anything else, or ``count`` is not at least 1.
    """

    encoder: CameraEncoder
    count: int

    def __post_init__(self) -> None:
        if not isinstance(self.encoder, CameraEncoder) or not isinstance(self.encoder.cut, ByTime):
            raise ValueError(f"WindowChannels: encoder expects a CameraEncoder that cuts ByTime, got {self.encoder!r}")
        _values.integer(self, "count", 1)

    @property
    def fitted(self) -> bool:
        """Whether no filter has to be fitted before the first event is encoded."""
        return self.encoder.fitted

    def encode(
        self, recordings: Iterable[Recording | Events | np.ndarray], labels: Any = None, *, sensor: Any = None
    ) -> Events:
        """Return one sample for each recording.

        Parameters
        ----------
        recordings : iterable of Recording, Events or structured ndarray; or Events
            Each as :meth:`CameraEncoder.encode` takes it; each sample of ``Events`` is a recording of its own, whose
            label is that of the sample. All of one sensor.
        labels : sequence of int, optional
            The class of each recording, where they have none themselves.
        sensor : (int, int), optional
            Width and height, for structured arrays.

        Returns
        -------
        Events
            On the grid :meth:`output_shape`.

        Raises
        ------
        TypeError, ValueError
            As :meth:`CameraEncoder.encode`; also if there are no recordings, or not one label for each.
        """
        sources = list(recordings)
        known = [None] * len(sources) if labels is None else list(np.asarray(labels).tolist())
        if not sources or len(known) != len(sources):
            raise ValueError(f"encode expects recordings with one label each, got {len(sources)} with {len(known)}")
        return concatenate([self._one(one, label, sensor) for one, label in zip(sources, known, strict=True)])

    def _one(self, source: Recording | Events | np.ndarray, label: int | None, sensor: Any) -> Events:
        return self._laid(self.encoder.encode(source, label, sensor=sensor)[: self.count], label)

    def samples(
        self, source: Recording | Events | np.ndarray, label: int | None = None, *, sensor: Any = None
    ) -> Iterator[CameraSample]:
        """Yield a sample for every ``count`` windows of one recording, as soon as nothing more can belong to it.

        The first is what :meth:`encode` gives; the windows left at the end are one too. Parameters are as of
        :meth:`CameraEncoder.samples`.
        """
        windows = self.encoder.samples(source, label, sensor=sensor)
        while group := list(islice(windows, self.count)):
            start, last = group[0].start, group[-1]
            events = self._laid(concatenate([window.events for window in group]), label)
            yield CameraSample(events, start, last.start + last.length - start)

    def _laid(self, windows: Events, label: int | None) -> Events:
        """Return one sample of windows of one recording."""
        n, height, width = windows.shape
        labels = windows.labels[:1] if windows.labels is not None else None if label is None else [label]
        return Events.from_columns(
            windows.time,
            windows.sample_index() * n + windows.channel,
            windows.y,
            windows.x,
            shape=(self.count * n, height, width),
            duration=windows.duration,
            unit=windows.unit,
            labels=labels,
        )

    def output_shape(self, shape: Shape) -> Shape:
        """Return the grid (channels, height, width) of the samples of a camera's grid, usually ``(2, height, width)``.

        Raises
        ------
        ValueError
            If a filter does not fit it.
        """
        channels, height, width = self.encoder.output_shape(shape)
        return self.count * channels, height, width

    def to_dict(self) -> dict[str, Any]:
        """Return it as a dict of plain values, fit for JSON, from which :meth:`from_dict` restores it."""
        return {"type": type(self).__name__, "encoder": self.encoder.to_dict(), "count": self.count}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> WindowChannels:
        """Return what :meth:`to_dict` wrote.

        Raises
        ------
        ValueError
            If a key is unknown or missing, or has a bad value.
        """
        names = {"type", *(field.name for field in fields(cls))}
        if not isinstance(data, Mapping) or set(data) != names or data["type"] != cls.__name__:
            raise ValueError(f"{cls.__name__} expects the keys {', '.join(sorted(names))}, got {data!r}")
        return cls(CameraEncoder.from_dict(data["encoder"]), data["count"])
