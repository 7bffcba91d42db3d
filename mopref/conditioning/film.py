"""FiLMModel: the preference scales and shifts the features of a network, layer by layer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from mopref.argument_kinds import checks_arguments
from mopref.conditioning.adapter_layer import AdapterLayer
from mopref.conditioning.base_model import keep_gradients, keep_statistics, token_counts
from mopref.conditioning.checkpointing import ActivationCheckpointing
from mopref.conditioning.conditioned_model import ConditionedModel, objective_names, weight_like
from mopref.conditioning.conditioning_description import made_of
from mopref.conditioning.conditioning_files import SavedConditioning, read_conditioning
from mopref.conditioning.linear_layer import adapter_device, adapter_dtype, is_adaptable, layer_sizes, weight_of
from mopref.conditioning.mlp import make_mlp, mlp_shapes, standardise_preferences
from mopref.conditioning.preference_state import PreferenceRecord, PreferenceState
from mopref.conditioning.saved_form import SavedForm, take_on
from mopref.conditioning.wrapping import LayerSelection, named_layers, select_linear_layers, wrap_layers
from mopref.setting_types import checked_seed, python_value, python_values

__all__ = ["FiLMLayer", "FiLMModel"]


class FiLMLayer(AdapterLayer):
    """h ↦ (1 + γ(λ)) ∘ h + β(λ) on the output h of a linear layer, with γ and β from a multilayer perceptron of λ.

    γ and β start at 0, so that the layer starts as the linear layer.

    Args:
        base_layer: ``nn.Linear``, or GPT-2's ``Conv1D``.
        hidden: widths of the hidden layers of the perceptron.
        num_objectives: m.
        state: holds the preference in force.
        generator: the source of randomness of the initialisation, on the CPU.
    """

    def __init__(
        self,
        base_layer: nn.Module,
        hidden: Sequence[int],
        num_objectives: int,
        state: PreferenceState,
        generator: torch.Generator,
    ) -> None:
        super().__init__(base_layer, state)
        self.num_features = self.n_out
        conditioner = make_mlp((num_objectives, *hidden, 2 * self.num_features), generator)
        for parameter in conditioner[-1].parameters():
            nn.init.zeros_(parameter)
        self.conditioner = conditioner.to(adapter_device(base_layer), adapter_dtype(weight_of(base_layer)))

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The base layer's output, scaled and shifted under the preference in force."""
        h = self.base_output(x, *args, **kwargs)
        preferences = self.row_preferences(h).to(weight_like(self.conditioner))
        modulation = self.conditioner(standardise_preferences(preferences))
        modulation = PreferenceState.beside(modulation, h.ndim, self.layout)
        scale, shift = modulation.chunk(2, dim=-1)
        return ((1 + scale) * h + shift).to(h.dtype)

    def extra_repr(self) -> str:
        """The number of features that are scaled and shifted, for ``print(model)``."""
        return f"num_features={self.num_features}"


