"""Activations below the first adapter: the same at every step and for every preference, so computed once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from mopref.conditioning.preference_model import PreferenceModel, block_index, find_preference_model
from mopref.evaluation_mode import evaluation_mode

__all__ = ["check_frozen_layers", "first_adapted_block", "lower_hidden_states", "skip_lower_layers"]


def first_adapted_block(model: PreferenceModel) -> int:
    """The index of the first block with an adapter: the blocks below it are frozen whatever the preference.

    Raises:
        ValueError: an adapter outside the blocks, below which nothing is known to be frozen.
    """
    indices = [block_index(name) for name in model.adapters]
    if any(index is None for index in indices):
        outside = next(name for name in model.adapters if block_index(name) is None)
        raise ValueError(f"{outside} is adapted outside the transformer blocks: no block is known to stay frozen.")
    return min(cast(list[int], indices))


@contextmanager
def skip_lower_layers(model: nn.Module) -> Iterator[None]:
    """Within this block ``inputs_embeds`` are what enters the first adapted block; the ones below are not run."""
    decoder, start = _decoder(model)
    with _blocks(decoder, decoder.layers[start:]):
        yield


def lower_hidden_states(model: PreferenceModel, sequences: dict[str, Tensor]) -> list[Tensor]:
    """What enters the first adapted block, for a batch of :func:`collate_sequences`: N tensors ``(tokens, H)``.

    Without gradients, in the model's own type, on its device.
    """
    decoder, start = _decoder(model)
    norm = decoder.norm
    try:
        decoder.norm = nn.Identity()
        with evaluation_mode(decoder), torch.no_grad(), _blocks(decoder, decoder.layers[:start]):
            states = decoder(
                input_ids=sequences["input_ids"],
                attention_mask=sequences["attention_mask"],
                position_ids=sequences["position_ids"],
                use_cache=False,
            ).last_hidden_state
    finally:
        decoder.norm = norm
    return [row[mask.bool()].clone() for row, mask in zip(states, sequences["attention_mask"], strict=True)]


def check_frozen_layers(model: PreferenceModel, sequences: dict[str, Tensor], states: list[Tensor]) -> None:
    """Compare the base's output from kept activations with its ordinary output, on one sequence.

    Some architectures treat ``inputs_embeds`` in ways of their own (scaling, added positions): here they are noticed.

    Raises:
        ValueError: the two outputs differ.
    """
    tokens = sequences["attention_mask"][0].bool()
    positions = sequences["position_ids"][:1, tokens]
    with evaluation_mode(model), torch.no_grad(), model.disabled():
        expected = model(input_ids=sequences["input_ids"][:1, tokens], position_ids=positions, use_cache=False)
        with skip_lower_layers(model):
            found = model(inputs_embeds=states[0].unsqueeze(0), position_ids=positions, use_cache=False)
    difference = (expected.logits - found.logits).abs().max().item()
    # Padding and another order of sums bring some rounding.
    allowed = 1e3 * torch.finfo(expected.logits.dtype).eps * max(1.0, expected.logits.abs().max().item())
    if not difference <= allowed:
        raise ValueError(
            f"{type(model.base_model).__name__} gives other logits from kept activations (largest difference "
            f"{difference:g}, allowed {allowed:g}): its lower layers cannot be computed apart. Leave frozen_layers off."
        )


def _decoder(model: nn.Module) -> tuple[Any, int]:
    """The stack of blocks, and the index of the first adapted one."""
    conditioned = find_preference_model(model)
    if conditioned is None:
        raise TypeError(f"a {type(model).__name__} has no adapters, so no block is known to be below the first one.")
    base = cast(Any, conditioned.base_model)
    decoder = base.get_decoder() if hasattr(base, "get_decoder") else base
    if not isinstance(getattr(decoder, "layers", None), nn.ModuleList) or not hasattr(decoder, "norm"):
        raise ValueError(
            f"{type(base).__name__} has no stack of blocks called 'layers' with a final 'norm', as Llama's family has: "
            "its lower layers cannot be computed apart. Leave frozen_layers off."
        )
    return decoder, first_adapted_block(conditioned)


@contextmanager
def _blocks(decoder: Any, blocks: nn.ModuleList) -> Iterator[None]:
    every = decoder.layers
    decoder.layers = blocks
    try:
        yield
    finally:
        decoder.layers = every
