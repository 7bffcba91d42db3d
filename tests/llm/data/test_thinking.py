"""Blocks of thoughts that templates open, close, or leave to the response."""

import pytest

from mopref.llm.data.thinking import thinking_block, without_last_block


@pytest.mark.parametrize(
    ("prompt", "dialogue", "expected"),
    [
        ("Q:<think>\n", "Q:Yes.", ("<think>", "</think>", True, "", False)),
        ("Q:<think>", "Q:\nYes.", ("<think>", "</think>", True, "", False)),
        ("Q:[THINK]", "Q:Yes.", ("[THINK]", "[/THINK]", True, "", False)),
        ("Q:<seed:think>", "Q:Yes.", ("<seed:think>", "</seed:think>", True, "", False)),
        ("Q:<|START_THINKING|>", "Q:Yes.", ("<|START_THINKING|>", "<|END_THINKING|>", True, "", False)),
        ("Q:<think>\n", "Q:<think>\n\n</think>\n\nYes.", ("<think>", "</think>", True, "", True)),
        ("Q:", "Q:<think>\n\n</think>\n\nYes.", ("<think>", "</think>", False, "", True)),
        ("Q:", "Q:\n<think></think>Yes.", ("<think>", "</think>", False, "\n", True)),
        ("Q:<think></think>", "Q:<think></think>Yes.", None),
        ("Q:<turn>", "Q:Yes.", None),
        ("Q:<think>", "P:Yes.", None),
        ("<think> Q:", "<think> Q:Yes.", None),
        ("Q:", "Q:<think>Yes.", None),
        ("Q:", "Q:Yes.", None),
    ],
)
def test_block_of_a_template(prompt, dialogue, expected):
    assert thinking_block(prompt, dialogue, "Yes.") == expected


@pytest.mark.parametrize(
    "tail", ["<think>", "<think>\n", "<think>\n\n</think>\n\n", "<|START_THINKING|><|END_THINKING|>"]
)
def test_a_prompt_without_its_last_block(tail):
    assert without_last_block(f"Q:<think>old</think>A:{tail}") == "Q:<think>old</think>A:"


@pytest.mark.parametrize("prompt", ["Q:", "<think>Q:", "<think>so</think>Q:", "Q:<think>so</think>"])
def test_a_prompt_that_ends_in_no_block(prompt):
    assert without_last_block(prompt) == prompt


def test_only_a_response_that_would_be_a_thought_is_a_problem():
    opened = thinking_block("Q:<think>\n", "Q:Yes.", "Yes.")
    problem = opened.problem("Yes.")
    assert problem.startswith(
        "does not hold '</think>', but the chat template opens a block of thoughts with '<think>'"
    )
    assert opened.problem("So.</think>Yes.") is None
    for prompt in ("Q:<think>\n", "Q:"):
        assert thinking_block(prompt, "Q:<think>\n\n</think>\n\nYes.", "Yes.").problem("Yes.") is None


THOUGHT = "<think>\nSo.\n</think>\n\nYes."


@pytest.mark.parametrize(
    ("prompt", "text", "expected"),
    [
        ("Q:", "Yes.", ("Yes.", "START")),
        ("Q:", THOUGHT, (THOUGHT, "")),
        ("Q:", "Why </think> is said.", ("Why </think> is said.", "START")),
        ("Q:<think>\n", "Yes.", ("Yes.", "START")),
        ("Q:<think>\n", THOUGHT, ("So.\n</think>\n\nYes.", "")),
        ("Q:<think>\n", "So.\n</think>\n\nYes.", ("So.\n</think>\n\nYes.", "")),
    ],
)
def test_a_response_has_one_block(prompt, text, expected):
    block = thinking_block(prompt, "Q:<think>\n\n</think>\n\nYes.", "Yes.")
    assert block.placed(text, "START") == expected
