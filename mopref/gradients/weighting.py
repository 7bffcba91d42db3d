"""GradientWeighting: how the gradients of the m losses of one preference become one direction."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from mopref._repr import OptionsRepr
from mopref.argument_kinds import checks_arguments
from mopref.option_checks import Convention
from mopref.registry import SCALARIZERS, Registry
from mopref.scalarizer import Scalarizer

__all__ = ["GRADIENT_WEIGHTINGS", "GradientWeighting", "scalarizer_or_weighting"]

# How far below 0 an eigenvalue of a Gramian may lie, beside the largest: float32 rounding of its entries.
_TOLERANCE = 1e-5


class GradientWeighting(OptionsRepr, ABC):
    """Losses ``(G, m)``, Gramians ``(G, m, m)`` and preferences ``(G, m)`` to weights ``(G, m)``, for each of G groups.

    Where a scalarizer looks at the losses alone, this looks at their gradients too, through the Gramian J Jᵀ of each
    group (see :func:`mopref.gradients.gramians`). The direction is the descent on Σ_i w_i f_i, the weights w taken as
    constants: −Σ_i w_i ∇f_i.

    A new method implements :meth:`weights`, group by group independent: a batch equals the loop over its groups. The
    weights are ≥ 0, and sum to 1 where the method allows it; a class that gives others says so. As to a scalarizer λ is
    importance to it: a larger λ_i never asks for a larger loss i (see :attr:`convention`).

    Example:
        >>> class Equal(GradientWeighting):
        ...     def weights(self, losses, gramians, preferences):
        ...         return torch.full_like(losses, 1 / losses.shape[1])
        >>> Equal()(torch.tensor([[3.0, 5.0]]), torch.eye(2).unsqueeze(0), torch.tensor([[0.2, 0.8]]))
        tensor([[0.5000, 0.5000]])
    """

    @property
    def convention(self) -> Convention:
        """What λ says: "importance", as by default, or "ray" where a larger λ_i asks for a larger loss i."""
        return "importance"

    @abstractmethod
    def weights(self, losses: Tensor, gramians: Tensor, preferences: Tensor) -> Tensor:
        """The method: ``(G, m)``, ``(G, m, m)`` and ``(G, m)`` to ``(G, m)``.

        All three come checked, without a graph, in float64 on the CPU; so does the result.
        """

    @checks_arguments
    def __call__(self, losses: Tensor, gramians: Tensor, preferences: Tensor) -> Tensor:
        """The weights ``(G, m)``, constants on the device of the losses, in their dtype or float32 if that is wider.

        Args:
            losses: mean losses of each group, ``(G, m)``.
            gramians: ⟨∇f_i, ∇f_j⟩ of each group, ``(G, m, m)``.
            preferences: λ of each group, ``(G, m)``.

        Raises:
            ValueError: shapes that do not match, a number that is not finite, a negative preference, a Gramian that
                is not symmetric positive semi-definite, or weights that are not finite.
        """
        dtype = torch.promote_types(losses.dtype, torch.float32)
        f, gram, lam = (value.detach().to("cpu", torch.float64) for value in (losses, gramians, preferences))
        _check_input(f, gram, lam)
        weights = self.weights(f, gram, lam)
        if weights.shape != f.shape:
            raise ValueError(
                f"{type(self).__name__}.weights returned shape {tuple(weights.shape)}, not {tuple(f.shape)}: one row "
                "for each group, one column for each objective."
            )
        _check_finite(f"weights of {type(self).__name__}", weights)
        return weights.to(losses.device, dtype)

    def check_objectives(self, num_objectives: int) -> None:
        """Refuse another number of objectives than it was made for; none by default. See ``Scalarizer``.

        Raises:
            ValueError: a point, or weights, of another length.
        """

    def observe(self, losses: Tensor) -> None:
        """See the losses ``(N, m)`` of a training step before they are weighted; nothing to do by default."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold; empty for a method without a state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state given by :meth:`state_dict`."""


GRADIENT_WEIGHTINGS: Registry[GradientWeighting] = Registry(
    "gradient weighting", GradientWeighting, ["mopref.gradients"]
)


def _check_input(losses: Tensor, gramians: Tensor, preferences: Tensor) -> None:
    _check_shapes(losses, gramians, preferences)
    for name, value in (("losses", losses), ("gramians", gramians), ("preferences", preferences)):
        _check_finite(name, value)
    if (preferences < 0).any():
        raise ValueError(f"preferences hold {preferences.min().item():g}: weights of objectives are ≥ 0.")
    _check_gramians(gramians)


def _check_shapes(losses: Tensor, gramians: Tensor, preferences: Tensor) -> None:
    if losses.ndim != 2 or 0 in losses.shape:
        raise ValueError(
            f"losses have shape {tuple(losses.shape)}: give one row for each preference group, one column for each "
            "objective."
        )
    groups, m = losses.shape
    for name, value, expected in (("gramians", gramians, (groups, m, m)), ("preferences", preferences, (groups, m))):
        if value.shape != expected:
            raise ValueError(
                f"{name} have shape {tuple(value.shape)}, not {expected}: the losses are of {groups} groups and {m} "
                "objectives."
            )


def _check_finite(name: str, value: Tensor) -> None:
    faults = ~value.isfinite()
    if faults.any():
        group, *place = (int(i) for i in faults.nonzero()[0])
        raise ValueError(
            f"{name}: entry {place} of group {group} is {value[(group, *place)].item()}, which is not finite: lower "
            "the learning rate, or look for an infinite slope in the objective."
        )


def _check_gramians(gramians: Tensor) -> None:
    largest = gramians.abs().amax(dim=(1, 2))
    asymmetry = (gramians - gramians.mT).abs().amax(dim=(1, 2))
    lowest = torch.linalg.eigvalsh((gramians + gramians.mT) / 2)[:, 0]
    for what, value, excess in (("is asymmetric by", asymmetry, asymmetry), ("has the eigenvalue", lowest, -lowest)):
        faults = excess > _TOLERANCE * largest
        if faults.any():
            group = int(faults.nonzero()[0])
            raise ValueError(
                f"the Gramian of group {group} {what} {value[group].item():g}, its largest entry being "
                f"{largest[group].item():g}: a Gramian J Jᵀ is symmetric and positive semi-definite. "
                "mopref.gradients.gramians computes it."
            )


def scalarizer_or_weighting(
    part: Scalarizer | GradientWeighting | type[Scalarizer | GradientWeighting] | str,
) -> Scalarizer | GradientWeighting:
    """What a class or a registered name of either kind stands for; an instance as it is."""
    is_class = isinstance(part, type) and issubclass(part, GradientWeighting)
    is_name = isinstance(part, str) and part in GRADIENT_WEIGHTINGS
    if is_class or is_name or isinstance(part, GradientWeighting):
        weighting: GradientWeighting = GRADIENT_WEIGHTINGS.make(part)  # type: ignore[arg-type]
        return weighting
    scalarizer: Scalarizer = SCALARIZERS.make(part)  # type: ignore[arg-type]
    return scalarizer
