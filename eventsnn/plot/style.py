"""What all pictures share: colours, figures without pyplot, axes in one style."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind people too, without those too dark or too light on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK = "#404040"
_DPI = 150
_RIGHT, _ABOVE = 1.12, 0.3  # from tile to tile, and the room for a name


def new_figure(size: tuple[float, float]) -> Figure:
    """Return an empty figure, width and height in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=size, dpi=_DPI, layout="constrained")


def new_axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return the axes to draw on, new ones by default, in the style of all pictures."""
    axes = new_figure(size).subplots() if ax is None else ax
    style(axes)
    return axes


def style(axes: Any) -> None:
    """Draw axes as in all pictures: thin, without a box."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(labelsize=8, colors=INK)
    axes.xaxis.label.set(size=9, color=INK)
    axes.yaxis.label.set(size=9, color=INK)


def line_style(i: int) -> dict[str, Any]:
    """Return colour and dashes of the ``i``-th line of a picture."""
    return {"color": COLORS[i % len(COLORS)], "linestyle": ("-", "--", ":")[i // len(COLORS) % 3]}


@dataclass(frozen=True)
class Tiles:
    """Pictures side by side on one pair of axes, each 1 wide with its name above it: hundreds of axes would take long.

    Parameters
    ----------
    count : int
        Number of pictures.
    height, width : int
        Of each, in pixels.
    columns : int, optional
        Default: as many as make the whole somewhat wider than high.
    gap : float
        Between two rows; a name needs 0.3.
    """

    count: int
    height: int
    width: int
    columns: int = 0
    gap: float = _ABOVE

    def __post_init__(self) -> None:
        usual = math.ceil(math.sqrt(1.6 * self.count * self.height / self.width))
        object.__setattr__(self, "columns", max(1, min(self.columns or usual, self.count)))

    @property
    def rows(self) -> int:
        """Number of rows."""
        return max(1, math.ceil(self.count / self.columns))

    def size(self, inches: float) -> tuple[float, float]:
        """Return width and height of a figure whose tiles are about so wide."""
        width = max(4.2, inches * self.columns * _RIGHT)
        return width, max(1.4, inches * (_ABOVE - self.gap + self.rows * self._down)) + 0.4

    def place(self, i: int) -> tuple[float, float, float, float]:
        """Return left, right, bottom and top of the ``i``-th tile."""
        left, top = i % self.columns * _RIGHT, i // self.columns * self._down
        return left, left + 1, top + self.height / self.width, top

    def name(self, axes: Axes, i: int, text: str) -> None:
        """Write the name of the ``i``-th tile above it."""
        left, _, _, top = self.place(i)
        axes.text(left + 0.5, top - 0.04, text, ha="center", va="bottom", fontsize=6, color=INK)

    def finish(self, axes: Axes) -> None:
        """Show all tiles and no axes."""
        axes.set_xlim(0, self.columns * _RIGHT)
        axes.set_ylim(self.rows * self._down - self.gap, -_ABOVE)
        axes.set_aspect("equal")
        axes.axis("off")

    @property
    def _down(self) -> float:
        return self.height / self.width + self.gap
