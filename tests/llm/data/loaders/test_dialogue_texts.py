"""Dialogues laid out as one text."""

import pytest

from mopref.llm.data.loaders.dialogue_texts import common_length, is_dialogue_text, split_dialogue_texts

START = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: And you?\n\nAssistant:"


def test_the_last_turn_is_split_off():
    prompt, chosen, rejected = split_dialogue_texts(f"{START} Fine.", f"{START} Go away.")
    assert prompt == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "And you?"},
    ]
    assert (chosen, rejected) == ("Fine.", "Go away.")


def test_neighbouring_turns_of_one_speaker_are_one_message():
    text = "\n\nHuman: One\n\nHuman: Two\n\nAssistant:"
    assert split_dialogue_texts(f"{text} a", f"{text} b")[0] == [{"role": "user", "content": "One\n\nTwo"}]


def test_dialogues_that_part_early_have_no_prompt():
    early = "\n\nHuman: Hi\n\nAssistant: No\n\nHuman: Oh\n\nAssistant: Well"
    assert split_dialogue_texts(f"{START} Fine.", early) == ([], "", "")


@pytest.mark.parametrize("text", ["Human: Hi\n\nAssistant: a", "\n\nHuman: Hi", "", None, 3, "\n\nAssistant: a"])
def test_what_is_no_dialogue(text):
    assert not is_dialogue_text(text)
    assert is_dialogue_text(f"{START} a")


@pytest.mark.parametrize(
    ("first", "second", "length"), [("", "a", 0), ("ab", "abc", 2), ("abd", "abc", 2), ("x", "y", 0)]
)
def test_common_length(first, second, length):
    assert common_length(first, second) == common_length(second, first) == length
    assert common_length(list(first), list(second)) == length
