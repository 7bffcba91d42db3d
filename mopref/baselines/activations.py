"""Activation addition: a direction for each objective, added to the hidden states of the base model."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mopref.baselines.interfaces import Budget, MethodPolicy
from mopref.baselines.one_at_a_time import OneAtATime
from mopref.baselines.plain_lora import plain_config
from mopref.baselines.runs import MethodSetup
from mopref.conditioning import PreferenceModel
from mopref.evaluation_mode import evaluation_mode
from mopref.llm.data.sequences import Sequences
from mopref.llm.policy import Policy, Sampling
from mopref.llm.policy.frozen_layers import block_stack
from mopref.llm.policy.padding import padding_traits

__all__ = ["ActivationAddition", "activation_addition", "mean_differences"]


class ActivationAddition(OneAtATime):
    """The base model with α·Σ λ_i v_i added to what one of its blocks hands on, at every token.

    Args:
        module: a preference model, whose adapters are disabled throughout.
        directions: v, ``(m, H)``.
        block: the number of the block, negative ones counted from the last.
        strength: α.

    Raises:
        ValueError: a block that is not there.
    """

    def __init__(self, module: PreferenceModel, directions: Tensor, block: int, strength: float = 1.0) -> None:
        super().__init__(module)
        self.block, self.strength = checked_block(module, block), float(strength)
        self.directions: Tensor
        self.register_buffer("directions", directions.to(module.device, torch.float32))

    @contextmanager
    def at(self, preference: Tensor) -> Iterator[None]:
        """Within this block the model is the base with the directions for one preference added."""
        added = self.strength * preference.to(self.directions) @ self.directions

        def add(_: nn.Module, __: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return (output[0] + added.to(output[0]), *output[1:])
            return output + added.to(output)

        handle = block_stack(self.module)[self.block].register_forward_hook(add)
        try:
            with self.module.disabled():
                yield
        finally:
            handle.remove()

    def composed_log_probabilities(self, sequences: Sequences, preferences: Tensor, sampling: Sampling) -> Tensor:
        """Those of the base with the directions added, ``(N, R)``."""
        # What was kept of lower blocks is without them.
        return super().composed_log_probabilities(sequences._replace(lower_hidden_states=None), preferences, sampling)


def checked_block(model: PreferenceModel, block: int) -> int:
    """The number of a block from 0.

    Raises:
        ValueError: there is no such block.
    """
    count = len(block_stack(model))
    if not -count <= block < count:
        raise ValueError(f"block is {block}, but the model has {count}: give 0 … {count - 1}, or −{count} … −1.")
    return block % count


def mean_differences(
    model: PreferenceModel, objective: Any, rows: Sequence[Any], block: int, batch_size: int = 8
) -> Tensor:
    """v_i: the mean over rows labelled on i of preferred less rejected hidden states, of the base model.

    The hidden state of an answer is the mean over its tokens of what the block hands on.

    Args:
        model: the preference model.
        objective: a ``PairObjective``, for labels and batches.
        rows: its rows.
        block: the number of the block.
        batch_size: pairs in one forward.

    Returns:
        ``(m, H)`` float32.

    Raises:
        ValueError: no row labelled on some objective.

    Source: Rimsky et al., Steering Llama 2 via contrastive activation addition, arXiv 2312.06681.
    """
    labels = objective.labels(rows)
    objective.refuse_unlabelled((labels >= 0).sum(dim=0))
    number, sums = checked_block(model, block), torch.zeros(len(objective.names), Policy(model).hidden_size).double()
    for places in objective.evaluation_batches(rows, batch_size):
        sequences = objective.collate([rows[place] for place in places]).sequences.to(model.device)
        first, second = _mean_states(model, sequences, number).chunk(2)
        own = labels[places]
        signs = torch.where(own < 0, 0, 1 - 2 * own).double()
        sums += signs.T @ (first - second)
    return (sums / (labels >= 0).sum(dim=0).double().unsqueeze(1)).float()


def _mean_states(model: PreferenceModel, sequences: Sequences, block: int) -> Tensor:
    """The mean over response tokens of what a block of the base hands on, ``(N, H)`` float64 on the CPU."""
    caught: list[Tensor] = []

    def catch(_: nn.Module, __: Any, output: Any) -> None:
        caught.append(output[0] if isinstance(output, tuple) else output)

    # Before the hook is there, since it is found out by forwards.
    offset = padding_traits(model).position_offset
    handle = block_stack(model)[block].register_forward_hook(catch)
    try:
        with model.disabled(), evaluation_mode(model), torch.no_grad():
            model(
                input_ids=sequences.input_ids,
                attention_mask=sequences.attention_mask,
                position_ids=sequences.position_ids + offset,
                use_cache=False,
            )
    finally:
        handle.remove()
    mask = sequences.response_mask.unsqueeze(-1)
    states = caught[0][:, -mask.shape[1] :].double() * mask
    return (states.sum(dim=1) / mask.sum(dim=1)).cpu()


def activation_addition(setup: MethodSetup, block: int | None = None, strength: float = 1.0) -> MethodPolicy:
    """Activation addition with the directions of the setup's rows; nothing is trained.

    Args:
        setup: of the comparison.
        block: the number of the block; ``None`` for the middle one.
        strength: α.

    Raises:
        ValueError: a block that is not there.
    """
    if setup.rows is None:
        raise ValueError("rows are None: directions are differences of the two answers of pairs, so give some.")
    started = time.monotonic()
    model = setup.make_model(plain_config(setup.adapter))
    number = len(block_stack(model)) // 2 if block is None else block
    directions = mean_differences(model, setup.objective, setup.rows, number, setup.config.batch_size)
    forwards = len(setup.objective.evaluation_batches(setup.rows, setup.config.batch_size))  # type: ignore[attr-defined]
    policy = ActivationAddition(model, directions, number, strength)
    # No run: nothing is trained.
    budget = Budget(forwards=forwards, stored_parameters=directions.numel(), seconds=time.monotonic() - started)
    notes = {"block": policy.block, "strength": strength, "norms": directions.norm(dim=1).tolist()}
    return MethodPolicy("activation", policy, budget, notes)
