"""How a preference enters a network. One way a file, and its line here."""

from mopref._faces import public_names as _public_names

from .concatenation import ConcatenationModel as ConcatenationModel
from .conditioned_model import ConditionedModel as ConditionedModel
from .decision_model import DecisionModel as DecisionModel
from .film import FiLMModel as FiLMModel
from .hypernetwork import HypernetworkModel as HypernetworkModel
from .pareto_set import ParetoSetModel as ParetoSetModel
from .preference_model import PreferenceModel as PreferenceModel
from .svd_lora import SVDLoRAConfig as SVDLoRAConfig

__all__ = _public_names(globals())
