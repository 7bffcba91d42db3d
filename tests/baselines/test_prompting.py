import pytest
import torch

from mopref.baselines import PromptWriter, text_writer
from mopref.baselines.plain_lora import plain_model, put_lora
from mopref.baselines.prompting import PromptConditioned, prompt_conditioned
from mopref.conditioning import PreferenceModel, SVDLoRAConfig
from mopref.llm.data.chat_template import PairTokenizer
from mopref.llm.data.sequences import collate_sequences
from mopref.llm.policy import Policy, Sampling

ADAPTER = SVDLoRAConfig(("helpful", "harmless"), rank=2, preference_rank=1)


def encode(preference):
    return [20 + round(9 * weight) for weight in preference]


WRITER = PromptWriter(encode, place=1)


@pytest.fixture(scope="module")
def model(make_model, random_loras):
    own = plain_model(make_model, ADAPTER)
    put_lora(own, random_loras[0])
    return PromptConditioned(own, WRITER).eval()


def test_a_prompt_says_the_preference_at_its_place():
    assert WRITER.written([1, 5, 6], [1.0, 0.0]) == [1, 29, 20, 5, 6]
    assert PromptWriter(encode, place=4).written([1], [0.0, 1.0]) == [1, 20, 29]


def test_it_is_the_plain_model_behind_the_longer_prompt(model, merged, random_loras, next_log_probabilities):
    plain = merged(random_loras, [1.0, 0.0])
    prompts, responses = [[1, 5, 6], [7]], [[3, 4], [8]]
    with torch.no_grad():
        own = Policy(model).token_log_probabilities(collate_sequences(prompts, responses), [[1.0, 0.0], [0.5, 0.5]])
    for row, prompt in enumerate(([1, 29, 20, 5, 6], [7, 24, 24])):
        ids = list(prompt)
        for place, token in enumerate(responses[row]):
            assert own[row, place].item() == pytest.approx(next_log_probabilities(plain, ids)[token].item(), abs=1e-4)
            ids.append(token)
    assert own[1, 1] == 0


def test_the_reference_is_that_of_the_prompt_as_it_is(model, base, next_log_probabilities):
    reference = Policy(model).reference_log_probabilities(collate_sequences([[1, 5, 6]], [[3]]))
    assert reference.item() == pytest.approx(next_log_probabilities(base, [1, 5, 6])[3].item(), abs=1e-4)


def test_answers_are_to_the_longer_prompt(model, merged, random_loras, next_log_probabilities):
    sampling = Sampling(max_new_tokens=2, stop_token_ids=())
    (response,) = model.composed_responses([[1, 5]], torch.tensor([[0.0, 1.0]]), sampling, greedy=True)
    plain, ids = merged(random_loras, [1.0, 0.0]), [1, 20, 29, 5]
    for token in response.ids:
        assert token == int(next_log_probabilities(plain, ids).argmax())
        ids.append(token)


def test_a_prompt_that_is_too_long_with_it_is_refused(make_gpt2):
    """GPT-2 has no positions beyond its table; that the rows without λ fit says nothing of those with it."""
    model = PromptConditioned(plain_model(lambda config: PreferenceModel(make_gpt2(), config), ADAPTER), WRITER)
    with pytest.raises(ValueError, match="with λ in its prompt, row"):
        Policy(model).token_log_probabilities(collate_sequences([list(range(3, 64))], [[3, 4]]), [0.5, 0.5])


def test_training_moves_the_lora_and_lets_it_read_the_preference(make_setup):
    from dataclasses import replace

    from mopref.baselines import Trainings

    setup = make_setup()
    setup = replace(setup, config=replace(setup.config, steps=8, learning_rate=3e-2))
    policy = prompt_conditioned(Trainings(setup), WRITER)
    sequences = collate_sequences([[1, 5, 6]], [[3, 4]])
    with torch.no_grad():
        first, second = (policy.at(preference).log_probabilities(sequences) for preference in ([1.0, 0.0], [0.0, 1.0]))
    assert not torch.allclose(first, second, atol=1e-3)
    assert any(layer.U.any() for layer in policy.model.module.adapters.values())
    assert policy.notes["tokens_of_preference"] == 2
    assert policy.budget.runs == 1


def test_text_is_written_before_the_users_own_words(tmp_path, make_llama):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "<s>", "<user>", "<end>", "A", "7", "helpful", "harmless", ":", ",", ".", "0", "25", "75", "hi"]
    core = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>", unk_token="<unk>", bos_token="<s>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<user>"]})
    tokenizer.chat_template = (
        "<s>{% for message in messages %}<user> {{ message['content'] }} <end>{% endfor %}"
        "{% if add_generation_prompt %}<user> {% endif %}"
    )
    writer = text_writer(tokenizer, ("helpful", "harmless"))
    prompt = PairTokenizer(tokenizer).prompt_ids("hi")
    text = tokenizer.convert_ids_to_tokens(writer.written(prompt, [0.25, 0.75]))
    said = "helpful : 0 . 25 , harmless : 0 . 75 .".split()
    assert text == ["<s>", "<user>", *said, "hi", "<end>", "<user>"]
