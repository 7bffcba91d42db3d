"""A tiny random model of every family of causal language models that the installed transformers has.

A family is a name in transformers' own table of causal language models. Its model has the family's own configuration
with a few sizes made small, and keeps the rest of it, dropout too. Weights are large, so that logits differ by whole
units and an adapter that is left out shows.
"""

import importlib
import inspect
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from mopref.conditioning.base_model import keep_gradients

__all__ = [
    "FAMILIES",
    "MISSING",
    "PACKED_BASES",
    "PACKED_PACKAGES",
    "SEQUENCE_TO_SEQUENCE",
    "VOCABULARY",
    "WINDOW",
    "tiny_config",
    "tiny_model",
]

VOCABULARY = 97
# What sliding windows and chunks of attention see; longer rows tell them from full attention.
WINDOW = 8
WEIGHT_DEVIATION = 0.2

# By the names that configurations have for them; each takes those that it knows.
_SIZES: dict[str, Any] = {
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input", "unpadded_vocab_size"), VOCABULARY),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "embedding_size", "emb_dim", "lru_width"), 32),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "dff", "d_inner", "dim_ff"), 48),
    **dict.fromkeys(("decoder_ffn_dim", "encoder_ffn_dim", "feed_forward_size", "dense_intermediate_size"), 48),
    **dict.fromkeys(("moe_intermediate_size", "expert_ffn_hidden_size", "shared_intermediate_size"), 24),
    **dict.fromkeys(("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size"), 24),
    **dict.fromkeys(("shared_experts_intermediate_size", "router_hidden_size"), 24),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 2),
    **dict.fromkeys(("decoder_layers", "encoder_layers", "num_decoder_layers", "num_encoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "swa_num_attention_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads"), 4),
    **dict.fromkeys(("num_decoder_attention_heads", "num_encoder_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "swa_num_key_value_heads"), 2),
    **dict.fromkeys(("head_dim", "swa_head_dim", "v_head_dim", "kv_channels", "dim_head"), 8),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "index_head_dim", "linear_head_dim"), 8),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 16),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "context_length"), 128),
    **dict.fromkeys(("original_max_position_embeddings", "max_target_positions"), 128),
    **dict.fromkeys(("sliding_window", "sliding_window_size", "window_size", "attention_window_size"), WINDOW),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_k", "zero_expert_num"), 2),
    **dict.fromkeys(("n_group", "topk_group", "first_k_dense_replace", "num_dense_layers"), 1),
    # So many heads that no index score is exactly 0, where the choice of tokens would hang on rounding.
    "index_n_heads": 16,
    "index_topk": 4,
    **dict.fromkeys(("mamba_d_state", "state_size", "ssm_state_size", "mamba_d_head", "mamba_head_dim"), 8),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads"), 8),
    **dict.fromkeys(("mamba_n_groups", "n_groups"), 1),
    **dict.fromkeys(("mamba_chunk_size", "chunk_size", "block_size"), WINDOW),
    **dict.fromkeys(("time_step_rank", "mamba_dt_rank", "rotary_dim", "gated_norm_rank", "loop_gate_rank"), 4),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 8),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_heads"), 2),
    "linear_num_value_heads": 4,
    "hidden_size_per_layer_input": 8,
    "num_kv_shared_layers": 0,
    "laurel_rank": 4,
    "rel_extent": 16,
    "d_rel": 4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

_MIXED_TYPES = ["sliding_attention", "sliding_attention", "full_attention", "full_attention"]
_MIXED = {"num_hidden_layers": 4, "layer_types": _MIXED_TYPES}
_WITH_WINDOW = {**_MIXED, "use_sliding_window": True}
_ALTERNATE = {"num_hidden_layers": 4}
_LINEAR_AND_FULL = {"num_hidden_layers": 4, "layer_types": ["linear_attention", "full_attention"] * 2}
# Latent attention has no groups of heads.
_LATENT = {"num_key_value_heads": 4}
_DECODER = {"is_decoder": True}

