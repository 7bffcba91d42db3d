"""Weighted MGDA: the direction in which every loss falls as fast as its weight says."""

import torch
from torch import Tensor

from .mgda import shortest_combination
from .weighting import GRADIENT_WEIGHTINGS, GradientWeighting

__all__ = ["WeightedMGDA"]


@GRADIENT_WEIGHTINGS.register("weighted-mgda")
class WeightedMGDA(GradientWeighting):
    """The shortest combination of the gradients of f_i / λ_i: w ∝ α_i / λ_i, α = argmin ‖Σ_i α_i ∇f_i / λ_i‖² on Δ.

    Along −Σ_i w_i ∇f_i loss i falls at a rate of at least λ_i · r, one r ≥ 0 for all, and at just that rate where
    w_i > 0: with d the direction, ⟨∇f_i, d⟩ ≥ λ_i · r. So where losses compete an important one falls faster, and the
    *improvements* from the start come out in the proportions λ. Where to stop λ does not say: like MGDA, which it is
    for equal weights, it ends at any point where no direction lowers all losses with λ_i > 0.

    An objective with λ_i = 0 is not looked at, so that a corner's direction is its own gradient. The limit λ_i → 0 is
    another: there loss i must not rise.

    The gradients of λ_i f_i would do the opposite: ⟨∇f_i, d⟩ ≥ r / λ_i lets the *unimportant* loss fall faster, and at
    a corner the shortest combination is 0.

    Source: J.-A. Désidéri, Multiple-gradient descent algorithm (MGDA) for multiobjective optimization (2012), on
    scaled gradients.

    Example:
        >>> losses, preferences = torch.tensor([[1.0, 1.0]]), torch.tensor([[0.8, 0.2]])
        >>> gramian = torch.tensor([[[4.0, 0.0], [0.0, 1.0]]])  # gradients (2, 0) and (0, 1)
        >>> WeightedMGDA()(losses, gramian, preferences)  # rates 2 and .5, as .8 to .2
        tensor([[0.5000, 0.5000]])
    """

    def weights(self, losses: Tensor, gramians: Tensor, preferences: Tensor) -> Tensor:
        """The weights, ``(G, m)``, ≥ 0 with sum 1."""
        result = torch.zeros_like(losses)
        for weights, gramian, preference in zip(result, gramians, preferences, strict=True):
            counts = preference > 0
            if not counts.any():
                raise ValueError("a preference is 0 on every objective: give weights that sum to 1.")
            own = shortest_combination(gramian[counts][:, counts].numpy(), preference[counts].numpy())
            weights[counts] = torch.from_numpy(own)
        return result
