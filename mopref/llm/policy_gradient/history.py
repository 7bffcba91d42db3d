"""What rollouts earned: a record for each preference of each rollout, and means for the log."""

import math
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from mopref.llm.engines.engine import mean_difference
from mopref.llm.policy_gradient.rollout import Rollout
from mopref.objective import Metric

__all__ = ["HISTORY_LIMIT", "RolloutHistory", "engine_metrics"]

# So many of the latest records are kept: 25,000 steps of four preferences, in some 9 MB.
HISTORY_LIMIT = 100_000


class RolloutHistory:
    """Records of rollouts: ``preference/<name>`` and means over the preference's responses.

    They are kept as columns of numbers, in a tenth of the memory of dicts, and the oldest go where there are too many.

    Args:
        names: of the objectives, those of the rewards first.
        limit: the most records that are kept.
    """

    def __init__(self, names: Sequence[str], limit: int = HISTORY_LIMIT) -> None:
        self.names, self.limit = tuple(names), limit
        self._columns: dict[str, array[float]] = {}

    def __len__(self) -> int:
        return max(map(len, self._columns.values()), default=0)

    @property
    def records(self) -> list[dict[str, float]]:
        """One dict for each preference of each rollout, made anew at every call."""
        # What a record does not have is NaN; what was measured never is, since a reward that is none is refused.
        columns = self._columns.items()
        return [
            {key: column[row] for key, column in columns if not math.isnan(column[row])} for row in range(len(self))
        ]

    def add(self, rollout: Rollout, preferences: Tensor, importance_limit: float = math.inf) -> dict[str, Metric]:
        """Add a rollout under preferences ``(G, m)``, an equal share of its responses under each.

        Args:
            rollout: the responses.
            preferences: ``(G, m)``.
            importance_limit: C of the weights of an engine's tokens.

        Returns:
            The rollout's means for the log: of every column but the preferences, and ``response_length/<name>``, the
            mean length with each preference weighted by its λ_i, which says how long responses are where that objective
            counts. Of an engine's rollout also :func:`engine_metrics`.
        """
        # The pull is no reward: it is told by the KL.
        columns = {f"reward/{self.names[i]}": values for i, values in enumerate(rollout.rewards.T)}
        if rollout.reference_log_probabilities is not None:
            columns["kl"] = rollout.log_ratios.sum(dim=1)
        columns |= {"response_length": rollout.lengths, "truncated": rollout.truncated}
        groups = len(preferences)
        means = {key: values.double().view(groups, -1).mean(dim=1) for key, values in columns.items()}
        weights = {name: preferences[:, i].double().cpu() for i, name in enumerate(self.names)}
        table = {f"preference/{name}": values for name, values in weights.items()} | means
        self._append({key: values.tolist() for key, values in table.items()}, groups)
        metrics = {key: Metric(values.mean().item()) for key, values in means.items()}
        for name, values in weights.items():
            if values.sum() > 0:
                mean = (values * means["response_length"]).sum() / values.sum()
                metrics[f"response_length/{name}"] = Metric(mean.item(), values.sum().item())
        return metrics | engine_metrics(rollout, importance_limit)

    def state_dict(self) -> dict[str, list[float | None]]:
        """The columns, ``None`` where a record has no such number."""
        return {
            key: [None if math.isnan(number) else number for number in column] for key, column in self._columns.items()
        }

    def load_state_dict(self, state: Mapping[str, Sequence[float | None]] | Sequence[Mapping[str, Any]]) -> None:
        """Continue from a state given by :meth:`state_dict`, or from the records that earlier versions kept."""
        if not isinstance(state, Mapping):
            state = {key: [record.get(key) for record in state] for record in state for key in record}
        self._columns = {
            key: array("d", (math.nan if number is None else number for number in column))
            for key, column in state.items()
        }
        self._drop_oldest()

    def _append(self, table: Mapping[str, Sequence[float]], count: int) -> None:
        before = len(self)
        for key in table:
            self._columns.setdefault(key, array("d", [math.nan]) * before)
        for key, column in self._columns.items():
            column.extend(table.get(key, [math.nan] * count))
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        excess = len(self) - self.limit
        if excess > 0:
            for column in self._columns.values():
                del column[:excess]


def engine_metrics(rollout: Rollout, limit: float) -> dict[str, Metric]:
    """How far an engine samples from the policy: means over the tokens of its rollout.

    ``engine/difference`` is |log π − log π_engine| in nats, and ``engine/truncated`` the fraction of tokens for which
    π/π_engine is larger than the limit C. Nothing where the model sampled itself.
    """
    if rollout.engine_log_probabilities is None:
        return {}
    mask = rollout.sequences.response_mask.cpu()
    tokens = int(mask.sum())
    own, told = rollout.log_probabilities, rollout.engine_log_probabilities
    truncated = (rollout.importance_weights(math.inf) > limit)[mask].double().mean().item()
    return {
        "engine/difference": Metric(mean_difference(own, told, mask), tokens),
        "engine/truncated": Metric(truncated, tokens),
    }
