"""Settings of studies as TOML files, checked key by key before anything is done."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import reduce
from operator import or_
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from eventsnn.study.crossover import Sparsity
from eventsnn.study.growth import Scaling
from eventsnn.study.tradeoffs import Tradeoff
from eventsnn.validation import nearest

Settings = Sparsity | Tradeoff | Scaling
STUDIES: dict[str, type[Sparsity] | type[Tradeoff] | type[Scaling]] = {
    "sparsity": Sparsity,
    "tradeoff": Tradeoff,
    "scaling": Scaling,
}


def load(path: str | os.PathLike[str], study: str | None = None) -> Settings:
    """Read the settings of a study from a TOML file.

    Parameters
    ----------
    path : path
        Has the key ``study`` and fields of :class:`Sparsity`, :class:`Tradeoff` or :class:`Scaling`; what is left out
        has its default.
    study : str, optional
        Which study it has to be; then the file may leave that out.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not TOML, or a key is unknown (the nearest known one is named) or has a bad value; the message names
        file and key.
    """
    try:
        return from_dict(tomllib.loads(Path(path).read_text(encoding="utf-8")), study)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def from_dict(data: Mapping[str, Any], study: str | None = None) -> Settings:
    """Build settings from the values of a TOML file.

    Raises
    ------
    TypeError, ValueError
        As :func:`load`.
    """
    named = data.get("study", study)
    if named is None:
        raise ValueError(f"lacks the key 'study' (one of {', '.join(STUDIES)})")
    if not isinstance(named, str) or named not in STUDIES:
        raise ValueError(f"study has the unknown name {named!r}; {nearest(str(named), STUDIES)}")
    if study not in (None, named):
        raise ValueError(f"expected settings of the study {study!r}, found those of {named!r}")
    kind = STUDIES[named]
    given = {key: value for key, value in data.items() if key != "study"}
    _check_keys(given, kind, named)
    try:
        checked = _schema(kind).model_validate_json(json.dumps(given, default=str))
    except ValidationError as error:
        raise ValueError(_first(error, given)) from None
    return kind(**{name: getattr(checked, name) for name in given})


def small(settings: Settings) -> Settings:
    """Return settings with all values of the quick study that differ from the usual ones."""
    usual, quick = type(settings)(), type(settings).quick()
    changed = {field.name: getattr(quick, field.name) for field in fields(quick)}
    return replace(settings, **{n: v for n, v in changed.items() if v != getattr(usual, n)})


def _check_keys(data: Mapping[str, Any], kind: type, where: str) -> None:
    """Refuse unknown keys, of tables in lists too."""
    hints = get_type_hints(kind)
    for key, value in data.items():
        if key not in hints:
            raise ValueError(f"{where} has no key {key!r}; {nearest(key, hints)}")
        inner = [one for one in get_args(hints[key]) if isinstance(one, type) and is_dataclass(one)]
        tables = value if inner and isinstance(value, list) else []
        for i, table in enumerate(tables):
            if isinstance(table, Mapping):
                _check_keys(table, inner[0], f"{key}[{i}]")


def _schema(kind: type) -> type[BaseModel]:
    """Return what checks the types of settings, which check their values themselves."""
    hints = {name: _written(hint) for name, hint in get_type_hints(kind).items()}
    wanted: dict[str, Any] = {field.name: (hints[field.name], field.default) for field in fields(kind)}
    return create_model(kind.__name__, __config__=ConfigDict(extra="forbid", strict=True), **wanted)


def _written(hint: Any) -> Any:
    """Return of a union what can be written in a file: values and tables, but no recipe in full."""
    if not isinstance(hint, UnionType):
        return hint
    return reduce(or_, [one for one in get_args(hint) if not is_dataclass(one)])


def _first(error: ValidationError, data: Mapping[str, Any]) -> str:
    """Return the first of the errors in one line."""
    found = error.errors(include_url=False)[0]
    key, *inner = found["loc"]
    place = str(key) + "".join(f"[{i}]" if isinstance(i, int) else f".{i}" for i in inner if not _is_kind(i))
    given = data[str(key)] if len(inner) > 1 else found["input"]
    return f"{place}: {found['msg'].removeprefix('Value error, ')}; got {given!r}"


def _is_kind(place: int | str) -> bool:
    """Tell whether a place is one of pydantic's names for the members of a union."""
    return place in ("float", "str", "int")
