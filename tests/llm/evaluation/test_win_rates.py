"""Win rates: by hand, both orders, draws, and what a judge may not return."""

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

from mopref.llm.evaluation import RewardJudge, win_rates
from mopref.llm.rewards import token_reward

PROMPTS = ["p", "q", "r"]


def shorter(prompts, first, second):
    return [float(len(a) < len(b)) for a, b in zip(first, second, strict=True)]


def test_rates_by_hand():
    rates = win_rates(shorter, PROMPTS, ["a", "bbb", "cc"], ["aa", "b", "cc"])
    assert rates.tolist() == [1.0, 0.0, 0.5]
    assert rates.dtype == torch.float64


def test_a_judge_that_likes_the_first_place_sees_a_draw():
    rates = win_rates(lambda prompts, first, second: [1.0] * len(prompts), PROMPTS, ["a", "b", "c"], ["x", "y", "z"])
    assert rates.tolist() == [0.5] * 3


texts = st.lists(st.text(max_size=4), min_size=3, max_size=3)


@settings(max_examples=50, deadline=None)
@given(texts, texts, st.floats(0, 1))
def test_swapped_answers_have_the_complement(answers, others, bias):
    def judge(prompts, first, second):
        return [min(1.0, 0.2 * len(a) / (1 + len(b)) + 0.5 * bias) for a, b in zip(first, second, strict=True)]

    rates, swapped = win_rates(judge, PROMPTS, answers, others), win_rates(judge, PROMPTS, others, answers)
    torch.testing.assert_close(rates, 1 - swapped)


def test_a_reward_judges():
    judge = RewardJudge(lambda prompts, responses: [-float(len(text)) for text in responses])
    assert judge(PROMPTS, ["a", "bbb", "cc"], ["aa", "b", "dd"]).tolist() == [1.0, 0.0, 0.5]
    assert win_rates(judge, PROMPTS, ["a", "bbb", "cc"], ["aa", "b", "dd"]).tolist() == [1.0, 0.0, 0.5]


def test_equal_answers_are_not_shown():
    seen = []

    def judge(prompts, first, second):
        seen.extend(prompts)
        return [True] * len(prompts)

    assert win_rates(judge, PROMPTS, ["a", "b", "c"], ["a", "y", "c"]).tolist() == [0.5, 0.5, 0.5]
    assert seen == ["q", "q"]
    assert win_rates(judge, PROMPTS, ["a"] * 3, ["a"] * 3).tolist() == [0.5] * 3
    assert len(seen) == 2


@pytest.mark.parametrize("answered", [[1.5, 0, 0], [math.nan, 0, 0], [-0.1, 0, 0]])
def test_what_is_no_probability_is_refused(answered):
    with pytest.raises(ValueError, match=r"returned|has nan"):
        win_rates(lambda *_: answered, PROMPTS, ["a"] * 3, ["b"] * 3)


def test_wrong_numbers_are_refused():
    with pytest.raises(ValueError, match=r"shape \(2,\) for 3 prompts"):
        win_rates(lambda *_: [1.0, 0.0], PROMPTS, ["a"] * 3, ["b"] * 3)
    with pytest.raises(ValueError, match="3 prompts, 2 answers and 3 base answers"):
        win_rates(shorter, PROMPTS, ["a"] * 2, ["b"] * 3)
    with pytest.raises(TypeError, match="reward is 3"):
        RewardJudge(3)
    with pytest.raises(ValueError, match=r"judge 'judge' reads token ids: give the tokenizer"):
        RewardJudge(token_reward(lambda prompts, responses: [0.0] * len(prompts)))


def test_a_reward_that_reads_tokens_gets_those_of_the_texts():
    def tokenizer(text, add_special_tokens):
        assert not add_special_tokens
        return {"input_ids": [ord(letter) for letter in text]}

    def difference(prompts, responses):
        return [ids[0] - prompt[0] for prompt, ids in zip(prompts, responses, strict=True)]

    reward = token_reward(difference)
    judge = RewardJudge(reward, tokenizer=tokenizer)
    chat = [{"role": "user", "content": "q"}]
    assert judge(["p", chat], ["b", "a"], ["a", "c"]).tolist() == [1.0, 0.0]
