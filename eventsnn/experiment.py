"""Experiments as TOML files: a model, its seed and its epochs, checked key by key before anything is done."""

from __future__ import annotations

import functools
import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from eventsnn.layers import Conv, Dense, FeatureInhibition, Normal, PointwiseInhibition, Pool
from eventsnn.models.encoders import Encoder, encoder_from_dict, grid_of
from eventsnn.models.recipe import Model, Step
from eventsnn.network import Network
from eventsnn.plasticity import (
    RSTDP,
    STDP,
    WTA,
    Adaptive,
    Annealing,
    Doubling,
    Suppression,
    ThresholdAdaptation,
)
from eventsnn.readout import Feature, Kind, LinearReadout
from eventsnn.validation import nearest

_USUAL = "ImageEncoder"  # what an encoder is that does not say its type
_NONE = "none"  # TOML has no null; where it differs from leaving a key out, it is written so


@dataclass(frozen=True)
class Experiment:
    """A model to train, and the seed of its initial weights.

    Parameters
    ----------
    model : Model
    seed : int
        At least 0.

    Raises
    ------
    ValueError
        If the seed is not such an integer.
    """

    model: Model
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or self.seed < 0:
            raise ValueError(f"seed expects an integer of at least 0, got {self.seed!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return the experiment as TOML values, from which :meth:`from_dict` restores it."""
        return {"seed": self.seed} | model_to_dict(self.model)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Experiment:
        """Build an experiment from the keys of :func:`model_from_dict`, and two more.

        Parameters
        ----------
        data : mapping
            With ``seed`` (default 0), and ``epochs``, one number for each step (default: what the steps say).

        Raises
        ------
        ValueError
            As :func:`model_from_dict`; also if the seed or the epochs do not fit.
        """
        if not isinstance(data, Mapping):
            raise ValueError(f"an experiment expects a table, got {data!r}")
        for key in data:
            if key not in (known := [*(field.name for field in fields(Model)), "seed", "epochs"]):
                raise ValueError(f"an experiment has no key {key!r}; {nearest(str(key), known)}")
        model = model_from_dict({key: value for key, value in data.items() if key not in ("seed", "epochs")})
        if "epochs" in data:
            epochs = data["epochs"]
            if not isinstance(epochs, list | tuple) or not all(type(number) is int for number in epochs):
                raise ValueError(f"epochs expects a list of integers, one for each step, got {epochs!r}")
            model = model.with_epochs(epochs)
        return cls(model, data.get("seed", 0))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Experiment:
        """Read an experiment from a TOML file; without the key ``name`` the model is called as the file.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is not TOML, or not an experiment; the message names file, place and key.
        """
        source = Path(path)
        try:
            data = tomllib.loads(source.read_text(encoding="utf-8"))
            return cls.from_dict({"name": source.stem} | data)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


class _Part(NamedTuple):
    """What a key holds: a table, or a list of tables, of one of the classes, told apart by ``type`` where several."""

    classes: tuple[type, ...]
    many: bool = False


_PARTS = {
    "layers": _Part((Conv, Dense, Pool, PointwiseInhibition, FeatureInhibition), many=True),
    "steps": _Part((Step,), many=True),
    "readout": _Part((LinearReadout,)),
    "init": _Part((Normal,)),
    "rule": _Part((STDP, RSTDP)),
    "competition": _Part((WTA,)),
    "schedule": _Part((Doubling, Annealing)),
    "adaptation": _Part((ThresholdAdaptation,)),
    "suppression": _Part((Suppression,)),
    "adaptive": _Part((Adaptive,)),
    "kind": _Part((Feature,)),
}


def model_to_dict(model: Model) -> dict[str, Any]:
    """Return a model as a dict of TOML values: strings, numbers, booleans, lists and dicts.

    Every parameter is written out, those too that have their default; ``None`` is left out, or ``"none"`` where the
    default is another.

    Raises
    ------
    ValueError
        If the model holds a function, as a rule or competition of the user's own does.
    """
    return _plain("model", model)


def model_from_dict(data: Mapping[str, Any]) -> Model:
    """Build the model that :func:`model_to_dict` described, or that was written by hand.

    Parameters
    ----------
    data : mapping
        The parameters of :class:`Model`; each value that has a class of its own is a mapping of its parameters, with
        the class's name under ``type`` if there are several to choose from (layers, rules, schedules, and all parts of
        the encoder, which itself is an ``ImageEncoder`` unless it says otherwise). What is left out has its default.

    Raises
    ------
    ValueError
        If a type or a parameter is unknown (the nearest known one is named), missing, or has a bad value.
    """
    model = _built(data, "model", (Model,))
    _check(model)
    return model


def _check(model: Model) -> None:
    """Refuse what does not fit together, before any data are read."""
    if min(model.size) < 1:
        raise ValueError(f"size expects [height, width] of at least 1, got {list(model.size)}")
    try:
        net = Network(model.layers, grid_of(model.encoder, model.size))
    except ValueError as error:
        raise ValueError(f"encoder and layers do not fit size {list(model.size)}: {error}") from None
    for i, step in enumerate(model.steps):
        try:
            net.check_trainable(step.layer)
        except ValueError as error:
            raise ValueError(f"steps[{i}].layer: {error}") from None
        if step.epochs < 1:
            raise ValueError(f"steps[{i}].epochs expects at least 1, got {step.epochs}")


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, Encoder):
        return _plain_encoder(value.to_dict())
    if isinstance(value, list | tuple):
        return [_plain(name, item) for item in value]
    if not is_dataclass(value):
        return value
    kind = type(value)
    known = (Model,) if name == "model" else _PARTS[name].classes
    if kind not in known:
        raise ValueError(f"{name}: a {kind.__name__} holds a function, which cannot be written")
    plain: dict[str, Any] = {"type": kind.__name__} if len(known) > 1 else {}
    for field in fields(value):
        item = getattr(value, field.name)
        if item is not None:
            plain[field.name] = _plain(field.name, item)
        elif field.default is not None:
            plain[field.name] = _NONE
    return plain


