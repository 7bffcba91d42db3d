"""What an operator allows, and what is refused with which status."""

import pytest

from mopref.serving.terms import RefusedError, Terms

NAMES = ("helpful", "harmless")


def terms(**settings) -> Terms:
    return Terms("model", NAMES, **{"context": 100, "max_new_tokens": 20, **settings})


def refusal(call, *arguments) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        call(*arguments)
    return caught.value


@pytest.mark.parametrize("asked", [{"harmless": 0.25, "helpful": 0.75}, [0.75, 0.25], "gentle"])
def test_a_preference_by_name_in_order_or_by_a_name_of_its_own(asked):
    assert terms(presets={"gentle": {"helpful": 0.75, "harmless": 0.25}}).preference(asked) == (0.75, 0.25)


def test_balanced_is_there_unless_a_bound_forbids_it():
    assert terms().preference("balanced") == (0.5, 0.5)
    assert terms(presets={"balanced": [0.4, 0.6]}).preference("balanced") == (0.4, 0.6)
    assert "balanced" not in terms(minimums={"harmless": 0.6}).presets


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"helpful": 0.7, "harmless": 0.4}, "sums to 1.1, not 1"),
        ({"helpful": 1.2, "harmless": -0.2}, "harmless, which is negative"),
        ({"helpful": 1.0}, "harmless"),
        ({"helpful": 0.5, "harmless": 0.5, "funny": 0.0}, "funny, which is no objective"),
        ([1.0], "give one weight per objective"),
        ([[0.5, 0.5], [1.0, 0.0]], "2 preferences were given: give one"),
        ("wild", "the presets are 'balanced'"),
        (None, ""),
    ],
)
def test_what_is_no_preference_is_refused(asked, words):
    error = refusal(terms().preference, asked)
    assert error.status == 400
    assert words in error.sentence


def test_a_weight_below_its_bound_is_forbidden():
    bounded = terms(minimums={"harmless": 0.3})
    assert bounded.preference([0.7, 0.3]) == (0.7, 0.3)
    # 0.1 + 0.2 is no exact number.
    assert terms(minimums={"harmless": 0.1 + 0.2}).preference([0.7, 0.3]) == (0.7, 0.3)
    error = refusal(bounded.preference, {"helpful": 0.71, "harmless": 0.29})
    assert error.status == 403
    assert error.sentence == "the weight of harmless is 0.29, and the operator asks for 0.3 at least: raise it."


def test_strengths_have_a_range_and_with_bounds_there_is_one_only():
    assert [terms().strength(value) for value in (0.0, 1.0, 2.0)] == [0.0, 1.0, 2.0]
    for value in (-0.1, 2.1, float("inf"), float("nan")):
        assert refusal(terms().strength, value).status == 400
    bounded = terms(minimums={"harmless": 0.3})
    assert bounded.strength(1.0) == 1.0
    assert refusal(bounded.strength, 0.0).status == 403
    assert (terms().strengths, bounded.strengths) == ((0.0, 2.0), (1.0, 1.0))


def test_tokens_that_are_left():
    assert terms().new_tokens(None, 10) == 20
    assert terms().new_tokens(None, 95) == 5
    assert terms().new_tokens(20, 80) == 20
    assert "19 are left" in refusal(terms().new_tokens, 20, 81).sentence
    assert "20 are left" in refusal(terms().new_tokens, 21, 1).sentence
    for prompt in (100, 1000):
        error = refusal(terms().new_tokens, 1, prompt)
        assert (error.status, error.param) == (400, "messages")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"minimums": {"harmles": 0.1}}, "'harmles', but the objectives are 'helpful', 'harmless'"),
        ({"minimums": {"harmless": 1.1}}, "lies in"),
        ({"minimums": {"harmless": float("nan")}}, "lies in"),
        ({"minimums": {"harmless": 0.6, "helpful": 0.6}}, "sum to more than 1"),
        ({"minimums": {"harmless": 0.6}, "presets": {"wild": [0.9, 0.1]}}, "'wild' is refused"),
        ({"presets": {"wild": [0.9, 0.2]}}, "sums to 1.1"),
        ({"context": 0}, "context is 0"),
        ({"max_new_tokens": -1}, "max_new_tokens is -1"),
    ],
)
def test_terms_that_cannot_be_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        terms(**settings)
