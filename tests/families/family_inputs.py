"""Token ids, preferences and forwards that the columns and the checks of bases share."""

from collections.abc import Callable
from typing import Any

import torch
from tiny_models import VOCABULARY
from torch import Tensor, nn

from mopref.llm.policy import Response

__all__ = [
    "IDS",
    "NAMES",
    "PAIRS",
    "PREFERENCE",
    "PROMPTS",
    "RESPONSES",
    "ROW_PREFERENCES",
    "Factory",
    "flat_gradients",
    "logits_of",
    "padded_prompts",
    "share_of_other_answers",
    "tokens",
]

Factory = Callable[[], nn.Module]

NAMES = ("helpful", "harmless")
PREFERENCE = torch.tensor([0.3, 0.7])
ROW_PREFERENCES = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5]])


def tokens(seed: int, *lengths: int) -> list[list[int]]:
    """Random token ids of these lengths, none of them special."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, VOCABULARY, (length,), generator=generator).tolist() for length in lengths]


# Longer than two windows of attention.
IDS = torch.tensor(tokens(0, 20, 20, 20))
PROMPTS, RESPONSES = tokens(1, 3, 19, 7), tokens(2, 4, 6, 2)
PAIRS = [
    {"prompt_ids": prompt, "response_0_ids": first, "response_1_ids": second, "labels": [index % 2, 1]}
    for index, (prompt, first, second) in enumerate(
        zip(tokens(3, 3, 20, 6, 9), tokens(4, 2, 12, 3, 4), tokens(5, 2, 9, 5, 1), strict=True)
    )
]


@torch.no_grad()
def logits_of(model: nn.Module, ids: Tensor = IDS, **options: Any) -> Tensor:
    """The logits of a forward without a cache."""
    logits: Tensor = model(input_ids=ids, use_cache=False, **options).logits
    return logits


def padded_prompts(prompts: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, padded on the left."""
    longest = max(map(len, prompts))
    ids = [[0] * (longest - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids), torch.tensor(mask)


def share_of_other_answers(answers: Callable[..., list[Response]]) -> float:
    """The share of prompts whose answer depends on the other rows of the batch, or on the cache."""
    together = answers(PROMPTS, ROW_PREFERENCES)
    without_cache = answers(PROMPTS, ROW_PREFERENCES, use_cache=False)
    alone = [answers([PROMPTS[i]], ROW_PREFERENCES[i : i + 1])[0] for i in range(3)]
    triples = zip(together, without_cache, alone, strict=True)
    return sum(first.ids != second.ids or first.ids != third.ids for first, second, third in triples) / 3


def flat_gradients(parameters: Any) -> Tensor:
    """The gradients of all parameters in one row, as parts of the largest; 0 where there is none."""
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    return flat / flat.abs().max()
