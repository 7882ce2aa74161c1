"""The command line: ``eventsnn demo``, ``encode``, ``info``, ``check``, ``train`` and ``evaluate``."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

try:
    import typer

    from eventsnn import __version__
    from eventsnn.console import (
        INTERRUPTED,
        PlainCommand,
        PlainGroup,
        UsageError,
        describe,
        one_line_errors,
        phases,
        printable,
    )
    from eventsnn.models import MODELS
except KeyboardInterrupt:  # main is not there yet to see it
    sys.exit(130)

# What the commands need beyond this takes long to import; each does so itself.
if TYPE_CHECKING:
    from eventsnn.models import Model
    from eventsnn.runs import Say
    from eventsnn.sources import Part

_NAMES = ", ".join(MODELS)
_IMAGES = "a folder of idx files (MNIST's format) or with one folder of images per class; 'digits'; or 'mnist'"

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Debug = Annotated[bool, typer.Option("--debug", metavar="", help="Show the traceback of an error.")]
Json = Annotated[
    bool,
    typer.Option(
        "--json", metavar="", help="Print one JSON object as the last line; what is for people goes to stderr."
    ),
]
Data = Annotated[
    str,
    typer.Option(metavar="DIR_OR_FILE", help=f"A file that 'eventsnn encode' made, or images: {_IMAGES}."),
]
File = Annotated[Path, typer.Argument(metavar="FILE", help="An event file (HDF5).")]


@app.callback(cls=PlainGroup, invoke_without_command=True, epilog="Start with: eventsnn demo")
def root(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", metavar="", help="Print the version.")] = False,
    debug: Debug = False,
) -> None:
    """Exact event-driven simulation of convolutional spiking networks."""
    context.obj = debug
    if show_version:
        print(f"eventsnn {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command(cls=PlainCommand, epilog="Example: eventsnn demo --out first")
def demo(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder; an earlier demo's is replaced.")] = (
        Path("eventsnn-demo")
    ),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Learn to read the bundled digits: under a minute.

    Encodes 8x8 digits as spikes, learns two layers by STDP, fits a linear
    readout and tests on held-out digits. Leaves event files, model, log,
    a raster plot and pictures of the learnt features in a folder.
    """
    with one_line_errors("eventsnn demo", debug or context.obj):
        from eventsnn import demo as work
        from eventsnn.runs import check_free, start_log

        check_free(out, replaced="demo")
        log, say = start_log("demo", {"out": str(out)}), _say(as_json)
        with phases() as progress:
            result = work.run(out, log=log, progress=progress, say=say)
        say(f"{result['accuracy']:.2%} of the held-out digits right, {result['seconds']['total']:.1f} s in all.")
        say(f"Written to {out}: " + ", ".join(Path(name).name for name in result["files"]))
        say(f"Next: eventsnn evaluate {out} --data {out / 'test.h5'}")
        _print_json(as_json, result)


@app.command(cls=PlainCommand, epilog="Example: eventsnn encode mnist/ -o test.h5 --split test")
def encode(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=f"Images: {_IMAGES}.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.h5", help="File to make or replace.")],
    encoder: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"mozafari2018, or a model to encode for: {_NAMES}. Default: digits for the digits, "
            "else mozafari2019_mnist.",
        ),
    ] = "",
    split: Annotated[
        str, typer.Option(metavar="train|test|all", help="Part of the images, where the source has parts.")
    ] = "train",
    size: Annotated[
        str, typer.Option(metavar="HxW", help="Rescale the images. Default: as the model takes them.")
    ] = "",
    debug: Debug = False,
) -> None:
    """Encode images as spikes into an event file (HDF5)."""
    with one_line_errors("eventsnn encode", debug or context.obj):
        from eventsnn.io.targets import check_target
        from eventsnn.sources import encoders, read_images, write_encoded

        known = encoders()
        name = _one_of(encoder or ("digits" if source == "digits" else "mozafari2019_mnist"), known, "--encoder")
        part = cast("Part", _one_of(split, ("train", "test", "all"), "--split"))
        value, usual = known[name]
        wanted = _parse_size(size) or usual
        check_target(out)
        with phases() as progress:
            images = read_images(source, part, wanted, progress)
            height, width = images.pixels.shape[1:]
            print(
                f"{printable(images.source)}: {len(images):,} images of {height}x{width} pixels, encoder {name}",
                flush=True,
            )
            write_encoded(out, images, value, progress)
        print(f"Written: {out}")


@app.command(cls=PlainCommand, epilog="Example: eventsnn info train.h5")
def info(context: typer.Context, file: File, as_json: Json = False, debug: Debug = False) -> None:
    """Say what an event file holds, without reading its events."""
    with one_line_errors("eventsnn info", debug or context.obj):
        from eventsnn.io import info as summarize
        from eventsnn.sources import summary_lines

        found = summarize(file)
        for line in summary_lines(found):
            _say(as_json)(printable(line))
        _print_json(as_json, found)


@app.command(cls=PlainCommand, epilog="Example: eventsnn check train.h5")
def check(context: typer.Context, file: File, debug: Debug = False) -> None:
    """Read an event file to the end and verify every checksum and every event."""
    with one_line_errors("eventsnn check", debug or context.obj):
        from eventsnn.io import check as verify

        found = verify(file)
        times = f"times {found['earliest']} to {found['latest']} {found['unit']}" if found["events"] else "no times"
        print(f"{file}: sound; {found['samples']:,} samples, {found['events']:,} events, {times}")