# What a family needs beside the common sizes.
_SETTINGS: dict[str, dict[str, Any]] = {
    "afmoe": _ALTERNATE,
    "apertus": {},
    "apertus1p5_text": {},
    "arcee": {},
    "aria_text": {},
    "axk1": _LATENT,
    "axk2": _LATENT,
    "bailing_hybrid": {**_LATENT, "num_hidden_layers": 4, "layer_group_size": 2},
    "bamba": {"attn_layer_indices": [1]},
    "bart": {},
    "beam": _ALTERNATE,
    "bert": _DECODER,
    "bert-generation": _DECODER,
    "big_bird": {**_DECODER, "attention_type": "original_full"},
    "bigbird_pegasus": {"attention_type": "original_full"},
    "biogpt": {},
    "bitnet": {},
    "blenderbot": {},
    "blenderbot-small": {},
    "bloom": {},
    "camembert": _DECODER,
    "codegen": {},
    "cohere": {"logit_scale": 1.0},
    "cohere2": {**_ALTERNATE, "logit_scale": 1.0},
    "cohere2_moe": _ALTERNATE,
    "cohere_compass_text": {
        **_MIXED,
        "rope_parameters": {kind: {"rope_type": "default", "rope_theta": 1e4} for kind in _MIXED_TYPES},
    },
    "cpmant": {"prompt_length": 4},
    "ctrl": {},
    "cwm": _ALTERNATE,
    "data2vec-text": _DECODER,
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 24, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v2": _LATENT,
    "deepseek_v3": _LATENT,
    "deepseek_v32": _LATENT,
    "deepseek_v4": {
        "num_hidden_layers": 4,
        "num_key_value_heads": 1,
        "o_groups": 2,
        "o_lora_rank": 8,
        "mlp_layer_types": ["hash_moe", "moe", "moe", "moe"],
    },
    "diffllama": {},
    "doge": {},
    "dory": {"num_hidden_layers": 4, "n_input_layers": 1, "n_output_layers": 1},
    "dots1": {**_MIXED, "n_shared_experts": 1},
    "dots3_note_text": _LATENT,
    "electra": _DECODER,
    "ernie": _DECODER,
    "ernie4_5": {},
    "ernie4_5_moe": {},
    "exaone": {},
    "exaone4": _ALTERNATE,
    "exaone_moe": _ALTERNATE,
    "falcon": {},
    "falcon_h1": {"mamba_d_ssm": 64},
    "falcon_mamba": {},
    "flex_olmo": {},
    "flint": _ALTERNATE,
    "gemma": {},
    "gemma2": _ALTERNATE,
    "gemma3_text": _MIXED,
    "gemma3n_text": {**_MIXED, "intermediate_size": [48] * 4, "activation_sparsity_pattern": [0.0] * 4},
    "gemma4_text": {**_ALTERNATE, "global_head_dim": 8},
    "gemma4_unified_text": {**_ALTERNATE, "global_head_dim": 8},
    "git": {
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "image_size": 32,
        }
    },
    "glm": {},
    "glm4": {},
    "glm4_moe": {},
    "glm4_moe_lite": _LATENT,
    "glm_moe_dsa": _LATENT,
    "gpt-sw3": {},
    "gpt2": {},
    "gpt_bigcode": {},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gpt_neox": {},
    "gpt_neox_japanese": {},
    "gpt_oss": _ALTERNATE,
    "gptj": {},
    "granite": {},
    "granite_swa": _ALTERNATE,
    "granitemoe": {},
    "granitemoe_swa": _ALTERNATE,
    "granitemoehybrid": _LINEAR_AND_FULL,
    "granitemoeshared": {},
    "helium": {},
    "hrm_text": {},
    "hunyuan_v1_dense": {},
    "hunyuan_v1_moe": {},
    "hy_v3": {},
    "hy_v4": {},
    "hyperclovax": {},
    "inkling2_loop_text": {},
    "inkling2_text": {},
    "inkling_text": {"logits_mup_width_multiplier": 1.0},
    "internlm3": {},
    "iquestcoder": {},
    "jais2": {},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1},
    "jetmoe": {},
    "kimi_linear": {**_LATENT, **_LINEAR_AND_FULL},
    "kolibri1": _MIXED,
    "laguna": {**_MIXED, "num_attention_heads_per_layer": [4] * 4},
    "lara_mini": _ALTERNATE,
    "lfm2": {"num_hidden_layers": 4, "layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"num_hidden_layers": 4, "layer_types": ["conv", "full_attention"] * 2},
    "lfm3": _ALTERNATE,
    "llama": {},
    "llama4_text": {**_ALTERNATE, "attention_chunk_size": WINDOW, "intermediate_size_mlp": 48},
    "longcat_flash": _LATENT,
    "mamba": {},
    "mamba2": {"num_heads": 8},
    "marian": {},
    "mbart": {},
    "megatron-bert": _DECODER,
    "mellum": _MIXED,
    "mimo_v2_flash": _ALTERNATE,
    "minicpm3": _LATENT,
    "minimax": _ALTERNATE,
    "minimax_m2": {},
    "minimax_m3_vl_text": {},
    "ministral": _MIXED,
    "ministral3": {},
    "mistral": {},
    "mixtral": {},
    "modernbert-decoder": {**_ALTERNATE, "local_attention": 2 * WINDOW, "cls_token_id": 1, "sep_token_id": 2},
    "moshi": {},
    "mpt": {},
    "mvp": {},
    "nanochat": {},
    "nemotron": {},
    "nemotron_h": {"layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"]},
    "olmo": {},
    "olmo2": {},
    "olmo3": _ALTERNATE,
    "olmo_hybrid": _ALTERNATE,
    "olmoe": {},
    "openai-gpt": {},
    "opt": {},
    "pegasus": {},
    "persimmon": {},
    "phi": {},
    "phi3": {},
    "phimoe": {},
    "plbart": {},
    "prophetnet": _DECODER,
    "qwen2": _WITH_WINDOW,
    "qwen2_moe": {},
    "qwen3": _WITH_WINDOW,
    "qwen3_5_moe_text": _ALTERNATE,
    "qwen3_5_text": _ALTERNATE,
    "qwen3_moe": {},
    "qwen3_next": _ALTERNATE,
    "qwen4_exp_text": {
        "num_hidden_layers": 4,
        "hc_lowrank": 8,
        "heads_per_ngram": 2,
        "ngram_vocab_size_base": 64,
        "split_ngram_parts": 1,
        "make_ngram_vocab_size_divisible_by": 8,
        "indexer_n_heads": 4,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 4,
        "indexer_compress_ratio": 2,
    },
    "recurrent_gemma": {"num_hidden_layers": 3},
    "rembert": {**_DECODER, "input_embedding_size": 32, "output_embedding_size": 48},
    "roberta": _DECODER,
    "roberta-prelayernorm": _DECODER,
    "roc_bert": {
        **_DECODER,
        "pronunciation_embed_dim": 8,
        "pronunciation_vocab_size": VOCABULARY,
        "shape_embed_dim": 8,
        "shape_vocab_size": VOCABULARY,
    },
    "roformer": _DECODER,
    "rwkv": {},
    "sarvam_mla": _LATENT,
    "sarvam_moe": {},
    "seed_oss": {},
    "smollm3": _WITH_WINDOW,
    "solar_open": {},
    "stablelm": {},
    "starcoder2": {},
    "trocr": {},
    "vaultgemma": _ALTERNATE,
    "whisper": {},
    "xglm": {},
    "xlm": {"causal": True},
    "xlm-roberta": _DECODER,
    "xlm-roberta-xl": _DECODER,
    "xlnet": {},
    "xlstm": {"hidden_size": 128},
    "xmod": {**_DECODER, "default_language": "en_XX"},
    "youtu": _LATENT,
    "zamba": {"num_hidden_layers": 5, "attn_layer_period": 2, "attn_layer_offset": 1},
    "zamba2": {"num_hidden_layers": 3, "layers_block_type": ["linear_attention", "hybrid", "linear_attention"]},
    "zaya": {"num_experts_per_tok": 1},
}


