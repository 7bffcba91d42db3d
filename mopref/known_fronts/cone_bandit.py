"""ConeBandit: rewards and the pull to the reference as objectives of their own, so that λ holds strength, too."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from mopref.argument_kinds import checks_arguments
from mopref.known_fronts.language_bandit import LanguageBandit
from mopref.known_fronts.reward_bandit import RewardBandit, expected_rewards, kl_optimum
from mopref.objective_names import checked_names, numbered_names

__all__ = ["ConeBandit"]

# Where the pull counts for nothing the best response is certain; this close to that a policy is it but for rounding.
_LEAST_PULL = 1e-9


class ConeBandit(LanguageBandit):
    """−E r_i(x, y), m of them, and β·KL(π‖π_ref), the last, for one-token responses; the exact front is a closed form.

        π_w(y|x) ∝ π_ref(y|x) · exp(Σ_i w_i r_i(x, y)),   w = (λ_1, …, λ_m) / (β λ_{m+1})

    is the best of all policies for Σ_i λ_i f_i. So preferences on the simplex of m + 1 objectives are the cone of all
    w ∈ R₊^m: the direction is the balance of the rewards, the length their strength against the pull. At
    λ_{m+1} = 1 it is the reference, and where λ_{m+1} = 1/2 the policy of a ``RewardBandit`` with this β.

    Args:
        base: the reference policy, a causal language model, whether or not adapters are in it.
        prompts: ``(P, T)`` token ids.
        rewards: r, ``(P, V, m)``, higher is better.
        beta: β > 0, which makes the pull one number with the rewards.
        names: of the m rewards; f1 … fm by default. The pull's is "reference".

    Raises:
        ValueError: as ``RewardBandit``, or a reward called "reference".

    Example:
        >>> from mopref.known_fronts import tiny_llama
        >>> bandit = ConeBandit.random(tiny_llama(), num_rewards=2)
        >>> bandit.names, bandit.optimum([[0.25, 0.25, 0.5]]).values.shape
        (('f1', 'f2', 'reference'), torch.Size([1, 3]))
    """

    @checks_arguments
    def __init__(
        self, base: nn.Module, prompts: Any, rewards: Tensor, beta: float = 0.2, names: Sequence[str] | None = None
    ) -> None:
        of_rewards = numbered_names(rewards.shape[-1]) if names is None else checked_names(names)
        if "reference" in of_rewards:
            raise ValueError("names hold 'reference', which is the pull's: give that reward another one.")
        # By which the rewards are checked, too.
        self.fixed = RewardBandit(base, prompts, rewards, beta, of_rewards)
        self.rewards = self.fixed.rewards
        super().__init__(base, prompts, (*of_rewards, "reference"), beta)

    @classmethod
    @checks_arguments
    def random(cls, base: nn.Module, num_rewards: int = 2, prompts: int = 12, beta: float = 0.2, seed: int = 0) -> Self:
        """With the prompts and rewards of ``RewardBandit.random``."""
        fixed = RewardBandit.random(base, num_rewards, prompts, beta, seed)
        return cls(base, fixed.prompts, fixed.rewards, beta)

    def losses_of(self, policies: Tensor) -> Tensor:
        """−E r_i and β·KL of log-probabilities: ``(…, P, V)`` to ``(…, m + 1)``."""
        rewards = expected_rewards(policies, self.rewards)
        divergence = (policies.exp() * (policies - self.reference.to(policies))).sum(dim=-1, keepdim=True)
        return torch.cat([-rewards, self.beta * divergence], dim=-1).mean(dim=-2)

    def optimal_policies(self, weights: Tensor) -> Tensor:
        """log π of the optimum of Σ_i λ_i f_i, for each of N rows on the simplex: ``(N, P, V)``."""
        directions = weights[:, :-1] / weights[:, -1:].clamp(min=_LEAST_PULL)
        return kl_optimum(self.reference, self.rewards, self.beta, directions)

    def linear_optima(self, weights: Tensor) -> Tensor:
        """The losses of :meth:`optimal_policies`, ``(N, m + 1)`` to ``(N, m + 1)``."""
        return self.losses_of(self.optimal_policies(weights))
