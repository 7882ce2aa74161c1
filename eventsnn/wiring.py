"""How layers fit each other, and what their weights, thresholds and classes may be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from eventsnn.backends import Neurons
from eventsnn.events import Shape, check_shape
from eventsnn.layers import Conv, Dense, Layer


class PerLayer(Mapping[int, np.ndarray]):
    """One read-only array for each layer that has weights, by the index of the layer; made when asked for."""

    def __init__(self, indices: Sequence[int], make: Callable[[int], np.ndarray]) -> None:
        self._indices, self._make = tuple(indices), make

    def __getitem__(self, layer: int) -> np.ndarray:
        """Return the array of a layer."""
        if layer not in self._indices:
            raise KeyError(f"layer {layer} has no weights; layers with weights are {list(self._indices)}")
        array = self._make(layer)
        array.flags.writeable = False  # a change would be lost
        return array

    def __iter__(self) -> Iterator[int]:
        """Iterate over the indices of the layers."""
        return iter(self._indices)

    def __len__(self) -> int:
        """Return the number of layers with weights."""
        return len(self._indices)


def shapes_of(layers: Sequence[Layer], shape: Shape) -> tuple[Shape, ...]:
    """Return the grid before the first layer, after it, and so on; refuse a layer that does not fit its own."""
    shapes = [shape]
    for i, layer in enumerate(layers):
        try:
            shapes.append(check_shape(layer.output_shape(shapes[-1])))
        except ValueError as error:
            raise ValueError(f"layer {i} ({layer}) does not fit its input {shapes[-1]}: {error}") from None
    return tuple(shapes)


def neurons_of(layers: Sequence[Layer], shapes: Sequence[Shape]) -> dict[int, Neurons]:
    """Return the neurons of each layer that has weights, by its index."""
    pairs = enumerate(zip(layers, shapes, strict=False))
    return {i: layer.neurons(shape) for i, (layer, shape) in pairs if isinstance(layer, Conv | Dense)}


def initial_weights(layers: Sequence[Layer], shapes: Sequence[Shape], seed: int) -> dict[int, np.ndarray]:
    """Draw the weights of each layer that has some, float32 (maps, channels, kernel height, kernel width)."""
    weights: dict[int, np.ndarray] = {}
    for i, neurons in neurons_of(layers, shapes).items():
        layer = layers[i]
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(len(weights),)))
        if isinstance(layer, Conv | Dense):
            shape = (len(neurons.threshold), shapes[i][0], *neurons.geometry.kernel)
            weights[i] = layer.init.draw(rng, shape)
    return weights


def finite(who: str, array: np.ndarray) -> np.ndarray:
    """Return weights as float32, or say what is wrong with them; ``who`` expects them."""
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{who} expects weights that are numbers, got {array.dtype}")
    weights = array.astype(np.float32)
    if not np.isfinite(weights).all():
        raise ValueError(f"{who} expects finite weights, got {weights[~np.isfinite(weights)][0]}")
    return weights


def check_arrays(layers: Sequence[Layer], shapes: Sequence[Shape], arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse arrays of a file that are not the weights and thresholds of these layers."""
    neurons = neurons_of(layers, shapes)
    wanted = {f"{kind}/{i}" for i in neurons for kind in ("weights", "thresholds")}
    if set(arrays) - {"classes"} != wanted:
        raise ValueError(f"expected the arrays {sorted(wanted)}, found {sorted(arrays)}")
    for i, n in neurons.items():
        if arrays[f"weights/{i}"].shape != (len(n.threshold), shapes[i][0], *n.geometry.kernel):
            raise ValueError(f"weights of layer {i} ({layers[i]}) have shape {arrays[f'weights/{i}'].shape}")


def check_classes(classes: Any, maps: int) -> np.ndarray:
    """Return the class of each map as int64 of shape (maps,), or say what is wrong with it."""
    array = np.asarray(classes)
    if array.shape != (maps,) or array.dtype.kind not in "iu" or (array < 0).any():
        raise ValueError(f"classes expects {maps} class numbers of 0 or more, one per map, got {classes!r}")
    return array.astype(np.int64)
