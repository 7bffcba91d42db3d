"""The clipped surrogate on a vector of rewards: values are −J_i, the gradient is clipped once, after weighting."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["policy_losses"]


def policy_losses(
    log_probabilities: Tensor,
    old_log_probabilities: Tensor,
    advantages: Tensor,
    mask: Tensor,
    estimates: Tensor,
    clip_range: float,
) -> Tensor:
    """Losses ``(G, m)`` whose values are −J_i and whose gradient is the clipped policy gradient of their weighted sum.

    A scalarizer's derivative gives each loss of each group a weight w_i. The gradient in a token's log-probability is

        −ρ Â [not clipped] / N_g,   Â = Σ_i w_i A_i,   ρ = π/π_old,

    of N_g responses of its group, clipped where Â > 0 and ρ > 1 + ε, or Â < 0 and ρ < 1 − ε: what
    min(ρ Â, clip(ρ, 1 − ε, 1 + ε) Â) gives. So with linear scalarization the advantages are weighted by λ and then
    clipped, as one reward Σ λ_i r_i would be, and a non-linear scalarizer's weights ∂g/∂J_i come from the estimates of
    J_i of each preference, not from single responses.

    Args:
        log_probabilities: log π of each token, ``(N, R)``, differentiable; a group's N/G responses together.
        old_log_probabilities: log π_old, at the rollout, ``(N, R)``.
        advantages: A_i of each token, ``(N, R, m)``.
        mask: which tokens there are, ``(N, R)`` bool.
        estimates: J_i of each group, ``(G, m)``.
        clip_range: ε.
    """
    losses: Tensor = _PolicyLosses.apply(
        log_probabilities, old_log_probabilities, advantages, mask, estimates, clip_range
    )
    return losses


class _PolicyLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        log_probabilities: Tensor,
        old_log_probabilities: Tensor,
        advantages: Tensor,
        mask: Tensor,
        estimates: Tensor,
        clip_range: float,
    ) -> Tensor:
        return -estimates

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        log_probabilities, old_log_probabilities, advantages, mask, _, ctx.clip_range = inputs
        ratios = (log_probabilities.detach() - old_log_probabilities).exp() * mask
        ctx.save_for_backward(ratios, advantages)

    @staticmethod
    def backward(ctx: Any, *weights: Tensor) -> tuple[Tensor | None, ...]:
        ratios, advantages = ctx.saved_tensors
        rows = ratios.shape[0] // weights[0].shape[0]
        # Not in place and without branches on values: this also runs batched over several weights at once.
        token_advantages = (advantages * weights[0].repeat_interleave(rows, dim=0).unsqueeze(1)).sum(dim=-1)
        clipped = ((token_advantages > 0) & (ratios > 1 + ctx.clip_range)) | (
            (token_advantages < 0) & (ratios < 1 - ctx.clip_range)
        )
        gradient = torch.where(clipped, 0.0, -ratios * token_advantages / rows)
        return gradient, None, None, None, None, None
