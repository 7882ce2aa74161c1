"""Checks of parameters, and frozen dataclasses to plain dicts and back."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import math
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

from eventsnn.validation import nearest


@dataclasses.dataclass(frozen=True)
class Table:
    """A float32 array as a value, compared and hashed by its content; :attr:`array` is read-only.

    In JSON it is base64 with its SHA-256, which the text around it does not have otherwise.
    """

    shape: tuple[int, ...]
    data: bytes = dataclasses.field(repr=False)

    @property
    def array(self) -> np.ndarray:
        """The array, float32."""
        return np.frombuffer(self.data, "<f4").reshape(self.shape)

    def to_plain(self) -> dict[str, Any]:
        """Return shape, content and its hash as JSON values."""
        digest = hashlib.sha256(self.data).hexdigest()
        return {"shape": list(self.shape), "float32": base64.b64encode(self.data).decode(), "sha256": digest}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Table:
        """Return what :meth:`to_plain` wrote, or raise ``ValueError``."""
        try:
            shape, data = tuple(int(n) for n in plain["shape"]), base64.b64decode(plain["float32"], validate=True)
            digest = plain["sha256"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"an array expects shape, float32 (base64) and sha256: {error!r}") from None
        if min(shape, default=0) < 0 or len(data) != 4 * math.prod(shape):
            raise ValueError(f"an array of shape {shape} expects {4 * math.prod(shape)} bytes, got {len(data)}")
        if hashlib.sha256(data).hexdigest() != digest:
            raise ValueError(f"an array of shape {shape} does not have the SHA-256 {digest!r} written beside it")
        return cls(shape, data)


def table(owner: object, name: str, ndim: int) -> None:
    """Replace a field, given as :class:`Table`, as its plain form or as an array of numbers, by a :class:`Table`."""
    value = getattr(owner, name)
    who = f"{type(owner).__name__}: {name}"
    try:
        found = value if isinstance(value, Table) else Table.from_plain(value) if isinstance(value, Mapping) else None
        array = np.asarray(value, np.float32) if found is None else found.array
    except (TypeError, ValueError) as error:
        raise ValueError(f"{who}: {error}") from None
    if array.ndim != ndim or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"{who} expects finite numbers with {ndim} axes, got shape {array.shape}")
    object.__setattr__(owner, name, found or Table(array.shape, array.astype("<f4").tobytes()))


def choice(owner: object, name: str, known: Iterable[str]) -> None:
    """Refuse a field that is not one of the known words."""
    value = getattr(owner, name)
    if value not in (words := list(known)):
        raise ValueError(f"{type(owner).__name__}: {name} expects one of {', '.join(words)}, got {value!r}")


def integer(owner: object, name: str, least: int) -> None:
    """Replace a field of a frozen dataclass by the same number as ``int``, or say what is wrong with it."""
    value = getattr(owner, name)
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{type(owner).__name__}: {name} expects an integer of at least {least}, got {value!r}")
    object.__setattr__(owner, name, int(value))


def number(owner: object, name: str, least: float = -math.inf, above: float = -math.inf) -> None:
    """Replace a field by the same number as ``float``, or say what is wrong with it."""
    object.__setattr__(owner, name, _number(owner, name, getattr(owner, name), least, above))


def numbers(owner: object, name: str, least: float) -> None:
    """Replace a field by the same numbers as a tuple of ``float``, or say what is wrong with it."""
    values = getattr(owner, name)
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ValueError(f"{type(owner).__name__}: {name} expects a sequence of numbers, got {values!r}")
    checked = tuple(_number(owner, name, value, least, -math.inf) for value in values)
    if not checked:
        raise ValueError(f"{type(owner).__name__}: {name} expects at least one number, got none")
    object.__setattr__(owner, name, checked)


def members(owner: object, name: str, method: str, least: int = 1) -> None:
    """Replace a field by a tuple of the same values, each of which must have ``method``."""
    values = getattr(owner, name)
    if not isinstance(values, Iterable):
        raise ValueError(f"{type(owner).__name__}: {name} expects a sequence, got {values!r}")
    found = tuple(values)
    for value in found:
        if isinstance(value, type) or not callable(getattr(value, method, None)):
            raise ValueError(f"{type(owner).__name__}: {name} expects values with {method}(), got {value!r}")
    if len(found) < least:
        raise ValueError(f"{type(owner).__name__}: {name} expects at least {least}, got {len(found)}")
    object.__setattr__(owner, name, found)


def flag(owner: object, name: str) -> None:
    """Refuse anything but True and False."""
    value = getattr(owner, name)
    if not isinstance(value, bool):
        raise ValueError(f"{type(owner).__name__}: {name} expects True or False, got {value!r}")


def to_plain(value: Any) -> Any:
    """Return a frozen dataclass as a dict of plain Python values, its class's name under ``"type"``."""
    if isinstance(value, Table):
        return value.to_plain()
    if dataclasses.is_dataclass(value):
        fields = {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__} | fields
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    return value


def from_plain(data: Any, what: str, classes: Iterable[type], parts: Mapping[str, tuple[str, Iterable[type]]]) -> Any:
    """Build the dataclass that :func:`to_plain` wrote, if it is one of ``classes``.

    ``parts`` names the parameters that hold dataclasses (one or a list), what they are and of which classes.

    Raises
    ------
    ValueError
        If a type is not among the classes, or a parameter is unknown, missing or has a bad value; the nearest
        known name is given.
    """
    known = {cls.__name__: cls for cls in classes}
    if not isinstance(data, Mapping) or "type" not in data:
        raise ValueError(f"{what} expects a dict with the key 'type', got {data!r}")
    if data["type"] not in known:
        raise ValueError(f"unknown {what} {data['type']!r}; {nearest(str(data['type']), known)}")
    cls = known[data["type"]]
    values = {name: value for name, value in data.items() if name != "type"}
    _check_parameters(cls, values)
    for name in parts.keys() & values.keys():
        value, part = values[name], parts[name]
        values[name] = (
            [from_plain(item, *part, parts) for item in value]
            if isinstance(value, list | tuple)
            else from_plain(value, *part, parts)
        )
    return cls(**values)


def _check_parameters(cls: type, values: Iterable[str]) -> None:
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for name in values:
        if name not in fields:
            raise ValueError(f"{cls.__name__} has no parameter {name!r}; {nearest(str(name), fields)}")
    needed = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
    missing = [name for name in needed if name not in values]
    if missing:
        raise ValueError(f"{cls.__name__} lacks the parameter {missing[0]!r}")


def _number(owner: object, name: str, value: Any, least: float, above: float) -> float:
    real = isinstance(value, Real) and not isinstance(value, bool)
    if not real or not math.isfinite(value) or value < least or value <= above:
        wanted = f" above {above:g}" if above > -math.inf else f" of at least {least:g}" if least > -math.inf else ""
        raise ValueError(f"{type(owner).__name__}: {name} expects a finite number{wanted}, got {value!r}")
    return float(value)
