"""What the command line's arguments mean, and one line for those that mean nothing."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from eventsnn.console import UsageError, describe
from eventsnn.models import MODELS

if TYPE_CHECKING:
    from eventsnn.encode import ImageEncoder
    from eventsnn.models import Model
    from eventsnn.readout import Feature, Kind


def one_of(value: str, known: Iterable[str], name: str) -> str:
    """Return ``value`` if it is known, else refuse it and name the nearest."""
    if value not in (names := list(known)):
        near = difflib.get_close_matches(value, names, n=1, cutoff=0.0)[0]
        raise UsageError(f"{name} expects one of {', '.join(names)}, got {value!r}; the nearest is {near!r}")
    return value


def parse_size(text: str, name: str = "--size", example: str = "28x28", form: str = "HxW") -> tuple[int, int] | None:
    """Return the two numbers of a text like ``HxW``, or None of an empty one."""
    if not text:
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if match is None:
        raise UsageError(f"{name} expects {form}, as {example}, got {text!r}")
    return int(match[1]), int(match[2])


def feature(kind: str, target: float, regions: tuple[int, int] | None) -> Feature | None:
    """Return what the options ask for, or None where they leave it to the run."""
    from eventsnn.readout import Feature

    if not kind:
        if regions is not None:
            raise UsageError("--regions expects --kind too")
        return None
    try:
        return Feature(cast("Kind", kind), target, regions)
    except ValueError as error:
        raise UsageError(f"--kind, --target: {describe(error)}") from None


def recipe(model: str) -> tuple[Model, int]:
    """Return the model of a name or of a TOML file, and the seed that goes with it."""
    if not model.endswith(".toml"):
        return MODELS[one_of(model, MODELS, "MODEL")](), 0
    from eventsnn.experiment import Experiment

    experiment = Experiment.load(model)
    return experiment.model, experiment.seed


def named_encoder(text: str) -> tuple[ImageEncoder, tuple[int, int] | None]:
    """Return the encoder of a name, of a TOML file, or of an event file, and the size of the images that it is for."""
    from eventsnn.sources import encoders, recorded_encoder

    if text.endswith(".toml"):
        model, _ = recipe(text)
        return model.encoder, model.size
    if Path(text).is_file():
        return recorded_encoder(text)
    known = encoders()
    return known[one_of(text, known, "--encoder")]


def with_epochs(model: Model, text: str) -> Model:
    """Return the recipe with the epochs of a text like ``2,4,20``; unchanged where it is empty."""
    if not text:
        return model
    try:
        return model.with_epochs([int(number) for number in text.split(",")])
    except ValueError as error:
        raise UsageError(f"--epochs {text!r}: {error}") from None


def check_backend(name: str) -> None:
    """Refuse a backend that there is not."""
    from eventsnn.backends import get

    try:
        get(name or None)
    except ValueError as error:
        raise UsageError(f"--backend: {describe(error)}") from None
