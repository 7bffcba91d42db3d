"""Objectives: what is minimised. One family a file; a new one is one file here plus its line below."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Imported on first use, so that a synthetic problem does not pay for language models.
_EXPORTS = {
    "DPO": "dpo",
    "DTLZ2": "dtlz",
    "Problem": "problem",
    "Quadratic": "quadratic",
    "VLMOP2": "vlmop",
    "ZDT1": "zdt",
    "ZDT2": "zdt",
}

__all__ = ["DPO", "DTLZ2", "VLMOP2", "ZDT1", "ZDT2", "Problem", "Quadratic"]

if TYPE_CHECKING:
    from .dpo import DPO
    from .dtlz import DTLZ2
    from .problem import Problem
    from .quadratic import Quadratic
    from .vlmop import VLMOP2
    from .zdt import ZDT1, ZDT2


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
