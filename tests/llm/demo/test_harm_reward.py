import json

import numpy as np
import pytest
import torch

from mopref.llm.demo import harm_reward as harm
from mopref.llm.demo.benign_answers import benign_answers
from mopref.llm.demo.harm_reward import HarmReward, learned_harm_reward
from mopref.llm.rewards import REWARDS

WORDS = ["bomb", "hurt", "sorry", "safe", "party", "cake"]


class WordEmbedder:
    """Unit vectors of word counts, so that what the regression should learn is known."""

    calls = 0

    def embed(self, texts, progress=False):
        self.calls += 1
        counts = np.array([[text.count(word) for word in WORDS] + [1.0] for text in texts], dtype=np.float32)
        return counts.reshape(-1, 7) / np.linalg.norm(counts.reshape(-1, 7), axis=1, keepdims=True)


def scored_answers(prompts=30):
    rows = []
    for number in range(prompts):
        prompt = f"request {number}"
        rows += [(prompt, "bomb " * (1 + number % 3), 1.0), (prompt, "hurt bomb", 0.75)]
        rows += [(prompt, "sorry " * (1 + number % 2), 0.0), (prompt, "safe sorry", 0.25)]
    return map(list, zip(*rows, strict=True))


BENIGN = [(f"everyday {i}", "party " + "cake " * i) for i in range(10)]


def test_high_is_harmless():
    reward = HarmReward.fit(*scored_answers(), WordEmbedder(), BENIGN, strength=0.1)
    values = reward(["x"] * 4, ["bomb", "hurt bomb", "sorry", "cake party"])
    assert values[:2].max() < values[2:].min() - 0.4
    assert reward.direction == "higher is less harmful"
    assert values[0].item() == pytest.approx(-1.0, abs=0.25)
    assert values[3].item() == pytest.approx(0.0, abs=0.25)
    assert reward([], []).shape == (0,)
    chat = [{"role": "system", "content": "bomb"}, {"role": "user", "content": "x"}]
    assert reward([chat], ["hurt bomb"]).item() == values[1].item()


def test_batch_is_one_by_one():
    reward = HarmReward.fit(*scored_answers(), WordEmbedder(), BENIGN)
    prompts, responses = ["bomb", "x", "party"], ["sorry", "hurt bomb", "cake"]
    alone = torch.cat([reward([p], [r]) for p, r in zip(prompts, responses, strict=True)])
    torch.testing.assert_close(reward(prompts, responses), alone)
    # The request counts, too: it stands in the second embedding.
    assert reward(["bomb"], ["sorry"]) < reward(["sorry"], ["sorry"])


def test_quality_is_held_out():
    """Each prompt has its own word and a random score: only a fit that has seen the prompt could know the score."""

    class OneWordEach:
        def embed(self, texts, progress=False):
            return np.array([np.eye(40)[int(text.split()[-1])] for text in texts], dtype=np.float32)

    scores = np.random.default_rng(1).random(40)
    prompts = [f"prompt {i}" for i in range(40)] * 2
    answers = [f"answer {i}" for i in range(40)] * 2
    fitted = HarmReward.fit(prompts, answers, [*scores, *scores], OneWordEach(), [], strength=1e-3)
    assert np.corrcoef(-fitted(prompts, answers), [*scores, *scores])[0, 1] > 0.99
    assert abs(fitted.quality["with_benign"]["spearman"]) < 0.5


def test_benign_answers_lower_false_alarms():
    prompts, answers, scores = scored_answers()
    # Everyday answers that look like harmful ones in all that the scored answers could teach.
    benign = [(f"everyday {i}", "bomb " + "party cake " * (1 + i % 3)) for i in range(40)]
    fitted = HarmReward.fit(prompts, answers, scores, WordEmbedder(), benign, strength=0.1)
    quality = fitted.quality
    assert (quality["answers"], quality["prompts"], quality["harmful_answers"]) == (120, 30, 60)
    assert quality["benign_answers"] == 40
    assert quality["without_benign"]["benign_false_alarms"] > 0.6
    assert quality["with_benign"]["benign_false_alarms"] < 0.1
    assert quality["with_benign"]["benign_mean"] < quality["without_benign"]["benign_mean"] - 0.3
    assert quality["with_benign"]["auc"] > 0.95
    assert quality["without_benign"]["spearman"] > 0.9
    heavier = HarmReward.fit(prompts, answers, scores, WordEmbedder(), benign, strength=0.1, benign_weight=20.0)
    assert heavier.quality["with_benign"]["benign_mean"] < quality["with_benign"]["benign_mean"]
    assert heavier.quality["without_benign"] == quality["without_benign"]


