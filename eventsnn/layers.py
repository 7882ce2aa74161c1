"""Layers: frozen descriptions of what happens to spikes; their weights are arrays beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from typing import Any

import numpy as np

from eventsnn.backends import Backend, Geometry, LeakTable, Neurons
from eventsnn.events import Events, Shape

inf = math.inf
Pair = tuple[int, int]


@dataclass(frozen=True)
class Normal:
    """Initial weights drawn from a normal distribution.

    Parameters
    ----------
    mean, std : float
        Mean and standard deviation; ``std=0`` makes all weights equal.
    """

    mean: float = 0.8
    std: float = 0.05

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std >= 0):
            raise ValueError(f"Normal expects finite values and std >= 0, got mean={self.mean}, std={self.std}")

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Return float32 weights of ``shape``."""
        weights = rng.standard_normal(shape, np.float32)
        weights *= np.float32(self.std)
        weights += np.float32(self.mean)
        return weights


@dataclass(frozen=True)
class Conv:
    """Convolution with integrate-and-fire neurons that fire at most once per stimulus.

    Parameters
    ----------
    features : int
        Number of maps ``F``.
    kernel : int or (int, int)
        Receptive field, (vertical, horizontal).
    stride, padding : int or (int, int)
        As in a usual cross-correlation.
    threshold : float or sequence of float, shape (features,)
        The neuron fires once its potential is strictly above. ``inf``: every neuron with a potential above 0
        fires at the end of the stimulus (the decision layer of Mozafari et al. 2019).
    leak : float, optional
        Time constant ``tau`` of the decay ``exp(-dt / tau)``, in the events' time unit. Default: no leak.
    init : Normal
        Distribution of the initial weights, of shape (features, channels, kernel height, kernel width).

    Raises
    ------
    ValueError
        If a value is out of range or there is not one threshold per map.
    """

    features: int
    kernel: int | Pair
    _: KW_ONLY
    threshold: float | Sequence[float]
    stride: int | Pair = 1
    padding: int | Pair = 0
    leak: float | None = None
    init: Normal = Normal()

    def __post_init__(self) -> None:
        _set(self, features=_count("features", self.features), kernel=_pair("kernel", self.kernel, 1))
        _set(self, stride=_pair("stride", self.stride, 1), padding=_pair("padding", self.padding, 0))
        _set(self, threshold=_threshold(self.threshold, self.features), leak=_leak(self.leak))

    def __str__(self) -> str:
        """Return the short form that error messages use."""
        return f"Conv({self.features}, kernel={_short(self.kernel)})"

    def geometry(self, shape: Shape) -> Geometry:
        """Return the window of each neuron; the same for every input ``shape``."""
        return Geometry(_both(self.kernel), _both(self.stride), _both(self.padding))

    def output_shape(self, shape: Shape) -> Shape:
        """Return (features, OH, OW) for an input grid (C, H, W)."""
        return (self.features, *self.geometry(shape).output(*shape[1:]))

    def neurons(self, shape: Shape) -> Neurons:
        """Return geometry, thresholds and leak as kernels want them, for an input grid ``shape``."""
        return _neurons(self, shape)

    def run(self, events: Events, backend: Backend, weights: np.ndarray) -> Events:
        """Run the layer on its own, with float32 weights of shape (features, C, kernel height, kernel width)."""
        return backend.conv(events, backend.pack(weights), self.neurons(events.shape))

    def synaptic_operations(self, events: Events) -> np.ndarray:
        """Return how many synapses the spikes of each sample reach, int64 of shape (n_samples,).

        Every spike counts once for each neuron whose receptive field holds it; padding and stride are respected.
        """
        return _synaptic_operations(self.geometry(events.shape), self.features, events)


