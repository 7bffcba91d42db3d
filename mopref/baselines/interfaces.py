"""What every method is compared by: a policy at each preference, and what it cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mopref.argument_kinds import checked_fields, checked_kind, checks_arguments
from mopref.evaluation_mode import evaluation_mode
from mopref.llm.data.sequences import Sequences
from mopref.llm.policy import Policy, Response, Sampling
from mopref.preferences import validate_preferences

__all__ = ["Budget", "Cost", "MethodPolicy", "PolicyAt"]


class Cost(NamedTuple):
    """What one training took.

    Attributes:
        steps: optimiser steps.
        forwards: calls of the network, with and without gradients.
        trained_parameters: numbers that were trained.
        generated_tokens: tokens that were sampled for it.
        seconds: by the clock, of the training alone.
    """

    steps: int
    forwards: int
    trained_parameters: int
    generated_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Budget:
    """What a method takes, as if nothing of it were shared with another method.

    Args:
        runs: trainings.
        steps: optimiser steps of all of them.
        forwards: calls of the network in all of them.
        generated_tokens: tokens that were sampled for them.
        trained_parameters: numbers that were trained, of all runs together.
        stored_parameters: numbers beside the base model that serving every preference needs.
        passes_per_token: forwards of the network for one served token.
        seconds: of all trainings.
    """

    runs: int = 0
    steps: int = 0
    forwards: int = 0
    generated_tokens: int = 0
    trained_parameters: int = 0
    stored_parameters: int = 0
    passes_per_token: float = 1.0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        """Refuse fields of another kind, and numbers below 0."""
        checked_fields(self)
        for name, number in vars(self).items():
            if not 0 <= number < float("inf"):
                raise ValueError(f"{name} is {number}: a budget's numbers are finite and ≥ 0.")

    @classmethod
    @checks_arguments
    def of(cls, costs: Sequence[Cost], stored_parameters: int, passes_per_token: float = 1.0) -> "Budget":
        """The sum of trainings.

        Example:
            >>> Budget.of([Cost(steps=10, forwards=20, trained_parameters=6)] * 2, stored_parameters=12).steps
            20
        """
        for place, cost in enumerate(costs):
            checked_kind(cost, Cost, f"costs[{place}]")
        return cls(
            len(costs),
            sum(cost.steps for cost in costs),
            sum(cost.forwards for cost in costs),
            sum(cost.generated_tokens for cost in costs),
            sum(cost.trained_parameters for cost in costs),
            stored_parameters,
            passes_per_token,
            sum(cost.seconds for cost in costs),
        )


class PolicyAt:
    """A method's policy at one preference, π(y|x; λ): what an evaluator measures.

    Args:
        model: a ``PreferenceModel`` or ``ComposedPolicy``.
        preference: λ ``(1, m)``.
    """

    @checks_arguments
    def __init__(self, model: nn.Module, preference: Tensor) -> None:
        self.model, self.preference = model, preference

    def log_probabilities(self, sequences: Sequences) -> Tensor:
        """log π(y_t | x, y_<t; λ) of every response token, ``(N, R)``; 0 where a response is padded."""
        return Policy(self.model).token_log_probabilities(sequences, self.preference)

    def mean_losses(self, objective: Any, rows: Sequence[Any], batch_size: int = 16) -> Tensor:
        """An objective's m losses over rows, ``(m,)``, in evaluation mode and without gradients."""
        with evaluation_mode(self.model):
            losses: Tensor = objective.mean_losses(self.model, rows, self.preference, batch_size)
        return losses[0]

    def sample(self, prompt_ids: Sequence[Sequence[int]], sampling: Sampling, seed: int = 0) -> list[Response]:
        """A response to each prompt; the global random state stays as it was.

        Args:
            prompt_ids: lists of token ids.
            sampling: how; ``stop_token_ids`` must be given.
            seed: the same seed gives the same responses.
        """
        policy = Policy(self.model, sampling)
        devices = [policy.device] if policy.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            return policy.sample(prompt_ids, self.preference, 1).responses


@dataclass(frozen=True)
class MethodPolicy:
    """A method, trained: a policy at every preference that it serves.

    Args:
        name: of the method.
        model: what an evaluator is given: a ``PreferenceModel``, or a ``ComposedPolicy`` of one.
        budget: what it took.
        notes: what else is to be told, such as mixing weights, as JSON holds it.
    """

    name: str
    model: nn.Module
    budget: Budget
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse fields of another kind."""
        checked_fields(self)

    @property
    def objectives(self) -> tuple[str, ...]:
        """The names of the objectives, in the order of a preference."""
        return Policy(self.model).conditioned.objectives

    @checks_arguments
    def at(self, preference: Any) -> PolicyAt:
        """The policy at one preference, ``(m,)`` or by name.

        Raises:
            ValueError: a preference that does not lie on the simplex, or several.
        """
        rows = validate_preferences(preference, self.objectives)
        if len(rows) != 1:
            raise ValueError(f"{len(rows)} preferences were given where one policy is asked for: give a single one.")
        return PolicyAt(self.model, rows.to(Policy(self.model).device))
