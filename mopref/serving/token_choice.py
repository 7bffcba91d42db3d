"""The next token of each row, under settings and a seed of its own."""

import random
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Choice", "chosen_tokens"]


class Choice(NamedTuple):
    """How one row's tokens are chosen.

    Attributes:
        temperature: the distribution is softmax(logits / temperature); 0 takes the likeliest token.
        top_p: among the fewest tokens with this probability together.
        source: the row's own source of randomness, of which each sampled token takes one number.
    """

    temperature: float
    top_p: float
    source: random.Random


def chosen_tokens(logits: Tensor, choices: Sequence[Choice]) -> list[int]:
    """The next token of each row.

    A row's token is the same whoever else is in the batch: its logits, its settings and its own numbers decide.

    Args:
        logits: ``(B, V)``; −∞ for a token that may not be chosen.
        choices: B of them.

    Raises:
        ValueError: logits that are no numbers, from which nothing can be chosen.

    Example:
        >>> chosen_tokens(torch.tensor([[0.0, 2.0, 1.0]]), [Choice(0.0, 1.0, random.Random(0))])
        [1]
    """
    best = logits.amax(dim=-1)
    if not best.isfinite().all():
        raise ValueError("the model's logits are not finite: its weights are damaged, or overflow in this precision.")
    tokens = logits.argmax(dim=-1)
    sampled = [row for row, choice in enumerate(choices) if choice.temperature > 0]
    # Apart, so that a row is sampled in the same way whatever its neighbours ask for.
    for cuts in (False, True):
        rows = [row for row in sampled if (choices[row].top_p < 1) is cuts]
        if rows:
            places = torch.tensor(rows, device=logits.device)
            own = _sampled(logits[places] - best[places, None], [choices[row] for row in rows], cuts)
            tokens = tokens.index_copy(0, places, own)
    return tokens.tolist()


def _sampled(logits: Tensor, choices: Sequence[Choice], cuts: bool) -> Tensor:
    """One token of each row by inversion: the first whose cumulated probability is above the row's number."""
    # In double precision, so that a tiny temperature is no division by 0, and a sum of all tokens is exact enough.
    numbers = [(choice.temperature, choice.top_p, choice.source.random()) for choice in choices]
    temperature, top_p, number = torch.tensor(numbers, dtype=torch.float64, device=logits.device).T.unsqueeze(-1)
    probabilities = torch.softmax(logits.double() / temperature, dim=-1)
    if not cuts:
        return _inverted(probabilities, number)
    # Stable, so that of equal tokens the same ones are kept in every batch.
    probabilities, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = probabilities.cumsum(dim=-1) - probabilities
    return order.gather(1, _inverted(probabilities.where(before < top_p, 0.0), number)[:, None]).squeeze(1)


def _inverted(probabilities: Tensor, number: Tensor) -> Tensor:
    cumulated = probabilities.cumsum(dim=-1)
    places = torch.searchsorted(cumulated, number * cumulated[:, -1:], right=True)
    return places.clamp(max=cumulated.shape[1] - 1).squeeze(1)
