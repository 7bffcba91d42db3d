"""An estimate of the nadir point from the losses seen in training."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["NadirTracker"]


class NadirTracker:
    """The componentwise maximum over the non-dominated rows among the last losses seen.

    A running maximum would be fixed for ever by the first, bad steps. Those are dominated as soon as training gets
    better, and leave the window in the end. A step costs O(window² m): about 0.2 ms with 256 rows.

    Args:
        window: how many rows are remembered, whatever the number of rows a step.

    Raises:
        ValueError: a window below 1.

    Attributes:
        nadir: the estimate, ``(m,)``, float64 on the CPU; ``None`` while nothing was observed yet.

    Example:
        >>> tracker = NadirTracker()
        >>> tracker.observe(torch.tensor([[9.0, 9.0], [0.0, 2.0], [1.0, 0.0]]))
        >>> tracker.nadir
        tensor([1., 2.], dtype=torch.float64)
    """

    def __init__(self, window: int = 256) -> None:
        if not window >= 1:
            raise ValueError(f"window is {window}: at least one row has to be remembered.")
        self.window = window
        self.nadir: Tensor | None = None
        self._rows: Tensor | None = None

    def observe(self, losses: Tensor) -> None:
        """Remember the losses ``(…, m)`` and forget the oldest beyond the window."""
        seen = losses.detach().double().cpu().reshape(-1, losses.shape[-1])
        # cat copies: the caller's tensor may change later.
        self._remember(torch.cat([seen] if self._rows is None else [self._rows, seen])[-self.window :])

    def state_dict(self) -> dict[str, Any]:
        """The rows remembered."""
        return {"rows": self._rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state given by :meth:`state_dict`."""
        self._rows = self.nadir = None
        if state["rows"] is not None:
            self._remember(state["rows"])

    def _remember(self, rows: Tensor) -> None:
        no_worse = torch.ones(len(rows), len(rows), dtype=torch.bool)
        for column in rows.T:
            no_worse &= column.unsqueeze(1) <= column
        # A row is dominated by one that is nowhere worse, and is not equal to it.
        dominated = (no_worse & ~no_worse.T).any(dim=0)
        self._rows, self.nadir = rows, rows[~dominated].amax(dim=0)
