"""Training rows at the door, and the composition of batches: every preference group gets rows of every objective."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mopref._arrays import refuse_tensor_without_numbers
from mopref._repr import OptionsRepr
from mopref.data_rows import checked_rows
from mopref.mixed_precision import precision_name
from mopref.objective import Objective

__all__ = ["GroupBatchSampler", "labelled_rows"]


def labelled_rows(
    model: nn.Module, objective: Objective, train_data: Sequence[Any] | None, mixed_precision: str | None
) -> Tensor | None:
    """Which training row bears on which objective, ``(rows, m)`` bool; ``None`` where there are no rows.

    Args:
        model: the model, with which the rows must go.
        objective: the objective, whose rows they must be.
        train_data: the rows, if any.
        mixed_precision: what the model is to run in, as the config has it.

    Raises:
        ValueError: no row where the objective is trained on some, or rows that the objective or the model refuses.
        TypeError: data whose rows cannot be counted or had by their number, or an objective that labels them by no
            tensor.
    """
    if train_data is None and not objective.needs_data:
        return None
    if train_data is None:
        raise ValueError(f"train_data is None, but {type(objective).__name__} is trained on data rows: give some.")
    if len(checked_rows(train_data, "train_data")) == 0:
        raise ValueError("train_data has no row: give at least one.")
    labelled = objective.labelled(train_data)
    objective.check_data(model, train_data, precision_name(model, mixed_precision))
    expected = (len(train_data), objective.num_objectives)
    if labelled is None:
        return torch.ones(expected, dtype=torch.bool)
    if not isinstance(labelled, Tensor):
        raise TypeError(
            f"{type(objective).__name__}.labelled returned a {type(labelled).__name__}: it must return a tensor of "
            "bools, one row for each row of data, one column for each objective, or None."
        )
    if labelled.shape != expected or labelled.dtype != torch.bool:
        raise ValueError(
            f"{type(objective).__name__}.labelled returned {labelled.dtype} of shape {tuple(labelled.shape)}, not "
            f"bools of shape {expected}: one row for each row of data, one column for each objective."
        )
    return labelled


class GroupBatchSampler(OptionsRepr, Iterator[list[int]]):
    """Endless shuffled batches of row indices, of which every group holds a row labelled on every objective.

    A batch is cut into ``groups`` equal blocks, one for each preference of a step. Rows with the same labels wait in a
    shuffled queue of their own, which is shuffled anew when it is used up: each of them once an epoch of that queue.
    A draw takes the next row of the queue that has been used least, for its number of rows; where a group still lacks
    an objective, of the queues whose rows have it. So a draw costs the same at any step, and the queues hold each row
    once at most. With fully labelled rows this is plain shuffling, each row once an epoch.

    Args:
        labelled: bool, shape ``(rows, m)``: which row bears on which objective.
        batch_size: rows in a batch.
        groups: preference groups in a batch.
        seed: seeds the sampler's own generator.

    Raises:
        ValueError: no rows, an objective without any row, a batch that cannot be cut evenly, or groups too small to
            hold a row of every objective; or labels that are sparse or on the meta device.
    """

    def __init__(self, labelled: Tensor, batch_size: int, groups: int, seed: int | list[int] = 0) -> None:
        refuse_tensor_without_numbers(labelled, "labelled")
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
        # The kinds of labels, (kinds, m), the kind of each row, and the rows of each kind.
        self._kinds, kind_of_row = np.unique(self._labelled, axis=0, return_inverse=True)
        self._kind_of_row = kind_of_row.reshape(-1)
        order = np.argsort(self._kind_of_row, kind="stable")
        self._sizes = np.bincount(self._kind_of_row)
        self._rows = np.split(order, np.cumsum(self._sizes)[:-1])
        # Of each kind: its rows in the order of the queue, the next one last; how many of them, from the first on, wait
        # still; and how many were drawn so far.
        self._queues: list[NDArray[np.int64]] = [rows[:0] for rows in self._rows]
        self._waiting = np.zeros(len(self._rows), dtype=np.int64)
        self._drawn = np.zeros(len(self._rows), dtype=np.int64)

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

    def _draw(self, missing: NDArray[np.bool_]) -> int:
        """The next row of the kind that has been used least, of those with a missing objective where there is one."""
        usage = (self._drawn + 0.5) / self._sizes
        if missing.any():
            usage = np.where((self._kinds & missing).any(axis=1), usage, np.inf)
        kind = int(usage.argmin())
        if self._waiting[kind] == 0:
            rows = self._rows[kind]
            self._queues[kind] = rows[self._generator.permutation(len(rows))][::-1]
            self._waiting[kind] = len(rows)
        self._drawn[kind] += 1
        self._waiting[kind] -= 1
        return int(self._queues[kind][self._waiting[kind]])

    def mark(self) -> tuple[Any, ...]:
        """Where it is, at almost no cost; :meth:`return_to` goes back there."""
        # A queue is never changed, only replaced.
        return list(self._queues), self._waiting.copy(), self._drawn.copy(), self._generator.bit_generator.state

    def return_to(self, mark: tuple[Any, ...]) -> None:
        """Be as when :meth:`mark` was called, so that the same batches come again."""
        self._queues, self._waiting, self._drawn = list(mark[0]), mark[1].copy(), mark[2].copy()
        self._generator.bit_generator.state = mark[3]

    def state_dict(self) -> dict[str, Any]:
        """The rows that wait, how many of each kind were drawn, and the generator's state."""
        waiting = [rows[:count] for rows, count in zip(self._queues, self._waiting, strict=True)]
        return {
            "waiting": torch.from_numpy(np.concatenate(waiting)),
            "drawn": torch.from_numpy(self._drawn.copy()),
            "generator": self._generator.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state given by :meth:`state_dict`.

        Raises:
            ValueError: a state of other rows, or of a version that kept its rows in another way.
        """
        if "waiting" not in state or len(state["drawn"]) != len(self._rows):
            raise ValueError(
                "the state of the batches is of rows with other labels, or of a version before 0.2.0: resume with the "
                "data and the version that wrote it, or start a new run."
            )
        waiting = state["waiting"].numpy()
        if not ((waiting >= 0) & (waiting < len(self._kind_of_row))).all():
            raise ValueError("the state of the batches holds a row that is not there: start a new run.")
        kinds = self._kind_of_row[waiting]
        self._waiting = np.bincount(kinds, minlength=len(self._rows))
        # In each queue in the order in which they wait.
        self._queues = np.split(waiting[np.argsort(kinds, kind="stable")], np.cumsum(self._waiting)[:-1])
        self._drawn = state["drawn"].numpy().copy()
        self._generator.bit_generator.state = state["generator"]
