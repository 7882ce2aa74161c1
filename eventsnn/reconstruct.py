"""What a deep map prefers, drawn in pixels: features carried from the image up through filters, pools and weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from eventsnn.encode.intensity import ImageEncoder
from eventsnn.encode.stages import (
    DivideByMax,
    Filter,
    LateralInhibition,
    LocalNormalization,
    MaxPool,
    OnOff,
    Scale,
    Stage,
    Standardize,
)
from eventsnn.encode.whitening import ZCA, PatchZCA
from eventsnn.layers import Conv, Dense, Pool
from eventsnn.network import Network

_PIXEL_BY_PIXEL = (Scale, DivideByMax, Standardize, LocalNormalization, LateralInhibition)
_KNOWN = (*_PIXEL_BY_PIXEL, Filter, PatchZCA, OnOff, MaxPool)


class _Features(NamedTuple):
    """Feature of every map, float32 of shape (maps, h, w), and the pixels between two neighbouring neurons."""

    maps: np.ndarray
    spacing: tuple[int, int]


def reconstruct(
    net: Network,
    layer: int,
    encoder: ImageEncoder | None = None,
    *,
    maps: Sequence[int] | None = None,
    signed: bool = False,
    weights: Any = None,
) -> np.ndarray:
    """Return in pixels what each map of a layer responds to.

    The feature of a pixel is 1. That of a filter or a convolution's map is the sum over the places of its kernel of
    the features below, shifted by the distance between neurons: at each pixel the largest product of weight and
    feature over the channels, never below 0. Pooling puts the feature below in the middle of its window. Inhibition
    and normalization change nothing. Signed filters and the whitening of patches keep their signs up to
    :class:`~eventsnn.encode.OnOff`, whose off maps have the feature turned over. The result is as large as the
    receptive field in the image.

    Parameters
    ----------
    net : Network
        Its present weights.
    layer : int
        Index of the layer, from 0; a pooling layer has the features of the layer below, centred.
    encoder : ImageEncoder, optional
        Made the input of images; without it the result is in pixels of the input's grid, for every channel alike.
    maps : sequence of int, optional
        Maps of the layer to reconstruct, in this order; default all.
    signed : bool
        Add the products over the channels instead and keep what is negative, so that a feature is below 0 where it
        should be dark; kernels of filters then have equal largest absolute values.
    weights : array_like, shape (maps, channels, kernel height, kernel width), optional
        Weights of this layer in place of the network's present ones, as recorded while it learnt; of all maps, or of
        the first ones, and then only those are there.

    Returns
    -------
    ndarray of float32, shape (n_maps, height, width)
        In arbitrary units: compare values within a map.

    Raises
    ------
    IndexError
        If there is no such layer or map.
    ValueError
        If the encoder does not make the network's input, or holds a stage whose features this does not know: one of
        your own, or :class:`~eventsnn.encode.ZCA`, which treats each pixel of the image in a way of its own; or if
        ``weights`` do not fit the layer.

    References
    ----------
    Mozafari, Ganjtabesh, Nowzari-Dalini and Masquelier, "SpykeTorch: efficient simulation of convolutional spiking
    neural networks with at most one spike per neuron", Frontiers in Neuroscience 13 (2019), whose definition this is.
    """
    if not 0 <= layer < len(net.layers):
        raise IndexError(f"layer expects 0 to {len(net.layers) - 1}, got {layer}")
    own = None if weights is None else _fitting(net, layer, weights)
    wanted = _wanted(maps, net.shapes[layer + 1][0] if own is None else len(own))
    features = _encoded(net, encoder, signed)
    for i in range(layer):
        features = _through(net, i, features, slice(None), signed)
    return _through(net, layer, features, wanted, signed, own).maps


def can_reconstruct(encoder: ImageEncoder) -> bool:
    """Tell whether :func:`reconstruct` knows the features of all stages of an encoder."""
    return all(isinstance(stage, _KNOWN) for stage in encoder.stages)


def _fitting(net: Network, layer: int, weights: Any) -> np.ndarray:
    net.check_trainable(layer)
    array = np.asarray(weights, np.float32)
    expected = net.weights_shape(layer)
    if array.shape[1:] != expected[1:] or not 1 <= len(array) <= expected[0]:
        raise ValueError(f"weights expects shape {expected}, or fewer maps, got {array.shape}")
    return array


def _wanted(maps: Sequence[int] | None, count: int) -> np.ndarray:
    wanted = np.arange(count) if maps is None else np.asarray(maps, np.int64).reshape(-1)
    if ((wanted < 0) | (wanted >= count)).any():
        raise IndexError(f"maps expects indices of 0 to {count - 1}, got {wanted.tolist()}")
    return wanted


def _encoded(net: Network, encoder: ImageEncoder | None, signed: bool) -> _Features:
    """Return the features of the network's input channels."""
    pixel = np.ones((1, 1, 1), np.float32)
    if encoder is None:
        return _Features(np.repeat(pixel, net.shape[0], axis=0), (1, 1))
    features = _Features(pixel, (1, 1))
    for stage in encoder.stages:
        features = _through_stage(stage, features, signed)
    if not signed:
        features = features._replace(maps=np.maximum(features.maps, 0))
    if len(features.maps) != net.shape[0]:
        raise ValueError(f"encoder expects to make {net.shape[0]} channels, makes {len(features.maps)}")
    return features


