"""Names of objectives: the same in the same order, or an error with both lists; f1 … fm match any."""

import pytest

from mopref import Objective
from mopref.objective_names import check_row_names, check_same_names, checked_names, numbered_names

OWN = ("helpful", "harmless")


@pytest.mark.parametrize("other", [OWN, list(OWN), ("f1", "f2")])
def test_the_same_names_and_numbered_ones_pass(other):
    check_same_names(OWN, "DPO", other, "the model")
    check_same_names(other, "DPO", OWN, "the model")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            ("harmless", "helpful"),
            r"DPO has the objectives \(helpful, harmless\), the model \(harmless, helpful\): the sa",
        ),
        (("harmless", "helpful"), "the same in another order, so that a weight of one would count for another"),
        (
            ("helpful", "polite"),
            r"the model \(helpful, polite\): give both the same names, in the order of a preference",
        ),
        (("f2", "f1"), r"the model \(f2, f1\): give both the same names"),
        (("helpful",), r"the model \(helpful\): 2 and 1 of them, where every part must have the same"),
        (("f1", "f2", "f3"), "2 and 3 of them"),
    ],
)
def test_others_are_refused(other, message):
    with pytest.raises(ValueError, match=message):
        check_same_names(OWN, "DPO", other, "the model")


def test_rows_that_name_their_labels_are_compared_one_by_one():
    check_row_names(OWN, "DPO", [{"objectives": OWN}, {"labels": [0, 1]}, {"objectives": list(OWN)}, 3])
    with pytest.raises(ValueError, match=r"row 2 \(harmless, helpful\): the same in another order"):
        check_row_names(OWN, "DPO", [{"objectives": OWN}, {"objectives": OWN}, {"objectives": OWN[::-1]}])


def test_a_row_after_a_wrong_looking_shared_tuple_is_still_compared():
    """What was compared is remembered by identity, not by equality or position."""
    other = ("helpful", "polite")
    with pytest.raises(ValueError, match=r"row 1 \(helpful, polite\)"):
        check_row_names(OWN, "DPO", [{"objectives": OWN}, {"objectives": other}, {"objectives": OWN}])


@pytest.mark.parametrize("names", [[], (), "ab", None, ("a", "a"), ("a", ""), (1, 2), 2, [["a"], ["b"]]], ids=repr)
def test_names_that_are_none_are_refused(names):
    with pytest.raises(ValueError, match=r"names is .*: give a sequence of distinct texts"):
        checked_names(names)


def test_names_become_a_tuple():
    assert checked_names(["a", "b"]) == ("a", "b")
    assert numbered_names(3) == ("f1", "f2", "f3")


@pytest.mark.parametrize("name", ["a\x1b[2J", "a\nb", "\u202eab", "\x9b", "\ud800"])
def test_names_that_act_on_a_terminal_are_refused(name):
    with pytest.raises(ValueError, match=r"^names hold '.*', which has control characters in it: choose a na") as error:
        checked_names(("helpful", name))
    assert str(error.value).isprintable()
    assert checked_names(("größe", "नी", "not harmful")) == ("größe", "नी", "not harmful")


@pytest.mark.parametrize("names", [2, -1588, None, "ab", ("a", "a"), ("a", 3), ()])
def test_the_names_of_an_own_objective_are_looked_at_when_they_are_counted(names):
    class Own(Objective):
        def losses(self, model, batch, preferences):
            raise NotImplementedError

    objective = Own()
    objective.names = names
    with pytest.raises(ValueError, match=r"Own\.names is .*: give a sequence of distinct texts"):
        _ = objective.num_objectives
