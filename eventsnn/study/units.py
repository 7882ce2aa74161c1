"""Quantities for people: three digits with a prefix."""

from __future__ import annotations

import math
import re

_LARGE, _SMALL = ("", "k", "M", "G", "T", "P"), ("", "m", "\N{MICRO SIGN}", "n", "p", "f")


def si(value: float, unit: str = "") -> str:
    """Return a quantity as ``1.23 ms``, ``45.6 M``."""
    if abs(value) < 1e-18 or not math.isfinite(value):
        return f"{value if value else 0:.0f} {unit}".rstrip()
    thousands = math.floor(math.log10(float(f"{abs(value):.2e}")) / 3)
    power = max(-5, min(thousands, 5))
    prefix = _LARGE[power] if power >= 0 else _SMALL[-power]
    scaled = value / 1000.0**power
    digits = max(0, 2 - math.floor(math.log10(abs(float(f"{scaled:.2e}")))))
    return f"{scaled:.{min(digits, 4)}f} {prefix}{unit}".rstrip()


def percent(share: float) -> str:
    """Return a share as ``1.23 %``, in three digits."""
    return f"{float(f'{100 * share:.3g}'):g} %"


def rounded(text: str) -> str:
    """Return a quantity without zeros that say nothing of a round number: ``1 ms`` for ``1.00 ms``."""
    return re.sub(r"\.0+(?= |$)", "", text)
