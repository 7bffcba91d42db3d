"""Log-probabilities of sampled tokens, from logits: pure functions of tensors."""

from typing import NamedTuple

import torch
from torch import Tensor

from mopref._precision import at_least_float32

__all__ = ["TokenOutputs", "sampled_logits", "selected_log_probabilities"]


class TokenOutputs(NamedTuple):
    """What a language model says of N responses of R tokens at most.

    Attributes:
        log_probabilities: ``(N, R)``, log π(y_t | x, y_<t) in nats; 0 where a response is padded.
        head_inputs: ``(N, R, H)``, what the output head sees where it predicts each token; ``None`` where it was not
            asked for.
    """

    log_probabilities: Tensor
    head_inputs: Tensor | None


def sampled_logits(logits: Tensor, temperature: float = 1.0, forbidden: Tensor | None = None) -> Tensor:
    """The logits of the distribution that is sampled from, ``(…, V)``; those of half precision in float32.

    Args:
        logits: ``(…, V)``.
        temperature: > 0.
        forbidden: bool, of a shape that broadcasts to the logits', tokens that cannot come.
    """
    logits = at_least_float32(logits)
    if temperature != 1.0:
        logits = logits / temperature
    return logits if forbidden is None else logits.masked_fill(forbidden, -torch.inf)


def selected_log_probabilities(
    logits: Tensor, targets: Tensor, temperature: float = 1.0, forbidden: Tensor | None = None
) -> Tensor:
    """log softmax(logits / temperature) at the targets: ``(N, R, V)`` and ``(N, R)`` to ``(N, R)``.

    Args:
        logits: ``(N, R, V)``; in half precision they are brought to float32.
        targets: token ids, ``(N, R)``.
        temperature: > 0.
        forbidden: bool ``(R, V)``, tokens that cannot come at a place: the distribution is renormalised without them.

    Example:
        >>> selected_log_probabilities(torch.zeros(1, 1, 4), torch.tensor([[2]])).exp()
        tensor([[0.2500]])
    """
    logits = sampled_logits(logits, temperature, forbidden)
    return logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - torch.logsumexp(logits, dim=-1)
