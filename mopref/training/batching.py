"""Composition of training batches: every preference group gets rows of every objective."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mopref._repr import OptionsRepr

__all__ = ["GroupBatchSampler"]


class GroupBatchSampler(OptionsRepr, Iterator[list[int]]):
    """Endless shuffled batches of row indices, of which every group holds a row labelled on every objective.

    A batch is cut into ``groups`` equal blocks, one for each preference of a step. A row waits in a shuffled queue
    until it is used; where a group still lacks an objective, the next row in the queue that has it is drawn first.
    With fully labelled rows this is plain shuffling, each row once an epoch.

    Args:
        labelled: bool, shape ``(rows, m)``: which row bears on which objective.
        batch_size: rows in a batch.
        groups: preference groups in a batch.
        seed: seeds the sampler's own generator.

    Raises:
        ValueError: no rows, an objective without any row, a batch that cannot be cut evenly, or groups too small to
            hold a row of every objective.
    """

    def __init__(self, labelled: Tensor, batch_size: int, groups: int, seed: int | list[int] = 0) -> None:
        if labelled.ndim != 2 or labelled.shape[0] == 0:
            raise ValueError(f"labelled has shape {tuple(labelled.shape)}: give (rows, m) with at least one row.")
        if groups < 1 or batch_size < groups or batch_size % groups:
            raise ValueError(
                f"a batch of {batch_size} rows cannot be cut evenly into {groups} preference groups: make batch_size "
                "a multiple of preferences_per_step."
            )
        counts = labelled.sum(dim=0)
        if (counts == 0).any():
            raise ValueError(
                f"no row is labelled on objective {int((counts == 0).nonzero()[0])}: nothing could be learned for it."
            )
        rows_per_group = batch_size // groups
        if not bool(labelled.all()) and rows_per_group < labelled.shape[1]:
            raise ValueError(
                f"a preference group has {rows_per_group} rows ({batch_size} rows for {groups} preferences), too few "
                f"to hold a row of each of the {labelled.shape[1]} objectives when rows are only partly labelled: use "
                "larger batches or fewer preferences per step."
            )
        self._labelled = labelled.cpu().numpy().astype(bool)
        self._rows_per_group = rows_per_group
        self._groups = groups
        self._generator = np.random.default_rng(seed)
        self._queue: deque[int] = deque()

    def options(self) -> dict[str, Any]:
        """The labels and the sizes, as the class takes them; the seed belongs to a run."""
        return {
            "labelled": self._labelled,
            "batch_size": self._rows_per_group * self._groups,
            "groups": self._groups,
        }

    def __next__(self) -> list[int]:
        """The next batch: row indices, ordered by group."""
        return [row for _ in range(self._groups) for row in self._group()]

    def _group(self) -> list[int]:
        missing = np.ones(self._labelled.shape[1], dtype=bool)
        group: list[int] = []
        while len(group) < self._rows_per_group:
            row = self._draw(missing)
            missing &= ~self._labelled[row]
            group.append(row)
        # The rows drawn for coverage come first; without a shuffle their place would tell their kind.
        self._generator.shuffle(group)
        return group

    def _draw(self, missing: np.ndarray) -> int:
        """Take the first waiting row that bears on a missing objective, or simply the first when none is missing."""
        start = 0
        while True:
            for position in range(start, len(self._queue)):
                row = self._queue[position]
                if not missing.any() or (self._labelled[row] & missing).any():
                    del self._queue[position]
                    return row
            start = len(self._queue)
            self._queue.extend(self._generator.permutation(len(self._labelled)).tolist())

    def state_dict(self) -> dict[str, Any]:
        """The rows that wait and the generator's state."""
        return {
            "queue": torch.tensor(list(self._queue), dtype=torch.int64),
            "generator": self._generator.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state given by :meth:`state_dict`."""
        self._queue = deque(state["queue"].tolist())
        self._generator.bit_generator.state = state["generator"]
