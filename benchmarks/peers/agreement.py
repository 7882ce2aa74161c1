"""How far two programs' answers agree: spikes, decisions or winners, compared for equality."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.peers.tasks import Answer


def compare(kind: Answer, ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """Return how many answers differ, ``differ``, of how many, ``of``.

    Spikes: neurons that fire in one program only, or at another time, of those that fire in either. Decisions: samples.
    Winners: places in the order of choice that hold another neuron, of those that either fills; and
    ``first_sample``, the first sample with a difference (later ones learn from other weights).

    Raises
    ------
    ValueError
        If the answers have different shapes.
    """
    if ours.shape != theirs.shape:
        raise ValueError(f"answers expects equal shapes, got {ours.shape} and {theirs.shape}")
    if kind == "winners":
        different, filled = (ours != theirs).any(axis=2), (ours >= 0).any(axis=2) | (theirs >= 0).any(axis=2)
        samples = np.flatnonzero(different.any(axis=1))
        first = int(samples[0]) if len(samples) else None
        return {"what": kind, "differ": int(different.sum()), "of": int(filled.sum()), "first_sample": first}
    counted = np.ones(ours.shape, bool) if kind == "decisions" else (ours >= 0) | (theirs >= 0)
    return {"what": kind, "differ": int((ours != theirs).sum()), "of": int(counted.sum())}


def sentence(agreement: dict[str, Any]) -> str:
    """Return one line for people."""
    differ, of = agreement["differ"], agreement["of"]
    return f"all {of:,} {agreement['what']} equal" if not differ else f"{differ:,} of {of:,} {agreement['what']} differ"
