"""Soups: weights of runs at few preferences, mixed by λ."""

import torch
from torch import Tensor

from mopref.argument_kinds import checks_arguments
from mopref.baselines.interfaces import Budget, MethodPolicy
from mopref.baselines.plain_lora import PlainLoRA, mixed_model, trained_lora
from mopref.baselines.runs import Trainings
from mopref.preferences import validate_preferences
from mopref.setting_types import checked_count, python_value

__all__ = ["bone_mixing", "bone_preferences", "bone_soup", "corner_loras", "rewarded_soup"]


def corner_loras(trainings: Trainings) -> list[PlainLoRA]:
    """The plain LoRAs of the corners e_1 … e_m, each trained once for all methods."""
    return [trained_lora(trainings, corner) for corner in torch.eye(len(trainings.setup.names)).tolist()]


def rewarded_soup(trainings: Trainings) -> MethodPolicy:
    """Rewarded Soups: W(λ) = W0 + Σ λ_i ΔW_i of the m corner runs.

    Source: Ramé et al., arXiv 2306.04488.
    """
    loras, setup = corner_loras(trainings), trainings.setup
    model = mixed_model(setup.make_model, setup.adapter, loras)
    budget = Budget.of([lora.cost for lora in loras], sum(lora.num_parameters for lora in loras))
    return MethodPolicy("rewarded-soup", model, budget)


@checks_arguments
def bone_preferences(num_objectives: int, beta: float = 0.7) -> Tensor:
    """B, whose rows are the interior preferences of the m runs: β on the diagonal, (1 − β)/(m − 1) off it.

    Args:
        num_objectives: m ≥ 2.
        beta: β in (1/m, 1].

    Returns:
        ``(m, m)`` float64; symmetric, so that rows and columns are the same.

    Raises:
        ValueError: fewer than two objectives, or a β at which the runs are alike (1/m) or beyond a corner.

    Source: Xie et al., Bone Soups, arXiv 2502.10762.

    Example:
        >>> bone_preferences(2)
        tensor([[0.7000, 0.3000],
                [0.3000, 0.7000]], dtype=torch.float64)
    """
    m, own = checked_count(num_objectives, "num_objectives"), python_value(beta, float, "beta")
    if m < 2:
        raise ValueError(f"num_objectives is {m}: a soup mixes runs of at least two.")
    if not 1 / m < own <= 1:
        raise ValueError(f"beta is {own:g}: it must be above 1/{m}, where all runs are alike, and at most 1.")
    off = (1 - own) / (m - 1)
    return torch.full((m, m), off, dtype=torch.float64).fill_diagonal_(own)


@checks_arguments
def bone_mixing(preferences: Tensor, beta: float = 0.7) -> Tensor:
    """B⁻¹λ, the weights of the m runs: ``(N, m)`` to ``(N, m)``; they sum to 1, and some are negative near corners.

    Raises:
        ValueError: preferences that do not lie on the simplex, or as :func:`bone_preferences`.

    Example:
        >>> bone_mixing(torch.tensor([[1.0, 0.0], [0.7, 0.3]], dtype=torch.float64))
        tensor([[ 1.7500, -0.7500],
                [ 1.0000,  0.0000]], dtype=torch.float64)
    """
    if preferences.ndim != 2:
        raise ValueError(f"preferences have shape {tuple(preferences.shape)}: give (N, m).")
    matrix = bone_preferences(preferences.shape[1], beta)
    preferences = validate_preferences(preferences.detach().cpu(), len(matrix))
    # B is symmetric.
    weights: Tensor = torch.linalg.solve(matrix, preferences.double().T).T
    return torch.where(weights.abs() < 1e-12, torch.zeros_like(weights), weights)


def bone_soup(trainings: Trainings, preferences: Tensor, beta: float = 0.7) -> MethodPolicy:
    """Bone Soup: m runs of its own at the interior preferences B e_i, mixed by B⁻¹λ.

    Since B = (β − b)I + b·11ᵀ with b = (1 − β)/(m − 1), and Σ λ_i = 1, the weight of run i is (λ_i − b)/(β − b).

    Args:
        trainings: of the comparison.
        preferences: ``(N, m)``, whose mixing weights are noted.
        beta: β.

    Raises:
        ValueError: as :func:`bone_preferences`.
    """
    setup = trainings.setup
    matrix = bone_preferences(len(setup.names), beta)
    loras = [trained_lora(trainings, row) for row in matrix.tolist()]
    off = (1 - beta) / (len(matrix) - 1)
    slope, offset = 1 / (beta - off), -off / (beta - off)
    model = mixed_model(setup.make_model, setup.adapter, loras, slope, offset)
    budget = Budget.of([lora.cost for lora in loras], sum(lora.num_parameters for lora in loras))
    weights = bone_mixing(preferences, beta)
    notes = {"beta": beta, "runs_at": matrix.tolist(), "mixing_weights": weights.tolist()}
    return MethodPolicy("bone-soup", model, budget, {**notes, "negative_weights": int((weights < 0).sum())})
