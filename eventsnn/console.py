"""What the command line shows while it works, and how it fails: one line, and a traceback only when asked for."""

from __future__ import annotations

import re
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
import typer.core

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

# Typer carries a copy of click or needs it, depending on its version; this is the class of either.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

Debug = Annotated[bool, typer.Option("--debug", metavar="", help="Show the traceback of an error.")]
# How coordinates and polarities of a recording become those of its events; None is the format's own way.
_TURN = "Default: as its format usually is."
SwapXY = Annotated[bool | None, typer.Option(help=f"Exchange x and y. {_TURN}")]
FlipX = Annotated[bool | None, typer.Option(help=f"Mirror left and right. {_TURN}")]
FlipY = Annotated[bool | None, typer.Option(help=f"Mirror up and down. {_TURN}")]
SwapPolarity = Annotated[bool | None, typer.Option(help=f"Exchange darker and brighter. {_TURN}")]
Json = Annotated[
    bool,
    typer.Option(
        "--json", metavar="", help="Print one JSON object as the last line; what is for people goes to stderr."
    ),
]

INTERRUPTED = 130  # as shells report a process that Ctrl-C ended
_SHORT = 5.0  # seconds within which epochs share a line


def fail(command: str, message: str, code: int = 1) -> NoReturn:
    """Print one line on stderr and leave with an exit code."""
    print(f"{command}: {one_line(message)}", file=sys.stderr)
    raise typer.Exit(code)


def one_line(text: str) -> str:
    """Return a text in one line that no terminal takes for commands."""
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """Return a text with all that moves the cursor, changes colours or breaks the line as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def one_line_errors(command: str, debug: bool) -> Iterator[None]:
    """Turn every exception into one line on stderr and exit code 1, with ``debug`` after its traceback.

    Warnings become a line too, each once.
    """
    warned: set[str] = set()

    def warn(message: Warning | str, *_: object, **__: object) -> None:
        if (line := one_line(str(message))) not in warned:
            print(f"{command}: {line}", file=sys.stderr)
        warned.add(line)

    try:
        with warnings.catch_warnings():
            warnings.showwarning = warn
            yield
    except (typer.Exit, typer.Abort, UsageError, BrokenPipeError):
        raise
    except KeyboardInterrupt:
        fail(command, "interrupted", INTERRUPTED)
    except Exception as error:
        if debug:
            traceback.print_exc()
        fail(command, describe(error))


class _Plain:
    """Help as other programs show it: ``MODEL``, not ``{MODEL}``, and no type for ``--help``."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        pieces: list[str] = super().collect_usage_pieces(ctx)  # type: ignore[misc]
        return [piece.strip("{}") for piece in pieces]

    def get_help_option(self, ctx: Any) -> Any:
        option = super().get_help_option(ctx)  # type: ignore[misc]
        option.metavar = ""
        return option


class PlainCommand(_Plain, typer.core.TyperCommand):
    """A command with such help."""


class PlainGroup(_Plain, typer.core.TyperGroup):
    """Commands with such help."""


def describe(error: Exception) -> str:
    """Return what went wrong, for people."""
    if isinstance(error, MemoryError):
        return f"out of memory: {error}" if str(error) else "out of memory"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, ValueError | OSError):
        return str(error)
    return f"{type(error).__name__}: {error} (--debug shows where)"


@contextmanager
def phases() -> Iterator[Phases]:
    """Show progress on stderr while the block runs."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    texts = [TextColumn(f"{{task.{name}}}") for name in ("description", "fields[count]", "fields[rate]")]
    columns = (texts[0], BarColumn(), *texts[1:], TimeRemainingColumn(elapsed_when_finished=True))
    # Not the console's idea of a terminal: FORCE_COLOR would fill log files with bars.
    shows = sys.stderr.isatty()
    bars = Progress(*columns, console=Console(stderr=True), transient=True, disable=not shows)
    with bars if shows else nullcontext():  # on leaving, rich 13 prints an empty line even where nothing is shown
        shown = Phases(bars)
        yield shown
        shown.end()


class Phases:
    """Progress of one phase after another: a bar on a terminal, and anywhere a line when a phase has ended.

    Call it as ``progress(done, total, phase)``; a total of 1 means that nothing is counted. Phases that end in
    ``epoch i/n`` share a bar, and a line as long as they are short.
    """

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._phase = ""
        self._name: str | None = None  # of the phase without the epoch; None between phases
        self._task: Any = None
        self._counts = False
        self._first = self._epoch = self._epochs = 1
        self._done = self._told = 0  # in this phase so far, and of these in earlier lines
        self._since = time.perf_counter()

    def __call__(self, done: int, total: int, phase: str) -> None:
        """Show that ``done`` of ``total`` are done."""
        name, epoch, epochs = _parse(phase)
        if (name, epochs) != (self._name, self._epochs) or epoch < self._epoch:
            self.end()
            self._begin(name, epochs, total)
        self._phase, self._epoch, self._done = phase, epoch, (epoch - 1) * total + done
        count = f"{self._done:,}/{total * epochs:,}" if self._counts else ""
        self._bars.update(self._task, description=phase, completed=self._done, count=count, rate=self._rate())
        if done >= total and epoch == epochs:
            self.end()
        elif done >= total and time.perf_counter() - self._since > _SHORT:
            self._tell()

    def end(self) -> None:
        """End the present phase, if there is one."""
        if self._name is None:
            return
        if self._done > self._told or not self._counts:
            self._tell()
        self._bars.remove_task(self._task)
        self._name, self._since = None, time.perf_counter()

    def _begin(self, name: str, epochs: int, total: int) -> None:
        self._name, self._epochs, self._counts = name, epochs, total > 1
        self._first = self._epoch = 1
        self._done = self._told = 0
        self._task = self._bars.add_task(name, total=total * epochs if self._counts else None, count="", rate="")

    def _tell(self) -> None:
        """Print a line about what was done since the last one."""
        several = f"{self._name}epochs {self._first}-{self._epoch}/{self._epochs}"
        label = several if self._epoch > self._first else self._phase
        counted = f"{self._done - self._told:>9,}" if self._counts else ""
        seconds = time.perf_counter() - self._since
        line = f"  {label:<28}{counted:>9} {self._rate():>10}{seconds:>9.1f} s"
        self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)
        self._first, self._told, self._since = self._epoch + 1, self._done, time.perf_counter()

    def _rate(self) -> str:
        seconds = max(time.perf_counter() - self._since, 1e-9)
        return f"{(self._done - self._told) / seconds:,.0f}/s" if self._counts else ""


def _parse(phase: str) -> tuple[str, int, int]:
    match = re.fullmatch(r"(.*)epoch (\d+)/(\d+)", phase)
    return (match[1], int(match[2]), int(match[3])) if match else (phase, 1, 1)
