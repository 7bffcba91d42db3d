"""Fronts of a trained language model on held-out data: of losses on preference pairs, and of mean rewards."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mopref._masked import labelled_sum
from mopref.evaluation_mode import evaluation_mode
from mopref.front import Front
from mopref.llm.policy_gradient.reward_statistics import evaluate_rewards
from mopref.llm.policy_gradient.rollout import RolloutSettings
from mopref.objectives.dpo import DPO

__all__ = ["preference_accuracies", "preference_front", "reward_front"]


def preference_accuracies(margins: Tensor, labels: Tensor) -> Tensor:
    """The fraction of labelled rows on which the implicit reward prefers the labelled response; a draw counts half.

    Args:
        margins: d = h(x, y_0) − h(x, y_1), shape ``(N, rows)``.
        labels: 0, 1 or −1 (not labelled), shape ``(rows, m)``.

    Returns:
        Accuracies in [0, 1], shape ``(N, m)``; NaN where no row is labelled.

    Example:
        >>> preference_accuracies(torch.tensor([[2.0, -1.0, 0.0]]), torch.tensor([[0], [0], [1]]))
        tensor([[0.5000]])
    """
    signs = torch.where(labels == 0, 1, -1)
    correct = 0.5 * (1 + torch.sign(signs * margins.unsqueeze(-1)))
    labelled = labels >= 0
    return labelled_sum(correct, labelled, dim=1) / labelled.sum(dim=0)


def preference_front(
    model: nn.Module,
    objective: DPO,
    data: Sequence[Any],
    preferences: Tensor,
    batch_size: int = 16,
    *,
    metadata: Mapping[str, Any] | None = None,
    extra: Mapping[str, Sequence[Any]] | None = None,
    progress: bool = False,
) -> Front:
    """Held-out losses and preference accuracies at each preference ``(N, m)``, in evaluation mode.

    Args:
        model: the ``PreferenceModel``.
        objective: says which losses.
        data: rows, as for training.
        preferences: ``(N, m)``.
        batch_size: pairs in one forward.
        metadata: for the front.
        extra: more columns for the front.
        progress: show a progress bar.

    Returns:
        A front of the m losses (minimised), with an extra column ``accuracy_<objective>`` for each objective.
    """
    labels = objective.labels(data)
    with evaluation_mode(model):
        margins = objective.all_margins(model, data, preferences, batch_size, progress)
    accuracies = preference_accuracies(margins, labels)
    columns = {f"accuracy_{name}": accuracies[:, i].tolist() for i, name in enumerate(objective.names)}
    return Front(
        preferences=preferences,
        values=objective.losses_of_margins(margins, labels).numpy(),
        names=objective.names,
        extra={**columns, **(extra or {})},
        metadata=metadata,
    )


def reward_front(
    model: nn.Module,
    settings: RolloutSettings,
    data: Sequence[Any],
    preferences: Tensor,
    batch_size: int = 16,
    *,
    metadata: Mapping[str, Any] | None = None,
    with_kl: bool = True,
    **evaluation: Any,
) -> Front:
    """The front of mean rewards (maximised) at each preference ``(N, m)``, on held-out prompts with fresh samples.

    Args:
        model: the ``PreferenceModel``.
        settings: which rewards, and how responses are sampled; ``RLHF(…).settings``.
        data: rows, as for training.
        preferences: ``(N, m)``.
        batch_size: prompts in one forward.
        metadata: for the front.
        with_kl: also estimate the KL from the base model.
        **evaluation: ``samples_per_prompt``, ``seed`` and ``progress`` of :func:`evaluate_rewards`.

    Returns:
        A front with the extra columns ``standard_error_<name>``, ``kl``, ``mean_response_length`` and ``truncated``.
    """
    means = evaluate_rewards(model, settings, data, preferences, batch_size, with_kl=with_kl, **evaluation)
    errors = {f"standard_error_{name}": means.standard_errors[:, i].tolist() for i, name in enumerate(settings.names)}
    return Front(
        preferences=preferences,
        values=means.rewards.numpy(),
        names=settings.names,
        maximize=True,
        extra={
            **errors,
            **({"kl": means.kl.tolist()} if with_kl else {}),
            "mean_response_length": means.lengths.tolist(),
            "truncated": means.truncated.tolist(),
        },
        metadata=metadata,
    )
