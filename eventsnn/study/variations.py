"""What a study of accuracy and cost changes in a recipe: thresholds, bins, winners, inhibition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from eventsnn import checks
from eventsnn.checkpoint import describe
from eventsnn.encode import CameraEncoder, ImageEncoder, WindowChannels
from eventsnn.layers import Conv, Dense, Layer, PointwiseInhibition
from eventsnn.models import Model, Step
from eventsnn.models.recipe import Encoder
from eventsnn.network import Network
from eventsnn.plasticity import WTA
from eventsnn.validation import Shape

INHIBITIONS = ("none", "pointwise")
_LONG = 4000  # characters of a text, from which on it is left out of a description


@dataclass(frozen=True)
class Setting:
    """How a recipe is changed; the defaults leave it as it is.

    Parameters
    ----------
    threshold : float
        Factor of all finite thresholds, above 0.
    bins : int, optional
        Number of time bins of the encoder. Leaks and time constants of rules keep their ratio to the duration.
    winners : int, optional
        Largest number of winners in a sample, of each layer that learns without reward.
    inhibition : float or {"none", "pointwise"}
        A number: factor of the radius, in positions, that winners inhibit around them while a layer learns without
        reward; 0 is none. ``"pointwise"``: of each layer with finite thresholds only the first map fires at a
        position, while it learns and afterwards. ``"none"``: nobody inhibits anybody but a winner its own map while it
        learns without reward, and nobody afterwards.
    """

    threshold: float = 1.0
    bins: int | None = None
    winners: int | None = None
    inhibition: float | str = 1.0

    def __post_init__(self) -> None:
        checks.number("thresholds", self.threshold, above=0)
        for name, value in (("bins", self.bins), ("winners", self.winners)):
            if value is not None:
                checks.integer(name, value, 1)
        if not isinstance(self.inhibition, str):
            checks.number("inhibition", self.inhibition, least=0)
        elif self.inhibition not in INHIBITIONS:
            expected = f"factors of at least 0 of the radius, or one of {', '.join(INHIBITIONS)}"
            raise ValueError(f"inhibition expects {expected}, got {self.inhibition!r}")


def settings_of(model: Model, axes: dict[str, Sequence[Any]], grid: bool) -> list[Setting]:
    """Return the settings of a sweep; of those that make the same of the recipe, the first.

    Parameters
    ----------
    model : Model
        The recipe.
    axes : dict
        Values of each field of :class:`Setting`, any number of them.
    grid : bool
        Whether to take all combinations; a field without values stays as in the recipe. Else the recipe comes first,
        and then what differs from it in one field.

    Raises
    ------
    ValueError
        If a setting changes what the recipe does not have.
    """
    if grid:
        wanted = [
            Setting(**dict(zip(axes, values, strict=True)))
            for values in product(*(axes[name] or [getattr(Setting(), name)] for name in axes))
        ]
    else:
        wanted = [Setting(), *(Setting(**{name: value}) for name, values in axes.items() for value in values)]
    found: dict[Model, Setting] = {}
    for setting in wanted:
        found.setdefault(varied(model, setting), setting)
    return list(found.values())


def varied(model: Model, setting: Setting) -> Model:
    """Return a recipe with a setting.

    Raises
    ------
    ValueError
        If the recipe does not have what the setting changes.
    """
    if setting.bins is not None:
        model = _with_bins(model, setting.bins)
    if setting.winners is not None:
        model = _with_winners(model, setting.winners)
    if setting.inhibition in INHIBITIONS:
        model = _with_inhibition(model, setting.inhibition == "pointwise")
    elif setting.inhibition != 1:
        model = _with_radius(model, float(setting.inhibition))
    return model if setting.threshold == 1 else _with_thresholds(model, setting.threshold)


def check(model: Model) -> None:
    """Refuse a recipe whose layers do not fit together.

    Raises
    ------
    ValueError
        If so.
    """
    net = Network(model.layers, input_shape(model))
    for step in model.steps:
        net.check_trainable(step.layer)


def input_shape(model: Model) -> Shape:
    """Return the grid of a recipe's input, from images or recordings of its size."""
    if isinstance(model.encoder, ImageEncoder):
        return model.encoder.output_shape(*model.size)
    return model.encoder.output_shape((2, *model.size))


def bins_of(model: Model) -> int | None:
    """Return the number of bins of a recipe's encoder; None where times are microseconds or ranks."""
    found: int | None = getattr(_binning(model.encoder), "bins", None)
    return found


def winners_of(model: Model) -> list[int]:
    """Return the largest numbers of winners of the layers that learn without reward, in their order."""
    return [step.competition.k for step in model.steps if not step.rule.rewarded]


