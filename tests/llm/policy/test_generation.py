"""Answers: each prompt under its own preference, the same alone as in a batch, lengths without padding."""

import copy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import GenerationConfig, PreTrainedTokenizerFast

from mopref import PreferenceModel, SVDLoRAConfig
from mopref.llm.data.chat_template import PairTokenizer
from mopref.llm.policy import Policy
from mopref.llm.policy.generation import Sampling, answer_prompts, prompt_groups, sample_responses, stop_tokens

sys.path.append(str(Path(__file__).parents[2] / "families"))

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


SECRET = "w7 w8"


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (SECRET, "prompts is a single text of 5 characters: give a list of prompts"),
        ([{"role": "user", "content": SECRET}], "prompts is a single dialogue of 1 messages: give a list of dialogues"),
        ([], "there are no prompts"),
        ([SECRET, ""], "row 1: the prompt is empty"),
        ([SECRET, "\ud83d"], "row 1: the prompt holds half a surrogate pair"),
        ({"prompt": [SECRET]}, "prompts is a dict"),
        ([{"prompt": SECRET}], r"row 0 is a dict of 'prompt': .* take record\['prompt'\]"),
        (
            [SECRET, [{"role": "user", "content": SECRET}, {"role": "assistant", "content": SECRET}]],
            "row 1: the prompt ends with a message of the assistant's",
        ),
    ],
    ids=["text", "dialogue", "none", "empty", "surrogate", "table", "records", "assistant"],
)
def test_prompts_that_are_no_list_of_prompts(model, tokenizer, prompts, message):
    with pytest.raises(ValueError, match=message) as caught:
        answer_prompts(model, tokenizer, prompts, torch.tensor([[0.5, 0.5]]), max_new_tokens=1)
    assert SECRET not in str(caught.value)


def test_prompts_that_the_template_refuses_are_named(model, tokenizer):
    refusing = copy.deepcopy(tokenizer)
    refusing.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{{ m.content }} </s> {% endfor %}"
    )
    prompts = [SECRET, [{"role": "system", "content": SECRET}, {"role": "user", "content": SECRET}]]
    with pytest.raises(ValueError, match=r"row 1: the prompt is refused by .* \(TemplateError: no system role\)"):
        answer_prompts(model, refusing, prompts, torch.tensor([[0.5, 0.5]]), max_new_tokens=1)
    with pytest.raises(ValueError, match="row 0: the prompt holds '</s>', which opens or ends a turn"):
        answer_prompts(model, refusing, ["w1 </s> w2"], torch.tensor([[0.5, 0.5]]), max_new_tokens=1)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_one_preference_for_all_may_be_a_vector(model, tokenizer, count):
    """Also where there are as many prompts as objectives, and also by name."""
    prompts = PROMPTS[:count]
    expected = answer_prompts(model, tokenizer, prompts, torch.tensor([[0.2, 0.8]] * count), max_new_tokens=4)
    for preference in (torch.tensor([0.2, 0.8]), [0.2, 0.8], {"b": 0.8, "a": 0.2}):
        assert answer_prompts(model, tokenizer, prompts, preference, max_new_tokens=4) == expected


@pytest.mark.parametrize(
    ("prompt_ids", "message"),
    [
        ([3, 4, 5], r"prompt_ids is the ids of a single prompt: give a list of them, \[ids\] for one"),
        (torch.tensor([3, 4, 5]), "prompt_ids is the ids of a single prompt"),
        ("w1 w2", "prompt_ids, row 0, is a str: give a list of lists of token ids"),
        (["w1 w2"], "prompt_ids, row 0, is a str"),
        ([{"prompt_ids": [3]}], "prompt_ids, row 0, is a dict"),
        ([], "0 prompts: give at least one"),
    ],
)
def test_ids_that_are_no_list_of_prompts(model, prompt_ids, message):
    with pytest.raises(ValueError, match=message):
        sample_responses(model, prompt_ids, torch.tensor([[0.5, 0.5]]), Sampling(stop_token_ids=()))


def test_ids_may_be_a_matrix(model):
    sampling, preference = Sampling(max_new_tokens=3, stop_token_ids=()), torch.tensor([0.5, 0.5])
    rows = [[3, 4, 5], [6, 7, 8]]
    expected = sample_responses(model, rows, preference, sampling, greedy=True)
    assert sample_responses(model, torch.tensor(rows), preference, sampling, greedy=True) == expected


