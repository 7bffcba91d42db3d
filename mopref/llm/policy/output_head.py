"""The output head, asked for single tokens' log-probabilities in place of logits for all of the vocabulary.

Logits of a batch take (tokens × vocabulary) numbers, more than all else of a step, and their gradients as many again.
The head is run on a few tokens at a time instead, within the model's own forward. Of a frozen head what the backward
pass needs is one vector for each token, since the others' logits do not enter a token's log-probability:

    ∂ log π(y_t) / ∂ h_t = Σ_v (1[v = y_t] − π(v)) ∂ logit_v / ∂ h_t,

which is computed beside the log-probability and kept in place of the logits: exact, and no logit is computed twice.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mopref.conditioning.preference_state import PreferenceState
from mopref.llm.policy.log_probabilities import sampled_logits
from mopref.llm.policy.replaced_forward import replaced_forward

__all__ = ["LogitsChange", "Targets", "known_changes", "replaced_head", "target_log_probabilities"]

# Logits that are there at a time, by the kind of the device: matrix products are at full speed from some tens of tokens
# on, and on a GPU from some hundreds.
_NUMBERS_AT_A_TIME = {"cpu": 2**22, "other": 2**27}
# What probabilities are multiplied by on their way through the head, where float16 could not tell small ones from 0. A
# power of two, so that other types lose nothing.
_SCALE = 256.0

LogitsChange = Callable[[Tensor], Tensor]
Head = Callable[..., Tensor]


class Targets(NamedTuple):
    """T tokens whose log-probabilities are asked for.

    Attributes:
        ids: ``(T,)``.
        columns: ``(T,)``, which column of ``forbidden`` a token is in.
        temperature: > 0, by which logits are divided.
        vocabulary_end: where the vocabulary ends; logits behind are left out. ``None`` for all.
        forbidden: ``(R, V)`` bool, tokens that cannot come at a place; ``None`` for none.
    """

    ids: Tensor
    columns: Tensor
    temperature: float = 1.0
    vocabulary_end: int | None = None
    forbidden: Tensor | None = None


def known_changes(config: Any) -> list[LogitsChange]:
    """What a model may do to its logits behind the head, by its configuration; nothing comes last."""
    changes: list[LogitsChange] = []
    names = ("final_logit_softcapping", "logits_soft_cap")
    if cap := next((cap for name in names if (cap := getattr(config, name, None))), None):
        changes.append(lambda logits: cap * torch.tanh(logits / cap))
    if factor := getattr(config, "logit_scale", None):
        changes.append(lambda logits: logits * factor)
    if divisor := getattr(config, "logits_scaling", None):
        changes.append(lambda logits: logits / divisor)
    changes.append(lambda logits: logits)
    return changes


@contextmanager
def replaced_head(head: nn.Module, use: Callable[[Tensor, Head], None]) -> Iterator[None]:
    """Within this block the head's inputs are handed to ``use``, with the head's own forward, and no logits are made.

    The model gets one number a token in their place, by which its graph holds together.

    Args:
        head: the model's output head.
        use: called within the model's forward, in its precision.
    """
    own = head.forward

    def forward(hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        use(hidden, own)
        return hidden[..., :1]

    with replaced_forward(head, forward):
        yield


def target_log_probabilities(
    hidden: Tensor,
    targets: Targets,
    head: nn.Module,
    forward: Head,
    change: LogitsChange,
    state: PreferenceState,
    preferences: Tensor | None,
) -> Tensor:
    """log softmax(logits / temperature) at the targets, ``(T,)``; differentiable in ``hidden`` and the head.

    Args:
        hidden: what the head sees where each target is predicted, ``(T, H)``.
        targets: T of them.
        head: the head.
        forward: its forward.
        change: what the model does to its logits.
        state: holds the preference in force, for a head with an adapter.
        preferences: of each target, ``(T, m)``, or ``(1, m)``; ``None`` for a head without adapter.
    """
    width = int(getattr(head, "out_features", 0)) or forward(hidden[:1]).shape[-1]
    size = max(1, _NUMBERS_AT_A_TIME.get(hidden.device.type, _NUMBERS_AT_A_TIME["other"]) // width)
    is_trained = any(parameter.requires_grad for parameter in head.parameters())
    record = state.record

    def logits_of(states: Tensor, start: int) -> Tensor:
        if preferences is None or len(preferences) == 1:
            logits = forward(states)
        else:
            own = record._replace(preferences=preferences[start : start + len(states)], preference_indices=None)
            with state.recomputation(own):
                # A row for each token, as the adapter has it.
                logits = forward(states.unsqueeze(1)).squeeze(1)
        forbidden = targets.forbidden
        if forbidden is not None:
            forbidden = forbidden[targets.columns[start : start + len(states)]]
        return sampled_logits(change(logits)[:, : targets.vocabulary_end], targets.temperature, forbidden)

    def from_logits(states: Tensor, ids: Tensor, start: int) -> Tensor:
        return torch.log_softmax(logits_of(states, start), dim=-1).gather(1, ids[:, None]).squeeze(1)

    if torch.is_grad_enabled() and is_trained:
        parts = [slice(start, start + size) for start in range(0, len(hidden), size)]
        outputs = [
            checkpoint(from_logits, hidden[part], targets.ids[part], part.start, use_reentrant=False) for part in parts
        ]
        return torch.cat(cast(list[Tensor], outputs))
    if torch.is_grad_enabled() and hidden.requires_grad:
        return cast(Tensor, _WithGradient.apply(hidden, targets.ids, size, logits_of))
    values = _empty_values(hidden)
    for start in range(0, len(hidden), size):
        part = slice(start, start + size)
        values[part] = from_logits(hidden[part], targets.ids[part], start)
    return values


def _empty_values(hidden: Tensor) -> Tensor:
    """A place for one log-probability of each state, taken before any logits.

    Small numbers that are made between logits of one part and of the next would keep the memory of all of them.
    """
    return torch.empty(len(hidden), dtype=torch.promote_types(hidden.dtype, torch.float32), device=hidden.device)


class _WithGradient(torch.autograd.Function):
    """Log-probabilities ``(T,)`` of states ``(T, H)``, with their gradients computed at once in place of logits."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, ids: Tensor, size: int, logits_of: Callable[[Tensor, int], Tensor]) -> Tensor:
        """The log-probabilities of the tokens ``ids``, so many at a time."""
        values, gradient = _empty_values(hidden), torch.empty_like(hidden)
        for start in range(0, len(hidden), size):
            part = slice(start, start + size)
            own = ids[part, None]
            with torch.enable_grad():
                leaf = hidden[part].detach().requires_grad_()
                logits = logits_of(leaf, start)
            log_probabilities = torch.log_softmax(logits.detach(), dim=-1)
            values[part] = log_probabilities.gather(1, own).squeeze(1)
            outer = log_probabilities.exp_().mul_(-_SCALE)
            outer.scatter_add_(1, own, outer.new_full(own.shape, _SCALE))
            gradient[part] = torch.autograd.grad(logits, leaf, outer)[0]
        ctx.save_for_backward(gradient)
        return values

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None, None]:
        """One vector for each token, by how much its log-probability counts."""
        (gradient,) = ctx.saved_tensors
        return (outer[:, None] / _SCALE * gradient).to(gradient.dtype), None, None, None
