"""Mean rewards of a model at each preference, on fresh samples."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mopref._progress import progress_bar
from mopref.conditioning.conditioned_model import check_objectives
from mopref.data_rows import checked_rows
from mopref.evaluation_mode import evaluation_mode
from mopref.llm.data.lengths import batches_of_like_length
from mopref.llm.policy.policy import Policy
from mopref.llm.policy_gradient.rollout import PromptBatch, Rollout, RolloutSettings
from mopref.objective import spread_evenly
from mopref.preferences import validate_preferences
from mopref.setting_types import checked_seed

__all__ = ["RewardStatistics", "evaluate_rewards", "reward_statistics", "reward_table", "sampled_batches"]


class RewardStatistics(NamedTuple):
    """Means at each of N preferences, on the CPU.

    Attributes:
        rewards: ``(N, m)`` in their own units, higher is better.
        standard_errors: ``(N, m)`` of these, over prompts.
        kl: ``(N,)`` in nats from the base model.
        lengths: ``(N,)`` in tokens without the stop token.
        truncated: ``(N,)``, the fraction of responses that were cut.
    """

    rewards: Tensor
    standard_errors: Tensor
    kl: Tensor
    lengths: Tensor
    truncated: Tensor


def evaluate_rewards(
    model: torch.nn.Module,
    settings: RolloutSettings,
    data: Sequence[Any],
    preferences: Any,
    batch_size: int = 16,
    *,
    samples_per_prompt: int | None = None,
    with_kl: bool = True,
    seed: int = 0,
    progress: bool = False,
) -> RewardStatistics:
    """Mean rewards of fresh responses to every prompt at every preference. No truncation penalty.

    Args:
        model: the ``PreferenceModel``.
        settings: which rewards, and how responses are sampled; ``RLHF(…).settings``.
        data: rows, as for training.
        preferences: ``(N, m)``, or by name; ``None`` for the base model, as one preference.
        batch_size: prompts in one forward.
        samples_per_prompt: the settings' own number by default.
        with_kl: also estimate the KL, which takes two forwards more; 0 otherwise, and for the base model.
        seed: the same seed gives the same samples; the global random state stays as it was.
        progress: show a progress bar.

    Raises:
        ValueError: a model with other objectives than the rewards, preferences that do not lie on the simplex, no row,
            or a row that is no prompt of the model's tokens, or too long for it.
        TypeError: data whose rows cannot be counted, or had by their number.
    """
    options: dict[str, Any] = {"samples_per_prompt": samples_per_prompt, "with_kl": with_kl, "seed": seed}
    table = reward_table(model, settings, data, preferences, batch_size, progress=progress, **options)
    return reward_statistics(table)


def reward_statistics(table: Tensor) -> RewardStatistics:
    """Means over prompts of what :func:`reward_table` gives."""
    means, m, rows = table.mean(dim=1), table.shape[-1] - 3, table.shape[1]
    errors = table.std(dim=1)[:, :m] / rows**0.5 if rows > 1 else torch.full((len(table), m), torch.nan)
    return RewardStatistics(means[:, :m], errors, means[:, m], means[:, m + 1], means[:, m + 2])


def reward_table(
    model: torch.nn.Module,
    settings: RolloutSettings,
    data: Sequence[Any],
    preferences: Any,
    batch_size: int = 16,
    *,
    samples_per_prompt: int | None = None,
    with_kl: bool = True,
    seed: int = 0,
    progress: bool = False,
) -> Tensor:
    """What :func:`evaluate_rewards` takes the means of, prompt by prompt; its arguments and its errors.

    Returns:
        Means over a prompt's samples, float64 on the CPU, ``(N, prompts, m + 3)``: m rewards, KL, length in tokens and
        the fraction that was cut.
    """
    if len(checked_rows(data, "data")) == 0:
        raise ValueError("there is nothing to evaluate on: give data with at least one prompt.")
    settings.check_rows(data)
    check_objectives(model, settings.names, "the set of rewards")
    if preferences is not None:
        preferences = validate_preferences(preferences, settings.names).to(torch.get_default_dtype())
    if samples_per_prompt is not None:
        settings = replace(settings, samples_per_prompt=samples_per_prompt)
    # The model's own samples: the same at every call.
    settings = replace(settings, truncation_penalty=0.0, engine=None)
    policy = Policy(model, settings.sampling)
    policy.check_prompts(data)
    count, m = 1 if preferences is None else len(preferences), len(settings.reward_functions)
    # For each preference and prompt: means over the samples of rewards, KL, length and whether cut.
    table = torch.zeros(count, len(data), m + 3, dtype=torch.float64)
    for indices, rows, row_preferences in sampled_batches(policy, data, preferences, batch_size, seed, progress):
        batch = settings.collate([data[row] for row in rows.tolist()])
        columns = _measure(policy, settings, batch, row_preferences, with_kl)
        table[indices, rows] = columns.view(len(rows), -1, m + 3).mean(dim=1)
    return table


def sampled_batches(
    policy: Policy, data: Sequence[Any], preferences: Tensor | None, batch_size: int, seed: int, progress: bool
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Every prompt at every preference, those of like length together; randomness within comes from the seed.

    The model is in evaluation mode, and there are no gradients, while a batch is worked on.

    Args:
        policy: the model.
        data: rows with ``prompt_ids``.
        preferences: ``(N, m)``; ``None`` for the base model, as one preference.
        batch_size: prompts in one batch.
        seed: of PyTorch's global generators, which are put back.
        progress: show a progress bar.

    Yields:
        Numbers of preferences and of rows ``(B,)``, and the preferences themselves ``(B, m)`` or ``None``.
    """
    count = 1 if preferences is None else len(preferences)
    jobs = [(index, row) for row in range(len(data)) for index in range(count)]
    batches = batches_of_like_length([len(data[row]["prompt_ids"]) for _, row in jobs], batch_size)
    devices = [policy.device] if policy.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), evaluation_mode(policy.conditioned), torch.no_grad():
        torch.manual_seed(checked_seed(seed))
        for numbers in progress_bar(batches, "evaluation", enabled=progress):
            indices, rows = (torch.tensor(part) for part in zip(*(jobs[number] for number in numbers), strict=True))
            at = None if preferences is None else preferences.to(policy.device)[indices.to(policy.device)]
            yield indices, rows, at


