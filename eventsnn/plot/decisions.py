"""Pictures of decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from eventsnn.evaluation import Evaluation
from eventsnn.plot.style import INK, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def confusion(evaluation: Evaluation, *, names: Sequence[str] | None = None, ax: Axes | None = None) -> Axes:
    """Draw which class was taken for which.

    Parameters
    ----------
    evaluation : Evaluation
        Of labelled data; see :func:`eventsnn.evaluate`.
    names : sequence of str, optional
        Of the classes; default their numbers.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Raises
    ------
    ValueError
        If the evaluation has no decisions on labelled data, or there is not one name for each class.
    """
    table = evaluation.confusion
    if table is None or evaluation.accuracy is None:
        raise ValueError("confusion expects an evaluation with labels and decisions, got one without")
    count = len(table)
    if names is not None and len(names) != count:
        raise ValueError(f"names expects one for each of {count} classes, got {len(names)}")
    side = 2 + 0.35 * count
    axes = new_axes(ax, (side, side))
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(table):
        if value:
            ink = "white" if share[row, column] > 0.5 else INK
            axes.text(column, row, str(value), ha="center", va="center", fontsize=8, color=ink)
    labels = list(names) if names is not None else [str(i) for i in range(count)]
    axes.set_xticks(range(count), labels)
    axes.set_yticks(range(count), labels)
    axes.set_xlabel("decision")
    axes.set_ylabel("label")
    axes.set_title(f"accuracy {evaluation.accuracy:.2%}, {evaluation.samples:,} samples", fontsize=9, color=INK)
    return axes
