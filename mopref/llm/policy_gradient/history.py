"""What rollouts earned: a record for each preference of each rollout, and means for the log."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

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
        self._logged = 0

    def add(self, preferences: Tensor, columns: Mapping[str, Tensor]) -> None:
        """Add a rollout under preferences ``(G, m)``; each column holds a number for each response, ``(N,)``."""
        groups = len(preferences)
        table = {f"preference/{name}": preferences[:, i].tolist() for i, name in enumerate(self.names)}
        table |= {key: values.double().view(groups, -1).mean(dim=1).tolist() for key, values in columns.items()}
        self.records += [{key: column[group] for key, column in table.items()} for group in range(groups)]

    def means(self) -> dict[str, float]:
        """Means of the columns since the last call; empty if nothing was added.

        And ``response_length/<name>``, the mean of ``response_length`` with each preference weighted by its λ_i: how
        long responses are where that objective counts.
        """
        records, self._logged = self.records[self._logged :], len(self.records)
        if not records:
            return {}
        keys = [key for key in records[0] if not key.startswith("preference/")]
        means = {key: sum(record[key] for record in records) / len(records) for key in keys}
        for name in self.names:
            weights = [record[f"preference/{name}"] for record in records]
            if sum(weights) > 0:
                lengths = [record["response_length"] for record in records]
                weighted = sum(weight * length for weight, length in zip(weights, lengths, strict=True))
                means[f"response_length/{name}"] = weighted / sum(weights)
        return means

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        return {"records": self.records, "logged": self._logged}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state given by :meth:`state_dict`."""
        self.records, self._logged = list(state["records"]), state["logged"]
