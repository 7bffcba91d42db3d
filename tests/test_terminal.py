"""What a terminal would obey is shown as an escape, and any other text as it is."""

import unicodedata

import pytest

from mopref._terminal import visible, visible_line

_KEPT = "plain, ümläut, 漢字, العربية, שלום, 👩\u200d👩\u200d👧, a\u0301, \u200f"


def test_other_texts_stay_as_they_are():
    assert visible(f"{_KEPT}\n\tmore") == f"{_KEPT}\n\tmore"
    assert visible_line(_KEPT) == _KEPT


@pytest.mark.parametrize("show", [visible, visible_line])
def test_nothing_that_a_terminal_obeys_is_left(show):
    shown = show("".join(map(chr, range(0x3000))) + "\ud800\udfff")
    kept = "\n\t" if show is visible else ""
    assert not [sign for sign in shown if unicodedata.category(sign) in ("Cc", "Zl", "Zp", "Cs") and sign not in kept]
    assert not [sign for sign in shown if unicodedata.bidirectional(sign) in {*"LRE RLE LRO RLO PDF".split()}]
    assert not [sign for sign in shown if unicodedata.bidirectional(sign) in {*"LRI RLI FSI PDI".split()}]
    shown.encode()


def test_escapes_say_what_was_there():
    assert visible("\x1b]0;title\x07\x9b1m\u202e") == r"\x1b]0;title\x07\x9b1m\u202e"
    assert visible("one\r\ntwo\rthree") == "one\ntwo\\rthree"
    assert visible_line("one\r\ntwo\t") == r"one\r\ntwo\t"
