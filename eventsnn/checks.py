"""Checks of numbers, switches and kinds of values, with errors that say what was expected and what came."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import fields
from numbers import Integral, Real
from typing import Any


def integer(name: str, value: Any, least: int) -> None:
    """Raise ``ValueError`` unless it is an integer of at least ``least``."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} expects an integer of at least {least}, got {value!r}")


def number(name: str, value: Any, least: float = -math.inf, above: float = -math.inf, most: float = math.inf) -> None:
    """Raise ``ValueError`` unless it is a finite number of at least ``least``, above ``above`` and at most ``most``."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if is_number and math.isfinite(value) and least <= value <= most and value > above:
        return
    limits = [f"of at least {least:g}"] * (least > -math.inf) + [f"above {above:g}"] * (above > -math.inf)
    limits += [f"at most {most:g}"] * (most < math.inf)
    raise ValueError(f"{name} expects a finite number {' and '.join(limits)}".rstrip() + f", got {value!r}")


def switch(name: str, value: Any) -> None:
    """Raise ``ValueError`` unless it is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} expects True or False, got {value!r}")


def kind(name: str, value: Any, *kinds: type, or_none: bool = True) -> None:
    """Raise ``TypeError`` unless it is a value of one of the kinds, or None where that may be."""
    if isinstance(value, kinds) or (or_none and value is None):
        return
    words = [f"{k.__name__}" for k in kinds] + ["None"] * or_none
    raise TypeError(f"{name} expects {', '.join(words[:-1])}{' or ' * (len(words) > 1)}{words[-1]}, got {value!r}")


def function(name: str, value: Any, or_none: bool = True) -> None:
    """Raise ``TypeError`` unless it can be called, or is None where that may be."""
    if not (callable(value) or (or_none and value is None)):
        raise TypeError(f"{name} expects a function{' or None' * or_none}, got {value!r}")


def plain(settings: Any, sequences: Collection[str]) -> None:
    """Turn the fields of a frozen dataclass into Python's own values and tuples, as JSON and hashes want them.

    Raises ``TypeError`` if one of ``sequences`` is no tuple, list or array of one dimension.
    """
    for field in fields(settings):
        value = getattr(settings, field.name)
        if hasattr(value, "tolist"):  # of numpy
            value = value.tolist()
        if field.name in sequences:
            kind(field.name, value, tuple, list, or_none=False)
            value = tuple(one.tolist() if hasattr(one, "tolist") else one for one in value)
        object.__setattr__(settings, field.name, value)
