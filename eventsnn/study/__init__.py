"""Studies: what sparsity buys, measured."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eventsnn.study.peak import vector_adds_per_second
    from eventsnn.study.profiling import profile

_MODULES = {
    "profile": "profiling",
    "vector_adds_per_second": "peak",
}

__all__ = ["profile", "vector_adds_per_second"]


if not TYPE_CHECKING:  # which would then take every name for known

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module 'eventsnn.study' has no attribute {name!r}")
        value = getattr(import_module(f"eventsnn.study.{_MODULES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
