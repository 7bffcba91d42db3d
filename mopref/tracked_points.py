"""The points that losses are measured from: each is given, or tracked in the losses that training passes through.

A scalarizer holds the points it needs, and passes what it observes on to them.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mopref._precision import are_finite
from mopref._repr import OptionsRepr
from mopref.argument_kinds import checked_kind, checks_arguments
from mopref.option_checks import Point, check_length, checked_non_negative, given_point, matching_point
from mopref.setting_types import python_value

__all__ = ["TrackedIdeal", "TrackedNadir", "difference_above"]


def difference_above(losses: Tensor, ideal: Tensor, remedy: str) -> Tensor:
    """f − z of losses f ``(…, m)`` and an ideal point z ``(m,)``, which lies below every loss: ``(…, m)``.

    Args:
        losses: f.
        ideal: z.
        remedy: what to do about an ideal point that lies too high, for the message.

    Raises:
        ValueError: an ideal point of another length, or one that lies above a loss.
    """
    point = matching_point(ideal, losses, "ideal point")
    difference = losses - point
    if difference.numel() == 0 or difference.detach().amin().item() >= 0:
        return difference
    # Rounding may put a loss that sits on the ideal point a hair below it.
    tolerance = 1e-5 * (1 + point.abs())
    below = difference.detach() < -tolerance
    if below.any():
        objective = int(below.nonzero()[0, -1])
        _check_losses(losses)
        lowest = losses.detach()[..., objective].min().item()
        raise ValueError(
            f"the ideal point's entry {objective} is {ideal[objective].item():g}, above a loss of {lowest:g}: an "
            f"ideal point lies below every loss. {remedy}"
        )
    return difference


class TrackedIdeal(OptionsRepr):
    """An ideal point z: given, or the running minimum of each loss seen, minus a margin.

    Args:
        ideal: z, m numbers (list, array or tensor); ``None`` to track it.
        margin: how far below the running minimum a tracked z lies, in units of the losses, ≥ 0.

    Raises:
        ValueError: an ideal point that is not a finite vector, or a negative margin.

    Attributes:
        tracked: whether the point follows what is observed.
        margin: as given.

    Example:
        >>> ideal = TrackedIdeal(margin=0.5)
        >>> ideal.observe(torch.tensor([[1.0, 4.0], [2.0, 3.0]]))
        >>> ideal.point
        tensor([0.5000, 2.5000], dtype=torch.float64)
    """

    def __init__(self, ideal: Point | None = None, margin: float = 0.0) -> None:
        self.margin = checked_non_negative(margin, "margin", "a tracked ideal point lies below the losses")
        self.tracked = ideal is None
        self._lowest: Tensor | None = None if ideal is None else given_point(ideal, "ideal")

    def options(self) -> dict[str, Any]:
        """The point where it is given, and the margin."""
        return {"ideal": None if self.tracked else self._lowest, "margin": self.margin}

    @property
    def point(self) -> Tensor | None:
        """z, shape ``(m,)``, float64 on the CPU; ``None`` while nothing was observed yet."""
        if self._lowest is None:
            return None
        return self._lowest - self.margin if self.tracked else self._lowest

    def check_objectives(self, num_objectives: int) -> None:
        """Refuse a point of another number of objectives, as :func:`mopref.option_checks.check_length` does."""
        check_length(self.point, num_objectives, "the tracked ideal point" if self.tracked else "ideal")

    @checks_arguments
    def observe(self, losses: Tensor) -> None:
        """Lower a tracked point to the smallest of these losses, shape ``(…, m)``; no effect on a given one."""
        if not self.tracked:
            return
        _check_losses(losses)
        self.check_objectives(losses.shape[-1])
        lowest = _finite_rows(losses).amin(dim=0)
        self._lowest = lowest if self._lowest is None else torch.minimum(self._lowest, lowest)

    def state_dict(self) -> dict[str, Any]:
        """The running minimum of a tracked point."""
        return {"lowest": self._lowest} if self.tracked else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state given by :meth:`state_dict`.

        Raises:
            ValueError: a state that is none; the point is unchanged then.
        """
        if self.tracked:
            self._lowest = _state_entry(state, "lowest", 1)


