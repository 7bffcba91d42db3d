"""ParetoSetModel: a small network from a preference to decision variables, for problems that bring no model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from mopref._arrays import refuse_tensor_without_numbers
from mopref.argument_kinds import checks_arguments
from mopref.bounds import Bounds, BoxProblem, box_bounds, map_to_box
from mopref.conditioning.conditioning_description import made_of
from mopref.conditioning.conditioning_files import SavedConditioning, read_conditioning
from mopref.conditioning.mlp import make_mlp, mlp_shapes, standardise_preferences
from mopref.conditioning.saved_form import SavedForm, take_on
from mopref.objective_names import numbered_names
from mopref.preferences import validate_preferences
from mopref.setting_types import checked_seed, python_value, python_values

__all__ = ["ParetoSetModel"]


class ParetoSetModel(SavedConditioning, nn.Module):
    """x(λ) = (l + u)/2 + (u − l)/2 · sin(π · net(standardised λ)), inside the box [l, u]: the whole Pareto set.

    ``net`` is a multilayer perceptron with LeakyReLU. Three choices keep training from collapsing to one point:

    * **A sine reaches the bounds and does not saturate.** Scalarizers with 1/λ weigh the corners of the simplex up to
      a thousandfold, and push every output onto a bound in the first steps. A sigmoid has no gradient left there; nor
      has ZDT2's f2 at x_1 = 0. The sine's slope vanishes at single points only, and near a bound it turns a kink into
      a parabola, which settles as the learning rate falls.
    * **λ is standardised** to zero mean and unit variance under the uniform distribution on the simplex, so that
      outputs differ between preferences from the start and are not moved all together.
    * **LeakyReLU passes λ on undiminished**, and follows the kinks of a Pareto set at the simplex's edges.

    With the three, no run of 32 seeds fell below .99 of the exact hypervolume on ZDT2 and DTLZ2; with each other choice
    that was measured some did; see docs/benchmarks.md.

    Args:
        num_objectives: m.
        num_variables: n.
        bounds: ``(lower, upper)``, each a number for all variables or one for each.
        hidden: widths of the hidden layers.
        seed: seeds the initial weights; the same seed gives the same model, and the global generator is not touched.

    Raises:
        ValueError: a count or width below 1, or bounds that are not finite with lower < upper.
        TypeError: a count, a width or a seed that is no whole number.

    Example:
        >>> model = ParetoSetModel(num_objectives=2, num_variables=10, bounds=(-2.0, 2.0))
        >>> model(torch.tensor([[0.5, 0.5], [0.0, 1.0]])).shape
        torch.Size([2, 10])
    """

    lower: Tensor
    upper: Tensor

    @checks_arguments(but=("hidden",))
    def __init__(
        self,
        num_objectives: int,
        num_variables: int,
        bounds: Bounds = (0.0, 1.0),
        hidden: Sequence[int] = (128, 128, 128),
        seed: int = 0,
    ) -> None:
        super().__init__()
        num_objectives = python_value(num_objectives, int, "num_objectives")
        num_variables = python_value(num_variables, int, "num_variables")
        hidden = python_values(hidden, int, "hidden")
        widths = (num_objectives, *hidden, num_variables)
        if min(widths) < 1:
            raise ValueError(
                f"num_objectives, hidden and num_variables are {num_objectives}, {hidden} and {num_variables}: "
                "each must be at least 1."
            )
        self.num_objectives, self.num_variables = num_objectives, num_variables
        lower, upper = box_bounds(bounds, num_variables).to(torch.get_default_dtype())
        self.register_buffer("lower", lower)
        self.register_buffer("upper", upper)
        self.net = make_mlp(widths, torch.Generator().manual_seed(checked_seed(seed)))
        self._settings = {
            "num_objectives": num_objectives,
            "num_variables": num_variables,
            "hidden": hidden,
            "seed": checked_seed(seed),
        }

    @classmethod
    def for_problem(cls, problem: BoxProblem, hidden: Sequence[int] = (128, 128, 128), seed: int = 0) -> Self:
        """A model with a problem's objectives, variables and bounds; see the class for ``hidden`` and ``seed``."""
        return cls(problem.num_objectives, problem.num_variables, problem.bounds, hidden, seed)

    def _form(self) -> SavedForm:
        return SavedForm("ParetoSetModel", (), self._settings, {}, self.state_dict(keep_vars=True))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The model that :meth:`save_pretrained` wrote, on the CPU, with its bounds and in its type.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: another kind, or a file that is damaged.
        """
        content = read_conditioning(folder, "ParetoSetModel", _shapes)
        with made_of(folder):
            model = cls(**content.settings)
        model.preference_convention = content.convention
        take_on(content, model._form(), of_own_type=[*content.tensors])
        return model

    def forward(self, preferences: Any) -> Tensor:
        """x(λ): preferences ``(N, m)`` to decision variables ``(N, n)`` inside the bounds.

        Preferences that are no tensor are checked first, and a single one is a row. By name the objectives are
        f1 … fm, since the model knows only their number.

        Raises:
            ValueError: preferences of another shape.
        """
        if not isinstance(preferences, Tensor):
            preferences = validate_preferences(preferences, numbered_names(self.num_objectives)).to(self.lower.device)
        refuse_tensor_without_numbers(preferences, "preferences")
        if preferences.ndim != 2 or preferences.shape[1] != self.num_objectives:
            raise ValueError(
                f"preferences have shape {tuple(preferences.shape)}: give one row for each preference and "
                f"{self.num_objectives} columns, one for each objective."
            )
        raw = self.net(standardise_preferences(preferences.to(self.lower.dtype)))
        return map_to_box(raw, self.lower, self.upper)

    def extra_repr(self) -> str:
        """Sizes, for ``print(model)``."""
        return f"num_objectives={self.num_objectives}, num_variables={self.num_variables}"


def _shapes(
    objectives: tuple[str, ...], settings: dict[str, Any], places: dict[str, Any]
) -> dict[str, tuple[int, ...]]:
    """The shapes of the network's parameters and of the bounds."""
    num_objectives, num_variables = settings["num_objectives"], settings["num_variables"]
    hidden = python_values(settings["hidden"], int, "hidden")
    perceptron = mlp_shapes((num_objectives, *hidden, num_variables))
    bounds: dict[str, tuple[int, ...]] = {"lower": (num_variables,), "upper": (num_variables,)}
    return bounds | {f"net.{name}": shape for name, shape in perceptron.items()}
