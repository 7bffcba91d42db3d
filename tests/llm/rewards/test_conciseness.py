import pytest
import torch

from mopref.llm.rewards import REWARDS, Conciseness, describe_rewards
from mopref.llm.rewards.reward import reads_tokens


def test_by_hand():
    reward = Conciseness(target_length=4, maximum=2.0)
    responses = [[7] * length for length in (0, 1, 4, 5, 8, 12)]
    # 2, 2, 2, then 2 + 1 - l/4.
    assert reward([[1, 2, 3]] * 6, responses).tolist() == [2.0, 2.0, 2.0, 1.75, 1.0, 0.0]
    assert Conciseness(4)([[]], [[7] * 8]).item() == 0.0
    assert reads_tokens(reward)
    assert describe_rewards({"short": reward}) == {"short": "higher is shorter, and the same for all up to 4 tokens"}


def test_it_falls_with_length_and_does_not_read_the_prompt():
    reward = Conciseness(10)
    values = reward([[1] * 50] * 40, [[3] * length for length in range(40)])
    assert (values[:11] == 1.0).all()
    torch.testing.assert_close(values[10:].diff(), torch.full((29,), -0.1, dtype=torch.float64))
    assert reward([[1]], [[3] * 20]) == reward([[1] * 99], [[3] * 20])


@pytest.mark.parametrize("length", [0, -1, float("nan"), float("inf")])
def test_without_a_target(length):
    with pytest.raises(ValueError, match=f"target_length is {length}"):
        Conciseness(length)


def test_by_name_and_its_repr():
    assert repr(REWARDS.make("conciseness", target_length=4)) == "Conciseness(target_length=4.0, maximum=1.0)"
