"""Scalarizers: how the m losses become one. One method a file, and its line here."""

from mopref._faces import public_names as _public_names
from mopref.registry import SCALARIZERS as SCALARIZERS

from .achievement import (
    AchievementScalarizing as AchievementScalarizing,
    AugmentedAchievementScalarizing as AugmentedAchievementScalarizing,
)
from .cosmos import COSMOS as COSMOS
from .for_problem import scalarizer_for_problem as scalarizer_for_problem
from .hypervolume import Hypervolume as Hypervolume
from .inverted_pbi import InvertedPBI as InvertedPBI
from .linear import Linear as Linear
from .normalized import Normalized as Normalized
from .p_norm import PNorm as PNorm
from .pbi import PBI as PBI
from .smooth_tchebycheff import SmoothTchebycheff as SmoothTchebycheff
from .tchebycheff import (
    AugmentedTchebycheff as AugmentedTchebycheff,
    ModifiedTchebycheff as ModifiedTchebycheff,
    Tchebycheff as Tchebycheff,
)

__all__ = _public_names(globals())
