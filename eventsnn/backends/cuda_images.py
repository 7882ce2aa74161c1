"""Images to spikes on a CUDA device: launches what is in ``images.cu``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from eventsnn.backends.cuda_structures import NEVER, sizes_of
from eventsnn.backends.device import record, structure
from eventsnn.backends.neurons import Geometry
from eventsnn.events import Events

if TYPE_CHECKING:
    from eventsnn.backends.cuda import CudaBackend

_PLANE = record("maps height width from_maps from_height from_width")
_RESPONSE = record("window pairs edge weight first end")
_MAPS = record("absolute keep_sign", "numbers scales", ("threshold", "f4"))
_KEY_BITS = 32


class CudaImages:
    """The stages of image encoders, each from intensities (images, C, H, W) float32 to others, on the device.

    Results equal those of the encoders on the CPU bit for bit.
    """

    def __init__(self, backend: CudaBackend) -> None:
        self._backend, self._device, self.xp = backend, backend._device, backend.xp

    def scale(self, values: Any, factor: float) -> Any:
        """Multiply by a constant, in float64."""
        out = self.xp.empty(values.shape, np.float32)
        self._device.for_each("scale", values.size, values, np.int64(values.size), np.float64(factor), out)
        return out

    def correlate(self, values: Any, bank: Any, padding: int, mode: tuple[bool, bool, float]) -> Any:
        """Cross-correlate grey images with a bank of kernels (``encode.filters.Bank``).

        ``mode`` is (absolute, signed, threshold).
        """
        n, _, height, width = values.shape
        grow = 2 * padding - bank.window + 1
        put = self.xp.asarray
        responses, weights, numbers, scales = bank.arrays
        out = self.xp.empty((n, len(numbers), height + grow, width + grow), np.float32)
        weights, numbers, scales = put(weights), put(numbers), put(scales)
        maps = structure(_MAPS, numbers, scales, int(mode[0]), int(mode[1]), np.float32(mode[2]))
        cells, edge = out.size // len(numbers), np.int32(padding)
        for each in responses:
            response, source = structure(_RESPONSE, *map(int, each)), values
            if pairs := int(each[1]):
                source = self.xp.empty((n, 3 * pairs, height + grow, width), np.float32)
                self._over("fold_down", source, values, np.int64(source.size), response, weights, edge, source)
            plane = structure(_PLANE, *out.shape[1:], *source.shape[1:])
            args = (plane, source, np.int64(cells), response, weights, edge, maps, out)
            self._device.for_each("fold_across" if pairs else "correlate", cells, *args)
        return out

    def normalize(self, values: Any, radius: int) -> Any:
        """Divide by the mean over ``(2 radius + 1)^2`` cells."""
        sums, out = self.xp.empty(values.shape, np.float32), self.xp.empty(values.shape, np.float32)
        reach = (values, np.int64(values.size), np.int32(radius))
        self._over("sum_rows", values, *reach, sums)
        self._over("normalize", values, *reach, sums, np.float32(1) / np.float32((2 * radius + 1) ** 2), out)
        return out

    def split(self, values: Any, threshold: float, on: bool, off: bool) -> Any:
        """Return positive parts, then negative parts turned positive, each if wanted."""
        maps = values.shape[1]
        out = self.xp.empty((len(values), maps * (on + off), *values.shape[2:]), np.float32)
        first = maps * on if off else -1
        parts = (np.float32(threshold), np.int32(on), np.int32(first), out)
        plane = structure(_PLANE, *out.shape[1:], *values.shape[1:])
        self._device.for_each("split", values.size, plane, values, np.int64(values.size), *parts)
        return out

    def divide_by_largest(self, values: Any) -> Any:
        """Divide each image by its largest magnitude."""
        out, each = self.xp.empty(values.shape, np.float32), np.int64(values.size // max(len(values), 1))
        self._device.launch("divide_by_largest", len(values), values, each, out, shared=4)
        return out

    def equal_bins(self, values: Any, bins: int) -> Events:
        """Return events of equally many spikes in each bin, the strongest first."""
        keys = self._scattered("intensity_keys", values)
        sizes, n = self._sizes(values), len(values)
        starts, of_sample, fired = self._backend.gather(sizes, n, keys)
        for shift in range(0, _KEY_BITS, 4):
            fired = self._backend.sort(n, starts, of_sample, fired, shift)
        when = self._silent(values)
        args = (starts, of_sample, fired, np.int32(bins), sizes["padded"][0], when)
        self._device.launch("equal_bins", n, self._plane(values), *args)
        return self._events(values, when, bins)

    def linear(self, values: Any, bins: int) -> Events:
        """Return events whose time falls linearly with the intensity."""
        return self._events(values, self._scattered("linear_bins", values, np.int32(bins)), bins)

    def extremes(self, values: Any) -> tuple[float, float]:
        """Return the least and the largest intensity, 0 where there is none."""
        if not values.size:
            return 0.0, 0.0
        least, largest = (self.xp.asnumpy(v.reshape(1))[0] for v in (values.min(), values.max()))
        return float(least), float(largest)

    def _over(self, name: str, out: Any, values: Any, *args: Any) -> None:
        plane = structure(_PLANE, *out.shape[1:], *values.shape[1:])
        self._device.for_each(name, out.size, plane, values, *args)

    def _plane(self, values: Any) -> np.ndarray:
        return structure(_PLANE, *values.shape[1:], *values.shape[1:])

    def _sizes(self, values: Any) -> np.ndarray:
        return sizes_of(values.shape[1:], Geometry((1, 1)), values.shape[1])

    def _silent(self, values: Any) -> Any:
        sizes = self._sizes(values)
        n = len(values) * values.shape[2] * values.shape[3]
        return self.xp.full((n, int(sizes["padded"][0])), NEVER, np.uint32)

    def _scattered(self, name: str, values: Any, *args: Any) -> Any:
        """Return dense scratch into which a kernel wrote of every intensity above 0."""
        when, padded = self._silent(values), self._sizes(values)["padded"][0]
        self._over(name, values, values, np.int64(values.size), *args, padded, when)
        return when

    def _events(self, values: Any, when: Any, bins: int) -> Events:
        """Return the spikes of dense scratch that holds their times."""
        put = self.xp.asarray
        columns = {name: put(np.zeros(bins, np.uint16)) for name in ("channel", "y", "x")}
        offsets = put(np.zeros(len(values) + 1, np.int64))
        times = Events.unchecked(
            time=put(np.arange(bins)), **columns, offsets=offsets, shape=values.shape[1:], duration=bins
        )
        return self._backend.collect(self._sizes(values), times, put(np.arange(bins, dtype=np.int32)), when)
