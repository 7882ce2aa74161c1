"""``eventsnn study``: what sparsity buys, measured; a command for each study."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from eventsnn.console import (
    INTERRUPTED,
    Debug,
    PlainCommand,
    PlainGroup,
    UsageError,
    fail,
    one_line_errors,
    phases,
    printable,
)

if TYPE_CHECKING:
    from eventsnn.study.config import Settings
    from eventsnn.study.results import Row

study = typer.Typer(context_settings={"help_option_names": ["-h", "--help"]})

File = Annotated[
    Path | None, typer.Argument(metavar="FILE.toml", help="Settings, whose keys are the study's fields. Default: none.")
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="FILE.jsonl", help="A line of JSON for each run.")]
Quick = Annotated[
    bool,
    typer.Option(
        "--quick", metavar="", help="Few and small values in place of those given, which it names: two minutes."
    ),
]
Resume = Annotated[bool, typer.Option("--resume", metavar="", help="Do only the runs that the file lacks.")]
Report = Annotated[
    Path | None, typer.Option("--report", metavar="FILE.html", help="Make a page of tables and figures in the end.")
]


@study.callback(
    cls=PlainGroup, invoke_without_command=True, epilog="Example: eventsnn study tradeoff --quick -o digits.jsonl"
)
def root(context: typer.Context) -> None:
    """Measure what sparsity buys: time, spikes, energy, accuracy."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@study.command(cls=PlainCommand, epilog="Example: eventsnn study sparsity -o sparsity.jsonl --data test.h5")
def sparsity(
    context: typer.Context,
    out: Out,
    file: File = None,
    data: Annotated[
        str, typer.Option(metavar="FILE", help="Thin the events of this event file or recording, too.")
    ] = "",
    quick: Quick = False,
    resume: Resume = False,
    report: Report = None,
    debug: Debug = False,
) -> None:
    """Time layers at many densities, event-driven and dense.

    The dense version is PyTorch's, where it is installed. Says how well a
    cost model predicts layers that it was not fitted to, and from which
    density on the dense version is quicker. Ctrl-C keeps what is done.
    """
    with _study(context, "sparsity", out, report, debug) as run:
        from eventsnn.study import sparsity as work

        settings = _settings("sparsity", file, quick, {"data": data})
        with phases() as progress:
            rows = work(settings, out, resume=resume, command=run.command, progress=progress)
        run.finish(rows, _about_sparsity(rows))


@study.command(cls=PlainCommand, epilog="Example: eventsnn study tradeoff mnist.toml -o mnist.jsonl --jobs 2")
def tradeoff(
    context: typer.Context,
    out: Out,
    file: File = None,
    model: Annotated[str, typer.Option(metavar="MODEL", help="A published network, or the .toml file of one.")] = "",
    data: Annotated[str, typer.Option(metavar="DIR_OR_FILE", help="What to train on, as for eventsnn train.")] = "",
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Processes that share the runs.")] = 1,
    dask: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Let the workers of the Dask scheduler at tcp://HOST:PORT share them."),
    ] = "",
    quick: Quick = False,
    resume: Resume = False,
    report: Report = None,
    debug: Debug = False,
) -> None:
    """Accuracy against spikes and energy.

    Trains a network again and again while thresholds, bins, winners and
    inhibition change, with several seeds. Ctrl-C keeps what is done.
    """
    with _study(context, "tradeoff", out, report, debug) as run:
        from eventsnn.study import tradeoff as work

        settings = _settings("tradeoff", file, quick, {"model": model, "data": data})
        with ExitStack() as stack, phases() as progress:
            options = {"jobs": jobs, "client": _client(dask, stack), "progress": progress, "say": _say}
            rows = work(settings, out, resume=resume, command=run.command, **options)
        run.finish(rows, _about_tradeoff(rows))


@study.command(cls=PlainCommand, epilog="Example: eventsnn study scaling -o scaling.jsonl --report scaling.html")
def scaling(
    context: typer.Context,
    out: Out,
    file: File = None,
    quick: Quick = False,
    resume: Resume = False,
    report: Report = None,
    debug: Debug = False,
) -> None:
    """Time and memory against image size, maps, events, threads, devices.

    Each run is a process of its own. Ctrl-C keeps what is done.
    """
    with _study(context, "scaling", out, report, debug) as run:
        from eventsnn.study import scaling as work

        settings = _settings("scaling", file, quick, {})
        with phases() as progress:
            rows = work(settings, out, resume=resume, command=run.command, progress=progress, say=_say)
        run.finish(rows, [])


class _Run:
    """One call of the command: what it was, and what it leaves."""

    def __init__(self, command: str, out: Path, report: Path | None) -> None:
        self.command, self._out, self._report = command, out, report

    def finish(self, rows: Sequence[Row], lines: Sequence[str]) -> None:
        """Say what was found, and write the report if one is wanted."""
        for line in lines:
            _say(line)
        _say(f"Written: {self._out}, {len(rows):,} runs")
        if self._report is not None:
            from eventsnn.study.report import report

            report(rows, self._report, command=self.command)
            _say(f"Written: {self._report}")


