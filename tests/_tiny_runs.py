"""A tiny model folder, records for it, and a recipe on both: what tests of recipes and of the command line share."""

import json
from pathlib import Path
from typing import Any

import torch

WORDS = ["red", "green", "blue", "cat", "dog", "runs", "sleeps", "eats", "here", "there", "now", "then"]


def save_model(folder: Path, make_llama: Any) -> Path:
    """A Llama of three blocks, with a tokenizer of words and a chat template."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(["<pad>", "<s>", "</s>", "<turn>", "<unk>", *WORDS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    tokenizer.chat_template = (
        "{% for message in messages %}<turn> {{ message['content'] }} </s>{% endfor %}"
        "{% if add_generation_prompt %}<turn> {% endif %}"
    )
    make_llama(num_hidden_layers=3, max_position_embeddings=256, vocab_size=len(vocabulary)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def pair_records(count: int = 40) -> list[dict[str, Any]]:
    """Pairs with opposite labels: "helpful" likes cats, "harmless" likes dogs and is silent on every fourth pair."""
    generator = torch.Generator().manual_seed(0)
    records = []
    for index in range(count):
        noise = [WORDS[i] for i in torch.randint(5, len(WORDS), (3,), generator=generator)]
        swap = int(torch.randint(2, (1,), generator=generator))
        answers = [f"cat {noise[0]} cat", f"dog {noise[1]} dog"]
        records.append(
            {
                "prompt": f"{WORDS[index % 3]} {noise[2]} {WORDS[index % 5]} {noise[0]}",
                "response_0": answers[swap],
                "response_1": answers[1 - swap],
                "helpful": swap,
                "harmless": 1 - swap if index % 4 else -1,
            }
        )
    return records


def write_lines(records: list[dict[str, Any]], path: Path) -> Path:
    """Records as a file, one a line."""
    path.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    return path


def recipe_tree(model: Path, records: Path, output: Path) -> dict[str, Any]:
    """A recipe of a few steps, as a file would hold it."""
    return {
        "objectives": ["helpful", "harmless"],
        "data": {"source": str(records), "test_fraction": 0.25},
        "model": {"name": str(model), "device": "cpu"},
        "adapter": {"rank": 4, "layers": [-2, -1]},
        "scalarizer": {"name": "tchebycheff", "options": {"ideal": [0, 0]}},
        "sampler": {"name": "vertex-biased", "options": {"vertex_probability": 0.5}},
        "training": {
            "steps": 6,
            "batch_size": 4,
            "preferences_per_step": 1,
            "learning_rate": 1e-2,
            "log_every": 2,
            "checkpoint_every": 4,
            "progress": False,
        },
        "evaluation": {"points": 3, "reference_point": [1, 1], "prompts": ["red cat", "blue dog"], "max_new_tokens": 4},
        "output": str(output),
    }