@app.command(cls=PlainCommand, epilog="Example: eventsnn train digits --data digits -o run --epochs 4,20")
def train(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help=f"One of {_NAMES}.")],
    data: Data,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="RUN", help="Folder to make.")],
    epochs: Annotated[
        str, typer.Option(metavar="N,N,...", help="Epochs of each layer that learns. Default: as published.")
    ] = "",
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of the initial weights.")] = 0,
    backend: Annotated[
        str, typer.Option(metavar="NAME", help="cpu or reference. Default: $EVENTSNN_BACKEND, else cpu.")
    ] = "",
    validation: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.9,
            metavar="FRACTION",
            help="Part of the training samples to hold out. Default: 1/12 where a "
            "reward-modulated layer chooses its best epoch on them, else 0.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", metavar="", help="Replace an earlier run.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", metavar="", help="Continue a training that was cut; begin if there is none.")
    ] = False,
    every: Annotated[
        float, typer.Option("--checkpoint-every", min=0, metavar="SECONDS", help="How often training is saved.")
    ] = 60.0,
    debug: Debug = False,
) -> None:
    """Train a published network.

    Images are encoded as the model wants it (their train part, if there
    are parts). RUN appears when training is complete, and holds the model
    and log.json. Until then RUN.checkpoint holds how far training has
    come: if it is cut, the same command with --resume continues it, and
    the result is the same to the bit.
    """
    with one_line_errors("eventsnn train", debug or context.obj):
        from eventsnn import runs
        from eventsnn.checkpoint import Checkpoint

        recipe = _with_epochs(MODELS[_one_of(model, MODELS, "MODEL")](), epochs)
        _check_backend(backend)
        given = {"model": model, "data": data, "out": str(out), "epochs": [step.epochs for step in recipe.steps]}
        options: dict[str, Any] = {"seed": seed, "backend": backend or None, "validation": validation}
        if resume and not force and runs.is_complete(out, given | options):
            print(f"Complete already: {out}")
            return
        runs.check_free(out, replaced="train" if force else None)
        if not (resume or force):
            runs.check_checkpoints(out)
        log = runs.start_log("train", given | options)
        options |= {"resume": resume, "checkpoint": Checkpoint(runs.checkpoints_of(out), every_seconds=every)}
        with phases() as progress:
            runs.train(recipe, data, out, log=log, progress=progress, say=_say(False), **options)
        for line in runs.result_lines(log):
            print(line)
        print(f"Written: {out}, after {log['seconds']['total']:.1f} s")
        print(f"Next: eventsnn evaluate {out} --data {'TEST.h5' if Path(data).is_file() else data}")


@app.command(cls=PlainCommand, epilog="Example: eventsnn evaluate run --data mnist/ --json")
def evaluate(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that 'eventsnn train' or 'demo' made.")],
    data: Data,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Report accuracy, spikes and synaptic operations of a trained network.

    Images are encoded as the model wants it (their test part, if there
    are parts). Writes nothing.
    """
    with one_line_errors("eventsnn evaluate", debug or context.obj):
        from eventsnn import runs

        with phases() as progress:
            result = runs.evaluate(run, data, progress=progress, say=_say(as_json))
        _print_json(as_json, result)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit: with 0, 1 for errors, 2 for wrong usage, 130 when interrupted.

    Parameters
    ----------
    arguments : list of str, optional
        Default: those of the process.
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = app(arguments, prog_name="eventsnn", standalone_mode=False)
        sys.stdout.flush()
    except UsageError as error:
        print(_usage(error), file=sys.stderr)
        code = 2
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except BrokenPipeError:  # "| head" has seen enough; Python would complain when it closes the stream
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def _terminate(number: int, frame: object) -> None:
    sys.exit(128 + number)  # unlike the default, this removes what is unfinished


def _usage(error: Any) -> str:
    command = error.ctx.command_path if error.ctx is not None else "eventsnn"
    return f"{command}: {' '.join(error.format_message().split())} (see '{command} --help')"


def _say(as_json: bool) -> Say:
    """Return what prints lines for people: on stderr where stdout is for JSON."""
    return lambda line: print(line, file=sys.stderr if as_json else sys.stdout, flush=True)


def _print_json(wanted: bool, value: dict[str, Any]) -> None:
    if wanted:
        print(json.dumps(value, allow_nan=False))


def _one_of(value: str, known: Iterable[str], name: str) -> str:
    if value not in known:
        raise UsageError(f"{name} expects one of {', '.join(known)}, got {value!r}")
    return value


def _parse_size(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if match is None:
        raise UsageError(f"--size expects HxW, as 28x28, got {text!r}")
    return int(match[1]), int(match[2])


def _with_epochs(model: Model, text: str) -> Model:
    if not text:
        return model
    try:
        return model.with_epochs([int(number) for number in text.split(",")])
    except ValueError as error:
        raise UsageError(f"--epochs {text!r}: {error}") from None


def _check_backend(name: str) -> None:
    from eventsnn.backends import get

    try:
        get(name or None)
    except ValueError as error:
        raise UsageError(f"--backend: {describe(error)}") from None
