"""Objective: what is minimised. From a model, a batch and preferences to one vector of m losses per preference."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.utils.data import default_collate

from mopref._arrays import refuse_tensor_without_numbers
from mopref._masked import labelled_sum
from mopref._progress import progress_bar
from mopref._repr import OptionsRepr
from mopref.data_rows import checked_rows
from mopref.mixed_precision import mixed_precision_in_force, precision_name
from mopref.objective_names import checked_names
from mopref.preference_groups import refuse_empty_groups, spread_evenly
from mopref.preferences import validate_preferences
from mopref.setting_types import checked_count

__all__ = [
    "Losses",
    "Metric",
    "Objective",
    "RowLosses",
    "RowObjective",
    "Update",
    "is_as_defined",
    "spread_evenly",
]


class Losses(NamedTuple):
    """What one optimiser step descends on.

    Attributes:
        values: the m losses of each of G preferences, ``(G, m)``, which the scalarizer makes one of.
        auxiliary: a scalar to be minimised beside them, whatever λ, such as a critic's loss; ``None`` for nothing.
        metrics: what to log with the step, by name, as an :class:`Update` has them.
        weights: how much each mean counts beside those of the same preference on other processes and in other forwards
            of the step, ``(G, m)``: the number of its labelled rows, say. Where it is 0 the value is not looked at.
            ``None`` where all count alike.
    """

    values: Tensor
    auxiliary: Tensor | None = None
    metrics: "Mapping[str, Metric | float]" = MappingProxyType({})
    weights: Tensor | None = None


class Metric(NamedTuple):
    """A number to be logged: what the log shows is the mean over its interval, Σ weight · value / Σ weight.

    Tensors of one number are read when the entry is made, so that no step waits for the device.
    """

    value: float | Tensor
    weight: float | Tensor = 1.0


class Update(NamedTuple):
    """What one optimiser step is made from.

    Attributes:
        batch: for :meth:`Objective.losses`. One that waits for its step is part of a checkpoint, so it consists of
            tensors, numbers, texts and containers, and of records among the objective's ``record_types``.
        preferences: ``(G, m)``.
        metrics: what to log with the step, by name: numbers, or a ``Metric`` where they count unequally. The log shows
            those of all processes; names of the log itself (``step``, ``loss``, …) are taken.
        rows: the numbers of the training rows that it comes from, an equal share for each preference, in order. The
            trainer fills them in, for messages that say where a number went wrong.
    """

    batch: Any
    preferences: Tensor
    metrics: Mapping[str, Metric | float] = MappingProxyType({})
    rows: tuple[int, ...] = ()


class Objective(OptionsRepr, ABC):
    """m losses to be minimised together, one vector per preference.

    A new objective sets :attr:`names` and implements :meth:`losses`. Rewards (higher is better) become losses by
    their sign here, once, and nowhere else.

    Attributes:
        names: of the m objectives, in the order of a preference.
        record_types: the named tuples that its updates' batches hold, for checkpoints.
        needs_data: whether it is trained on data rows, so that a trainer without any is refused.
        samples_responses: whether its updates sample from the model, each process for itself.
        fewest_rows: how many rows under one preference its losses need, so that smaller groups are refused; 0 for any.
    """

    names: tuple[str, ...]
    record_types: tuple[type, ...] = ()
    needs_data: bool = False
    samples_responses: bool = False
    fewest_rows: int = 0

    @property
    def num_objectives(self) -> int:
        """The number of objectives m."""
        names, own = self.names, vars(self)
        # Asked at every step: a tuple that was looked at once is not looked at again.
        if "_names_checked" not in own or own["_names_checked"] is not names:
            checked_names(names, f"{type(self).__name__}.names")
            if isinstance(names, tuple):
                own["_names_checked"] = names
        return len(names)

    @abstractmethod
    def losses(self, model: nn.Module, batch: Any, preferences: Tensor) -> Tensor:
        """The mean losses of each preference group: preferences ``(G, m)`` to losses ``(G, m)``, differentiable.

        The batch's rows are shared evenly among the groups, in order: with B rows, group g has the rows
        g·B/G … (g+1)·B/G − 1. ``batch`` is ``None`` where there is no training data.
        """

    def collate(self, rows: list[Any]) -> Any:
        """A batch of data rows; PyTorch's default collation here."""
        return default_collate(rows)

    def labelled(self, data: Sequence[Any]) -> Tensor | None:
        """Which row bears on which objective: ``(rows, m)`` bool, or ``None`` when every row bears on all."""
        return None

    def check_data(self, model: nn.Module, data: Sequence[Any], precision: str) -> None:
        """Refuse rows that the model does not go with; all do here.

        Such as rows longer than it can take, or with numbers that were computed before by another model or in another
        precision. A trainer asks when it is made, and a ``RowObjective`` itself before an evaluation.

        Args:
            model: what is to be trained or evaluated.
            data: rows.
            precision: what the model is to run in, as :func:`mopref.mixed_precision.precision_name` says it.

        Raises:
            ValueError: such a row.
        """

    def preference_rows(self, preferences: Any) -> Tensor:
        """Preferences as a tensor; those that are none, by name say, are checked, and a single one is a row ``(1, m)``.

        Raises:
            ValueError: preferences that do not lie on the simplex.
        """
        if isinstance(preferences, Tensor):
            return preferences
        return validate_preferences(preferences, self.names).to(torch.get_default_dtype())

    def mean_losses(self, model: nn.Module, data: Sequence[Any] | None, preferences: Any, batch_size: int) -> Tensor:
        """The losses over the whole of ``data`` at each preference, ``(N, m)`` to ``(N, m)``, without gradients.

        Preferences may be given by name.
        """
        if data is not None:
            raise NotImplementedError(
                f"{type(self).__name__} does not say how to evaluate on data: implement mean_losses(), or derive from "
                "RowObjective."
            )
        with torch.no_grad():
            return self.losses(model, None, self.preference_rows(preferences))

    # For objectives that sample, or that train more than the model.

    def prepare_model(self, model: nn.Module) -> None:
        """Add to the model what is trained with it, such as a critic; called before there is an optimiser."""

    def updates(self, model: nn.Module, batch: Any, preferences: Tensor) -> list[Update]:
        """The optimiser steps that one draw of data and preferences is used for: one step here.

        An objective that samples (responses of a language model, say) does so here, and may use the samples for
        several steps.
        """
        return [Update(batch, preferences)]

    def training_losses(self, model: nn.Module, batch: Any, preferences: Tensor) -> Losses:
        """The losses of an update, and what else is to be minimised with them.

        Where several forwards of a step share a preference it is asked twice for each, first without gradients, with
        the same numbers from the global random generators.
        """
        return Losses(self.losses(model, batch, preferences))

    def effect_of_preferences(self, model: nn.Module, update: Update, preferences: Tensor) -> Tensor:
        """Numbers that show whether λ matters, on one update's batch: preferences ``(N, m)`` to ``(N, k)``.

        The losses with all groups under one preference, by default. An objective whose losses do not come from the
        model's outputs at λ gives others, on which λ acts.
        """
        groups = len(update.preferences)
        losses = [self.training_losses(model, update.batch, row.expand(groups, -1)).values for row in preferences]
        return torch.stack([values.detach().mean(dim=0) for values in losses])

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold; empty for an objective without a state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state given by :meth:`state_dict`."""


class RowLosses(NamedTuple):
    """Losses of single rows.

    Attributes:
        values: ``(B, m)``.
        labelled: ``(B, m)`` bool, where a value counts.
    """

    values: Tensor
    labelled: Tensor


class RowObjective(Objective):
    """An objective whose losses are means over data rows, each row with a label on some or all objectives.

    A new one implements :meth:`row_losses` and :meth:`num_rows`; group means, masks and evaluation are handled here.
    """

    needs_data = True

    @abstractmethod
    def row_losses(self, model: nn.Module, batch: Any, preferences: Tensor) -> RowLosses:
        """Losses of every row under its own preference: B rows and preferences ``(B, m)`` to values ``(B, m)``."""

    @abstractmethod
    def num_rows(self, batch: Any) -> int:
        """How many rows a batch has."""

    def evaluation_batches(self, data: Sequence[Any], batch_size: int) -> list[list[int]]:
        """Row numbers of the batches that data are evaluated in; in their order here."""
        size = checked_count(batch_size, "batch_size")
        return [list(range(start, min(start + size, len(data)))) for start in range(0, len(data), size)]

    def complete(self, model: nn.Module, batch: Any) -> Any:
        """A batch with what is the same for it at every preference, before it is evaluated at many; as it is here."""
        return batch

    def losses(self, model: nn.Module, batch: Any, preferences: Tensor) -> Tensor:
        """Mean over the labelled rows of each group, ``(G, m)``.

        Raises:
            ValueError: rows that cannot be shared evenly, or a group without any row labelled on some objective.
        """
        row_preferences = spread_evenly(preferences, self.num_rows(batch))
        return self.group_means(self._checked_row_losses(model, batch, row_preferences), len(preferences))

    def training_losses(self, model: nn.Module, batch: Any, preferences: Tensor) -> Losses:
        """The means over the labelled rows of each group, and how many these are."""
        if not is_as_defined(self.losses, RowObjective.losses):
            # Losses that were defined anew are what is descended on.
            return super().training_losses(model, batch, preferences)
        row_preferences = spread_evenly(preferences, self.num_rows(batch))
        return self.group_losses(self._checked_row_losses(model, batch, row_preferences), len(preferences))

    def group_means(self, losses: RowLosses, groups: int) -> Tensor:
        """Means over the labelled rows of each of G groups, which share the rows evenly, in order: ``(G, m)``.

        Raises:
            ValueError: a group without any row labelled on some objective.
        """
        values, counts = self._means_and_counts(losses, groups)
        refuse_empty_groups(counts, self.names)
        return values

    def group_losses(
        self, losses: RowLosses, groups: int, metrics: Mapping[str, Metric | float] = MappingProxyType({})
    ) -> Losses:
        """The same with the numbers of labelled rows as weights; where there is none, both are 0.

        A step's rows may be shared among processes and forwards: a group needs no row of every objective on each.
        """
        if not is_as_defined(self.group_means, RowObjective.group_means):
            values, counts = self.group_means(losses, groups), self._means_and_counts(losses, groups)[1]
        else:
            values, counts = self._means_and_counts(losses, groups)
        return Losses(values, metrics=metrics, weights=counts)

    def _means_and_counts(self, losses: RowLosses, groups: int) -> tuple[Tensor, Tensor]:
        values, labelled = (part.view(groups, -1, self.num_objectives) for part in losses)
        counts = labelled.sum(dim=1)
        return labelled_sum(values, labelled, dim=1) / counts.clamp(min=1), counts

    def _checked_row_losses(self, model: nn.Module, batch: Any, preferences: Tensor) -> RowLosses:
        """The row losses, if they are of the shape and the kind that they are summed by."""
        losses = self.row_losses(model, batch, preferences)
        expected = (self.num_rows(batch), self.num_objectives)
        for name, part in zip(("values", "labelled"), losses, strict=True):
            if not isinstance(part, Tensor):
                raise TypeError(
                    f"{type(self).__name__}.row_losses returned {name} of type {type(part).__name__}: it must return "
                    "RowLosses of two tensors."
                )
            refuse_tensor_without_numbers(part, f"what {type(self).__name__}.row_losses returned as {name}")
            if part.shape != expected:
                raise ValueError(
                    f"{type(self).__name__}.row_losses returned {name} of shape {tuple(part.shape)}, not {expected}: "
                    "one row for each row of the batch, one column for each objective."
                )
        if losses.labelled.dtype != torch.bool:
            raise ValueError(
                f"{type(self).__name__}.row_losses returned labelled of type {losses.labelled.dtype}: give bools, true "
                "where a value counts."
            )
        return RowLosses(*losses)

    def mean_losses(self, model: nn.Module, data: Sequence[Any] | None, preferences: Any, batch_size: int) -> Tensor:
        """Mean losses over the labelled rows of ``data`` at each preference, ``(N, m)`` to ``(N, m)``, no gradients.

        Preferences may be given by name.

        Raises:
            ValueError: no data, no row labelled on some objective, or rows that the model does not go with.
            TypeError: data whose rows cannot be counted, or had by their number.
        """
        data, device = self._checked_evaluation(model, data)
        preferences = self.preference_rows(preferences)
        totals = torch.zeros(preferences.shape, dtype=torch.float64)
        counts = torch.zeros(self.num_objectives, dtype=torch.float64)
        with torch.no_grad():
            for indices in self.evaluation_batches(data, batch_size):
                batch = self.complete(model, send_to_device(self.collate([data[i] for i in indices]), device))
                for index, preference in enumerate(preferences):
                    values, labelled = self._checked_row_losses(model, batch, preference.expand(len(indices), -1))
                    totals[index] += labelled_sum(values, labelled, dim=0).double().cpu()
                counts += labelled.sum(dim=0).double().cpu()
        self.refuse_unlabelled(counts)
        return totals / counts

    def at_every_preference(
        self,
        function: Callable[[nn.Module, Any, Tensor], Tensor],
        size: int,
        model: nn.Module,
        data: Sequence[Any],
        preferences: Any,
        batch_size: int,
        progress: bool = False,
    ) -> Tensor:
        """Numbers of every row at every preference: ``(N, rows, size)``, float64 on the CPU, without gradients.

        Args:
            function: the model, a batch of B rows and their preferences ``(B, m)`` to ``(B, size)``.
            size: how many numbers a row has.
            model: what is evaluated.
            data: rows.
            preferences: ``(N, m)``, or by name.
            batch_size: rows in one forward.
            progress: show a progress bar.
        """
        preferences = self.preference_rows(preferences)
        device, batches = next(model.parameters()).device, self.evaluation_batches(data, batch_size)
        numbers = torch.zeros(len(preferences), len(data), size, dtype=torch.float64)
        forwards = len(batches) * len(preferences)
        with torch.no_grad(), progress_bar(None, "evaluation", enabled=progress, total=forwards) as bar:
            for indices in batches:
                batch = self.complete(model, send_to_device(self.collate([data[i] for i in indices]), device))
                for number, preference in enumerate(preferences.to(device)):
                    of_batch = function(model, batch, preference.expand(len(indices), -1))
                    numbers[number, indices] = of_batch.double().cpu()
                    bar.update()
        return numbers

    def _checked_evaluation(self, model: nn.Module, data: Sequence[Any] | None) -> tuple[Sequence[Any], torch.device]:
        """The rows, if the model can be evaluated on them, and where it is; raises as :meth:`mean_losses`."""
        if data is None or len(checked_rows(data, "data")) == 0:
            raise ValueError(f"{type(self).__name__} has nothing to evaluate on: give data with at least one row.")
        labelled_rows = self.labelled(data)
        if labelled_rows is not None:
            self.refuse_unlabelled(labelled_rows.sum(dim=0))
        device = next(model.parameters()).device
        self.check_data(model, data, precision_name(model, mixed_precision_in_force(device)))
        return data, device

    def refuse_unlabelled(self, counts: Tensor) -> None:
        """Refuse data without any row labelled on some objective, by the numbers of labelled rows ``(m,)``."""
        if (counts == 0).any():
            raise ValueError(f"no row is labelled on {self.names[int((counts == 0).nonzero()[0])]!r}.")


def is_as_defined(method: Callable[..., Any], function: Callable[..., Any]) -> bool:
    """Whether an object's method is still this function, not one that a subclass or a user defined anew."""
    return getattr(method, "__func__", None) is function
