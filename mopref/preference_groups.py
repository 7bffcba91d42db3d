"""Groups of rows, each under one preference."""

from collections.abc import Sequence

from torch import Tensor

from mopref.argument_kinds import checks_arguments
from mopref.setting_types import check_numbers

__all__ = ["refuse_empty_groups", "spread_evenly"]


def refuse_empty_groups(weights: Tensor, names: Sequence[str]) -> None:
    """Refuse groups whose loss has no value, by what their means count ``(G, m)``.

    Raises:
        ValueError: a group without any row labelled on some objective.
    """
    if (weights == 0).any():
        group, objective = (int(i) for i in (weights == 0).nonzero()[0])
        raise ValueError(
            f"group {group} has no row labelled on {names[objective]!r}, so that loss has no value: use larger batches "
            "or fewer preferences per step, or compose batches with GroupBatchSampler."
        )


@checks_arguments
def spread_evenly(preferences: Tensor, rows: int) -> Tensor:
    """Each of G preferences for an equal share of the rows, in order: ``(G, m)`` to ``(rows, m)``.

    Raises:
        ValueError: rows that cannot be shared evenly, or none, or no preference.

    Example:
        >>> import torch
        >>> spread_evenly(torch.eye(2), 4)[:, 0]
        tensor([1., 1., 0., 0.])
    """
    check_numbers({"rows": rows})
    if rows < 1 or preferences.ndim != 2 or len(preferences) == 0:
        raise ValueError(
            f"{rows} rows for preferences of shape {tuple(preferences.shape)}: give one row at least, and "
            "preferences (G, m), one at least."
        )
    if rows % len(preferences):
        raise ValueError(
            f"a batch of {rows} rows cannot be shared evenly among {len(preferences)} preferences: make the batch size "
            "a multiple of the preferences per step."
        )
    return preferences.repeat_interleave(rows // len(preferences), dim=0)
