"""What every adapter shares: which linear layers it wraps, how it is put in their place, and the preference in force.

An adapter is a layer around a linear layer of a base model. :func:`select_linear_layers` says which ones,
:func:`wrap_layers` puts the adapters in their place, and all adapters of a model read λ from one
:class:`PreferenceState`, which the model sets at each forward.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self, TypeVar, cast

import torch
from torch import Tensor, nn

__all__ = [
    "PreferenceState",
    "adapter_dtype",
    "block_index",
    "is_adaptable",
    "layer_sizes",
    "refuse_single_text",
    "select_linear_layers",
    "weight_of",
    "wrap_layers",
]

Adapter = TypeVar("Adapter", bound=nn.Module)


class PreferenceState:
    """The preference in force, shared by all adapters of a model: rows ``(B, m)``, or one row for the whole batch.

    It stays in force until the next forward sets another: a backward pass may need it again.
    """

    def __init__(self) -> None:
        self.generating = False
        self.enabled = True
        # Gates that generation needs again for its next token, by layer and number of rows.
        self.gates: dict[tuple[nn.Module, int], Tensor] = {}
        self.preferences = None

    @property
    def preferences(self) -> Tensor | None:
        """The preference in force; setting another drops the gates of the one before."""
        return self._preferences

    @preferences.setter
    def preferences(self, preferences: Tensor | None) -> None:
        self._preferences = preferences
        self.gates.clear()

    @contextmanager
    def generation(self) -> Iterator[None]:
        """Within this block rows may repeat, for beams and samples, and gates are kept from token to token."""
        self.generating = True
        try:
            yield
        finally:
            self.generating = False
            # The parameters may change before the next one.
            self.gates.clear()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # The preference in force may hang on a graph, which cannot be copied, and a copy has run no forward.
        state = type(self)()
        memo[id(self)] = state
        return state

    def rows(self, count: int) -> Tensor:
        """The preferences for ``count`` rows of an activation, shape ``(count or 1, m)``.

        Raises:
            ValueError: no preference is in force, or another number of them than of rows.
        """
        if self.preferences is None:
            raise ValueError(
                "no preference is set: call model(..., preferences=λ), or use `with model.disabled()` for the base."
            )
        num_preferences = self.preferences.shape[0]
        if num_preferences in (1, count):
            return self.preferences
        # Elsewhere than in generation a row count that differs is an error.
        if self.generating and count % num_preferences == 0:
            return self.preferences.repeat_interleave(count // num_preferences, dim=0)
        raise ValueError(
            f"{num_preferences} preferences were given, but a layer sees {count} rows: give one preference for each "
            "row of the batch, or a single one for all; a model that mixes the rows of a batch, such as a mixture of "
            "experts, can take only a single one."
        )


def select_linear_layers(
    base_model: nn.Module, target_modules: Sequence[str] | None = None, blocks: Sequence[int] | None = None
) -> dict[str, nn.Module]:
    """The linear layers to wrap, by every name that the base model has for them, in the base model's order.

    Args:
        base_model: any module; it is not changed.
        target_modules: names of linear layers, whole or their last parts ("q_proj"); ``None`` for every linear layer
            but a language model's output head.
        blocks: indices of the transformer blocks, negative ones counted from the last; ``None`` for all.

    Raises:
        ValueError: layers that are wrapped already, a name or a block that does not exist, or no layer left.

    Example:
        >>> base = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> list(select_linear_layers(base)), list(select_linear_layers(base, blocks=[-1]))
        (['0', '2'], ['2'])
    """
    linear = _linear_layers(base_model)
    if target_modules is None:
        find_head = getattr(base_model, "get_output_embeddings", None)
        head = None if find_head is None else find_head()
        selection = {name: layer for name, layer in linear.items() if layer is not head}
    else:
        selection = _layers_called(linear, target_modules)
    if blocks is not None:
        indices = _block_indices(linear, blocks)
        selection = {name: layer for name, layer in selection.items() if block_index(name) in indices}
    if not selection:
        raise ValueError(
            f"no layer to condition: {type(base_model).__name__} has {len(linear)} linear layers, none of which is "
            f"selected by the target modules {target_modules} in the blocks {blocks}."
        )
    return selection


def _linear_layers(base_model: nn.Module) -> dict[str, nn.Module]:
    """All linear layers of a plain base model, by every name that it has for them."""
    modules = dict(base_model.named_modules(remove_duplicate=False))
    for name, module in modules.items():
        if hasattr(module, "base_layer"):
            raise ValueError(
                f"{name or 'the base model'} is wrapped already, by a {type(module).__name__}: give the plain base "
                "model, such as PreferenceModel's merge(λ) or PEFT's merge_and_unload() returns."
            )
    linear = {name: module for name, module in modules.items() if is_adaptable(module)}
    if "" in linear:
        raise ValueError("the base model is a single linear layer: wrap it as nn.Sequential(layer).")
    return linear


def _layers_called(linear: dict[str, nn.Module], target_modules: Sequence[str]) -> dict[str, nn.Module]:
    refuse_single_text("target_modules", target_modules)
    for target in target_modules:
        if not any(_is_called(name, target) for name in linear):
            endings = sorted({name.rsplit(".", 1)[-1] for name in linear})
            raise ValueError(
                f"no linear layer is called {target!r}; those of the model end in {', '.join(endings) or 'nothing'}."
            )
    return {n: layer for n, layer in linear.items() if any(_is_called(n, target) for target in target_modules)}


def _is_called(name: str, target: str) -> bool:
    return f".{name}".endswith(f".{target}")


def _block_indices(linear: dict[str, nn.Module], blocks: Sequence[int]) -> set[int]:
    """The indices from 0 of the blocks, of which negative ones count from the last."""
    count = 1 + max((index for name in linear if (index := block_index(name)) is not None), default=-1)
    for block in blocks:
        if not -count <= block < count:
            raise ValueError(f"block {block} is to be conditioned, but the model has {count} blocks: 0 … {count - 1}.")
    return {block % count for block in blocks}


def wrap_layers(
    base_model: nn.Module, layers: dict[str, nn.Module], make: Callable[[nn.Module], Adapter], train_base: bool
) -> dict[str, Adapter]:
    """Put ``make(layer)`` in the place of each layer; the base is changed only when all of them are made.

    A layer that the base has under several names gets one adapter and stays one layer.

    Args:
        base_model: the module that has the layers.
        layers: the layers by their names, as of :func:`select_linear_layers`.
        make: makes the adapter around a layer.
        train_base: whether the base keeps its own parameters' gradients; otherwise they are frozen.

    Returns:
        The adapters, each by the first name of its layer.
    """
    adapters: dict[str, Adapter] = {}
    adapter_of: dict[int, Adapter] = {}
    for name, layer in layers.items():
        if id(layer) not in adapter_of:
            adapter_of[id(layer)] = adapters[name] = make(layer)
    if not train_base:
        base_model.requires_grad_(False)
    for name, layer in layers.items():
        base_model.set_submodule(name, adapter_of[id(layer)])
    return adapters


def is_adaptable(module: nn.Module) -> bool:
    """Whether a module is a linear map that an adapter can wrap: ``nn.Linear``, or ``Conv1D`` of transformers."""
    return type(module) is nn.Linear or (type(module).__name__ == "Conv1D" and hasattr(module, "nf"))


def weight_of(layer: nn.Module) -> Tensor:
    """The weight of a linear layer, as the layer stores it.

    Example:
        >>> weight_of(nn.Linear(4, 2)).shape
        torch.Size([2, 4])
    """
    return cast(Tensor, layer.weight)


def layer_sizes(layer: nn.Module) -> tuple[int, int]:
    """``(n_out, n_in)`` of a linear map; ``Conv1D`` stores its weight transposed.

    Example:
        >>> layer_sizes(nn.Linear(4, 2))
        (2, 4)
    """
    first, second = weight_of(layer).shape
    return (first, second) if isinstance(layer, nn.Linear) else (second, first)


def adapter_dtype(weight: Tensor) -> torch.dtype:
    """The type that an adapter trains in: float64 beside a float64 weight, float32 whatever else the base is stored in.

    Example:
        >>> adapter_dtype(torch.zeros(1, dtype=torch.bfloat16))
        torch.float32
    """
    return torch.float64 if weight.dtype == torch.float64 else torch.float32


def block_index(name: str) -> int | None:
    """The index of the block that a module belongs to: the first number in its dotted name.

    Example:
        >>> block_index("model.layers.3.mlp.up_proj")
        3
    """
    return next((int(part) for part in name.split(".") if part.isdigit()), None)


def refuse_single_text(name: str, value: Any) -> None:
    """Refuse a text where a list of texts is meant, since its letters would be taken for the entries.

    Raises:
        ValueError: ``value`` is a text.
    """
    if isinstance(value, str):
        raise ValueError(f"{name} is the single text {value!r}: give a list, such as [{value!r}].")
