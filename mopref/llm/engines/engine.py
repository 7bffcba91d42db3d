"""RolloutEngine: what samples responses outside of the trainer, and how its samples become the trainer's.

An engine computes in other kernels and often in another precision than the trainer, so that what it samples from is not
quite the policy that is trained. Its own log-probability of each token comes with the sample, the trainer computes its
own, and the ratio of the two corrects the policy gradient.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mopref.llm.data.sequences import collate_sequences
from mopref.llm.policy.generation import Response, Sampling
from mopref.llm.policy.log_probabilities import TokenOutputs
from mopref.llm.policy.policy import Policy
from mopref.option_checks import checked_positive
from mopref.registry import Registry
from mopref.setting_types import python_value

__all__ = ["ENGINES", "EngineSamples", "RolloutEngine", "mean_difference", "sampled_by"]


class EngineSamples(NamedTuple):
    """N = B·S responses, those of one prompt together.

    Attributes:
        responses: N responses.
        log_probabilities: ``(N, R)``, what the engine says of each token of the distribution that it sampled from; 0
            where a response is padded; float32 on the CPU.
    """

    responses: list[Response]
    log_probabilities: Tensor


class RolloutEngine(ABC):
    """Samples responses of a policy at preferences; a new engine implements :meth:`check` and :meth:`sample`.

    Args:
        importance_limit: C ≥ 1. Each token's policy gradient is multiplied with min(π/π_engine, C), π being the
            trainer's own policy at the rollout.
        tolerance: the most that |log π − log π_engine| may be in the mean of a rollout's tokens, in nats: an engine
            that differs more has other weights, and its samples are refused.

    Raises:
        ValueError: a value out of its range, named.

    Source: truncated importance sampling of Yao, Liu et al., On the Rollout-Training Mismatch in Modern RL Systems
    (2025), token by token.
    """

    def __init__(self, importance_limit: float = 2.0, tolerance: float = 0.2) -> None:
        self.importance_limit = python_value(importance_limit, float, "importance_limit")
        if not 1 <= self.importance_limit < math.inf:
            raise ValueError(
                f"importance_limit is {self.importance_limit}: a token whose two probabilities are equal has the "
                "weight 1, so give at least 1, finite."
            )
        self.tolerance = checked_positive(
            tolerance, "tolerance", "rounding alone makes the two differ, so it must be > 0"
        )

    @abstractmethod
    def check(self, policy: Policy, data: Sequence[Any]) -> None:
        """Refuse an engine that is not there, or does not sample from the policy, before any training.

        Draws nothing from a global random generator.

        Args:
            policy: the conditioned model with its sampling settings, which are complete.
            data: the training rows, with ``prompt_ids`` that the policy can answer.

        Raises:
            ValueError: an engine of another model, or with settings under which it cannot be used.
            ConnectionError: an engine that does not answer.
        """

    @abstractmethod
    def sample(
        self, policy: Policy, prompt_ids: Sequence[Sequence[int]], preferences: Tensor, samples_per_prompt: int
    ) -> EngineSamples:
        """S responses to each of B prompts under its own preference, with the model's parameters as they are now.

        Seeds come from PyTorch's global generator, so that a resumed run asks for the same samples.

        Args:
            policy: the conditioned model with its sampling settings.
            prompt_ids: B lists of token ids.
            preferences: ``(B, m)``.
            samples_per_prompt: S.

        Raises:
            ValueError: an answer that cannot be one of this policy's.
            ConnectionError: an engine that does not answer.
        """

    def refuse_difference(self, difference: float, sampling: Sampling) -> None:
        """Refuse samples of another distribution than the policy's.

        Args:
            difference: the mean of a token, as :func:`mean_difference` gives it.
            sampling: with ``top_p`` < 1 the engine's distribution is cut, by which the two may differ besides.

        Raises:
            ValueError: more than the tolerance, or no number.
        """
        allowed = self.tolerance - math.log(sampling.top_p)
        if not difference <= allowed:
            raise ValueError(
                f"the log-probabilities of {self!r} differ from the trainer's by {difference:.3g} nats a token in the "
                f"mean, and {allowed:.3g} are allowed: it serves another base model, or in a much coarser precision. "
                "Start it with the base model that is trained, or allow more by tolerance."
            )


def sampled_by(
    engine: RolloutEngine | None,
    policy: Policy,
    prompt_ids: Sequence[Sequence[int]],
    preferences: Tensor | None,
    samples_per_prompt: int,
    with_head_inputs: bool,
) -> tuple[list[Response], TokenOutputs, Tensor | None]:
    """Responses, what the model says of them, and what the engine says; the model samples where there is none.

    What the model says of an engine's responses comes from a forward, without gradients.

    Args:
        engine: what samples; ``None`` for the model itself.
        policy: the conditioned model with its sampling settings.
        prompt_ids: B lists of token ids.
        preferences: ``(B, m)``; ``None`` where the policy is the reference, which the model samples itself.
        samples_per_prompt: S.
        with_head_inputs: also what the output head sees.

    Raises:
        ValueError: samples of another distribution than the policy's; see ``RolloutEngine.refuse_difference``.
    """
    if engine is None or preferences is None:
        return *policy.sample(prompt_ids, preferences, samples_per_prompt, with_head_inputs=with_head_inputs), None
    policy.check_prompts([{"prompt_ids": ids} for ids in prompt_ids])
    responses, told = engine.sample(policy, prompt_ids, preferences, samples_per_prompt)
    repeated = [ids for ids in prompt_ids for _ in range(samples_per_prompt)]
    sequences = collate_sequences(repeated, [response.ids for response in responses]).to(policy.device)
    row_preferences = preferences.repeat_interleave(samples_per_prompt, dim=0)
    # The model alone, without what distributes it: others may not be in a forward now.
    own = Policy(policy.conditioned, policy.sampling)
    with torch.no_grad(), own.without_dropout():
        outputs = own.token_outputs(sequences, row_preferences, with_head_inputs=with_head_inputs)
    difference = mean_difference(outputs.log_probabilities, told, sequences.response_mask)
    engine.refuse_difference(difference, policy.sampling)
    return responses, outputs, told


def mean_difference(log_probabilities: Tensor, engine_log_probabilities: Tensor, mask: Tensor) -> float:
    """The mean of |log π − log π_engine| over the tokens that there are: ``(N, R)`` three times to nats.

    Example:
        >>> own, engine = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.5, 0.0]])
        >>> mean_difference(own, engine, torch.tensor([[True, False]]))
        0.5
    """
    gaps = (log_probabilities.double().cpu() - engine_log_probabilities.double().cpu()).abs()
    return float(gaps[mask.cpu()].mean())


ENGINES: Registry[RolloutEngine] = Registry("engine", RolloutEngine, ["mopref.llm.engines"])
