"""A tiny model that is served: random adapters, so that λ matters, and a tokenizer of words."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parent))

WORDS = [f"w{i}" for i in range(96)]


@pytest.fixture(scope="session")
def tokenizer():
    """Ninety-six words, and a chat template that ends turns with </s>."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(["<pad>", "<s>", "</s>", "<turn>", *WORDS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    made.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    made.chat_template = (
        "{% for message in messages %}<turn> {{ message['content'] }} </s>{% endfor %}"
        "{% if add_generation_prompt %}<turn> {% endif %}"
    )
    return made


@pytest.fixture
def model(make_llama, randomise):
    """A tiny Llama of two objectives, whose logits differ by whole units."""
    from mopref import PreferenceModel, SVDLoRAConfig

    config = SVDLoRAConfig(objectives=("helpful", "harmless"), rank=4, preference_rank=2)
    return randomise(PreferenceModel(make_llama(max_position_embeddings=256), config)).eval()


@pytest.fixture
def alone(model):
    """The greedy tokens of a prompt by itself, by ``generate``, at a preference."""
    from mopref.llm.policy import Sampling, sample_responses

    def alone(prompt_ids, preference, count, stops=()):
        sampling = Sampling(max_new_tokens=count, stop_token_ids=stops)
        (response,) = sample_responses(model, [list(prompt_ids)], torch.tensor([preference]), sampling, greedy=True)
        return response.ids

    return alone
