"""What every backend offers; the docstrings are the kernels' contract."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, TypeVar

import numpy as np

from eventsnn.backends import on_host
from eventsnn.backends.competition import Found
from eventsnn.backends.lesson import Lesson, check_lesson
from eventsnn.backends.neurons import Geometry, Neurons, weights_shape
from eventsnn.backends.updates import Reward, Update
from eventsnn.events import Events

R = TypeVar("R")


class Decision(NamedTuple):
    """Who wins first in each sample of a layer's output, and how many of its neurons fire.

    Attributes
    ----------
    winners : ndarray of int64, shape (n_samples, 4)
        ``(map, y, x, time)``, -1 where no neuron fires.
    spikes : ndarray of int64, shape (n_samples,)
    """

    winners: np.ndarray
    spikes: np.ndarray


class Pooled(NamedTuple):
    """What comes out of a layer and the pool after it.

    Attributes
    ----------
    events : Events
        The pooled spikes.
    spikes : ndarray of int64, shape (n_samples,), or None
        How many neurons of the layer fire in each sample, if that was asked for.
    """

    events: Events
    spikes: np.ndarray | None


class Backend(ABC):
    """An array module and the kernels that layers, networks and training are written with.

    The public methods check dtypes, shapes and layout once; the private ones of each implementation compute, in the
    caller's thread unless they say otherwise.
    Weights cross the seam through :meth:`pack` and :meth:`unpack`: a backend holds them in the layout and
    memory that its kernels want.
    """

    name: str
    xp: Any  #: the module whose arrays the columns of this backend's ``Events`` are
    images: Any = None  #: stages of image encoders in the backend's memory, see ``cuda_images.py``; None: it has none
    #: what only the device itself raises, when it fails: others may go on, see :class:`eventsnn.Network`
    failures: tuple[type[Exception], ...] = ()
    threads: int = 1  #: of the host, that share what goes through a network: each calls these methods with its samples

    def pack(self, weights: np.ndarray) -> Any:
        """Copy float32 weights of shape (maps, channels, kernel height, kernel width) into the backend's layout.

        Raises
        ------
        TypeError
            If dtype or number of axes differ.
        """
        if not isinstance(weights, np.ndarray) or weights.dtype != np.float32 or weights.ndim != 4:
            found = f"{weights.dtype} of shape {weights.shape}" if isinstance(weights, np.ndarray) else type(weights)
            raise TypeError(f"weights expects a 4-D array of float32, got {found}")
        return self._pack(weights)

    def here(self) -> AbstractContextManager[Any]:
        """Return a context for work on arrays of the backend's memory outside of its methods, such as slicing."""
        return nullcontext()

    def timed(self, work: Callable[[], R]) -> tuple[R, float]:
        """Return what work with this backend gives, and the seconds that it takes.

        They are the processor's, of this thread; where a device works by itself, until it has done everything.
        """
        start = time.thread_time()
        result = work()
        return result, time.thread_time() - start

    def put(self, array: np.ndarray) -> Any:
        """Copy an array to the memory of the backend; ``batches.put`` does that for events."""
        return self.xp.asarray(array)

    def fetch(self, array: Any) -> np.ndarray:
        """Copy an array from the memory of the backend to the host's."""
        return array if self.xp is np else self.xp.asnumpy(array)

    @abstractmethod
    def _pack(self, weights: np.ndarray) -> Any: ...

    @abstractmethod
    def unpack(self, packed: Any) -> np.ndarray:
        """Return packed weights as a new host array, float32 of shape (maps, channels, kernel h, kernel w)."""

    def conv(self, events: Events, packed: Any, neurons: Neurons) -> Events:
        """Run integrate-and-fire neurons with at most one spike each over every sample.

        Spikes are taken in canonical order. At each time of a sample that has spikes: the potential of every
        neuron whose receptive field holds one first decays by ``leak.factor(t - t_last)``, where ``t_last`` is the
        last such time of that neuron (no decay before its first); then every spike adds its weight
        ``w[f, c, y - oy * stride + pad, x - ox * stride + pad]``, one after another; after all of that time, a
        neuron that has not fired does so if its potential is strictly above its map's threshold. Infinite
        thresholds: neurons whose potential after the whole stimulus (decayed to ``duration - 1``) is above 0
        fire at ``duration - 1``.

        Parameters
        ----------
        events : Events
            Input, grid (C, H, W).
        packed : object
            From :meth:`pack`, for weights of shape (F, C, *neurons.geometry.kernel).
        neurons : Neurons
            Geometry, thresholds and leak.

        Returns
        -------
        Events
            Grid (F, OH, OW), with ``potential`` set; duration, unit and labels of the input.

        Raises
        ------
        ValueError
            If the weights do not fit the events' channels or the neurons' kernel or maps.
        """
        self._check_conv(events, packed, neurons)
        return self._conv(events, packed, neurons)

    @abstractmethod
    def _conv(self, events: Events, packed: Any, neurons: Neurons) -> Events: ...

    def conv_pool(
        self, events: Events, packed: Any, neurons: Neurons, geometry: Geometry, counted: bool = False
    ) -> Pooled:
        """Return :meth:`pool` of :meth:`conv`, to the bit; a backend may find it in a shorter way.

        Parameters
        ----------
        events, packed, neurons
            As :meth:`conv` has them.
        geometry : Geometry
            Of the pool.
        counted : bool
            Whether to say how many neurons fire before they are pooled; a backend may need longer for it.

        Raises
        ------
        ValueError
            As :meth:`conv`.
        """
        self._check_conv(events, packed, neurons)
        return self._conv_pool(events, packed, neurons, geometry, counted)

    def _conv_pool(self, events: Events, packed: Any, neurons: Neurons, geometry: Geometry, counted: bool) -> Pooled:
        spikes = self._conv(events, packed, neurons)
        return Pooled(self.pool(spikes, geometry), self._sample_counts(spikes) if counted else None)

    def decide(self, events: Events, packed: Any, neurons: Neurons) -> Decision:
        """Return the first winner of every sample of what :meth:`conv` gives, and its number of spikes.

        That is :meth:`first_winners` of :meth:`conv`, to the bit; a backend may find it in a shorter way.

        Raises
        ------
        ValueError
            As :meth:`conv`.
        """
        self._check_conv(events, packed, neurons)
        return self._decide(events, packed, neurons)

    def _decide(self, events: Events, packed: Any, neurons: Neurons) -> Decision:
        return self.first_winners(self._conv(events, packed, neurons))

    def first_winners(self, events: Events) -> Decision:
        """Return the first of the :meth:`winners` of every sample of a layer's output, and its number of spikes."""
        return Decision(self.winners(events, 1, 0)[:, 0], self._sample_counts(events))

    def _sample_counts(self, events: Events) -> np.ndarray:
        return np.diff(self.fetch(events.offsets))

    def select(self, events: Events, active: np.ndarray) -> Events:
        """Keep the spikes of the maps whose entry of the boolean ``active`` (maps,) is true."""
        return events.where(self.put(active)[events.channel])

    @abstractmethod
    def pool(self, events: Events, geometry: Geometry) -> Events:
        """Let each pooled neuron (c, oy, ox) fire once, at the earliest spike of map ``c`` in its window.

        The result has grid (C, OH, OW) without potentials; duration, unit and labels of the input.
        """

    @abstractmethod
    def pointwise(self, events: Events) -> Events:
        """Keep at each position only one spike of all maps.

        The earliest stays; at equal time the one with the larger potential (all equal where
        ``events.potential`` is None); at equal potential the lowest map's.
        """

    @abstractmethod
    def winners(self, events: Events, k: int, radius: int) -> np.ndarray:
        """Choose up to ``k`` winners of every sample.

        Repeatedly, among the spikes that are not excluded: the earliest, then the larger potential (equal where
        ``events.potential`` is None), then the lowest flat index ``(f * H + y) * W + x``. A winner excludes its
        whole map and, if ``radius > 0``, every map within ``|dy| <= radius, |dx| <= radius``.

        Returns
        -------
        ndarray of int64, shape (n_samples, k, 4)
            ``(map, y, x, time)`` of each winner in the order of choice; -1 where there is none.
        """

    def learn(
        self,
        events: Events,
        order: np.ndarray,
        packed: Any,
        neurons: Neurons,
        update: Update,
        reward: Reward | None = None,
        *,
        positions: np.ndarray | None = None,
        batch: int = 1,
    ) -> np.ndarray:
        """Present samples one after another and change ``packed`` in place after each: online and exact.

        For each sample: run the neurons as :meth:`conv` does; the maps with ``update.active[f]`` false do not
        fire; then :meth:`pointwise` if ``update.pointwise``; then :meth:`winners` with ``update.k`` and
        ``update.radius`` (or ``update.choose``, called with those spikes, gives the indices of the winning ones); then
        for each winner ``(f, y, x, t)`` every weight ``w`` of map ``f`` changes once, in float32::

            a = plus[f] if its input has a spike at a time <= t else minus[f]
            a = a * exp(-|dt| / tau)                          if there is a tau
            w = w + a                                         additive
            w = w + a * ((w - lower) * (upper - w))           stabilized
            w = w + a * exp(-beta * u)                        multiplicative; u = (w - lower) / (upper - lower) for
                                                              causal synapses, (upper - w) / (upper - lower) for others
            w = w + a * (upper - w)  or  w + a * (w - lower)  proportional; for causal synapses and for others

        where ``dt = t - t_pre``, and ``t_pre`` is the last input at or before ``t``, without one the first after
        it; without any ``exp(-|dt| / tau)`` is 0. ``exp`` is :class:`LeakTable` and :class:`updates.ScaleTable`. With
        ``update.function`` instead: ``w = float32(function(w, dt, ...))``, computed in float64, ``dt = -inf`` without
        input. Then all weights of the layer, those of the other maps too, are clipped to ``[lower, upper]``, as
        SpykeTorch does. A synapse whose input lies in the padding has no spike. Nothing after the last winner is
        looked at, but by the timing of a rule.

        With ``update.thresholds``, ``neurons.threshold`` changes in place after each sample with a winner, whatever its
        reward, as :class:`updates.ThresholdAdaptation` says.

        Parameters
        ----------
        events : Events
            Input samples, grid (C, H, W).
        order : ndarray of int64, shape (n,)
            The samples to present, in this order; an index may come again.
        packed : object
            Weights from :meth:`pack`, changed in place.
        neurons : Neurons
            Geometry, thresholds and leak.
        update : Update
            Competition and plasticity. With ``reward``: what a correct decision does.
        reward : Reward, optional
            Reward-modulated learning. The decision is ``reward.classes[f]`` of the first winner: if it equals
            the sample's label, ``update`` applies, otherwise ``reward.punish``; without a winner nothing
            changes.
        positions : ndarray of int64, shape (n,), optional
            For each presentation the one output position ``oy * OW + ox`` that takes part, as if there were no
            other; default all.
        batch : int
            Presentations whose winners are found with the same weights and thresholds, before their updates are
            applied in order; 1 is online.

        Returns
        -------
        ndarray of int64, shape (n, k, 4)
            The winners of each presentation, as :meth:`winners` gives them.

        Raises
        ------
        ValueError
            If weights, order, labels or positions do not fit, or a user's rule gives a weight that is not finite.
        """
        self._check_conv(events, packed, neurons)
        lesson = Lesson(neurons, update, reward, positions, batch)
        check_lesson(events, order, lesson)
        return self._learn(events, order, packed, lesson)

    @abstractmethod
    def _learn(self, events: Events, order: np.ndarray, packed: Any, lesson: Lesson) -> np.ndarray: ...

    def find(self, events: Events, packed: Any, lesson: Lesson) -> Found:
        """Return who wins in each sample, as :meth:`learn` finds it before it changes anything.

        Parameters
        ----------
        events : Events
            Input samples, grid (C, H, W), each presented once; ``lesson.positions`` has one entry for each, if any.
        packed : object
            Weights from :meth:`pack`, which stay as they are.
        lesson : Lesson
            As of :meth:`learn`; ``batch`` is not used.

        Returns
        -------
        Found
            Winners (n_samples, k, 4) and their potentials (n_samples, k), in the memory of the host.

        Raises
        ------
        ValueError
            As :meth:`learn`.
        """
        self._check_presented(events, packed, lesson)
        return self._find(events, packed, lesson)

    def _find(self, events: Events, packed: Any, lesson: Lesson) -> Found:
        from eventsnn.backends import get

        return on_host.find(self, self if self.xp is np else get("cpu"), events, packed, lesson)

    def change(self, events: Events, found: Found, packed: Any, lesson: Lesson) -> Any:
        """Change weights, and ``lesson.neurons.threshold`` in place, as the winners of each sample say, in order.

        ``find`` and then ``change`` of the same samples is :meth:`learn` with all of them in one mini-batch. Of the
        events only those in the receptive fields of winners matter.

        Parameters
        ----------
        events, packed, lesson
            As of :meth:`find`.
        found : Found
            From :meth:`find`, of any backend.

        Returns
        -------
        object
            The packed weights after it: ``packed`` itself, changed in place, or others in its stead.

        Raises
        ------
        ValueError
            As :meth:`learn`.
        """
        self._check_presented(events, packed, lesson)
        return self._change(events, found, packed, lesson)

    def _change(self, events: Events, found: Found, packed: Any, lesson: Lesson) -> Any:
        return on_host.change(self, events, found, packed, lesson)

    def _check_presented(self, events: Events, packed: Any, lesson: Lesson) -> None:
        self._check_conv(events, packed, lesson.neurons)
        check_lesson(events, np.arange(len(events)), lesson)

    @abstractmethod
    def _packed_shape(self, packed: Any) -> tuple[int, int, int, int]: ...

    def _check_conv(self, events: Events, packed: Any, neurons: Neurons) -> None:
        expected = weights_shape(neurons, events.shape[0])
        found = self._packed_shape(packed)
        if found != expected:
            raise ValueError(f"weights expects shape (maps, channels, kernel) = {expected}, got {found}")
        neurons.geometry.output(*events.shape[1:])
