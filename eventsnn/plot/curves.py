"""Curves of learning, from histories or from the log of a run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from eventsnn.plot.style import line_style, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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

    Raises
    ------
    ValueError
        If there is nothing that learnt.
    OSError
        If the log cannot be read.
    """
    steps, axes = _steps(source), new_axes(ax, (6, 3.2))
    for i, step in enumerate(steps):
        points = np.asarray(step["curve"], float)
        axes.plot(points[:, 0], points[:, 1], label=f"layer {step['layer']}", **line_style(i))
    axes.set_xlim(0)
    axes.set_ylim(0)
    axes.set_xlabel("stimuli presented")
    axes.set_ylabel("convergence, mean of u (1 - u)")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.legend(frameon=False, fontsize=8)
    return axes


def accuracy(source: Source | Sequence[Source], *, ax: Axes | None = None) -> Axes:
    """Draw which part of the decisions was right in each epoch: while learning, and on held-out stimuli after it.

    Parameters
    ----------
    source, ax
        As of :func:`convergence`.

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
    axes = new_axes(ax, (6, 3.2))
    for i, (name, values) in enumerate(curves):
        epochs = np.arange(1, len(values) + 1)
        marker = "o" if len(values) <= _FEW else ""
        axes.plot(epochs, 100 * values, label=name, marker=marker, markersize=3.5, **line_style(i))
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("epoch")
    axes.set_ylabel("right decisions (%)")
    axes.legend(frameon=False, fontsize=8)
    return axes


_FEW = 30  # epochs that are marked one by one


def has_accuracy(source: Source | Sequence[Source]) -> bool:
    """Tell whether :func:`accuracy` has something to draw."""
    return any(True for step in _steps(source) for _ in _accuracies(step))


def _accuracies(step: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    learning = [epoch["accuracy"] for epoch in step["epochs"]]
    if None not in learning:
        yield f"layer {step['layer']}, while learning", np.asarray(learning, float)
    if step.get("validation"):
        yield f"layer {step['layer']}, held out", np.asarray(step["validation"], float)


def _steps(source: Source | Sequence[Source]) -> list[Mapping[str, Any]]:
    """Return what each layer's training did, as JSON values; at least one."""
    sources = source if isinstance(source, Sequence) and not isinstance(source, str) else [source]
    steps = [step for one in sources for step in _read(one)]
    if not steps or not all({"layer", "epochs", "curve"} <= step.keys() and step["epochs"] for step in steps):
        raise ValueError("expected the history of a layer that learnt, or the log of a run, found none")
    return steps


def _read(source: Any) -> list[Mapping[str, Any]]:
    if isinstance(source, str | os.PathLike):
        path = Path(source) / "log.json" if Path(source).is_dir() else Path(source)
        source = json.loads(path.read_text(encoding="utf-8"))
    elif not isinstance(source, Mapping):
        source = source.to_dict()
    if not isinstance(source, Mapping):
        raise ValueError(f"expected a JSON object, found {type(source).__name__}")
    return source.get("steps", [source])
