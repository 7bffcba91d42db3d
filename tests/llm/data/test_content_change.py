"""What a template takes from a response, told from one that it rendered."""

import html

import pytest

from mopref.llm.data.content_change import CONTENT_PROBE, Trimming, trimming

TEXT = "\n \n\t Yes.  No. \n \n"


@pytest.mark.parametrize(
    "trim",
    [
        str,
        str.strip,
        str.lstrip,
        str.rstrip,
        lambda text: text.strip("\n"),
        lambda text: text.lstrip("\n"),
        lambda text: text.rstrip("\n"),
        lambda text: text.lstrip("\n").rstrip(),
        lambda text: text.lstrip().rstrip("\n"),
    ],
)
def test_trimming_is_told_apart(trim):
    kind = trimming(trim(CONTENT_PROBE))
    assert kind is not None
    assert kind(TEXT) == trim(TEXT)


@pytest.mark.parametrize(
    "change", [html.escape, str.lower, str.upper, repr, lambda text: " ".join(text.split()), lambda text: text[::-1]]
)
def test_what_changes_more_is_no_trimming(change):
    assert trimming(change(CONTENT_PROBE)) is None


def test_nothing_is_taken_by_default():
    assert Trimming()(TEXT) == TEXT
