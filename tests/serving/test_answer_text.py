"""Pieces of text: together the whole answer's text, whatever the tokens cut."""

import random

import pytest

from mopref.serving.answer_text import AnswerText


class Bytes:
    """A tokenizer of bytes, as those of language models are where they know no word."""

    def decode(self, ids, skip_special_tokens):
        assert skip_special_tokens
        return bytes(ids).decode("utf-8", "replace")


def pieces(text: str, stop=()) -> tuple[list[str], bool]:
    answer = AnswerText(Bytes(), stop)
    made = [answer.add(byte) for byte in text.encode()]
    return [*made, answer.finish()], answer.is_stopped


@pytest.mark.parametrize(
    "text", ["Hello there.", "  a  b \n", "ä€😀 – ok", "", "   ", "x\n\ny", "\ufffd", "end \ufffd"]
)
def test_the_pieces_are_the_text_without_white_space_around_it(text):
    made, is_stopped = pieces(text)
    assert "".join(made) == text.strip()
    assert not is_stopped


def test_no_half_character_is_told():
    made, _ = pieces("a😀b")
    assert made == ["a", "", "", "", "😀", "b", ""]


def test_white_space_is_held_back_until_more_comes():
    assert pieces("a  b ")[0] == ["a", "", "", "  b", "", ""]


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("one two three", ("two",), "one"),
        ("one two three", ("three", "two"), "one"),
        ("abcabd", ("abd",), "abc"),
        ("aaab", ("aab",), "a"),
        ("a – b", (" –",), "a"),
        ("stop", ("stop",), ""),
        ("\nUser: x", ("\nUser:",), ""),
        ("one\n", ("\n",), "one"),
        ("one two", ("twot",), "one two"),
    ],
)
def test_the_text_ends_before_a_stop_text(text, stop, expected):
    made, is_stopped = pieces(text, stop)
    assert "".join(made) == expected
    assert is_stopped == any(each in text for each in stop)


def test_random_texts_and_stops():
    source = random.Random(0)
    for _ in range(300):
        text = "".join(source.choice("ab ä\n😀") for _ in range(source.randrange(20)))
        stop = "".join(source.choice("ab \n") for _ in range(source.randrange(1, 4)))
        made, _ = pieces(text, (stop,))
        assert "".join(made) == text.partition(stop)[0].strip()


def test_tokens_that_nobody_reads_yet(tokenizer):
    answer = AnswerText(tokenizer)
    for token in (4, 5, 6):
        answer.hold(token)
    assert answer.finish() == "w0 w1 w2"
