"""mopref: one model for every balance of objectives.

A preference λ on the simplex conditions one model, which then stands for the whole Pareto front. See ``ParetoTrainer``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Imported on first use, so that `import mopref` stays light.
_EXPORTS = {
    "AdaptiveSampler": "mopref.adaptive_sampler",
    "ConcatenationModel": "mopref.conditioning.concatenation",
    "DecisionModel": "mopref.conditioning.decision_model",
    "DirichletSampler": "mopref.sampler",
    "FiLMModel": "mopref.conditioning.film",
    "Front": "mopref.front",
    "HypernetworkModel": "mopref.conditioning.hypernetwork",
    "HypervolumeCallback": "mopref.callbacks",
    "LatticeSampler": "mopref.sampler",
    "LowDiscrepancySampler": "mopref.sampler",
    "Objective": "mopref.objective",
    "ParetoSetModel": "mopref.conditioning.pareto_set",
    "ParetoTrainer": "mopref.trainer",
    "PreferenceModel": "mopref.conditioning.preference_model",
    "PreferenceSampler": "mopref.sampler",
    "RowObjective": "mopref.objective",
    "SVDLoRAConfig": "mopref.conditioning.svd_lora",
    "Scalarizer": "mopref.scalarizer",
    "StratifiedSampler": "mopref.sampler",
    "TrainerCallback": "mopref.trainer",
    "TrainerConfig": "mopref.trainer_config",
    "UniformSampler": "mopref.sampler",
    "VertexBiasedSampler": "mopref.sampler",
    "even_preferences": "mopref.front_grid",
    "simplex_lattice": "mopref.preferences",
}

__all__ = [
    "AdaptiveSampler",
    "ConcatenationModel",
    "DecisionModel",
    "DirichletSampler",
    "FiLMModel",
    "Front",
    "HypernetworkModel",
    "HypervolumeCallback",
    "LatticeSampler",
    "LowDiscrepancySampler",
    "Objective",
    "ParetoSetModel",
    "ParetoTrainer",
    "PreferenceModel",
    "PreferenceSampler",
    "RowObjective",
    "SVDLoRAConfig",
    "Scalarizer",
    "StratifiedSampler",
    "TrainerCallback",
    "TrainerConfig",
    "UniformSampler",
    "VertexBiasedSampler",
    "__version__",
    "even_preferences",
    "simplex_lattice",
]

if TYPE_CHECKING:
    from mopref.adaptive_sampler import AdaptiveSampler
    from mopref.callbacks import HypervolumeCallback
    from mopref.conditioning.concatenation import ConcatenationModel
    from mopref.conditioning.decision_model import DecisionModel
    from mopref.conditioning.film import FiLMModel
    from mopref.conditioning.hypernetwork import HypernetworkModel
    from mopref.conditioning.pareto_set import ParetoSetModel
    from mopref.conditioning.preference_model import PreferenceModel
    from mopref.conditioning.svd_lora import SVDLoRAConfig
    from mopref.front import Front
    from mopref.front_grid import even_preferences
    from mopref.objective import Objective, RowObjective
    from mopref.preferences import simplex_lattice
    from mopref.sampler import (
        DirichletSampler,
        LatticeSampler,
        LowDiscrepancySampler,
        PreferenceSampler,
        StratifiedSampler,
        UniformSampler,
        VertexBiasedSampler,
    )
    from mopref.scalarizer import Scalarizer
    from mopref.trainer import ParetoTrainer, TrainerCallback
    from mopref.trainer_config import TrainerConfig


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'mopref' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
