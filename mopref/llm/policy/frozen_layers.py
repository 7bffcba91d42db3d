"""Activations below the first adapter: the same at every step and for every preference, so computed once.

``Policy.with_lower_hidden_states`` is the way in; what it cannot do exactly for a model it refuses.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from mopref.conditioning.preference_model import PreferenceModel
from mopref.conditioning.wrapping import block_index
from mopref.evaluation_mode import evaluation_mode
from mopref.llm.data.sequences import Sequences

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
def skip_lower_layers(model: PreferenceModel) -> Iterator[None]:
    """Within this block ``inputs_embeds`` are what enters the first adapted block; the ones below are not run."""
    decoder, start = _decoder(model)
    with _blocks(decoder, decoder.layers[start:]):
        yield


def lower_hidden_states(model: PreferenceModel, sequences: Sequences) -> Tensor:
    """What enters the first adapted block, ``(N, P + R, H)``, 0 where padded.

    Without gradients, in the model's own type, on its device.
    """
    decoder, start = _decoder(model)
    norm = decoder.norm
    try:
        decoder.norm = nn.Identity()
        with evaluation_mode(decoder), torch.no_grad(), _blocks(decoder, decoder.layers[:start]):
            states: Tensor = decoder(
                input_ids=sequences.input_ids,
                attention_mask=sequences.attention_mask,
                position_ids=sequences.position_ids,
                use_cache=False,
            ).last_hidden_state
    finally:
        decoder.norm = norm
    return states.masked_fill(~sequences.attention_mask.bool().unsqueeze(-1), 0.0)


def check_frozen_layers(model: PreferenceModel, sequences: Sequences) -> None:
    """Compare the base's output from kept activations with its ordinary output, on the longest sequence.

    Some architectures treat ``inputs_embeds`` in ways of their own (scaling, added positions): here they are noticed.

    Raises:
        ValueError: the two outputs differ.
    """
    assert sequences.lower_hidden_states is not None
    row = int(sequences.attention_mask.sum(dim=1).argmax())
    tokens = sequences.attention_mask[row].bool()
    inputs, positions, states = (
        part[row : row + 1, tokens]
        for part in (sequences.input_ids, sequences.position_ids, sequences.lower_hidden_states)
    )
    with evaluation_mode(model), torch.no_grad(), model.disabled():
        expected = model(input_ids=inputs, position_ids=positions, use_cache=False).logits
        with skip_lower_layers(model):
            logits = model(inputs_embeds=states, position_ids=positions, use_cache=False).logits
    difference = (expected - logits).abs().max().item()
    # Padding and another order of sums bring some rounding.
    allowed = 1e3 * torch.finfo(expected.dtype).eps * max(1.0, expected.abs().max().item())
    if not difference <= allowed:
        raise ValueError(
            f"{type(model.base_model).__name__} gives other logits from kept activations (largest difference "
            f"{difference:g}, allowed {allowed:g}): its lower layers cannot be computed apart. Leave frozen_layers off."
        )


def _decoder(model: PreferenceModel) -> tuple[Any, int]:
    """The stack of blocks, and the index of the first adapted one."""
    base = cast(Any, model.base_model)
    decoder = base.get_decoder() if hasattr(base, "get_decoder") else base
    if not isinstance(getattr(decoder, "layers", None), nn.ModuleList) or not hasattr(decoder, "norm"):
        raise ValueError(
            f"{type(base).__name__} has no stack of blocks called 'layers' with a final 'norm', as Llama's family has: "
            "its lower layers cannot be computed apart. Leave frozen_layers off."
        )
    return decoder, first_adapted_block(model)


@contextmanager
def _blocks(decoder: Any, blocks: nn.ModuleList) -> Iterator[None]:
    every = decoder.layers
    decoder.layers = blocks
    try:
        yield
    finally:
        decoder.layers = every
