"""What turns a model's data into events: an encoder of images, or one of an event camera's recordings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from eventsnn.encode import CameraEncoder, ImageEncoder, WindowChannels
from eventsnn.events import Events, Shape, concatenate

Encoder: TypeAlias = ImageEncoder | CameraEncoder | WindowChannels


def encoder_from_dict(data: Mapping[str, Any]) -> Encoder:
    """Return the encoder of images or of a camera that ``to_dict`` wrote.

    Raises
    ------
    ValueError
        If it is none, or has a bad value.
    """
    kind = data.get("type") if isinstance(data, Mapping) else None
    if kind == WindowChannels.__name__:
        return WindowChannels.from_dict(data)
    return CameraEncoder.from_dict(data) if kind == CameraEncoder.__name__ else ImageEncoder.from_dict(data)


def grid_of(encoder: Encoder, size: tuple[int, int]) -> Shape:
    """Return the grid (channels, height, width) that comes of images, or of a camera's sensor, of a height and width.

    Raises
    ------
    ValueError
        If the encoder does not take such a size.
    """
    height, width = size
    if isinstance(encoder, ImageEncoder):
        return encoder.output_shape(height, width)
    return encoder.output_shape((2, height, width))


def gives(encoder: Encoder, size: tuple[int, int], shape: Shape) -> bool:
    """Tell whether images, or a sensor, of a height and width give a grid."""
    try:
        return grid_of(encoder, size) == tuple(shape)
    except ValueError:
        return False


def encode_recordings(
    encoder: CameraEncoder | WindowChannels, recordings: Iterable[Any], sensor: tuple[int, int]
) -> Events:
    """Return the samples of recordings, one after another; ``sensor`` (width, height) is that of structured arrays."""
    if isinstance(encoder, WindowChannels):
        return encoder.encode(recordings, sensor=sensor)
    return concatenate([encoder.encode(recording, sensor=sensor) for recording in recordings])


def check_of_images(name: str, encoder: Encoder) -> ImageEncoder:
    """Return the encoder of a model of images.

    Raises
    ------
    ValueError
        If the model takes recordings of an event camera.
    """
    if not isinstance(encoder, ImageEncoder):
        raise ValueError(f"{name} takes recordings of an event camera; a model of images is expected here")
    return encoder
