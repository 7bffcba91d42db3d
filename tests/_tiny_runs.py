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


def answer_records(count: int = 40) -> list[dict[str, Any]]:
    """Single answers: "helpful" likes cats and "harmless" dogs, which says nothing of every fifth answer."""
    return [
        {
            "prompt": pair["prompt"],
            "response": (response := pair[f"response_{index % 2}"]),
            "helpful": int(response.startswith("cat")),
            "harmless": int(response.startswith("dog")) if index % 5 else -1,
        }
        for index, pair in enumerate(pair_records(count))
    ]


def style_records(count: int = 40) -> list[dict[str, Any]]:
    """Responses of two styles."""
    return [
        {"prompt": pair["prompt"], "response": pair["response_0"], "dimension": ("helpful", "harmless")[index % 2]}
        for index, pair in enumerate(pair_records(count))
    ]


def kind_sections(kind: str, folder: Path) -> dict[str, Any]:
    """What a recipe says of an objective and its data, which are written into the folder."""
    sampled: dict[str, Any] = {
        "rewards": {
            "helpful": {"name": "conciseness", "options": {"target_length": 2}},
            "harmless": {"name": "conciseness", "options": {"target_length": 4}},
        },
        "data": {"source": str(write_lines(pair_records(), folder / "prompts.jsonl")), "loader": "prompts"},
        "scalarizer": {"name": "linear", "options": {}},
    }
    sampling = {"sampling": {"max_new_tokens": 3}}
    answers = {"source": str(write_lines(answer_records(), folder / "answers.jsonl")), "loader": "unpaired-records"}
    styles = {"source": str(write_lines(style_records(), folder / "styles.jsonl")), "loader": "responses"}
    sections: dict[str, dict[str, Any]] = {
        "dpo": {"objective": "dpo"},
        "simpo": {"objective": {"name": "simpo", "options": {"gamma": 0.5}}},
        "orpo": {"objective": {"name": "orpo", "options": {"weight": 0.2}}},
        "kto": {"objective": {"name": "kto", "options": {"desirable_weight": 1.5}}, "data": answers},
        "sft": {"objective": "sft", "data": styles},
        "rlhf": {"objective": {"name": "rlhf", "options": {**sampling, "samples_per_prompt": 2}}, **sampled},
        "online-dpo": {"objective": {"name": "online-dpo", "options": sampling}, **sampled},
    }
    return sections[kind]
