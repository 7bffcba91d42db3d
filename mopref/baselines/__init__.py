"""Methods that are compared with ours, all on the same rows, losses and evaluator, each with its budget."""

from mopref._faces import public_names as _public_names

from .activations import (
    ActivationAddition as ActivationAddition,
    activation_addition as activation_addition,
    mean_differences as mean_differences,
)
from .conditioned import (
    OtherPreference as OtherPreference,
    fixed_preference as fixed_preference,
    ours as ours,
    paper as paper,
    paper_config as paper_config,
    shuffled_preferences as shuffled_preferences,
)
from .dps import dps as dps
from .interfaces import Budget as Budget, Cost as Cost, MethodPolicy as MethodPolicy, PolicyAt as PolicyAt
from .methods import METHODS as METHODS, Method as Method, MethodOptions as MethodOptions, make_method as make_method
from .mod import MODDecoding as MODDecoding, mixed_log_probabilities as mixed_log_probabilities, mod as mod
from .modpo import (
    MODPO as MODPO,
    modpo as modpo,
    modpo_losses as modpo_losses,
    with_corner_margins as with_corner_margins,
)
from .per_preference import LoRAPerPreference as LoRAPerPreference
from .plain_lora import (
    PlainLoRA as PlainLoRA,
    mixed_model as mixed_model,
    plain_model as plain_model,
    trained_lora as trained_lora,
)
from .prompting import (
    PromptConditioned as PromptConditioned,
    PromptWriter as PromptWriter,
    prompt_conditioned as prompt_conditioned,
    text_writer as text_writer,
)
from .runs import (
    FixedSampler as FixedSampler,
    MethodSetup as MethodSetup,
    Trained as Trained,
    Trainings as Trainings,
)
from .soups import (
    bone_mixing as bone_mixing,
    bone_preferences as bone_preferences,
    bone_soup as bone_soup,
    rewarded_soup as rewarded_soup,
)

__all__ = _public_names(globals())
