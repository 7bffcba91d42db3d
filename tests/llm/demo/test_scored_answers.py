import pytest

from mopref.llm.demo.scored_answers import read_scored_answers


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
        ("objective,assistant_response,human_score", "p,a,secret", "bad.csv, row 0, column human_score"),
        ("objective,assistant_response,human_score", "p,a,nan", "bad.csv, row 0, column human_score"),
    ],
)
def test_broken_files_are_named(tmp_path, write_scores, header, line, message):
    write_scores(tmp_path / "bad", "bad.csv", header, line)
    with pytest.raises(ValueError, match=message) as caught:
        read_scored_answers(tmp_path / "bad")
    assert "secret" not in str(caught.value)


def test_no_files(tmp_path):
    with pytest.raises(ValueError, match="no CSV file"):
        read_scored_answers(tmp_path)
