"""Who learns: competitions among the neurons that fired."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from eventsnn import checks
from eventsnn.backends import Backend, Update, get
from eventsnn.backends.competition import compete, nobody
from eventsnn.events import Events


@dataclass(frozen=True)
class WTA:
    """Winner-take-all: up to ``k`` winners in a sample, at most one for each map.

    Repeatedly, the earliest spike wins, then the larger potential, then the lowest flat index. A winner excludes
    its whole map, and with ``radius > 0`` every map within ``|dy| <= radius, |dx| <= radius``.

    Parameters
    ----------
    k : int
        Largest number of winners.
    radius : int
        Of the inhibition around a winner.
    pointwise : bool
        Whether pointwise inhibition comes first, as published networks do while a layer learns.
    """

    k: int = 1
    radius: int = 0
    pointwise: bool = True

    def __post_init__(self) -> None:
        checks.integer("WTA: k", self.k, 1)
        checks.integer("WTA: radius", self.radius, 0)
        checks.switch("WTA: pointwise", self.pointwise)

    def __call__(self, spikes: Events, backend: Backend | None = None) -> np.ndarray:
        """Choose the winners of every sample of a layer's output.

        Parameters
        ----------
        spikes : Events
            Spikes with potentials, as convolution layers give them.
        backend : Backend, optional
            Where to compute.

        Returns
        -------
        ndarray of int64, shape (n_samples, k, 4)
            ``(map, y, x, time)`` in the order of choice; -1 where there is none.
        """
        kernels = backend or get()
        return kernels.winners(kernels.pointwise(spikes) if self.pointwise else spikes, self.k, self.radius)

    def fields(self) -> dict[str, Any]:
        """Return the fields of :class:`eventsnn.backends.Update` that say who wins."""
        return {"k": self.k, "radius": self.radius, "pointwise": self.pointwise}


@dataclass(frozen=True)
class Competition:
    """A competition of your own: any Python function that chooses among the spikes of one sample.

    Called for every sample, in Python and with all of the layer's spikes, it takes many times as long as :class:`WTA`,
    which stops at the last winner. It must depend on nothing but these spikes and what it takes from outside (globals,
    closure), which with a :class:`eventsnn.Checkpoint` is written down when :func:`eventsnn.fit` begins.

    Parameters
    ----------
    function : callable
        Called with the spikes of one sample (:class:`Events` in canonical order, with potentials), after pointwise
        inhibition if that applies. Returns the indices of the winning spikes in the order of choice: up to ``k``,
        of different maps; none if nobody wins.
    k : int
        Largest number of winners.
    pointwise : bool
        Whether pointwise inhibition comes first.

    Raises
    ------
    TypeError
        If ``function`` cannot be called.
    ValueError
        If ``k`` is not an integer of 1 or more, or ``pointwise`` not True or False.

    Examples
    --------
    The neuron with the largest potential wins, whenever it fires::

        Competition(lambda spikes: [spikes.potential.argmax()] if spikes.n_events else [])
    """

    function: Callable[[Events], Any]
    k: int = 1
    pointwise: bool = True

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"Competition expects a function of a sample's spikes, got {self.function!r}")
        checks.integer("Competition: k", self.k, 1)
        checks.switch("Competition: pointwise", self.pointwise)

    def __call__(self, spikes: Events, backend: Backend | None = None) -> np.ndarray:
        """Choose the winners of every sample of a layer's output; see :meth:`WTA.__call__`."""
        found, nothing = nobody(len(spikes), self.k), np.empty(0, np.float32)
        compete(backend or get(), spikes, Update(nothing, nothing, **self.fields()), None, found)
        return found.winners

    def fields(self) -> dict[str, Any]:
        """Return the fields of :class:`eventsnn.backends.Update` that say who wins."""
        return {"k": self.k, "pointwise": self.pointwise, "choose": self.function}


def split_evenly(maps: int, n_classes: int) -> np.ndarray:
    """Return classes 0, 1, ... of maps shared out evenly, in order; int64 of shape (maps,).

    Raises
    ------
    ValueError
        If the maps cannot be shared out evenly.
    """
    if n_classes < 1 or maps % n_classes:
        raise ValueError(f"{maps} maps cannot be split evenly among {n_classes} classes; give classes, one per map")
    return np.repeat(np.arange(n_classes), maps // n_classes)
