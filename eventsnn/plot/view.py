"""Contact sheets and animations of events, by polarity."""

from __future__ import annotations

import io
import itertools
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eventsnn.colors import COLORS, INK
from eventsnn.plot.style import Tiles, new_axes, short, title
from eventsnn.plot.windows import Film
from eventsnn.targets import hidden, replace_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL import Image, ImageDraw

POLARITIES = (COLORS[1], COLORS[0])  # darker, brighter
_FAINTEST = 0.4  # share of its colour that a single event gets
_INCHES, _TALL = 10.0, 12.0  # a contact sheet's width, and its height about, at most
_APART, _SIDE, _GAP = 1.12, 0.25, 0.14  # widths of a tile: from one to the next, for names at the left, and above
_PIXELS, _NARROWEST = 640, 320  # of the longer side of an animation, about; of its width
_MARGIN, _TEXT = 8, 15  # pixels


def contact_sheet(film: Film, ax: Axes | None = None) -> Axes:
    """Draw all windows of a film: those of one sample in rows, of several samples a row for each.

    Blue is brighter and orange darker where there are two channels; more events are stronger, up to the count that
    one in twenty of the pixels with events exceeds.

    Parameters
    ----------
    film : Film
        Of :func:`eventsnn.plot.film`.
    ax : matplotlib.axes.Axes, optional
        Where to draw. Default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    samples, windows, _, height, width = film.counts.shape
    count, several = samples * windows, samples > 1 and windows > 1
    tiles = Tiles(
        count, height, width, windows if several else _columns(count, height / width), _GAP * (not several) + 0.06
    )
    full = _full(film)
    axes = new_axes(ax, _size(tiles, several))
    for i, counts in enumerate(film.counts.reshape(count, *film.counts.shape[2:])):
        axes.imshow(picture(counts, full), interpolation="nearest", extent=tiles.place(i), aspect="auto")
        left, right, bottom, top = tiles.place(i)
        axes.plot([left, right, right, left, left], [bottom, bottom, top, top, bottom], color="#d0d0d0", linewidth=0.6)
    _name_tiles(axes, film, tiles)
    _legend(axes, film)
    tiles.finish(axes)
    axes.set(xlim=(-_SIDE * several - 0.01, tiles.columns * _APART), ylim=(axes.get_ylim()[0] + 0.02, -_GAP))
    title(axes, describe(film))
    return axes


def animate(film: Film, path: str | os.PathLike[str], *, fps: float = 10.0) -> None:
    """Write an animation, one frame for each window.

    Parameters
    ----------
    film : Film
        Of :func:`eventsnn.plot.film`.
    path : path
        ``.gif``, or ``.mp4`` where there is ffmpeg. It appears when it is complete.
    fps : float
        Frames a second.

    Raises
    ------
    ValueError
        As :func:`check_animation`; or if the film has no frames because its neurons are a line, shown over time.
    OSError
        If the file cannot be written, or ffmpeg fails.
    """
    check_animation(path, fps)
    if film.over_time:
        raise ValueError("an animation expects a grid of neurons; these are a line, which a contact sheet shows")
    if Path(path).suffix.lower() == ".gif":
        _write_gif(film, path, fps)
    else:
        _write_mp4(film, path, fps)


def check_animation(path: str | os.PathLike[str], fps: float = 10.0) -> None:
    """Find out, before there is anything to write, whether an animation can be written.

    Raises
    ------
    ValueError
        If the name ends in neither ``.gif`` nor ``.mp4``, there is no ffmpeg for the latter, or ``fps`` is not above 0
        and at most 100.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".gif", ".mp4"):
        raise ValueError(f"an animation expects a file name that ends in .gif or .mp4, got {os.fspath(path)!r}")
    if suffix == ".mp4" and shutil.which("ffmpeg") is None:
        raise ValueError("an MP4 expects the program ffmpeg, which was not found; a GIF needs none")
    if not 0 < fps <= 100:
        raise ValueError(f"fps expects a number above 0 and at most 100, got {fps}")