def described(model: Model) -> dict[str, Any]:
    """Return a recipe as texts: encoder, layers, steps with what functions of the user's own hold, readout."""
    return {
        "encoder": _short(repr(model.encoder)),
        "size": list(model.size),
        "layers": [repr(layer) for layer in model.layers],
        "steps": [describe(step) for step in model.steps],
        "readout": repr(model.readout),
    }


def is_finite(layer: Layer) -> bool:
    """Tell whether a layer has neurons that fire when their potential passes a threshold."""
    return isinstance(layer, Conv | Dense) and bool(np.isfinite(layer.threshold).all())


def _short(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."


def _binning(encoder: Encoder) -> Any:
    """Return what has the number of bins, if anything has: a latency rule, perhaps within one for cameras."""
    latency = _latency(encoder)
    return getattr(latency, "rule", latency)


def _latency(encoder: Encoder) -> Any:
    return encoder.latency if isinstance(encoder, ImageEncoder) else _camera(encoder).latency


def _camera(encoder: CameraEncoder | WindowChannels) -> CameraEncoder:
    return encoder.encoder if isinstance(encoder, WindowChannels) else encoder


def _duration(model: Model) -> int:
    encoder = model.encoder
    if isinstance(encoder, ImageEncoder):
        return encoder.latency.duration(input_shape(model))
    camera = _camera(encoder)
    return camera.latency.duration(camera.cut.length, camera.output_shape((2, *model.size)))


def _with_bins(model: Model, bins: int) -> Model:
    rule, latency, encoder = _binning(model.encoder), _latency(model.encoder), model.encoder
    if not hasattr(rule, "bins"):
        raise ValueError(f"bins expects an encoder with bins, that of {model.name} has {rule!r}")
    binned = replace(rule, bins=bins)
    changed = binned if rule is latency else replace(latency, rule=binned)
    if isinstance(encoder, WindowChannels):
        other = replace(model, encoder=replace(encoder, encoder=replace(encoder.encoder, latency=changed)))
    else:
        other = replace(model, encoder=replace(encoder, latency=changed))
    ratio = _duration(other) / _duration(model)
    layers = tuple(_slower(layer, "leak", ratio) for layer in model.layers)
    steps = tuple(replace(step, rule=_slower(step.rule, "tau", ratio)) for step in model.steps)
    return replace(other, layers=layers, steps=steps)


def _slower(value: Any, field: str, ratio: float) -> Any:
    """Return a layer or rule whose time constant, if it has one, is so much longer."""
    constant = getattr(value, field, None)
    return value if constant is None else replace(value, **{field: constant * ratio})


def _with_winners(model: Model, winners: int) -> Model:
    if not winners_of(model):
        raise ValueError(f"winners expects a layer that learns without reward, {model.name} has none")
    return _with_steps(model, lambda step: replace(step, competition=replace(step.competition, k=winners)))


def _with_radius(model: Model, factor: float) -> Model:
    def changed(step: Step) -> Step:
        if not isinstance(step.competition, WTA):
            raise ValueError(f"inhibition expects WTA, {model.name} has a competition of its own, which has no radius")
        return replace(step, competition=replace(step.competition, radius=round(step.competition.radius * factor)))

    return _with_steps(model, changed)


def _with_inhibition(model: Model, pointwise: bool) -> Model:
    """Return a recipe with pointwise inhibition everywhere, or without any."""
    layers: list[Layer] = []
    places: list[int] = []  # of each layer of the recipe
    for layer, after in zip(model.layers, (*model.layers[1:], None), strict=True):
        places.append(len(layers))
        if pointwise or not isinstance(layer, PointwiseInhibition):
            layers.append(layer)
        if pointwise and is_finite(layer) and not isinstance(after, PointwiseInhibition):
            layers.append(PointwiseInhibition())

    def changed(step: Step) -> Step:
        competition: Any = replace(step.competition, pointwise=pointwise)
        if pointwise:
            return replace(step, competition=competition)
        free = replace(competition, radius=0) if isinstance(competition, WTA) else competition
        return replace(step, competition=free, inhibit_input=False)

    model = _with_steps(model, changed)
    steps = tuple(replace(step, layer=places[step.layer]) for step in model.steps)
    return replace(model, layers=tuple(layers), steps=steps)


def _with_steps(model: Model, changed: Any) -> Model:
    """Return a recipe with the steps that learn without reward changed."""
    return replace(model, steps=tuple(step if step.rule.rewarded else changed(step) for step in model.steps))


def _with_thresholds(model: Model, factor: float) -> Model:
    return replace(model, layers=tuple(_scaled(layer, factor) for layer in model.layers))


def _scaled(layer: Any, factor: float) -> Layer:
    if not isinstance(layer, Conv | Dense):
        return layer
    value: Any = layer.threshold
    scaled = tuple(one * factor for one in value) if isinstance(value, tuple) else value * factor
    return replace(layer, threshold=scaled)  # an infinite one stays so
