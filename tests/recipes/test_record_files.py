import pytest
from _tiny_runs import write_lines

from mopref.recipes.record_files import load_prompts, load_responses

ROWS = [
    {"prompt": "red", "response": "cat", "dimension": "brief", "other": 1},
    {"prompt": "blue", "response": "dog", "dimension": ["brief", "polite"], "other": 2},
]


def test_responses_are_read_with_their_dimensions(tmp_path):
    path = write_lines(ROWS, tmp_path / "rows.jsonl")
    expected = [{name: row[name] for name in ("prompt", "response", "dimension")} for row in ROWS]
    assert load_responses(path, ("brief", "polite")) == expected
    assert load_responses(path, ("brief", "polite"), limit=1) == expected[:1]


def test_a_dimension_that_is_no_objective_is_named(tmp_path):
    path = write_lines(ROWS, tmp_path / "rows.jsonl")
    with pytest.raises(ValueError, match=r"(?s)row 1.*polite"):
        load_responses(path, ("brief",))


def test_prompts_are_read_from_any_records(tmp_path):
    path = write_lines(ROWS, tmp_path / "rows.jsonl")
    assert load_prompts(path) == [{"prompt": "red"}, {"prompt": "blue"}]


def test_missing_columns_and_empty_prompts_are_named(tmp_path):
    path = write_lines([{"question": "red"}], tmp_path / "rows.jsonl")
    with pytest.raises(ValueError, match="row 0: column 'prompt' is missing"):
        load_prompts(path)
    with pytest.raises(ValueError, match="row 0: column 'prompt' is missing"):
        load_responses(path, ("brief",))
    with pytest.raises(ValueError, match="row 0: the prompt is empty"):
        load_prompts(write_lines([{"prompt": " "}], tmp_path / "blank.jsonl"))
