"""RewardBandit: KL-regularised rewards of one-token responses, whose exact front has a closed form."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from mopref.argument_kinds import checks_arguments
from mopref.known_fronts.language_bandit import LanguageBandit, random_prompts, vocabulary_of
from mopref.setting_types import check_numbers, checked_count, checked_seed

__all__ = ["RewardBandit", "expected_rewards", "kl_losses", "kl_optimum"]


def kl_optimum(reference: Tensor, rewards: Tensor, beta: float, preferences: Tensor) -> Tensor:
    """log π_λ = log π_ref + Σ_i λ_i r_i / β + const: ``(P, V)``, ``(P, V, m)`` and ``(N, m)`` to ``(N, P, V)``.

    Example:
        >>> reference, rewards = torch.zeros(1, 2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)[None]
        >>> kl_optimum(reference, rewards, 1.0, torch.tensor([[1.0, 0.0]])).exp()
        tensor([[[0.7311, 0.2689]]], dtype=torch.float64)
    """
    bonus = torch.einsum("pvm,nm->npv", rewards, preferences.to(rewards)) / beta
    return torch.log_softmax(reference + bonus, dim=-1)


def expected_rewards(policies: Tensor, rewards: Tensor) -> Tensor:
    """E r_i: log-probabilities ``(…, P, V)`` and rewards ``(P, V, m)`` to ``(…, P, m)``."""
    return torch.einsum("...pv,pvm->...pm", policies.exp(), rewards.to(policies))


def kl_losses(policies: Tensor, reference: Tensor, rewards: Tensor, beta: float) -> Tensor:
    """−J_i = −(E r_i − β KL(π‖π_ref)), the mean over prompts: log-probabilities ``(…, P, V)`` to ``(…, m)``."""
    divergence = (policies.exp() * (policies - reference)).sum(dim=-1, keepdim=True)
    return -(expected_rewards(policies, rewards) - beta * divergence).mean(dim=-2)


class RewardBandit(LanguageBandit):
    """−J_i = −(E r_i(x, y) − β·KL(π‖π_ref)), m of them, for one-token responses y; the exact front is a closed form.

        π_λ(y|x) ∝ π_ref(y|x) · exp(Σ_i λ_i r_i(x, y) / β)

    is the best of all policies for Σ_i λ_i J_i.

    Args:
        base: the reference policy, a causal language model, whether or not adapters are in it.
        prompts: ``(P, T)`` token ids.
        rewards: r, ``(P, V, m)``, higher is better.
        beta: β > 0.
        names: of the m objectives; f1 … fm by default.

    Raises:
        ValueError: prompts that are not different rows of token ids, rewards of another shape or not finite, or β that
            is not positive.

    Example:
        >>> from mopref.known_fronts import tiny_llama
        >>> bandit = RewardBandit.random(tiny_llama(), num_objectives=2)
        >>> bandit.optimum([[0.5, 0.5]]).values.shape
        torch.Size([1, 2])
    """

    @checks_arguments
    def __init__(
        self, base: nn.Module, prompts: Any, rewards: Tensor, beta: float = 0.2, names: Sequence[str] | None = None
    ) -> None:
        self.rewards = rewards.detach().cpu().double()
        super().__init__(base, prompts, self.rewards.shape[-1] if names is None else names, beta)
        expected = (*self.reference.shape, len(self.names))
        if tuple(self.rewards.shape) != expected or not self.rewards.isfinite().all():
            raise ValueError(
                f"rewards have shape {tuple(self.rewards.shape)}: give finite ones of shape {expected}, for each "
                "prompt, token and objective."
            )

    @classmethod
    @checks_arguments
    def random(
        cls, base: nn.Module, num_objectives: int = 2, prompts: int = 12, beta: float = 0.2, seed: int = 0
    ) -> Self:
        """A bandit with random prompts of four tokens and rewards drawn from [0, 1], independent of each other."""
        count, m = checked_count(prompts, "prompts"), checked_count(num_objectives, "num_objectives")
        generator = torch.Generator().manual_seed(checked_seed(seed))
        rows = random_prompts(base, count, generator)
        vocabulary = vocabulary_of(base)
        check_numbers({"prompts": count, "tokens": vocabulary, "num_objectives": m})
        return cls(base, rows, torch.rand(count, vocabulary, m, generator=generator, dtype=torch.float64), beta)

    def losses_of(self, policies: Tensor) -> Tensor:
        """−J_i of log-probabilities: ``(…, P, V)`` to ``(…, m)``."""
        return kl_losses(policies, self.reference.to(policies), self.rewards, self.beta)

    def optimal_policies(self, weights: Tensor) -> Tensor:
        """log π of the optimum of Σ_i w_i f_i, for each of N rows on the simplex: ``(N, P, V)``."""
        return kl_optimum(self.reference, self.rewards, self.beta, weights)

    def linear_optima(self, weights: Tensor) -> Tensor:
        """The losses of :meth:`optimal_policies`, ``(N, m)`` to ``(N, m)``."""
        return self.losses_of(self.optimal_policies(weights))
