"""What a client may send: nothing that would be passed over."""

import pytest

pydantic = pytest.importorskip("pydantic")

from mopref.serving.forms import ChatForm, error_body, stop_texts  # noqa: E402


def test_defaults_are_those_of_the_interface(form):
    made = ChatForm.model_validate({"messages": form["messages"], "preference": "balanced"})
    assert (made.temperature, made.top_p, made.strength, made.stream, made.seed) == (1.0, 1.0, 1.0, False, None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"logprobs": True},
        {"n": 2},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": "0"},
        {"temperature": True},
        {"top_p": 0},
        {"strength": 1e9},
        {"strength": -1},
        {"max_tokens": 0},
        {"max_tokens": 1.5},
        {"seed": 2**63},
        {"stop": ""},
        {"stop": ["a"] * 5},
        {"messages": []},
        {"messages": [{"role": "robot", "content": "x"}]},
        {"messages": [{"role": "user", "content": "x", "name": "y"}]},
        {"messages": [{"role": "user", "content": ""}]},
        {"messages": [{"role": "user", "content": "\ud800"}]},
        {"preference": {"helpful": "0.7"}},
        {"preference": {"helpful": float("inf")}},
        {"preference": None},
        {"stream": 1},
        {"stream_options": {"other": True}},
    ],
)
def test_what_is_no_form_is_refused(form, wrong):
    with pytest.raises(pydantic.ValidationError):
        ChatForm.model_validate({**form, **wrong})


def test_stop_texts_are_one_or_several(form):
    assert [stop_texts(ChatForm(**form, stop=stop)) for stop in (None, "a", ["a", "b"])] == [(), ("a",), ("a", "b")]


def test_half_a_character_in_a_sentence_is_an_escape():
    assert error_body("holds \ud800", "kind")["error"]["message"] == "holds \\ud800"
