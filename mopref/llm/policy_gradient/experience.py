"""Experience: a rollout with the advantages of its tokens, which is all that an optimiser step needs of it."""

import math
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from mopref.llm.policy_gradient.algorithm import PolicyGradient, RolloutGroups, check_even_minibatches
from mopref.llm.policy_gradient.pull import advantages_apart, objective_values
from mopref.llm.policy_gradient.rollout import Rollout

__all__ = ["Experience", "checked_experience", "judge"]


class Experience(NamedTuple):
    """A rollout of N responses under G preferences, N/G each, and what an algorithm makes of it.

    Attributes:
        rollout: the responses, with their log-probabilities when they were sampled.
        advantages: A_i of each token, ``(N, R, m)``, higher is better.
        estimates: J_i of each preference, ``(G, m)``, from all of its responses.
        returns: ``(N, R, m)``, what the critic should have said; ``None`` without a critic.
    """

    rollout: Rollout
    advantages: Tensor
    estimates: Tensor
    returns: Tensor | None = None

    @property
    def critic_targets(self) -> tuple[Tensor, Tensor]:
        """What the critic said at the rollout, and the returns that it should have said: ``(N, R, m)`` each."""
        assert self.rollout.values is not None
        assert self.returns is not None
        return self.rollout.values, self.returns

    def rows(self, indices: Tensor) -> Self:
        """The responses at these indices; the estimates stay those of the whole rollout."""
        place = indices.to(self.advantages.device)
        returns = None if self.returns is None else self.returns[place]
        return self._replace(rollout=self.rollout.rows(indices), advantages=self.advantages[place], returns=returns)

    def minibatches(self, count: int, samples_per_prompt: int) -> list[Self]:
        """So many parts, each with an equal share of every preference's prompts and all of their samples.

        Raises:
            ValueError: prompts that cannot be shared evenly among the parts.
        """
        if count == 1:
            return [self]
        # (G, P, S): the rows of each preference's prompts, of which a part takes P / count.
        indices = torch.arange(len(self.advantages)).view(len(self.estimates), -1, samples_per_prompt)
        check_even_minibatches(indices.shape[1], count)
        return [self.rows(part.reshape(-1)) for part in indices.chunk(count, dim=1)]


def checked_experience(batch: Any) -> Experience:
    """The batch itself.

    Raises:
        TypeError: it is no experience, such as the batch of prompts that one is made from.
    """
    if not isinstance(batch, Experience):
        raise TypeError(
            f"the batch is a {type(batch).__name__}, but the losses are of sampled responses: give the batch of one of "
            "updates(model, batch, preferences)."
        )
    return batch


def judge(
    rollout: Rollout,
    algorithm: PolicyGradient,
    *,
    groups: int,
    samples_per_prompt: int,
    reward_scales: Tensor,
    beta: float,
    normalize: bool,
    importance_limit: float = math.inf,
    pull: str | None = None,
) -> Experience:
    """A rollout's advantages and the estimates of J_i = E r_i − β KL, on scaled rewards.

    Args:
        rollout: N responses, those of one preference together.
        algorithm: gives the advantages.
        groups: G preferences.
        samples_per_prompt: S.
        reward_scales: what rewards are divided by, ``(m,)``.
        beta: β ≥ 0, in units of the scaled rewards per nat.
        normalize: divide each objective's advantages by their spread within a group.
        importance_limit: C of the weights min(π/π_engine, C) that the advantages of an engine's tokens are multiplied
            with. The sign stays, by which the surrogate clips.
        pull: the name of −β KL where it is an objective of its own, the last; the others are then E r_i alone.
    """
    mask, log_ratios = rollout.sequences.response_mask.cpu(), rollout.log_ratios
    scaled_rewards = rollout.rewards / reward_scales
    values = None if rollout.values is None else rollout.values.double().cpu()

    def grouped(tensor: Tensor) -> Tensor:
        # (N, …) to (G, P, S, …).
        return tensor.view(groups, -1, samples_per_prompt, *tensor.shape[1:])

    seen = RolloutGroups(
        grouped(scaled_rewards), grouped(log_ratios), grouped(mask), None if values is None else grouped(values)
    )
    if pull is not None:
        advantages = advantages_apart(algorithm, seen, beta, normalize)
    else:
        advantages = algorithm.advantages(seen, beta, normalize)
    # r_i − β Σ_t d_t of each response, whose mean over a preference's responses estimates J_i: before any scalarizer.
    estimates = objective_values(scaled_rewards, log_ratios.sum(dim=1), beta, pull)
    weights = rollout.importance_weights(importance_limit).unsqueeze(-1)
    like = rollout.log_probabilities
    return Experience(
        rollout=rollout,
        advantages=(weights * advantages.values.flatten(0, 2)).to(like),
        estimates=estimates.view(groups, -1, estimates.shape[1]).mean(dim=1).to(like),
        returns=None if advantages.returns is None else advantages.returns.flatten(0, 2).to(like),
    )
