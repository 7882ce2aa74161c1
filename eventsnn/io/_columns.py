"""From columns of any numbers to a chunk."""

from __future__ import annotations

import numpy as np

from eventsnn.io.recording import Tally

NO_TIME = "events without a time that can be"
_LATEST = float(1 << 62)  # microseconds


def times_of_seconds(seconds: np.ndarray, tally: Tally, per_second: float = 1e6) -> tuple[np.ndarray, np.ndarray]:
    """Return microseconds of the times that are numbers, rounded, and a mask of these; count the others."""
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = seconds * per_second
        sound = np.abs(scaled) < _LATEST
    tally.drop(NO_TIME, len(sound) - int(np.count_nonzero(sound)))
    return np.rint(scaled[sound]).astype(np.int64), sound
