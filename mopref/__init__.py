"""mopref: one model for every balance of objectives.

A preference λ on the simplex conditions one model, which then stands for the whole Pareto front. See ``ParetoTrainer``.
"""

from mopref._faces import public_names as _public_names
from mopref.conditioning import (
    ConcatenationModel as ConcatenationModel,
    DecisionModel as DecisionModel,
    FiLMModel as FiLMModel,
    HypernetworkModel as HypernetworkModel,
    ParetoSetModel as ParetoSetModel,
    PreferenceModel as PreferenceModel,
    SVDLoRAConfig as SVDLoRAConfig,
)
from mopref.front import Front as Front, even_preferences as even_preferences
from mopref.objective import Objective as Objective, RowObjective as RowObjective
from mopref.preferences import simplex_lattice as simplex_lattice
from mopref.problem import Problem as Problem
from mopref.samplers import (
    DirichletSampler as DirichletSampler,
    LatticeSampler as LatticeSampler,
    LowDiscrepancySampler as LowDiscrepancySampler,
    PreferenceSampler as PreferenceSampler,
    StratifiedSampler as StratifiedSampler,
    UniformSampler as UniformSampler,
    VertexBiasedSampler as VertexBiasedSampler,
)
from mopref.scalarizer import Scalarizer as Scalarizer
from mopref.training import (
    HypervolumeCallback as HypervolumeCallback,
    ParetoTrainer as ParetoTrainer,
    TrainerCallback as TrainerCallback,
    TrainerConfig as TrainerConfig,
)

__version__ = "0.2.0"

__all__ = _public_names(globals())
