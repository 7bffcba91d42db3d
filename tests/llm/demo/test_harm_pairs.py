import importlib
import itertools

import numpy as np
import pytest

from mopref.llm.data.loaders import LOADERS
from mopref.llm.data.records import label_counts, validate_records
from mopref.llm.demo.benign_answers import benign_answers
from mopref.llm.demo.harm_pairs import PAIR_OBJECTIVES, harm_pairs

# Relevance to the prompt that the stand-in for the embedding model gives to an answer, by its first letter.
RELEVANCE = {"a": 0.9, "b": 0.85, "c": 0.5, "d": 0.1}


@pytest.fixture
def no_assets(scores, monkeypatch):
    """Let the pairs be made from the small files and from made-up embeddings; returns how often they were made."""
    embedded = []

    class LetterEmbedder:
        def __init__(self, folder):
            pass

        def embed(self, texts, progress=False):
            embedded.append(len(texts))
            cosines = [1.0 if "prompt" in text else RELEVANCE[text[0]] for text in texts]
            return np.array([[cosine, np.sqrt(1 - cosine**2)] for cosine in cosines])

    # In the package, the name stands for the function.
    module = importlib.import_module("mopref.llm.demo.harm_pairs")
    monkeypatch.setattr(module, "fetch", lambda *_: scores)
    monkeypatch.setattr(module, "minilm", lambda *_: scores)
    monkeypatch.setattr(module, "Embedder", LetterEmbedder)
    return embedded


def preferred(record, objective):
    return None if record[objective] < 0 else record[f"response_{record[objective]}"]


def test_pairs_and_labels(tmp_path, no_assets):
    records = harm_pairs(tmp_path / "cache", progress=False)
    validate_records(records, PAIR_OBJECTIVES)
    preferences = {
        frozenset((record["response_0"], record["response_1"])): tuple(
            preferred(record, name) for name in PAIR_OBJECTIVES
        )
        for record in records
    }
    assert preferences == {
        # helpful, harmless; a gap that equals the threshold (0.25 between the last two) counts
        frozenset(("answer one", "cautious answer")): ("answer one", "cautious answer"),
        frozenset(("answer one", "decline")): ("answer one", "decline"),
        frozenset(("cautious answer", "decline")): ("cautious answer", "decline"),
    }, "the pair of the second prompt is too close on both, its third answer too long"
    assert label_counts(records, PAIR_OBJECTIVES).in_conflict == 3


def test_by_name(tmp_path, no_assets):
    assert LOADERS.make("harm-pairs", cache_dir=tmp_path, progress=False) == harm_pairs(tmp_path, progress=False)
    assert len(no_assets) == 1


def test_a_limit_takes_the_first_records_of_the_same_pairs(tmp_path, no_assets):
    every = harm_pairs(tmp_path, progress=False)
    assert harm_pairs(tmp_path, progress=False, limit=2) == every[:2]
    assert len(no_assets) == 1, "made once, whatever the limit"
    with pytest.raises(ValueError, match="limit is 0: no record would be left"):
        harm_pairs(tmp_path, progress=False, limit=0)


def test_gaps_decide_what_is_labelled(tmp_path, no_assets):
    records = harm_pairs(tmp_path, harm_gap=0.6, relevance_gap=0.5, progress=False)
    labels = {
        frozenset((record["response_0"], record["response_1"])): (record["helpful"] < 0, record["harmless"] < 0)
        for record in records
    }
    assert labels == {frozenset(("answer one", "decline")): (False, False)}


def test_second_call_makes_nothing_and_arguments_have_their_own_file(tmp_path, no_assets):
    first = harm_pairs(tmp_path, progress=False)
    assert harm_pairs(tmp_path, progress=False) == first
    assert len(no_assets) == 1
    harm_pairs(tmp_path, seed=1, progress=False)
    assert len(no_assets) == 2
    assert harm_pairs(tmp_path, progress=False) == first
    assert len(no_assets) == 2


def test_cap_side_and_determinism(tmp_path, no_assets, scores, write_scores):
    lines = [
        f"x,big prompt,{letter} {number},{number % 5 / 4},text"
        for letter, number in itertools.product("acd", range(10))
    ]
    write_scores(scores, "big.csv", "category,objective,assistant_response,human_score,data_type", *lines)
    records = harm_pairs(tmp_path / "one", pairs_per_prompt=200, seed=3, progress=False)
    assert records == harm_pairs(tmp_path / "two", pairs_per_prompt=200, seed=3, progress=False)
    big = [record for record in records if record["prompt"] == "big prompt"]
    assert 100 < len(big) <= 200
    sides = [record["harmless"] for record in big if record["harmless"] >= 0]
    assert 0.35 < np.mean(sides) < 0.65, "the position must say nothing about the label"
    few = [r for r in harm_pairs(tmp_path / "one", pairs_per_prompt=4, progress=False) if r["prompt"] == "big prompt"]
    assert 0 < len(few) <= 4
    both = harm_pairs(tmp_path / "one", prefer_labelled_on_both=True, progress=False)
    assert all(min(r["helpful"], r["harmless"]) >= 0 for r in both if r["prompt"] == "big prompt")


def test_everyday_requests_prefer_their_own_answer_and_change_no_other_pair(tmp_path, no_assets):
    plain = harm_pairs(tmp_path, progress=False)
    records = harm_pairs(tmp_path, everyday=True, progress=False)
    assert records[: len(plain)] == plain
    validate_records(records, PAIR_OBJECTIVES)
    everyday, known = records[len(plain) :], dict(benign_answers())
    assert [record["prompt"] for record in everyday] == list(known)
    answers = set(known.values())
    worse = [record[f"response_{1 - record['helpful']}"] for record in everyday]
    for record, other in zip(everyday, worse, strict=True):
        assert preferred(record, "helpful") == known[record["prompt"]] != other
        assert record["harmless"] == -1
    assert sum(other in answers for other in worse) == len(known) // 2
    assert 0.3 < np.mean([record["helpful"] for record in everyday]) < 0.7


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_characters", 1), ("pairs_per_prompt", 0), ("harm_gap", 0.0), ("harm_gap", 1.1), ("relevance_gap", -0.1)],
)
def test_arguments_are_checked(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        harm_pairs(tmp_path, **{name: value})


@pytest.mark.network
def test_the_real_pairs():
    records = harm_pairs()
    validate_records(records, PAIR_OBJECTIVES)
    counts = label_counts(records, PAIR_OBJECTIVES)
    assert 270 <= counts.records <= 330
    assert 120 <= counts.labelled_on_all <= 170
    assert 65 <= counts.in_conflict <= 110
    assert counts.prompts == 77
