"""Whatever is shown is text: no markup, no template."""

import html
import re

import pytest
from hypothesis import given, strategies as st

pytest.importorskip("pydantic")

from mopref.serving.page.conversation import Part
from mopref.serving.page.texts import (
    Turn,
    answers_markup,
    dialogue_markup,
    escaped,
    preference_text,
    problem_markup,
    said_text,
    template_text,
)

TAG = "<img src=x onerror=alert(1)>"


def words_of(markup: str) -> str:
    """What a browser shows of it."""
    return html.unescape(re.sub(r"<[^>]*>", "", markup))


@given(st.text())
def test_escaped_is_shown_sign_for_sign(text):
    shown = escaped(text)
    assert not set("<>\"'") & set(shown)
    back = shown.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&#x27;", "'")
    assert back.replace("&amp;", "&") == text.encode("utf-8", "replace").decode()


@given(st.text())
def test_a_template_is_not_obeyed(text):
    shown = template_text(text)
    assert not set("\\`${}@<>") & set(shown)
    numbers = {f"&#{ord(sign)};": sign for sign in "\\`${}@"}
    back = re.sub("|".join(map(re.escape, numbers)), lambda found: numbers[found[0]], shown)
    assert back == escaped(text) or "&#" in escaped(text).replace("&#x27;", "")


def test_half_a_pair_is_shown_as_what_cannot_be_shown():
    assert escaped("a\ud800b") == "a?b"


@pytest.mark.parametrize("answering", [True, False])
def test_a_dialogue_holds_no_markup_of_its_texts(answering):
    markup = dialogue_markup([Turn(TAG, TAG, TAG)], answering)
    assert "<img" not in markup
    assert words_of(markup).count(TAG) == 3
    assert ('aria-busy="true"' in markup) == answering


def test_an_empty_answer_is_said_to_be_empty():
    assert "(an empty answer)" in dialogue_markup([Turn("a", "", "b")])
    assert "(an empty answer)" not in dialogue_markup([Turn("a", "", "b")], answering=True)
    assert "Nothing has been asked" in dialogue_markup([])


def test_answers_side_by_side_hold_no_markup_of_their_texts():
    parts = [Part(TAG, True), Part("w", True, f"It failed {TAG}"), Part("", True, "Late.")]
    markup = answers_markup([(TAG, TAG)] * 3, parts)
    assert "<img" not in markup
    assert markup.count('role="alert"') == 2
    assert 'aria-busy="false"' in markup
    assert "(an empty answer)" not in markup
    assert 'aria-busy="true"' in answers_markup([("a", "b")], [Part()])


def test_a_problem_is_told_by_more_than_a_colour():
    assert problem_markup(None) == problem_markup("") == ""
    assert words_of(problem_markup(TAG)) == f"⚠ {TAG}"


def test_a_preference_in_words():
    assert preference_text(("a", "b"), (1.0, 0.0)) == "a 1.00, b .00"


def test_messages_of_a_record_are_one_text():
    assert said_text("a") == said_text([{"role": "user", "content": "a"}]) == "a"
    both = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert said_text(both) == "User: a\n\nAssistant: b"
