import itertools

import numpy as np
import pytest

from mopref.llm.data.records import label_counts, validate_records
from mopref.llm.demo import harm_pairs as offline
from mopref.llm.demo.harm_pairs import OBJECTIVES, harm_pairs, read_scored_answers

# Relevance to the prompt that the stand-in for the embedding model gives to an answer, by its first letter.
RELEVANCE = {"a": 0.9, "b": 0.85, "c": 0.5, "d": 0.1}


def write_csv(folder, name, header, *lines, comment="# version=1"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("\n".join([comment, header, *lines]) + "\n", encoding="utf-8")


@pytest.fixture
def scores(tmp_path):
    folder = tmp_path / "scores"
    write_csv(
        folder,
        "one.csv",
        "category,objective,assistant_response,human_score,data_type",
        "x,first prompt,answer one,1.0,text",
        "x,first prompt,cautious answer,0.25,text",
        "x,first prompt,decline,0.0,text",
        "x,first prompt,an image,0.0,image_path",
        "x,lonely prompt,answer,0.0,text",
    )
    write_csv(
        folder,
        "two.csv",
        "category,objective,assistant_response,human_score_1,human_score_2,data_type",
        'x,second prompt,"answer two,\n# with a line that looks like a comment",0.5,0.75,text',
        "x,second prompt,better answer,0.5,,text",
        f"x,second prompt,{'d' * 600},0.0,0.0,text",
        "x, first prompt ,answer one,0.5,0.5,text",
        comment='"# version=1, a, b"\n# more',
    )
    return folder


@pytest.fixture
def no_assets(scores, monkeypatch):
    """Let the pairs be made from the small files and from made-up embeddings; returns how often they were made."""
    made = []

    def embed(texts, folder, progress=False):
        made.append(len(texts))
        cosines = [1.0 if "prompt" in text else RELEVANCE[text[0]] for text in texts]
        return np.array([[cosine, np.sqrt(1 - cosine**2)] for cosine in cosines])

    monkeypatch.setattr(offline, "fetch", lambda *_: scores)
    monkeypatch.setattr(offline, "minilm", lambda *_: scores)
    monkeypatch.setattr(offline, "embed_texts", embed)
    return made


def test_scores_are_averaged_over_judges_and_files(scores):
    answers = read_scored_answers(scores)
    assert set(answers) == {"first prompt", "second prompt", "lonely prompt"}
    assert answers["first prompt"] == {"answer one": 0.75, "cautious answer": 0.25, "decline": 0.0}
    assert sorted(answers["second prompt"].values()) == [0.0, 0.5, 0.625]


@pytest.mark.parametrize(
    ("header", "line", "message"),
    [
        ("objective,human_score", "p,0.5", "bad.csv lacks the column assistant_response"),
        ("objective,assistant_response", "p,a", "bad.csv lacks the column human_score"),
        ("objective,assistant_response,human_score", "p,a,1.5", "bad.csv, row 0, column human_score"),
        ("objective,assistant_response,human_score", "p,a,high", "bad.csv, row 0, column human_score"),
        ("objective,assistant_response,human_score", "p,a,nan", "bad.csv, row 0, column human_score"),
    ],
)
def test_broken_files_are_named(tmp_path, header, line, message):
    write_csv(tmp_path / "bad", "bad.csv", header, line)
    with pytest.raises(ValueError, match=message):
        read_scored_answers(tmp_path / "bad")


def test_no_files(tmp_path):
    with pytest.raises(ValueError, match="no CSV file"):
        read_scored_answers(tmp_path)


def preferred(record, objective):
    return None if record[objective] < 0 else record[f"response_{record[objective]}"]


def test_pairs_and_labels(tmp_path, no_assets):
    records = harm_pairs(tmp_path / "cache", progress=False)
    validate_records(records, OBJECTIVES)
    found = {
        frozenset((record["response_0"], record["response_1"])): tuple(preferred(record, name) for name in OBJECTIVES)
        for record in records
    }
    assert found == {
        # helpful, harmless; a gap that equals the threshold (0.25 between the last two) counts
        frozenset(("answer one", "cautious answer")): ("answer one", "cautious answer"),
        frozenset(("answer one", "decline")): ("answer one", "decline"),
        frozenset(("cautious answer", "decline")): ("cautious answer", "decline"),
    }, "the pair of the second prompt is too close on both, its third answer too long"
    assert label_counts(records, OBJECTIVES).in_conflict == 3


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


def test_cap_side_and_determinism(tmp_path, no_assets, scores):
    lines = [
        f"x,big prompt,{letter} {number},{number % 5 / 4},text"
        for letter, number in itertools.product("acd", range(10))
    ]
    write_csv(scores, "big.csv", "category,objective,assistant_response,human_score,data_type", *lines)
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
    validate_records(records, OBJECTIVES)
    counts = label_counts(records, OBJECTIVES)
    assert 270 <= counts.records <= 330
    assert 120 <= counts.labelled_on_all <= 170
    assert 65 <= counts.in_conflict <= 110
    assert counts.prompts == 77
