"""The dense version of a layer: all bins as one batch of images, by PyTorch where it is installed, else by BLAS."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np

from eventsnn.events import Events
from eventsnn.study.shapes import Case

SIZES = (1, 4, 16)  # samples at a time that are tried
Work = Callable[[], list[Any]]
Way = Callable[[np.ndarray], Work]  # of waves, which it may lay out in memory before any time is taken

_LAYOUTS = ("contiguous_format", "channels_last")
_MOST = 5e8  # multiply-accumulates of a call: what is measured on large layers is as exact with fewer samples


def waves_of(case: Case, events: Events) -> np.ndarray:
    """Return cumulative waves, float32 of shape (samples, bins, channels, height, width); one bin for who decides."""
    waves = events.to_waves()
    return np.ascontiguousarray(waves[:, -1:] if case.decides else waves, np.float32)


def samples_of(macs: float, samples: int) -> int:
    """Return how many samples of so many multiply-accumulates each are measured at once."""
    return int(max(1, min(samples, _MOST // max(macs, 1))))


def ways(case: Case, weights: np.ndarray, samples: int, threads: int) -> tuple[str, list[Way]]:
    """Return the name of the library and the ways to compute a layer with it; a study takes the quickest.

    Each returns for each of its batches which neurons have fired until each bin (booleans of shape (samples * bins,
    maps, height, width), behind the pool if there is one), or the largest potential of each sample. That is right for
    weights that are not negative: whoever has fired stays above its threshold.

    Notes
    -----
    PyTorch: ``conv2d`` with batch and time folded together, both layouts of memory, several numbers of samples at
    a time.
    NumPy: windows unfolded and multiplied by BLAS, a sample at a time. Input comes in the memory layout that suits, and
    potentials are pooled before they are compared, which saves work.
    """
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError:
        return f"numpy {np.__version__} BLAS", [partial(_unfolded, case, weights, threads)]
    torch.set_num_threads(threads)
    chosen = [(size, layout) for size in SIZES if size <= samples for layout in _LAYOUTS]
    return f"torch {torch.__version__}", [partial(_torch, torch, case, weights, *way) for way in chosen]


def _torch(torch: Any, case: Case, weights: np.ndarray, size: int, layout: str, waves: np.ndarray) -> Work:
    memory, functional = getattr(torch, layout), torch.nn.functional
    kernel = torch.from_numpy(weights).contiguous(memory_format=memory)
    images = torch.from_numpy(waves).flatten(0, 1).contiguous(memory_format=memory)
    threshold = torch.from_numpy(
        np.broadcast_to(np.asarray(case.conv.threshold, np.float32), len(weights)).copy()
    ).view(-1, 1, 1)
    step = size * waves.shape[1]

    def work() -> list[Any]:
        with torch.inference_mode():
            return list(map(layer, images.split(step)))

    def layer(images: Any) -> Any:
        potential = functional.conv2d(images, kernel, stride=case.conv.stride, padding=case.conv.padding)
        if case.decides:
            return potential.flatten(1).amax(1)
        if case.pool is not None:
            pool = case.pool
            potential = functional.max_pool2d(potential, pool.kernel, pool.stride, pool.padding)
        return potential > threshold

    return work


def _unfolded(case: Case, weights: np.ndarray, threads: int, waves: np.ndarray) -> Work:
    columns = np.ascontiguousarray(weights.reshape(len(weights), -1).T)
    threshold = _thresholds(case)

    def work() -> list[np.ndarray]:
        with _limited(threads):
            return list(map(layer, waves))

    def layer(wave: np.ndarray) -> np.ndarray:
        windows = _windows(wave, case.conv, 0)
        rows = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, len(columns))
        potential = (rows @ columns).reshape(*windows.shape[:1], *windows.shape[2:4], -1)
        if case.decides:
            return potential.max(axis=(1, 2, 3))
        if case.pool is not None:
            potential = _windows(potential.transpose(0, 3, 1, 2), case.pool, -np.inf).max(axis=(4, 5))
            return potential > threshold[:, None, None]
        return (potential > threshold).transpose(0, 3, 1, 2)

    return work


def _thresholds(case: Case) -> np.ndarray:
    return np.full(case.conv.features, case.conv.threshold, np.float32)


def _windows(images: np.ndarray, layer: Any, outside: float) -> np.ndarray:
    (kh, kw), (sh, sw), (ph, pw) = layer.kernel, layer.stride, layer.padding
    padded = np.pad(images, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=outside) if ph or pw else images
    return np.lib.stride_tricks.sliding_window_view(padded, (kh, kw), (2, 3))[:, :, ::sh, ::sw]


def _limited(threads: int) -> Any:
    try:
        from threadpoolctl import threadpool_limits  # scikit-learn needs it
    except ImportError:
        return nullcontext()
    return threadpool_limits(threads)