def _sizes(kind: type) -> dict[str, Any]:
    """The sizes that a kind of configuration has, which in transformers 5.0 is no dataclass."""
    known = getattr(kind, "__dataclass_fields__", None) or inspect.signature(kind).parameters
    return {name: value for name, value in _SIZES.items() if name in known}


def tiny_config(family: str, **others: Any) -> Any:
    """The configuration of a family's tiny model, with other values where given."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = CONFIG_MAPPING[family]
    return kind(**{**_sizes(kind), **_SETTINGS[family], **others})


def tiny_model(family: str, **others: Any) -> nn.Module:
    """A tiny model of a family in evaluation mode, float32, the same at every call."""
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = AutoModelForCausalLM.from_config(tiny_config(family, **others))
    return _with_large_weights(model).eval()


def _with_large_weights(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, WEIGHT_DEVIATION, generator=generator)
    return model


def _encoder_decoder(family: str) -> nn.Module:
    from transformers import AutoModelForSeq2SeqLM
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = CONFIG_MAPPING[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = AutoModelForSeq2SeqLM.from_config(kind(**{**_sizes(kind), "decoder_start_token_id": 2}))
    return _with_large_weights(model).eval()


def _packed_llama(bits: str) -> nn.Module:
    """A tiny Llama whose linear layers are stored in fewer bits; an ImportError where the package is missing."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig, TorchAoConfig

    if bits == "torchao-int8":
        quantization: Any = importlib.import_module("torchao.quantization")
        settings: Any = TorchAoConfig(quantization.Int8WeightOnlyConfig())
    elif bits == "nf4":
        settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    else:
        settings = BitsAndBytesConfig(load_in_8bit=True)
    with tempfile.TemporaryDirectory() as folder:
        # Packed weights come in blocks of 64 numbers.
        tiny_model("llama", hidden_size=64, intermediate_size=128, head_dim=16).save_pretrained(folder)  # type: ignore[operator]
        model: nn.Module = AutoModelForCausalLM.from_pretrained(folder, quantization_config=settings, device_map="cpu")
    # Else the plain base would change to a kernel of half precision in its first forward, which mopref keeps it from.
    keep_gradients(model)
    return model.eval()


