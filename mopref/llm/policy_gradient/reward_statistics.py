"""Rewards of a language model on held-out prompts, with fresh samples at each preference."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from mopref.conditioning.preference_model import PreferenceModel
from mopref.evaluation_mode import evaluation_mode
from mopref.front import Front
from mopref.llm.data.lengths import batches_of_like_length
from mopref.llm.policy_gradient.rollout import policy_outputs, reference_log_probabilities, roll_out

if TYPE_CHECKING:
    from mopref.objectives.rlhf import RLHF

__all__ = ["RewardStatistics", "evaluate_rewards", "reward_front"]


class RewardStatistics(NamedTuple):
    """Means at each of N preferences, on the CPU.

    ``rewards`` ``(N, m)`` in their own units, higher is better; ``standard_errors`` ``(N, m)`` of these, over prompts;
    ``kl`` ``(N,)`` in nats from the base model; ``lengths`` ``(N,)`` in tokens without the stop token; ``truncated``
    ``(N,)``, the fraction of responses that were cut.
    """

    rewards: Tensor
    standard_errors: Tensor
    kl: Tensor
    lengths: Tensor
    truncated: Tensor


def evaluate_rewards(
    model: PreferenceModel,
    objective: "RLHF",
    data: Sequence[Any],
    preferences: Tensor | None,
    batch_size: int = 16,
    samples_per_prompt: int | None = None,
    with_kl: bool = True,
    seed: int = 0,
    progress: bool = False,
) -> RewardStatistics:
    """Sample fresh responses to every prompt at every preference, and reward them. No truncation penalty.

    Args:
        model: the conditioned model.
        objective: says which rewards, and how responses are sampled.
        data: rows, as for training.
        preferences: ``(N, m)``; ``None`` for the base model, as one preference.
        batch_size: prompts in one forward.
        samples_per_prompt: the objective's own number by default.
        with_kl: also estimate the KL, which takes two forwards more; 0 otherwise, and for the base model.
        seed: the same seed gives the same samples; the global random state stays as it was.
        progress: show a progress bar.
    """
    from tqdm.auto import tqdm

    device = next(model.parameters()).device
    count = 1 if preferences is None else len(preferences)
    settings = replace(
        objective.settings,
        samples_per_prompt=samples_per_prompt or objective.settings.samples_per_prompt,
        truncation_penalty=0.0,
    )
    # Rewards, KL, length and whether cut: means over the samples of each prompt.
    columns = objective.num_objectives + 3
    found = torch.zeros(count, len(data), columns, dtype=torch.float64)
    jobs = [(index, row) for row in range(len(data)) for index in range(count)]
    batches = batches_of_like_length([len(data[row]["prompt_ids"]) for _, row in jobs], batch_size)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), evaluation_mode(model), torch.no_grad():
        torch.manual_seed(seed)
        for numbers in tqdm(batches, desc="evaluation", disable=None if progress else True, leave=False):
            chosen = [jobs[number] for number in numbers]
            batch = objective.collate([data[row] for _, row in chosen])
            indices = torch.tensor([index for index, _ in chosen])
            if preferences is None:
                with model.disabled():
                    rollout = roll_out(model, batch, None, settings)
                kl = torch.zeros(len(rollout["lengths"]))
            else:
                each = preferences.to(device)[indices.to(device)]
                rollout = roll_out(model, batch, each, settings)
                kl = _kl(model, rollout, each, settings) if with_kl else torch.zeros(len(rollout["lengths"]))
            beside = torch.stack([kl.double().cpu(), rollout["lengths"].double(), rollout["truncated"].double()], dim=1)
            whole = torch.cat([rollout["rewards"], beside], dim=1).view(len(chosen), -1, columns)
            found[indices, torch.tensor([row for _, row in chosen])] = whole.mean(dim=1)
    means, m = found.mean(dim=1), objective.num_objectives
    errors = found.std(dim=1)[:, :m] / len(data) ** 0.5 if len(data) > 1 else torch.full((count, m), torch.nan)
    return RewardStatistics(means[:, :m], errors, means[:, m], means[:, m + 1], means[:, m + 2])


def _kl(model: PreferenceModel, rollout: dict[str, Any], preferences: Tensor, settings: Any) -> Tensor:
    each = preferences.repeat_interleave(settings.samples_per_prompt, dim=0)
    policy = policy_outputs(model, rollout["sequences"], settings.sampling, preferences=each).log_probabilities
    return (policy - reference_log_probabilities(model, rollout["sequences"], settings.sampling)).sum(dim=1)


def reward_front(
    model: PreferenceModel,
    objective: "RLHF",
    data: Sequence[Any],
    preferences: Tensor,
    batch_size: int = 16,
    samples_per_prompt: int | None = None,
    with_kl: bool = True,
    seed: int = 0,
    metadata: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> Front:
    """The front of mean rewards (maximised) at each preference ``(N, m)``, on held-out prompts with fresh samples.

    Arguments are those of :func:`evaluate_rewards`.

    Returns:
        A front with the extra columns ``standard_error_<name>``, ``kl``, ``mean_response_length`` and ``truncated``.
    """
    found = evaluate_rewards(
        model, objective, data, preferences, batch_size, samples_per_prompt, with_kl, seed, progress
    )
    errors = {f"standard_error_{name}": found.standard_errors[:, i].tolist() for i, name in enumerate(objective.names)}
    return Front(
        preferences=preferences.cpu().numpy(),
        values=found.rewards.numpy(),
        names=objective.names,
        maximize=True,
        extra={
            **errors,
            **({"kl": found.kl.tolist()} if with_kl else {}),
            "mean_response_length": found.lengths.tolist(),
            "truncated": found.truncated.tolist(),
        },
        metadata=metadata,
    )
