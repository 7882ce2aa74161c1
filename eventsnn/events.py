"""Events: a batch of stimuli as sorted spikes, the one thing that flows through eventsnn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from eventsnn import notebook
from eventsnn.columns import columns_of_latency, columns_of_structured, latency_of_waves, sorted_columns
from eventsnn.validation import DTYPES, Shape, as_integers, check_columns, check_labels, check_shape, check_values

TimeUnit = Literal["bin", "us"]


@dataclass(frozen=True, eq=False)
class Events:
    """A batch of samples, each a set of spikes on a grid, in canonical order.

    The spikes of sample ``i`` are ``offsets[i]:offsets[i + 1]`` of every column, sorted by
    ``(time, channel, y, x)``. Spikes with equal time are simultaneous. Construction validates; use
    :meth:`from_columns` to sort first.

    Parameters
    ----------
    time : ndarray of int64, shape (n_events,)
        Bin index or microseconds since the start of the sample, ``0 <= time < duration``.
    channel, y, x : ndarray of uint16, shape (n_events,)
        Map (or polarity), row and column.
    offsets : ndarray of int64, shape (n_samples + 1,)
        Where each sample starts; ``offsets[0] == 0`` and ``offsets[-1] == n_events``.
    shape : tuple of int
        Grid ``(channels, height, width)``.
    duration : int, optional
        Length of every stimulus in time units: ``bins`` for binned data. A layer with an infinite threshold
        fires at ``duration - 1``. Default: one past the latest time.
    unit : {"bin", "us"}
        What ``time`` counts.
    labels : ndarray of int64, shape (n_samples,), optional
        Class of each sample.
    potential : ndarray of float32, shape (n_events,), optional
        Membrane potential of the neuron at the moment of its spike, as convolution layers give it.

    Arrays that are not contiguous, or may not be written to, are copied.

    Raises
    ------
    TypeError
        If a column has the wrong dtype or is not one-dimensional.
    ValueError
        If lengths or offsets do not fit, a spike lies outside the grid or the duration, or the order is not
        canonical; the message says what was found where.
    """

    time: np.ndarray
    channel: np.ndarray
    y: np.ndarray
    x: np.ndarray
    offsets: np.ndarray
    shape: Shape
    duration: int = -1
    unit: TimeUnit = "bin"
    labels: np.ndarray | None = None
    potential: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", check_shape(self.shape))
        check_columns(self)
        for name in ("time", "channel", "y", "x", "offsets", "potential"):
            if (array := getattr(self, name)) is not None:  # one layout, since kernels are compiled for each
                object.__setattr__(self, name, np.require(array, requirements=["C", "W"]))
        if self.duration == -1:
            last = int(self.time.max()) + 1 if len(self.time) else 1
            object.__setattr__(self, "duration", last)
        object.__setattr__(self, "duration", int(self.duration))
        if self.labels is not None:
            object.__setattr__(self, "labels", check_labels(self.labels, len(self)))
        check_values(self)

    # Construction

    @classmethod
    def unchecked(cls, **fields: Any) -> Events:
        """Build without validation, for kernels whose output is canonical by construction."""
        events = object.__new__(cls)
        events.__dict__.update(unit="bin", labels=None, potential=None)
        events.__dict__.update(fields)
        return events

    @classmethod
    def empty(cls, shape: Shape, n_samples: int = 0, **fields: Any) -> Events:
        """Return ``n_samples`` samples without a spike."""
        columns: dict[str, Any] = {name: np.empty(0, DTYPES[name]) for name in ("time", "channel", "y", "x")}
        return cls(**columns, offsets=np.zeros(n_samples + 1, np.int64), shape=shape, **fields)

    @classmethod
    def from_columns(
        cls,
        time: Any,
        channel: Any,
        y: Any,
        x: Any,
        *,
        shape: Shape,
        offsets: Any = None,
        **fields: Any,
    ) -> Events:
        """Sort columns of any integer dtype into canonical order, sample by sample.

        Parameters
        ----------
        time, channel, y, x : array_like of integers, shape (n_events,)
            In any order within a sample.
        shape : tuple of int
            Grid ``(channels, height, width)``.
        offsets : array_like of int, shape (n_samples + 1,), optional
            Default: everything is one sample.
        **fields
            ``duration``, ``unit``, ``labels`` and ``potential`` of :class:`Events`; ``potential`` is sorted along.

        Raises
        ------
        TypeError, ValueError
            As :class:`Events`; floats are refused, because their unit would be a guess.
        """
        columns, bounds, order = sorted_columns(time, channel, y, x, shape=shape, offsets=offsets)
        if fields.get("labels") is not None:
            fields["labels"] = as_integers("labels", fields["labels"])
        if fields.get("potential") is not None:
            potential = np.asarray(fields["potential"], np.float32)
            if potential.shape != order.shape:
                raise ValueError(f"column 'potential' has shape {potential.shape}, column 'time' has {order.shape}")
            fields["potential"] = potential[order]
        return cls(**columns, offsets=bounds, shape=shape, **fields)

    @classmethod
    def from_structured(
        cls, arrays: np.ndarray | Sequence[np.ndarray], *, shape: Shape, unit: TimeUnit = "us", **fields: Any
    ) -> Events:
        """Take structured arrays with fields ``x, y, t, p``, one per sample, as camera libraries give them.

        Usual aliases of the field names (``ts``, ``timestamp``, ``polarity``, ...) are understood. Polarity
        becomes the channel; ``-1/+1`` and booleans become ``0/1``.

        Parameters
        ----------
        arrays : structured ndarray or sequence of them
            Integer times; order within an array does not matter.
        shape : tuple of int
            Grid ``(polarities, height, width)``.
        unit : {"us", "bin"}
            What ``t`` counts.

        Raises
        ------
        TypeError
            If a field is missing or times are not integers.
        """
        columns, offsets = columns_of_structured([arrays] if isinstance(arrays, np.ndarray) else list(arrays))
        return cls.from_columns(*columns, shape=shape, offsets=offsets, unit=unit, **fields)

    @classmethod
    def from_latency(cls, latency: Any, **fields: Any) -> Events:
        """Take first-spike latency maps; ``-1`` means that the neuron never fires.

        Parameters
        ----------
        latency : array_like of integers, shape (n_samples, C, H, W) or (C, H, W)
            Times in the unit of the result.
        """
        columns, offsets, shape = columns_of_latency(latency)
        return cls.from_columns(*columns, shape=shape, offsets=offsets, **fields)

    @classmethod
    def from_waves(cls, waves: Any, **fields: Any) -> Events:
        """Take cumulative dense spike waves, as SpykeTorch uses: 1 from the first spike's bin onwards.

        Parameters
        ----------
        waves : array_like, shape (T, C, H, W) or (n_samples, T, C, H, W)
            Zeros and ones that never fall along ``T``.

        Raises
        ------
        ValueError
            If the values are not 0 and 1, or a wave falls back to 0.
        """
        latency, bins = latency_of_waves(waves)
        return cls.from_latency(latency, **({"duration": bins} | fields))

    # Conversion

    def to_latency(self) -> np.ndarray:
        """Return first-spike latency maps, int64 of shape (n_samples, C, H, W); ``-1`` where no spike is.

        Raises
        ------
        ValueError
            If a pixel fires more than once in a sample; :meth:`first_spikes` drops the later ones.
        """
        latency = np.full((len(self), *self.shape), -1, np.int64)
        where = (self.sample_index(), self.channel, self.y, self.x)
        latency[where] = self.time
        if (latency >= 0).sum() != len(self.time):
            raise ValueError("latency maps hold one spike per pixel, but a pixel fires again; see first_spikes()")
        return latency

    def to_waves(self) -> np.ndarray:
        """Return cumulative dense waves, uint8 of shape (n_samples, duration, C, H, W).

        This allocates the dense time axis that the rest of the package avoids; meant for other programs.

        Raises
        ------
        ValueError
            If a pixel fires more than once in a sample.
        """
        latency = self.to_latency()[:, None]
        steps = np.arange(self.duration).reshape(1, -1, 1, 1, 1)
        return ((latency >= 0) & (latency <= steps)).astype(np.uint8)

    def to_structured(self) -> list[np.ndarray]:
        """Return one structured array per sample with fields ``x, y, t, p`` (uint16, uint16, int64, uint16)."""
        whole = np.empty(len(self.time), [("x", "u2"), ("y", "u2"), ("t", "i8"), ("p", "u2")])
        whole["x"], whole["y"], whole["t"], whole["p"] = self.x, self.y, self.time, self.channel
        return np.split(whole, self.offsets[1:-1]) if len(self) else []

    # Access

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.offsets) - 1

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray) -> Events:
        """Return the samples at an index, a slice, a list of indices or a boolean mask, as a batch."""
        if isinstance(index, slice) and index.step in (None, 1):
            start, stop, _ = index.indices(len(self))
            return self._contiguous(start, max(start, stop))
        positions = np.arange(len(self))[index]
        if positions.ndim > 1:
            raise IndexError(f"events expect one index, slice, list or mask of samples, got {index!r}")
        if positions.ndim == 0:
            return self._contiguous(int(positions), int(positions) + 1)
        starts, counts = self.offsets[positions], np.diff(self.offsets)[positions]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        take = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], counts)
        return self._take(take, offsets, None if self.labels is None else self.labels[positions])

    def _contiguous(self, start: int, stop: int) -> Events:
        if stop - start == len(self):
            return self
        low, high = int(self.offsets[start]), int(self.offsets[stop])
        labels = None if self.labels is None else self.labels[start:stop]
        return self._take(slice(low, high), self.offsets[start : stop + 1] - low, labels)

    def _take(self, index: Any, offsets: np.ndarray, labels: np.ndarray | None) -> Events:
        columns = {name: getattr(self, name)[index] for name in ("time", "channel", "y", "x")}
        potential = None if self.potential is None else self.potential[index]
        return Events.unchecked(
            **columns,
            offsets=offsets,
            shape=self.shape,
            duration=self.duration,
            unit=self.unit,
            labels=labels,
            potential=potential,
        )

    def where(self, keep: np.ndarray) -> Events:
        """Return the batch with only the spikes whose entry of the boolean ``keep`` (n_events,) is true."""
        if keep.dtype != bool or keep.shape != self.time.shape:
            raise TypeError(f"keep expects {self.n_events} booleans, got {keep.dtype} of shape {keep.shape}")
        if self.n_events == 0:
            return self
        kept = keep.cumsum(dtype=np.int64)  # only methods and operators: the arrays may be of any memory
        return self._take(keep, kept[self.offsets - 1] * (self.offsets > 0), self.labels)

    def first_spikes(self) -> Events:
        """Return the batch with only the first spike of every pixel and channel."""
        channels, height, width = self.shape
        site = (self.channel.astype(np.int64) * height + self.y) * width + self.x
        key = self.sample_index() * (channels * height * width) + site
        first = np.zeros(len(key), bool)
        first[np.unique(key, return_index=True)[1]] = True
        return self.where(first)

    def with_labels(self, labels: Any) -> Events:
        """Return the same spikes with one integer label per sample.

        Raises
        ------
        ValueError
            If the number of labels is not the number of samples.
        """
        return replace_fields(self, labels=check_labels(as_integers("labels", labels), len(self)))

    def sample_index(self) -> np.ndarray:
        """Return the sample that each spike belongs to, int64 of shape (n_events,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @property
    def n_events(self) -> int:
        """Number of spikes in the whole batch."""
        return len(self.time)

    @property
    def nbytes(self) -> int:
        """Bytes held by the columns and offsets."""
        arrays = [getattr(self, n) for n in ("time", "channel", "y", "x", "offsets", "labels", "potential")]
        return sum(a.nbytes for a in arrays if a is not None)

    def density(self) -> np.ndarray:
        """Return spikes per neuron of each sample, float64 of shape (n_samples,)."""
        return np.diff(self.offsets) / np.prod(self.shape, dtype=np.int64)

    def equals(self, other: Events) -> bool:
        """Tell whether two batches hold the same spikes, bit for bit (labels and potentials included)."""
        if (self.shape, self.duration, self.unit) != (other.shape, other.duration, other.unit):
            return False
        names = ("time", "channel", "y", "x", "offsets", "labels", "potential")
        return all(_same(getattr(self, n), getattr(other, n)) for n in names)

    def __repr__(self) -> str:
        """Return samples, spikes, grid and duration in one line."""
        return (
            f"Events({len(self)} samples, {self.n_events} spikes, shape={self.shape}, "
            f"duration={self.duration} {self.unit})"
        )

    _repr_html_ = notebook.events


def concatenate(batches: Iterable[Events]) -> Events:
    """Join batches one after another.

    Labels and potentials are kept if every batch has them; the duration is the longest one's.

    Raises
    ------
    ValueError
        If there is no batch, or grids or units differ.
    """
    parts = list(batches)
    if not parts:
        raise ValueError("concatenate expects at least one batch, got none")
    first = parts[0]
    for number, part in enumerate(parts):
        if (part.shape, part.unit) != (first.shape, first.unit):
            raise ValueError(
                f"batch {number} has shape {part.shape} and unit {part.unit!r}, "
                f"batch 0 has {first.shape} and {first.unit!r}"
            )
    counts = np.concatenate([np.diff(p.offsets) for p in parts])
    joined: dict[str, Any] = {}
    for name in ("time", "channel", "y", "x", "labels", "potential"):
        arrays = [getattr(p, name) for p in parts]
        joined[name] = None if any(a is None for a in arrays) else np.concatenate(arrays)
    return Events.unchecked(
        **joined,
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        shape=first.shape,
        duration=max(p.duration for p in parts),
        unit=first.unit,
    )


def replace_fields(events: Events, **fields: Any) -> Events:
    """Return ``events`` with some fields replaced, unchecked (``dataclasses.replace`` validates again)."""
    return Events.unchecked(**({name: getattr(events, name) for name in events.__dataclass_fields__} | fields))


def _same(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    return a.dtype == b.dtype and np.array_equal(a, b)