@dataclass(frozen=True)
class Dense:
    """Fully connected integrate-and-fire neurons: a convolution whose kernel is the whole grid.

    Parameters
    ----------
    features : int
        Number of neurons; the output grid is (features, 1, 1).
    threshold, leak, init
        As of :class:`Conv`.
    """

    features: int
    _: KW_ONLY
    threshold: float | Sequence[float]
    leak: float | None = None
    init: Normal = Normal()

    def __post_init__(self) -> None:
        _set(self, features=_count("features", self.features))
        _set(self, threshold=_threshold(self.threshold, self.features), leak=_leak(self.leak))

    def __str__(self) -> str:
        """Return the short form that error messages use."""
        return f"Dense({self.features})"

    def geometry(self, shape: Shape) -> Geometry:
        """Return the window of each neuron: the grid of ``shape``."""
        return Geometry(shape[1:])

    def output_shape(self, shape: Shape) -> Shape:
        """Return (features, 1, 1)."""
        return self.features, 1, 1

    def neurons(self, shape: Shape) -> Neurons:
        """Return geometry, thresholds and leak as kernels want them, for an input grid ``shape``."""
        return _neurons(self, shape)

    def run(self, events: Events, backend: Backend, weights: np.ndarray) -> Events:
        """Run the layer on its own, with float32 weights of shape (features, C, H, W)."""
        return backend.conv(events, backend.pack(weights), self.neurons(events.shape))

    def synaptic_operations(self, events: Events) -> np.ndarray:
        """Return how many synapses the spikes of each sample reach, int64 of shape (n_samples,)."""
        return _synaptic_operations(self.geometry(events.shape), self.features, events)


@dataclass(frozen=True)
class Pool:
    """Pooled neurons that fire once, at the earliest spike in their window.

    Parameters
    ----------
    kernel : int or (int, int)
        Window, (vertical, horizontal).
    stride : int or (int, int), optional
        Default: the kernel.
    padding : int or (int, int)
        As in a usual max-pool without ceil mode.
    """

    kernel: int | Pair
    stride: int | Pair | None = None
    padding: int | Pair = 0

    def __post_init__(self) -> None:
        stride = self.kernel if self.stride is None else self.stride
        _set(self, kernel=_pair("kernel", self.kernel, 1), stride=_pair("stride", stride, 1))
        _set(self, padding=_pair("padding", self.padding, 0))

    def __str__(self) -> str:
        """Return the short form that error messages use."""
        return f"Pool({_short(self.kernel)})"

    def geometry(self, shape: Shape) -> Geometry:
        """Return the window of each pooled neuron; the same for every input ``shape``."""
        return Geometry(_both(self.kernel), _both(self.stride), _both(self.padding))

    def output_shape(self, shape: Shape) -> Shape:
        """Return (C, OH, OW) for an input grid (C, H, W)."""
        return (shape[0], *self.geometry(shape).output(*shape[1:]))

    def run(self, events: Events, backend: Backend) -> Events:
        """Pool a batch."""
        return backend.pool(events, self.geometry(events.shape))


@dataclass(frozen=True)
class PointwiseInhibition:
    """At each position only one map may fire: the earliest, then the larger potential, then the lowest index."""

    def __str__(self) -> str:
        """Return the short form that error messages use."""
        return "PointwiseInhibition()"

    def output_shape(self, shape: Shape) -> Shape:
        """Return ``shape``."""
        return shape

    def run(self, events: Events, backend: Backend) -> Events:
        """Inhibit a batch."""
        return backend.pointwise(events)


@dataclass(frozen=True)
class FeatureInhibition:
    """The listed maps do not fire.

    Parameters
    ----------
    maps : sequence of int
        Indices of the silent maps.
    """

    maps: Sequence[int]

    def __post_init__(self) -> None:
        _set(self, maps=tuple(sorted({int(m) for m in self.maps})))
        if self.maps and self.maps[0] < 0:
            raise ValueError(f"maps expects indices of 0 or more, got {self.maps[0]}")

    def __str__(self) -> str:
        """Return the short form that error messages use."""
        return f"FeatureInhibition({len(self.maps)} maps)"

    def output_shape(self, shape: Shape) -> Shape:
        """Return ``shape``, having checked that it has the listed maps."""
        if self.maps and self.maps[-1] >= shape[0]:
            raise ValueError(f"maps expects indices below {shape[0]}, got {self.maps[-1]}")
        return shape

    def run(self, events: Events, backend: Backend) -> Events:
        """Inhibit a batch."""
        channels = self.output_shape(events.shape)[0]
        active = np.ones(channels, bool)
        active[list(self.maps)] = False
        return backend.select(events, active)


