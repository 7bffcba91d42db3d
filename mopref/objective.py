"""Objective: what is minimised. From a model, a batch and preferences to one vector of m losses per preference."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

__all__ = ["Objective", "RowLosses", "RowObjective"]


class Objective(ABC):
    """m losses to be minimised together, one vector per preference.

    A new objective sets :attr:`names` and implements :meth:`losses`. Rewards (higher is better) become losses by
    their sign here, once, and nowhere else.
    """

    names: tuple[str, ...]

    @property
    def num_objectives(self) -> int:
        """The number of objectives m."""
        return len(self.names)

    @abstractmethod
    def losses(self, model: nn.Module, batch: Any, preferences: Tensor) -> Tensor:
        """The mean losses of each preference group: preferences ``(G, m)`` to losses ``(G, m)``, differentiable.

        The batch's rows are shared evenly among the groups, in order: with B rows, group g has the rows
        g·B/G … (g+1)·B/G − 1. ``batch`` is ``None`` where there is no training data.
        """

    def collate(self, rows: list[Any]) -> Any:
        """Make a batch of data rows; PyTorch's default collation here."""
        return default_collate(rows)

    def prepare_model(self, model: nn.Module) -> None:  # noqa: B027 - an optional hook
        """Add to the model what is trained with it, such as a critic; called before there is an optimiser."""

    def updates(self, model: nn.Module, batch: Any, preferences: Tensor) -> list[tuple[Any, Tensor]]:
        """What the optimiser steps from one draw of data and preferences are made of: one step here.

        An objective that samples (responses of a language model, say) does so here, and may use the samples for
        several steps: each entry is a batch and its preferences, for :meth:`losses`. A batch that waits is part of a
        checkpoint, so it consists of tensors, numbers, texts and containers.
        """
        return [(batch, preferences)]

    def auxiliary_loss(self) -> Tensor | None:
        """A scalar to be minimised beside the scalarized losses, whatever λ; ``None`` for nothing.

        Called once after each :meth:`losses`, and made of the same forward: a critic's loss, say.
        """
        return None

    def metrics(self) -> dict[str, float]:
        """What to log beside the losses: means since the last call."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold; empty for an objective without a state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 - an optional hook
        """Continue from a state given by :meth:`state_dict`."""

    def labelled(self, data: Sequence[Any]) -> Tensor | None:
        """Which row bears on which objective: ``(rows, m)`` bool, or ``None`` when every row bears on all."""
        return None

    def mean_losses(self, model: nn.Module, data: Sequence[Any] | None, preferences: Tensor, batch_size: int) -> Tensor:
        """The losses over the whole of ``data`` at each preference, ``(N, m)`` to ``(N, m)``, without gradients."""
        if data is not None:
            raise NotImplementedError(
                f"{type(self).__name__} does not say how to evaluate on data: implement mean_losses(), or derive from "
                "RowObjective."
            )
        with torch.no_grad():
            return self.losses(model, None, preferences)


class RowLosses(NamedTuple):
    """Losses of single rows: ``values`` ``(B, m)``, and ``labelled`` ``(B, m)`` bool, where a value counts."""

    values: Tensor
    labelled: Tensor


class RowObjective(Objective):
    """An objective whose losses are means over data rows, each row with a label on some or all objectives.

    A new one implements :meth:`row_losses`; group means, masks and evaluation are handled here.
    """

    @abstractmethod
    def row_losses(self, model: nn.Module, batch: Any, preferences: Tensor) -> RowLosses:
        """Losses of every row under its own preference: B rows and preferences ``(B, m)`` to values ``(B, m)``."""

    @abstractmethod
    def num_rows(self, batch: Any) -> int:
        """How many rows a batch has."""

    def losses(self, model: nn.Module, batch: Any, preferences: Tensor) -> Tensor:
        """Mean over the labelled rows of each group, ``(G, m)``.

        Raises:
            ValueError: rows that cannot be shared evenly, or a group without any row labelled on some objective.
        """
        rows, groups = self.num_rows(batch), preferences.shape[0]
        if rows % groups:
            raise ValueError(
                f"a batch of {rows} rows cannot be shared evenly among {groups} preferences: make the batch size a "
                "multiple of the preferences per step."
            )
        values, labelled = self.row_losses(model, batch, preferences.repeat_interleave(rows // groups, dim=0))
        counts = labelled.view(groups, -1, self.num_objectives).sum(dim=1)
        if (counts == 0).any():
            group, objective = (int(i) for i in (counts == 0).nonzero()[0])
            raise ValueError(
                f"group {group} has no row labelled on {self.names[objective]!r}, so that loss has no value: use "
                "larger batches or fewer preferences per step, or compose batches with GroupBatchSampler."
            )
        # where, not a product: an unlabelled row may hold anything, NaN included.
        kept = torch.where(labelled, values, torch.zeros_like(values))
        return kept.view(groups, -1, self.num_objectives).sum(dim=1) / counts

    def mean_losses(self, model: nn.Module, data: Sequence[Any] | None, preferences: Tensor, batch_size: int) -> Tensor:
        """Mean losses over the labelled rows of ``data`` at each preference, ``(N, m)`` to ``(N, m)``, no gradients.

        Raises:
            ValueError: no data, or no row labelled on some objective.
        """
        if data is None or len(data) == 0:
            raise ValueError(f"{type(self).__name__} has nothing to evaluate on: give data with at least one row.")
        totals = torch.zeros(preferences.shape, dtype=torch.float64)
        counts = torch.zeros(self.num_objectives, dtype=torch.float64)
        with torch.no_grad():
            for start in range(0, len(data), batch_size):
                batch = self.collate([data[i] for i in range(start, min(start + batch_size, len(data)))])
                batch = _to_device_of(model, batch)
                for index, preference in enumerate(preferences):
                    values, labelled = self.row_losses(model, batch, preference.expand(self.num_rows(batch), -1))
                    kept = torch.where(labelled, values, torch.zeros_like(values))
                    totals[index] += kept.sum(dim=0).double().cpu()
                counts += labelled.sum(dim=0).double().cpu()
        if (counts == 0).any():
            raise ValueError(f"no row is labelled on {self.names[int((counts == 0).nonzero()[0])]!r}.")
        return totals / counts


def _to_device_of(model: nn.Module, batch: Any) -> Any:
    from accelerate.utils import send_to_device

    return send_to_device(batch, next(model.parameters()).device)
