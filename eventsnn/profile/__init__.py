"""What each layer did with each sample: spikes and operations counted, time measured, bytes and energy by a model.

What is counted
---------------
An *operation* is one input spike at one synapse: each spike counts once for each neuron whose receptive field holds it,
as often as its pixel fires. A neuron adds up all inputs of the time at which it fires, and none later: those are
*stopped*. So a neuron of infinite threshold, which fires at the end of the stimulus, stops none; with a leak nothing
changes, since decay is no operation; and what inhibition in a layer behind does to a spike does not matter to the
neuron that fired. Pools and inhibition have no synapses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from eventsnn.events import Shape, TimeUnit

_PICO = 1e-12
#: fields of :class:`Costs` that turn counts into energy
PICOJOULES = ("pj_per_operation", "pj_per_mac")


@dataclass(frozen=True)
class Costs:
    """What turns counts into energy, and rates into shares.

    Parameters
    ----------
    pj_per_operation : float
        Picojoules of a synaptic operation. Default: a float32 addition in 45 nm (M. Horowitz, "Computing's energy
        problem (and what we can do about it)", ISSCC 2014, pages 10-14).
    pj_per_mac : float
        Picojoules of a multiply-accumulate. Default: a float32 multiplication, 3.7 pJ, and an addition, 0.9 pJ (ibid.).
    peak : float, optional
        Additions a second that the machine is capable of, see :func:`eventsnn.study.vector_adds_per_second`.
    """

    pj_per_operation: float = 0.9
    pj_per_mac: float = 4.6
    peak: float | None = None

    def __post_init__(self) -> None:
        for name in PICOJOULES:
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} expects a finite number of 0 or more, got {value!r}")
        if self.peak is not None and not (math.isfinite(self.peak) and self.peak > 0):
            raise ValueError(f"peak expects additions a second, above 0, got {self.peak!r}")


@dataclass(frozen=True, eq=False)
class LayerProfile:
    """What one layer did with each sample.

    Attributes
    ----------
    layer : int
        Its index in the network.
    name : str
        The layer in short.
    shape : tuple of int
        Its output grid (maps, height, width).
    fused : bool
        Whether it is a pool that runs in one pass with the layer before it, whose ``seconds`` are of both; its own
        are 0.
    inputs, spikes : ndarray of int64, shape (n_samples,)
        Spikes that come in and go out.
    operations : ndarray of int64, shape (n_samples,)
        Synapses that the input spikes reach; padding and stride are respected.
    stopped : ndarray of int64, shape (n_samples,)
        Those of them that reach a neuron later than the time of its spike.
    macs : ndarray of int64, shape (n_samples,)
        Multiply-accumulates of the same layer computed densely: time steps x positions x maps x kernel volume.
    bytes_moved : ndarray of int64, shape (n_samples,)
        By a model: each spike in and out is read or written once, with all its columns (14 bytes, and 4 where it
        carries a potential); for each effective operation a float32 weight is read; the float32 potential of each
        neuron is written and read once. Caches, and layers that share a pass, move less.
    seconds : ndarray of float64, shape (n_samples,)
        Processor time (where a device works by itself: time until it is done) of the batch that the sample came in,
        shared evenly by its samples; with a ``batch_size`` of 1 the sample's own.
    spikes_over_time : ndarray of int32, shape (n_samples, n_intervals)
        Spikes that go out in each interval of :attr:`Profile.edges`.
    costs : Costs
    """

    layer: int
    name: str
    shape: Shape
    fused: bool
    inputs: np.ndarray
    spikes: np.ndarray
    operations: np.ndarray
    stopped: np.ndarray
    macs: np.ndarray
    bytes_moved: np.ndarray
    seconds: np.ndarray
    spikes_over_time: np.ndarray
    costs: Costs

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return math.prod(self.shape)

    @property
    def active(self) -> np.ndarray:
        """Part of the neurons that fires, float64 of shape (n_samples,)."""
        return self.spikes / self.neurons

    @property
    def effective(self) -> np.ndarray:
        """Operations that are not stopped, int64 of shape (n_samples,)."""
        return self.operations - self.stopped

    @property
    def additions_per_second(self) -> float | None:
        """Effective operations a second of processor time; None without operations.

        Kernels leave out neurons that cannot fire, so it may exceed what the machine is capable of.
        """
        total, seconds = int(self.effective.sum()), float(self.seconds.sum())
        return total / seconds if total and seconds > 0 else None

    @property
    def share_of_peak(self) -> float | None:
        """Part of the machine's peak rate of additions, of one thread; None if that is not known."""
        rate, peak = self.additions_per_second, self.costs.peak
        return None if rate is None or peak is None else rate / peak

    @property
    def energy(self) -> np.ndarray:
        """Joules of the effective operations, float64 of shape (n_samples,)."""
        return self.effective * (self.costs.pj_per_operation * _PICO)

    @property
    def dense_energy(self) -> np.ndarray:
        """Joules of the multiply-accumulates of the layer computed densely, float64 of shape (n_samples,)."""
        return self.macs * (self.costs.pj_per_mac * _PICO)


@dataclass(frozen=True, eq=False)
class Profile:
    """What :func:`eventsnn.study.profile` and ``Network.run(..., profile=True)`` found; ``print`` shows a table.

    Attributes
    ----------
    unit : {"bin", "us"}
        Of times.
    edges : ndarray of int64, shape (n_intervals + 1,)
        Interval ``i`` holds the times ``edges[i] <= t < edges[i + 1]``.
    steps : int
        Time steps of the dense computation that ``macs`` are of.
    shape : tuple of int
        Input grid (channels, height, width).
    inputs : ndarray of int64, shape (n_samples,)
        Input spikes.
    inputs_over_time : ndarray of int32, shape (n_samples, n_intervals)
        As :attr:`LayerProfile.spikes_over_time`.
    layers : tuple of LayerProfile
    costs : Costs
    """

    unit: TimeUnit
    edges: np.ndarray
    steps: int
    shape: Shape
    inputs: np.ndarray
    inputs_over_time: np.ndarray
    layers: tuple[LayerProfile, ...]
    costs: Costs

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(self.inputs)

    def costing(self, **changes: float) -> Profile:
        """Return the same counts at other costs: ``pj_per_operation``, ``pj_per_mac``, ``peak``."""
        costs = replace(self.costs, **changes)
        return replace(self, costs=costs, layers=tuple(replace(layer, costs=costs) for layer in self.layers))

    def rows(self, network: str | None = None) -> list[dict[str, Any]]:
        """Return a flat dict of JSON values for each layer; numbers are means over the samples, in SI units.

        Parameters
        ----------
        network : str, optional
            Name that the rows carry.
        """
        return [self._row(layer) | {"network": network} for layer in self.layers]

    def total(self) -> dict[str, float]:
        """Return what a sample takes in all layers together, on average."""
        names = ("spikes", "operations", "stopped", "macs", "bytes_moved", "seconds", "energy", "dense_energy")
        return {name: sum(_mean(getattr(layer, name)) for layer in self.layers) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """Return means over the samples as JSON values."""
        return {
            "samples": self.samples,
            "unit": self.unit,
            "steps": self.steps,
            "pj_per_operation": self.costs.pj_per_operation,
            "pj_per_mac": self.costs.pj_per_mac,
            "peak": self.costs.peak,
            "times": self.edges.tolist(),
            "input": {
                "shape": list(self.shape),
                "spikes": _mean(self.inputs),
                "spikes_over_time": _mean_over_time(self.inputs_over_time),
            },
            "layers": self.rows(),
            "total": self.total(),
        }

    def __str__(self) -> str:
        """Return a table of the layers."""
        from eventsnn.profile.table import text

        return text(self)

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        from eventsnn.profile.table import html

        return html(self)

    def _row(self, layer: LayerProfile) -> dict[str, Any]:
        means = ("inputs", "spikes", "active", "operations", "stopped", "macs", "bytes_moved", "seconds", "energy")
        return {
            "study": "profile",
            "layer": layer.layer,
            "name": layer.name,
            "shape": "x".join(map(str, layer.shape)),
            "neurons": layer.neurons,
            "samples": self.samples,
            "fused": layer.fused,
            **{name: _mean(getattr(layer, name)) for name in (*means, "dense_energy")},
            "additions_per_second": layer.additions_per_second,
            "share_of_peak": layer.share_of_peak,
            "times": self.edges.tolist(),
            "spikes_over_time": _mean_over_time(layer.spikes_over_time),
        }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0


def _mean_over_time(counts: np.ndarray) -> list[float]:
    return (counts.sum(axis=0) / max(len(counts), 1)).tolist()
