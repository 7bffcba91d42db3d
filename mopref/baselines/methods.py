"""The methods of a comparison by name. A new one is one line here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from mopref.argument_kinds import checked_fields, checks_arguments
from mopref.baselines.activations import activation_addition
from mopref.baselines.conditioned import fixed_preference, ours, paper, pblora, shuffled_preferences
from mopref.baselines.dps import dps
from mopref.baselines.interfaces import MethodPolicy
from mopref.baselines.mod import mod
from mopref.baselines.modpo import modpo
from mopref.baselines.prompting import PromptWriter, prompt_conditioned
from mopref.baselines.runs import Trainings
from mopref.baselines.soups import bone_soup, rewarded_soup

__all__ = ["METHODS", "Method", "MethodOptions", "make_method"]


@dataclass(frozen=True)
class MethodOptions:
    """What methods need beside the trainings.

    Args:
        preferences: ``(N, m)``, what is served and measured.
        writer: writes λ into prompts; ``None`` where no method needs it.
        bone_beta: β of Bone Soup.
        modpo_index: k of MODPO.
        activation_block: the block of activation addition; ``None`` for the middle one.
        activation_strength: its α.
        seed: of the shuffle.
    """

    preferences: Tensor
    writer: PromptWriter | None = None
    bone_beta: float = 0.7
    modpo_index: int = 0
    activation_block: int | None = None
    activation_strength: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse fields of another kind."""
        checked_fields(self)
        if self.preferences.ndim != 2 or len(self.preferences) == 0:
            raise ValueError(f"preferences have shape {tuple(self.preferences.shape)}: give (N, m), one row at least.")


class Method(NamedTuple):
    """A method of a comparison.

    Attributes:
        title: what a table calls it.
        make: trains it: ``(trainings, options)`` to its policy.
        is_control: whether it only shows what λ does in ours.
    """

    title: str
    make: Callable[[Trainings, MethodOptions], MethodPolicy]
    is_control: bool = False


def _prompt(trainings: Trainings, options: MethodOptions) -> MethodPolicy:
    if options.writer is None:
        raise ValueError("writer is None: give one that writes λ into prompts, or leave the method 'prompt' out.")
    return prompt_conditioned(trainings, options.writer)


# In the order of a table.
METHODS: Mapping[str, Method] = {
    "ours": Method("ours", lambda trainings, _: ours(trainings)),
    "paper": Method("the paper's preset", lambda trainings, _: paper(trainings)),
    "pblora": Method("PBLoRA", lambda trainings, _: pblora(trainings)),
    "dps": Method("one LoRA for each λ", lambda trainings, o: dps(trainings, o.preferences)),
    "dps-total": Method(
        "one LoRA for each λ, equal steps in total", lambda trainings, o: dps(trainings, o.preferences, True)
    ),
    "rewarded-soup": Method("Rewarded Soup", lambda trainings, _: rewarded_soup(trainings)),
    "bone-soup": Method("Bone Soup", lambda trainings, o: bone_soup(trainings, o.preferences, o.bone_beta)),
    "modpo": Method("MODPO", lambda trainings, o: modpo(trainings, o.preferences, o.modpo_index)),
    "prompt": Method("λ in the prompt", _prompt),
    "mod": Method("MOD decoding", lambda trainings, _: mod(trainings)),
    "activation": Method(
        "activation addition",
        lambda trainings, o: activation_addition(trainings.setup, o.activation_block, o.activation_strength),
    ),
    "shuffled": Method(
        "ours, shuffled λ",
        lambda trainings, o: shuffled_preferences(ours(trainings), o.preferences, o.seed),
        is_control=True,
    ),
    "fixed": Method("ours, fixed λ", lambda trainings, _: fixed_preference(ours(trainings)), is_control=True),
}


@checks_arguments
def make_method(name: str, trainings: Trainings, options: MethodOptions) -> MethodPolicy:
    """A method, trained where it was not before.

    Args:
        name: a name in ``METHODS``.
        trainings: of the comparison.
        options: what methods need beside them.

    Raises:
        ValueError: an unknown method; the known ones are listed.
    """
    if name not in METHODS:
        raise ValueError(f"there is no method {name!r}: choose among {', '.join(METHODS)}.")
    return METHODS[name].make(trainings, options)
