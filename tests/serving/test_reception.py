"""From a form to a row: the template's tokens, and refusals that name what was wrong."""

import pytest

pytest.importorskip("pydantic")

from mopref.llm.data.chat_template import PairTokenizer
from mopref.serving.forms import ChatForm
from mopref.serving.reception import Reception, longest_context
from mopref.serving.terms import RefusedError, Terms


@pytest.fixture
def reception(model, tokenizer):
    terms = Terms("tiny", model.objectives, context=40, max_new_tokens=20)
    return Reception(model, PairTokenizer(tokenizer), terms)


def test_a_request_holds_what_was_asked(reception, form, tokenizer):
    asked = {**form, "temperature": 0.5, "top_p": 0.9, "seed": 3, "strength": 1.5, "model": "tiny"}
    request = reception.request(ChatForm(**asked))
    assert list(request.prompt_ids) == tokenizer("<turn> w1 w2 w3 </s><turn>", add_special_tokens=False)["input_ids"]
    assert request.preference == (0.7, 0.3)
    assert (request.max_new_tokens, request.strength, request.temperature) == (8, 1.5, 0.5)
    assert (request.top_p, request.seed) == (0.9, 3)


def test_an_answer_is_as_long_as_there_is_room(reception, form):
    del form["max_tokens"]
    assert reception.request(ChatForm(**form)).max_new_tokens == 20
    form["messages"][0]["content"] = "w1 " * 30
    assert reception.request(ChatForm(**form)).max_new_tokens == 7
    assert reception.request(ChatForm(**form, max_completion_tokens=4)).max_new_tokens == 4


@pytest.mark.parametrize(
    ("wrong", "status", "words"),
    [
        ({"model": "gpt"}, 404, "there is no model 'gpt': here is 'tiny'"),
        ({"max_completion_tokens": 3}, 400, "one setting"),
        (
            {"messages": [{"role": "user", "content": " "}]},
            400,
            "messages hold nothing but white space",
        ),
        ({"messages": [{"role": "assistant", "content": "w1"}]}, 400, "messages end with one of the assistant's"),
        (
            {"messages": [{"role": "user", "content": "w1 </s> w2"}]},
            400,
            "holds '</s>', which opens or ends a turn: rew",
        ),
        ({"messages": [{"role": "user", "content": "w1 " * 40}]}, 400, "43 tokens"),
        ({"strength": 2.0, "max_tokens": 21}, 400, "max_tokens is 21"),
    ],
)
def test_what_cannot_be_answered_is_refused(reception, form, wrong, status, words):
    with pytest.raises(RefusedError) as caught:
        reception.request(ChatForm(**{**form, **wrong}))
    assert caught.value.status == status
    assert words in caught.value.sentence


def test_a_prompt_that_the_template_refuses(reception, form, monkeypatch):
    monkeypatch.setattr(reception.pairs.tokenizer, "chat_template", "{{ raise_exception('no system message') }}")
    with pytest.raises(RefusedError, match=r"refused by the chat template .*no system message"):
        reception.request(ChatForm(**form))


def test_the_context_is_what_the_model_was_made_for(model, make_llama, randomise):
    from mopref import PreferenceModel, SVDLoRAConfig

    assert longest_context(model, 4096) == 256
    assert longest_context(model, 100) == 100
    scaled = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    other = make_llama(max_position_embeddings=32, rope_parameters=scaled)
    assert longest_context(PreferenceModel(other, SVDLoRAConfig(objectives=("a",))), 4096) == 32


def test_answers_end_where_the_template_ends_a_turn(reception):
    assert reception.sampling.stop_token_ids == (2,)
    assert reception.sampling.vocabulary == (range(100),)
