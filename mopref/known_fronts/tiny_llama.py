"""A tiny random Llama, for problems that are solved exactly beside it."""

from typing import Any

import torch
from torch import nn

from mopref.argument_kinds import checks_arguments
from mopref.setting_types import check_numbers, checked_count, checked_seed

__all__ = ["tiny_llama"]


@checks_arguments
def tiny_llama(vocabulary: int = 24, layers: int = 1, hidden: int = 64, seed: int = 0, **options: Any) -> nn.Module:
    """A Llama with random weights, in evaluation mode: nothing is downloaded, and no global generator is touched.

    Its weights are large enough for logits to differ by whole units, so that its policy is far from uniform.

    Args:
        vocabulary: V, the number of tokens.
        layers: the number of transformer blocks.
        hidden: the width, a multiple of 4.
        seed: seeds the weights.
        **options: other settings of transformers' ``LlamaConfig``.

    Raises:
        ValueError: a count below 1, or a width that four heads cannot share.

    Example:
        >>> sum(parameter.numel() for parameter in tiny_llama().parameters())
        33984
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    for name, count in (("vocabulary", vocabulary), ("layers", layers), ("hidden", hidden)):
        checked_count(count, name)
    check_numbers({"layers": layers, "hidden": hidden + vocabulary, "numbers beside": 3 * hidden})
    if hidden % 8:
        raise ValueError(f"hidden is {hidden}: four heads of an even width share it, so give a multiple of 8.")
    settings = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden // 2,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "initializer_range": 0.15,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    with torch.random.fork_rng():
        torch.manual_seed(checked_seed(seed))
        return LlamaForCausalLM(LlamaConfig(**settings | options)).eval()
