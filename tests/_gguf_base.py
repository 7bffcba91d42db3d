"""A tiny base model as an F32 GGUF file, with changes of its weights in the engine's layout: what engines load."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from torch import nn

# The names that these tests need, written out, so that nothing of ours is compared with itself.
BLOCK = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


# Whose rows of q and k the engine has in another order.
PERMUTED = ("llama", "mistral")


def engine_name(name: str) -> str:
    """The engine's name of a parameter such as "model.layers.1.self_attn.q_proj.weight"."""
    module, _, kind = name.rpartition(".")
    if module in TOP:
        return f"{TOP[module]}.{kind}"
    _, _, block, part = module.split(".", 3)
    return f"blk.{block}.{BLOCK[part]}.{kind}"


def interleaved(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of q or k, head by head, with row i and row i + half beside each other."""
    taken = []
    for head in np.split(rows, heads):
        half = len(head) // 2
        taken += [head[place + part * half] for place in range(half) for part in (0, 1)]
    return np.stack(taken)


def in_engine_order(name: str, rows: np.ndarray, config: Any) -> np.ndarray:
    """The rows of a layer's weight, or of its LoRA's B, in the engine's order."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    part = name.removesuffix(".weight").rpartition(".")[2]
    return interleaved(rows, heads[part]) if config.model_type in PERMUTED and part in heads else rows


def write_base(path: Path, model: nn.Module, changes: dict[str, np.ndarray] | None = None) -> None:
    """Write a model of one of the families in F32; ``changes``, by the engine's names, are added to its weights."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama" if config.model_type == "mistral" else config.model_type)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _add_words(writer, config.vocab_size)
    for name, parameter in model.named_parameters():
        values, to = in_engine_order(name, parameter.detach().float().numpy(), config), engine_name(name)
        writer.add_tensor(to, np.ascontiguousarray(values + (changes or {}).get(to, np.float32(0))))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_words(writer: gguf.GGUFWriter, count: int) -> None:
    """A vocabulary, without which no server starts; prompts go there as token ids."""
    special = ["<unk>", "<s>", "</s>"]
    words = [*special, *(f"▁w{place}" for place in range(len(special), count))]
    normal = [gguf.TokenType.NORMAL] * (count - len(special))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(words)
    writer.add_token_scores([0.0] * count)
    writer.add_token_types([gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL, *normal])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
