"""Dequantising: layers in float in place of those whose weights are stored in fewer bits."""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mopref.conditioning.linear_layer import is_adaptable, is_plain_parameter, layer_sizes

__all__ = ["dequantize_layers", "dequantized_weight", "is_quantized"]

# How far a layer's own kernel may be from the product with its weight in float, as a share of its largest number: that
# of bitsandbytes' 8 bits rounds activations to 8 bits as well.
_KERNEL_ROUNDING = 0.05
_REMEDY = "load the base in float and whole, or export a LoRA"


def is_quantized(layer: nn.Module) -> bool:
    """Whether a layer holds its weight in fewer bits: a parameter that is here, and no plain one of floating point."""
    weight = layer._parameters.get("weight")
    return weight is not None and not weight.is_meta and not is_plain_parameter(weight)


def dequantized_weight(layer: nn.Module) -> Tensor:
    """The numbers that a quantised layer multiplies with, ``(n_out, n_in)``, in float32; the layer keeps its own.

    Weights of bitsandbytes are asked of its own functions, others (torchao's) of their ``dequantize()``.

    Raises:
        ValueError: the weight does not tell its numbers.
    """
    weight: Any = layer._parameters["weight"]
    kind = type(weight).__name__
    try:
        if kind == "Params4bit":
            return _of_4_bits(layer)
        if kind == "Int8Params":
            return _of_8_bits(layer)
        if type(weight) is nn.Parameter:
            raise TypeError(f"its {str(weight.dtype).removeprefix('torch.')} numbers do not say what they stand for")
        numbers: Tensor = weight.detach().dequantize()
        if type(numbers) is not Tensor or not numbers.is_floating_point():
            raise TypeError(f"its dequantize() gives a {type(numbers).__name__} of {numbers.dtype}")
    except Exception as error:  # Each package has its own.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ValueError(
            f"a {type(layer).__name__} with a {kind} cannot be dequantised ({reason:.200}): {_REMEDY}."
        ) from error
    return numbers.float()


def _of_4_bits(layer: nn.Module) -> Tensor:
    from bitsandbytes.functional import dequantize_4bit

    # Brings back what a forward in evaluation mode packed for a CPU's kernels.
    layer.state_dict()
    weight: Any = layer._parameters["weight"]
    state = copy.copy(weight.quant_state)
    state.dtype = torch.float32
    numbers: Tensor = dequantize_4bit(weight.data, state)
    return numbers


def _of_8_bits(layer: Any) -> Tensor:
    from bitsandbytes.functional import int8_vectorwise_dequant

    # The first forward moves the scales from the weight to the layer's state.
    scales = layer.weight.SCB if layer.state.SCB is None else layer.state.SCB
    numbers: Tensor = int8_vectorwise_dequant(layer.weight.data, scales)
    return numbers


def dequantize_layers(model: nn.Module, add: Callable[[nn.Module], Tensor | None]) -> set[str]:
    """Put layers in float in the place of quantised ones; they are in the type of the model's other weights.

    Args:
        model: changed in place, the settings that say how it is stored included.
        add: what to add to a quantised layer's weight before it is rounded, ``(n_out, n_in)``; ``None`` for nothing.

    Returns:
        The names of the new layers, all of those that each has in the model.

    Raises:
        ValueError: a weight that cannot be dequantised, named.
    """
    dtype = next((p.dtype for p in model.parameters() if is_plain_parameter(p)), torch.float32)
    made: dict[int, nn.Module] = {}
    quantized = dict(_quantized_layers(model))
    for name, layer in quantized.items():
        if id(layer) not in made:
            made[id(layer)] = _named(name, partial(_in_float, layer, add(layer), dtype))
        model.set_submodule(name, made[id(layer)])
    for name, parameter in model.named_parameters():
        if not is_plain_parameter(parameter):
            kind = f"{type(parameter).__name__} of {str(parameter.dtype).removeprefix('torch.')}"
            raise ValueError(f"{name} is a {kind} that cannot be dequantised: {_REMEDY}.")
    quantizer: Any = getattr(model, "hf_quantizer", None)
    if quantizer is not None:
        quantizer.remove_quantization_config(model)
    return set(quantized)


def _quantized_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, layer in model.named_modules(remove_duplicate=False):
        if is_quantized(layer) and (is_adaptable(layer) or type(layer) is nn.Embedding):
            yield name, layer


def _named(name: str, make: Callable[[], nn.Module]) -> nn.Module:
    try:
        return make()
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _in_float(layer: nn.Module, addition: Tensor | None, dtype: torch.dtype) -> nn.Module:
    """A plain layer that does the same, with its hooks of accelerate."""
    weight = dequantized_weight(layer)
    _check_kernel(layer, weight, dtype)
    if addition is not None:
        # The sum is rounded once.
        weight = weight.to(addition.dtype) + addition
    if type(layer) is nn.Embedding:
        made: nn.Module = copy.copy(layer)
        made._parameters = dict(layer._parameters)
    else:
        made, weight = _empty_linear(layer, weight)
    made.weight = nn.Parameter(weight.to(dtype))
    if layer._parameters.get("bias") is not None:
        made.bias = nn.Parameter(layer._parameters["bias"].detach().to(dtype))  # type: ignore[union-attr]
    made.train(layer.training)
    if hasattr(layer, "_hf_hook"):
        from accelerate.hooks import add_hook_to_module

        add_hook_to_module(made, layer._hf_hook)
    return made


def _check_kernel(layer: nn.Module, weight: Tensor, dtype: torch.dtype) -> None:
    """Refuse a linear layer that makes something else of an input than the product with these numbers."""
    if type(layer) is nn.Embedding or hasattr(layer, "_hf_hook"):
        return
    bias = layer._parameters.get("bias")
    x = torch.linspace(-1, 1, weight.shape[1], device=weight.device).view(1, 1, -1).to(dtype)
    expected = nn.functional.linear(x.float(), weight, None if bias is None else bias.float())
    difference = (layer(x).float() - expected).abs().max().item()
    if not difference <= _KERNEL_ROUNDING * expected.abs().max().item():
        raise ValueError(
            f"a {type(layer).__name__} makes something else of its inputs than a product with its dequantised weight "
            f"({difference:g} off): {_REMEDY}."
        )


def _empty_linear(layer: nn.Module, weight: Tensor) -> tuple[nn.Module, Tensor]:
    """The kind of layer that was quantised, and its weight as that stores it."""
    n_out, n_in = layer_sizes(layer)
    source: Any = getattr(layer, "source_cls", nn.Linear)
    if source.__name__ == "Conv1D":
        with torch.device("meta"):
            return source(n_out, n_in), weight.T.contiguous()
    has_bias = layer._parameters.get("bias") is not None
    return nn.Linear(n_in, n_out, bias=has_bias, device="meta"), weight
