"""What reading a file came to: what was given, what was left out and why, or why it cannot be read at all."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

# What may be lost, as it reads after a number: every format calls the same thing by the same name.
OUTSIDE = "events outside the sensor"
BEFORE_TIME = "events before the first time"
UNKNOWN = "unknown words"
CUT_END = "bytes after the last whole word"


class EventFileError(ValueError):
    """A file that cannot be read as events: damaged, inconsistent, or of an unknown format.

    Parameters
    ----------
    reason : str
        What was expected and what was found.
    path : str or Path, optional
        The file. A decoder that does not know it leaves it out: :class:`Stream` adds it.
    offset : int, optional
        Where in the file, in bytes from its beginning; None if it is not one place.
    """

    def __init__(self, reason: str, path: str | Path | None = None, offset: int | None = None) -> None:
        super().__init__(reason, path, offset)
        self.reason, self.path, self.offset = reason, path, offset

    def __str__(self) -> str:
        """Return file, offset and reason in one line."""
        where = [str(self.path)] * (self.path is not None) + [f"byte {self.offset}"] * (self.offset is not None)
        return ": ".join([*where, self.reason])


class Tally:
    """What a decoder left out, counted while it works.

    What is *dropped* was lost: broken or meaningless. What is *skipped* is sound, but no event: triggers, frames,
    inertial measurements. Both are named so that the name reads well after a number.
    """

    def __init__(self) -> None:
        self.dropped: dict[str, int] = {}
        self.skipped: dict[str, int] = {}

    def drop(self, what: str, count: int = 1) -> None:
        """Count what was lost; nothing is noted for a count of 0."""
        if count:
            self.dropped[what] = self.dropped.get(what, 0) + int(count)

    def skip(self, what: str, count: int = 1) -> None:
        """Count what is no event."""
        if count:
            self.skipped[what] = self.skipped.get(what, 0) + int(count)


@dataclass(frozen=True)
class Report:
    """What a stream has given so far, and what it has not, and why.

    Parameters
    ----------
    n_events : int
        Events given.
    earliest, latest : int or None
        Their times; None without events.
    dropped : dict of str to int
        What was lost, by reason: events outside the sensor, unknown words, bytes of a cut end.
    skipped : dict of str to int
        What is no event: triggers, frames, inertial measurements.
    backward : int
        Events, among those given, that are earlier than one before them.
    furthest_back : int
        By how much at most, in microseconds.
    """

    n_events: int = 0
    earliest: int | None = None
    latest: int | None = None
    dropped: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    backward: int = 0
    furthest_back: int = 0

    def of(self, tally: Tally) -> Report:
        """Return the report with what a tally has counted."""
        return dataclasses.replace(self, dropped=dict(tally.dropped), skipped=dict(tally.skipped))

    def __str__(self) -> str:
        """Return one line for people."""
        parts = [f"{self.n_events:,} events"]
        for verb, counts in (("lost", self.dropped), ("skipped", self.skipped)):
            if counts:
                parts.append(f"{verb} " + ", ".join(f"{count:,} {what}" for what, count in counts.items()))
        if self.backward:
            parts.append(f"{self.backward:,} earlier than one before them, by up to {self.furthest_back} us")
        return "; ".join(parts)


def counted(report: Report, t: np.ndarray) -> Report:
    """Return a report with the times of some events added."""
    if not len(t):
        return report
    n_events = report.n_events + len(t)
    before = t[0] if report.latest is None else report.latest
    if t[0] >= before and (t[1:] >= t[:-1]).all():
        earliest = int(t[0]) if report.earliest is None else report.earliest
        return dataclasses.replace(report, n_events=n_events, earliest=earliest, latest=int(t[-1]))
    highest = np.maximum.accumulate(np.maximum(t, before))
    late = t < highest
    furthest = int((highest - t).view(np.uint64).max())  # which holds what int64 may not
    low = int(t.min())
    return dataclasses.replace(
        report,
        n_events=n_events,
        earliest=low if report.earliest is None else min(low, report.earliest),
        latest=int(highest[-1]),
        backward=report.backward + int(np.count_nonzero(late)),
        furthest_back=max(report.furthest_back, furthest),
    )
