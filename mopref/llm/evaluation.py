"""The front of a trained language model on held-out preference data."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mopref.evaluation_mode import evaluation_mode
from mopref.front import Front

if TYPE_CHECKING:
    from mopref.objectives.dpo import DPO

__all__ = ["preference_accuracies", "preference_front"]


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
    counted = labels >= 0
    return torch.where(counted, correct, torch.zeros_like(correct)).sum(dim=1) / counted.sum(dim=0)


def preference_front(
    model: nn.Module,
    objective: "DPO",
    data: Sequence[Any],
    preferences: Tensor,
    batch_size: int = 16,
    metadata: Mapping[str, Any] | None = None,
    extra: Mapping[str, Sequence[Any]] | None = None,
    progress: bool = False,
) -> Front:
    """Held-out losses and preference accuracies at each preference ``(N, m)``, in evaluation mode.

    Returns:
        A front of the m losses (minimised), with an extra column ``accuracy_<objective>`` for each objective.
    """
    labels = objective.labels(data)
    with evaluation_mode(model):
        margins = objective.all_margins(model, data, preferences, batch_size, progress)
    accuracies = preference_accuracies(margins, labels)
    columns = {f"accuracy_{name}": accuracies[:, i].tolist() for i, name in enumerate(objective.names)}
    return Front(
        preferences=preferences.cpu().numpy(),
        values=objective.losses_of_margins(margins, labels).numpy(),
        names=objective.names,
        extra={**columns, **(extra or {})},
        metadata=metadata,
    )
