"""What a conversion is told, what it takes of a recording, and its account."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from eventsnn.io import EventFileError, Recording, Report
from eventsnn.io._order import HOLD
from eventsnn.io._storage import Compression
from eventsnn.io.chunk import Chunk
from eventsnn.io.extract import Extract
from eventsnn.io.own_recording import open_recording as open_any_recording
from eventsnn.io.recording import Tally
from eventsnn.train import Progress

_KEPT = 50  # broken files that a file names


@dataclass(frozen=True)
class Options:
    """How recordings are converted: all that decides what comes of them.

    Parameters
    ----------
    extract : Extract
        What is taken of each.
    window : int, optional
        Length of samples in microseconds that each recording is cut into.
    compression : {"gzip", "blosc2"}
        Of the file; see :class:`~eventsnn.io.RecordingWriter`.
    hold : int
        Events held back to be sorted.
    orientation : dict
        Further arguments of :func:`eventsnn.open`: ``width``, ``height``, ``swap_xy``, ``flip_x``, ...
    """

    extract: Extract = field(default_factory=Extract)
    window: int | None = None
    compression: Compression = "gzip"
    hold: int = HOLD
    orientation: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manner:
    """How several files are gone about, which changes nothing of what comes of them; see :func:`convert`."""

    jobs: int
    skip_broken: bool
    resume: bool
    force: bool


@dataclass(frozen=True)
class Source:
    """A file, and its class if it has one."""

    path: str
    label: int | None = None


@dataclass
class Account:
    """What became of the events of some files."""

    files: int = 0
    samples: int = 0
    read: int = 0
    written: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    backward: int = 0
    furthest_back: int = 0
    broken: list[tuple[str, str]] = field(default_factory=list)

    def add(self, other: Account) -> None:
        """Add another account to this one."""
        for name in ("files", "samples", "read", "written", "backward"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("dropped", "skipped", "left_out"):
            for what, count in getattr(other, name).items():
                getattr(self, name)[what] = getattr(self, name).get(what, 0) + count
        self.furthest_back = max(self.furthest_back, other.furthest_back)
        self.broken += other.broken

    def lines(self) -> list[str]:
        """Return a table for people."""
        rows = [("files", f"{self.files:,}"), ("events read", f"{self.read:,}")]
        for verb, counts in (("lost", self.dropped), ("no events", self.skipped), ("left out", self.left_out)):
            rows += [(verb, f"{count:,} {what}") for what, count in counts.items()]
        if self.backward:
            rows.append(
                ("sorted", f"{self.backward:,} earlier than one before them, by up to {self.furthest_back:,} us")
            )
        rows += [("broken file", f"{name}: {reason}") for name, reason in self.broken[:_KEPT]]
        if len(self.broken) > _KEPT:
            rows.append(("broken files", f"{len(self.broken) - _KEPT:,} more"))
        rows += [("events written", f"{self.written:,}"), ("samples", f"{self.samples:,}")]
        return [f"  {name:<16}{text}" for name, text in rows]

    def stored(self) -> dict[str, Any]:
        """Return what a file says of its conversion, as JSON values of bounded length."""
        found = dataclasses.asdict(self)
        found["broken"] = [[name[-200:], reason[:200]] for name, reason in self.broken[:_KEPT]]
        return found | {"n_broken": len(self.broken)}


def open_recording(path: str, options: Options) -> Recording:
    """Open a file that can be converted.

    Raises
    ------
    EventFileError
        If it cannot be read.
    ValueError
        If it holds samples of a data set, or nobody says how large the sensor is.
    """
    found = open_any_recording(path, **options.orientation)
    if found.width is None or found.height is None:
        raise ValueError(f"{path}: does not say the sensor's size; --width and --height do")
    return found


class Taken:
    """The chunks of a recording that are to be converted; ``account`` is complete at their end."""

    def __init__(self, recording: Recording, options: Options, account: Account, progress: Progress) -> None:
        self.sensor = options.extract.sensor(recording.width or 1, recording.height or 1)
        self._recording, self._extract = recording, options.extract
        self._account, self._progress = account, progress
        self._stream = recording.chunks()
        self._first: Chunk | None = next(self._stream, None)
        #: Beginning and end on the clock of the file, as far as they are known before all is read.
        self.limits = options.extract.limits(0 if self._first is None else int(self._first.t[0]))

    def __iter__(self) -> Iterator[Chunk]:
        tally, total = Tally(), self._recording.n_events or 0
        for chunk in self._all():
            taken = self._extract.of(chunk, self.limits, tally)
            self._account.written += len(taken)
            yield taken
            if total > 1:
                self._progress(min(self._stream.report.n_events, total), total, "convert")
        self._account.left_out |= tally.dropped
        report: Report = self._stream.report
        self._account.read += report.n_events
        for name in ("dropped", "skipped"):
            setattr(self._account, name, getattr(report, name))
        self._account.backward, self._account.furthest_back = report.backward, report.furthest_back

    def _all(self) -> Iterator[Chunk]:
        if self._first is not None:
            first, self._first = self._first, None
            yield first
            yield from self._stream


def described(options: Options) -> dict[str, Any]:
    """Return options as JSON values."""
    values = dataclasses.asdict(options)
    return {"options": {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}}


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Let errors of the events name the file that they are of."""
    try:
        yield
    except EventFileError as error:
        if error.path is not None:
            raise
        raise EventFileError(error.reason, path, error.offset) from None


def total(accounts: Iterable[Account]) -> Account:
    """Return the sum of accounts."""
    whole = Account()
    for account in accounts:
        whole.add(account)
    return whole
