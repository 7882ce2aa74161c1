"""Data sets of tonic, and others like them, to event files and back; tonic itself is not needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from eventsnn.events import Events, Shape, concatenate
from eventsnn.io.writer import EventWriter

if TYPE_CHECKING:
    from eventsnn.io.hdf5 import EventDataset

#: Fields of the events in the order of tonic's own data sets.
TONIC_DTYPE = np.dtype([("x", "i8"), ("y", "i8"), ("t", "i8"), ("p", "i8")])

_GATHER = 256  # samples appended at a time


class MapStyle(Protocol):
    """What tonic's data sets are: samples by index, each of a structured array and its class."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Any, Any]: ...


def write_tonic(
    dataset: MapStyle,
    path: str | Path,
    *,
    sensor_size: Sequence[int] | None = None,
    duration: int | None = None,
    origin: int | None = None,
    **options: Any,
) -> None:
    """Write every sample of a data set of tonic, or of one like it, into an event file.

    Parameters
    ----------
    dataset : map-style data set
        ``len(dataset)``, and ``dataset[i]`` is ``(events, label)``: a structured array with fields ``x, y, t, p`` in
        any order (without ``y``, as in SHD, everything is in row 0) and an integer. Times are integers in microseconds.
    path : str or Path
        The file to make or replace; it appears when it is complete.
    sensor_size : (int, int, int), optional
        Width, height and number of polarities. Default: ``dataset.sensor_size``. With one polarity ``p`` is not read.
    duration : int, optional
        Of every sample, in microseconds. Default: that of the longest, which takes a first pass over the data set.
    origin : int, optional
        What time becomes 0. Default: that of each sample's earliest event, as in :meth:`Recording.to_events`.
    **options
        Of :class:`EventWriter`: ``compression``, ``chunk``, ``source``, ``extra``, ...

    Raises
    ------
    TypeError, ValueError
        If the sensor's size is unknown, a sample is no such pair (the message has its number), or its events lie
        outside the sensor or the duration. There is no new file then.
    OSError
        If the file cannot be written.
    """
    shape = _grid(getattr(dataset, "sensor_size", None) if sensor_size is None else sensor_size)
    if duration is None:
        duration = max((events.duration for events in _samples(dataset, shape, origin, -1)), default=1)
    options = {"source": f"tonic: {type(dataset).__name__}"} | options
    gathered: list[Events] = []
    with EventWriter(path, shape, duration, "us", **options) as writer:
        for events in _samples(dataset, shape, origin, duration):
            gathered.append(events)
            if len(gathered) == _GATHER:
                _append(writer, gathered)
        _append(writer, gathered)


def _append(writer: EventWriter, gathered: list[Events]) -> None:
    if gathered:
        writer.append(concatenate(gathered))
        gathered.clear()


def _grid(sensor_size: Any) -> Shape:
    """Return tonic's (width, height, polarities) as (channels, height, width)."""
    size = np.asarray(sensor_size if sensor_size is not None else [])
    if size.shape != (3,) or size.dtype.kind not in "iu" or size.min() < 1:
        raise ValueError(f"sensor_size expects (width, height, polarities) of at least 1 each, got {sensor_size!r}")
    width, height, polarities = size.tolist()
    return polarities, height, width


def _samples(dataset: MapStyle, shape: Shape, origin: int | None, duration: int) -> Iterator[Events]:
    for i in range(len(dataset)):
        try:
            array, label = dataset[i]
            yield _sample(array, label, shape, origin, duration)
        except (TypeError, ValueError) as error:
            raise type(error)(f"sample {i}: {error}") from None


def _sample(array: Any, label: Any, shape: Shape, origin: int | None, duration: int) -> Events:
    names = getattr(getattr(array, "dtype", None), "names", None)
    if names is None or not {"x", "t"} <= set(names):
        raise TypeError(f"expected a structured array with fields x, y, t, p, got {names or type(array).__name__}")
    n, single = len(array), shape[0] == 1
    events = np.zeros(n, TONIC_DTYPE)
    for name in "xytp":
        if name in names and not (name == "p" and single):
            if array[name].dtype.kind not in "iub":
                raise TypeError(f"field {name!r} expects integers, got {array[name].dtype}")
            events[name] = array[name]
    if n:
        events["t"] -= events["t"].min() if origin is None else origin
    classes = np.asarray(label)
    if classes.shape != () or classes.dtype.kind not in "iu":
        raise TypeError(f"expected an integer as label, got {label!r}; give target_transform= to the data set")
    return Events.from_structured(events, shape=shape, duration=duration, labels=[int(classes)])


@dataclass(frozen=True, eq=False)
class TonicSamples:
    """Samples of events as a map-style data set, for tonic's transforms and PyTorch's loaders.

    ``samples[i]`` is ``(array, label)``, with -1 for a sample without label; so
    ``torch.utils.data.DataLoader(TonicSamples(data, bins=15), batch_size=32, shuffle=True, num_workers=2)`` yields
    tensors. ``sensor_size`` is what tonic's transforms ask for. An :class:`EventDataset` stays on disk: each sample is
    read when it is asked for, in worker processes too.

    Parameters
    ----------
    data : Events or EventDataset
        The samples.
    bins : int, optional
        Then a sample is a dense array of float32, shape (bins, channels, height, width): how many spikes lie in each
        of ``bins`` equal parts of the duration. Default: a structured array with integer fields ``x, y, t, p``, sorted
        by time, as tonic has them; arrays of different lengths take ``collate_fn`` to become a batch.
    transform, target_transform : callable, optional
        Called with the array, and with the label, as in tonic.

    Raises
    ------
    ValueError
        If ``bins`` is not at least 1.
    """

    data: Events | EventDataset
    bins: int | None = None
    transform: Callable[[np.ndarray], Any] | None = None
    target_transform: Callable[[int], Any] | None = None

    def __post_init__(self) -> None:
        if self.bins is not None and self.bins < 1:
            raise ValueError(f"bins expects at least 1, got {self.bins}")

    @property
    def sensor_size(self) -> tuple[int, int, int]:
        """Width, height and channels."""
        channels, height, width = self.data.shape
        return width, height, channels

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return a sample and its class."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} is outside of {len(self)} samples")
        events = self.data[int(index)]
        label = -1 if events.labels is None else int(events.labels[0])
        array = _structured(events) if self.bins is None else _frames(events, self.bins)
        return (
            array if self.transform is None else self.transform(array),
            label if self.target_transform is None else self.target_transform(label),
        )


def _structured(events: Events) -> np.ndarray:
    array = np.empty(events.n_events, TONIC_DTYPE)
    array["x"], array["y"], array["t"], array["p"] = events.x, events.y, events.time, events.channel
    return array


def _frames(events: Events, bins: int) -> np.ndarray:
    frames = np.zeros((bins, *events.shape), np.float32)
    np.add.at(frames, (events.time * bins // events.duration, events.channel, events.y, events.x), 1)
    return frames