def _plain_encoder(data: Any) -> Any:
    """Return what an encoder's ``to_dict`` gives without what goes without saying: its usual type, and None."""
    if isinstance(data, list | tuple):
        return [_plain_encoder(item) for item in data]
    if not isinstance(data, dict):
        return data
    return {key: _plain_encoder(v) for key, v in data.items() if v is not None and (key, v) != ("type", _USUAL)}


def _built(data: Any, where: str, classes: tuple[type, ...]) -> Any:
    """Build one of the classes from a table; ``where`` is its place in the file."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{where} expects a table, got {data!r}")
    cls = _class(data, where, classes)
    names = {field.name: field for field in fields(cls)}
    values = {key: value for key, value in data.items() if key != "type"}
    for key in values:
        if key not in names:
            raise ValueError(f"{where} has no key {key!r}; {nearest(key, names)}")
    missing = [name for name, field in names.items() if field.default is MISSING and name not in values]
    if missing:
        raise ValueError(f"{where} lacks the key {missing[0]!r}")
    hints = get_type_hints(cls)
    values = {key: _value(key, value, hints[key], _inside(where, key)) for key, value in values.items()}
    try:
        _schema(cls).model_validate(values)
        return cls(**values)
    except ValidationError as error:
        raise ValueError(_first(error, where)) from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from None


def _class(data: Mapping[str, Any], where: str, classes: tuple[type, ...]) -> type:
    known = {cls.__name__: cls for cls in classes}
    name = data.get("type", None if len(known) > 1 else next(iter(known)))
    if name is None:
        raise ValueError(f"{where} lacks the key 'type' (one of {', '.join(known)})")
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"{where} has the unknown type {name!r}; {nearest(str(name), known)}")
    return known[name]


def _value(key: str, value: Any, hint: Any, where: str) -> Any:
    """Return a value of a table as the class takes it: parts built, lists as tuples."""
    if value == _NONE and type(None) in get_args(hint):
        return None
    if key == "encoder":
        return _encoder(value, where)
    part = _PARTS.get(key)
    if key == "kind" and isinstance(value, str):
        if value not in (known := get_args(Kind)):
            raise ValueError(f"{where} has the unknown kind {value!r}; {nearest(value, known)}")
        return value
    if part is None:
        return _tuples(value)
    if not part.many:
        return _built(value, where, part.classes)
    if not isinstance(value, list | tuple):
        raise ValueError(f"{where} expects a list of tables, got {value!r}")
    return tuple(_built(item, f"{where}[{i}]", part.classes) for i, item in enumerate(value))


def _encoder(value: Any, where: str) -> Encoder:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} expects a table, got {value!r}")
    try:
        return encoder_from_dict({"type": _USUAL} | dict(value))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from None


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def _inside(where: str, key: str) -> str:
    return key if where == "model" else f"{where}.{key}"


@functools.cache
def _schema(cls: type) -> type[BaseModel]:
    """Return what checks the types of a class's parameters; the class itself checks their values."""
    hints = get_type_hints(cls)
    if cls is Model:
        hints["encoder"] = Any  # which checks itself; its parts are protocols, of which there are no instances
    config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)
    wanted: dict[str, Any] = {
        field.name: (hints[field.name], ... if field.default is MISSING else field.default) for field in fields(cls)
    }
    return create_model(cls.__name__, __config__=config, **wanted)


def _first(error: ValidationError, where: str) -> str:
    """Return the first of the errors in one line."""
    found = error.errors(include_url=False)
    place, *inner = found[0]["loc"]
    place = str(place) + "".join(f"[{i}]" for i in inner if isinstance(i, int))
    given = found[0]["input"]
    reasons = dict.fromkeys(str(one["msg"]) for one in found if one["loc"][0] == found[0]["loc"][0])
    return f"{_inside(where, place)}: {'; or '.join(reasons)}; got {_shown(given)}"


def _shown(value: Any) -> str:
    return repr(list(value)) if isinstance(value, tuple) else str(value) if _infinite(value) else repr(value)


def _infinite(value: Any) -> bool:
    return isinstance(value, float) and math.isinf(value)
