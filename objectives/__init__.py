"""Objectives: what is minimised. One family a file; a new one is one file here plus its line below."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Imported on first use, so that a synthetic problem does not pay for language models.
_EXPORTS = {
    "DPO": "dpo",
    "DTLZ1": "dtlz",
    "DTLZ2": "dtlz",
    "DTLZ3": "dtlz",
    "DTLZ4": "dtlz",
    "InvertedDTLZ1": "dtlz",
    "Problem": "problem",
    "Quadratic": "quadratic",
    "RE21": "real_world",
    "RE24": "real_world",
    "RE33": "real_world",
    "RE37": "real_world",
    "RLHF": "rlhf",
    "SFT": "sft",
    "ScaledZDT1": "zdt",
    "VLMOP1": "vlmop",
    "VLMOP2": "vlmop",
    "VLMOP3": "vlmop",
    "ZDT1": "zdt",
    "ZDT2": "zdt",
    "ZDT3": "zdt",
    "ZDT4": "zdt",
    "ZDT6": "zdt",
}

__all__ = [
    "DPO",
    "DTLZ1",
    "DTLZ2",
    "DTLZ3",
    "DTLZ4",
    "RE21",
    "RE24",
    "RE33",
    "RE37",
    "RLHF",
    "SFT",
    "VLMOP1",
    "VLMOP2",
    "VLMOP3",
    "ZDT1",
    "ZDT2",
    "ZDT3",
    "ZDT4",
    "ZDT6",
    "InvertedDTLZ1",
    "Problem",
    "Quadratic",
    "ScaledZDT1",
]

if TYPE_CHECKING:
    from .dpo import DPO
    from .dtlz import DTLZ1, DTLZ2, DTLZ3, DTLZ4, InvertedDTLZ1
    from .problem import Problem
    from .quadratic import Quadratic
    from .real_world import RE21, RE24, RE33, RE37
    from .rlhf import RLHF
    from .sft import SFT
    from .vlmop import VLMOP1, VLMOP2, VLMOP3
    from .zdt import ZDT1, ZDT2, ZDT3, ZDT4, ZDT6, ScaledZDT1


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
