"""Unpaired records: an answer, and for each objective whether it is good."""

import pytest

from mopref.llm.data import split_by_prompt
from mopref.llm.data.unpaired_records import check_unpaired_objectives, validate_unpaired_records

RECORD = {"prompt": "Why?", "response": "So.", "brief": 1, "kind": -1}


def test_records_as_they_must_be():
    messages = RECORD | {
        "prompt": [{"role": "user", "content": "a"}],
        "response": [{"role": "assistant", "content": "b"}],
    }
    validate_unpaired_records(
        [RECORD, RECORD | {"brief": 0}, messages, RECORD | {"other": object()}], ("brief", "kind")
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": " "}, "row 1, column 'prompt' is empty"),
        ({"response": [{"role": "user", "content": "a"}]}, "row 1, column 'response' is malformed"),
        ({"prompt": [{"role": "assistant", "content": "a"}]}, "row 1, column 'prompt' ends with a message of the ass"),
        ({"response": 3}, "row 1, column 'response' is a int"),
        ({"response": "\ud83d"}, "row 1, column 'response' holds half a surrogate pair"),
        ({"tools": ["f"]}, "row 1, column 'tools' holds something that is not rendered"),
        ({"brief": True}, r"row 1, column 'brief': the label is True \(bool\), which is neither 1 \(good\) nor 0"),
        ({"brief": 2}, r"the label is 2 \(int\)"),
        ({"brief": None}, "the label is None .*: leave no cell blank"),
        ({"brief": "1"}, "the label is a str, .*: convert it"),
    ],
)
def test_what_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        validate_unpaired_records([RECORD, RECORD | change], ("brief",))


def test_whole_data_sets_that_are_refused():
    with pytest.raises(ValueError, match="there are no records"):
        validate_unpaired_records([], ("brief",))
    with pytest.raises(ValueError, match="row 0: column 'clear' is missing"):
        validate_unpaired_records([RECORD], ("clear",))
    with pytest.raises(ValueError, match="records is a dict"):
        validate_unpaired_records({"prompt": ["a"]}, ("brief",))
    with pytest.raises(ValueError, match="row 0 is a str"):
        validate_unpaired_records(["a"], ("brief",))


@pytest.mark.parametrize("names", ["brief", (), ("brief", "brief"), ("prompt",), ("response", "a"), (3,), (" ",)])
def test_names_that_are_no_objectives(names):
    assert check_unpaired_objectives(["brief", "kind"]) == ("brief", "kind")
    with pytest.raises(ValueError, match="it names the label columns, so it must be a sequence of distinct names"):
        check_unpaired_objectives(names)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (3, "row 1, column 'prompt' is malformed: is a int: it must be text or a list"),
        (["Why?"], "row 1, column 'prompt' is malformed: must be a dict with the texts 'role' and 'content'"),
        ([{"role": "user"}], "row 1, column 'prompt' is malformed: must be a dict"),
        ([{"role": 3, "content": "Why?"}], "row 1, column 'prompt' is malformed: must be a dict"),
    ],
)
def test_records_with_a_malformed_prompt_are_not_split(prompt, message):
    records = [{"prompt": "Why?", "response": "So.", "helpful": 1}, {"prompt": prompt, "response": "No.", "helpful": 0}]
    with pytest.raises(ValueError, match=message):
        split_by_prompt(records)
