"""What a log shows of pairs beside their losses: implicit rewards, margins and accuracies of each objective."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mopref._masked import labelled_sum
from mopref.objective import Metric

__all__ = ["column_metrics", "pair_metrics"]


def pair_metrics(names: Sequence[str], rewards: Tensor, labels: Tensor) -> dict[str, Metric | float]:
    """Means over the pairs that are labelled on each objective, weighted by their number.

    Args:
        names: of the m objectives.
        rewards: the implicit reward of both responses, ``(B, 2)``, higher is better.
        labels: 0, 1 or −1 (not labelled), shape ``(B, m)``.

    Returns:
        For each objective ``reward_chosen/<name>`` and ``reward_rejected/<name>``; ``margin/<name>``, the first less
        the second; and ``accuracy/<name>``, the share of pairs with a margin above 0, a draw counted half.

    Example:
        >>> metrics = pair_metrics(["brief"], torch.tensor([[2.0, 1.0], [0.5, 0.0]]), torch.tensor([[0], [1]]))
        >>> {name: float(metric.value) for name, metric in metrics.items()}
        {'reward_chosen/brief': 1.0, 'reward_rejected/brief': 0.75, 'margin/brief': 0.25, 'accuracy/brief': 0.5}
    """
    rewards, labelled = rewards.detach().unsqueeze(1), labels >= 0
    is_second = labels == 1
    chosen = torch.where(is_second, rewards[..., 1], rewards[..., 0])
    rejected = torch.where(is_second, rewards[..., 0], rewards[..., 1])
    margins = chosen - rejected
    columns = {
        "reward_chosen": chosen,
        "reward_rejected": rejected,
        "margin": margins,
        "accuracy": 0.5 * (1 + torch.sign(margins)),
    }
    return column_metrics(names, {column: (part, labelled) for column, part in columns.items()})


def column_metrics(names: Sequence[str], columns: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Metric | float]:
    """``<column>/<name>``: means over the rows that count, weighted by their number.

    Args:
        names: of the m objectives.
        columns: values that broadcast to ``(B, m)``, and which of them count, bool ``(B, m)``.
    """
    metrics: dict[str, Metric | float] = {}
    for column, (values, counted) in columns.items():
        counts = counted.sum(dim=0)
        means = labelled_sum(values, counted, dim=0) / counts.clamp(min=1)
        metrics |= {f"{column}/{name}": Metric(means[index], counts[index]) for index, name in enumerate(names)}
    return metrics
