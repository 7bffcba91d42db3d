"""Answers: each prompt under its own preference, the same alone as in a batch, lengths without padding."""

import copy

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GenerationConfig, PreTrainedTokenizerFast

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.policy.generation import Sampling, answer_prompts, sample_responses, stop_tokens

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


def test_the_models_own_generation_settings_play_no_part(make_llama):
    """A model may come with a top-k, a penalty or a low temperature: another policy than the trained one."""
    base = make_llama(vocab_size=24)
    base.generation_config = GenerationConfig(
        do_sample=True, top_k=1, temperature=0.01, repetition_penalty=9.0, eos_token_id=list(range(24))
    )
    own = base.generation_config
    model = PreferenceModel(base, SVDLoRAConfig(objectives=("a", "b")))
    torch.manual_seed(0)
    sampling = Sampling(max_new_tokens=1, temperature=2.0, stop_token_ids=())
    responses = sample_responses(model, [[3, 4, 5]], torch.tensor([[0.5, 0.5]]), sampling, samples_per_prompt=20_000)
    shares = torch.bincount(torch.tensor([response.ids[0] for response in responses]), minlength=24) / len(responses)
    with torch.no_grad():
        exact = torch.softmax(base(torch.tensor([[3, 4, 5]])).logits[0, -1] / 2.0, dim=-1)
    torch.testing.assert_close(shares, exact, atol=0.015, rtol=0)
    assert base.generation_config is own


def test_stop_tokens_and_lengths(model):
    preferences = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    torch.manual_seed(0)
    stops = tuple(range(3, 30))
    sampling = Sampling(max_new_tokens=6, min_new_tokens=2, stop_token_ids=stops)
    responses = sample_responses(model, [[40, 41], [50]], preferences, sampling, samples_per_prompt=50)
    assert len(responses) == 100
    for response in responses:
        inside = [token in stops for token in response.ids]
        assert response.finished == inside[-1]
        assert not any(inside[:-1]), "a response ends at its first stop token"
        assert len(response.ids) == 6 or response.finished
        assert len(response.content) == len(response.ids) - response.finished >= 2
    assert {response.finished for response in responses} == {True, False}


def test_stop_tokens_of_a_tokenizer(tokenizer):
    """The end of a sequence, and the chat template's end of turn where there is one."""
    assert stop_tokens(tokenizer) == (2,)
    chat = copy.deepcopy(tokenizer)
    chat.add_special_tokens({"additional_special_tokens": ["<end>"]})
    chat.chat_template = "{% for message in messages %}{{ message['content'] }} <end> {% endfor %}"
    assert stop_tokens(chat) == (2, chat.convert_tokens_to_ids("<end>"))


def test_answers_can_be_sampled(model, tokenizer):
    sampling = Sampling(max_new_tokens=5, temperature=3.0)
    torch.manual_seed(0)
    first = answer_prompts(model, tokenizer, PROMPTS, torch.tensor([[0.5, 0.5]]), sampling=sampling)
    second = answer_prompts(model, tokenizer, PROMPTS, torch.tensor([[0.5, 0.5]]), sampling=sampling)
    assert first != second


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0: a response has at least 1 token"),
        ({"max_new_tokens": 3, "min_new_tokens": 4}, "min_new_tokens is 4: it lies in 0 … max_new_tokens = 3"),
        ({"min_new_tokens": -1}, "min_new_tokens is -1"),
        ({"temperature": 0.0}, r"temperature is 0\.0: it must be positive"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"top_p": 0.0}, r"top_p is 0\.0: it is a probability"),
        ({"top_p": 1.5}, r"top_p is 1\.5"),
    ],
)
def test_sampling_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**settings)


def test_stop_tokens_may_be_any_integers():
    assert Sampling(stop_token_ids=[torch.tensor(3), 5]).stop_token_ids == (3, 5)


def test_stop_tokens_must_be_known(model):
    with pytest.raises(ValueError, match=r"stop_token_ids is None: give those of the tokenizer"):
        sample_responses(model, [[3]], torch.tensor([[0.5, 0.5]]), Sampling())
    with pytest.raises(ValueError, match="2 prompts: give at least one, each of at least one token"):
        sample_responses(model, [[3], []], torch.tensor([[0.5, 0.5]]), Sampling(stop_token_ids=()))


def test_a_number_of_tokens_beside_sampling_settings_is_refused(model, tokenizer):
    """They have one of their own, and one of the two would be ignored."""
    sampling = Sampling(max_new_tokens=3)
    with pytest.raises(ValueError, match="max_new_tokens is 5 beside sampling, which has 3"):
        answer_prompts(model, tokenizer, PROMPTS[:1], torch.tensor([[0.5, 0.5]]), max_new_tokens=5, sampling=sampling)
