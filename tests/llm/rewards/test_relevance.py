import numpy as np
import pytest

from mopref.llm.demo import minilm
from mopref.llm.rewards import REWARDS, Relevance, compute_rewards, shared_embedder


class LetterEmbedder:
    """Unit vectors of letter counts."""

    def embed(self, texts):
        counts = np.array([[text.count(letter) for letter in "abc"] for text in texts], dtype=np.float32).reshape(-1, 3)
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


def test_it_is_the_cosine_of_request_and_response():
    reward = Relevance(embedder=LetterEmbedder())
    chat = [
        {"role": "user", "content": "bbb"},
        {"role": "assistant", "content": "cc"},
        {"role": "user", "content": "a"},
    ]
    values = reward(["a", "a", "aabb", chat], ["aa", "b", "a", "aaa"])
    np.testing.assert_allclose(values, [1.0, 0.0, 0.5**0.5, 1.0], rtol=1e-6)
    assert reward([], []).shape == (0,)
    assert reward.direction == "higher is nearer to the request"


def test_by_name_and_its_repr():
    assert repr(REWARDS.make("relevance", embedder=LetterEmbedder())) == "Relevance(embedder=LetterEmbedder(...))"


@pytest.mark.network
def test_it_prefers_the_answer_to_the_digression():
    reward, second = (Relevance(shared_embedder(minilm())) for _ in range(2))
    assert reward.embedder is second.embedder
    prompt = "How do I water a cactus?"
    values = compute_rewards(
        {"relevant": reward},
        [prompt] * 3,
        ["Water the cactus every two weeks and let the soil dry.", "I cannot help with that.", prompt],
        None,
        None,
    )[:, 0]
    assert values[0] > values[1] + 0.3
    assert values[2] == pytest.approx(1.0, abs=1e-5)


def test_other_numbers_of_prompts_and_responses_are_refused():
    with pytest.raises(ValueError, match=r"there are 2 prompts and 1 responses: there must be as many"):
        Relevance(embedder=LetterEmbedder())(["a", "b"], ["a"])
