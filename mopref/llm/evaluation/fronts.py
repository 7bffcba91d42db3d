"""Fronts of a trained language model on held-out data: of losses on pairs and on single answers, and of rewards."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mopref._masked import labelled_sum
from mopref.conditioning.conditioned_model import check_objectives
from mopref.evaluation_mode import evaluation_mode
from mopref.front import Front
from mopref.llm.pairs import PairObjective
from mopref.llm.policy.policy import Policy
from mopref.llm.policy_gradient.reward_statistics import evaluate_rewards
from mopref.llm.policy_gradient.rollout import RolloutSettings
from mopref.mixed_precision import autocast, precision_name, recorded_mixed_precision
from mopref.objectives.kto import KTO
from mopref.preferences import validate_preferences

__all__ = ["answer_accuracies", "answer_front", "preference_accuracies", "preference_front", "reward_front"]


def preference_accuracies(margins: Tensor, labels: Tensor) -> Tensor:
    """The fraction of labelled rows on which the implicit reward prefers the labelled response; a draw counts half.

    Args:
        margins: d, the score of response 0 less that of response 1, shape ``(N, rows)``.
        labels: 0, 1 or −1 (not labelled), shape ``(rows, m)``.

    Returns:
        Accuracies in [0, 1], shape ``(N, m)``; NaN where no row is labelled.

    Example:
        >>> preference_accuracies(torch.tensor([[2.0, -1.0, 0.0]]), torch.tensor([[0], [0], [1]]))
        tensor([[0.5000]])
    """
    return _accuracies(margins, labels, upper=0)


def answer_accuracies(surplus: Tensor, labels: Tensor) -> Tensor:
    """The fraction of labelled answers whose implicit reward is above the reference point where they are good, and
    below it where they are bad; a draw counts half.

    Args:
        surplus: h − z, the implicit reward of an answer less the reference point, shape ``(N, rows)``.
        labels: 1 good, 0 bad or −1 (not labelled), shape ``(rows, m)``.

    Returns:
        Accuracies in [0, 1], shape ``(N, m)``; NaN where no row is labelled.

    Example:
        >>> answer_accuracies(torch.tensor([[2.0, -1.0, 0.0]]), torch.tensor([[1], [1], [0]]))
        tensor([[0.5000]])
    """
    return _accuracies(surplus, labels, upper=1)


def _accuracies(numbers: Tensor, labels: Tensor, upper: int) -> Tensor:
    """The share of labelled rows whose number is above 0 where the label is ``upper``, and below 0 elsewhere."""
    signs = torch.where(labels == upper, 1, -1)
    correct = 0.5 * (1 + torch.sign(signs * numbers.unsqueeze(-1)))
    labelled = labels >= 0
    return labelled_sum(correct, labelled, dim=1) / labelled.sum(dim=0)


def preference_front(
    model: nn.Module,
    objective: PairObjective,
    data: Sequence[Any],
    preferences: Any,
    batch_size: int = 16,
    *,
    mixed_precision: str | None = "auto",
    metadata: Mapping[str, Any] | None = None,
    extra: Mapping[str, Sequence[Any]] | None = None,
    progress: bool = False,
) -> Front:
    """Held-out losses and preference accuracies at each preference ``(N, m)``, in evaluation mode.

    Args:
        model: the ``PreferenceModel``.
        objective: says which losses.
        data: rows, as for training.
        preferences: ``(N, m)``, or by name.
        batch_size: pairs in one forward.
        mixed_precision: ``None``, "bf16" or "fp16"; "auto" for that in which the rows' references, or their
            activations where there are none, were computed.
        metadata: for the front.
        extra: more columns for the front.
        progress: show a progress bar.

    Returns:
        A front of the m losses (minimised), with an extra column ``accuracy_<objective>`` for each objective. Its
        metadata say the precision.

    Raises:
        ValueError: a model or rows with other objectives, preferences that do not lie on the simplex, rows that are not
            tokenised or longer than the model has positions for, or references of another model or precision.
        TypeError: data whose rows cannot be counted, or had by their number.
    """
    recorded = "reference" if objective.needs_reference else "hidden_states"
    options: dict[str, Any] = {"recorded": recorded, "metadata": metadata, "extra": extra, "progress": progress}

    def measure(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        accuracies = preference_accuracies(scores[..., 0] - scores[..., 1], labels)
        return objective.losses_of_scores(scores, labels), accuracies

    function = objective.all_scores
    return _loss_front(model, objective, function, measure, data, preferences, batch_size, mixed_precision, **options)


def answer_front(
    model: nn.Module,
    objective: KTO,
    data: Sequence[Any],
    preferences: Any,
    batch_size: int = 16,
    *,
    mixed_precision: str | None = "auto",
    metadata: Mapping[str, Any] | None = None,
    extra: Mapping[str, Sequence[Any]] | None = None,
    progress: bool = False,
) -> Front:
    """Held-out losses of good and bad answers, and accuracies, at each preference ``(N, m)``, in evaluation mode.

    The reference point z of a preference comes from all rows, as in ``KTO.mean_losses``.

    Args:
        model: the ``PreferenceModel``.
        objective: says which losses.
        data: rows, as for training, with mismatched responses of their own.
        preferences: ``(N, m)``, or by name.
        batch_size: answers in one forward.
        mixed_precision: ``None``, "bf16" or "fp16"; "auto" for that in which the rows' references were computed.
        metadata: for the front.
        extra: more columns for the front.
        progress: show a progress bar.

    Returns:
        A front of the m losses (minimised), with an extra column ``accuracy_<objective>`` for each objective, see
        :func:`answer_accuracies`. Its metadata say the precision.

    Raises:
        ValueError: what :func:`preference_front` refuses, or fewer rows than the reference point is estimated from.
        TypeError: data whose rows cannot be counted, or had by their number.
    """
    objective.refuse_few_rows(len(objective.labels(data)), "by more data")
    options: dict[str, Any] = {"recorded": "reference", "metadata": metadata, "extra": extra, "progress": progress}

    def measure(ratios: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        accuracies = answer_accuracies(ratios[..., 0] - objective.reference_points(ratios), labels)
        return objective.losses_of_log_ratios(ratios, labels), accuracies

    function = objective.all_log_ratios
    return _loss_front(model, objective, function, measure, data, preferences, batch_size, mixed_precision, **options)


def _loss_front(
    model: nn.Module,
    objective: PairObjective | KTO,
    function: Callable[..., Tensor],
    measure: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    data: Sequence[Any],
    preferences: Any,
    batch_size: int,
    mixed_precision: str | None,
    *,
    recorded: str,
    metadata: Mapping[str, Any] | None,
    extra: Mapping[str, Sequence[Any]] | None,
    progress: bool,
) -> Front:
    """The front of what ``measure`` makes, losses and accuracies ``(N, m)``, of ``function``'s numbers of all rows."""
    labels = objective.labels(data)
    objective.refuse_unlabelled((labels >= 0).sum(dim=0))
    check_objectives(model, objective.names, type(objective).__name__)
    matrix = validate_preferences(preferences, objective.names)
    if mixed_precision == "auto":
        mixed_precision = recorded_mixed_precision(data, recorded)
    precision, device = precision_name(model, mixed_precision), Policy(model).device
    objective.check_data(model, data, precision)
    with evaluation_mode(model), autocast(device, mixed_precision):
        numbers = function(model, data, matrix.to(device, torch.float32), batch_size, progress)
    losses, accuracies = measure(numbers, labels)
    columns = {f"accuracy_{name}": accuracies[:, i].tolist() for i, name in enumerate(objective.names)}
    return Front(
        preferences=matrix.detach().cpu().numpy(),
        values=losses.numpy(),
        names=objective.names,
        extra={**columns, **(extra or {})},
        metadata={"precision": precision, **(metadata or {})},
        convention=Policy(model).conditioned.preference_convention,
    )


