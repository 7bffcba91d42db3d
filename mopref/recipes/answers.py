"""Greedy answers of a run to prompts, at each preference."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mopref.llm.policy import Answer, answer_prompts
from mopref.recipes.run import Run

__all__ = ["answer_entries", "answers_at"]


def answers_at(
    run: Run, prompts: Sequence[Any], preferences: Tensor, max_new_tokens: int, progress: bool = False
) -> list[list[Answer]]:
    """Greedy answers to every prompt at each preference ``(N, m)``: a list for each preference."""
    spread = preferences.repeat_interleave(len(prompts), dim=0)
    answers = answer_prompts(
        run.model,
        run.tokenizer,
        list(prompts) * len(preferences),
        spread,
        max_new_tokens=max_new_tokens,
        progress=progress,
    )
    return [answers[start : start + len(prompts)] for start in range(0, len(answers), len(prompts))]


def answer_entries(
    names: Sequence[str], preferences: Tensor, prompts: Sequence[Any], answers: Sequence[Sequence[Answer]]
) -> list[dict[str, Any]]:
    """Answers as a file holds them: ``preference`` by name, ``prompt``, ``answer`` and ``tokens``."""
    return [
        {
            "preference": dict(zip(names, preference, strict=True)),
            "prompt": prompt,
            "answer": answer.text,
            "tokens": answer.num_tokens,
        }
        for preference, of_point in zip(preferences.tolist(), answers, strict=True)
        for prompt, answer in zip(prompts, of_point, strict=True)
    ]
