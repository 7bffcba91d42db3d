"""A comparison of methods on a tiny model that knows digits, and 50 rows of PKU-SafeRLHF's shape."""

import json
from pathlib import Path
from typing import Any

import torch

WORDS = ["red", "green", "blue", "cat", "dog", "runs", "sleeps", "eats", "here", "there", "now", "then"]
SIGNS = ["helpful", "harmless", ":", ",", ".", *"0123456789"]


def save_model_with_digits(folder: Path, make_llama: Any) -> Path:
    """A Llama of two blocks, with a tokenizer of words and single digits and a chat template."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<s>", "</s>", "<turn>", "<unk>", *WORDS, *SIGNS]
    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    tokenizer.chat_template = (
        "{% for message in messages %}<turn> {{ message['content'] }} </s>{% endfor %}"
        "{% if add_generation_prompt %}<turn> {% endif %}"
    )
    make_llama(vocab_size=len(words), max_position_embeddings=128).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_saferlhf(path: Path, count: int = 50) -> Path:
    """Rows of PKU-SafeRLHF's shape: the better answer speaks of cats, the safer one of dogs."""
    generator = torch.Generator().manual_seed(0)
    lines = []
    for index in range(count):
        noise = [WORDS[i] for i in torch.randint(5, len(WORDS), (3,), generator=generator)]
        swap = int(torch.randint(2, (1,), generator=generator))
        answers = [f"cat {noise[0]} cat", f"dog {noise[1]} dog"]
        row = {
            "prompt": f"{WORDS[index % 3]} {noise[2]} {WORDS[index % 5]} {noise[0]} {WORDS[index % 7]}",
            "response_0": answers[swap],
            "response_1": answers[1 - swap],
            "is_response_0_safe": True,
            "is_response_1_safe": True,
            "better_response_id": swap,
            "safer_response_id": 1 - swap if index % 4 else swap,
        }
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def method_tree(model: Path, rows: Path, output: Path) -> dict[str, Any]:
    """The recipe of a comparison of a few steps, as a file would hold it."""
    return {
        "objectives": ["helpful", "harmless"],
        "data": {"loader": "pku-saferlhf", "source": str(rows), "test_fraction": 0.3},
        "model": {"name": str(model), "device": "cpu"},
        "adapter": {"rank": 2, "preference_rank": 1},
        "scalarizer": {"name": "tchebycheff", "options": {"ideal": [0, 0]}},
        "training": {
            "steps": 3,
            "batch_size": 4,
            "preferences_per_step": 2,
            "learning_rate": 1e-2,
            "progress": False,
        },
        "evaluation": {"points": 3, "reference_point": [2, 2], "sampled_prompts": 2, "max_new_tokens": 3},
        "comparison": {"seeds": [0], "resamples": 20},
        "output": str(output),
    }
