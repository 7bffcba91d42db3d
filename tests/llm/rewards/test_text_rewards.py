"""Conciseness, sentiment, profanity and relevance."""

import sys

import numpy as np
import pytest
import torch

from mopref.llm.demo.assets import minilm
from mopref.llm.rewards import (
    Conciseness,
    ProfanityFree,
    Relevance,
    VaderSentiment,
    compute_rewards,
    describe_rewards,
    shared_embedder,
)

SENTENCES = [
    "The food was great and the staff were lovely!",
    "The food was not great.",
    "This is a terrible, horrible day.",
    "The train leaves at noon.",
    "",
]


def test_conciseness_by_hand():
    reward = Conciseness(target_length=4, maximum=2.0)
    responses = [[7] * length for length in (0, 1, 4, 5, 8, 12)]
    # 2, 2, 2, then 2 + 1 - l/4.
    assert reward([[1, 2, 3]] * 6, responses).tolist() == [2.0, 2.0, 2.0, 1.75, 1.0, 0.0]
    assert Conciseness(4)([[]], [[7] * 8]).item() == 0.0
    assert reward.reads_tokens
    assert describe_rewards({"short": reward}) == {"short": "higher is shorter, and the same for all up to 4 tokens"}


def test_conciseness_falls_with_length_and_does_not_read_the_prompt():
    reward = Conciseness(10)
    values = reward([[1] * 50] * 40, [[3] * length for length in range(40)])
    assert (values[:11] == 1.0).all()
    torch.testing.assert_close(values[10:].diff(), torch.full((29,), -0.1, dtype=torch.float64))
    assert reward([[1]], [[3] * 20]) == reward([[1] * 99], [[3] * 20])


@pytest.mark.parametrize("length", [0, -1, float("nan"), float("inf")])
def test_conciseness_without_a_target(length):
    with pytest.raises(ValueError, match=f"target_length is {length}"):
        Conciseness(length)


def test_sentiment_is_the_packages():
    vader = pytest.importorskip("vaderSentiment.vaderSentiment")
    reward = VaderSentiment()
    values = reward(["terrible"] * 5, SENTENCES)
    analyzer = vader.SentimentIntensityAnalyzer()
    assert values.tolist() == [analyzer.polarity_scores(text)["compound"] for text in SENTENCES]
    assert values[0] > 0.5
    assert values[1] < 0
    assert values[2] < -0.5
    assert values[3:].tolist() == [0.0, 0.0]
    assert reward.direction == "higher is more positive"


def test_profanity_lowers_the_reward():
    pytest.importorskip("profanity_check")
    reward = ProfanityFree()
    texts = ["What a bloody stupid idiot, you shit.", "The train leaves at noon.", ""]
    values = reward(["shit"] * 3, texts)
    assert values[0] < 0.1
    assert values[1] > 0.9
    assert ((values >= 0) & (values <= 1)).all()
    for text, value in zip(texts, values, strict=True):
        assert reward([""], [text]).item() == pytest.approx(value.item(), abs=1e-12)
    assert reward([], []).shape == (0,)
    assert reward.direction == "higher is less profane"


@pytest.mark.parametrize(
    ("reward", "module"),
    [(VaderSentiment, "vaderSentiment.vaderSentiment"), (ProfanityFree, "profanity_check")],
)
def test_missing_package_names_the_extra(reward, module, monkeypatch):
    # None in sys.modules is how Python marks a module that cannot be imported.
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'mopref\[rewards\]'"):
        reward()


def test_profanity_weights_that_do_not_load(tmp_path, monkeypatch):
    (tmp_path / "profanity_check.py").write_text("raise AttributeError('no such estimator')", encoding="utf-8")
    monkeypatch.delitem(sys.modules, "profanity_check", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="does not load with the scikit-learn that is installed"):
        ProfanityFree()


class LetterEmbedder:
    """Unit vectors of letter counts."""

    def embed(self, texts):
        counts = np.array([[text.count(letter) for letter in "abc"] for text in texts], dtype=np.float32).reshape(-1, 3)
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


def test_relevance_is_the_cosine_of_request_and_response():
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


@pytest.mark.network
def test_relevance_prefers_the_answer_to_the_digression():
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
