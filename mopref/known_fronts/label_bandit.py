"""LabelBandit: DPO with noisy labels on one pair of one-token responses for each prompt, whose front is known."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from mopref.argument_kinds import checks_arguments
from mopref.known_fronts.language_bandit import LanguageBandit, random_prompts, token_rows, vocabulary_of
from mopref.setting_types import check_numbers, checked_count, checked_seed

__all__ = ["LabelBandit"]

# Copies of a pair, in which the labels come in the exact shares.
_COPIES = 8


class LabelBandit(LanguageBandit):
    """The DPO loss of each dimension under noisy labels, exact: P(dimension i prefers y_0 to y_1) = p_i.

        f_i = mean over prompts of −p_i log σ(β d) − (1 − p_i) log σ(−β d),
        d = log π(y_0|x)/π_ref(y_0|x) − log π(y_1|x)/π_ref(y_1|x)

    The best of all policies for Σ_i λ_i f_i has σ(β d) = Σ_i λ_i p_i on every prompt.

    Args:
        base: the reference policy, a causal language model, whether or not adapters are in it.
        prompts: ``(P, T)`` token ids.
        pairs: y_0 and y_1 of each prompt, ``(P, 2)`` token ids.
        shares: p, ``(P, m)``, each strictly between 0 and 1, where the optimum is finite.
        beta: β > 0.
        names: of the m objectives; f1 … fm by default.

    Raises:
        ValueError: prompts that are not different rows of token ids, pairs that are none, shares of another shape or
            not strictly between 0 and 1, or β that is not positive.

    Example:
        >>> from mopref.known_fronts import tiny_llama
        >>> bandit = LabelBandit.random(tiny_llama(), num_objectives=3)
        >>> bandit.optimum([[0.2, 0.3, 0.5]]).values.shape
        torch.Size([1, 3])
    """

    @checks_arguments
    def __init__(
        self,
        base: nn.Module,
        prompts: Any,
        pairs: Any,
        shares: Tensor,
        beta: float = 0.5,
        names: Sequence[str] | None = None,
    ) -> None:
        self.shares = shares.detach().cpu().double()
        super().__init__(base, prompts, self.shares.shape[-1] if names is None else names, beta)
        count, vocabulary = self.reference.shape
        self.pairs = token_rows(pairs, vocabulary, "pairs")
        if self.pairs.shape != (count, 2) or (self.pairs[:, 0] == self.pairs[:, 1]).any():
            raise ValueError(f"pairs are no two different tokens for each of {count} prompts: give such.")
        if self.shares.shape != (count, len(self.names)) or not ((self.shares > 0) & (self.shares < 1)).all():
            raise ValueError(
                f"shares have shape {tuple(self.shares.shape)}: give probabilities strictly between 0 and 1, of shape "
                f"{(count, len(self.names))}."
            )

    @classmethod
    @checks_arguments
    def random(
        cls, base: nn.Module, num_objectives: int = 2, prompts: int = 12, beta: float = 0.5, seed: int = 0
    ) -> Self:
        """A bandit with random prompts, pairs and shares; these are eighths, so that :meth:`rows` can hold them."""
        count, m = checked_count(prompts, "prompts"), checked_count(num_objectives, "num_objectives")
        generator = torch.Generator().manual_seed(checked_seed(seed))
        rows = random_prompts(base, count, generator)
        vocabulary = vocabulary_of(base)
        check_numbers({"prompts": count, "num_objectives": m})
        pairs = torch.stack([torch.randperm(vocabulary - 3, generator=generator)[:2] + 3 for _ in range(count)])
        shares = torch.randint(1, _COPIES, (count, m), generator=generator).double() / _COPIES
        return cls(base, rows, pairs, shares, beta)

    def margins(self, policies: Tensor) -> Tensor:
        """d of log-probabilities: ``(…, P, V)`` to ``(…, P)``."""
        gains = policies - self.reference.to(policies)
        of_pairs = gains.gather(-1, self.pairs.to(policies.device).expand(*policies.shape[:-1], 2))
        return of_pairs[..., 0] - of_pairs[..., 1]

    def losses_of(self, policies: Tensor) -> Tensor:
        """f_i of log-probabilities: ``(…, P, V)`` to ``(…, m)``."""
        return self._losses_of_margins(self.margins(policies))

    def _losses_of_margins(self, margins: Tensor) -> Tensor:
        scaled, shares = self.beta * margins.unsqueeze(-1), self.shares.to(margins)
        losses = shares * nn.functional.softplus(-scaled) + (1 - shares) * nn.functional.softplus(scaled)
        return losses.mean(dim=-2)

    def linear_optima(self, weights: Tensor) -> Tensor:
        """The losses at σ(β d) = Σ_i w_i p_i, ``(N, m)`` to ``(N, m)``."""
        return self._losses_of_margins((weights.to(self.shares) @ self.shares.T).logit() / self.beta)

    def rows(self) -> list[dict[str, Any]]:
        """Rows for :class:`~mopref.objectives.DPO`: each pair eight times, with labels in the shares.

        Their mean DPO losses are those of :meth:`losses_of`.

        Raises:
            ValueError: shares that are no eighths.
        """
        counts = self.shares * _COPIES
        if not torch.equal(counts, counts.round()):
            raise ValueError(
                f"shares are no multiples of 1/{_COPIES}, so that no {_COPIES} rows hold them: round them."
            )
        return [
            {
                "prompt_ids": prompt,
                "response_0_ids": pair[:1],
                "response_1_ids": pair[1:],
                "labels": [int(copy >= count) for count in of_prompt],
            }
            for prompt, pair, of_prompt in zip(self.prompts.tolist(), self.pairs.tolist(), counts.tolist(), strict=True)
            for copy in range(_COPIES)
        ]
