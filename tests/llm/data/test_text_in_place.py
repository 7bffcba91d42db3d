"""Ids of texts that stand after others, for tokenizers that mark word starts and for those that do not."""

import pytest

from mopref.llm.data.text_in_place import Lead, continuation, leads_of


def tokenising(tokenizer):
    return lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("kind", ["always", "first", "prepend", "prefix space", "unigram"])
def test_no_mark_is_put_where_nothing_stands_in_front(make_sentence_piece_tokenizer, kind):
    ids = tokenising(make_sentence_piece_tokenizer(kind))
    leads = leads_of(ids, "")
    assert leads
    for before, text in (("?", "Because they are calm."), ("]", " Because"), (":", "Fine"), ("?", "a b\nc")):
        expected = ids(before + text)[len(ids(before)) :]
        assert ids(before + text)[: len(ids(before))] == ids(before), "the tokenizer keeps the two apart"
        assert continuation(ids, leads, text) == expected
    assert continuation(ids, leads, "Because") != ids("Because"), "alone, it would have a mark"


@pytest.mark.parametrize("name", ["chat", "plain", "word_chat"])
def test_tokenizers_without_marks_need_no_lead(request, name):
    ids = tokenising(request.getfixturevalue(name))
    assert leads_of(ids, "<|im_start|>assistant\n") == ()
    assert continuation(ids, (), "how are you") == ids("how are you")


def test_metaspace_that_never_marks_needs_no_lead(make_sentence_piece_tokenizer):
    assert leads_of(tokenising(make_sentence_piece_tokenizer("never")), "") == ()


def test_what_is_known_to_stand_before_comes_first(make_sentence_piece_tokenizer):
    ids = tokenising(make_sentence_piece_tokenizer("always"))
    assert leads_of(ids, "<|assistant|>\n")[0] == Lead("<|assistant|>\n", ids("<|assistant|>\n"))


def test_a_lead_that_vanishes_is_passed_over():
    """A tokenizer that takes away white space at both ends, and marks what is left."""

    def ids(text):
        return [ord(character) for character in f"▁{text.strip()}"] if text.strip() else []

    leads = leads_of(ids, "\n")
    assert leads
    assert all(lead.text.strip() for lead in leads)
    assert continuation(ids, leads, "yes") == [ord(character) for character in "yes"]


def test_a_lead_that_grows_together_with_the_text_is_passed_over():
    """Each text is one token unless a bracket stands within it; the line break joins what follows it."""

    def ids(text):
        before, bracket, after = text.partition("]")
        return [len(before)] * bool(before) + [1000] * bool(bracket) + [len(after)] * bool(after)

    leads = (Lead("\n", ids("\n")), Lead("]", ids("]")))
    assert continuation(ids, leads, "yes") == [3]
    assert continuation(ids, leads, "") == []
    with pytest.raises(ValueError, match="is merged by the tokenizer with whatever stands before it"):
        continuation(ids, leads[:1], "yes")
