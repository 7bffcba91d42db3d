"""What has to be known of one linear layer, plain or quantised, to put an adapter around it."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

__all__ = [
    "adapter_device",
    "adapter_dtype",
    "is_adaptable",
    "is_plain_parameter",
    "is_transposed",
    "layer_sizes",
    "layers_without_gradient",
    "plain_weight",
    "weight_of",
]

_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def is_adaptable(module: nn.Module) -> bool:
    """Whether a module is a linear map that an adapter can wrap.

    ``nn.Linear`` and what derives from it, such as quantised layers, or ``Conv1D`` of transformers. The output
    projection of ``nn.MultiheadAttention`` is left out: its weight is multiplied with, the layer never called.
    """
    if isinstance(module, NonDynamicallyQuantizableLinear):
        return False
    return isinstance(module, nn.Linear) or is_transposed(module)


def is_transposed(layer: nn.Module) -> bool:
    """Whether a layer stores its weight transposed, as ``Conv1D`` of transformers does."""
    return any(kind.__name__ == "Conv1D" for kind in type(layer).__mro__) and hasattr(layer, "nf")


def weight_of(layer: nn.Module) -> Tensor:
    """The weight of a linear layer, as the layer stores it.

    Example:
        >>> weight_of(nn.Linear(4, 2)).shape
        torch.Size([2, 4])
    """
    return cast(Tensor, layer.weight)


def plain_weight(layer: nn.Module) -> Tensor | None:
    """The weight of a linear layer where it is a plain floating-point parameter that could be changed.

    ``None`` for a packed or quantised weight, for one that is computed from others, as under a parametrization, and for
    one that rests on a disk.
    """
    weight = layer._parameters.get("weight")
    return weight if weight is not None and is_plain_parameter(weight) else None


def is_plain_parameter(parameter: Tensor) -> bool:
    """Whether a parameter holds its numbers as they are used: quantised ones differ from the same weight in float."""
    if parameter.is_meta or type(parameter) is not nn.Parameter or type(parameter.data) is not Tensor:
        return False
    return parameter.dtype in _FLOATS


def layer_sizes(layer: nn.Module) -> tuple[int, int]:
    """``(n_out, n_in)`` of a linear map, whatever the shape that its weight is stored in.

    Example:
        >>> layer_sizes(nn.Linear(4, 2))
        (2, 4)
    """
    if isinstance(layer, nn.Linear):
        return layer.out_features, layer.in_features
    n_in, n_out = weight_of(layer).shape
    return n_out, n_in


def adapter_dtype(weight: Tensor) -> torch.dtype:
    """The type that an adapter trains in: float64 beside a float64 weight, float32 whatever else the base is stored in.

    Example:
        >>> adapter_dtype(torch.zeros(1, dtype=torch.bfloat16))
        torch.float32
    """
    return torch.float64 if weight.dtype == torch.float64 else torch.float32


def adapter_device(layer: nn.Module) -> torch.device:
    """Where an adapter of the layer belongs: where the layer runs, also if its weight rests elsewhere."""
    device = getattr(getattr(layer, "_hf_hook", None), "execution_device", None)
    if isinstance(device, int):
        return torch.device("cuda", device)
    return weight_of(layer).device if device is None else torch.device(device)


def layers_without_gradient(layers: Mapping[str, nn.Module]) -> list[str]:
    """The names of quantised layers that pass no gradient back to their inputs, so that those before learn wrong."""
    return [name for name, layer in layers.items() if plain_weight(layer) is None and not _passes_gradient(layer)]


def _passes_gradient(layer: nn.Module) -> bool:
    weight = weight_of(layer)
    dtype = weight.dtype if weight.dtype in (torch.float64, torch.float16, torch.bfloat16) else torch.float32
    x = torch.ones(1, 1, layer_sizes(layer)[1], device=adapter_device(layer), dtype=dtype, requires_grad=True)
    with torch.enable_grad():
        try:
            output = layer(x)
        except Exception:
            # Of a layer that wants other inputs than these nothing is known.
            return True
        if not isinstance(output, Tensor):
            return True
        if not output.requires_grad:
            return False
        # A kernel without a backward pass may give its output a graph all the same.
        (gradient,) = torch.autograd.grad(output.float().sum(), x, allow_unused=True)
    return gradient is not None
