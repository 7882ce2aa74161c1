"""Studies: what sparsity buys, measured."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# For type checkers and editors; a program imports each name when it first asks for it.
if TYPE_CHECKING:
    from eventsnn.study import cost, report, results
    from eventsnn.study.crossover import Sparsity, sparsity
    from eventsnn.study.growth import Scaling, scaling
    from eventsnn.study.pareto import front, means
    from eventsnn.study.peak import vector_adds_per_second
    from eventsnn.study.profiling import profile
    from eventsnn.study.shapes import LayerShape
    from eventsnn.study.tradeoffs import Tradeoff, tradeoff

_NAMES = {
    "crossover": "Sparsity sparsity",
    "growth": "Scaling scaling",
    "pareto": "front means",
    "peak": "vector_adds_per_second",
    "profiling": "profile",
    "shapes": "LayerShape",
    "tradeoffs": "Tradeoff tradeoff",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = [
    "LayerShape",
    "Scaling",
    "Sparsity",
    "Tradeoff",
    "cost",
    "front",
    "means",
    "profile",
    "report",
    "results",
    "scaling",
    "sparsity",
    "tradeoff",
    "vector_adds_per_second",
]


if not TYPE_CHECKING:  # which would then take every name for known

    def __getattr__(name: str) -> Any:
        if name in ("cost", "report", "results"):
            return import_module(f"eventsnn.study.{name}")
        if name not in _MODULES:
            raise AttributeError(f"module 'eventsnn.study' has no attribute {name!r}")
        value = getattr(import_module(f"eventsnn.study.{_MODULES[name]}"), name)
        globals()[name] = value  # the next time it is found without coming here
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
