"""Images to spikes: the encoder, a pipeline of stages and a rule that turns intensities into latencies."""

from __future__ import annotations

import functools
import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from eventsnn.encode import _values
from eventsnn.encode._room import Room, Take
from eventsnn.encode.filters import KERNELS
from eventsnn.encode.latency import LATENCIES, EqualBins, Latency
from eventsnn.encode.stages import STAGES, Stage, contiguous
from eventsnn.encode.whitening import UNFITTED, WHITENING
from eventsnn.events import Events, Shape, check_shape
from eventsnn.memory import scratch, scratch_empty
from eventsnn.threads import default_threads, each

if TYPE_CHECKING:
    from eventsnn.encode._one_pass import OnePass

# Intensities computed at a time by one thread: they and their successors should stay in its cache.
_BLOCK = 2**20
# More images share what is done for a block once, but fewer of them are dark at the same pixels.
_MOST_IMAGES = 64
# In one pass what stages leave stays in the cache, and only what Python takes for a block counts.
_MOST_OF_ONE_PASS = 128
_MOST_PLANS = 64  # sizes of images that an encoder remembers
_LINE = 16  # images whose values of one pixel fill a cache line


@dataclass(frozen=True)
class ImageEncoder:
    """Encode images as first spikes: stages make intensities, then the stronger fire earlier.

    An encoder is a value: compare it, vary it with :func:`dataclasses.replace`, store :meth:`to_dict`.

    Parameters
    ----------
    stages : sequence of Stage
        :class:`Filter`, :class:`ZCA`, :class:`OnOff`, ... applied in this order; none: the pixels are the
        intensities. What the last one returns must not be negative. :class:`FitZCA` and :class:`FitPatchZCA` stand
        for stages that :meth:`fit` has yet to make.
    latency : EqualBins, Linear or Rank
        How intensities become times. Intensities of 0 never fire.
    pointwise : bool
        Then only the first spike of each position survives over all maps: the earliest; at equal time the
        larger intensity; at equal intensity the lower map.

    Examples
    --------
    >>> encoder = ImageEncoder([Filter([DoG(7, 1, 2), DoG(7, 2, 1)], padding=3, threshold=50)], EqualBins(15))
    >>> encoder.encode(np.zeros((10, 28, 28), np.uint8))
    Events(10 samples, 0 spikes, shape=(2, 28, 28), duration=15 bin)
    """

    stages: Sequence[Stage]
    latency: Latency
    pointwise: bool = False

    def __post_init__(self) -> None:
        _values.members(self, "stages", "apply", least=0)
        if isinstance(self.latency, type) or not callable(getattr(self.latency, "times", None)):
            raise ValueError(f"ImageEncoder: latency expects EqualBins, Linear or Rank, got {self.latency!r}")
        _values.flag(self, "pointwise")

    @property
    def fitted(self) -> bool:
        """Whether no stage has to be fitted before the first image is encoded."""
        return not any(isinstance(stage, UNFITTED) for stage in self.stages)

    def fit(self, images: Any) -> ImageEncoder:
        """Return the encoder with each stage fitted that is not yet; itself if all are.

        Parameters
        ----------
        images : array_like
            As :meth:`encode` takes: those to train on, and no others.

        Raises
        ------
        TypeError, ValueError
            If the images do not fit the stages, or there are none.
        """
        if self.fitted:
            return self
        batch, stages = _as_images(images), list(self.stages)
        if not len(batch):
            raise ValueError("fit expects at least one image, got none")
        for i, stage in enumerate(stages):
            if isinstance(stage, UNFITTED):
                count = min(stage.images, len(batch))
                chosen = batch[np.arange(count) * len(batch) // count]
                stages[i] = stage.fit(ImageEncoder(stages[:i], self.latency).intensities(chosen))
        return replace(self, stages=tuple(stages))

    def encode(self, images: Any, labels: Any = None) -> Events:
        """Return the spikes of images, the same whatever the batch they come in or the number of threads.

        ``EVENTSNN_THREADS`` sets the number of threads; by default there is one per available CPU.

        Parameters
        ----------
        images : array_like of integers or floats, shape (n_images, H, W), (H, W) or (n_images, C, H, W)
            Grey values as they are (uint8 means 0 to 255), or C channels where the stages take them: without
            stages, these are the intensities themselves.
        labels : array_like of int, shape (n_images,), optional
            Class of each image.

        Returns
        -------
        Events
            One sample per image, unit ``"bin"``, in canonical order, at most one spike per site.

        Raises
        ------
        TypeError
            If images are not real numbers.
        ValueError
            If their shape or values do not fit the stages, a stage is not fitted, or an intensity is negative or not
            finite.
        """
        batch = _as_images(images)
        grids, one_pass = self._plan(batch.shape[1:])
        room = Room(len(batch))

        def work(start: int, stop: int) -> None:
            self._encode_block(batch, start, stop, room, one_pass)

        _over_blocks(work, len(batch), _MOST_IMAGES if one_pass is None else _MOST_OF_ONE_PASS, grids, room.fail)
        columns, offsets = room.columns()
        duration = self.latency.duration(grids[-1])
        events = Events.unchecked(**columns, offsets=offsets, shape=grids[-1], duration=duration)
        return events if labels is None else events.with_labels(np.asarray(labels))

    def intensities(self, images: Any, stages: int | None = None) -> np.ndarray:
        """Return what the first ``stages`` stages (default: all) make of images.

        Parameters
        ----------
        images : array_like
            As :meth:`encode` takes.
        stages : int, optional
            From 0, the images themselves, to ``len(self.stages)``.

        Returns
        -------
        ndarray of float32, shape (n_images, C, H', W')

        Raises
        ------
        TypeError, ValueError
            If the images do not fit, as :meth:`encode`.
        """
        most = len(self.stages)
        if stages is not None and not 0 <= stages <= most:
            raise ValueError(f"intensities expects stages from 0 to {most}, got {stages!r}")
        batch = _as_images(images)
        first = ImageEncoder(self.stages[:stages], self.latency)
        grids = first._grids(batch.shape[1:])
        out = np.empty((len(batch), *grids[-1]), np.float32)

        def work(start: int, stop: int) -> None:
            out[start:stop] = first._block(batch, start, stop).transpose(3, 0, 1, 2)

        _over_blocks(work, len(batch), _MOST_IMAGES, grids)
        return out

    def output_shape(self, height: int, width: int, channels: int = 1) -> Shape:
        """Return the grid (C, H, W) of the spikes of images of ``height`` by ``width`` pixels.

        Raises
        ------
        ValueError
            If a stage does not take images of this size.
        """
        return self._grids((channels, height, width))[-1]

    def image_size(self, shape: Shape, usual: tuple[int, int]) -> tuple[int, int] | None:
        """Return the height and width of images whose spikes have a grid; None if there are no such images.

        Parameters
        ----------
        shape : tuple of int
            Grid (C, H, W) of spikes, as :meth:`output_shape` returns it.
        usual : (int, int)
            After pooling several sizes may give the same grid: this one if it does, else the smallest.
        """
        smallest = self._smallest(1, shape[1]), self._smallest(2, shape[2])
        for height, width in (usual, smallest):
            with suppress(ValueError):
                if self.output_shape(height, width) == tuple(shape):
                    return height, width
        return None

    def _smallest(self, axis: int, wanted: int) -> int:
        """Return how high or wide images are at least for the grid to be so; no grid shrinks as images grow."""

        def side(n: int) -> int:
            try:
                return self.output_shape(n, n)[axis]
            except ValueError:  # too small
                return 0

        limit = next((2**i for i in range(16) if side(2**i) >= wanted), 2**16)
        return bisect_left(range(limit + 1), wanted, key=side)

    def to_dict(self) -> dict[str, Any]:
        """Return the encoder as a dict of plain values, fit for JSON, from which :meth:`from_dict` restores it."""
        return _values.to_plain(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ImageEncoder:
        """Return the encoder that :meth:`to_dict` wrote.

        Raises
        ------
        ValueError
            If a stage, kernel, latency or parameter is unknown, missing or has a bad value; the message names
            the nearest known one.
        """
        stages = (*STAGES, *WHITENING)
        parts = {"stages": ("stage", stages), "latency": ("latency", LATENCIES), "kernels": ("kernel", KERNELS)}
        return _values.from_plain(data, "encoder", (cls,), parts)

    def _grids(self, shape: Any) -> list[Shape]:
        """Return the grid of the images and of each stage's output."""
        grids = [check_shape(shape)]
        for stage in self.stages:
            grids.append(check_shape(stage.output_shape(grids[-1])))
        return grids

    def _block(self, batch: np.ndarray, start: int, stop: int, stages: int | None = None) -> np.ndarray:
        """Return what all or the first stages make of some images, float32 of shape (C, H, W, n_images)."""
        images, count = batch[start:stop], stop - start
        block = scratch_empty((*batch.shape[1:], count))
        if batch.dtype == np.uint8 and images.flags.c_contiguous and count:
            from eventsnn.encode._pixels import flat, turn

            turn(flat(images), block.reshape(-1, count))
        else:
            block[...] = images.transpose(1, 2, 3, 0)
        for stage in self.stages[:stages]:
            block = _applied(stage, block)
        return block

    def _in_one_pass(self, batch: np.ndarray, start: int, stop: int, one_pass: OnePass, take: Take) -> bool:
        if one_pass.before == 0 and batch.dtype == np.uint8 and batch.flags.c_contiguous:
            return one_pass.of_bytes(batch[start:stop], take)
        return one_pass(self._block(batch, start, stop, one_pass.before), take)

    def _plan(self, shape: Shape) -> tuple[list[Shape], OnePass | None]:
        """Return the grids of images of a shape and of what stages make, and how the last of these are one pass."""
        # Looked up once: another thread may let all of them go at any time.
        if (plan := self._plans.get(shape)) is None:
            from eventsnn.encode._one_pass import one_pass_of

            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            grids = self._grids(shape)
            few = _BLOCK // max(map(math.prod, grids)) < _LINE  # images at a time, whatever is asked for
            plan = grids, None if self.pointwise or few else one_pass_of(self.stages, self.latency, grids)
            self._plans[shape] = plan
        return plan

    @functools.cached_property
    def _plans(self) -> dict[Shape, tuple[list[Shape], OnePass | None]]:
        return {}

    def _encode_block(self, batch: np.ndarray, start: int, stop: int, room: Room, one_pass: OnePass | None) -> None:
        take = partial(room.take, start)
        if one_pass is not None and self._in_one_pass(batch, start, stop, one_pass, take):
            return
        # Or something is wrong, which is looked for where it comes from.
        from eventsnn.encode._spikes import MOST_BINS, equal_spikes

        block = self._block(batch, start, stop)
        bits, shape = block.reshape(-1, stop - start).view(np.int32), block.shape[:3]
        if isinstance(self.latency, EqualBins) and self.latency.bins < MOST_BINS and not self.pointwise:
            if not equal_spikes(bits, self.latency.bins, shape, take):
                _check_intensities(block, start)
        else:
            from eventsnn.encode._ranking import emit, rank

            sites, ranked, ranked_bits, offsets, valid = rank(bits)
            if not valid:
                _check_intensities(block, start)
            times = self.latency.times(ranked_bits.view(np.float32), offsets)
            time, columns, kept = emit(sites, ranked, times, offsets, self.pointwise, shape)
            room.put(start, (time, *columns), kept[1:])


def _as_images(images: Any) -> np.ndarray:
    batch = np.asarray(images)
    if batch.dtype.kind not in "iuf":
        raise TypeError(f"images expects integers or floats, got {batch.dtype}")
    shape = batch.shape
    if batch.ndim == 2:
        batch = batch[None]
    if batch.ndim == 3:
        batch = batch[:, None]
    if batch.ndim != 4 or 0 in batch.shape[1:]:
        raise ValueError(f"images expects shape (n_images, H, W), (H, W) or (n_images, C, H, W), got {shape}")
    limit = np.finfo(np.float32).max
    # No integer is as large as that.
    if batch.dtype.kind == "f" and batch.size and not (batch.min() >= -limit and batch.max() <= limit):
        bad = int(np.flatnonzero(~(np.abs(batch) <= limit).all(axis=(1, 2, 3)))[0])
        raise ValueError(f"images expects finite values in the range of float32; image {bad} holds others")
    return batch


def _applied(stage: Stage, block: np.ndarray) -> np.ndarray:
    """Return a stage's output as what follows takes it: compiled code reads what it is told to."""
    expected = *stage.output_shape(block.shape[:3]), block.shape[3]
    out = contiguous(stage.apply(block))
    if out.shape != expected:
        raise ValueError(
            f"{stage!r}: apply() expects to return shape {expected}, as output_shape() says, got {out.shape}"
        )
    return out


def _check_intensities(block: np.ndarray, start: int) -> None:
    if block.min() >= 0 and block.max() < np.inf:
        return
    flat = block.reshape(-1, block.shape[3])
    bad = ~((flat >= 0) & (flat < np.inf))
    image = int(np.flatnonzero(bad.any(axis=0))[0])
    value = flat[bad[:, image], image][0]
    raise ValueError(f"encoding expects finite intensities of at least 0, image {start + image} has {value:g}")


def _over_blocks(
    work: Callable[[int, int], None],
    n_images: int,
    most: int,
    grids: list[Shape],
    give_up: Callable[[], object] = lambda: None,
) -> None:
    """Call ``work(start, stop)`` for blocks that fit the cache, shared by threads; ``give_up`` as of :func:`each`."""
    largest = max(map(math.prod, grids))
    threads = default_threads()
    share = -(-n_images // (threads * _LINE)) * _LINE
    length = min(most, share, max(1, _BLOCK // largest))
    if length > _LINE:
        length -= length % _LINE
    blocks = [(start, min(start + length, n_images)) for start in range(0, n_images, length or 1)]

    def one(block: tuple[int, int]) -> None:
        with scratch():
            work(*block)

    if min(threads, len(blocks)) > 1:
        each(one, blocks, min(threads, len(blocks)), give_up)
    else:
        for block in blocks:
            one(block)
