"""The full core of an adapter, in place of singular values: one matrix for all preferences, and one an objective."""

import math

import torch
from torch import Tensor

__all__ = ["CORES", "CORE_PARTS", "core_matrix", "core_shapes", "core_start", "core_weights", "through_cores"]

# What SVDLoRAConfig.core may be: singular values, or matrices.
CORES = ("diagonal", "full")
# The tensors of full cores as an adapter folder names them, behind the name of their layer.
CORE_PARTS = ("shared_core", "preference_cores")


def core_shapes(objectives: int, rank: int, preference_rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """``(k, k)`` and ``(m, p·m, p·m)``."""
    directions = preference_rank * objectives
    return (rank, rank), (objectives, directions, directions)


def core_start(
    objectives: int, rank: int, preference_rank: int, start: float | None, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The shared core and those of the objectives before the first step.

    Args:
        objectives: m.
        rank: k.
        preference_rank: p.
        start: what singular values would begin at: the shared core is it times the identity, and an objective's it
            times that of the objective's own p directions. ``None`` for cores that are uniform in ±1/√k and ±1/(p·m).
        generator: the source of randomness, on the CPU.
    """
    if start is None:
        bounds = (1 / math.sqrt(max(1, rank)), 1 / (preference_rank * objectives))
        shapes = core_shapes(objectives, rank, preference_rank)
        shared, cores = (
            bound * (2 * torch.rand(shape, generator=generator) - 1)
            for bound, shape in zip(bounds, shapes, strict=True)
        )
        return shared, cores
    own = torch.eye(objectives).repeat_interleave(preference_rank, dim=1)
    return start * torch.eye(rank), start * torch.diag_embed(own)


def core_weights(preferences: Tensor, like: Tensor) -> Tensor:
    """(1, λ), what the shared core and those of the objectives are weighted with: ``(B, m)`` to ``(B, 1 + m)``."""
    preferences = preferences.to(like)
    return torch.cat([torch.ones_like(preferences[:, :1]), preferences], dim=1)


def through_cores(coordinates: Tensor, weights: Tensor, shared: Tensor, cores: Tensor) -> Tensor:
    """z C(w)ᵀ of each activation, with C(w) = [w_0 · C_0, 0; 0, Σ_i w_i · C_i].

    Args:
        coordinates: z = x V, ``(…, k + p·m)``.
        weights: w, ``(1 + m,)`` or in a shape that multiplies an activation, ``(…, 1 + m)``.
        shared: C_0, ``(k, k)``.
        cores: C_1 … C_m, ``(m, p·m, p·m)``.

    Example:
        >>> through_cores(torch.tensor([3.0, 5.0]), torch.tensor([1.0, 0.5]), torch.eye(1), torch.full((1, 1, 1), 2.0))
        tensor([3., 5.])
    """
    rank, directions = len(shared), cores.shape[-1]
    common = (coordinates[..., :rank] @ shared.T) * weights[..., :1]
    # Each objective's core acts before the weighting, so that no row or token needs a matrix of its own.
    each = (coordinates[..., rank:] @ cores.reshape(-1, directions).T).unflatten(-1, (len(cores), directions))
    return torch.cat([common, (each * weights[..., 1:, None]).sum(dim=-2)], dim=-1)


def core_matrix(shared: Tensor, cores: Tensor, preference: Tensor) -> Tensor:
    """C(λ), block-diagonal: of one preference ``(m,)``, ``(k + p·m, k + p·m)``."""
    return torch.block_diag(shared, torch.einsum("i,ijk->jk", preference.to(cores), cores))
