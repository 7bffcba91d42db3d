"""Merging: a plain copy of the base model with W(λ) in place of W0."""

import copy
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

import torch
from torch import Tensor, nn

from mopref._sharded import is_sharded
from mopref.conditioning.dequantizing import dequantize_layers, dequantized_weight, is_quantized
from mopref.conditioning.layer_use import token_inputs
from mopref.conditioning.linear_layer import is_transposed, plain_weight
from mopref.conditioning.svd_lora import SVDLoRALayer
from mopref.evaluation_mode import evaluation_mode

__all__ = ["merged_model"]


def merged_model(
    base_model: nn.Module, adapters: Mapping[str, SVDLoRALayer], preference: Tensor, dequantize: bool = False
) -> nn.Module:
    """A copy of the base model, in evaluation mode, whose adapted layers have the weight W0 + ΔW(λ).

    Each layer gets a weight of its own, also where it shared one with another layer that is not adapted so, such as an
    output head with the input embeddings.

    Args:
        base_model: with the adapters in place; it stays as it is.
        adapters: by the names of their layers.
        preference: λ, ``(m,)``.
        dequantize: whether all layers whose weights are quantised get weights in float.

    Raises:
        ValueError: a base that is shared out among processes, or a layer whose weight nothing can be added to, that
            cannot be dequantised where that is asked for, or that makes something else of it than a product.
    """
    if any(map(is_sharded, base_model.parameters())):
        raise ValueError(
            "the base is shared out among processes (FSDP), and a merged copy would be whole on each: save the adapter "
            "(save_pretrained), and merge it in a process of its own."
        )
    for name, layer in adapters.items():
        _check_addable(name, layer.base_layer, dequantize)
    merged = copy.deepcopy(base_model)
    for name, module in list(merged.named_modules(remove_duplicate=False)):
        if isinstance(module, SVDLoRALayer):
            merged.set_submodule(name, module.base_layer)
    with torch.no_grad():
        added = _dequantize(merged, adapters, preference) if dequantize else set()
        for name in (name for name in adapters if name not in added):
            _add(merged.get_submodule(name), adapters[name].delta_weight(preference))
            _check_product(name, adapters[name], merged.get_submodule(name), preference)
    _untie_head(merged, adapters)
    for parameter in merged.parameters():
        # Weights that stayed quantised cannot be trained.
        parameter.requires_grad_(type(parameter) is nn.Parameter and parameter.is_floating_point())
    return merged.eval()


def _check_addable(name: str, layer: nn.Module, dequantize: bool) -> None:
    if plain_weight(layer) is not None or (dequantize and is_quantized(layer)):
        return
    kind, way = type(layer).__name__, ""
    if is_quantized(layer):
        with suppress(ValueError):
            dequantized_weight(layer)
            way = "merge with dequantize=True (mopref export --dequantize), which gives a copy in float; or "
    raise ValueError(
        f"the weight of {name} is quantised, computed from others or not in memory ({kind}), so nothing can be added "
        f"to it: {way}load the base in float and whole, or export a LoRA."
    )


def _dequantize(merged: nn.Module, adapters: Mapping[str, SVDLoRALayer], preference: Tensor) -> set[str]:
    """Put weights in float in place of all quantised ones, W(λ) where they are adapted; the adapters so served."""
    layer_of = {id(merged.get_submodule(name)): layer for name, layer in adapters.items()}

    def addition(quantized: nn.Module) -> Tensor | None:
        layer = layer_of.get(id(quantized))
        return None if layer is None else layer.delta_weight(preference)

    return dequantize_layers(merged, addition) & adapters.keys()


def _add(layer: nn.Module, delta: Tensor) -> None:
    weight = cast(Tensor, plain_weight(layer))
    # The sum is rounded to the base's type once.
    total = weight.to(delta.dtype) + (delta.T if is_transposed(layer) else delta)
    layer.weight = nn.Parameter(total.to(weight.dtype))


def _check_product(name: str, layer: SVDLoRALayer, merged: nn.Module, preference: Tensor) -> None:
    """Refuse a layer of another class than PyTorch's own that does more with its weight than to multiply with it."""
    if type(layer.base_layer) is nn.Linear or layer.transposed:
        return
    delta = layer.delta_weight(preference)
    weight = cast(Tensor, plain_weight(merged))
    x = torch.linspace(-1, 1, layer.n_in, device=weight.device, dtype=weight.dtype).view(1, 1, -1)
    expected = layer.base_layer(x) + (x.to(delta.dtype) @ delta.T).to(weight.dtype)
    difference = (merged(x) - expected).abs().max().item()
    allowed = 1e3 * torch.finfo(weight.dtype).eps * max(1.0, expected.abs().max().item())
    if not difference <= allowed:
        raise ValueError(
            f"{name} is a {type(layer.base_layer).__name__}, which does more with its weight than to multiply with it "
            f"(the merged layer is {difference:g} off): export a LoRA instead."
        )


def _untie_head(merged: nn.Module, adapters: Mapping[str, SVDLoRALayer]) -> None:
    """Let a merged head keep the weight of its own when the model is saved, loaded or tied again."""
    find_head: Any = getattr(merged, "get_output_embeddings", None)
    head = None if find_head is None else find_head()
    names = [name for name in adapters if merged.get_submodule(name) is head]
    if head is None or not names:
        return
    before = _small_logits(merged)
    config = cast(Any, merged).config
    for part in {id(part): part for part in (config, config.get_text_config())}.values():
        part.tie_word_embeddings = False
    for attribute in ("_tied_weights_keys", "all_tied_weights_keys"):
        keys = getattr(merged, attribute, None)
        if keys:
            kept = [key for key in keys if key not in {f"{name}.weight" for name in names}]
            setattr(merged, attribute, {key: keys[key] for key in kept} if isinstance(keys, Mapping) else kept)
    after = _small_logits(merged)
    if before is not None and after is not None and not torch.allclose(after, before, rtol=1e-3, atol=1e-3):
        raise ValueError(
            f"{type(merged).__name__} makes something else of its output head where that has a weight of its own: "
            "export a LoRA instead, or train adapters without the head, by target_modules."
        )


def _small_logits(model: nn.Module) -> Tensor | None:
    """Logits of a few tokens, in evaluation mode; ``None`` of what is no language model that can be run at once."""
    inputs = token_inputs(model, 2, 3)
    if inputs is None:
        return None
    with evaluation_mode(model), torch.no_grad():
        logits: Tensor = model(**inputs).logits
    return logits
