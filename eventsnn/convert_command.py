"""The command ``eventsnn convert``."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eventsnn.arguments import parse_crop, parse_span, parse_time
from eventsnn.console import (
    Debug,
    FlipX,
    FlipY,
    Json,
    SwapPolarity,
    SwapXY,
    UsageError,
    describe,
    one_line_errors,
    phases,
    printable,
)

if TYPE_CHECKING:
    from eventsnn.conversion import Account
    from eventsnn.io.extract import Extract

_Sources = Annotated[
    list[str],
    typer.Argument(metavar="SOURCE", help="Recordings, event files too; or a folder of them, or one for each class."),
]
_Pixels = Annotated[int | None, typer.Option(min=1, metavar="N", help="Of the sensor. Default: as the file says.")]


def convert(
    context: typer.Context,
    sources: _Sources,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.h5", help="File to make or replace.")],
    time: Annotated[
        str,
        typer.Option(metavar="START,STOP", help="Only this time, from the first event: 10s,12.5s or 200ms, (no end)."),
    ] = "",
    origin: Annotated[
        str,
        typer.Option(metavar="TIME", help="What of the files' clock becomes 0, as 0us. Default: the first event."),
    ] = "",
    crop: Annotated[
        str, typer.Option(metavar="X0,Y0,X1,Y1", help="Only columns X0 to before X1, rows Y0 to before Y1.")
    ] = "",
    downsample: Annotated[int, typer.Option(min=1, metavar="N", help="N x N pixels become one.")] = 1,
    window: Annotated[
        str, typer.Option(metavar="LENGTH", help="Cut each recording into samples of this length, as 50ms.")
    ] = "",
    fast: Annotated[
        bool, typer.Option("--fast", metavar="", help="Compress with blosc2, which readers need hdf5plugin for.")
    ] = False,
    width: _Pixels = None,
    height: _Pixels = None,
    swap_xy: SwapXY = None,
    flip_x: FlipX = None,
    flip_y: FlipY = None,
    swap_polarity: SwapPolarity = None,
    hold: Annotated[
        int, typer.Option(min=1, metavar="N", help="Events held back in memory, to sort those that come late.")
    ] = 1 << 22,
    jobs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Processes for several files. Default: one for each core.")
    ] = None,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", metavar="", help="Leave broken files out. Default: stop at the first.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", metavar="", help="Continue a conversion that was cut; begin if there is none.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", metavar="", help="Begin anew where one was cut.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Convert recordings of event cameras to one event file (HDF5).

    One recording stays one, with an index of milliseconds; programs for
    the DSEC data set read it too. Several become samples of one file,
    with their folders' names as classes. Events are sorted; what is lost
    or left out is counted.
    """
    with one_line_errors("eventsnn convert", debug or context.obj):
        from eventsnn.convert import Options
        from eventsnn.convert import convert as run

        turned = {"width": width, "height": height, "swap_xy": swap_xy, "flip_x": flip_x, "flip_y": flip_y}
        length, turned["swap_polarity"] = _length(window), swap_polarity
        extract = _extract(crop, time, downsample, origin)
        orientation = {name: value for name, value in turned.items() if value is not None}
        options = Options(extract, length, "blosc2" if fast else "gzip", hold, orientation)
        how: dict[str, Any] = {"jobs": jobs, "skip_broken": skip_broken, "resume": resume, "force": force}
        with phases() as progress:
            account = run(sources, out, options, progress=progress, **how)
        _tell(account, out, as_json)


def _length(window: str) -> int | None:
    length = parse_time(window, "--window")
    if length == 0:
        raise UsageError("--window expects more than 0us")
    return length


def _extract(crop: str, time: str, downsample: int, origin: str) -> Extract:
    from eventsnn.io.extract import Extract

    taken: dict[str, Any] = {"crop": parse_crop(crop), "time": parse_span(time), "downsample": downsample}
    try:
        return Extract(**taken, origin=parse_time(origin, "--origin"))
    except ValueError as error:
        raise UsageError(f"--crop, --time, --downsample: {describe(error)}") from None


def _tell(account: Account, out: Path, as_json: bool) -> None:
    stream = sys.stderr if as_json else sys.stdout
    for line in [*account.lines(), f"Written: {out}"]:
        print(printable(line), file=stream, flush=True)
    if as_json:
        print(json.dumps({"out": str(out), **dataclasses.asdict(account)}))
