"""DecisionModel: any conditioned network as a map from a preference to decision variables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from mopref._arrays import real_array, refuse_tensor_without_numbers
from mopref.argument_kinds import checks_arguments
from mopref.bounds import Bounds, BoxProblem, box_bounds, map_to_box
from mopref.conditioning.conditioning_description import made_of
from mopref.conditioning.conditioning_files import SavedConditioning, read_conditioning
from mopref.conditioning.saved_form import SavedForm, take_on
from mopref.preferences import validate_preferences
from mopref.setting_types import python_value, python_values

__all__ = ["DecisionModel"]

# Before the names of the network's own tensors.
_NETWORK = "network."


class DecisionModel(SavedConditioning, nn.Module):
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

    @checks_arguments(but=("anchor",))
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

    def _form(self) -> SavedForm:
        network = _form_of(self.network)
        own = {"lower": self.lower, "upper": self.upper, "anchor": self.anchor}
        return SavedForm(
            "DecisionModel",
            network.objectives,
            {"num_variables": self.num_variables, "anchor_shape": [*self.anchor.shape]},
            _described(network),
            own | {f"{_NETWORK}{name}": tensor for name, tensor in network.tensors.items()},
            network.base,
            network.whole_base,
        )

    @classmethod
    def load(cls, network: nn.Module, folder: str | Path) -> Self:
        """A model with what :meth:`save_pretrained` wrote, around a network that is made as that one was.

        Bounds and anchor come from the folder, and so do the values of all that is trained in the network, which may
        have been made from another seed. A base inside that is frozen must be the one that it was trained on.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: another kind, another network, or a file that is damaged. The network is unchanged then.
        """
        form = _form_of(network)

        def shapes(_: Any, settings: dict[str, Any], places: Any) -> dict[str, tuple[int, ...]]:
            n, anchor = settings["num_variables"], python_values(settings["anchor_shape"], int, "anchor_shape")
            own = {f"{_NETWORK}{name}": tuple(tensor.shape) for name, tensor in form.tensors.items()}
            return own | {"lower": (n,), "upper": (n,), "anchor": anchor}

        content = read_conditioning(
            folder, "DecisionModel", shapes, form.base, lambda _: _described(form), own=form.tensors
        )
        box = (content.tensors["lower"], content.tensors["upper"])
        with made_of(folder):
            model = cls(network, content.settings["num_variables"], box, anchor=content.tensors["anchor"])
        for part in model.modules():
            if hasattr(part, "preference_convention"):
                part.preference_convention = content.convention  # type: ignore[assignment]
        take_on(content, model._form(), of_own_type=("lower", "upper", "anchor"))
        return model

    def forward(self, preferences: Any) -> Tensor:
        """x(λ): preferences ``(N, m)`` to decision variables ``(N, n)`` inside the bounds.

        Preferences that are no tensor, by the names of the network's objectives say, are checked first, and a single
        one is a row.

        Raises:
            ValueError: preferences that are no matrix or that the network refuses, or outputs of another shape.
        """
        if not isinstance(preferences, Tensor):
            names = getattr(self.network, "objectives", None)
            given = real_array(preferences, "preferences") if names is None else preferences
            m = given.shape[-1] if names is None and given.ndim else 1
            preferences = validate_preferences(given, m if names is None else names).to(self.anchor)
        refuse_tensor_without_numbers(preferences, "preferences")
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


def _form_of(network: nn.Module) -> SavedForm:
    """What a network holds: a conditioning as it says itself, any other module whole."""
    form = getattr(network, "_form", None)
    if form is None:
        return SavedForm(type(network).__name__, (), {}, {}, {}, network, whole_base=True)
    return cast(SavedForm, form())


def _described(network: SavedForm) -> dict[str, Any]:
    """What another network in its place would differ in; the seed that it started from is taken on by its values."""
    settings = {name: value for name, value in network.settings.items() if name != "seed"}
    return {"kind": network.kind, "objectives": network.objectives, "settings": settings, "places": network.places}