class TrackedNadir(OptionsRepr):
    """A nadir point n: given, or the componentwise maximum over the non-dominated among the last losses, plus a margin.

    A running maximum would be fixed for ever by the first, bad steps. Those are dominated as soon as training gets
    better, and leave the window in the end. A step costs O(window² m): about 0.2 ms with 256 rows.

    Args:
        nadir: n, m numbers (list, array or tensor); ``None`` to track it.
        margin: how far above that maximum a tracked n lies, in units of the losses, ≥ 0.
        window: how many rows are remembered, whatever the number of rows a step.

    Raises:
        ValueError: a nadir point that is not a finite vector, a negative margin, or a window below 1.

    Attributes:
        tracked: whether the point follows what is observed.
        margin: as given.
        window: as given.

    Example:
        >>> nadir = TrackedNadir()
        >>> nadir.observe(torch.tensor([[9.0, 9.0], [0.0, 2.0], [1.0, 0.0]]))
        >>> nadir.point
        tensor([1., 2.], dtype=torch.float64)
    """

    def __init__(self, nadir: Point | None = None, margin: float = 0.0, window: int = 256) -> None:
        self.window: int = python_value(window, int, "window")
        if self.window < 1:
            raise ValueError(f"window is {window}: at least one row has to be remembered.")
        self.margin = checked_non_negative(margin, "margin", "a tracked nadir point lies above the losses")
        self.tracked = nadir is None
        self._highest: Tensor | None = None if nadir is None else given_point(nadir, "nadir")
        self._rows: Tensor | None = None

    def options(self) -> dict[str, Any]:
        """The point where it is given, the margin and the window."""
        return {"nadir": None if self.tracked else self._highest, "margin": self.margin, "window": self.window}

    @property
    def point(self) -> Tensor | None:
        """n, shape ``(m,)``, float64 on the CPU; ``None`` while nothing was observed yet."""
        if self._highest is None:
            return None
        return self._highest + self.margin if self.tracked else self._highest

    def check_objectives(self, num_objectives: int) -> None:
        """Refuse a point of another number of objectives, as :func:`mopref.option_checks.check_length` does."""
        check_length(self.point, num_objectives, "the tracked nadir point" if self.tracked else "nadir")

    @checks_arguments
    def observe(self, losses: Tensor) -> None:
        """Remember the losses ``(…, m)`` and forget the oldest beyond the window; no effect on a given point."""
        if not self.tracked:
            return
        _check_losses(losses)
        self.check_objectives(losses.shape[-1])
        rows = _finite_rows(losses)
        # cat copies: the caller's tensor may change later.
        self._remember(torch.cat([rows] if self._rows is None else [self._rows, rows])[-self.window :])

    def state_dict(self) -> dict[str, Any]:
        """The rows that a tracked point is made from."""
        return {"rows": self._rows} if self.tracked else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state given by :meth:`state_dict`.

        Raises:
            ValueError: a state that is none; the point is unchanged then.
        """
        if not self.tracked:
            return
        rows = _state_entry(state, "rows", 2)
        # What is compared takes memory by the square of them.
        if rows is not None and len(rows) > self.window:
            raise ValueError(f"the state holds {len(rows)} rows, and the window is {self.window}: give one of its own.")
        self._rows = self._highest = None
        if rows is not None:
            self._remember(rows)

    def _remember(self, rows: Tensor) -> None:
        no_worse = torch.ones(len(rows), len(rows), dtype=torch.bool)
        for column in rows.T:
            no_worse &= column.unsqueeze(1) <= column
        # A row is dominated by one that is nowhere worse, and is not equal to it.
        dominated = (no_worse & ~no_worse.T).any(dim=0)
        self._rows, self._highest = rows, rows[~dominated].amax(dim=0)


def _check_losses(losses: Tensor) -> None:
    if losses.ndim == 0 or losses.numel() == 0:
        raise ValueError(f"losses have shape {tuple(losses.shape)}: give (…, m), one column for each objective.")


def _finite_rows(losses: Tensor) -> Tensor:
    """The losses as rows ``(N, m)``; one that is not finite would be the point's for ever."""
    rows = losses.detach().double().cpu().reshape(-1, losses.shape[-1])
    if not are_finite(rows):
        row, column = (int(i) for i in (~rows.isfinite()).nonzero()[0])
        raise ValueError(
            f"the loss of objective {column} is {rows[row, column].item()} in row {row}: no point can be tracked from "
            "it, so find out why it diverged."
        )
    return rows


def _state_entry(state: Any, name: str, dimensions: int) -> Tensor | None:
    """A tensor of a state, of so many dimensions; ``None`` where nothing was observed."""
    if not isinstance(state, Mapping) or set(state) != {name}:
        raise ValueError(f"the state is not one of {name!r} alone: give what state_dict() of the same part returned.")
    if state[name] is None:
        return None
    entry: Tensor = checked_kind(state[name], Tensor, name)
    if entry.ndim != dimensions or 0 in entry.shape or entry.dtype != torch.float64:
        raise ValueError(
            f"the state's {name} is {entry.dtype} of shape {tuple(entry.shape)}: give what state_dict() of the same "
            "part returned."
        )
    if not entry.isfinite().all():
        raise ValueError(
            f"the state's {name} holds values that are not finite: give what state_dict() of the same part returned."
        )
    return entry