def picture(counts: np.ndarray, full: float) -> np.ndarray:
    """Return counts as colours on white.

    Parameters
    ----------
    counts : ndarray of uint8, shape (channels, height, width)
    full : float
        The number of events that has the full colour.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
    """
    total = counts.sum(axis=0, dtype=np.float32)
    share = counts / np.maximum(total, 1)
    mixed = np.einsum("chw,cr->hwr", share, _palette(len(counts)))
    strength = np.where(total > 0, _FAINTEST + (1 - _FAINTEST) * np.minimum(total / full, 1), 0)[..., None]
    return np.rint(255 * (1 - strength) + strength * mixed).astype(np.uint8)


def describe(film: Film) -> str:
    """Return what a film shows, in one line."""
    samples, windows = film.counts.shape[:2]
    end = min(int(film.starts[-1]) + film.length, film.span[1])
    span = f"{moment(film.span[0], film)} to {moment(end - (film.unit == 'bin'), film)}"
    if end < film.span[1]:
        span += f" of {moment(film.span[1] - (film.unit == 'bin'), film)}"
    of = f"{samples} samples" if samples > 1 else short(film.names[0])
    if film.over_time:
        return f"{of}: {film.shape[2]} neurons from top to bottom, {span} from left to right"
    return f"{of}: {windows} window{'s' * (windows > 1)} of {_length(film)}, from {span}"


def moment(time: int, film: Film) -> str:
    """Return a time of a film, for people."""
    return f"bin {time}" if film.unit == "bin" else _seconds(time)


def _length(film: Film) -> str:
    return f"{film.length} bin{'s' * (film.length > 1)}" if film.unit == "bin" else _seconds(film.length)


def _seconds(microseconds: int) -> str:
    if 0 < microseconds < 1000:
        return f"{microseconds} \N{GREEK SMALL LETTER MU}s"
    return f"{microseconds / 1000:.4g} ms" if microseconds < 1_000_000 else f"{microseconds / 1e6:.5g} s"


def _full(film: Film) -> float:
    """Return the count that one in twenty of the pixels with events exceeds."""
    total = film.counts.sum(axis=2, dtype=np.uint16)
    return float(np.quantile(total[total > 0], 0.95)) if total.any() else 1.0


def _palette(channels: int) -> np.ndarray:
    """Return the colour of each channel, float32 of shape (channels, 3)."""
    chosen = [INK] if channels == 1 else POLARITIES if channels == 2 else [COLORS[c % 6] for c in range(channels)]
    return np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in chosen], np.float32)


def _names_of_channels(film: Film) -> list[str]:
    channels = film.counts.shape[2]
    if channels == 2 and film.unit == "us":
        return ["darker", "brighter"]
    return [f"channel {c}" for c in range(channels)] if 1 < channels <= len(COLORS) else []


def _columns(count: int, height: float) -> int:
    """Return into how many columns tiles of that height and width 1 go, without a hole in the last row if possible."""
    usual = max(1, round(math.sqrt(1.6 * count * height)))
    near = sorted(range(max(1, usual - 1), usual + 3), key=lambda columns: abs(columns - usual))
    return min(count, next((columns for columns in near if count % columns == 0), usual))


def _size(tiles: Tiles, named: bool) -> tuple[float, float]:
    """Return width and height of a figure in inches, with room for two lines above."""
    inches = min(_INCHES / (tiles.columns * _APART + _SIDE * named), _TALL / (tiles.rows * tiles.height / tiles.width))
    width = inches * (tiles.columns * _APART + _SIDE * named)
    return max(4.5, width), inches * tiles.rows * (tiles.height / tiles.width + tiles.gap) + 0.6


def _name_tiles(axes: Axes, film: Film, tiles: Tiles) -> None:
    """Write the windows above the tiles, and samples to the left of theirs."""
    samples, windows = film.counts.shape[:2]
    for i in range(samples * windows):
        sample, window = divmod(i, windows)
        if windows == 1 and samples > 1:
            tiles.name(axes, i, film.names[sample])
        elif sample == 0:
            tiles.name(axes, i, "" if film.over_time else moment(int(film.starts[window]), film))
    if samples > 1 and windows > 1:
        for sample, name in enumerate(film.names):
            left, _, bottom, top = tiles.place(sample * windows)
            options: dict[str, Any] = {"rotation": 90, "ha": "right", "va": "center", "fontsize": 7, "color": INK}
            axes.text(left - 0.05, (bottom + top) / 2, name.replace(", ", "\n"), **options)


