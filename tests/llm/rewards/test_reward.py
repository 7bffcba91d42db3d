import importlib

import numpy as np
import pytest
import torch

from mopref.llm import rewards as package
from mopref.llm.rewards import REWARDS, Reward, RewardError, compute_rewards, describe_rewards, token_reward
from mopref.llm.rewards.reward import last_request, reads_tokens

SECRET = "SECRET-TEXT"
PROMPTS = [f"{SECRET} prompt {i}" for i in range(4)]
RESPONSES = [f"{SECRET} response {i}" for i in range(4)]
IDS = [[1], [1, 2], [1, 2, 3], []]


def call(reward, prompts=PROMPTS, responses=RESPONSES, prompt_ids=IDS, response_ids=IDS):
    return compute_rewards(
        {"fine": lambda p, r: [0.0] * len(r), "odd": reward}, prompts, responses, prompt_ids, response_ids
    )


def failure(reward, **inputs) -> RewardError:
    with pytest.raises(RewardError) as caught:
        call(reward, **inputs)
    assert "'odd'" in str(caught.value)
    assert caught.value.name == "odd"
    assert SECRET not in str(caught.value)
    return caught.value


def constant(values):
    return lambda prompts, responses: values


@pytest.mark.parametrize(
    "values",
    [
        [1.5, -2, 0, 3],
        (1.5, -2.0, 0.0, 3.0),
        np.array([1.5, -2.0, 0.0, 3.0], dtype=np.float16),
        torch.tensor([1.5, -2.0, 0.0, 3.0], dtype=torch.bfloat16, requires_grad=True) * 1,
        [torch.tensor(1.5, requires_grad=True), torch.tensor(-2), np.float32(0), 3],
    ],
    ids=["list", "tuple", "float16", "bfloat16 with gradient", "mixed list"],
)
def test_what_a_reward_may_return(values):
    result = call(constant(values))
    torch.testing.assert_close(
        result, torch.tensor([[0.0, 1.5], [0.0, -2.0], [0.0, 0.0], [0.0, 3.0]], dtype=torch.float64), rtol=0, atol=0
    )
    assert not result.requires_grad


def test_truth_values_count_as_zero_and_one():
    assert call(constant([True, False, True, True]))[:, 1].tolist() == [1.0, 0.0, 1.0, 1.0]


def test_texts_or_ids_by_what_the_reward_reads():
    seen = {}

    @token_reward
    def of_tokens(prompt_ids, response_ids):
        seen["tokens"] = (prompt_ids, response_ids)
        return [len(ids) for ids in response_ids]

    class OfTexts(Reward):
        def __call__(self, prompts, responses):
            seen["texts"] = (prompts, responses)
            return [int(text[-1]) for text in responses]

    result = compute_rewards({"b": of_tokens, "a": OfTexts()}, PROMPTS, RESPONSES, IDS[::-1], IDS)
    assert seen == {"tokens": (IDS[::-1], IDS), "texts": (PROMPTS, RESPONSES)}
    assert result.tolist() == [[1, 0], [2, 1], [3, 2], [0, 3]]
    assert compute_rewards({"b": of_tokens}, None, None, IDS, IDS).shape == (4, 1)
    assert compute_rewards({"a": OfTexts()}, PROMPTS, RESPONSES, None, None).shape == (4, 1)
    assert compute_rewards({"b": of_tokens, "a": OfTexts()}, [], [], [], []).shape == (0, 2)


def test_missing_and_unequal_inputs():
    of_tokens = token_reward(lambda prompt_ids, response_ids: [0.0] * len(response_ids))
    with pytest.raises(ValueError, match=r"'odd' reads token ids, but response_ids were not given"):
        call(of_tokens, response_ids=None)
    with pytest.raises(ValueError, match=r"'odd' reads texts, but prompts and responses were not given.*@token_reward"):
        compute_rewards({"odd": constant([])}, None, None, IDS, IDS)
    with pytest.raises(ValueError, match=r"4 prompts, 3 responses"):
        call(constant([0.0]), responses=RESPONSES[:3])
    with pytest.raises(ValueError, match="there is no reward"):
        compute_rewards({}, PROMPTS, RESPONSES, IDS, IDS)
    with pytest.raises(ValueError, match=r"'odd' is a float: it must be callable"):
        call(1.0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_numbers_that_are_not_finite(bad, kind):
    error = failure(constant(kind([0.0, 1.0, bad, bad])))
    assert error.row == 2
    assert f"{bad} for row 2 (2 of 4 rows" in str(error)
    assert isinstance(error, FloatingPointError), "a number that went wrong, to a trainer"
    assert error.prompt is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.zeros(4, 1), r"shape \(4, 1\): .*shape \(4,\); drop the last dimension"),
        ([[0.0]] * 4, r"shape \(4, 1\).*drop"),
        (np.zeros((1, 4)), r"shape \(1, 4\)"),
        ([0.0] * 3, r"shape \(3,\): it must return one number for each of the 4"),
        (1.0, r"shape \(\)"),
        (torch.tensor(1.0), r"shape \(\)"),
        ([[0.0], [0.0, 1.0], [0.0], [0.0]], "different shapes"),
        (None, "returned a NoneType"),
        (SECRET, "returned a str"),
        ({SECRET: 1.0}, "returned a dict"),
        ((float(i) for i in range(4)), "returned a generator"),
        ([0.0, SECRET, 0.0, 0.0], "real numbers"),
        ([0.0, 1.0, None, 0.0], "row 2 is a NoneType"),
        (np.zeros(4, dtype=complex), "type complex128: it must return real numbers"),
    ],
)
def test_what_is_no_reward(values, message):
    error = failure(constant(values))
    assert error.row is None
    with pytest.raises(RewardError, match=message):
        raise error


