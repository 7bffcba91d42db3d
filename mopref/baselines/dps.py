"""DPS, one model for each preference: the oracle of what a run for a single λ reaches."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mopref.baselines.interfaces import Budget, MethodPolicy
from mopref.baselines.per_preference import LoRAPerPreference
from mopref.baselines.plain_lora import PlainLoRA, plain_model, trained_lora
from mopref.baselines.runs import Trainings

__all__ = ["dps", "policy_of_loras"]


def dps(trainings: Trainings, preferences: Tensor, equal_total: bool = False) -> MethodPolicy:
    """A plain LoRA for each preference, with the setup's scalarizer.

    Args:
        trainings: of the comparison.
        preferences: ``(N, m)``.
        equal_total: whether all runs together have the setup's steps, in place of each; at least one a run.

    Source: the paper's discrete policy solutions, arXiv 2402.02030.
    """
    setup = trainings.setup
    options: dict[str, Any] = {"steps": max(1, setup.config.steps // len(preferences))} if equal_total else {}
    loras = [trained_lora(trainings, preference, **options) for preference in preferences.tolist()]
    return policy_of_loras("dps-total" if equal_total else "dps", trainings, preferences, loras)


def policy_of_loras(
    name: str, trainings: Trainings, preferences: Tensor, loras: Sequence[PlainLoRA], others: Sequence[PlainLoRA] = ()
) -> MethodPolicy:
    """The policy of one LoRA for each preference.

    Args:
        name: of the method.
        trainings: of the comparison.
        preferences: ``(N, m)``.
        loras: N of them.
        others: what was trained beside them, and is not served.
    """
    setup = trainings.setup
    model = LoRAPerPreference(plain_model(setup.make_model, setup.adapter), preferences, loras)
    stored = sum(lora.num_parameters for lora in loras)
    return MethodPolicy(name, model, Budget.of([lora.cost for lora in (*loras, *others)], stored))
