"""A tiny language model, its tokenizer and rows for it, made once before workers are forked."""

import copy
from functools import lru_cache
from typing import Any

import torch

import mopref

__all__ = ["NAMES", "WORDS", "adapted", "base", "prompt_rows", "records", "rows", "tokenizer"]

NAMES = ("helpful", "harmless")
WORDS = ("red", "green", "blue", "cat", "dog", "runs", "sleeps", "eats")


@lru_cache
def tokenizer() -> Any:
    """A tokenizer of words with a chat template."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(("<pad>", "<s>", "</s>", "<turn>", "<unk>", *WORDS))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    made.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    made.chat_template = (
        "{% for message in messages %}<turn> {{ message['content'] }} </s>{% endfor %}"
        "{% if add_generation_prompt %}<turn> {% endif %}"
    )
    return made


@lru_cache
def _base(num_hidden_layers: int = 1) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=5 + len(WORDS),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(config).eval()


def base(num_hidden_layers: int = 1) -> Any:
    """A Llama of one block or more, a copy."""
    return copy.deepcopy(_base(num_hidden_layers))


def adapted() -> Any:
    """The same with adapters for two objectives."""
    return mopref.PreferenceModel(base(), mopref.SVDLoRAConfig(NAMES, rank=1, preference_rank=1))


def records() -> list[dict[str, Any]]:
    """Three pairs."""
    return [
        {"prompt": "red cat", "response_0": "cat runs", "response_1": "dog eats", "helpful": 0, "harmless": 1},
        {"prompt": "blue", "response_0": "dog", "response_1": "cat sleeps", "helpful": 1, "harmless": -1},
        {
            "prompt": [{"role": "user", "content": "green dog"}],
            "response_0": "red",
            "response_1": "blue",
            "helpful": 1,
            "harmless": 0,
        },
    ]


def prompt_rows() -> list[dict[str, Any]]:
    """Two prompts as token ids."""
    return [{"prompt": "red cat", "prompt_ids": [3, 5, 8, 2]}, {"prompt": "blue", "prompt_ids": [3, 7, 2]}]


def rows() -> list[dict[str, Any]]:
    """Two rows that serve every objective on data."""
    return [
        {
            "prompt": "red cat",
            "prompt_ids": [3, 5, 8, 2],
            "response_0_ids": [8, 9, 2],
            "response_1_ids": [9, 2],
            "response_ids": [8, 9, 2],
            "mismatched_response_ids": [9, 2],
            "labels": labels,
            "dimensions": dimensions,
        }
        for labels, dimensions in (([0, 1], [True, False]), ([1, -1], [False, True]))
    ]
