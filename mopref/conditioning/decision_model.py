"""DecisionModel: any conditioned network as a map from a preference to decision variables."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from mopref._arrays import real_array
from mopref.bounds import Bounds, BoxProblem, box_bounds, map_to_box
from mopref.setting_types import python_value

__all__ = ["DecisionModel"]


class DecisionModel(nn.Module):
    """x(λ) = box(network(anchor, λ)): a conditioned network for problems that have no inputs, only variables.

    The network sees the same input, the anchor, in every row; only λ tells rows apart. Outputs go into the box as
    those of ``ParetoSetModel`` do, which is one multilayer perceptron of λ alone and usually enough: this model is
    there to compare conditionings, or to use a network of one's own.

    Args:
        network: called as ``network(inputs, preferences=λ)``, ``(B, *anchor.shape)`` to ``(B, n)``: a
            ``PreferenceModel``, ``HypernetworkModel``, ``FiLMModel``, ``ConcatenationModel``, ….
        num_variables: n.
        bounds: ``(lower, upper)``, each a number for all variables or one for each.
        anchor: the constant input, ``(d,)`` or of any shape that the network takes for one row. It is not trained.

    Raises:
        ValueError: bounds that are not finite with lower < upper, or an anchor that is not finite.
        TypeError: a number of variables that is no whole number.

    Example:
        >>> from mopref.conditioning.film import FiLMModel
        >>> network = FiLMModel(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 10)), objectives=2)
        >>> model = DecisionModel(network, num_variables=10, bounds=(-2.0, 2.0), anchor=[1.0, 1.0, 1.0, 1.0])
        >>> model(torch.tensor([[0.5, 0.5], [0.0, 1.0]])).shape
        torch.Size([2, 10])
    """

    lower: Tensor
    upper: Tensor
    anchor: Tensor

    def __init__(
        self,
        network: nn.Module,
        num_variables: int,
        bounds: Bounds = (0.0, 1.0),
        *,
        anchor: Tensor | Sequence[float],
    ) -> None:
        super().__init__()
        self.network, self.num_variables = network, python_value(num_variables, int, "num_variables")
        lower, upper = box_bounds(bounds, self.num_variables).to(torch.get_default_dtype())
        constant = torch.as_tensor(real_array(anchor, "anchor"), dtype=torch.get_default_dtype())
        if not constant.isfinite().all():
            raise ValueError(f"the anchor is {constant.tolist()}, which is not finite: give finite numbers.")
        self.register_buffer("lower", lower)
        self.register_buffer("upper", upper)
        self.register_buffer("anchor", constant)

    @classmethod
    def for_problem(cls, network: nn.Module, problem: BoxProblem, *, anchor: Tensor | Sequence[float]) -> Self:
        """A model with a problem's variables and bounds around a network; see the class for ``anchor``."""
        return cls(network, problem.num_variables, problem.bounds, anchor=anchor)

    def forward(self, preferences: Tensor) -> Tensor:
        """x(λ): preferences ``(N, m)`` to decision variables ``(N, n)`` inside the bounds.

        Raises:
            ValueError: preferences that are no matrix or that the network refuses, or outputs of another shape.
        """
        if preferences.ndim != 2:
            raise ValueError(
                f"preferences have shape {tuple(preferences.shape)}: give a matrix, one row for each preference."
            )
        raw = self.network(self.anchor.expand(len(preferences), *self.anchor.shape), preferences=preferences)
        expected = (len(preferences), self.num_variables)
        if raw.shape != expected:
            raise ValueError(
                f"{type(self.network).__name__} returned shape {tuple(raw.shape)}, not {expected}: one row for each "
                "preference, one column for each variable."
            )
        return map_to_box(raw, self.lower, self.upper)

    def extra_repr(self) -> str:
        """Sizes, for ``print(model)``."""
        return f"num_variables={self.num_variables}, anchor={tuple(self.anchor.shape)}"
