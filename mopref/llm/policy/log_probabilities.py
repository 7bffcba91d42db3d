"""Log-probabilities of responses, computed at response positions only."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mopref.conditioning.preference_model import find_preference_model
from mopref.llm.policy.frozen_layers import skip_lower_layers

__all__ = [
    "TokenOutputs",
    "collate_sequences",
    "sequence_log_probabilities",
    "token_log_probabilities",
    "token_outputs",
]


def collate_sequences(
    prompt_ids: Sequence[Sequence[int]],
    response_ids: Sequence[Sequence[int]],
    hidden_states: Sequence[Tensor] | None = None,
) -> dict[str, Tensor]:
    """Make one padded batch of N sequences prompt + response.

    Prompts are padded on the left and responses on the right, so that every response starts in the same column and the
    output head is needed for the last R + 1 columns only. Positions count real tokens.

    Args:
        prompt_ids: N lists of token ids, none empty.
        response_ids: N lists of token ids, none empty.
        hidden_states: N tensors ``(tokens, H)``, the activations that enter the first adapted block, where they were
            computed before (see :mod:`mopref.llm.policy.frozen_layers`).

    Returns:
        ``input_ids``, ``attention_mask`` and ``position_ids`` ``(N, P + R)``, ``response_mask`` ``(N, R)`` bool, and
        ``hidden_states`` ``(N, P + R, H)`` where given.

    Raises:
        ValueError: no sequence, or an empty prompt or response.
    """
    if not prompt_ids or len(prompt_ids) != len(response_ids):
        raise ValueError(f"{len(prompt_ids)} prompts and {len(response_ids)} responses: give as many of both, ≥ 1.")
    for what, lists in (("prompt", prompt_ids), ("response", response_ids)):
        for index, ids in enumerate(lists):
            if len(ids) == 0:
                raise ValueError(f"{what} {index} has no token: its log-probability is not defined.")
    prompt_length = max(len(ids) for ids in prompt_ids)
    responses = [torch.as_tensor(ids, dtype=torch.int64) for ids in response_ids]
    rows = [
        torch.cat([torch.zeros(prompt_length - len(p), dtype=torch.int64), torch.as_tensor(p, dtype=torch.int64), r])
        for p, r in zip(prompt_ids, responses, strict=True)
    ]
    masks = [
        torch.cat(
            [torch.zeros(prompt_length - len(p), dtype=torch.int64), torch.ones(len(p) + len(r), dtype=torch.int64)]
        )
        for p, r in zip(prompt_ids, responses, strict=True)
    ]
    attention_mask = pad_sequence(masks, batch_first=True)
    batch = {
        "input_ids": pad_sequence(rows, batch_first=True),
        "attention_mask": attention_mask,
        "position_ids": (attention_mask.cumsum(dim=1) - 1).clamp(min=0),
        "response_mask": attention_mask[:, prompt_length:].bool(),
    }
    if hidden_states is not None:
        padded = [
            nn.functional.pad(states, (0, 0, prompt_length - len(p), 0))
            for states, p in zip(hidden_states, prompt_ids, strict=True)
        ]
        batch["hidden_states"] = pad_sequence(padded, batch_first=True)
    return batch


class TokenOutputs(NamedTuple):
    """What one forward says of the response tokens.

    ``log_probabilities`` ``(N, R)``; ``hidden_states`` ``(N, R, H)``, what the output head sees where it predicts each
    token, or ``None`` where they were not asked for.
    """

    log_probabilities: Tensor
    hidden_states: Tensor | None


def token_outputs(
    model: nn.Module,
    sequences: dict[str, Tensor],
    temperature: float = 1.0,
    forbidden: Tensor | None = None,
    hidden_states: bool = False,
    **model_options: Any,
) -> TokenOutputs:
    """log π(y_t | x, y_<t) of every response token (0 where a response is padded), and more where asked for.

    One forward. The head's logits are asked for at the columns that predict response tokens, never for the prompt.

    Args:
        model: a causal language model, or a ``PreferenceModel`` around one.
        sequences: a batch made by :func:`collate_sequences`.
        temperature: π is the softmax of the logits divided by it.
        forbidden: bool ``(R, V)``, tokens that cannot come at a position of the response: π is renormalised without
            them.
        hidden_states: also return what the output head sees.
        **model_options: for the forward, such as ``preferences``.

    Raises:
        ValueError: hidden states of a model that does not name its output head.
    """
    response_mask = sequences["response_mask"]
    columns = response_mask.shape[1]
    options = dict(model_options)
    conditioned = find_preference_model(model)
    base = model if conditioned is None else conditioned.base_model
    if "logits_to_keep" in inspect.signature(base.forward).parameters:
        options["logits_to_keep"] = columns + 1
    inputs: dict[str, Tensor] = {"input_ids": sequences["input_ids"]}
    shortcut: AbstractContextManager[Any] = nullcontext()
    if "hidden_states" in sequences:
        inputs = {"inputs_embeds": sequences["hidden_states"]}
        shortcut = skip_lower_layers(model)
    seen: list[Tensor] = []
    with shortcut, _head_inputs(base, seen) if hidden_states else nullcontext():
        output = model(
            **inputs,
            attention_mask=sequences["attention_mask"],
            position_ids=sequences["position_ids"],
            use_cache=False,
            **options,
        )
    # The column before a token predicts it; the last column predicts nothing that is known.
    logits = output.logits[:, -columns - 1 : -1]
    targets = sequences["input_ids"][:, -columns:]
    # Half precision is not enough for a sum of many log-probabilities.
    logits = logits.float() if logits.dtype.itemsize < 4 else logits
    if temperature != 1.0:
        logits = logits / temperature
    if forbidden is not None:
        logits = logits.masked_fill(forbidden, -torch.inf)
    picked = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - torch.logsumexp(logits, dim=-1)
    return TokenOutputs(
        torch.where(response_mask, picked, torch.zeros_like(picked)),
        seen[-1][:, -columns - 1 : -1] if hidden_states else None,
    )


@contextmanager
def _head_inputs(base: nn.Module, seen: list[Tensor]) -> Iterator[None]:
    """Within this block, what enters the output head is added to ``seen``."""
    find_head = getattr(base, "get_output_embeddings", None)
    head = None if find_head is None else find_head()
    if head is None:
        raise ValueError(f"{type(base).__name__} does not name its output head (get_output_embeddings).")
    handle = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield
    finally:
        handle.remove()


def token_log_probabilities(
    model: nn.Module, sequences: dict[str, Tensor], temperature: float = 1.0, **model_options: Any
) -> Tensor:
    """log π(y_t | x, y_<t) of every response token, ``(N, R)``; 0 where a response is padded. See `token_outputs`."""
    return token_outputs(model, sequences, temperature, **model_options).log_probabilities


def sequence_log_probabilities(model: nn.Module, sequences: dict[str, Tensor], **model_options: Any) -> Tensor:
    """log π(y | x) = Σ_t log π(y_t | x, y_<t), summed over response tokens: shape ``(N,)``; arguments as above."""
    return token_log_probabilities(model, sequences, **model_options).sum(dim=1)
