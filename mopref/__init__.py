"""mopref: one model for every balance of objectives.

A preference λ on the simplex conditions one model, which then stands for the whole Pareto front. See ``ParetoTrainer``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Imported on first use, so that `import mopref` stays light.
_EXPORTS = {
    "DirichletSampler": "mopref.sampler",
    "Front": "mopref.front",
    "Objective": "mopref.objective",
    "ParetoSetModel": "mopref.conditioning.pareto_set",
    "ParetoTrainer": "mopref.trainer",
    "PreferenceModel": "mopref.conditioning.preference_model",
    "PreferenceSampler": "mopref.sampler",
    "RowObjective": "mopref.objective",
    "SVDLoRAConfig": "mopref.conditioning.svd_lora",
    "Scalarizer": "mopref.scalarizer",
    "TrainerCallback": "mopref.trainer",
    "TrainerConfig": "mopref.trainer_config",
    "UniformSampler": "mopref.sampler",
    "VertexBiasedSampler": "mopref.sampler",
    "simplex_lattice": "mopref.preferences",
}

__all__ = [
    "DirichletSampler",
    "Front",
    "Objective",
    "ParetoSetModel",
    "ParetoTrainer",
    "PreferenceModel",
    "PreferenceSampler",
    "RowObjective",
    "SVDLoRAConfig",
    "Scalarizer",
    "TrainerCallback",
    "TrainerConfig",
    "UniformSampler",
    "VertexBiasedSampler",
    "__version__",
    "simplex_lattice",
]

if TYPE_CHECKING:
    from mopref.conditioning.pareto_set import ParetoSetModel
    from mopref.conditioning.preference_model import PreferenceModel
    from mopref.conditioning.svd_lora import SVDLoRAConfig
    from mopref.front import Front
    from mopref.objective import Objective, RowObjective
    from mopref.preferences import simplex_lattice
    from mopref.sampler import DirichletSampler, PreferenceSampler, UniformSampler, VertexBiasedSampler
    from mopref.scalarizer import Scalarizer
    from mopref.trainer import ParetoTrainer, TrainerCallback
    from mopref.trainer_config import TrainerConfig


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'mopref' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
