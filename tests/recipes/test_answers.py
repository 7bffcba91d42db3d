"""Answers of a run at preferences: which belongs to which, and as a file holds them."""

import torch

from mopref.llm.policy import Answer
from mopref.recipes.answers import answer_entries, answers_at

CORNERS = torch.eye(2)


def test_a_list_for_each_preference_in_the_order_of_the_prompts(trained):
    together = answers_at(trained, ["red cat", "blue dog"], CORNERS, 3)
    assert [len(part) for part in together] == [2, 2]
    for preference, part in zip(CORNERS, together, strict=True):
        for prompt, answer in zip(["red cat", "blue dog"], part, strict=True):
            assert answers_at(trained, [prompt], preference.view(1, 2), 3) == [[answer]]


def test_entries_say_which_preference_and_prompt_they_are_of():
    answers = [[Answer("a", 1), Answer("b", 2)], [Answer("c", 3), Answer("d", 4)]]
    entries = answer_entries(["helpful", "harmless"], CORNERS, ["p", "q"], answers)
    assert [(entry["prompt"], entry["answer"], entry["tokens"]) for entry in entries] == [
        ("p", "a", 1),
        ("q", "b", 2),
        ("p", "c", 3),
        ("q", "d", 4),
    ]
    assert [entry["preference"]["helpful"] for entry in entries] == [1.0, 1.0, 0.0, 0.0]
    assert answer_entries(["helpful", "harmless"], CORNERS, [], [[], []]) == []
