"""The ray that a preference asks for, and the choice between the two things that a preference can say to it."""

from typing import Any, ClassVar

from torch import Tensor

from mopref.option_checks import Convention, checked_convention, checked_epsilon
from mopref.scalarizer import Scalarizer

__all__ = ["RayScalarizer", "importance_ray"]


def importance_ray(preferences: Tensor, epsilon: float) -> Tensor:
    """w_i = min_j max(λ_j, ε) / max(λ_i, ε), the direction 1/λ: ``(…, m)`` to ``(…, m)``.

    Losses on this ray have equal max(λ_i, ε) f_i, so that an important one is small. The corner e_i asks for the ray
    (1, …, ε, …, 1). The largest entry is 1: nothing overflows, however small ε is.

    Example:
        >>> import torch
        >>> importance_ray(torch.tensor([[0.25, 0.75], [1.0, 0.0]]), epsilon=0.125)
        tensor([[1.0000, 0.3333],
                [0.1250, 1.0000]])
    """
    weights = preferences.clamp(min=epsilon)
    return weights.amin(dim=-1, keepdim=True) / weights


class RayScalarizer(Scalarizer):
    """A scalarizer that the literature writes with losses along λ, where a larger λ_i asks for a larger loss i.

    Here λ is importance by default; the literature's formula is had by ``convention="ray"``.

    Args:
        epsilon: ε > 0, the smallest weight that is divided by.
        convention: "importance" or "ray".

    Raises:
        ValueError: ε that is not positive, or an unknown convention.
    """

    conventions: ClassVar[tuple[Convention, ...]] = ("importance", "ray")

    def __init__(self, epsilon: float, convention: Convention) -> None:
        self.epsilon = checked_epsilon(epsilon)
        self._convention = checked_convention(convention)

    @property
    def convention(self) -> Convention:
        """What λ says: "importance" or "ray"."""
        return self._convention

    def options(self) -> dict[str, Any]:
        """The options of the formula, and the convention."""
        return {**super().options(), "convention": self._convention}
