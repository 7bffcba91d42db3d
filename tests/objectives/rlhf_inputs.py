"""Steps of RLHF on the prompts and rewards of ``_counted_rewards``."""

from typing import Any

import torch
from _counted_rewards import (
    PREFERENCES as PREFERENCES,
    ROWS as ROWS,
    STOPS as STOPS,
    even as even,
    length as length,
)
from rlhf_problems import first_losses
from torch import Tensor

from mopref import PreferenceModel
from mopref.llm.policy import Sampling
from mopref.objective import Update
from mopref.objectives import RLHF

SAMPLING = Sampling(max_new_tokens=4, stop_token_ids=STOPS)


def make_rlhf(**options: Any) -> RLHF:
    """Three samples a prompt of four tokens at most, in the rewards' own units."""
    options = {"beta": 0.1, "samples_per_prompt": 3, "sampling": SAMPLING, "normalization": None} | options
    return RLHF({"length": length, "even": even}, **options)


def updates_of(rlhf: RLHF, model: PreferenceModel, seed: int = 0) -> list[Update]:
    """The updates of one rollout on all prompts."""
    torch.manual_seed(seed)
    return rlhf.updates(model, rlhf.collate(ROWS), PREFERENCES)


def losses_of(rlhf: RLHF, model: PreferenceModel, seed: int = 0) -> Tensor:
    """−J_i of one rollout on all prompts, at its first step."""
    torch.manual_seed(seed)
    return first_losses(rlhf, model, ROWS, PREFERENCES)


def gradients(model: PreferenceModel, losses: Tensor, preferences: Tensor) -> Tensor:
    """∂ Σ λ_i loss_i / ∂ U of all adapters, flat."""
    model.zero_grad()
    (preferences * losses).sum().backward()
    return torch.cat([layer.U.grad.flatten() for layer in model.adapters.values()])


def assert_same(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> None:
    """Of two ways to the same step: losses, and gradients that are not nothing."""
    torch.testing.assert_close(first[0], second[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(first[1], second[1], atol=1e-5, rtol=1e-4)
    assert first[1].abs().max() > 1e-3
