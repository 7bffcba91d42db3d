"""Which token ends a turn: an added one, or a marker that is one entry of the vocabulary."""

import re

import pytest
from tokenizers import AddedToken

from mopref.llm.data.turn_tokens import end_of_turn, is_added, token_pattern, token_text


@pytest.fixture
def tokenizer(make_byte_tokenizer):
    tokenizer = make_byte_tokenizer()
    tokenizer.add_tokens([AddedToken("<|end|>", special=False, normalized=False), AddedToken("\n\n", normalized=False)])
    tokenizer.add_tokens([AddedToken("<eats>", lstrip=True, normalized=False)])
    return tokenizer


def ids_of(tokenizer):
    return lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(
    ("after", "before", "text"),
    [
        ("<|end|>\n", "", "<|end|>"),
        (" </s>", " ", "</s>"),
        ("\n\n<|im_end|><|end|>", "\n\n", "<|im_end|>"),
        ("] <|end|>", "] ", "<|end|>"),
    ],
)
def test_an_added_token_special_or_not(tokenizer, after, before, text):
    end = end_of_turn(tokenizer, ids_of(tokenizer), after)
    assert end == (before, text, tokenizer.convert_tokens_to_ids(text))


@pytest.mark.parametrize("after", ["", "\n", "\n\n", " Bye.", "<end>"])
def test_none(tokenizer, after):
    """White space is no end, though it be an added token, and nor is a text of several tokens."""
    assert end_of_turn(tokenizer, ids_of(tokenizer), after) is None


def test_a_marker_that_is_an_ordinary_entry_of_the_vocabulary(make_word_tokenizer):
    tokenizer = make_word_tokenizer(markers=("<turn>", "<end>", "[END]"))
    assert not set(tokenizer.get_added_vocab()) & {"<end>", "[END]"}
    for after, before, text in ((" <end> ", " ", "<end>"), (" [END]", " ", "[END]")):
        end = end_of_turn(tokenizer, ids_of(tokenizer), after)
        assert end == (before, text, tokenizer.convert_tokens_to_ids(text))
    assert end_of_turn(tokenizer, ids_of(tokenizer), " fine") is None, "a word is no marker"


def test_added_tokens_and_their_texts(tokenizer):
    index = tokenizer.convert_tokens_to_ids
    assert [is_added(tokenizer, index(text)) for text in ("<|end|>", "</s>", "<eats>", "a")] == [
        True,
        True,
        False,
        False,
    ]
    assert token_text(tokenizer, index("<|end|>")) == "<|end|>"
    assert token_text(tokenizer, index("Ġ")) == " "


def test_pattern_finds_the_longest_text():
    assert token_pattern(["<a>", "", "<a><b>"]).search("x<a><b>").group() == "<a><b>"
    assert token_pattern([""]) is None
    assert token_pattern(["a.c"]) == re.compile(re.escape("a.c"))
