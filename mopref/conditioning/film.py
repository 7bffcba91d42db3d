"""FiLMModel: the preference scales and shifts the features of a network, layer by layer."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from mopref.conditioning.adapter_layer import AdapterLayer
from mopref.conditioning.base_model import keep_gradients, keep_statistics, token_counts
from mopref.conditioning.checkpointing import ActivationCheckpointing
from mopref.conditioning.conditioned_model import ConditionedModel, weight_like
from mopref.conditioning.linear_layer import adapter_device, adapter_dtype, weight_of
from mopref.conditioning.mlp import make_mlp, standardise_preferences
from mopref.conditioning.preference_state import PreferenceRecord, PreferenceState
from mopref.conditioning.wrapping import select_linear_layers, wrap_layers
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


class FiLMModel(ConditionedModel):
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

    def __init__(
        self,
        base_model: nn.Module,
        objectives: int | Sequence[str],
        hidden: Sequence[int] = (32,),
        target_modules: Sequence[str] | None = None,
        train_base: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(objectives)
        hidden, train_base = python_values(hidden, int, "hidden"), python_value(train_base, bool, "train_base")
        self.state = state = PreferenceState()
        generator = torch.Generator().manual_seed(checked_seed(seed))

        def film(layer: nn.Module) -> FiLMLayer:
            return FiLMLayer(layer, hidden, self.num_objectives, state, generator)

        keep_gradients(base_model)
        selection = select_linear_layers(base_model, target_modules)
        self.layers = wrap_layers(base_model, selection, film, train_base)
        self.base_model, self._train_base = base_model, train_base
        self._checkpointing = ActivationCheckpointing(base_model, state)

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
