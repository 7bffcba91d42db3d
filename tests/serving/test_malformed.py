"""What is wrong with a body: one sentence, bounded, without words of the framework's."""

import pytest

pytest.importorskip("pydantic")

from pydantic import ValidationError

from mopref.serving.forms import ChatForm
from mopref.serving.malformed import malformation

MESSAGES = [{"role": "user", "content": "Hello"}]


def told(body, content_type="application/json"):
    with pytest.raises(ValidationError) as caught:
        ChatForm.model_validate(body)
    problems = [{**problem, "loc": ("body", *problem["loc"])} for problem in caught.value.errors()]
    return malformation(problems, body, content_type, "give weights")


@pytest.mark.parametrize(
    ("change", "sentence", "param"),
    [
        ({"preference": None}, "preference is missing: give weights.", "preference"),
        ({"preference": {"a": True}}, "preference is {'a': True}, which is none: give weights.", "preference"),
        ({"preference": [[0.5]]}, "preference is [[0.5]], which is none: give weights.", "preference"),
        ({"preference": float("nan")}, "preference is nan, which is none: give weights.", "preference"),
        (
            {"stop": [1, 2]},
            "stop is [1, 2], which is none: give a text of 1 to 64 characters, or up to four of them.",
            "stop",
        ),
        ({"tools": []}, "tools is no field of a request here, so leave it out.", "tools"),
        ({"messages": [{"role": "user"}]}, "messages.0.content is missing.", "messages.0.content"),
        ({"top_p": 0}, "top_p: Input should be greater than 0.", "top_p"),
    ],
)
def test_a_field_is_named_with_what_to_do(change, sentence, param):
    assert told({"messages": MESSAGES, "preference": "balanced", **change}) == (sentence, param)


def test_a_sentence_is_bounded_whatever_was_sent():
    body = {"messages": MESSAGES, "preference": "balanced", **{"x" * 5000 + str(i): 1 for i in range(50)}}
    sentence, param = told(body)
    assert sentence.endswith("; and 47 more.")
    assert len(sentence) < 700
    assert len(param) == 120
    assert len(told({"messages": MESSAGES, "preference": ["x" * 10_000] * 1000}).sentence) < 1000


@pytest.mark.parametrize(
    ("content_type", "words"),
    [(None, "not said to be JSON"), ("text/plain", "not said to be JSON"), ("application/json", "and no object")],
)
def test_what_is_no_object_is_told_by_its_header(content_type, words):
    problem = {"type": "model_attributes_type", "loc": ("body",), "msg": ""}
    sentence, param = malformation([problem], b"{}", content_type, "give weights")
    assert words in sentence
    assert param is None
