"""Unpaired records as rows of token ids."""

import pytest

from mopref.llm.data.tokenization import (
    tokenize_pair,
    tokenize_unpaired,
)

OBJECTIVES = ("helpful", "harmless")
STYLES = ("brief", "loud")
SECRET = "so am i"


def unpaired_record(prompt="how are you", response=SECRET, **labels):
    return {"prompt": prompt, "response": response, "helpful": 1, "harmless": -1, **labels}


@pytest.mark.parametrize("messages", [False, True])
def test_unpaired_rows_are_those_of_a_pair_with_labels_in_order(word_chat, messages):
    prompt = [{"role": "user", "content": "how are you"}] if messages else "how are you"
    records = [unpaired_record(prompt), unpaired_record(prompt, "fine", helpful=0, harmless=1)]
    pair = tokenize_pair(word_chat, {"prompt": prompt, "response_0": SECRET, "response_1": "fine"})
    rows = tokenize_unpaired(word_chat, iter(records), ["helpful", "harmless"])
    assert rows == [
        {
            "prompt_ids": pair["prompt_ids"],
            "response_ids": pair["response_0_ids"],
            "labels": [1, -1],
            "objectives": ("helpful", "harmless"),
        },
        {
            "prompt_ids": pair["prompt_ids"],
            "response_ids": pair["response_1_ids"],
            "labels": [0, 1],
            "objectives": ("helpful", "harmless"),
        },
    ]
    assert rows[0]["objectives"] is rows[1]["objectives"]


def test_limits_of_unpaired_rows(word_chat):
    records = [unpaired_record(), unpaired_record("how are you " * 9)]
    whole = tokenize_unpaired(word_chat, records, OBJECTIVES)
    with pytest.raises(ValueError, match="row 1: the prompt has"):
        tokenize_unpaired(word_chat, records, OBJECTIVES, max_prompt_length=10)
    with pytest.warns(UserWarning, match="left out 1 of 2 rows"):
        assert tokenize_unpaired(word_chat, records, OBJECTIVES, 10, on_long_prompt="drop") == whole[:1]
    with pytest.warns(UserWarning, match="cut 2 of 2 responses"):
        rows = tokenize_unpaired(word_chat, records, OBJECTIVES, max_response_length=2)
    assert [row["response_ids"] for row in rows] == [row["response_ids"][:2] for row in whole]


def test_unpaired_records_are_validated(word_chat):
    with pytest.raises(ValueError, match="row 1, column 'helpful': the label is True"):
        tokenize_unpaired(word_chat, [unpaired_record(), unpaired_record(helpful=True)], OBJECTIVES)
    with pytest.raises(ValueError, match="objectives is 'helpful'"):
        tokenize_unpaired(word_chat, [unpaired_record()], "helpful")
    with pytest.raises(ValueError, match="max_prompt_length is 0"):
        tokenize_unpaired(word_chat, [unpaired_record()], OBJECTIVES, 0)
