import pytest

from mopref.llm.rewards import REWARDS, Brevity


def test_by_hand():
    assert Brevity()(["Why?"] * 4, ["So.", " It is\n so,  then ", "", "a-b c"]).tolist() == [-1.0, -4.0, 0.0, -2.0]
    assert Brevity()([], []).shape == (0,)
    assert Brevity.direction == "higher is fewer words"


def test_by_name_and_its_repr():
    assert repr(REWARDS.make("brevity")) == "Brevity()"


def test_token_ids_are_refused():
    with pytest.raises(TypeError, match=r"responses\[0\]"):
        Brevity()([[1]], [[5, 6]])
