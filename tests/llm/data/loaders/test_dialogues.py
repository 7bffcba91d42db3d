"""Prompts and responses out of the columns of public data."""

import pytest

from mopref.llm.data.loaders.dialogues import (
    checked_prompt,
    checked_response,
    explicit_prompt,
    last_turn,
    refuse_rendered_inputs,
    split_pair,
    text_or_messages,
)
from mopref.llm.data.loaders.report import MalformedRow, UnfitRow


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


def system(content):
    return {"role": "system", "content": content}


def refusal(function, *arguments, kind=MalformedRow):
    with pytest.raises(kind, match=r"\w") as caught:
        function(*arguments)
    return getattr(caught.value, "reason", None), str(caught.value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Why?", "Why?"),
        ([user("Why?")], [user("Why?")]),
        ({"from": "gpt", "value": "So."}, [assistant("So.")]),
        ([{"from": "system", "value": "S"}, {"from": "human", "value": "Why?"}], [system("S"), user("Why?")]),
        ([{"role": "prompter", "content": "Why?"}], [user("Why?")]),
        # As parquet has it, where every message has every key.
        ([user("Why?") | {"tool_calls": None, "name": None, "images": []}], [user("Why?")]),
        ([user("Why?") | {"name": "Ann", "weight": 1}], [user("Why?") | {"name": "Ann"}]),
        (
            [{"role": "user", "content": [{"type": "text", "text": "Wh"}, {"type": "text", "text": "y?"}]}],
            [user("Why?")],
        ),
        ([], []),
    ],
)
def test_text_and_messages(value, expected):
    assert text_or_messages(value, "prompt") == expected


@pytest.mark.parametrize(
    ("value", "reason", "message"),
    [
        (3, "no text", "column 'prompt' is a int: it must be text or a list of chat messages."),
        (b"Why?", "no text", "is a bytes"),
        (["Why?"], "no message", "column 'prompt', message 0 is a str"),
        ([{"role": "user"}], "no message", "message 0 has 'role': it needs the texts"),
        ([{"role": "user", "content": 3}], "no message", "needs the texts"),
        ([user("a"), {"role": "tool", "content": "4"}], "tools", "message 1 is a call of a tool"),
        ([{"from": "function_call", "value": "{}"}], "tools", "call of a tool"),
        ([assistant("") | {"tool_calls": [{"id": 1}]}], "tools", "call of a tool"),
        (
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "a"}]}],
            "images",
            r"than text (image)",
        ),
        ([user("a") | {"images": ["x.png"]}], "images", "an image"),
        ('[{"role": "user", "content": "a"}]', "messages written as text", "save the file as JSON lines"),
        ("[{'from': 'human', 'value': 'a'}]", "messages written as text", "save the file as JSON lines"),
    ],
)
def test_what_is_no_text_is_named(value, reason, message):
    found, text = refusal(text_or_messages, value, "prompt")
    assert found == reason
    assert message in text
    assert "Why?" not in text


def test_texts_that_look_a_little_like_messages_stay():
    for text in ('[{"rule": 1}]', "[role]", '{"role": "user"}', "a [{'role': 'user'}]"):
        assert text_or_messages(text, "prompt") == text


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "Why?"}, "Why?"),
        ({"prompt": "Why?", "instruction": "No", "messages": []}, "Why?"),
        ({"prompt": None, "conversations": [{"from": "human", "value": "Why?"}]}, [user("Why?")]),
        ({"context": [user("Why?")]}, [user("Why?")]),
        ({"prompt": "Why?", "system": "S"}, [system("S"), user("Why?")]),
        ({"prompt": "Why?", "system": " "}, "Why?"),
        ({"prompt": [user("Why?")], "system": None}, [user("Why?")]),
        ({"messages": [system("S"), user("Why?")], "system": "S"}, [system("S"), user("Why?")]),
        ({"instruction": "Add."}, "Add."),
        ({"instruction": "Add.", "input": ""}, "Add."),
        ({"instruction": "Add.", "input": "1 1"}, "Add.\n1 1"),
        ({"instruction": "", "input": "1 1"}, "1 1"),
        ({"instruction": "Add.", "history": [], "input": None}, "Add."),
        (
            {"instruction": "Add.", "input": "1 1", "history": [["Hi", "Hello"]], "system": "S"},
            [system("S"), user("Hi"), assistant("Hello"), user("Add.\n1 1")],
        ),
        ({"prompt": "Add.", "input": "1 1"}, "Add."),
        (
            {"prompt": "Hi\n<extra_id_1>Assistant\nHello\n<extra_id_1>User\nWhy?"},
            [user("Hi"), assistant("Hello"), user("Why?")],
        ),
        # Nectar's way; with a system text before it, too.
        (
            {"prompt": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Why?\n\nAssistant: "},
            [user("Hi"), assistant("Hello"), user("Why?")],
        ),
        ({"prompt": "\n\nHuman: Why?\n\nAssistant:", "system": "S"}, [system("S"), user("Why?")]),
        ({"prompt": "\n\nHuman: Why?\n\nAssistant: So"}, "\n\nHuman: Why?\n\nAssistant: So"),
        ({"question": "Why?"}, None),
        ({}, None),
    ],
)
def test_prompts(row, expected):
    assert explicit_prompt(row) == expected


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "Why?", "system": 3}, "no text"),
        ({"prompt": [system("S")], "system": "T"}, "two system texts"),
        ({"instruction": "a", "input": 3}, "no text"),
        ({"instruction": [user("a")], "input": "b"}, "no text"),
        ({"instruction": "a", "history": "Hi"}, "no history"),
        ({"instruction": "a", "history": [["Hi"]]}, "no history"),
        ({"instruction": "a", "history": [["Hi", None]]}, "no history"),
    ],
)
def test_prompts_that_are_none(row, reason):
    assert refusal(explicit_prompt, row)[0] == reason