def test_stop_tokens_hold_the_templates_end_special_or_not(tokenizer):
    for special in (True, False):
        chat = copy.deepcopy(tokenizer)
        chat.add_tokens([AddedToken("<end>", special=special, normalized=False)])
        chat.chat_template = "{% for message in messages %}{{ message['content'] }} <end> {% endfor %}"
        with pytest.warns(UserWarning, match="ends a turn with '<end>', but its eos_token is '</s>'"):
            assert stop_tokens(chat) == (2, chat.convert_tokens_to_ids("<end>"))
    assert stop_tokens(PairTokenizer(tokenizer)) == (2,)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"vocabulary": ()}, r"vocabulary is \(\): give rising ranges of ids with gaps between them"),
        ({"vocabulary": (range(0, 9, 2),)}, "vocabulary is"),
        ({"vocabulary": (range(0, 3), range(3, 5))}, "vocabulary is"),
        ({"vocabulary": (range(4, 6), range(0, 2))}, "vocabulary is"),
        ({"vocabulary": (range(0, 3),), "stop_token_ids": (2, 3)}, "stop_token_ids holds 3, which is not in the token"),
    ],
)
def test_vocabularies_out_of_range(others, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**others)


@pytest.fixture
def gapped(tokenizer):
    """A tokenizer whose ids are 0 … 4, 8 and 20."""
    words = dict(zip(["<pad>", "<s>", "</s>", *WORDS[:4]], [0, 1, 2, 3, 4, 8, 20], strict=True))
    core = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def test_settings_with_what_a_tokenizer_says(tokenizer, gapped):
    settings = Sampling(temperature=2.0).for_tokenizer(gapped)
    assert settings.vocabulary == (range(0, 5), range(8, 9), range(20, 21))
    assert (settings.stop_token_ids, settings.model_stops, settings.temperature) == ((2,), True, 2.0)
    assert settings.absent_tokens(23) == [5, 6, 7, *range(9, 20), 21, 22]
    assert settings.absent_tokens(7) == [5, 6], "a model may have fewer logits"
    assert settings.vocabulary_end == 21
    assert settings.for_tokenizer(gapped) == settings == Sampling(temperature=2.0).for_tokenizer(PairTokenizer(gapped))
    own = Sampling(stop_token_ids=(), vocabulary=(range(3),))
    assert own.for_tokenizer(tokenizer) == own, "what is given stays"
    assert (own.absent_tokens(5), Sampling().absent_tokens(5), Sampling().vocabulary_end) == ([3, 4], [], None)
    with pytest.raises(ValueError, match="stop_token_ids holds 6, which is not in the tokenizer's vocabulary"):
        Sampling(stop_token_ids=(6,)).for_tokenizer(gapped)
    assert Sampling(stop_token_ids=(6,)).for_tokenizer(object()).vocabulary is None, "one that does not tell"


def test_no_token_is_sampled_that_the_tokenizer_lacks(model, gapped):
    """Rewards would read it as nothing, and training would learn from it."""
    known = {0, 1, 2, 3, 4, 8, 20}
    settings = Sampling(max_new_tokens=6, temperature=5.0).for_tokenizer(gapped)
    torch.manual_seed(0)
    responses = sample_responses(model, [[3, 4], [8]], torch.tensor([[0.5, 0.5]]), settings, samples_per_prompt=60)
    assert {token for response in responses for token in response.ids} == known
    free = replace(settings, vocabulary=None)
    responses = sample_responses(model, [[3, 4], [8]], torch.tensor([[0.5, 0.5]]), free, samples_per_prompt=60)
    assert not {token for response in responses for token in response.ids} <= known, "the model knows others"


def test_answers_hold_the_tokenizers_tokens_only(model, gapped):
    def like_another(input_ids, scores):
        seen.append(scores)
        return scores

    for sampling in (None, Sampling(max_new_tokens=6)):
        seen = []
        options = {"max_new_tokens": 6} if sampling is None else {"sampling": sampling}
        answer_prompts(model, gapped, ["w0 w1"], [0.5, 0.5], logits_processor=[like_another], **options)
        assert seen
        for scores in seen:
            assert scores.isfinite().nonzero()[:, 1].tolist() == [0, 1, 2, 3, 4, 8, 20]


@pytest.mark.parametrize("ends", [7, [2, 7], [7, 9], torch.tensor([2, 7]), (7, 500)])
@pytest.mark.parametrize("sampling", [None, Sampling(max_new_tokens=9)], ids=["greedy", "sampled"])
def test_an_end_that_the_models_own_configuration_names_ends_an_answer(model, tokenizer, ends, sampling):
    """Models that have two ends name them there; a tokenizer names one."""

    def end_with_another(input_ids, scores):
        scores = torch.full_like(scores, -1e9)
        scores[:, 7 if input_ids.shape[1] == 5 + 3 else 60] = 0.0
        return scores

    model.base_model.generation_config.eos_token_id = ends
    options = {"max_new_tokens": 9} if sampling is None else {"sampling": sampling}
    options["logits_processor"] = [end_with_another]
    assert answer_prompts(model, tokenizer, PROMPTS[:1], [0.5, 0.5], **options)[0].num_tokens == 3
    own = {"sampling": Sampling(max_new_tokens=9, stop_token_ids=(2,)), "max_new_tokens": None}
    answer = answer_prompts(model, tokenizer, PROMPTS[:1], [0.5, 0.5], **{**options, **own})[0]
    assert answer.num_tokens == 9, "stop tokens that are given are all"


