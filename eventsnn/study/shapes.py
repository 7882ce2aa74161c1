"""Layers that a study times: those of the published networks, a grid of others, and weights like learnt ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from eventsnn import checks
from eventsnn.backends import Backend
from eventsnn.layers import Conv, Pool
from eventsnn.models import MODELS
from eventsnn.network import Network
from eventsnn.validation import Shape, check_shape, nearest

LANES = 32  #: maps that the CPU's kernels add at once; a last block of fewer takes as long
_ONES = 1.6  # weights of 1 in a map's receptive field, relative to its threshold


@dataclass(frozen=True)
class LayerShape:
    """A convolution to time, and the pool after it.

    Parameters
    ----------
    shape : tuple of int
        Input grid (channels, height, width).
    maps, kernel, padding : int
        As of :class:`eventsnn.Conv`; the kernel is square.
    pool : int
        Window of the pool after it; 0: no pool.
    threshold : float, optional
        Default: so that as large a part of the receptive field makes a neuron fire as in published networks, 12 % of up
        to 300 synapses, 4 % of more. ``inf``: a layer that decides.
    held_out : bool
        Whether the cost model is fitted without it, and held against it.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    shape: tuple[int, int, int]
    maps: int
    kernel: int
    padding: int = 0
    pool: int = 0
    threshold: float | None = None
    held_out: bool = False

    def __post_init__(self) -> None:
        check_shape(self.shape)
        for name, least in (("maps", 1), ("kernel", 1), ("padding", 0), ("pool", 0)):
            checks.integer(name, getattr(self, name), least)
        self.case()

    def case(self) -> Case:
        """Return the layers themselves."""
        synapses = self.shape[0] * self.kernel**2
        usual = max(2, round(synapses * (0.12 if synapses <= 300 else 0.04)))
        threshold = usual if self.threshold is None else self.threshold
        conv = Conv(self.maps, self.kernel, padding=self.padding, threshold=threshold)
        found = Case(conv, Pool(self.pool) if self.pool else None, self.shape, None, self.held_out)
        found.network()
        return found


@dataclass(frozen=True)
class Case:
    """A layer to time, the pool after it, the input grid, and the published networks that have it."""

    conv: Conv
    pool: Pool | None
    shape: Shape
    networks: str | None
    held_out: bool

    @property
    def decides(self) -> bool:
        """Whether its largest potential decides, so that nobody asks for spikes."""
        return math.isinf(np.max(self.conv.threshold))

    def network(self, backend: Backend | str | None = None) -> Network:
        """Return the layers as a network."""
        return Network([self.conv, self.pool] if self.pool else [self.conv], self.shape, backend=backend)

    def weights(self, seed: int) -> np.ndarray:
        """Return weights as learning leaves them: 0 or 1, so many of 1 that a neuron needs 1 of 1.6 of them to fire.

        Learnt layers of ``digits`` have 1.4 (first) and 1.7 (second) times their threshold in weights near 1, and
        hardly one weight between 0.1 and 0.9. A layer that decides has weights from 0.2 to 0.8, as its
        learning is bounded.
        """
        rng = np.random.default_rng([seed, 1])
        kernel = self.network("reference").weights_shape(0)
        if self.decides:
            return rng.uniform(0.2, 0.8, kernel).astype(np.float32)
        part = min(1.0, _ONES * float(np.mean(self.conv.threshold)) / math.prod(kernel[1:]))
        return (rng.random(kernel) < part).astype(np.float32)


def published(names: Sequence[str]) -> list[Case]:
    """Return the layers of published networks, each kind once, with the names of all networks that have it.

    Layers have a pool with them where one comes next, since the two run as one.
    """
    found: dict[tuple[Conv, Pool | None, Shape], list[str]] = {}
    for name in names:
        model = MODELS[name]()
        shapes = Network(model.layers, model.image_encoder.output_shape(*model.size), backend="reference").shapes
        for layer, after, shape in zip(model.layers, (*model.layers[1:], None), shapes, strict=False):
            if isinstance(layer, Conv):
                key = (replace(layer, init=Conv(1, 1, threshold=1).init), after if isinstance(after, Pool) else None)
                found.setdefault((*key, shape), []).append(name)
    return [Case(conv, pool, shape, ", ".join(names), True) for (conv, pool, shape), names in found.items()]


def check_names(names: Sequence[str]) -> None:
    """Raise ``ValueError`` unless all are names of published networks."""
    for name in names:
        if name not in MODELS:
            raise ValueError(f"networks expects names of published networks, got {name!r}; {nearest(name, MODELS)}")


def on_grid(cases: Sequence[Case], shape: Shape) -> list[Case]:
    """Return the layers that see events of a grid: those made for it, and the networks' first layers placed on it."""
    exact = [case for case in cases if case.shape == shape]
    firsts = [case for case in cases if case.networks and case.shape[0] <= 6 and not case.decides]
    moved = [Case(case.conv, case.pool, shape, None, True) for case in firsts if _fits(case.conv, shape)]
    known = {(case.conv, case.pool) for case in exact}
    return exact + [case for case in dict.fromkeys(moved) if (case.conv, case.pool) not in known]


def _fits(conv: Conv, shape: Shape) -> bool:
    try:
        conv.output_shape(shape)
    except ValueError:
        return False
    return True


def _grid() -> tuple[LayerShape, ...]:
    geometries = (
        ((2, 24, 24), 3, 1),
        ((32, 12, 12), 3, 1),
        ((4, 32, 32), 5, 2),
        ((32, 16, 16), 5, 2),
        ((2, 48, 48), 7, 3),
        ((6, 32, 32), 11, 5),
        ((4, 24, 24), 21, 0),
    )
    spiking = [
        LayerShape(shape, maps, kernel, padding, pool, held_out=maps == 50)
        for shape, kernel, padding in geometries
        for maps in (16, 50, 128)
        for pool in (0, 2)
    ]
    deciding = [
        LayerShape(shape, maps, kernel, padding, threshold=math.inf)
        for shape, maps, kernel, padding in (
            ((32, 8, 8), 100, 8, 0),
            ((64, 6, 6), 64, 3, 1),
            ((128, 5, 5), 100, 5, 2),
            ((128, 4, 4), 300, 4, 0),
            ((250, 6, 6), 200, 5, 2),
        )
    ]
    return (*spiking, *deciding)


GRID = _grid()
