"""Pictures of decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from eventsnn.evaluation import Evaluation
from eventsnn.plot.style import INK, color_bar, new_axes, short, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_CELL, _LETTER = 0.38, 0.075  # inches


def confusion(
    evaluation: Evaluation, *, names: Sequence[str] | None = None, trained_on: bool = False, ax: Axes | None = None
) -> Axes:
    """Draw which class was taken for which.

    Parameters
    ----------
    evaluation : Evaluation
        Of labelled data; see :func:`eventsnn.evaluate`.
    names : sequence of str, optional
        Of the classes; default their numbers. Those of more than 24 letters are cut.
    trained_on : bool
        Whether these are samples that the network was trained on: the title says so.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes

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
    labels = [short(name) for name in names] if names is not None else [str(i) for i in range(count)]
    longest = max(map(len, labels))
    cells = max(2.4, _CELL * count)
    axes = new_axes(ax, (cells + 1.9 + _LETTER * longest, cells + 1.2 + _LETTER * longest))
    share = 100 * table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(table):
        if value:
            ink = "white" if share[row, column] > 50 else INK
            axes.text(column, row, str(value), ha="center", va="center", fontsize=8, color=ink)
    axes.set_xticks(range(count), labels)
    if longest * _LETTER > cells / count:
        axes.tick_params(axis="x", rotation=90)
    axes.set_yticks(range(count), labels)
    axes.set_anchor("W")
    axes.set_xlabel("decision")
    axes.set_ylabel("label")
    color_bar(axes, "decisions of the label (%)")
    title(axes, _summary(evaluation, int(table.sum()), trained_on))
    return axes


def _summary(evaluation: Evaluation, decided: int, trained_on: bool) -> str:
    line = f"accuracy {evaluation.accuracy:.2%}, {evaluation.samples:,} samples"
    if undecided := evaluation.samples - decided:
        line += f", {undecided:,} undecided"
    return line + ("\non samples that it was trained on" if trained_on else "")
