"""Whether a checkpoint holds what its training can have come to: what was edited is refused, not continued."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eventsnn.history import Epoch

_LARGEST_CONVERGENCE = 0.25  # u (1 - u) at one half


def refuse_unless(possible: bool, what: str, found: object) -> None:
    """Raise ``ValueError`` with what was found, unless it is possible."""
    if not possible:
        raise ValueError(f"the state of a training that cannot be: {what}, found {found}")


def check_epochs(epochs: Sequence[Epoch], presented: int, samples: int, most: int, converged: bool) -> None:
    """Check how far a training has come, of ``most`` epochs with so many samples each.

    Raises
    ------
    ValueError
        If it cannot have.
    """
    sizes = [epoch.presented for epoch in epochs]
    refuse_unless(len(sizes) <= most, f"at most {most} epochs", len(sizes))
    whole, cut = (sizes[:-1], sizes[-1:]) if converged else (sizes, [])
    refuse_unless(
        all(size == samples for size in whole) and all(0 < size <= samples for size in cut),
        f"epochs of {samples} samples",
        sizes,
    )
    ended = converged or len(sizes) == most
    least, largest = sum(sizes), sum(sizes) + (0 if ended else samples)
    refuse_unless(least <= presented <= largest, f"{least} to {largest} presentations", presented)
    for epoch in epochs:
        check_counts({"winners": epoch.winners, "silent": epoch.silent, "hits": epoch.hits, "misses": epoch.misses})


def check_counts(counts: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` if a count, or one of an array of them, is negative; None is none."""
    for name, count in counts.items():
        refuse_unless(count is None or bool((np.asarray(count) >= 0).all()), f"{name} of 0 or more", count)


def check_ratios(ratios: Mapping[str, float]) -> None:
    """Raise ``ValueError`` unless all are from 0 to 1."""
    for name, ratio in ratios.items():
        refuse_unless(0 <= ratio <= 1, f"{name} from 0 to 1", ratio)


def check_curve(curve: Sequence[tuple[int, float]], presented: int, converged: bool, stop_below: float | None) -> None:
    """Raise ``ValueError`` unless convergence was noted on the way, and says that it was reached if it was."""
    moments, values = [at for at, _ in curve], [value for _, value in curve]
    rises = bool(moments) and moments[0] == 0 and bool((np.diff(moments) > 0).all()) and moments[-1] <= presented
    refuse_unless(rises, f"a curve from 0 to at most {presented}", moments[-3:])
    possible = all(0 <= value <= _LARGEST_CONVERGENCE for value in values)
    refuse_unless(possible, f"convergence from 0 to {_LARGEST_CONVERGENCE}", f"{min(values)} to {max(values)}")
    reached = stop_below is not None and curve[-1][1] < stop_below
    refuse_unless(converged == reached, f"converged {reached}", converged)


def check_weights(name: str, weights: np.ndarray, initial: np.ndarray, bounds: tuple[float, float]) -> None:
    """Raise ``ValueError`` unless weights are within their bounds, or where those lay that they began with."""
    lower, upper = (np.float32(bound) for bound in bounds)
    least, largest = min(lower, initial.min()), max(upper, initial.max())
    inside = bool(((weights >= least) & (weights <= largest)).all())
    refuse_unless(inside, f"{name} from {least} to {largest}", f"{weights.min()} to {weights.max()}")


def check_thresholds(name: str, thresholds: np.ndarray, initial: np.ndarray, floor: float | None) -> None:
    """Raise ``ValueError`` unless thresholds are as at the beginning, or with a floor finite and not below it."""
    if floor is None:
        refuse_unless(np.array_equal(thresholds, initial), f"{name} that do not change", thresholds)
    else:
        least = min(np.float32(floor), initial.min())
        possible = bool((np.isfinite(thresholds) & (thresholds >= least)).all())
        refuse_unless(possible, f"{name} of {least} or more", thresholds)
