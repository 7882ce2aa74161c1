"""Images to spikes where the network computes: encoders on a backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from eventsnn.ahead import read_ahead
from eventsnn.backends import Backend
from eventsnn.batches import BATCH, put
from eventsnn.encode import DivideByMax, EqualBins, Filter, ImageEncoder, Linear, LocalNormalization, OnOff, Scale
from eventsnn.events import Events, replace_fields


def encoded(
    encoder: ImageEncoder, images: Any, labels: Any = None, *, backend: Backend, batch_size: int = BATCH
) -> Iterator[Events]:
    """Encode images batch by batch in the memory of a backend.

    The spikes are those of :meth:`ImageEncoder.encode`, bit for bit. An encoder with a stage that the backend has not,
    or that keeps one spike of a position, runs on the host.

    Parameters
    ----------
    encoder : ImageEncoder
        The published front ends for MNIST run on a GPU from end to end.
    images : array_like, shape (n_images, H, W) or (n_images, C, H, W)
        As :meth:`ImageEncoder.encode` takes them.
    labels : array_like of int, shape (n_images,), optional
        Class of each image.
    backend : Backend
        Where the spikes are wanted.
    batch_size : int
        Images at a time.

    Yields
    ------
    Events
        In the memory of the backend; for its kernels, ``Network.run`` and ``Network.decide``.

    Raises
    ------
    TypeError, ValueError
        As :meth:`ImageEncoder.encode`, when the batch comes.
    MemoryError
        If a batch of so many images, or two that are in work, are too large for the memory of the backend.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size expects at least 1 image, got {batch_size}")
    pixels, classes = np.asarray(images), None if labels is None else np.asarray(labels)
    parts = (slice(start, start + batch_size) for start in range(0, max(len(pixels), 1), batch_size))
    chosen = ((pixels[part], None if classes is None else classes[part]) for part in parts)
    if backend.images is None or not _known(encoder):
        return (put(encoder.encode(*pair), backend) for pair in chosen)
    sent = read_ahead((_sent(encoder, part, backend), part_labels) for part, part_labels in chosen)
    return (_encode(encoder, values, part_labels, backend) for values, part_labels in sent)


def _known(encoder: ImageEncoder) -> bool:
    """Tell whether a backend with image kernels has all that an encoder needs."""
    stages = all(isinstance(stage, tuple(_STAGES)) for stage in encoder.stages)
    return stages and isinstance(encoder.latency, EqualBins | Linear) and not encoder.pointwise


def _sent(encoder: ImageEncoder, images: np.ndarray, backend: Backend) -> Any:
    """Return images as intensities (images, C, H, W) in the memory of the backend, having checked them."""
    values = encoder.intensities(images, 0)
    _, channels, height, width = values.shape
    encoder.output_shape(height, width, channels)  # refuses what does not fit the stages
    return backend.put(np.ascontiguousarray(values))


def _encode(encoder: ImageEncoder, values: Any, labels: Any, backend: Backend) -> Events:
    with backend.here():
        kernels = backend.images
        for stage in encoder.stages:
            apply = next(apply for kind, apply in _STAGES.items() if isinstance(stage, kind))
            values = apply(stage, kernels, values)
        _check(encoder, *kernels.extremes(values))
        times = kernels.equal_bins if isinstance(encoder.latency, EqualBins) else kernels.linear
        events: Events = times(values, encoder.latency.duration(values.shape[1:]))
    if labels is None:
        return events
    return replace_fields(events, labels=backend.put(labels.astype(np.int64)))


def _check(encoder: ImageEncoder, least: float, largest: float) -> None:
    if not (least >= 0 and largest < np.inf):
        raise ValueError(f"encoding expects finite intensities of at least 0, found {least:g} to {largest:g}")
    if isinstance(encoder.latency, Linear) and largest > 1:
        raise ValueError(f"Linear expects intensities in [0, 1], found {largest:g}; end the stages with DivideByMax()")


def _filter(stage: Filter, kernels: Any, values: Any) -> Any:
    mode = (stage.absolute, stage.signed, stage.threshold)
    return kernels.correlate(values, stage.bank, stage.padding, mode)


def _normalize(stage: LocalNormalization, kernels: Any, values: Any) -> Any:
    if (least := kernels.extremes(values)[0]) < 0:
        raise ValueError(f"LocalNormalization expects intensities of at least 0, found {least:g}; put OnOff() before")
    return kernels.normalize(values, stage.radius)


_STAGES: dict[type, Callable[[Any, Any, Any], Any]] = {
    Scale: lambda stage, kernels, values: kernels.scale(values, stage.factor),
    Filter: _filter,
    LocalNormalization: _normalize,
    OnOff: lambda stage, kernels, values: kernels.split(
        values, stage.threshold, stage.polarity != "off", stage.polarity != "on"
    ),
    DivideByMax: lambda stage, kernels, values: kernels.divide_by_largest(values),
}