def test_tools_and_images_beside_the_messages():
    refuse_rendered_inputs({"prompt": "Why?", "tools": None, "images": [], "documents": "", "tool": 3})
    refuse_rendered_inputs({"tools": "[]"})
    for column in ("tools", "images", "audio"):
        assert refusal(refuse_rendered_inputs, {column: ["x"]})[0] == column


def test_texts_of_records():
    assert checked_prompt([user("Why?")]) == [user("Why?")]
    assert checked_response([assistant("So.")]) == "So."
    assert checked_response([assistant("So."), assistant("Yes.")]) == [assistant("So."), assistant("Yes.")]
    for function, empty in ((checked_prompt, " "), (checked_prompt, []), (checked_response, [assistant("")])):
        assert refusal(function, empty, kind=UnfitRow) == (None, "empty text")
    assert refusal(checked_prompt, [user("a"), assistant("b")])[0] == "malformed prompt"
    assert refusal(checked_response, "\ud83d")[0] == "malformed response"
    assert refusal(checked_response, [user("a")])[0] == "malformed response"
    assert refusal(checked_response, [assistant("a") | {"reasoning_content": "b"}])[0] == "malformed response"


def test_last_turns():
    assert last_turn([user("a"), assistant("b")], "messages") == ([user("a")], [assistant("b")])
    assert last_turn([user("a"), assistant("b"), assistant("c")], "m") == (
        [user("a")],
        [assistant("b"), assistant("c")],
    )
    for messages in ([user("a")], []):
        assert refusal(last_turn, messages, "messages")[0] == "no answer"


SHARED = [system("S"), user("a")]


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt", "expected"),
    [
        ("b", "c", "a", ("a", "b", "c")),
        ([assistant("b")], "c", [user("a")], ([user("a")], [assistant("b")], "c")),
        # Whole dialogues, alone and beside the prompt that they hold.
        ([*SHARED, assistant("b")], [*SHARED, assistant("c")], None, (SHARED, [assistant("b")], [assistant("c")])),
        ([*SHARED, assistant("b")], [*SHARED, assistant("c")], "a", (SHARED, [assistant("b")], [assistant("c")])),
        ([*SHARED, assistant("b")], [*SHARED, assistant("c")], SHARED, (SHARED, [assistant("b")], [assistant("c")])),
        # What two answers have in common belongs to them.
        (
            [*SHARED, assistant("b"), assistant("d")],
            [*SHARED, assistant("b"), assistant("e")],
            None,
            (SHARED, [assistant("b"), assistant("d")], [assistant("b"), assistant("e")]),
        ),
        ("The sky is blue.", "The sky is green.", None, ("The sky is", " blue.", " green.")),
        ("Q: Why?\nA: so", "Q: Why?\nA: sure", None, ("Q: Why?\nA:", " so", " sure")),
        ("The sky", "The sky is", None, ("The", " sky", " sky is")),
    ],
)
def test_pairs_are_split(chosen, rejected, prompt, expected):
    assert split_pair(chosen, rejected, prompt) == expected
    turned = split_pair(rejected, chosen, prompt)
    assert turned == (expected[0], expected[2], expected[1])


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        ("\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d", "\n\nHuman: a\n\nAssistant: e", "part before"),
        ([user("a"), assistant("b"), user("c"), assistant("d")], [user("a"), assistant("e")], "part before"),
        ([user("a"), assistant("b")], [user("c"), assistant("b")], "begin alike"),
        ("blue", "green", "begin alike"),
        (" blue", " green", "begin alike"),
    ],
)
def test_dialogues_without_a_shared_prompt_are_left_out(chosen, rejected, reason):
    assert reason in refusal(split_pair, chosen, rejected, None, kind=UnfitRow)[1]


def test_pairs_that_are_not_alike():
    dialogue = [user("a"), assistant("b")]
    for prompt in (None, "a"):
        assert refusal(split_pair, dialogue, "c", prompt)[0] == "one answer is a dialogue"
        assert refusal(split_pair, dialogue, [assistant("c")], prompt)[0] == "one answer is a dialogue"
    reason, _ = refusal(split_pair, dialogue, [user("a"), assistant("c")], "another")
    assert reason == "the prompt is not in the dialogues"
