"""Padded batches of token sequences, prompt and response."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

__all__ = ["Sequences", "collate_sequences", "optional_column"]


class Sequences(NamedTuple):
    """N sequences of a prompt, padded on the left to P tokens, and a response, padded on the right to R tokens.

    So every response starts in the same column, and the output head is needed for the last R + 1 columns only.

    Attributes:
        input_ids: ``(N, P + R)``.
        attention_mask: ``(N, P + R)``, 1 at real tokens.
        position_ids: ``(N, P + R)``; positions count real tokens.
        response_mask: ``(N, R)`` bool, true at real tokens.
        lower_hidden_states: ``(N, P + R, H)``, what enters the first adapted block, 0 where padded; ``None`` where that
            was not computed before (see ``Policy.with_lower_hidden_states``).
    """

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    response_mask: Tensor
    lower_hidden_states: Tensor | None = None

    @property
    def targets(self) -> Tensor:
        """The response's token ids, ``(N, R)``."""
        return self.input_ids[:, -self.response_mask.shape[1] :]

    @property
    def response_lengths(self) -> Tensor:
        """Real tokens of each response, ``(N,)``."""
        return self.response_mask.sum(dim=1)

    @property
    def left_padding(self) -> Tensor:
        """Padding before each prompt, in tokens, ``(N,)``."""
        return self.attention_mask.argmax(dim=1)

    def without_left_padding(self) -> Self:
        """The same sequences, of prompts with one length, without what stands before all of them."""
        start = int(self.left_padding.min())
        trimmed = self._map(lambda part: part[:, start:])
        return trimmed._replace(response_mask=self.response_mask)

    def unpadded_hidden_states(self) -> list[Tensor]:
        """The kept activations of each sequence's real tokens, N tensors ``(tokens, H)``."""
        assert self.lower_hidden_states is not None, "no activations were kept"
        # Copies: a view would hold the whole batch.
        return [
            states[mask.bool()].clone()
            for states, mask in zip(self.lower_hidden_states, self.attention_mask, strict=True)
        ]

    def rows(self, indices: Tensor) -> Self:
        """The sequences at these indices."""
        return self._map(lambda part: part[indices.to(part.device)])

    def to(self, device: torch.device) -> Self:
        """The same on a device."""
        return self._map(lambda part: part.to(device))

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        return type(self)(
            input_ids=function(self.input_ids),
            attention_mask=function(self.attention_mask),
            position_ids=function(self.position_ids),
            response_mask=function(self.response_mask),
            lower_hidden_states=None if self.lower_hidden_states is None else function(self.lower_hidden_states),
        )


def collate_sequences(
    prompt_ids: Sequence[Sequence[int]],
    response_ids: Sequence[Sequence[int]],
    lower_hidden_states: Sequence[Tensor] | None = None,
) -> Sequences:
    """One padded batch of N sequences prompt + response.

    Args:
        prompt_ids: N lists of token ids, none empty.
        response_ids: N lists of token ids, none empty.
        lower_hidden_states: N tensors ``(tokens, H)``, what enters the first adapted block, where computed before.

    Raises:
        ValueError: no sequence, an empty prompt or response, or ids that are no whole numbers.
    """
    if not prompt_ids or len(prompt_ids) != len(response_ids):
        raise ValueError(f"{len(prompt_ids)} prompts and {len(response_ids)} responses: give as many of both, ≥ 1.")
    for what, lists in (("prompt", prompt_ids), ("response", response_ids)):
        for index, ids in enumerate(lists):
            if len(ids) == 0:
                raise ValueError(f"{what} {index} has no token: its log-probability is not defined.")
    prompt_length, response_length = (max(len(ids) for ids in lists) for lists in (prompt_ids, response_ids))
    padding = [prompt_length - len(ids) for ids in prompt_ids]
    tokens, mask = (np.zeros((len(padding), prompt_length + response_length), dtype=np.int64) for _ in range(2))
    for index, (prompt, response, start) in enumerate(zip(prompt_ids, response_ids, padding, strict=True)):
        tokens[index, start:prompt_length] = _whole_numbers(prompt, index)
        end = prompt_length + len(response)
        tokens[index, prompt_length:end] = _whole_numbers(response, index)
        mask[index, start:end] = 1
    attention_mask = torch.from_numpy(mask)
    return Sequences(
        input_ids=torch.from_numpy(tokens),
        attention_mask=attention_mask,
        position_ids=(attention_mask.cumsum(dim=1) - 1).clamp(min=0),
        response_mask=attention_mask[:, prompt_length:].bool(),
        lower_hidden_states=None if lower_hidden_states is None else _pad(lower_hidden_states, padding),
    )


def _whole_numbers(ids: Any, index: int) -> NDArray[Any]:
    """The token ids of one sequence, from a list, an array or a tensor.

    Raises:
        ValueError: numbers of another type.
    """
    numbers = ids.cpu().numpy() if isinstance(ids, Tensor) else np.asarray(ids)
    if numbers.dtype.kind not in "iu":
        dtype = torch.as_tensor([*ids]).dtype
        raise ValueError(f"sequence {index} has numbers of {dtype}: token ids are whole numbers.")
    return numbers


def _pad(rows: Sequence[Tensor], left: Sequence[int]) -> Tensor:
    """Rows ``(tokens, …)`` with so many zeros before them, and zeros after them up to the longest: ``(N, …)``."""
    shifted = [
        nn.functional.pad(row, (*[0, 0] * (row.ndim - 1), count, 0)) for row, count in zip(rows, left, strict=True)
    ]
    return pad_sequence(shifted, batch_first=True)


def optional_column(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any] | None:
    """What was computed before for every row of a batch under that name; ``None`` where it was for none.

    Raises:
        ValueError: some rows have it and some have not.

    Example:
        >>> optional_column([{"states": 1}, {"states": 2}], "states")
        [1, 2]
    """
    # A table has an empty cell where nothing was computed.
    missing = [index for index, row in enumerate(rows) if row.get(name) is None]
    if not missing:
        return [row[name] for row in rows]
    if len(missing) < len(rows):
        raise ValueError(
            f"row {missing[0]} of a batch has no {name!r}, and other rows have: precompute all rows of the data, or "
            "none."
        )
    return None
