"""One model for all preferences: ours, as the setup has it, the paper's preset, and controls of both."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mopref.baselines.interfaces import Budget, MethodPolicy
from mopref.baselines.runs import Trainings
from mopref.conditioning import SVDLoRAConfig
from mopref.llm.data.sequences import Sequences
from mopref.llm.policy import Policy, Response, Sampling, sample_responses
from mopref.llm.policy.composed import ComposedPolicy
from mopref.sampler import PreferenceSampler
from mopref.samplers import VertexBiasedSampler

__all__ = [
    "OtherPreference",
    "fixed_preference",
    "ours",
    "paper",
    "paper_config",
    "pblora",
    "pblora_config",
    "shuffled_preferences",
]

# Of public re-implementations.
_PAPER_RATE = 2e-3


def ours(trainings: Trainings) -> MethodPolicy:
    """The setup's own adapters, scalarizer and sampler: one run for all preferences."""
    setup = trainings.setup
    return _conditioned("ours", trainings, setup.adapter)


def paper_config(adapter: SVDLoRAConfig) -> SVDLoRAConfig:
    """The paper's preset with the same total rank: p = 1, k = total − m, c = 512/k, start at σ = s = 0."""
    others = {"target_modules": adapter.target_modules, "layers": adapter.layers, "seed": adapter.seed}
    rank = adapter.total_rank - len(adapter.objectives)
    return SVDLoRAConfig.paper(adapter.objectives, max(1, rank), **others)


def paper(trainings: Trainings) -> MethodPolicy:
    """The paper's preset: one λ a step, corners drawn with raised probability, learning rate 2e-3.

    Source: Panacea, arXiv 2402.02030, as public re-implementations set it.
    """
    setup = trainings.setup
    sampler = VertexBiasedSampler(setup.names)
    settings: dict[str, Any] = {"preferences_per_step": 1, "learning_rate": _PAPER_RATE}
    return _conditioned("paper", trainings, paper_config(setup.adapter), sampler, **settings)


def pblora_config(adapter: SVDLoRAConfig) -> SVDLoRAConfig:
    """PBLoRA with the same total rank: full cores of k × k and p·m × p·m, which start as in its own code."""
    return replace(adapter, core="full", gate="linear", initialization="pblora")


def pblora(trainings: Trainings) -> MethodPolicy:
    """PBLoRA's adapters, all else as in ours: scalarizer, sampler, rate and c are the setup's own.

    Source: B. Lin et al., PARM: Multi-Objective Test-Time Alignment via Preference-Aware Autoregressive Reward Model
    (arXiv 2505.06274), whose adapters guide another model's decoding; here they are the policy's own.
    """
    return _conditioned("pblora", trainings, pblora_config(trainings.setup.adapter))


def _conditioned(
    name: str,
    trainings: Trainings,
    adapter: SVDLoRAConfig,
    sampler: PreferenceSampler | None = None,
    **settings: Any,
) -> MethodPolicy:
    make: Callable[[], nn.Module] = lambda: trainings.setup.make_model(adapter)  # noqa: E731
    trained = trainings.trained(name, make_model=make, sampler=sampler, **settings)
    model = trainings.setup.make_model(adapter)
    trained.put_into(model)
    return MethodPolicy(name, model, Budget.of([trained.cost], trained.cost.trained_parameters))


class OtherPreference(ComposedPolicy):
    """A model that is asked for another λ than it is told: a control of what λ does at inference.

    Args:
        model: a ``PreferenceModel``.
        other: preferences ``(N, m)`` to those that the model is run with, ``(N, m)``.
    """

    def __init__(self, model: nn.Module, other: Callable[[Tensor], Tensor]) -> None:
        super().__init__(Policy(model).conditioned)
        self.other = other

    def forward(self, *args: Any, preferences: Tensor, **kwargs: Any) -> Any:
        """The model's output at the other preferences."""
        return self.module(*args, preferences=self.other(preferences), **kwargs)

    def composed_log_probabilities(self, sequences: Sequences, preferences: Tensor, sampling: Sampling) -> Tensor:
        """Those of the model at the other preferences, ``(N, R)``."""
        return Policy(self.module, sampling).token_log_probabilities(sequences, self.other(preferences))

    def composed_responses(
        self, prompt_ids: Sequence[Sequence[int]], preferences: Tensor, sampling: Sampling, greedy: bool
    ) -> list[Response]:
        """Responses of the model at the other preferences."""
        return sample_responses(self.module, prompt_ids, self.other(preferences), sampling, greedy=greedy)


def fixed_preference(policy: MethodPolicy) -> MethodPolicy:
    """A control: the model at the centre of the simplex, whatever λ is asked for."""
    m = len(policy.objectives)

    def centre(preferences: Tensor) -> Tensor:
        return torch.full_like(preferences, 1 / m)

    return MethodPolicy("fixed", OtherPreference(policy.model, centre), policy.budget, {"of": policy.name})


def shuffled_preferences(policy: MethodPolicy, preferences: Tensor, seed: int = 0) -> MethodPolicy:
    """A control: each of the preferences is answered with another one of them.

    Args:
        policy: the method.
        preferences: ``(N, m)``, N ≥ 2.
        seed: of the permutation, in which none stays in its place.

    Raises:
        ValueError: fewer than two preferences.
    """
    places = _derangement(len(preferences), seed)
    known = preferences.detach().cpu().double()

    def shuffled(asked: Tensor) -> Tensor:
        nearest = torch.cdist(asked.detach().cpu().double(), known).argmin(dim=1)
        return known[torch.tensor(places)[nearest]].to(asked)

    notes = {"of": policy.name, "places": places}
    return MethodPolicy("shuffled", OtherPreference(policy.model, shuffled), policy.budget, notes)


def _derangement(count: int, seed: int) -> list[int]:
    """A permutation that leaves no place as it is: those of Sattolo's algorithm are one cycle."""
    if count < 2:
        raise ValueError(f"{count} preferences cannot be shuffled: give two or more.")
    generator = torch.Generator().manual_seed(seed)
    places: list[int] = list(range(count))
    for last in range(count - 1, 0, -1):
        other = int(torch.randint(last, (), generator=generator))
        places[last], places[other] = places[other], places[last]
    return places
