"""The command line: one function for each command, from ``eventsnn demo`` to ``eventsnn features``."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from eventsnn import __version__
from eventsnn.arguments import (
    IMAGES,
    NAMES,
    RECORDINGS,
    Split,
    check_backend,
    chosen_part,
    elsewhere,
    feature,
    parse_size,
    recipe,
    with_epochs,
)
from eventsnn.console import (
    INTERRUPTED,
    Debug,
    Json,
    PlainCommand,
    PlainGroup,
    UsageError,
    one_line,
    one_line_errors,
    phases,
    printable,
)
from eventsnn.convert_command import convert
from eventsnn.encode_command import encode
from eventsnn.live_command import EPILOG, live
from eventsnn.study_command import study
from eventsnn.view_command import view

# What the commands need beyond this takes long to import; each does so itself.
if TYPE_CHECKING:
    from eventsnn.unfinished import Say

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Data = Annotated[
    str,
    typer.Option(metavar="DIR_OR_FILE", help=f"A file that 'eventsnn encode' made, or images: {IMAGES}. {RECORDINGS}."),
]
File = Annotated[Path, typer.Argument(metavar="FILE", help="A recording of an event camera, or an event file (HDF5).")]

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder that 'eventsnn train' or 'demo' made.")]

BackendName = Annotated[
    str, typer.Option(metavar="NAME", help="cpu, reference, or a GPU. Default: $EVENTSNN_BACKEND, else cpu.")
]
Several = Annotated[
    str,
    typer.Option(metavar="NAME,NAME,...", help="Share the work among devices; cpu:0, cpu:1, ... are single threads."),
]
Dask = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS",
        help="Let the workers of the Dask scheduler at tcp://HOST:PORT compute; --data is an event file that they see.",
    ),
]


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

        check_backend()
        check_free(out, replaced="demo")
        log, say = start_log("demo", {"out": str(out)}), _say(as_json)
        with phases() as progress:
            result = work.run(out, log=log, progress=progress, say=say)
        say(f"{result['accuracy']:.2%} of the held-out digits right, {result['seconds']['total']:.1f} s in all.")
        say(f"Written to {out}: " + ", ".join(Path(name).name for name in result["files"]))
        say(f"Next: eventsnn evaluate {out} --data {out / 'test.h5'}")
        _print_json(as_json, result)


app.command(cls=PlainCommand, epilog="Example: eventsnn encode mnist/ -o test.h5 --split test")(encode)


app.command(cls=PlainCommand, epilog="Example: eventsnn convert night.raw -o night.h5")(convert)


@app.command(cls=PlainCommand, epilog="Example: eventsnn info train.h5")
def info(context: typer.Context, file: File, as_json: Json = False, debug: Debug = False) -> None:
    """Say what a recording or event file holds, without reading its events."""
    with one_line_errors("eventsnn info", debug or context.obj):
        from eventsnn.io import info as summarize
        from eventsnn.summaries import summary_lines

        found = summarize(file)
        for line in summary_lines(found):
            _say(as_json)(printable(line))
        _print_json(as_json, found)


@app.command(cls=PlainCommand, epilog="Example: eventsnn check train.h5; eventsnn check nmnist/Train *.raw")
def check(
    context: typer.Context,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Recordings, event files (HDF5), or folders of such.")
    ],
    debug: Debug = False,
) -> None:
    """Read recordings or event files to the end and verify all that can be.

    Of an event file that is every checksum and every event. A recording of
    which anything was lost is an error too, which says what. Of a folder, all
    files in it and its folders are read, and a line says how many are sound;
    each broken file has a line of its own.
    """
    with one_line_errors("eventsnn check", debug or context.obj):
        from eventsnn.summaries import check_lines

        is_sound = True
        for line, is_error in check_lines(files):
            print(f"eventsnn check: {one_line(line)}" if is_error else line, file=sys.stderr if is_error else None)
            is_sound = is_sound and not is_error
        if not is_sound:
            raise typer.Exit(1)


@app.command(cls=PlainCommand, epilog="Example: eventsnn train digits --data digits -o run --epochs 4,20")
def train(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help=f"One of {NAMES}; or a .toml file.")],
    data: Data,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="RUN", help="Folder to make.")],
    epochs: Annotated[
        str, typer.Option(metavar="N,N,...", help="Epochs of each layer that learns. Default: as published.")
    ] = "",
    seed: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Of the initial weights. Default: the .toml file's, else 0.")
    ] = None,
    backend: BackendName = "",
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
    """Train a published network, or one that a .toml file describes.

    Images, or recordings of a camera, are encoded as the model wants it
    (their train part, if there are parts). RUN appears when training is
    complete, and holds the model and log.json. Until then RUN.checkpoint
    holds how far training has come: if it is cut, the same command with
    --resume continues it, and the result is the same to the bit.
    """
    with one_line_errors("eventsnn train", debug or context.obj):
        from eventsnn import runs, unfinished
        from eventsnn.checkpoint import Checkpoint

        chosen, usual_seed = recipe(model)
        chosen, seed = with_epochs(chosen, epochs), usual_seed if seed is None else seed
        check_backend(backend)
        given = {"model": model, "data": data, "out": str(out), "epochs": [step.epochs for step in chosen.steps]}
        options: dict[str, Any] = {"seed": seed, "backend": backend or None, "validation": validation}
        training = unfinished.describe_training(chosen, data, **options)
        with unfinished.locked(out):
            if resume and not force and runs.is_complete(out, training):
                print(f"Complete already: {out}")
                return
            runs.check_free(out, replaced="train" if force else None)
            if resume or not force:
                unfinished.check_checkpoints(out, training, resume)
            log = runs.start_log("train", given | options) | {"training": training}
            kept = Checkpoint(unfinished.checkpoints_of(out), every_seconds=every)
            options |= {"resume": resume, "checkpoint": kept}
            with phases() as progress:
                runs.train(chosen, data, out, log=log, progress=progress, say=_say(False), **options)
        for line in runs.result_lines(log):
            print(line)
        print(f"Written: {out}, after {log['seconds']['total']:.1f} s")
        print(f"Next: eventsnn evaluate {out} --data {_test_data(data)}")


def _test_data(data: str) -> str:
    """Return what to evaluate on after learning from data: their test part, or the user's own."""
    from eventsnn.sources import is_parted

    return data if is_parted(data) else "TEST" + (Path(data).suffix if Path(data).is_file() else "")


