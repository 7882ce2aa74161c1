"""``eventsnn view``: events as a contact sheet or an animation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eventsnn.arguments import parse_span, parse_time
from eventsnn.console import Debug, FlipX, FlipY, SwapPolarity, SwapXY, UsageError, describe, one_line_errors, printable

if TYPE_CHECKING:
    from eventsnn.plot.windows import Choice


def view(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A recording of an event camera, or a file of samples (HDF5).")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="PICTURE",
            help="File to make or replace: .png, a contact sheet; .gif or, with ffmpeg, .mp4, an animation. Default: "
            "FILE's name with .png, here.",
        ),
    ] = None,
    window: Annotated[
        str,
        typer.Option(metavar="LENGTH", help="Of a window: 20ms; of binned data, bins: 2. Default: by the events."),
    ] = "",
    windows: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="How many: spread over the time on a sheet, one after another in an animation. Default: 12, or 6 of "
            "each of several samples; up to 200 in an animation.",
        ),
    ] = None,
    sample: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="Which sample; may be repeated. Default: six, of different classes."),
    ] = None,
    time: Annotated[
        str,
        typer.Option(metavar="START,STOP", help="Only this time, from the first event: 10s,12.5s; bins: 0,5."),
    ] = "",
    fps: Annotated[float, typer.Option(metavar="N", help="Frames a second of an animation.")] = 10.0,
    swap_xy: SwapXY = None,
    flip_x: FlipX = None,
    flip_y: FlipY = None,
    swap_polarity: SwapPolarity = None,
    debug: Debug = False,
) -> None:
    """Show events in windows of time, by polarity: a contact sheet or an animation.

    Blue is brighter, orange darker. Of a recording of any length only the
    counts of the windows are in memory.
    """
    with one_line_errors("eventsnn view", debug or context.obj):
        from eventsnn.io import open as open_events
        from eventsnn.io.own_recording import open_recording
        from eventsnn.plot import film
        from eventsnn.plot.view import describe as told

        target = out or Path(f"{file.stem}.png")
        _check(target, fps)
        turned = {"swap_xy": swap_xy, "flip_x": flip_x, "flip_y": flip_y, "swap_polarity": swap_polarity}
        given = {name: value for name, value in turned.items() if value is not None}
        # What is turned is a recording, converted or not; samples of a data set stay as they are.
        source = open_recording(file, **given) if given else open_events(file)
        choice = _choice(source.unit, time, window, windows, target)
        try:
            found = film(source, choice, samples=sample or None)
        except IndexError as error:
            raise UsageError(f"--sample: {error}") from None
        print(printable(told(found)), flush=True)
        _write(found, target, fps)
        print(f"Written: {printable(str(target))}")


def _check(target: Path, fps: float) -> None:
    """Refuse what cannot be written before anything is read."""
    from eventsnn.plot.view import check_animation
    from eventsnn.targets import check_target

    suffix = target.suffix.lower()
    if suffix not in (".png", ".gif", ".mp4"):
        raise UsageError(f"--out expects a name that ends in .png, .gif or .mp4, got {printable(str(target))!r}")
    if suffix != ".png":
        check_animation(target, fps)
    check_target(target)


def _choice(unit: str, time: str, window: str, windows: int | None, target: Path) -> Choice:
    from eventsnn.plot import Choice

    given: dict[str, Any] = {"windows": windows, "follow": target.suffix.lower() != ".png"}
    if unit == "bin":
        given |= {"window": _bins(window, "--window"), "time": _bins_between(time)}
    else:
        given |= {"window": parse_time(window, "--window"), "time": parse_span(time) or (0, None)}
    try:
        return Choice(**given)
    except ValueError as error:
        raise UsageError(f"--time, --window, --windows: {describe(error)}") from None


def _bins(text: str, name: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or len(text) > 15:
        raise UsageError(f"{name} expects a number of bins, as times are in bins here, got {text!r}")
    return int(text)


def _bins_between(text: str) -> tuple[int, int | None]:
    parts = text.split(",") if text else ["", ""]
    if len(parts) != 2:
        raise UsageError(f"--time expects START,STOP in bins, as 0,5, got {text!r}")
    return _bins(parts[0], "--time") or 0, _bins(parts[1], "--time")


def _write(found: Any, target: Path, fps: float) -> None:
    from eventsnn.plot import animate, contact_sheet
    from eventsnn.plot.style import png
    from eventsnn.targets import replace_file

    if target.suffix.lower() == ".png":
        replace_file(target, png(contact_sheet(found)))
    else:
        animate(found, target, fps=fps)
