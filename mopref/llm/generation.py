"""Answers of a preference-conditioned language model, each prompt under a preference of its own."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mopref.conditioning.preference_model import PreferenceModel
from mopref.evaluation_mode import evaluation_mode
from mopref.llm.tokenization import PairTokenizer

__all__ = ["Answer", "answer_prompts"]


class Answer(NamedTuple):
    """A generated answer: its text, and its length in tokens without the end-of-turn token."""

    text: str
    num_tokens: int


def answer_prompts(
    model: PreferenceModel,
    tokenizer: Any,
    prompts: Sequence[str | Sequence[Mapping[str, str]]],
    preferences: Tensor,
    max_new_tokens: int = 64,
    **generate_options: Any,
) -> list[Answer]:
    """Generate one answer to each prompt under its preference, all in one padded batch.

    Args:
        model: the conditioned model.
        tokenizer: a transformers tokenizer; its chat template is used where it has one.
        prompts: N texts or lists of chat messages.
        preferences: ``(N, m)``, or ``(1, m)`` for all.
        max_new_tokens: the most tokens of an answer.
        **generate_options: for transformers' ``generate``; greedy decoding by default.

    Raises:
        ValueError: no prompt, or as many preferences as fit neither all nor each.
    """
    if not prompts or len(preferences) not in (1, len(prompts)):
        raise ValueError(
            f"{len(prompts)} prompts and {len(preferences)} preferences: give one for each prompt, or one."
        )
    layout = PairTokenizer(tokenizer)
    ids = [torch.tensor(layout.prompt_ids(prompt)) for prompt in prompts]
    longest = max(len(row) for row in ids)
    input_ids = torch.stack([torch.nn.functional.pad(row, (longest - len(row), 0)) for row in ids])
    attention_mask = torch.stack([(torch.arange(longest) >= longest - len(row)).long() for row in ids])
    device = next(model.parameters()).device
    ends = {*layout.end_of_turn[-1:]} | ({tokenizer.eos_token_id} if tokenizer.eos_token_id is not None else set())
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else next(iter(ends))
    with evaluation_mode(model), torch.no_grad():
        output = model.generate(
            input_ids=input_ids.to(device),
            attention_mask=attention_mask.to(device),
            preferences=preferences,
            max_new_tokens=max_new_tokens,
            eos_token_id=sorted(ends),
            pad_token_id=padding,
            **{"do_sample": False, **generate_options},
        )
    answers = []
    for row in output[:, longest:].tolist():
        end = next((position for position, token in enumerate(row) if token in ends), len(row))
        answers.append(Answer(tokenizer.decode(row[:end], skip_special_tokens=True).strip(), end))
    return answers