def test_without_benign_answers_there_is_no_false_alarm_rate():
    quality = HarmReward.fit(*scored_answers(), WordEmbedder(), []).quality
    assert quality["with_benign"]["benign_false_alarms"] is None
    assert quality["with_benign"] == quality["without_benign"]
    json.dumps(quality, allow_nan=False)


def test_arguments_out_of_range():
    prompts, answers, scores = scored_answers(5)
    embedder = WordEmbedder()
    with pytest.raises(ValueError, match="20 prompts, 19 responses and 20 scores"):
        HarmReward.fit(prompts, answers[1:], scores, embedder)
    with pytest.raises(ValueError, match=r"row 3 has harm 1.5"):
        HarmReward.fit(prompts, answers, [*scores[:3], 1.5, *scores[4:]], embedder)
    with pytest.raises(ValueError, match="strength is 0"):
        HarmReward.fit(prompts, answers, scores, embedder, strength=0)
    with pytest.raises(ValueError, match="benign_weight is nan"):
        HarmReward.fit(prompts, answers, scores, embedder, benign_weight=float("nan"))
    with pytest.raises(ValueError, match="5 prompts cannot be dealt to 6 folds"):
        HarmReward.fit(prompts, answers, scores, embedder, folds=6)
    assert embedder.calls == 0


@pytest.fixture
def no_assets(tmp_path, monkeypatch):
    """Let the reward be fitted to a few answers and word counts, in a cache of its own; returns the embedder."""
    prompts, answers, scores = scored_answers()
    table: dict = {}
    for prompt, answer, score in zip(prompts, answers, scores, strict=True):
        table.setdefault(prompt, {})[answer] = score
    embedder = WordEmbedder()
    monkeypatch.setenv("MOPREF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(harm, "minilm", lambda *_: tmp_path)
    monkeypatch.setattr(harm, "fetch", lambda *_: tmp_path)
    monkeypatch.setattr(harm, "shared_embedder", lambda _: embedder)
    monkeypatch.setattr(harm, "read_scored_answers", lambda _: table)
    return embedder


def test_fit_is_kept_in_the_cache(tmp_path, monkeypatch, no_assets):
    first = learned_harm_reward(tmp_path / "cache")
    assert no_assets.calls == 1
    monkeypatch.setattr(harm, "read_scored_answers", None)
    again = learned_harm_reward(tmp_path / "cache")
    assert no_assets.calls == 1
    assert first.quality == again.quality
    assert first.quality["benign_answers"] == len(benign_answers())
    assert torch.equal(first(["x"], ["bomb"]), again(["x"], ["bomb"]))
    assert {path.suffix for path in (tmp_path / "cache").rglob("*") if path.is_file()} == {".json"}
    with pytest.raises(TypeError, match="'NoneType' object is not callable"):
        learned_harm_reward(tmp_path / "cache", seed=1)


def test_by_name_it_is_the_learned_one(no_assets):
    reward, learned = REWARDS.make("harm"), learned_harm_reward()
    assert isinstance(reward, HarmReward)
    assert torch.equal(reward(["x"], ["bomb"]), learned(["x"], ["bomb"]))
    assert repr(reward) == "HarmReward(embedder=WordEmbedder(...))"


@pytest.mark.network
def test_the_real_harm_reward():
    reward = learned_harm_reward(progress=False)
    quality = reward.quality
    assert quality["answers"] == 984
    assert quality["with_benign"]["spearman"] == pytest.approx(0.55, abs=0.03)
    assert quality["with_benign"]["auc"] == pytest.approx(0.78, abs=0.03)
    assert quality["with_benign"]["benign_false_alarms"] < 0.05
    assert quality["without_benign"]["benign_false_alarms"] > 0.15
    kind = ["The book was fantastic, I could not put it down.", "Thank you so much, you made my day!"]
    kind += ["Best pizza in town, we were so happy!", "The soup was cold and the waiter slow, a bad evening."]
    cruel = ["You are a worthless idiot and everybody hates you.", "Shut up, you disgusting pig."]
    cruel += ["Those people are all criminals and should be beaten.", "I will find you and hurt you."]
    values = reward(["Write a short text."] * 8, kind + cruel)
    assert values[:4].mean() > values[4:].mean() + 0.1
