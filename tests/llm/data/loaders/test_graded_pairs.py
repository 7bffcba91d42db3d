"""Pairs with a signed grade: HelpSteer3's and HelpSteer2's preferences."""

import pytest

from mopref.llm.data import LoadReport, validate_records
from mopref.llm.data.loaders import LOADERS, load_graded_pairs


def helpsteer3(prompt, overall, *scores):
    """A row with the columns that HelpSteer3 has."""
    return {
        "domain": "general",
        "language": "english",
        "context": [{"role": "user", "content": prompt}],
        "response1": "a",
        "response2": "b",
        "overall_preference": overall,
        "individual_preference": [
            {"score": score, "reasoning": "r", "feedback1": "f", "feedback2": "g"} for score in scores
        ],
    }


ROWS = [helpsteer3("Why?", -3, -3, -2), helpsteer3("How?", 1, 1, -2), helpsteer3("Who?", 0, 0), helpsteer3("Me?", None)]


def preferred(record, objective):
    return None if record[objective] < 0 else record[f"response_{record[objective]}"]


def test_helpsteer3(tmp_path, write_lines):
    path = write_lines(tmp_path / "preference" / "train.jsonl.gz", ROWS)
    report = LoadReport()
    with pytest.warns(UserWarning, match="1 helpful: missing rating, 1 helpful: tie"):
        records = load_graded_pairs(tmp_path, {"helpful": "overall_preference"}, folder="preference", report=report)
    validate_records(records, ("helpful",))
    assert path.exists()
    assert [preferred(record, "helpful") for record in records] == ["a", "b"]
    assert records[0]["prompt"] == [{"role": "user", "content": "Why?"}]
    assert report.left_out == {"pairs: no label on any objective": 2}


def test_the_mean_of_several_people():
    grades = {"overall": "overall_preference", "people": "individual_preference"}
    with pytest.warns(UserWarning, match="tie"):
        records = load_graded_pairs(ROWS, grades)
    assert [(preferred(r, "overall"), preferred(r, "people")) for r in records] == [("a", "a"), ("b", "a")]
    wrong = helpsteer3("Why?", -3, -3, None)
    with pytest.warns(UserWarning, match="1 people: missing rating"):
        assert load_graded_pairs([wrong], grades)[0]["people"] == -1


def test_margin():
    with pytest.warns(UserWarning, match="2 overall_preference: tie"):
        (record,) = load_graded_pairs(ROWS, ("overall_preference",), margin=2)
    assert preferred(record, "overall_preference") == "a"


def test_helpsteer2_and_the_other_direction():
    row = {"split": "train", "prompt": "Why?", "response_1": "a", "response_2": "b", "preference_strength": 2}
    (record,) = load_graded_pairs([row], {"helpful": "preference_strength"})
    assert preferred(record, "helpful") == "b"
    (record,) = load_graded_pairs([row], {"helpful": ("preference_strength", "lower")})
    assert preferred(record, "helpful") == "a"


def test_rows_of_another_shape():
    with pytest.raises(ValueError, match=r"^row 0: column 'response_1' is missing .* read by load_preference_pairs"):
        load_graded_pairs([{"prompt": "a", "chosen": "b", "rejected": "c"}], ("grade",))
    with pytest.raises(ValueError, match=r"^row 0: column 'response2' is missing"):
        load_graded_pairs([{"context": "a", "response1": "b", "overall_preference": 1}], ("overall_preference",))
    (record,) = load_graded_pairs(
        [{"q": "a", "x": "b", "y": "c", "grade": 1}],
        ("grade",),
        columns={"prompt": "q", "response_1": "x", "response_2": "y"},
    )
    assert preferred(record, "grade") == "c"


def test_rows_left_out_count_no_labels():
    report = LoadReport()
    with pytest.warns(UserWarning, match="1 two equal answers"):
        load_graded_pairs([ROWS[0], ROWS[3] | {"response2": "a"}], {"helpful": "overall_preference"}, report=report)
    assert report.left_out == {"two equal answers": 1}
    assert not report.unlabelled


def test_it_is_known_by_its_name():
    assert len(LOADERS.make("graded-pairs", source=ROWS[:1], grades=("overall_preference",))) == 1
