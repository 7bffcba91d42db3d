import numpy as np
import pytest

from mopref.llm.demo import minilm
from mopref.llm.rewards import REWARDS, Anchors, compute_rewards, shared_embedder


class LetterEmbedder:
    """Unit vectors of letter counts."""

    def embed(self, texts):
        counts = np.array([[text.count(letter) for letter in "abc"] for text in texts], dtype=np.float32).reshape(-1, 3)
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


def test_it_is_the_difference_of_mean_cosines():
    reward = Anchors(LetterEmbedder(), like=("a", "ab"), unlike=("c",))
    half = 0.5**0.5
    # (1 + 1/√2) / 2 - 0, 1/√2 / 2 - 0, 0 - 1, and of (a + c)/√2: (1/√2 + 1/2) / 2 - 1/√2.
    expected = [(1 + half) / 2, half / 2, -1.0, (half + 0.5) / 2 - half]
    np.testing.assert_allclose(reward(["c"] * 4, ["aa", "b", "c", "ac"]), expected, rtol=1e-6)
    assert reward([], []).shape == (0,)
    assert reward.direction.startswith("higher is nearer to the sentences it should be like")


def test_by_name_and_its_repr():
    made = REWARDS.make("anchors", embedder=LetterEmbedder(), like=["a"], unlike=["b"])
    assert repr(made) == "Anchors(embedder=LetterEmbedder(...), like=('a',), unlike=('b',))"


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"like": []}, ValueError, r"like is \(\): give one sentence at least"),
        ({"unlike": ["a", " "]}, ValueError, "unlike is .*none of them empty"),
        ({"like": "a"}, TypeError, "like"),
        ({"unlike": [3]}, TypeError, r"unlike\[0\]"),
        ({"embedder": len}, TypeError, "embedder is of type builtin_function_or_method: give an Embedder"),
    ],
)
def test_what_cannot_be_is_refused(changed, error, message):
    with pytest.raises(error, match=message):
        Anchors(**{"embedder": LetterEmbedder(), "like": ["a"], "unlike": ["b"], **changed})


@pytest.mark.network
def test_it_tells_a_warm_answer_from_a_cool_one():
    warm, cool = ["That is lovely, I am so happy for you!"], ["The request has been recorded."]
    reward = Anchors(shared_embedder(minilm()), warm, cool)
    answers = ["How wonderful, congratulations, dear friend!", "Your application has been registered."]
    values = compute_rewards({"warm": reward}, ["I got the job!"] * 2, answers, None, None)[:, 0]
    assert values[0] > values[1] + 0.3