def _legend(axes: Axes, film: Film) -> None:
    from matplotlib.lines import Line2D

    names, colors = _names_of_channels(film), _palette(film.counts.shape[2]) / 255
    marks: list[Any] = [Line2D([], [], marker="s", linestyle="", color=tuple(color)) for color in colors]
    if names:
        options: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncols": len(names)}
        axes.legend(marks, names, frameon=False, fontsize=8, labelcolor=INK, handletextpad=0.1, **options)


# Animations


def _frames(film: Film) -> Iterator[Image.Image]:
    """Yield the windows as pictures of equal, even size, with their times."""
    from PIL import Image, ImageDraw, ImageFont

    samples, windows, _, height, width = film.counts.shape
    columns = math.ceil(math.sqrt(samples * height / width))
    rows = math.ceil(samples / columns)
    zoom = max(1, _PIXELS // max(columns * width, rows * height))
    across, down = zoom * width + _MARGIN, zoom * height + _MARGIN
    size = _even(max(columns * across + _MARGIN, _NARROWEST)), _even(rows * down + _TEXT + 2 * _MARGIN)
    font, full = ImageFont.load_default(_TEXT), _full(film)
    for window in range(windows):
        canvas = Image.new("RGB", size, "white")
        draw = ImageDraw.Draw(canvas)
        _write_caption(draw, film, window, font, size[0])
        for sample in range(samples):
            tile = Image.fromarray(picture(film.counts[sample, window], full)).resize((zoom * width, zoom * height), 0)
            left = _MARGIN + sample % columns * across
            top = _TEXT + 2 * _MARGIN + sample // columns * down
            canvas.paste(tile, (left, top))
            draw.rectangle((left - 1, top - 1, left + tile.width, top + tile.height), outline="#d0d0d0")
        yield canvas


def _even(pixels: int) -> int:
    """Return an even number, as codecs of video want."""
    return pixels + pixels % 2


def _write_caption(draw: ImageDraw.ImageDraw, film: Film, window: int, font: Any, width: int) -> None:
    draw.text((_MARGIN, _MARGIN // 2), moment(int(film.starts[window]), film), fill=INK, font=font)
    right: float = width - _MARGIN
    colors = [tuple(int(part) for part in color) for color in _palette(film.counts.shape[2])]
    for name, color in reversed(list(zip(_names_of_channels(film), colors, strict=False))):
        right -= draw.textlength(name, font=font)
        draw.text((right, _MARGIN // 2), name, fill=INK, font=font)
        draw.rectangle((right - 15, _MARGIN // 2 + 4, right - 5, _MARGIN // 2 + 14), fill=color)
        right -= 15 + 2 * _MARGIN


def _write_gif(film: Film, path: str | os.PathLike[str], fps: float) -> None:
    frames = _frames(film)
    with io.BytesIO() as stream:
        first = next(frames)
        # Viewers show what is to take less than 20 ms for 100 ms.
        options: dict[str, Any] = {"append_images": frames, "save_all": True, "loop": 0, "optimize": False}
        first.save(stream, "GIF", duration=max(20, round(1000 / fps)), **options)
        replace_file(path, stream.getvalue())


def _write_mp4(film: Film, path: str | os.PathLike[str], fps: float) -> None:
    frames = _frames(film)
    first = next(frames)
    size = f"{first.width}x{first.height}"
    come = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", f"{fps}", "-i", "-"]
    go = ["-pix_fmt", "yuv420p", "-movflags", "+faststart", "-f", "mp4"]
    target = Path(os.path.realpath(path))
    with hidden(target) as beside, tempfile.TemporaryFile() as said:
        command = ["ffmpeg", "-loglevel", "error", "-y", *come, *go, os.fspath(beside)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=said) as process:
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # ffmpeg has gone, and says why
                for frame in itertools.chain([first], frames):
                    process.stdin.write(frame.tobytes())
                process.stdin.close()
        if process.returncode:
            said.seek(0)
            raise OSError(f"{path}: ffmpeg failed: {said.read().decode(errors='replace').strip()[-300:]}")
        os.replace(beside, target)