@pytest.mark.parametrize(
    ("ends", "expected"),
    [(None, (2,)), (7, (2, 7)), ([2, 7], (2, 7)), (-1, (2,)), ([], (2,)), ([7, 500], (2, 7))],
)
def test_settings_with_what_a_model_says(model, tokenizer, ends, expected):
    model.base_model.generation_config.eos_token_id = ends
    settings = Sampling().for_tokenizer(tokenizer)
    resolved = settings.for_model(model.base_model)
    assert (resolved.stop_token_ids, resolved.model_stops) == (expected, False)
    assert resolved.for_model(model.base_model) is resolved
    assert Policy(model, settings).sampling == resolved
    bare = Sampling(stop_token_ids=()).for_tokenizer(tokenizer)
    assert bare.for_model(model.base_model).stop_token_ids == (), "none is none"
    others = {500} if ends == [7, 500] else set()
    for language_model in (model, model.base_model):
        assert stop_tokens(tokenizer, language_model) == (*expected, *others)


def conditioned(family: str) -> PreferenceModel:
    from tiny_models import tiny_model

    model = PreferenceModel(tiny_model(family), SVDLoRAConfig(objectives=("a", "b"), rank=2, preference_rank=2)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in model.adapters.values():
            layer.U.normal_(0, 0.3, generator=generator)
    return model


@pytest.mark.filterwarnings("ignore:.*without an adapter:UserWarning")
@pytest.mark.parametrize(("family", "groups"), [("bart", 3), ("recurrent_gemma", 3), ("llama", 1)])
def test_a_model_that_bears_no_padding_on_the_left_is_given_none(family, groups):
    model = conditioned(family)
    prompts = [[50, 7, 33], [12, 40], [9, 41, 25, 60, 8], [3, 44, 5]]
    preferences = torch.tensor([[1.0, 0.0], [0.3, 0.7], [0.0, 1.0], [0.6, 0.4]])
    sampling = Sampling(max_new_tokens=8, stop_token_ids=())
    assert len(prompt_groups(model, prompts)) == groups
    together = sample_responses(model, prompts, preferences, sampling, greedy=True)
    rows = zip(prompts, preferences, strict=True)
    assert together == [sample_responses(model, [ids], own, sampling, greedy=True)[0] for ids, own in rows]
    for preference in (preferences[1], preferences[1:2]):
        expected = [sample_responses(model, [ids], preference, sampling, greedy=True)[0] for ids in prompts]
        assert sample_responses(model, prompts, preference, sampling, greedy=True) == expected
    with model.disabled():
        expected = [sample_responses(model, [ids], None, sampling, greedy=True)[0] for ids in prompts]
        assert sample_responses(model, prompts, None, sampling, greedy=True) == expected


@pytest.mark.filterwarnings("ignore:.*without an adapter:UserWarning")
def test_several_samples_of_groups_keep_their_places(tokenizer):
    """Of one likely token each, so that two samples are alike."""
    model, sampling = conditioned("bart"), Sampling(max_new_tokens=3, stop_token_ids=(), temperature=1e-6)
    prompts, preferences = [[50, 7], [12], [9, 41]], torch.tensor([[1.0, 0.0], [0.3, 0.7], [0.0, 1.0]])
    greedy = sample_responses(model, prompts, preferences, sampling, greedy=True)
    samples = sample_responses(model, prompts, preferences, sampling, samples_per_prompt=2)
    assert samples == [response for response in greedy for _ in range(2)]


def test_an_encoder_decoder_is_refused():
    from tiny_models import SEQUENCE_TO_SEQUENCE

    model = PreferenceModel(SEQUENCE_TO_SEQUENCE["t5-encoder-decoder"](), SVDLoRAConfig(objectives=("a", "b")))
    with pytest.raises(ValueError, match="is an encoder-decoder"):
        sample_responses(model, [[3, 4]], [0.5, 0.5], Sampling(stop_token_ids=()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 2.5}, r"max_new_tokens is 2\.5"),
        ({"max_new_tokens": "4"}, "max_new_tokens is '4', of type str: give a whole number"),
        ({"temperature": "1"}, "temperature is '1'"),
        ({"stop_token_ids": 3}, "stop_token_ids is 3, of type int: give a list of whole numbers"),
        ({"stop_token_ids": ["3"]}, r"stop_token_ids\[0\] is '3'"),
        ({"vocabulary": 3}, "vocabulary is 3: give a tuple of ranges"),
        ({"vocabulary": ([0, 1],)}, r"vocabulary is \(\[0, 1\],\): give a tuple of ranges"),
        ({"model_stops": "no"}, "model_stops is 'no'"),
    ],
)
def test_sampling_settings_of_another_type(settings, message):
    with pytest.raises(TypeError, match=message):
        Sampling(**settings)
