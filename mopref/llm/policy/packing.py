"""Packed sequences: prompts that several responses share stand once, and several of them fill a row.

A row holds groups, a group is a prompt and its responses, one behind the other. Every token sees its own prompt and its
own response only, and positions go on from the prompt in each response, so that log-probabilities and their gradients
are those of single sequences. λ belongs to groups, and so to tokens.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from mopref.llm.data.sequences import Sequences

__all__ = ["PackedSequences", "attention_mask", "block_mask", "pack"]

# Packing is worth its dense mask where it leaves out a twentieth of the tokens or more.
_WORTHWHILE = 0.95
_Numbers = NDArray[np.int64]


class PackedSequences(NamedTuple):
    """N sequences in C rows of L tokens at most.

    Attributes:
        source: ``(C, L)``, where each token stands among the N · (P + R) of the sequences; some place where padded.
        position_ids: ``(C, L)``, counted in each sequence by itself.
        groups: ``(C, L)``, whose prompt a token is of or answers; −1 where padded.
        parts: ``(C, L)``, 0 for a prompt, and k for its k-th response.
        preference_indices: ``(C, L)``, the row of ``preferences`` that a token is under.
        preferences: ``(K, m)``, those that differ; ``None`` for sequences without.
        predicting: ``(T,)``, for each response token the place among the C · L that predicts it; in the order of the
            sequences.
    """

    source: Tensor
    position_ids: Tensor
    groups: Tensor
    parts: Tensor
    preference_indices: Tensor
    preferences: Tensor | None
    predicting: Tensor

    def gathered(self, values: Tensor) -> Tensor:
        """What belongs to the tokens of the sequences, ``(N, P + R, …)``, where they stand now: ``(C, L, …)``."""
        return values.flatten(0, 1)[self.source]


class _Group(NamedTuple):
    """A prompt and the sequences that begin with it under one preference."""

    sequences: list[int]
    tokens: int
    preference: int


def pack(sequences: Sequences, preferences: Tensor | None, longest_row: int | None = None) -> PackedSequences | None:
    """Sequences in few rows.

    Args:
        sequences: N of them.
        preferences: ``(N, m)``, or ``(1, m)`` for all; ``None`` for sequences without.
        longest_row: the most tokens that a row may have.

    Returns:
        The rows; ``None`` where they would leave out few tokens, or a row would be too long.
    """
    rows, columns = sequences.input_ids.shape
    start = columns - sequences.response_mask.shape[1]
    prompts: list[int] = sequences.attention_mask[:, :start].sum(dim=1).tolist()
    responses: list[int] = sequences.response_lengths.tolist()
    groups, distinct = _groups(sequences.input_ids[:, :start], prompts, responses, preferences)
    bins = _filled_rows([group.tokens for group in groups])
    length = max(sum(groups[index].tokens for index in members) for members in bins)
    if length * len(bins) > _WORTHWHILE * rows * columns or (longest_row is not None and length > longest_row):
        return None
    source, positions, parts, own_preferences = np.zeros((4, len(bins), length), dtype=np.int64)
    owners = np.full((len(bins), length), -1, dtype=np.int64)
    predicting: dict[int, _Numbers] = {}
    for row, members in enumerate(bins):
        place = 0
        for index in members:
            group, first = groups[index], groups[index].sequences[0]
            prompt = prompts[first]
            end = place + group.tokens
            owners[row, place:end], own_preferences[row, place:end] = index, group.preference
            behind = slice(place, place + prompt)
            source[row, behind] = first * columns + start - prompt + np.arange(prompt)
            positions[row, behind] = np.arange(prompt)
            last_of_prompt, place = place + prompt - 1, place + prompt
            for part, sequence in enumerate(group.sequences, start=1):
                count = responses[sequence]
                behind = slice(place, place + count)
                source[row, behind] = sequence * columns + start + np.arange(count)
                positions[row, behind] = prompt + np.arange(count)
                parts[row, behind] = part
                before = np.arange(place - 1, place + count - 1)
                before[0] = last_of_prompt
                predicting[sequence] = row * length + before
                place += count
    in_order = np.concatenate([predicting[sequence] for sequence in range(rows)])
    numbers = (source, positions, owners, parts, own_preferences)
    device = sequences.input_ids.device
    source_, positions_, owners_, parts_, indices = (torch.from_numpy(each).to(device) for each in numbers)
    kept = None if preferences is None else preferences[torch.tensor(distinct, device=preferences.device)]
    return PackedSequences(source_, positions_, owners_, parts_, indices, kept, torch.from_numpy(in_order).to(device))


def _groups(
    prompt_ids: Tensor, prompts: list[int], responses: list[int], preferences: Tensor | None
) -> tuple[list[_Group], list[int]]:
    """Sequences of one prompt and one preference together, and a row of each preference that differs."""
    keys = prompt_ids.tolist()
    weights = [[0.0]] if preferences is None else preferences.tolist()
    shared = len(weights) == 1
    distinct: dict[tuple[float, ...], int] = {}
    first_rows: list[int] = []
    members: dict[tuple[int, int, tuple[int, ...]], list[int]] = {}
    for sequence, (ids, prompt) in enumerate(zip(keys, prompts, strict=True)):
        row = 0 if shared else sequence
        preference = distinct.setdefault(tuple(weights[row]), len(distinct))
        if preference == len(first_rows):
            first_rows.append(row)
        # The length tells padding from tokens of its number.
        members.setdefault((preference, prompt, tuple(ids)), []).append(sequence)
    groups = [
        _Group(own, prompt + sum(responses[each] for each in own), preference)
        for (preference, prompt, _), own in members.items()
    ]
    return groups, first_rows


def _filled_rows(sizes: list[int]) -> list[list[int]]:
    """Groups into rows as long as the longest group: each, from the longest on, into the fullest row that it fits."""
    capacity = max(sizes)
    rows: list[list[int]] = []
    free: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda each: -sizes[each]):
        fitting = [row for row, room in enumerate(free) if room >= sizes[index]]
        if fitting:
            row = min(fitting, key=free.__getitem__)
        else:
            row = len(rows)
            rows.append([])
            free.append(capacity)
        rows[row].append(index)
        free[row] -= sizes[index]
    return rows


def _sees(packed: PackedSequences, row: Tensor, place: Tensor, other: Tensor) -> Tensor:
    """Whether a token sees another one of its row, for places that broadcast."""
    groups, parts = packed.groups, packed.parts
    part = parts[row, other]
    own = (part == 0) | (part == parts[row, place])
    return (place >= other) & own & (groups[row, place] == groups[row, other])


def attention_mask(packed: PackedSequences, dtype: torch.dtype) -> Tensor:
    """What is added to attention's scores, 0 where a token sees another one: ``(C, 1, L, L)``.

    Padding sees padding, so that no token sees nothing.
    """
    rows, length = packed.groups.shape
    row, place = (torch.arange(count, device=packed.groups.device) for count in (rows, length))
    seen = _sees(packed, row[:, None, None], place[:, None], place)
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min).unsqueeze(1)


def block_mask(packed: PackedSequences) -> BlockMask:
    """The same for FlexAttention, which leaves out blocks that see nothing of each other."""
    rows, length = packed.groups.shape

    def sees(row: Tensor, head: Tensor, place: Tensor, other: Tensor) -> Tensor:
        return _sees(packed, row, place, other)

    return create_block_mask(sees, rows, None, length, length, device=packed.groups.device)
