"""The example scripts as modules, and a tiny language model in a folder for them."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def load_example():
    """Import examples/<name>.py, which is no package."""

    def load(name: str):
        script = Path(__file__).parents[2] / "examples" / f"{name}.py"
        specification = importlib.util.spec_from_file_location(f"{name}_example", script)
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def make_model_folder(tmp_path_factory, make_llama):
    """Factory of model folders with a word-level tokenizer for the given words and a chat template."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    def make(words: Sequence[str], **model_options) -> Path:
        vocabulary = {word: index for index, word in enumerate(["<pad>", "<s>", "</s>", "<turn>", "<unk>", *words])}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        fast = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
        )
        fast.add_special_tokens({"additional_special_tokens": ["<turn>"]})
        fast.chat_template = (
            "{% for message in messages %}<turn> {{ message['content'] }} </s>{% endfor %}"
            "{% if add_generation_prompt %}<turn> {% endif %}"
        )
        folder = tmp_path_factory.mktemp("model")
        options = {"num_hidden_layers": 3, "max_position_embeddings": 256, "vocab_size": len(vocabulary)}
        make_llama(**{**options, **model_options}).save_pretrained(folder)
        fast.save_pretrained(folder)
        return folder

    return make
