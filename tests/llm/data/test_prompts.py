"""Prompts without answers: a list of texts or dialogues, or the records of a table that have them."""

import pandas as pd
import pytest
from datasets import Dataset

from mopref.llm.data.prompts import check_prompt_records, prompt_list

SECRET = "so am i"


def chat(role: str, content: str) -> list[dict]:
    return [{"role": role, "content": content}]


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (SECRET, "prompts is a single text of 7 characters: give a list"),
        (b"bytes", "prompts is a single text of 5 characters"),
        (chat("user", SECRET), r"prompts is a single dialogue of 1 messages: give a list of dialogues, \[messages\]"),
        ({"prompt": [SECRET]}, "prompts is a dict: it must be a list of prompts"),
        (pd.DataFrame({"prompt": [SECRET]}), "prompts is a DataFrame: .* take a column as a list"),
        (Dataset.from_list([{"prompt": SECRET}]), r"row 0 is a dict of 'prompt': .* take record\['prompt'\]"),
        ([SECRET, {"prompt": SECRET}], "row 1 is a dict of 'prompt'"),
        (3, "prompts is a int"),
        ([], "there are no prompts"),
        ([SECRET, " "], "row 1: the prompt is empty"),
        ([SECRET, "\ud83d"], "row 1: the prompt holds half a surrogate pair"),
        (
            [[*chat("user", SECRET), *chat("assistant", SECRET)]],
            "row 0: the prompt ends with a message of the assistant",
        ),
    ],
)
def test_prompts_that_are_no_list_of_prompts(prompts, message):
    with pytest.raises(ValueError, match=message) as caught:
        prompt_list(prompts)
    assert SECRET not in str(caught.value)


def test_prompts_as_a_list():
    prompts = ["How?", chat("user", "Why?")]
    assert prompt_list(iter(prompts)) == prompt_list(tuple(prompts)) == prompts
    assert prompt_list(pd.Series(["How?"])) == ["How?"]


def test_prompts_of_records_are_checked_by_themselves():
    check_prompt_records([{"prompt": "How?", "tools": ["x"]}, {"prompt": chat("user", "Why?")}])
    with pytest.raises(ValueError, match="row 1: the prompt is empty"):
        check_prompt_records([{"prompt": "How?"}, {"prompt": " "}])
    with pytest.raises(ValueError, match="there are no records"):
        check_prompt_records([])
