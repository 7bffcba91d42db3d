import csv
import warnings

import pytest

from mopref.llm.data.loaders import load_pku_saferlhf


def pku_row(number, **changes):
    row = {
        "prompt": f"prompt {number}",
        "response_0": f"first {number}",
        "response_1": f"second {number}",
        "better_response_id": number % 2,
        "safer_response_id": 0,
        "is_response_0_safe": True,
        "is_response_1_safe": False,
    }
    return {**row, **changes}


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz"])
def test_columns_become_objectives(tmp_path, name, write_lines):
    path = write_lines(tmp_path / name, [pku_row(0), pku_row(1)])
    assert load_pku_saferlhf(path) == [
        {"prompt": "prompt 0", "response_0": "first 0", "response_1": "second 0", "helpful": 0, "harmless": 0},
        {"prompt": "prompt 1", "response_0": "first 1", "response_1": "second 1", "helpful": 1, "harmless": 0},
    ]


def test_folder_with_splits_and_limit(tmp_path, write_lines):
    write_lines(tmp_path / "train.jsonl", [pku_row(n) for n in range(5)])
    write_lines(tmp_path / "test.jsonl", [pku_row(9)])
    assert [row["prompt"] for row in load_pku_saferlhf(tmp_path, limit=2)] == ["prompt 0", "prompt 1"]
    assert [row["prompt"] for row in load_pku_saferlhf(str(tmp_path), split="test")] == ["prompt 9"]


def test_missing_column(tmp_path, write_lines):
    row = pku_row(0)
    del row["safer_response_id"]
    with pytest.raises(ValueError, match="row 0: column 'safer_response_id' is missing"):
        load_pku_saferlhf(write_lines(tmp_path / "a.jsonl", [row]))


@pytest.mark.parametrize("label", [2, -1])
def test_unknown_label(tmp_path, label, write_lines):
    with pytest.raises(ValueError, match=f"row 1, column 'better_response_id': the label is {label}"):
        load_pku_saferlhf(write_lines(tmp_path / "a.jsonl", [pku_row(0), pku_row(1, better_response_id=label)]))


def test_empty_responses_are_left_out_with_a_warning(tmp_path, write_lines):
    path = write_lines(tmp_path / "a.jsonl", [pku_row(0), pku_row(1, response_1=" ")])
    with pytest.warns(UserWarning, match="left out 1 of 2 rows"):
        assert len(load_pku_saferlhf(path)) == 1


@pytest.mark.parametrize("answers", [("1969-07-20", "1970-01-01"), ("42", "007"), ("None", "N/A")])
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_answers_are_text_as_written(tmp_path, answers, name, write_lines):
    rows = [pku_row(0, response_0=answers[0], response_1=answers[1])]
    path = tmp_path / name
    if name.endswith("csv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        write_lines(path, rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (record,) = load_pku_saferlhf(path)
    assert (record["response_0"], record["response_1"], record["helpful"]) == (*answers, 0)


def test_what_is_no_text_is_refused_not_left_out(tmp_path, write_lines):
    path = write_lines(tmp_path / "a.jsonl", [pku_row(0, response_1=" "), pku_row(1, response_0=3)])
    with pytest.raises(ValueError, match="row 1, column 'response_0' is a int: it must be text"):
        load_pku_saferlhf(path)


def test_columns_of_other_names(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("q,response_0,response_1,better,safer_response_id\nWhy?,a,b,1,0\n", encoding="utf-8")
    (record,) = load_pku_saferlhf(path, columns={"prompt": "q", "better_response_id": "better"})
    assert record == {"prompt": "Why?", "response_0": "a", "response_1": "b", "helpful": 1, "harmless": 0}
    with pytest.raises(ValueError, match="columns maps 'helpful', which is not read here"):
        load_pku_saferlhf(path, columns={"helpful": "better"})
