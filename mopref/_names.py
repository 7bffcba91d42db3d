"""The user's names, each written once; ``mopref`` loads them when the first is asked for."""

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
    EvaluationCallback as EvaluationCallback,
    HypervolumeCallback as HypervolumeCallback,
    ParetoTrainer as ParetoTrainer,
    TrainerCallback as TrainerCallback,
    TrainerConfig as TrainerConfig,
)