def reward_front(
    model: nn.Module,
    settings: RolloutSettings,
    data: Sequence[Any],
    preferences: Any,
    batch_size: int = 16,
    *,
    mixed_precision: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    with_kl: bool = True,
    **evaluation: Any,
) -> Front:
    """The front of mean rewards (maximised) at each preference ``(N, m)``, on held-out prompts with fresh samples.

    Args:
        model: the ``PreferenceModel``.
        settings: which rewards, and how responses are sampled; ``RLHF(…).settings``.
        data: rows, as for training.
        preferences: ``(N, m)``, or by name.
        batch_size: prompts in one forward.
        mixed_precision: ``None``, "bf16" or "fp16": what the model is run in.
        metadata: for the front.
        with_kl: also estimate the KL from the base model.
        **evaluation: ``samples_per_prompt``, ``seed`` and ``progress`` of :func:`evaluate_rewards`.

    Returns:
        A front with the extra columns ``standard_error_<name>``, ``kl``, ``mean_response_length`` and ``truncated``.
        Its metadata say the precision.

    Raises:
        ValueError: a model with other objectives, preferences that do not lie on the simplex, or rows that are no
            prompts.
        TypeError: data whose rows cannot be counted, or had by their number.
    """
    matrix = validate_preferences(preferences, settings.names)
    precision = precision_name(model, mixed_precision)
    with autocast(Policy(model).device, mixed_precision):
        means = evaluate_rewards(model, settings, data, matrix, batch_size, with_kl=with_kl, **evaluation)
    errors = {f"standard_error_{name}": means.standard_errors[:, i].tolist() for i, name in enumerate(settings.names)}
    return Front(
        preferences=matrix.detach().cpu().numpy(),
        values=means.rewards.numpy(),
        names=settings.names,
        maximize=True,
        extra={
            **errors,
            **({"kl": means.kl.tolist()} if with_kl else {}),
            "mean_response_length": means.lengths.tolist(),
            "truncated": means.truncated.tolist(),
        },
        metadata={"precision": precision, **(metadata or {})},
        convention=Policy(model).conditioned.preference_convention,
    )