class Raising:
    """A reward that fails on every batch, with a message that holds a text, and counts its calls."""

    calls = 0

    def __call__(self, prompts, responses):
        self.calls += 1
        raise KeyError(responses[0])


def test_exception_names_the_reward_and_the_rows_and_keeps_its_cause():
    reward = Raising()
    error = failure(reward)
    assert "reward 'odd' raised KeyError on 4 rows: its own error is the cause above" in str(error)
    assert isinstance(error.__cause__, KeyError)
    assert error.row is None, "which row is at fault could be found by calling again only"
    assert reward.calls == 1


def test_exception_on_a_single_row_is_that_rows():
    reward = Raising()
    error = failure(reward, prompts=PROMPTS[:1], responses=RESPONSES[:1], prompt_ids=IDS[:1], response_ids=IDS[:1])
    assert error.row == 0
    assert "raised KeyError on 1 row:" in str(error)
    assert reward.calls == 1


def test_interruption_is_not_a_reward_error():
    def reward(prompts, responses):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(reward)


def test_directions():
    class Own(Reward):
        direction = "higher is greener"

        def __call__(self, prompts, responses):
            return []

    assert describe_rewards({"own": Own(), "plain": constant([])}) == {
        "own": "higher is greener",
        "plain": "higher is better",
    }


def test_request_of_a_prompt():
    assert last_request("text") == "text"
    turns = [("system", "be kind"), ("user", "first"), ("assistant", "yes"), ("user", "second"), ("assistant", "start")]
    messages = [{"role": role, "content": content} for role, content in turns]
    assert last_request(messages) == "second"
    assert last_request(messages[:1]) == "be kind"


REWARD_FROM_OUTSIDE = """
from mopref.llm.rewards import REWARDS, Reward


@REWARDS.register("vowels")
class Vowels(Reward):
    direction = "higher is more vowels"

    def __init__(self, weight):
        self.weight = weight

    def __call__(self, prompts, responses):
        return [self.weight * sum(letter in "aeiou" for letter in text) for text in responses]
"""


def test_a_reward_from_outside(tmp_path, monkeypatch):
    monkeypatch.setattr(REWARDS, "_parts", {name: REWARDS[name] for name in REWARDS})
    (tmp_path / "reward_from_outside.py").write_text(REWARD_FROM_OUTSIDE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("reward_from_outside")
    reward = REWARDS.make("vowels", weight=2.0)
    assert type(reward) is module.Vowels
    assert repr(reward) == "Vowels(weight=2.0)"
    values = compute_rewards({"vowels": reward}, ["Hi", "Bye"], ["Hello", "So long"], None, None)
    assert values.tolist() == [[4.0], [4.0]]
    assert describe_rewards({"vowels": reward}) == {"vowels": "higher is more vowels"}
    with pytest.raises(TypeError, match="is no reward: derive it from Reward"):
        REWARDS.register("letters")(len)


def test_names():
    texts = {"anchors", "brevity", "classifier", "conciseness", "harm", "profanity", "relevance", "sentiment"}
    assert set(REWARDS) == texts
    assert all(issubclass(part, Reward) for part in REWARDS.values())
    with pytest.raises(ValueError, match=r"unknown reward 'nope': choose one of .*conciseness"):
        REWARDS.make("nope")


def test_which_inputs_a_reward_reads():
    class OfTokens(Reward):
        reads_tokens = True

        def __call__(self, prompts, responses):
            return [0.0] * len(responses)

    assert reads_tokens(OfTokens())
    assert reads_tokens(token_reward(lambda prompt_ids, response_ids: []))
    assert not reads_tokens(lambda prompts, responses: [])


def test_public_names():
    names = ("ClassifierReward", "Embedder", "Reward", "RewardError", "compute_rewards", "token_reward")
    for name in names:
        assert getattr(package, name).__name__ == name


@pytest.mark.parametrize("prompt", [3, None, [], {"role": "user"}, [["user", "Hi"]], [{"role": "user"}], b"Hi"])
def test_a_prompt_that_is_neither_text_nor_messages_has_no_request(prompt):
    with pytest.raises(ValueError, match=r"a prompt is of type .*, and neither a text nor a list of chat messages"):
        last_request(prompt)


def test_responses_that_are_no_texts_are_refused_by_their_place():
    with pytest.raises(TypeError, match=r"responses\[0\] is of type Tensor: give a text"):
        compute_rewards({"length": lambda prompts, texts: [1.0]}, ["Hi"], torch.tensor([1.0]), None, None)