class FiLMModel(SavedConditioning, ConditionedModel):
    """A network whose linear layers are followed by (1 + γ(λ)) ∘ h + β(λ), with γ and β learned for each layer.

    Starts as the base network for every λ. The layers are put into ``base_model`` itself. Nothing mixes rows, so each
    row of a batch may carry its own preference, and inputs may be ``(B, …, features)`` or tokens.

    Gradient checkpointing of a language model of transformers recomputes each block under the preferences of its own
    forward. In a base that checkpoints in another way, run the backward pass before the next forward: activations are
    recomputed under the preferences of the last one.

    Args:
        base_model: any module with ``nn.Linear`` (or GPT-2's ``Conv1D``) layers inside.
        objectives: the names of the m objectives in the order of a preference, or their number m.
        hidden: widths of the hidden layers of each layer's perceptron.
        target_modules: names of the linear layers, whole or their last parts ("q_proj"); ``None`` for every linear
            layer but a language model's output head.
        train_base: whether the base is trained too, as suits one that starts at random; otherwise it is frozen.
        seed: seeds the perceptrons; the global generator is not touched.

    Attributes:
        layers: the layers by the names of the linear layers in the base model.

    Raises:
        ValueError: no objective, a name that is there twice, a width below 1, no layer, a target that does not exist,
            or layers that are wrapped already.
        TypeError: an option of another type, named.

    Source: E. Perez et al., FiLM: Visual Reasoning with a General Conditioning Layer (2018); A. Dosovitskiy and
    J. Djolonga, You Only Train Once: Loss-Conditional Training of Deep Networks (2020).

    Example:
        >>> model = FiLMModel(nn.Sequential(nn.Linear(4, 3)), objectives=("helpful", "harmless"))
        >>> model(torch.zeros(2, 4), preferences=[[1, 0], [0.5, 0.5]]).shape
        torch.Size([2, 3])
    """

    @checks_arguments(but=("objectives", "hidden", "target_modules"))
    def __init__(
        self,
        base_model: nn.Module,
        objectives: int | Sequence[str],
        hidden: Sequence[int] = (32,),
        target_modules: Sequence[str] | None = None,
        train_base: bool = True,
        seed: int = 0,
    ) -> None:
        settings = {
            "hidden": python_values(hidden, int, "hidden"),
            "target_modules": target_modules,
            "train_base": python_value(train_base, bool, "train_base"),
            "seed": checked_seed(seed),
        }
        names = objective_names(objectives)
        keep_gradients(base_model)
        self._set_up(base_model, names, settings, select_linear_layers(base_model, target_modules))

    def _set_up(
        self, base_model: nn.Module, objectives: Sequence[str], settings: dict[str, Any], selection: LayerSelection
    ) -> None:
        super().__init__(objectives)
        self.state = state = PreferenceState()
        generator = torch.Generator().manual_seed(settings["seed"])

        def film(layer: nn.Module) -> FiLMLayer:
            return FiLMLayer(layer, settings["hidden"], self.num_objectives, state, generator)

        self.layers = wrap_layers(base_model, selection, film, settings["train_base"])
        targets = settings["target_modules"]
        self._settings = settings | {"target_modules": targets if targets is None else list(targets)}
        self.base_model, self._train_base = base_model, settings["train_base"]
        self._checkpointing = ActivationCheckpointing(base_model, state)

    def _form(self) -> SavedForm:
        own = {
            f"{name}.conditioner.{part}": parameter
            for name, layer in self.layers.items()
            for part, parameter in layer.conditioner.named_parameters()
        }
        sizes = {name: [layer.n_out, layer.n_in] for name, layer in self.layers.items()}
        return SavedForm("FiLMModel", self.objectives, self._settings, sizes, own, self.base_model, self._train_base)

    @classmethod
    def load(cls, base_model: nn.Module, folder: str | Path) -> Self:
        """A model with what :meth:`save_pretrained` wrote, on a base of the same architecture.

        A base that was frozen must be the one that it was trained on; the values of one that was trained are taken
        from the folder.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: another kind, another base, or a file that is damaged. The base is unchanged then.
        """

        def sizes(recorded: dict[str, Any]) -> dict[str, Any]:
            modules = dict(base_model.named_modules(remove_duplicate=False))
            linear = {name: layer for name in recorded if (layer := modules.get(name)) and is_adaptable(layer)}
            return {name: layer_sizes(layer) for name, layer in linear.items()}

        content = read_conditioning(folder, "FiLMModel", _shapes, base_model, sizes)
        keep_gradients(base_model)
        model = cls.__new__(cls)
        # The layers that were conditioned, whatever would be selected today.
        settings = content.settings | {"hidden": tuple(content.settings["hidden"])}
        with made_of(folder):
            model._set_up(base_model, content.objectives, settings, named_layers(base_model, [*content.places]))
        model.preference_convention = content.convention
        take_on(content, model._form())
        return model

    def train(self, mode: bool = True) -> Self:
        """Set the mode; the running statistics of a frozen base stay as they are."""
        super().train(mode)
        if mode and not self._train_base:
            keep_statistics(self.base_model)
        return self

    def forward(self, *args: Any, preferences: Any = None, **kwargs: Any) -> Any:
        """The base model's forward under the given preferences, ``(m,)`` or ``(B, m)``.

        Raises:
            ValueError: no preferences, invalid ones, or another number of them than of rows.
        """
        like = weight_like(next(iter(self.layers.values())).conditioner)
        # A copy: a caller who reuses its buffer must not change what a later backward pass sees.
        checked = self.checked(preferences, like).clone()
        _, counts = token_counts(args, kwargs)
        with self.state.turn:
            self.state.set(PreferenceRecord(checked, token_counts=counts))
            if self.training:
                self._checkpointing.take_over()
            return self.base_model(*args, **kwargs)


def _shapes(
    objectives: tuple[str, ...], settings: dict[str, Any], places: dict[str, Any]
) -> dict[str, tuple[int, ...]]:
    """The shapes of all perceptrons' parameters, by the layers that they belong to."""
    hidden = python_values(settings["hidden"], int, "hidden")
    return {
        f"{name}.conditioner.{part}": shape
        for name, (n_out, _) in places.items()
        for part, shape in mlp_shapes((len(objectives), *hidden, 2 * n_out)).items()
    }
