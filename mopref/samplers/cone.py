"""Balance and strength in one preference: a cone of weights as a simplex with one corner more."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mopref._arrays import real_array
from mopref.argument_kinds import checks_arguments
from mopref.preferences import uniform_preferences, validate_preferences
from mopref.registry import SAMPLERS
from mopref.sampler import PreferenceSampler
from mopref.setting_types import python_value

__all__ = ["ConeSampler", "cone_preferences"]


@checks_arguments(but=("balances", "strengths", "objectives"))
def cone_preferences(balances: Any, strengths: Any, objectives: int | Sequence[str]) -> Tensor:
    """(s·λ, 1) / (1 + s): balances λ of m objectives and strengths s > 0 as preferences of m + 1, ``(N, m + 1)``.

    The last weight is that of the pull to the reference, β·KL: Σ_i s λ_i f_i + β·KL is (1 + s) times the sum of losses
    that this preference weighs. So s = 1 is β itself, and s = 2 half of it.

    Args:
        balances: λ on the simplex of the m objectives, ``(N, m)`` or ``(m,)``, or by name.
        strengths: s, ``(N,)``, or one number for all.
        objectives: the number m, or the names of the m objectives, without the pull.

    Raises:
        ValueError: balances off the simplex, strengths that are not positive and finite, or another number of them.

    Example:
        >>> cone_preferences([0.25, 0.75], 4.0, objectives=2)
        tensor([[0.2000, 0.6000, 0.2000]], dtype=torch.float64)
    """
    rows = validate_preferences(balances, objectives)
    values = torch.from_numpy(np.atleast_1d(real_array(strengths, "strengths"))).to(rows)
    if values.ndim != 1 or (len(values) not in (1, len(rows)) and len(rows) != 1):
        raise ValueError(f"strengths have shape {tuple(values.shape)} for {len(rows)} balances: give one for each.")
    if not (values.isfinite() & (values > 0)).all():
        raise ValueError(f"strengths hold {values.min().item():g} to {values.max().item():g}: they are finite and > 0.")
    scaled = rows * values.unsqueeze(1)
    return torch.cat([scaled, torch.ones_like(scaled[:, :1])], dim=1) / (1 + values.unsqueeze(1))


@SAMPLERS.register("cone")
class ConeSampler(PreferenceSampler):
    """(s·λ, 1) / (1 + s), with the balance λ uniform on Δ^{m-1} and the strength s log-uniform between two bounds.

    For m losses and the pull to a reference as one objective more, the last: where Σ_i λ_i f_i + β·KL depends on
    w = λ/β alone, as for linear KL-regularised rewards, one model then has the balance and the strength 1/β in its
    preference, w = s·λ/β. Not for DPO, where β scales margins.

    Args:
        num_objectives: m + 1, or the names of the objectives, the pull's the last.
        weakest: the least s, > 0.
        strongest: the largest s, ≥ ``weakest``.
        seed: seeds the sampler's own generator.

    Raises:
        ValueError: fewer than two objectives, or bounds that are not 0 < weakest ≤ strongest < ∞.

    Example:
        >>> sampler = ConeSampler(num_objectives=3, weakest=4.0, strongest=4.0)
        >>> sampler.sample(2)[:, -1]
        tensor([0.2000, 0.2000])
    """

    def __init__(
        self,
        num_objectives: int | Sequence[str],
        weakest: float = 0.25,
        strongest: float = 4.0,
        seed: int = 0,
    ) -> None:
        super().__init__(num_objectives, seed)
        if self.num_objectives < 2:
            raise ValueError("num_objectives is 1: the last objective is the pull, so give two or more.")
        self.weakest: float = python_value(weakest, float, "weakest")
        self.strongest: float = python_value(strongest, float, "strongest")
        if not 0 < self.weakest <= self.strongest < float("inf"):
            raise ValueError(
                f"weakest is {weakest} and strongest {strongest}: strengths are positive and finite, and these their "
                "least and largest."
            )

    def draw(self, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """Draw ``n`` preferences, shape ``(n, m + 1)``."""
        balances = uniform_preferences(self.num_objectives - 1, n, generator)
        low, high = np.log(self.weakest), np.log(self.strongest)
        strengths = np.exp(low + (high - low) * generator.random((n, 1)))
        return np.concatenate([balances * strengths, np.ones((n, 1))], axis=1) / (1 + strengths)
