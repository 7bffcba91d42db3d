"""Rollouts of random numbers, and what is shared of ``_counted_rewards``."""

from typing import Any

import torch
from _counted_rewards import (
    PREFERENCES as PREFERENCES,
    ROWS as ROWS,
    STOPS as STOPS,
    even as even,
    length as length,
)
from _tensors import randn, tensor
from torch import Tensor

from mopref.llm.data.sequences import collate_sequences
from mopref.llm.policy import Sampling
from mopref.llm.policy_gradient import RolloutGroups
from mopref.llm.policy_gradient.rollout import Rollout, RolloutSettings


def make_settings(**options: Any) -> RolloutSettings:
    """Three samples a prompt of four tokens at most, of which some end early."""
    defaults = {
        "reward_functions": {"length": length, "even": even},
        "sampling": Sampling(max_new_tokens=4, stop_token_ids=STOPS),
        "samples_per_prompt": 3,
    }
    return RolloutSettings(**{**defaults, **options})


def make_groups(
    groups: int = 2, prompts: int = 3, samples: int = 4, tokens: int = 5, m: int = 2, seed: int = 0
) -> RolloutGroups:
    """Rewards, log-ratios and values drawn from the normal distribution, responses of 1 to ``tokens`` tokens."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, tokens + 1, (groups, prompts, samples), generator=generator)
    mask = tensor(torch.arange(tokens) < lengths.unsqueeze(-1), torch.bool)
    return RolloutGroups(
        scaled_rewards=randn((groups, prompts, samples, m), generator),
        log_ratios=randn((groups, prompts, samples, tokens), generator) * mask,
        mask=mask,
        values=randn((groups, prompts, samples, tokens, m), generator) * mask.unsqueeze(-1),
    )


def one_token_groups(rewards: list[float], **parts: Any) -> RolloutGroups:
    """One prompt with these rewards of one objective for its samples of one token, and no KL."""
    shape = (1, 1, len(rewards), 1)
    log_ratios, mask = tensor([0.0] * len(rewards)).view(shape), tensor([True] * len(rewards), torch.bool).view(shape)
    return RolloutGroups(tensor(rewards).view(shape), log_ratios, mask)._replace(**parts)


def make_rollout(
    groups: int = 2, prompts: int = 2, samples: int = 3, m: int = 2, values: bool = False, seed: int = 0
) -> Rollout:
    """N = G·P·S responses of one to four tokens, all numbers random; rewards, lengths and the rest are on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    count = groups * prompts * samples
    lengths = torch.randint(1, 5, (count,), generator=generator)
    lengths[0] = 4
    responses = [torch.randint(3, 90, (n,), generator=generator).tolist() for n in lengths.tolist()]
    prompt_ids = [[5 + row // samples, 6] for row in range(count)]
    sequences = collate_sequences(prompt_ids, responses)

    def draw() -> Tensor:
        return -torch.rand(count, 4, generator=generator) * sequences.response_mask

    return Rollout(
        sequences=sequences,
        rewards=torch.randn(count, m, generator=generator, dtype=torch.float64),
        lengths=lengths,
        truncated=lengths == 4,
        log_probabilities=draw(),
        reference_log_probabilities=draw(),
        values=torch.randn(count, 4, m, generator=generator) if values else None,
    )
