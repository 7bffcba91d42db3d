"""The next question."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from personal_inputs import margins, plain_posterior, rewards

from mopref.personal import PairMargins, next_question
from mopref.personal.posterior import posterior
from mopref.personal.questions import expected_information

BETAS = [0.5, 2.0, 8.0]


def mutual_information(joint: np.ndarray) -> float:
    """Σ p(a, s) log p(a, s) / (p(a) p(s)) of a table ``(answers, states)``, term by term."""
    total = 0.0
    for answer in range(joint.shape[0]):
        for state in range(joint.shape[1]):
            p = joint[answer, state]
            if p > 0:
                total += p * math.log(p / (joint[answer].sum() * joint[:, state].sum()))
    return total


@pytest.mark.parametrize("choices", [{}, {1: 0, 4: 1}])
def test_information_is_the_mutual_information_term_by_term(choices):
    table, pairs = rewards(11, 2), margins(11, 2)
    found = posterior(pairs, choices, decisiveness=BETAS)
    points = found.points.tolist()
    states = plain_posterior(table, choices, points, BETAS)
    information = expected_information(pairs, found)
    for pair in range(11):
        chances = np.array(
            [[1 / (1 + math.exp(-beta * float(np.dot(point, table[pair])))) for beta in BETAS] for point in points]
        )
        joint = np.stack([(states * chances).ravel(), (states * (1 - chances)).ravel()])
        assert float(information[pair]) == pytest.approx(mutual_information(joint), abs=1e-9)


def test_the_most_informative_open_pair_is_asked_about():
    pairs, choices = margins(30, 3), {3: 1, 7: 0}
    information = expected_information(pairs, posterior(pairs, choices)).tolist()
    question = next_question(pairs, choices)
    best = max(value for pair, value in enumerate(information) if pair not in choices)
    assert question.information == best == information[question.pair]
    assert question == next_question(pairs, dict(choices))


@settings(max_examples=10)
@given(seed=st.integers(0, 99), m=st.sampled_from([2, 3]))
def test_no_pair_is_asked_about_twice_until_none_is_left(seed, m):
    pairs, choices = margins(6, m, seed), {}
    for _ in range(6):
        pair = next_question(pairs, choices).pair
        assert pair not in choices
        choices[pair] = seed % 2
    with pytest.raises(ValueError, match="all 6 pairs"):
        next_question(pairs, choices)


def test_pairs_of_one_key_are_one_question():
    same = PairMargins([[1.0, -1.0], [-1.0, 1.0], [0.1, 0.1]], ("a", "b"), ["x", "x", "y"])
    assert next_question(same, {0: 1}).pair == 2
    with pytest.raises(ValueError, match="asked about"):
        next_question(same, {1: 1, 2: 0})


def test_of_equal_pairs_the_first_comes_and_what_says_nothing_has_no_information():
    pairs = PairMargins([[0.0, 0.0], [1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]], ("a", "b"))
    information = expected_information(pairs, posterior(pairs, {}))
    # Half and half to within rounding, which is another on another processor.
    assert float(information[0]) == pytest.approx(0, abs=1e-12)
    assert next_question(pairs, {}).pair == 1
    assert 0 < next_question(pairs, {}).information < math.log(2)


def test_equal_but_for_rounding_is_equal(monkeypatch):
    pairs = PairMargins([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0]], ("a", "b"))
    rounded = torch.tensor([0.1, 0.3, 0.1 + 0.2], dtype=torch.float64)
    assert rounded[2] > rounded[1]
    monkeypatch.setattr("mopref.personal.questions.expected_information", lambda *_: rounded)
    assert next_question(pairs, {}).pair == 1


def test_a_pair_on_which_objectives_disagree_says_more_than_one_on_which_they_agree():
    pairs = PairMargins([[1.0, 1.0], [1.0, -1.0]], ("a", "b"))
    assert next_question(pairs, {}, decisiveness=[4.0]).pair == 1


def test_many_pairs_at_once_are_as_few():
    pairs = margins(21, 2)
    together = expected_information(pairs, posterior(pairs, {}))
    for pair in range(21):
        alone = PairMargins(pairs.values[[pair]], pairs.names)
        assert float(expected_information(alone, posterior(alone, {}))) == pytest.approx(float(together[pair]))


def test_huge_margins_give_no_nan():
    pairs = PairMargins([[1e6, -1e6], [1e6, 1e6]], ("a", "b"))
    information = expected_information(pairs, posterior(pairs, {}))
    # One of the 101 points is the centre, at which the first pair is even.
    assert information.tolist() == pytest.approx([math.log(2), 0.0], abs=0.01)


def test_other_things_than_margins_are_refused():
    with pytest.raises(TypeError, match="margins"):
        next_question([[1.0, -1.0]], {})
    with pytest.raises(ValueError, match="pair 5"):
        next_question(margins(3, 2), {5: 0})
