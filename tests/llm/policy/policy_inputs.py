"""A response's log-probability by a plain forward: one row, no padding, all logits."""

from typing import Any

import torch
from torch import Tensor, nn


def naive_log_probability(model: nn.Module, prompt: list[int], response: list[int], **options: Any) -> Tensor:
    """Σ_t log softmax(logits)[y_t] over the response, each token predicted from its left; a scalar, differentiable."""
    tokens = torch.tensor([prompt + response], device=next(model.parameters()).device)
    logits = model(tokens, **options).logits[0]
    total = logits.new_zeros(())
    for position in range(len(prompt), len(prompt) + len(response)):
        total = total + torch.log_softmax(logits[position - 1], dim=-1)[tokens[0, position]]
    return total
