"""KTO: answers that are good or bad by themselves, without pairs, on several objectives at once."""

import math
from collections.abc import Sequence
from os import PathLike
from typing import Any, NamedTuple

import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn

from mopref._masked import labelled_sum
from mopref.argument_kinds import checks_arguments
from mopref.conditioning.conditioned_model import check_objectives
from mopref.data_rows import check_columns, checked_rows, entry_matrix, is_label
from mopref.evaluation_mode import disable_dropout
from mopref.llm.data.lengths import batches_of_like_length, sequence_lengths
from mopref.llm.data.sequences import Sequences, collate_sequences, optional_column
from mopref.llm.pairs.pair_metrics import column_metrics
from mopref.llm.policy.policy import Policy
from mopref.llm.policy.precompute import check_reference_rows, rows_without_states, with_references
from mopref.llm.policy.reference_cache import ReferenceCache
from mopref.mixed_precision import autocast, precision_name
from mopref.objective import Losses, Metric, RowLosses, RowObjective, is_as_defined, spread_evenly
from mopref.objective_names import check_row_names, checked_names
from mopref.registry import OBJECTIVES
from mopref.setting_types import python_value

__all__ = ["KTO", "UnpairedBatch"]

_RESPONSES = ("response_ids", "mismatched_response_ids")
_COLUMNS = ("prompt_ids", *_RESPONSES, "labels")
_REMEDY = "use with_mismatches(tokenize_unpaired(tokenizer, records, objectives)) to make such rows"


class UnpairedBatch(NamedTuple):
    """B answers.

    Attributes:
        sequences: prompts with their own responses.
        mismatched: the same prompts with the responses of other rows.
        labels: ``(B, m)``, 1 good, 0 bad, −1 unlabelled.
        reference_log_probabilities: log π_ref of both, ``(B, 2)``; ``None`` where not computed before.
    """

    sequences: Sequences
    mismatched: Sequences
    labels: Tensor
    reference_log_probabilities: Tensor | None = None


