"""Ratings as labelled pairs, checked by hand, and what a margin does."""

from collections import Counter

import pytest
from hypothesis import given, settings, strategies as st

from mopref.llm.data.loaders.ratings import (
    Attribute,
    RatedAnswer,
    checked_attributes,
    checked_margins,
    checked_pair_choice,
    label,
    rated_pairs,
    read_rating,
)
from mopref.llm.data.loaders.report import LoadReport

HIGHER, LOWER = Attribute("x", "higher"), Attribute("x", "lower")
NAMES = ("helpful", "brief")


def pairs_of(ratings, margins=(0.0, 0.0), pairs="all", seed=0):
    """The labels of each pair by its texts, in the order of the alphabet, and the report."""
    report = LoadReport()
    answers = [RatedAnswer("Why?", text, values) for text, values in ratings.items()]
    made = rated_pairs(answers, NAMES, margins, pairs, seed, report)
    labels = {}
    for pair in made:
        turned = pair.answers[0] > pair.answers[1]
        labels["".join(sorted(pair.answers))] = tuple(
            pair.labels[name] if pair.labels[name] < 0 else pair.labels[name] ^ turned for name in NAMES
        )
    return labels, report


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (3, 3.0),
        (2.5, 2.5),
        ("4", 4.0),
        (" 4.5 ", 4.5),
        ({"Rating": "4", "Rationale": "Fine."}, 4.0),
        ({"score": -1}, -1.0),
        (0, 0.0),
    ],
)
def test_ratings_are_read(value, number):
    counts = Counter()
    assert read_rating(value, HIGHER, "helpful", counts) == number
    assert read_rating(value, LOWER, "helpful", counts) == -number
    assert not counts


@pytest.mark.parametrize("value", [None, "", "N/A", " n/a ", "None", float("nan"), "nan", {}, {"Rating": "N/A"}])
def test_missing_ratings_are_counted(value):
    counts = Counter()
    assert read_rating(value, HIGHER, "helpful", counts) is None
    assert counts == {"helpful: missing rating": 1}


@pytest.mark.parametrize("value", [True, "four", "4/5", [4], float("inf"), "inf", {"Rating": ["4"]}, 10**400])
def test_unreadable_ratings_are_counted(value):
    counts = Counter()
    assert read_rating(value, HIGHER, "helpful", counts) is None
    assert counts == {"helpful: unreadable rating": 1}


@pytest.mark.parametrize(
    ("first", "second", "margin", "expected"),
    [
        (4.0, 3.0, 0.0, 0),
        (3.0, 4.0, 0.0, 1),
        (4.0, 4.0, 0.0, -1),
        (4.0, 3.0, 1.0, 0),
        (4.0, 3.5, 1.0, -1),
        # 4.3 − 4.2 is .0999… in floating point.
        (4.3, 4.2, 0.1, 0),
        (None, 3.0, 0.0, -1),
        (3.0, None, 0.0, -1),
    ],
)
def test_labels(first, second, margin, expected):
    assert label(first, second, margin) == expected
    assert label(second, first, margin) == (expected if expected < 0 else 1 - expected)


def test_all_pairs_by_hand():
    ratings = {"a": (5.0, 1.0), "b": (3.0, 1.0), "c": (3.0, 2.0), "d": (None, 3.0)}
    labels, report = pairs_of(ratings)
    assert labels == {
        "ab": (0, -1),
        "ac": (0, 1),
        "ad": (-1, 1),
        "bc": (-1, 1),
        "bd": (-1, 1),
        "cd": (-1, 1),
    }
    assert report.unlabelled == {"brief: tie": 1, "helpful: tie": 1}
    labels, report = pairs_of(ratings, margins=(2.0, 2.0))
    assert labels == {"ab": (0, -1), "ac": (0, -1), "ad": (-1, 1), "bd": (-1, 1)}
    assert report.left_out == {"pairs: no label on any objective": 2}


def test_the_best_against_the_worst_of_each_attribute():
    ratings = {"a": (5.0, 1.0), "b": (3.0, 9.0), "c": (1.0, 4.0), "d": (None, 3.0)}
    assert pairs_of(ratings, pairs="best-worst")[0] == {"ac": (0, 1), "ab": (0, 1)}
    assert pairs_of({"a": (1.0, 1.0), "b": (1.0, 1.0)}, pairs="best-worst")[0] == {}


def test_random_pairs_are_seeded_and_labelled():
    ratings = {letter: (float(n), 0.0) for n, letter in enumerate("abcdef")} | {"g": (None, 0.0)}
    everything, _ = pairs_of(ratings)
    some, report = pairs_of(ratings, pairs=4)
    assert len(some) == 4
    assert some.items() <= everything.items()
    assert report.left_out == {"pairs: no label on any objective": 6}
    assert pairs_of(dict(reversed(ratings.items())), pairs=4)[0] == some, "whatever the order of the answers"
    assert any(pairs_of(ratings, pairs=4, seed=seed)[0].keys() != some.keys() for seed in range(1, 4))
    assert pairs_of(ratings, pairs=100)[0] == everything


