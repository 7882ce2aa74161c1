"""Curves of learning, from histories or from the log of a run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from eventsnn.plot.style import legend, line_style, new_axes, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_FEW = 30  # epochs that are marked one by one
_NONE = "expected the history of a layer that learnt, or the log of a run, found none"


class Recorded(Protocol):
    """What training did, as :class:`eventsnn.History` knows it."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""


Source = Recorded | Mapping[str, Any] | str | os.PathLike[str]


def convergence(source: Source | Sequence[Source], *, ax: Axes | None = None) -> Axes:
    """Draw how far the weights of each layer were from their bounds, presentation by presentation.

    Parameters
    ----------
    source : History, mapping, path, or a sequence of them
        What training did: from :func:`eventsnn.fit`, :attr:`eventsnn.models.Trained.records`, the contents of a run's
        ``log.json``, or the path of it or of its run.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If there is nothing that learnt.
    OSError
        If the log cannot be read.
    """
    steps = _steps(source)
    axes = new_axes(ax, (6.5, 3.2))
    for i, step in enumerate(steps):
        axes.plot(step.curve[:, 0], step.curve[:, 1], label=f"layer {step.layer}", **line_style(i))
    axes.set_xlim(0)
    axes.set_ylim(0)
    axes.set_xlabel("stimuli presented")
    axes.set_ylabel("convergence, mean of u (1 - u)")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    legend(axes)
    title(axes, "how far weights are from their bounds: 0 when all are there")
    return axes


def accuracy(source: Source | Sequence[Source], *, ax: Axes | None = None) -> Axes:
    """Draw which part of the decisions was right in each epoch: while learning, and on held-out stimuli after it.

    The legend says which of the curves are about samples that were trained on.

    Parameters
    ----------
    source, ax
        As of :func:`convergence`.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If nothing that learnt has an accuracy: only what learns from labels has one.
    OSError
        If the log cannot be read.
    """
    curves = [(name, values) for step in _steps(source) for name, values in _accuracies(step)]
    if not curves:
        raise ValueError("accuracy expects a layer that learns from labels, found none")
    axes = new_axes(ax, (7.2, 3.2))
    for i, (name, values) in enumerate(curves):
        epochs = np.arange(1, len(values) + 1)
        marker = "o" if len(values) <= _FEW else ""
        axes.plot(epochs, 100 * values, label=name, marker=marker, markersize=3.5, **line_style(i))
    axes.locator_params(axis="x", integer=True)
    axes.set_xlim(0.5, max(len(values) for _, values in curves) + 0.5)
    axes.set_xlabel("epoch")
    axes.set_ylabel("right decisions (%)")
    legend(axes)
    title(axes, "right decisions, epoch by epoch")
    return axes


def has_accuracy(source: Source | Sequence[Source]) -> bool:
    """Tell whether :func:`accuracy` has something to draw."""
    return any(True for step in _steps(source) for _ in _accuracies(step))


@dataclass(frozen=True, eq=False)
class _Step:
    """What one layer's training did: points of (presentations, convergence), and ratios of right decisions, if any."""

    layer: int
    curve: np.ndarray
    learning: np.ndarray | None
    held_out: np.ndarray | None


def _accuracies(step: _Step) -> Iterator[tuple[str, np.ndarray]]:
    if step.learning is not None:
        yield f"layer {step.layer}, training samples\n(while it learnt from them)", step.learning
    if step.held_out is not None:
        yield f"layer {step.layer}, held-out samples\n(after the epoch)", step.held_out


def _steps(source: Source | Sequence[Source]) -> list[_Step]:
    """Return what each layer's training did, of at least one."""
    sources = source if isinstance(source, Sequence) and not isinstance(source, str) else [source]
    steps = [step for one in sources for step in _read(one)]
    if not steps:
        raise ValueError(_NONE)
    return steps


def _read(source: Any) -> list[_Step]:
    if not isinstance(source, str | os.PathLike):
        return _parsed(source if isinstance(source, Mapping) else source.to_dict())
    path = Path(source) / "log.json" if Path(source).is_dir() else Path(source)
    try:
        return _parsed(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _parsed(log: Any) -> list[_Step]:
    if not isinstance(log, Mapping):
        raise ValueError(f"expected a JSON object, found {type(log).__name__}")
    steps = log.get("steps", [log] if log else [])
    if not isinstance(steps, list | tuple):
        raise ValueError(f"expected a list of steps, found {type(steps).__name__}")
    return [_step(step) for step in steps]


def _step(step: Any) -> _Step:
    try:
        learning = [epoch["accuracy"] for epoch in step["epochs"]]
        held_out = step.get("validation") or None
        return _Step(
            int(step["layer"]),
            _numbers(step["curve"], (-1, 2)),
            None if None in learning else _numbers(learning, (len(step["epochs"]),)),
            None if held_out is None else _numbers(held_out, (-1,)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{_NONE}: a step has layer, epochs and curve; {type(error).__name__}: {error}") from error


def _numbers(values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return numbers, at least one, of a shape in which -1 stands for any length."""
    array = np.asarray(values, float)
    if array.ndim != len(shape) or not array.size or array.shape[1:] != shape[1:] or shape[0] not in (-1, len(array)):
        raise ValueError(f"expected numbers of shape {shape}, found {array.shape}")
    return array