@OBJECTIVES.register("kto")
class KTO(RowObjective):
    """KTO on m objectives: one policy and one reference forward on the answers give all m losses.

    With h(x, y) = log π(y|x; λ) − log π_ref(y|x), summed over response tokens, and the reference point z(λ):

        KTO_i = mean over the rows labelled on i of   w_D · (1 − σ(β(h − z)))  where y is good on i,
                                                      w_U · (1 − σ(β(z − h)))  where y is bad on i.

    z(λ) = max(0, mean h(x, y')) over prompts with the responses y' of other rows, an estimate of the policy's KL from
    the reference that all objectives share. It has no gradient, and takes one policy and one reference forward more. In
    training it comes from the rows under the same preference, in an evaluation from all rows.

    The expected loss of an answer that is good with probability p is linear in σ(β(h − z)), so the best policy makes h
    as large as it can where w_D p > w_U (1 − p) and as small elsewhere: there is no finite optimum on noisy labels, as
    there is for DPO.

    A data row is a dict: ``prompt_ids``, ``response_ids`` and ``mismatched_response_ids`` (lists of token ids) and
    ``labels`` (m integers, 1 good, 0 bad, −1 unlabelled); :func:`mopref.llm.data.with_mismatches` adds the mismatched
    ones. :meth:`precompute` adds what need not be computed at every step. Where a row names its labels
    (``objectives``), the names must be these, in this order.

    Args:
        names: the names of the m objectives, in the order of the labels.
        beta: β > 0, the strength of the pull towards the reference, per nat.
        desirable_weight: w_D > 0. With few good answers raise it: w_D times their number should be about w_U times that
            of the bad ones, or a third more.
        undesirable_weight: w_U > 0.
        disable_dropout: set the model's dropout to 0, for good, when a trainer is made, as in the reference.

    Raises:
        ValueError: names that are not distinct texts, or a value out of its range.
        TypeError: a value of another type, named.

    Source: Ethayarajh et al., KTO: Model Alignment as Prospect Theoretic Optimization, arXiv 2402.01306, eqs. 7 and 8.
    """

    record_types = (UnpairedBatch, Sequences)
    fewest_rows = 4
    beta: float
    desirable_weight: float
    undesirable_weight: float

    @checks_arguments(but=("names",))
    def __init__(
        self,
        names: Sequence[str],
        beta: float = 0.1,
        desirable_weight: float = 1.0,
        undesirable_weight: float = 1.0,
        disable_dropout: bool = True,
    ) -> None:
        self.names = checked_names(names)
        for name, value in (
            ("beta", beta),
            ("desirable_weight", desirable_weight),
            ("undesirable_weight", undesirable_weight),
        ):
            number = python_value(value, float, name)
            if not (number > 0 and math.isfinite(number)):
                raise ValueError(f"{name} is {value}: it must be positive and finite.")
            setattr(self, name, number)
        self.disable_dropout: bool = python_value(disable_dropout, bool, "disable_dropout")

    def prepare_model(self, model: nn.Module) -> None:
        """Turn dropout off, unless it is to stay."""
        if self.disable_dropout:
            disable_dropout(model)

    # Rows.

    def labelled(self, data: Sequence[Any]) -> Tensor:
        """Which row is labelled on which objective, ``(rows, m)`` bool; raises as :meth:`labels`."""
        return self.labels(data) >= 0

    def labels(self, data: Sequence[Any]) -> Tensor:
        """The labels, checked: 1, 0 or −1, shape ``(rows, m)``.

        Raises:
            ValueError: a row without token ids or labels, with labels of other objectives, with another number of them,
                or with one that is none of 1, 0, −1.
        """
        self._check_rows(data)
        names = ", ".join(self.names)
        remedy = f"give one for each of {names}, 1 for a good answer, 0 for a bad one and −1 where there is no label"
        return entry_matrix(data, "labels", len(self.names), is_label, remedy)

    def _check_rows(self, data: Sequence[Any]) -> None:
        """Refuse what are no rows of token ids, or rows of other objectives."""
        check_columns(checked_rows(data, "data"), _COLUMNS, _REMEDY)
        check_row_names(self.names, "KTO", data)

    def collate(self, rows: list[Any]) -> UnpairedBatch:
        """A batch of B rows, whose labels are checked already."""
        reference = optional_column(rows, "reference_log_probabilities")
        prompts = [row["prompt_ids"] for row in rows]
        return UnpairedBatch(
            sequences=collate_sequences(prompts, [row["response_ids"] for row in rows]),
            mismatched=collate_sequences(prompts, [row["mismatched_response_ids"] for row in rows]),
            labels=torch.tensor([list(row["labels"]) for row in rows]),
            reference_log_probabilities=None
            if reference is None
            else torch.stack([torch.as_tensor(pair) for pair in reference]),
        )

    def num_rows(self, batch: UnpairedBatch) -> int:
        """The number of answers."""
        return len(batch.labels)

    def evaluation_batches(self, data: Sequence[Any], batch_size: int) -> list[list[int]]:
        """Rows of like length together."""
        return batches_of_like_length(sequence_lengths(data, _RESPONSES), batch_size)

    # Losses.

    def complete(self, model: nn.Module, batch: UnpairedBatch) -> UnpairedBatch:
        """The batch with the reference's log-probabilities, which are the same at every preference."""
        if batch.reference_log_probabilities is not None:
            return batch
        policy, parts = Policy(model), (batch.sequences, batch.mismatched)
        reference = [policy.reference_log_probabilities(sequences).sum(dim=1) for sequences in parts]
        return batch._replace(reference_log_probabilities=torch.stack(reference, dim=1))

    def log_ratios(self, model: nn.Module, batch: UnpairedBatch, preferences: Tensor) -> Tensor:
        """h of each answer and of its prompt's mismatched one, under its preference ``(B, m)``: shape ``(B, 2)``.

        Only the first has a gradient.
        """
        # Before the policy's forward: some models change their weights in place on entering evaluation mode.
        reference, policy = self.complete(model, batch).reference_log_probabilities, Policy(model)
        with torch.no_grad():
            mismatched = policy.sequence_log_probabilities(batch.mismatched, preferences)
        own = policy.sequence_log_probabilities(batch.sequences, preferences)
        assert reference is not None
        return torch.stack([own, mismatched], dim=1) - reference.to(own)

    def row_losses(self, model: nn.Module, batch: UnpairedBatch, preferences: Tensor) -> RowLosses:
        """The loss of every answer and objective, ``(B, m)``, with z from the rows of the same preference.

        Raises:
            ValueError: fewer than four rows under one preference.
        """
        return self._row_losses(*self._gains(model, batch, preferences), batch)

    def training_losses(self, model: nn.Module, batch: UnpairedBatch, preferences: Tensor) -> Losses:
        """The losses, with implicit rewards β h of good and bad answers, accuracies, and z as ``kl``."""
        own = is_as_defined(self.losses, RowObjective.losses)
        if not own or not is_as_defined(self.row_losses, KTO.row_losses):
            # Losses that were defined anew are what is descended on.
            return super().training_losses(model, batch, preferences)
        ratios, points = self._gains(model, batch, spread_evenly(preferences, self.num_rows(batch)))
        metrics = self._metrics(ratios.detach(), points, batch.labels)
        return self.group_losses(self._row_losses(ratios, points, batch), len(preferences), metrics)

    def _row_losses(self, log_ratios: Tensor, reference_points: Tensor, batch: UnpairedBatch) -> RowLosses:
        return RowLosses(self.answer_losses(log_ratios, reference_points, batch.labels), batch.labels >= 0)

    def _gains(self, model: nn.Module, batch: UnpairedBatch, preferences: Tensor) -> tuple[Tensor, Tensor]:
        """h and z of each of B answers, ``(B,)`` each."""
        _, group, counts = torch.unique(preferences, dim=0, return_inverse=True, return_counts=True)
        self.refuse_few_rows(int(counts.min()), "by larger batches or fewer preferences per step")
        own, mismatched = self.log_ratios(model, batch, preferences).unbind(dim=1)
        sums = torch.zeros(len(counts), device=own.device, dtype=own.dtype).index_add(0, group, mismatched.detach())
        return own, (sums / counts).clamp(min=0)[group]

    def _metrics(self, log_ratios: Tensor, reference_points: Tensor, labels: Tensor) -> dict[str, Metric | float]:
        rewards, above = self.beta * log_ratios.unsqueeze(1), torch.sign(log_ratios - reference_points).unsqueeze(1)
        good, bad = labels == 1, labels == 0
        correct = 0.5 * (1 + torch.where(good, above, -above))
        columns = {"reward_good": (rewards, good), "reward_bad": (rewards, bad), "accuracy": (correct, labels >= 0)}
        kl = Metric(reference_points.mean(), len(labels))
        return {"kl": kl, **column_metrics(self.names, columns)}

    def refuse_few_rows(self, count: int, way: str) -> None:
        """Refuse fewer rows under a preference than the reference point is estimated from; ``way`` says what to do.

        Raises:
            ValueError: fewer than four.
        """
        if count < self.fewest_rows:
            raise ValueError(
                f"a preference has {count} rows, too few to estimate KTO's reference point from: give it "
                f"{self.fewest_rows} at least, {way}."
            )

    def answer_losses(self, log_ratios: Tensor, reference_points: Tensor, labels: Tensor) -> Tensor:
        """From h and z ``(…, rows)``, or z ``(…, 1)``, and labels ``(rows, m)``: losses ``(…, rows, m)``."""
        gains = (self.beta * (log_ratios - reference_points)).unsqueeze(-1)
        good = self.desirable_weight * torch.sigmoid(-gains)
        bad = self.undesirable_weight * torch.sigmoid(gains)
        return torch.where(labels == 1, good, bad)

    def all_log_ratios(
        self, model: nn.Module, data: Sequence[Any], preferences: Any, batch_size: int, progress: bool = False
    ) -> Tensor:
        """h of every row and of its mismatch at every preference ``(N, m)``: ``(N, rows, 2)``, on the CPU."""
        return self.at_every_preference(self.log_ratios, 2, model, data, preferences, batch_size, progress)

    def mean_losses(self, model: nn.Module, data: Sequence[Any] | None, preferences: Any, batch_size: int) -> Tensor:
        """Mean losses over the labelled rows of ``data`` at each preference, ``(N, m)`` to ``(N, m)``, no gradients.

        z(λ) comes from all rows, so that the batch size makes no difference; raises as ``RowObjective`` does, and
        for fewer than four rows.
        """
        rows, _ = self._checked_evaluation(model, data)
        self.refuse_few_rows(len(rows), "by more data")
        ratios = self.all_log_ratios(model, rows, preferences, batch_size)
        return self.losses_of_log_ratios(ratios, self.labels(rows))

    def losses_of_log_ratios(self, ratios: Tensor, labels: Tensor) -> Tensor:
        """Mean losses over labelled rows, from log-ratios ``(N, rows, 2)`` and labels ``(rows, m)``: ``(N, m)``.

        Raises:
            ValueError: no row labelled on some objective.
        """
        counts = (labels >= 0).sum(dim=0)
        self.refuse_unlabelled(counts)
        losses = self.answer_losses(ratios[..., 0], self.reference_points(ratios), labels)
        return labelled_sum(losses, labels >= 0, dim=1) / counts

    @staticmethod
    def reference_points(ratios: Tensor) -> Tensor:
        """z of each preference from the log-ratios of all rows, ``(N, rows, 2)`` to ``(N, 1)``."""
        return ratios[..., 1].mean(dim=-1, keepdim=True).clamp(min=0)

    # What is the same at every step.

    def precompute(
        self,
        model: nn.Module,
        data: Sequence[Any],
        batch_size: int = 8,
        mixed_precision: str | None = None,
        cache: bool | str | PathLike[str] | ReferenceCache = False,
    ) -> Any:
        """Copies of the rows with the reference's log-probabilities of both responses.

        Args:
            model: the ``PreferenceModel`` to be trained.
            data: rows.
            batch_size: rows in one forward.
            mixed_precision: as the training's config has it, ``None``, "bf16" or "fp16".
            cache: look for them on the disk first, and keep them there: ``True`` for the folder ``$MOPREF_CACHE``,
                ``$XDG_CACHE_HOME/mopref`` or ``~/.cache/mopref``, or a folder. They are found where every weight of the
                base, the precision and all token ids are the same.

        Returns:
            New rows, in the order of ``data``, with ``reference_log_probabilities`` (two numbers), their
            ``reference_precision`` and ``reference_model``. A list of dicts; of a ``datasets.Dataset`` another one, on
            the disk as it is.

        Raises:
            ValueError: a model or rows with other objectives, rows without the model's token ids or longer than it
                has positions for, or an unknown precision.
            TypeError: data whose rows cannot be counted, or had by their number, or a ``cache`` of another kind.

        Warns:
            UserWarning: what is kept on the disk is damaged, or nothing can be kept there.
        """
        kept = ReferenceCache.of(cache)
        self.labels(data)
        check_objectives(model, self.names, "KTO")
        policy = Policy(model)
        lengths = policy.checked_lengths(data, _RESPONSES)
        plain, precision = rows_without_states(data, with_references=False), precision_name(model, mixed_precision)

        def reference_of(rows: list[Any]) -> Tensor:
            completed = self.complete(model, send_to_device(self.collate(rows), policy.device))
            assert completed.reference_log_probabilities is not None
            return completed.reference_log_probabilities

        with autocast(policy.device, mixed_precision):
            kind = f"{type(self).__module__}.{type(self).__qualname__}"
            how = (("prompt_ids", *_RESPONSES), reference_of, precision, kept, kind)
            return with_references(policy, plain, lengths, batch_size, *how)

    def check_data(self, model: nn.Module, data: Sequence[Any], precision: str) -> None:
        """Refuse rows that the model does not go with.

        Args:
            model: the policy.
            data: rows.
            precision: what the policy is to run in.

        Raises:
            ValueError: a row of other tokens than the model's or longer than it has positions for, with something else
                than two finite numbers as its reference, or whose reference was computed by another model or in
                another precision.
        """
        policy = Policy(model)
        check_reference_rows(policy, data, precision)
        policy.checked_lengths(data, _RESPONSES)
