"""Scalarizers, one method a file. A new one is one file here plus its lines below and in ``mopref/registry.py``."""

from typing import Any

from mopref.registry import SCALARIZERS
from mopref.scalarizer import Scalarizer

from .achievement import AchievementScalarizing, AugmentedAchievementScalarizing
from .cosmos import COSMOS
from .for_problem import scalarizer_for_problem
from .hypervolume import Hypervolume
from .inverted_pbi import InvertedPBI
from .linear import Linear
from .normalized import Normalized
from .p_norm import PNorm
from .pbi import PBI
from .smooth_tchebycheff import SmoothTchebycheff
from .tchebycheff import AugmentedTchebycheff, ModifiedTchebycheff, Tchebycheff

__all__ = [
    "COSMOS",
    "PBI",
    "SCALARIZERS",
    "AchievementScalarizing",
    "AugmentedAchievementScalarizing",
    "AugmentedTchebycheff",
    "Hypervolume",
    "InvertedPBI",
    "Linear",
    "ModifiedTchebycheff",
    "Normalized",
    "PNorm",
    "SmoothTchebycheff",
    "Tchebycheff",
    "scalarizer_by_name",
    "scalarizer_for_problem",
]


def scalarizer_by_name(name: str, **options: Any) -> Scalarizer:
    """Make a scalarizer by its registered name, with the options of its class.

    Raises:
        ValueError: an unknown name; the known ones are listed.
    """
    return SCALARIZERS.make(name, **options)
