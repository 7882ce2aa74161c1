"""What all pictures share: colours, figures without pyplot, axes in one style."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eventsnn.colors import COLORS, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 150
_LONG = 24  # letters of a name
_WIDE, _SMALLEST, _LARGEST = 6.5, 0.64, 1.3  # inches: of a row of tiles, and of a tile
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


def title(axes: Any, text: str) -> None:
    """Write a title above the left end of axes, in as many lines as keep it above them.

    Called before what is drawn has its final place, it goes by the place that the axes have in the grid.
    """
    shown = axes.set_title("", loc="left", fontsize=9, color=INK)
    room = axes.get_window_extent().width

    def fits(line: str) -> bool:
        shown.set_text(line)
        return bool(shown.get_window_extent().width <= room)

    lines = [part for line in text.splitlines() for part in _broken(line, fits)]
    shown.set_text("\n".join(lines))


def _broken(line: str, fits: Callable[[str], bool]) -> list[str]:
    """Return a line in parts that fit, cut at spaces, within a word only where it is too long itself."""
    done, now = [], ""
    for word in line.split(" "):
        if fits(f"{now} {word}".lstrip()):
            now = f"{now} {word}".lstrip()
            continue
        done.append(now)
        now = ""
        for letter in word:
            if now and not fits(now + letter):
                done.append(now)
                now = ""
            now += letter
    return [part for part in (*done, now) if part]


def short(name: str) -> str:
    """Return a name, cut where it is too long for the margin of a picture."""
    return name if len(name) <= _LONG else name[: _LONG - 1] + "\N{HORIZONTAL ELLIPSIS}"


def legend(axes: Any) -> None:
    """Name the lines to the right of the axes, where no line is."""
    options: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "borderaxespad": 0}
    axes.legend(frameon=False, fontsize=8, labelcolor=INK, **options)


def color_bar(axes: Any, label: str) -> None:
    """Draw beside axes what the colours of their first picture mean."""
    bar = axes.figure.colorbar(axes.images[0], ax=axes, fraction=0.05, aspect=25, shrink=0.8, panchor=False)
    bar.set_label(label, size=9, color=INK)
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.ax.locator_params(axis="y", nbins=5, steps=[1, 2, 5, 10])
    bar.outline.set_visible(False)


def png(axes: Any) -> bytes:
    """Return the figure of axes as a PNG file."""
    with io.BytesIO() as stream:
        axes.figure.savefig(stream)
        return stream.getvalue()


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

    def size(self) -> tuple[float, float]:
        """Return width and height of a figure in inches, with room for two lines above; few tiles are larger."""
        inches = min(max(_WIDE / (self.columns * _RIGHT), _SMALLEST), _LARGEST)
        width = max(5.0, inches * self.columns * _RIGHT)
        return width, max(1.0, inches * (_ABOVE - self.gap + self.rows * self._down)) + 0.5

    def place(self, i: int) -> tuple[float, float, float, float]:
        """Return left, right, bottom and top of the ``i``-th tile."""
        left, top = i % self.columns * _RIGHT, i // self.columns * self._down
        return left, left + 1, top + self.height / self.width, top

    def name(self, axes: Axes, i: int, text: str) -> None:
        """Write the name of the ``i``-th tile above it."""
        left, _, _, top = self.place(i)
        axes.text(left + 0.5, top - 0.04, text, ha="center", va="bottom", fontsize=7, color=INK)

    def finish(self, axes: Axes) -> None:
        """Show all tiles and no axes."""
        axes.set_xlim(0, self.columns * _RIGHT)
        axes.set_ylim(self.rows * self._down - self.gap, -_ABOVE)
        axes.set_aspect("equal", anchor="NW")  # below the beginning of the title
        axes.axis("off")

    @property
    def _down(self) -> float:
        return self.height / self.width + self.gap
