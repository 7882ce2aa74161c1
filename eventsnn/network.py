"""Network: layers, their weights on a backend, and running them."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeVar, overload

import numpy as np

from eventsnn import notebook, running, store
from eventsnn.backends import Backend, Decision, Lesson, Neurons
from eventsnn.batches import BATCH, Collector, Data, fetch, put
from eventsnn.devices import Devices, Place, place_of
from eventsnn.events import Events, Shape, check_shape
from eventsnn.layers import Layer, layer_from_dict, layer_to_dict
from eventsnn.profile import Profile
from eventsnn.profile.counting import Keep, profiled
from eventsnn.wiring import PerLayer, check_arrays, check_classes, finite, initial_weights, neurons_of, shapes_of

R = TypeVar("R")

_KIND = ("eventsnn-network", 1)


class Network:
    """Layers one after another on a grid, with their weights.

    Parameters
    ----------
    layers : sequence of Layer
        From the input on.
    shape : tuple of int
        Input grid (channels, height, width).
    seed : int
        Initial weights are drawn from it, a stream of its own for each layer with weights: layers added behind
        do not change those before.
    backend : Backend or str, optional
        Where to compute; default as :func:`eventsnn.backends.get`. Results do not depend on it.
    devices : sequence of Backend or str, optional
        Several devices instead, a thread for each: GPUs by their names, or ``"cpu:0"``, ``"cpu:1"``, ... for threads of
        the host. They share whatever goes through the network, and each mini-batch that a layer learns; results are
        the same to the bit. One that fails is left out from then on, with a ``RuntimeWarning``; its samples go to the
        others. If all fail, that is a ``RuntimeError`` that names all. Online learning takes the first device alone.

    Attributes
    ----------
    backend : Backend
        Of the first device that works.
    layers : tuple of Layer
    shapes : tuple of tuple of int
        Grid before the first layer, after the first, and so on.
    trainable : tuple of int
        Indices of the layers that have weights.
    weights, thresholds : mapping of int to ndarray
        Read-only copies of the float32 weights (maps, channels, kernel height, kernel width) and thresholds (maps,), by
        layer; :meth:`set_weights` and :meth:`set_thresholds` change them.
    classes : ndarray of int64, shape (maps,), or None
        Class that each map of the last layer decides for; reward-modulated learning sets it.

    Raises
    ------
    ValueError
        If a layer does not fit the grid that comes to it, or there is no such backend or device.
    """

    def __init__(
        self,
        layers: Iterable[Layer],
        shape: Shape,
        seed: int = 0,
        backend: Backend | str | None = None,
        devices: Sequence[Backend | str] | None = None,
    ) -> None:
        self.layers: tuple[Layer, ...] = tuple(layers)
        self.shapes = shapes_of(self.layers, check_shape(shape))
        self.seed = int(seed)
        self.place: Place = place_of(backend, devices)
        self.classes: np.ndarray | None = None
        self._copied: tuple[Events, Events] | None = None
        self._neurons = neurons_of(self.layers, self.shapes)
        self.trainable = tuple(self._neurons)
        for i, weights in initial_weights(self.layers, self.shapes, self.seed).items():
            self.place.set_weights(i, weights)

    @property
    def backend(self) -> Backend:
        """Where everything is computed that several devices do not share."""
        return self.place.first.backend

    @property
    def _packed(self) -> dict[int, Any]:
        return self.place.first.packed

    @property
    def shape(self) -> Shape:
        """Input grid (channels, height, width)."""
        return self.shapes[0]

    @property
    def weights(self) -> PerLayer:
        """Read-only copies of the weights, float32 (maps, channels, kernel height, kernel width), by layer index."""
        return PerLayer(self.trainable, lambda i: self.backend.unpack(self._packed[i]))

    @property
    def thresholds(self) -> PerLayer:
        """Read-only copies of the thresholds, float32 of shape (maps,), by layer index."""
        return PerLayer(self.trainable, lambda i: self._neurons[i].threshold.copy())

    def neurons(self, layer: int) -> Neurons:
        """Return geometry, present thresholds and leak of a layer with weights."""
        self.check_trainable(layer)
        return self._neurons[layer]

    def packed(self, layer: int) -> Any:
        """Return the weights of a layer as the backend holds them, for its kernels."""
        self.check_trainable(layer)
        return self._packed[layer]

    def set_weights(self, layer: int, weights: Any) -> None:
        """Replace the weights of a layer.

        Parameters
        ----------
        layer : int
            Index of a layer that has weights.
        weights : array_like of float, shape (maps, channels, kernel height, kernel width)
            Converted to float32.

        Raises
        ------
        ValueError
            If the layer has no weights, or shape or values do not fit.
        """
        self.check_trainable(layer)
        array = np.asarray(weights)
        expected = self.weights_shape(layer)
        if array.ndim == 4 and array.shape[1] != expected[1]:
            raise ValueError(f"{self.describe(layer)} expects {expected[1]} input channels, got {array.shape[1]}")
        if array.shape != expected:
            raise ValueError(f"{self.describe(layer)} expects weights of shape {expected}, got {array.shape}")
        self.place.set_weights(layer, np.ascontiguousarray(finite(self.describe(layer), array)))

    def set_thresholds(self, layer: int, thresholds: Any) -> None:
        """Replace the thresholds of a layer.

        Parameters
        ----------
        layer : int
            Index of a layer that has weights.
        thresholds : float or array_like of float, shape (maps,)
            At least 0; all finite or all infinite.

        Raises
        ------
        ValueError
            If the layer has no weights, or number or values do not fit.
        """
        neurons = self.neurons(layer)
        array = np.asarray(thresholds, np.float32)
        if array.ndim and array.shape != neurons.threshold.shape:
            raise ValueError(f"{self.describe(layer)} expects {len(neurons.threshold)} thresholds, got {array.shape}")
        self._neurons[layer] = replace(neurons, threshold=np.broadcast_to(array, neurons.threshold.shape).copy())

    def weights_shape(self, layer: int) -> tuple[int, int, int, int]:
        """Return (maps, channels, kernel height, kernel width) of a layer."""
        neurons = self.neurons(layer)
        return len(neurons.threshold), self.shapes[layer][0], *neurons.geometry.kernel

    def describe(self, layer: int) -> str:
        """Return a layer as error messages name it: ``layer 2 (Conv(250, kernel=3))``."""
        return f"layer {layer} ({self.layers[layer]})"

    def check_trainable(self, layer: int) -> None:
        """Raise ``ValueError`` unless ``layer`` is the index of a layer that has weights."""
        if not isinstance(layer, int | np.integer) or layer not in self._neurons:
            raise ValueError(f"layer expects one that has weights, {list(self._neurons)}, got {layer!r}")

    def check_input(self, shape: Shape, layer: int = 0) -> None:
        """Raise ``ValueError`` unless events on the grid ``shape`` can go into ``layer``."""
        expected = self.shapes[layer]
        if tuple(shape) == expected:
            return
        who = self.describe(layer) if layer < len(self.layers) else "the output"
        if shape[0] != expected[0]:
            raise ValueError(f"{who} expects {expected[0]} input channels, got {shape[0]}")
        raise ValueError(f"{who} expects a grid of {expected[1]}x{expected[2]}, got {shape[1]}x{shape[2]}")

    @overload
    def run(
        self, events: Data, *, start: int = 0, stop: int | None = None, record: Literal[False] = False,
        batch_size: int = BATCH, profile: Literal[False] = False,
    ) -> Events: ...  # fmt: skip

    @overload
    def run(
        self, events: Data, *, start: int = 0, stop: int | None = None, record: Literal[True],
        batch_size: int = BATCH, profile: Literal[False] = False,
    ) -> list[Events]: ...  # fmt: skip

    @overload
    def run(
        self, events: Data, *, start: int = 0, stop: int | None = None, record: Literal[False] = False,
        batch_size: int = BATCH, profile: Literal[True],
    ) -> tuple[Events, Profile]: ...  # fmt: skip

    @overload
    def run(
        self, events: Data, *, start: int = 0, stop: int | None = None, record: Literal[True],
        batch_size: int = BATCH, profile: Literal[True],
    ) -> tuple[list[Events], Profile]: ...  # fmt: skip

    def run(
        self,
        events: Data,
        *,
        start: int = 0,
        stop: int | None = None,
        record: bool = False,
        batch_size: int = BATCH,
        profile: bool = False,
    ) -> Events | list[Events] | tuple[Events | list[Events], Profile]:
        """Send a batch of stimuli through the layers.

        Parameters
        ----------
        events : Events or EventDataset
            On the grid ``shapes[start]``.
        start, stop : int
            Run ``layers[start:stop]``; default all.
        record : bool
            Return the spikes of every layer run instead of the last one's.
        batch_size : int
            Samples at a time; bounds the memory of what lies between, and does not change the result.
        profile : bool
            Also return what each layer did, counted and timed; see :func:`eventsnn.study.profile`.

        Returns
        -------
        Events or list of Events, or a pair of these and a Profile
            Spikes of the last layer run (the input where none is), or of each.

        Raises
        ------
        ValueError
            If the range of layers is empty backwards or outside the network, or the events do not fit.
        """
        first, last = self.check_range(start, stop)
        self.check_input(events.shape, first)
        if profile:
            keep: Keep = "all" if record else "last"
            outputs, found = profiled(self, events, first, last, keep=keep, batch_size=batch_size)
            return (outputs if record else outputs[0]), found
        collectors = [Collector(len(events)) for _ in range(last - first if record else 1)]
        for outputs in self.each(partial(_outputs, first, last, record), events, batch_size):
            for collector, output in zip(collectors, outputs, strict=True):
                collector.add(output)
        results = [collector.result() for collector in collectors]
        return results if record else results[0]

    def on(self, place: Place) -> Network:
        """Return this network with its computing done elsewhere; layers, thresholds and classes are shared."""
        moved = copy.copy(self)
        moved.place, moved._copied = place, None
        return moved

    def there(self, batch: Events) -> Events:
        """Return a batch in the backend's memory: the copy that is known, or a new one."""
        known = self._copied is not None and self._copied[0] is batch
        return self._copied[1] if self._copied and known else put(batch, self.backend)

    def with_copy(self, batch: Events, there: Events) -> Network:
        """Return this network, knowing a copy of a batch in its backend's memory: it need not make one."""
        knowing = copy.copy(self)
        knowing._copied = batch, there
        return knowing

    def each(self, work: Callable[[Network, Events], R], data: Data, batch_size: int = BATCH) -> Iterator[R]:
        """Yield ``work(net, batch)`` for all samples in order, shared out if there are several devices or threads.

        Parameters
        ----------
        work : callable
            Of a network, this one or one like it elsewhere, and of one batch or piece, all of it at once. What it
            returns lies in the memory of the host. It is called in several threads at once; and again with fewer
            samples, down to one, where there is not enough memory (``MemoryError``).
        data : Events or EventDataset
            In batches of any size.
        batch_size : int
            Samples at a time and device, at most.

        Raises
        ------
        MemoryError
            If there is not enough memory for one sample; it says how large that is.
        """
        return self.place.each(self, work, data, batch_size)

    def hold(self, events: Events) -> Events:
        """Return input of a layer that will learn, in the host's memory, where :meth:`learn` wants it."""
        return self.place.hold(events)

    def learn(self, layer: int, events: Any, order: np.ndarray, lesson: Lesson) -> np.ndarray:
        """Present samples to a layer as :meth:`Backend.learn` does, wherever the network computes.

        Parameters
        ----------
        layer : int
            Index of a layer that has weights.
        events : Events
            Its input, from :meth:`hold`.
        order, lesson
            As of :meth:`Backend.learn`, whose winners are returned.
        """
        return self.place.learn(layer, events, order, lesson)

    def run_through(self, batch: Events, start: int, stop: int) -> Events:
        """Return the spikes of the last of ``layers[start:stop]`` over one batch, all of it at once."""
        return fetch(running.through(self, batch, start, stop), self.backend)

    def decide(self, batch: Events, start: int, stop: int) -> Decision:
        """Return who wins first in the last of ``layers[start:stop]``, over one batch, all of it at once.

        That is what :meth:`Backend.first_winners` says of the spikes of :meth:`run`, often sooner.
        """
        return running.decide(self, batch, start, stop)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write layers, weights, thresholds and classes to an HDF5 file, by rename.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        meta = {"shape": self.shape, "seed": self.seed, "layers": [layer_to_dict(layer) for layer in self.layers]}
        arrays = {f"weights/{i}": w for i, w in self.weights.items()}
        arrays |= {f"thresholds/{i}": t for i, t in self.thresholds.items()}
        if self.classes is not None:
            arrays["classes"] = self.classes
        store.write(path, _KIND, meta, arrays)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        backend: Backend | str | None = None,
        devices: Sequence[Backend | str] | None = None,
    ) -> Network:
        """Read a network that :meth:`save` wrote, to compute where ``backend`` or ``devices`` say.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is not a network, newer than this program, corrupt or inconsistent; or there is no such backend
            or device.
        """
        place = place_of(backend, devices)
        meta, arrays = store.read(path, _KIND)
        try:
            return _restore(meta, arrays, place)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: inconsistent network: {error}") from error

    def __repr__(self) -> str:
        """Return the layers with their grids, line by line."""
        return notebook.network_text(self)

    _repr_html_ = notebook.network

    def check_range(self, start: int, stop: int | None) -> tuple[int, int]:
        """Return the range of layers that is meant, or raise ``ValueError`` if there is none."""
        last = len(self.layers) if stop is None else stop
        if not 0 <= start <= last <= len(self.layers):
            raise ValueError(f"layers expects 0 <= start <= stop <= {len(self.layers)}, got {start} and {stop}")
        return start, last


def _outputs(first: int, last: int, record: bool, net: Network, batch: Events) -> list[Events]:
    """Return the spikes of the last of ``layers[first:last]``, or of each of them."""
    return running.recorded(net, batch, first, last) if record else [net.run_through(batch, first, last)]


def _restore(meta: Mapping[str, Any], arrays: dict[str, np.ndarray], place: Devices) -> Network:
    layers = [layer_from_dict(fields) for fields in meta["layers"]]
    shapes = shapes_of(layers, check_shape(meta["shape"]))
    check_arrays(layers, shapes, arrays)  # before anything of the size that the file claims is drawn
    net = Network(layers, shapes[0], meta["seed"], place.first.backend).on(place)
    for i in net.trainable:
        net.set_weights(i, arrays[f"weights/{i}"])
        net.set_thresholds(i, arrays[f"thresholds/{i}"])
    if "classes" in arrays:
        net.classes = check_classes(arrays["classes"], net.shapes[-1][0])
    return net
