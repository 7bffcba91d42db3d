"""EPO: exact Pareto optimal search, for the point of the front where all λ_i f_i are equal."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mopref.argument_kinds import checks_arguments
from mopref.option_checks import Point, check_length, checked_positive, given_point
from mopref.setting_types import python_value
from mopref.tracked_points import difference_above

from .weighting import GRADIENT_WEIGHTINGS, GradientWeighting

__all__ = ["EPO"]

# The share û_i of a loss that is 0 counts as this much, so that its logarithm is finite.
_SMALLEST_SHARE = 1e-12


@GRADIENT_WEIGHTINGS.register("epo")
class EPO(GradientWeighting):
    """The weights that lead to the Pareto-optimal point with λ_1 f_1 = … = λ_m f_m: an important loss becomes small.

    A larger λ_i makes loss i smaller: EPO aims along f − z ∝ 1/λ, as Tchebycheff scalarization does. Linear
    scalarization cannot reach that point on a concave front; EPO can, and finds its way from both sides, since it may
    let losses rise. Where the front has no such point, it ends at another Pareto-stationary one. With the shares
    û_i = λ_i f_i / Σ_j λ_j f_j:

        non-uniformity   μ = KL(û ‖ 1/m) = Σ_i û_i log(m û_i), which is 0 at the point asked for
        anchor           a_i = λ_i (log(m û_i) − μ), parallel to the gradient of μ in f
        pull             p = G a, with the Gramian G: p_j > 0 where a step towards balance lowers f_j

    The weights w solve a linear program over w ≥ 0, Σ_i w_i = 1:

        balance (μ above ``balanced`` and some p_j > 0)
            maximise wᵀ p, where (G w)_j ≥ p_j for losses with p_j ≤ 0, which may rise that fast but no faster, and
            (G w)_j ≥ 0 for the largest λ_j f_j, which must not rise
        descent (otherwise)
            maximise Σ_j (G w)_j, where (G w)_j ≥ 0 for all: no loss rises

    Where μ is large and no p_j is positive the paper maximises wᵀ p too, with the constraints of descent. That can end
    far from balance, at the minimum of one loss: on f_i = ‖x − a_i‖² with a = 0, 1, it goes from x = −1 to 0 and stays.
    Descent leads past it. Where several w solve the program, as with parallel gradients, one of them is returned.

    Near balance the direction switches between the two and does not shrink, so f ends within a step of the point: let
    the learning rate fall. A smaller ``balanced`` asks for more: with m = 2, λ_i f_i may differ from their mean by
    a fraction of √(2 · balanced), 1.4% by default.

    Args:
        ideal: z ≤ f, m numbers that losses are measured from (f − z in place of f); ``None`` for zeros.
        balanced: the non-uniformity at and below which losses count as balanced, > 0.
        epsilon: weights λ_i below it count as ε; at λ_i = 0 the point asked for does not exist. In (0, 1).

    Raises:
        ValueError: an ideal point that is not a finite vector, an option out of its range; when called, an ideal
            point of another length or above a loss.

    Source: D. Mahapatra and V. Rajan, Multi-Task Learning with User Preferences: Gradient Descent with Controlled
    Ascent in Pareto Optimization (2020).

    Example:
        >>> gramian = torch.eye(2).unsqueeze(0)  # orthogonal gradients of length 1
        >>> EPO()(torch.tensor([[3.0, 1.0]]), gramian, torch.tensor([[0.5, 0.5]]))  # f1 is too large
        tensor([[1., 0.]])
    """

    @checks_arguments(but=("ideal",))
    def __init__(self, ideal: Point | None = None, balanced: float = 1e-4, epsilon: float = 1e-3) -> None:
        reason = "rounding keeps the non-uniformity above 0, so it must be > 0"
        self.balanced = checked_positive(balanced, "balanced", reason)
        self.epsilon: float = python_value(epsilon, float, "epsilon")
        if not 0 < self.epsilon < 1:
            raise ValueError(f"epsilon is {epsilon}: it stands for weights that are 0, so it lies between 0 and 1.")
        self.ideal_point = None if ideal is None else given_point(ideal, "ideal")

    def options(self) -> dict[str, Any]:
        """The ideal point, and what says when losses are balanced."""
        return {"ideal": self.ideal_point, "balanced": self.balanced, "epsilon": self.epsilon}

    def check_objectives(self, num_objectives: int) -> None:
        """Refuse an ideal point of another length."""
        check_length(self.ideal_point, num_objectives, "ideal")

    def weights(self, losses: Tensor, gramians: Tensor, preferences: Tensor) -> Tensor:
        """The solution of each group's linear program, ``(G, m)``, ≥ 0 with sum 1."""
        m = losses.shape[1]
        r = preferences.clamp(min=self.epsilon)
        ideal = losses.new_zeros(m) if self.ideal_point is None else self.ideal_point
        above_ideal = difference_above(losses, ideal, "Give a lower one: EPO(ideal=[…]).").clamp(min=0)
        terms = r * above_ideal
        shares = terms / terms.sum(dim=1, keepdim=True).clamp(min=torch.finfo(terms.dtype).tiny)
        logs = (m * shares.clamp(min=_SMALLEST_SHARE)).log()
        non_uniformity = (shares * logs).sum(dim=1, keepdim=True)
        pull = (gramians @ (r * (logs - non_uniformity)).unsqueeze(2)).squeeze(2)
        largest = terms == terms.amax(dim=1, keepdim=True)
        balance = (non_uniformity > self.balanced) & (pull > 0).any(dim=1, keepdim=True)
        limits = torch.where(pull > 0, -torch.inf, pull).masked_fill(largest | ~balance, 0.0)
        return _best_on_simplex(torch.where(balance, pull, gramians.sum(dim=1)), gramians, limits)


def _best_on_simplex(objective: Tensor, gramians: Tensor, limits: Tensor) -> Tensor:
    """argmax of ⟨objective, w⟩ over w ≥ 0, Σ_i w_i = 1, (G w)_j ≥ limit_j, for each group: ``(G, m)``.

    The programs share nothing, so they are solved as one, which is many times faster than one after the other.
    """
    from scipy.optimize import linprog

    groups, m = objective.shape
    # Each program is brought to the size that the solver's tolerances are made for.
    tiny = torch.finfo(objective.dtype).tiny
    objective = objective / objective.abs().amax(dim=1, keepdim=True).clamp(min=tiny)
    sizes = gramians.abs().amax(dim=2).clamp(min=tiny)
    rows = torch.block_diag(*(gramians / sizes.unsqueeze(2))).numpy()
    lower_bounds = (limits / sizes).flatten().numpy()
    is_bounded = np.isfinite(lower_bounds)
    optimum = linprog(
        -objective.flatten().numpy(),
        A_ub=-rows[is_bounded],
        b_ub=-lower_bounds[is_bounded],
        A_eq=np.kron(np.eye(groups), np.ones((1, m))),
        b_eq=np.ones(groups),
        bounds=(0, None),
        method="highs",
    )
    if optimum.x is None:
        # The shortest combination of the gradients fulfils all constraints, so this is the solver's failure.
        raise ArithmeticError(f"the linear program of EPO was not solved: {optimum.message}")
    solution = torch.from_numpy(optimum.x).reshape(groups, m).clamp(min=0)
    return solution / solution.sum(dim=1, keepdim=True)