def _through_stage(stage: Stage, below: _Features, signed: bool) -> _Features:
    if isinstance(stage, Filter):
        return _weighted(below, _bank(stage, signed), (1, 1), signed or stage.signed)
    if isinstance(stage, PatchZCA):
        stage.output_shape((len(below.maps), 1, 1))  # refuses what is not grey
        return _weighted(below, stage.weights.array, (1, 1), True)
    if isinstance(stage, OnOff):
        return _split(below, stage, signed)
    if isinstance(stage, MaxPool):
        step = stage.stride or stage.kernel
        return _centred(below, (stage.kernel, stage.kernel), (step, step))
    if not isinstance(stage, _PIXEL_BY_PIXEL):
        why = ", and ZCA makes each pixel of the image in another way" if isinstance(stage, ZCA) else ""
        raise ValueError(f"reconstruct expects stages whose features it knows, got {type(stage).__name__}{why}")
    return below


def _split(below: _Features, stage: OnOff, signed: bool) -> _Features:
    parts = {"both": (below.maps, -below.maps), "on": (below.maps,), "off": (-below.maps,)}[stage.polarity]
    maps = np.concatenate(parts)
    return below._replace(maps=maps if signed else np.maximum(maps, 0))


def _bank(stage: Filter, signed: bool) -> np.ndarray:
    """Return the kernels as weights, float32 of shape (maps, 1, window, window), smaller ones in the middle."""
    weights = np.zeros((len(stage.kernels), 1, stage.window, stage.window), np.float32)
    for weight, kernel in zip(weights[:, 0], stage.kernels, strict=True):
        first, values = (stage.window - kernel.window) // 2, kernel.array()
        # An off-centre kernel's maximum is in its surround; at equal maxima it would hide the on-centre ones.
        inside = values / np.abs(values).max() if signed else values
        weight[first : first + kernel.window, first : first + kernel.window] = inside
    return weights


def _through(
    net: Network, i: int, features: _Features, chosen: Any, signed: bool, weights: np.ndarray | None = None
) -> _Features:
    layer = net.layers[i]
    if isinstance(layer, Conv | Dense):
        own = net.weights[i] if weights is None else weights
        return _weighted(features, own[chosen], layer.geometry(net.shapes[i]).stride, signed)
    kept = features._replace(maps=features.maps[chosen])
    if isinstance(layer, Pool):
        geometry = layer.geometry(net.shapes[i])
        return _centred(kept, geometry.kernel, geometry.stride)
    return kept


def _weighted(below: _Features, weights: np.ndarray, stride: tuple[int, int], signed: bool) -> _Features:
    """Return the features of maps with weights (maps, channels, kernel height, kernel width)."""
    out = np.zeros((len(weights), *_grown(below, weights.shape[2:])), np.float32)
    (down, right), (height, width) = below.spacing, below.maps.shape[1:]
    for feature, kernels in zip(out, weights, strict=True):  # map by map: all at once may be large
        for r, c in np.ndindex(*weights.shape[2:]):
            products = below.maps * kernels[:, r, c, None, None]
            place = slice(r * down, r * down + height), slice(c * right, c * right + width)
            feature[place] += products.sum(axis=0) if signed else products.max(axis=0)
    return _Features(out if signed else np.maximum(out, 0), _strided(below, stride))


def _centred(below: _Features, kernel: tuple[int, int], stride: tuple[int, int]) -> _Features:
    """Return the features of pooled neurons: those below, in the middle of the window."""
    size, (height, width) = _grown(below, kernel), below.maps.shape[1:]
    out = np.zeros((len(below.maps), *size), np.float32)
    top, left = size[0] // 2 - height // 2, size[1] // 2 - width // 2
    out[:, top : top + height, left : left + width] = below.maps
    return _Features(out, _strided(below, stride))


def _grown(below: _Features, kernel: tuple[int, ...]) -> tuple[int, int]:
    """Return height and width of the receptive field of a neuron with such a window."""
    (down, right), (height, width) = below.spacing, below.maps.shape[1:]
    return height + (kernel[0] - 1) * down, width + (kernel[1] - 1) * right


def _strided(below: _Features, stride: tuple[int, int]) -> tuple[int, int]:
    return below.spacing[0] * stride[0], below.spacing[1] * stride[1]