@contextmanager
def _study(context: typer.Context, name: str, out: Path, report: Path | None, debug: bool) -> Iterator[_Run]:
    """Fail in one line, before anything is measured where that can be; say what an interrupt leaves."""
    with one_line_errors(f"eventsnn study {name}", debug or context.obj):
        if report is not None:
            _check_report(report, (out, context.params.get("file")))
        try:
            yield _Run(_command(context, name), out, report)
        except KeyboardInterrupt:
            kept = f"; {out} has what is done, --resume goes on" if out.exists() else ""
            fail(f"eventsnn study {name}", f"interrupted{kept}", INTERRUPTED)


def _check_report(path: Path, others: Sequence[Path | None]) -> None:
    from eventsnn.study.report import check
    from eventsnn.targets import check_target

    check_target(path)
    if any(other is not None and other.resolve() == path.resolve() for other in others):
        raise UsageError(
            f"--report expects a file of its own, got {printable(str(path))}, which has results or settings"
        )
    try:
        check()
    except ModuleNotFoundError as error:
        raise UsageError(f"--report: {error}") from None


def _command(context: typer.Context, name: str) -> str:
    """Return the command that was given, with all that differs from the defaults."""
    given = [(p, context.params.get(p.name or "")) for p in context.command.params]
    given = [(p, value) for p, value in given if value not in (None, False, "") and value != p.default]
    words = [str(value) for p, value in given if p.param_type_name == "argument"]
    for p, value in given:
        if p.param_type_name == "option":
            words += [p.opts[0]] if value is True else [p.opts[0], str(value)]
    words = ["eventsnn", "study", name, *words]
    return shlex.join(words)


def _settings(name: str, file: Path | None, quick: bool, given: dict[str, str]) -> Any:
    """Return the settings of a file, or the usual ones, with those of the options that were given."""
    from eventsnn.study.config import from_dict, load, small

    settings: Settings = from_dict({}, name) if file is None else load(file, name)
    settings = replace(settings, **cast("dict[str, Any]", {key: value for key, value in given.items() if value}))
    if not quick:
        return settings
    reduced = small(settings)
    pairs = ((field.name, getattr(settings, field.name), getattr(reduced, field.name)) for field in fields(reduced))
    changed = [f"{key} {_briefly(new)} instead of {_briefly(old)}" for key, old, new in pairs if old != new]
    if file is not None and changed:
        _say(f"Quick: {'; '.join(changed)}")
    return reduced


def _briefly(value: Any) -> str:
    """Return a setting for people; of many values how many they are."""
    if isinstance(value, tuple | list) and (len(value) > 4 or any(is_dataclass(one) for one in value)):
        return f"{len(value)} values"
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple | list) else str(value)


def _client(address: str, stack: ExitStack) -> Any:
    """Return a client of a Dask cluster, or None where nobody asks for one."""
    if not address:
        return None
    from eventsnn import parallel

    try:
        return stack.enter_context(parallel.connect(address))
    except ModuleNotFoundError as error:
        raise UsageError(f"--dask: {error}") from None


def _about_sparsity(rows: Sequence[Row]) -> list[str]:
    """Return the error of the cost model and where the curves of published layers cross."""
    from eventsnn.study import cost
    from eventsnn.study.series import running, varying

    lines = []
    if any(not row["held_out"] for row in rows):
        for terms in (cost.SIMPLE, cost.TERMS):
            error = cost.fit(rows, terms).error
            lines.append(
                f"Cost model of {', '.join(terms)}: off by {error.median:.0%} (median), {error.most:.0%} (most) "
                f"on {error.rows} runs of layers that it was not fitted to"
            )
    shown = [found for found in cost.crossovers(rows) if found["network"] or found["source"] == "events"]
    differ = varying(shown, ("backend", "threads"))
    return lines + [_crossover_line(found, running(found, differ)) for found in shown]


def _crossover_line(found: dict[str, Any], how: str) -> str:
    layer = f"{found['layer']}{' + ' + found['pool'] if found['pool'] else ''} on {found['shape']}"
    networks = f" ({found['network']})" if found["network"] else ""
    where = f"{layer}{networks}, {found['source']}, {found['batch']} at a time{', ' * bool(how)}{how}"
    if found["density"] is not None:
        return f"{where}: {found['dense']} is quicker from density {found['density']:.3g} on"
    side = "event-driven" if found["winner"] == "events" else found["dense"]
    return f"{where}: {side} is quicker from {found['lowest']:.3g} to {found['highest']:.3g}"


def _about_tradeoff(rows: Sequence[Row]) -> list[str]:
    """Return the front of accuracy and spikes."""
    from eventsnn.study import front

    return [_front_line(point) for point in front(rows)]


def _front_line(point: dict[str, Any]) -> str:
    low, high = point["accuracy_low"], point["accuracy_high"]
    interval = "" if low is None else f" ({max(low, 0):.2%} to {min(high, 1):.2%})"  # of few seeds it reaches further
    setting = ", ".join(f"{name} {point[name]}" for name in ("threshold", "bins", "winners", "inhibition"))
    costs = f"{point['spikes']:,.0f} spikes, {1e6 * point['energy']:.3g} µJ"
    return f"On the front: {point['accuracy']:.2%}{interval}, {costs}; {setting}"


def _say(line: str) -> None:
    print(printable(line), flush=True)