@app.command(cls=PlainCommand, epilog="Example: eventsnn evaluate run --data mnist/ --json")
def evaluate(
    context: typer.Context,
    run: Run,
    data: Data,
    backend: BackendName = "",
    devices: Several = "",
    dask: Dask = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Report accuracy, spikes and synaptic operations of a trained network.

    Images, or recordings of a camera, are encoded as the model wants it
    (their test part, if there are parts). Writes nothing.
    """
    with one_line_errors("eventsnn evaluate", debug or context.obj):
        from eventsnn import runs

        with elsewhere(backend, devices, dask, data) as where, phases() as progress:
            result = runs.evaluate(run, data, progress=progress, say=_say(as_json), **where)
        _print_json(as_json, result)


@app.command(epilog="Example: eventsnn plot run -o pictures --data mnist/")
def plot(
    context: typer.Context,
    run: Run,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the PNG files.")],
    data: Annotated[
        str, typer.Option(metavar="DIR_OR_FILE", help="Show spikes and decisions of these; as for evaluate.")
    ] = "",
    sample: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="Whose spikes to show; may be repeated. Default: one of each of three classes."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Draw a trained network: features and how they came about, weights, curves.

    With --data also rasters and latency maps of some samples, spikes over
    time and the confusion matrix. Files of the same names are replaced.
    """
    with one_line_errors("eventsnn plot", debug or context.obj):
        from eventsnn.pictures import draw

        check_backend()
        with phases() as progress:
            files = draw(run, out, data or None, samples=sample or (), progress=progress)
        print(f"Written to {out}: " + ", ".join(path.name for path in files))


@app.command(epilog="Example: eventsnn features run --data train.h5 -o features.h5 --kind latency")
def features(
    context: typer.Context,
    run: Run,
    data: Data,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT.h5", help="File to make or replace.")],
    kind: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="fired, latency, potential, counts or target-time. Default: what the run's readout reads, else fired.",
        ),
    ] = "",
    regions: Annotated[
        str, typer.Option(metavar="HxW", help="Sum over so many regions of each map. Default: neuron by neuron.")
    ] = "",
    target: Annotated[float, typer.Option(metavar="PART", help="Of the duration, for target-time.")] = 0.75,
    split: Split = "",
    backend: BackendName = "",
    devices: Several = "",
    dask: Dask = "",
    debug: Debug = False,
) -> None:
    """Write a run's last layer as features for any classifier (HDF5).

    Python reads the file with eventsnn.read_features.
    """
    with one_line_errors("eventsnn features", debug or context.obj):
        from eventsnn.feature_files import extract

        part = chosen_part(split, data)
        wanted = feature(kind, target, parse_size(regions, "--regions", "2x2"))
        with elsewhere(backend, devices, dask, data) as where, phases() as progress:
            found = extract(run, data, out, wanted, part=part, progress=progress, **where)
        samples, size = found.features.shape
        print(f"{samples:,} samples, {size:,} features ({found.meta['feature']['kind']}), {found.features.nnz:,} not 0")
        print(f"Written: {out}")


app.command(cls=PlainCommand, epilog=EPILOG)(live)
app.command(cls=PlainCommand, epilog="Example: eventsnn view night.raw -o night.gif --time 2s,4s")(view)
app.add_typer(study, name="study")


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
