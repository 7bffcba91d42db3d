"""What rollouts earned: a record for each preference of each rollout, and means for the log."""

from collections.abc import Sequence

from torch import Tensor

from mopref.llm.policy_gradient.rollout import Rollout
from mopref.objective import Metric

__all__ = ["RolloutHistory"]


class RolloutHistory:
    """Records of rollouts: ``preference/<name>`` and means over the preference's responses.

    Args:
        names: of the m objectives.

    Attributes:
        records: one dict for each preference of each rollout.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.records: list[dict[str, float]] = []

    def add(self, rollout: Rollout, preferences: Tensor) -> dict[str, Metric]:
        """Add a rollout under preferences ``(G, m)``, an equal share of its responses under each.

        Returns:
            The rollout's means for the log: of every column but the preferences, and ``response_length/<name>``, the
            mean length with each preference weighted by its λ_i, which says how long responses are where that objective
            counts.
        """
        columns = {f"reward/{name}": rollout.rewards[:, i] for i, name in enumerate(self.names)}
        if rollout.reference_log_probabilities is not None:
            columns["kl"] = rollout.log_ratios.sum(dim=1)
        columns |= {"response_length": rollout.lengths, "truncated": rollout.truncated}
        groups = len(preferences)
        means = {key: values.double().view(groups, -1).mean(dim=1) for key, values in columns.items()}
        weights = {name: preferences[:, i].double().cpu() for i, name in enumerate(self.names)}
        table = {f"preference/{name}": values for name, values in weights.items()} | means
        self.records += [{key: values[group].item() for key, values in table.items()} for group in range(groups)]
        metrics = {key: Metric(values.mean().item()) for key, values in means.items()}
        for name, values in weights.items():
            if values.sum() > 0:
                mean = (values * means["response_length"]).sum() / values.sum()
                metrics[f"response_length/{name}"] = Metric(mean.item(), values.sum().item())
        return metrics