_WRAPPER = "its configuration holds a language model's among those of images or sounds: {} is that language model."

# Names in transformers' table whose model cannot be made small, or is no language model by itself, and why.
MISSING: dict[str, str] = {
    "blt": "its patcher and its tables of bytes have configurations of their own, and it takes bytes for tokens.",
    "dots3_note": _WRAPPER.format("dots3_note_text"),
    "emu3": "its language model is held beside an encoder of images that shares its vocabulary; it is Llama's kind.",
    "fuyu": "it holds a whole language model of another family, Persimmon.",
    "gemma3": _WRAPPER.format("gemma3_text"),
    "gemma3n": "its tower of images needs timm; gemma3n_text is its language model.",
    "gemma4": _WRAPPER.format("gemma4_text"),
    "gemma4_assistant": "it drafts tokens from another model's hidden states, and cannot run by itself.",
    "gemma4_unified": _WRAPPER.format("gemma4_unified_text"),
    "gemma4_unified_assistant": "it drafts tokens from another model's hidden states, and cannot run by itself.",
    "got_ocr2": "it reads images, and holds a whole language model of another family, Qwen2.",
    "llama4": _WRAPPER.format("llama4_text"),
    "mllama": "its blocks attend to an image's states, and it holds a text configuration of its own.",
    "moss_transcribe_diarize": "it transcribes sound, and holds a whole language model of another family.",
    "musicgen": "it is listed by the configuration of its encoders, from which its decoder cannot be made.",
    "musicgen_melody": "it is listed by the configuration of its encoders, from which its decoder cannot be made.",
    "phi4_multimodal": "it holds towers of images and sound of full size; phi3 is its language model's kind.",
    "qwen3_5": _WRAPPER.format("qwen3_5_text"),
    "qwen3_5_moe": _WRAPPER.format("qwen3_5_moe_text"),
    "qwen4_exp": _WRAPPER.format("qwen4_exp_text"),
    "reformer": "its forward in training takes only rows of a multiple of its chunks, and no positions beside a mask.",
}

FAMILIES: dict[str, Callable[[], nn.Module]] = {family: partial(tiny_model, family) for family in _SETTINGS}

# Models with an encoder, which have no log π(response | prompt) in one stream of tokens.
SEQUENCE_TO_SEQUENCE: dict[str, Callable[[], nn.Module]] = {
    f"{family}-encoder-decoder": partial(_encoder_decoder, family) for family in ("t5", "bart")
}

# The package that each needs.
PACKED_PACKAGES = {"llama-nf4": "bitsandbytes", "llama-int8": "bitsandbytes", "llama-torchao-int8": "torchao"}
PACKED_BASES: dict[str, Callable[[], nn.Module]] = {
    name: partial(_packed_llama, name.removeprefix("llama-")) for name in PACKED_PACKAGES
}
