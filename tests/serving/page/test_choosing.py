"""Eight questions: which pair was chosen, whichever side it was shown on, and λ within bounds."""

import pytest
from _page_servers import HOSTILE

pytest.importorskip("pydantic")

from mopref.personal import PairMargins, fit_choices
from mopref.serving.page.choosing import Choices, answered, begun, question_markup, verdict
from mopref.serving.page.pairs import Pair, Pairs

NAMES = ("helpful", "harmless")


def pairs_of(count: int, keys=None) -> Pairs:
    """Pairs whose second responses are the more helpful ones."""
    values = [[-2.0 - n / 10, 2.0] for n in range(count)]
    shown = [Pair(f"prompt {n} {HOSTILE[0]}", (f"harmless {n}", f"helpful {n} {HOSTILE[3]}")) for n in range(count)]
    return Pairs(shown, PairMargins(values, NAMES, keys))


def played(pairs: Pairs, wanted: str):
    """Choose what holds this word, wherever it is shown."""
    choices = begun(pairs)
    while choices.asked is not None:
        shown = question_markup(pairs, choices)
        choices = answered(pairs, choices, second=shown.index(wanted) > shown.index("<h3>B</h3>"))
    return choices


@pytest.mark.parametrize(("wanted", "choice"), [("helpful ", 1), ("harmless ", 0)])
def test_what_is_chosen_is_kept_whichever_side_it_is_on(wanted, choice):
    pairs, sides = pairs_of(12), set()
    for _ in range(5):
        choices = played(pairs, wanted)
        assert len(choices.made) == 8
        assert set(choices.made.values()) == {choice}
        sides.add(begun(pairs).swapped)
    found = verdict(pairs, choices, (0.0, 0.0))
    assert found.preference[choice ^ 1] > 0.7
    assert found.preference == pytest.approx(fit_choices(pairs.margins, choices.made).preference.tolist())


def test_both_sides_are_used():
    pairs = pairs_of(3)
    assert {begun(pairs).swapped for _ in range(60)} == {True, False}


def test_few_pairs_are_few_questions():
    assert len(played(pairs_of(3), "helpful ").made) == 3
    # Two of them are the same question.
    assert len(played(pairs_of(3, keys=["a", "a", "b"]), "helpful ").made) == 2


def test_a_choice_after_the_end_changes_nothing():
    pairs = pairs_of(3)
    end = played(pairs, "helpful ")
    assert answered(pairs, end, second=True) == end
    assert answered(pairs, Choices(), second=True) == Choices()


def test_records_are_escaped():
    pairs = pairs_of(2)
    shown = question_markup(pairs, begun(pairs))
    assert not any(tag in shown for tag in ("<img", "<script"))


def test_bounds_hold_for_what_was_found():
    pairs = pairs_of(12)
    found = verdict(pairs, played(pairs, "helpful "), (0.0, 0.45))
    assert found.preference == pytest.approx((0.55, 0.45))
    assert "the nearest balance that they allow is helpful .55, harmless .45" in found.markup
    assert "operator" not in verdict(pairs, played(pairs, "helpful "), (0.0, 0.0)).markup