def test_answers_that_are_there_twice_have_the_mean_of_their_ratings():
    report = LoadReport()
    answers = [
        RatedAnswer("Why?", "a", (5.0, None)),
        RatedAnswer("Why? ", "b", (3.5, 1.0)),
        RatedAnswer("Why?", "a ", (1.0, 2.0)),
    ]
    (pair,) = rated_pairs(answers, NAMES, (0.0, 0.0), "all", 0, report)
    preferred = [pair.answers[pair.labels[name]].strip() for name in NAMES]
    assert preferred == ["b", "a"]


def test_prompts_with_one_answer_are_counted():
    report = LoadReport()
    answers = [RatedAnswer("Why?", "a", (5.0,)), RatedAnswer("How?", "a", (5.0,)), RatedAnswer("How?", "a ", (4.0,))]
    assert list(rated_pairs(answers, ("helpful",), (0.0,), "all", 0, report)) == []
    assert report.left_out == {"prompts: fewer than two answers": 2}


def test_options_are_checked():
    assert checked_attributes(("helpful",)) == {"helpful": Attribute("helpful", "higher")}
    assert checked_attributes({"brief": ["verbosity", "lower"], "clear": "coherence"}) == {
        "brief": Attribute("verbosity", "lower"),
        "clear": Attribute("coherence", "higher"),
    }
    for wrong in ({"brief": ("verbosity", "less")}, {"brief": ("a", "lower", "b")}, {"brief": (3, "lower")}):
        with pytest.raises(ValueError, match=r"attributes of 'brief' is .*: give the name of a rating"):
            checked_attributes(wrong)
    with pytest.raises(ValueError, match="objectives is"):
        checked_attributes("helpful")
    assert checked_margins(1, NAMES) == (1.0, 1.0)
    assert checked_margins({"brief": 0.5}, NAMES) == (0.0, 0.5)
    for margin, message in (
        (-1, "margin is -1"),
        (float("nan"), "margin is nan"),
        (float("inf"), "margin is inf"),
        ("1", "margin is '1'"),
        ({"brif": 1}, "margin names 'brif', which is none of the objectives helpful, brief"),
    ):
        with pytest.raises(ValueError, match=message):
            checked_margins(margin, NAMES)
    for pairs in (0, -1, True, "some", 1.5, None):
        with pytest.raises(ValueError, match=f"pairs is {pairs!r}: it must be 'all', 'best-worst'"):
            checked_pair_choice(pairs)
    assert [checked_pair_choice(pairs) for pairs in ("all", "best-worst", 3)] == ["all", "best-worst", 3]


RATINGS = st.dictionaries(
    st.sampled_from("abcde"),
    st.tuples(*[st.one_of(st.none(), st.integers(0, 4).map(float))] * 2),
    min_size=2,
)
MARGINS = st.floats(0, 5)


@settings(max_examples=200, deadline=None)
@given(RATINGS, MARGINS, MARGINS)
def test_a_larger_margin_never_labels_more(ratings, one, other):
    small, large = sorted((one, other))
    more, _ = pairs_of(ratings, (small, small))
    fewer, _ = pairs_of(ratings, (large, large))
    for pair, labels in fewer.items():
        assert all(label in (-1, before) for label, before in zip(labels, more[pair], strict=True))


@settings(max_examples=100, deadline=None)
@given(RATINGS, st.randoms(), st.sampled_from(["all", "best-worst", 1, 2]), st.integers(0, 2))
def test_the_order_of_answers_says_nothing(ratings, generator, pairs, seed):
    items = list(ratings.items())
    generator.shuffle(items)
    assert pairs_of(dict(items), pairs=pairs, seed=seed)[0] == pairs_of(ratings, pairs=pairs, seed=seed)[0]


@settings(max_examples=100, deadline=None)
@given(RATINGS)
def test_labels_follow_the_ratings(ratings):
    labels, _ = pairs_of(ratings)
    for pair, own in labels.items():
        for first, second, value in zip(*(ratings[text] for text in pair), own, strict=True):
            assert value == (-1 if None in (first, second) or first == second else int(second > first))


@pytest.mark.parametrize("column", [3, None, {"a": 1}, ("a", ["lower"]), ("a", "lower", "b")])
def test_an_attribute_that_names_no_rating_is_refused(column):
    with pytest.raises(ValueError, match=r"attributes of 'helpful' is .*: give the name of a rating"):
        checked_attributes({"helpful": column})
