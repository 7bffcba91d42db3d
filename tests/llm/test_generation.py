"""Answers: each prompt under its own preference, the same alone as in a batch, lengths without padding."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.generation import answer_prompts

WORDS = [f"w{i}" for i in range(97)]


@pytest.fixture(scope="module")
def tokenizer():
    core = Tokenizer(
        models.WordLevel({w: i for i, w in enumerate(["<pad>", "<s>", "</s>", *WORDS])}, unk_token="<pad>")
    )
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


@pytest.fixture
def model(make_llama, randomise):
    return randomise(PreferenceModel(make_llama(), SVDLoRAConfig(objectives=("a", "b"))))


PROMPTS = ["w1 w2 w3 w4 w5", "w9", "w20 w21"]


def test_batch_equals_one_at_a_time(model, tokenizer):
    preferences = torch.tensor([[1.0, 0.0], [0.2, 0.8], [0.0, 1.0]])
    together = answer_prompts(model, tokenizer, PROMPTS, preferences, max_new_tokens=8)
    alone = [
        answer_prompts(model, tokenizer, [prompt], preference.view(1, -1), max_new_tokens=8)[0]
        for prompt, preference in zip(PROMPTS, preferences, strict=True)
    ]
    assert together == alone
    other = answer_prompts(model, tokenizer, PROMPTS, preferences.flip(1), max_new_tokens=8)
    assert [a.text for a in other] != [a.text for a in together]


def test_length_counts_neither_the_end_nor_padding(model, tokenizer):
    """Generation that ends at once beside one that goes on: the first is padded, and has no token."""

    def end_first_row_now(prompt_index):
        def processor(input_ids, scores):
            scores = scores.clone()
            scores[:, 2] = -torch.inf
            if input_ids.shape[1] == 6:
                scores[prompt_index] = -torch.inf
                scores[prompt_index, 2] = 0.0
            return scores

        return processor

    answers = answer_prompts(
        model,
        tokenizer,
        PROMPTS,
        torch.tensor([[0.5, 0.5]]),
        max_new_tokens=5,
        logits_processor=[end_first_row_now(1)],
    )
    assert [answer.num_tokens for answer in answers] == [5, 1, 5]
    assert len(answers[1].text.split()) == 1


def test_wrong_number_of_preferences(model, tokenizer):
    with pytest.raises(ValueError, match="3 prompts and 2 preferences"):
        answer_prompts(model, tokenizer, PROMPTS, torch.tensor([[0.5, 0.5], [1.0, 0.0]]))


def test_mode_is_restored(model, tokenizer):
    model.train()
    answer_prompts(model, tokenizer, PROMPTS[:1], torch.tensor([[0.5, 0.5]]), max_new_tokens=1)
    assert model.training