def _measure(
    policy: Policy, settings: RolloutSettings, batch: PromptBatch, preferences: Tensor | None, with_kl: bool
) -> Tensor:
    """Rewards, KL, length and whether cut of each response, ``(N, m + 3)`` float64."""
    if preferences is None:
        with policy.reference() as reference:
            return _columns(settings.roll_out(reference, batch, None), None)
    rollout = settings.roll_out(policy, batch, preferences)
    return _columns(rollout, _log_ratios(policy, rollout, preferences) if with_kl else None)


def _log_ratios(policy: Policy, rollout: Rollout, preferences: Tensor) -> Tensor:
    """log π − log π_ref of each token, ``(N, R)``, both by a forward.

    What was recorded while sampling will not do beside it: accelerate runs a trained model's forward in mixed
    precision, but not its generation, and the difference would be taken for a KL.
    """
    row_preferences = spread_evenly(preferences, len(rollout.lengths))
    log_probabilities = policy.token_log_probabilities(rollout.sequences, row_preferences)
    return log_probabilities - policy.reference_log_probabilities(rollout.sequences)


def _columns(rollout: Rollout, log_ratios: Tensor | None) -> Tensor:
    kl = torch.zeros(len(rollout.lengths)) if log_ratios is None else log_ratios.sum(dim=1)
    extra_columns = torch.stack([kl.double().cpu(), rollout.lengths.double(), rollout.truncated.double()], dim=1)
    return torch.cat([rollout.rewards, extra_columns], dim=1)
