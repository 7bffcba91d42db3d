"""Methods that are compared with ours, all on the same rows, losses and evaluator, each with its budget."""

from mopref._faces import public_names as _public_names

from .interfaces import Budget as Budget, Cost as Cost, MethodPolicy as MethodPolicy, PolicyAt as PolicyAt
from .methods import METHODS as METHODS, Method as Method, MethodOptions as MethodOptions, make_method as make_method
from .mod import mixed_log_probabilities as mixed_log_probabilities
from .modpo import MODPO as MODPO, check_modpo as check_modpo, modpo_losses as modpo_losses
from .plain_lora import PlainLoRA as PlainLoRA, mixed_model as mixed_model
from .prompting import PromptWriter as PromptWriter, text_writer as text_writer
from .runs import (
    FixedSampler as FixedSampler,
    MethodSetup as MethodSetup,
    Trained as Trained,
    Trainings as Trainings,
)
from .soups import bone_mixing as bone_mixing, bone_preferences as bone_preferences

__all__ = _public_names(globals())