Layer = Conv | Dense | Pool | PointwiseInhibition | FeatureInhibition
_TYPES: dict[str, Callable[..., Layer]] = {
    cls.__name__: cls for cls in (Conv, Dense, Pool, PointwiseInhibition, FeatureInhibition)
}


def layer_to_dict(layer: Layer) -> dict[str, Any]:
    """Return a layer as a plain dict of JSON values, with its ``"type"``; an infinite threshold is ``"inf"``."""
    fields = {"type": type(layer).__name__} | asdict(layer)
    if "threshold" in fields:
        value = fields["threshold"]
        fields["threshold"] = [_json(v) for v in value] if isinstance(value, tuple) else _json(value)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


def layer_from_dict(fields: Mapping[str, Any]) -> Layer:
    """Build the layer that :func:`layer_to_dict` described.

    Raises
    ------
    ValueError
        If the type is unknown, a field is missing or unknown, or a value is refused by the layer.
    """
    values = dict(fields)
    kind = values.pop("type", None)
    if not isinstance(kind, str) or kind not in _TYPES:
        raise ValueError(f"layer expects a type of {', '.join(_TYPES)}, got {kind!r}")
    try:
        if "threshold" in values:
            value = values["threshold"]
            values["threshold"] = [float(v) for v in value] if isinstance(value, list) else float(value)
        if "init" in values:
            values["init"] = Normal(**values["init"])
        return _TYPES[kind](**{n: tuple(v) if isinstance(v, list) else v for n, v in values.items()})
    except TypeError as error:
        raise ValueError(f"{kind} does not understand {dict(fields)}: {error}") from None


def _set(layer: Any, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(layer, name, value)


def _count(name: str, value: Any) -> int:
    if not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} expects a positive integer, got {value!r}")
    return int(value)


def _pair(name: str, value: Any, least: int) -> Pair:
    pair = (value, value) if isinstance(value, int | np.integer) else value
    if not (isinstance(pair, Sequence) and len(pair) == 2 and all(isinstance(v, int | np.integer) for v in pair)):
        raise ValueError(f"{name} expects an integer or (vertical, horizontal), got {value!r}")
    if min(pair) < least:
        raise ValueError(f"{name} expects {least} or more, got {value!r}")
    return int(pair[0]), int(pair[1])


def _both(value: Any) -> Pair:
    """Return a field that construction has already turned into a pair, for the type checker."""
    return value


def _short(value: Any) -> str:
    return str(value[0]) if value[0] == value[1] else str(value)


def _threshold(value: Any, features: int) -> float | tuple[float, ...]:
    values = np.asarray(value, np.float64)
    if values.ndim and values.shape != (features,):
        raise ValueError(f"threshold expects one value or {features}, one per map, got shape {values.shape}")
    if np.isnan(values).any() or (values < 0).any():
        raise ValueError(f"threshold expects values of 0 or more, got {values.min()}")
    if np.isinf(values).any() and not np.isinf(values).all():
        raise ValueError("threshold expects all maps finite or all infinite, got a mixture")
    return tuple(values.tolist()) if values.ndim else float(values)


def _leak(value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise ValueError(f"leak expects a positive time constant or None, got {value!r}")
    return None if value is None else float(value)


def _json(value: float) -> float | str:
    return "inf" if math.isinf(value) else value


def _neurons(layer: Conv | Dense, shape: Shape) -> Neurons:
    threshold = np.broadcast_to(np.asarray(layer.threshold, np.float32), layer.features).copy()
    return Neurons(layer.geometry(shape), threshold, None if layer.leak is None else LeakTable(layer.leak))


def _synaptic_operations(geometry: Geometry, features: int, events: Events) -> np.ndarray:
    rows, columns = (high - low for low, high in geometry.windows(*events.shape[1:]))
    total = np.concatenate([[0], np.cumsum(rows[events.y] * columns[events.x])])
    return features * np.diff(total[events.offsets])
