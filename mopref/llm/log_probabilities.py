"""Log-probabilities of responses, computed at response positions only."""

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mopref.conditioning.preference_model import find_preference_model
from mopref.llm.frozen_layers import skip_lower_layers

__all__ = ["collate_sequences", "sequence_log_probabilities", "token_log_probabilities"]


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
            computed before (see :mod:`mopref.llm.frozen_layers`).

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


def token_log_probabilities(model: nn.Module, sequences: dict[str, Tensor], **model_options: Any) -> Tensor:
    """log π(y_t | x, y_<t) of every response token, ``(N, R)``; 0 where a response is padded.

    One forward. The head's logits are asked for at the columns that predict response tokens, never for the prompt.

    Args:
        model: a causal language model, or a ``PreferenceModel`` around one.
        sequences: a batch made by :func:`collate_sequences`.
        **model_options: for the forward, such as ``preferences``.
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
    with shortcut:
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
    picked = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - torch.logsumexp(logits, dim=-1)
    return torch.where(response_mask, picked, torch.zeros_like(picked))


def sequence_log_probabilities(model: nn.Module, sequences: dict[str, Tensor], **model_options: Any) -> Tensor:
    """log π(y | x) = Σ_t log π(y_t | x, y_<t), summed over response tokens: shape ``(N,)``; arguments as above."""
    return token_log_probabilities(model, sequences, **model_options).sum(dim=1)
