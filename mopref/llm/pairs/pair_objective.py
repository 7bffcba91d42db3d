"""PairObjective: an objective whose rows are pairs of responses, each labelled on some or all objectives."""

from abc import abstractmethod
from collections.abc import Sequence
from os import PathLike
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from mopref._masked import labelled_sum
from mopref.argument_kinds import checks_arguments
from mopref.conditioning.conditioned_model import check_objectives
from mopref.data_rows import check_columns, checked_rows, entry_matrix, is_label
from mopref.evaluation_mode import disable_dropout
from mopref.llm.data.lengths import batches_of_like_length, sequence_lengths
from mopref.llm.data.sequences import Sequences, collate_sequences, optional_column
from mopref.llm.pairs.pair_metrics import pair_metrics
from mopref.llm.policy.policy import Policy
from mopref.llm.policy.precompute import (
    check_reference_rows,
    keeps_states,
    map_rows,
    rows_without_states,
    with_references,
)
from mopref.llm.policy.reference_cache import ReferenceCache
from mopref.mixed_precision import autocast, check_row_precision, precision_name
from mopref.objective import Losses, RowLosses, RowObjective, is_as_defined, spread_evenly
from mopref.objective_names import check_row_names, checked_names

__all__ = ["PairBatch", "PairObjective", "log_ratios"]

_RESPONSES = ("response_0_ids", "response_1_ids")
_COLUMNS = ("prompt_ids", *_RESPONSES, "labels")
_REMEDY = "use tokenize_records(tokenizer, records, objectives) to make such rows"


class PairBatch(NamedTuple):
    """B pairs.

    Attributes:
        sequences: 2B of them, first those with response 0, then those with response 1.
        labels: ``(B, m)``, 0, 1 or −1.
        reference_log_probabilities: log π_ref of the sequences, ``(2B,)``; ``None`` where not computed before.
    """

    sequences: Sequences
    labels: Tensor
    reference_log_probabilities: Tensor | None = None


@checks_arguments
def log_ratios(model: nn.Module, batch: PairBatch, preferences: Tensor) -> Tensor:
    """h = log π − log π_ref of both responses of B pairs under their preferences ``(B, m)``: ``(B, 2)``.

    The batch holds the reference's log-probabilities.
    """
    log_probabilities = Policy(model).sequence_log_probabilities(batch.sequences, preferences.repeat(2, 1))
    assert batch.reference_log_probabilities is not None
    h = log_probabilities - batch.reference_log_probabilities.to(log_probabilities)
    return torch.stack(h.chunk(2), dim=1)


class PairObjective(RowObjective):
    """m losses on pairs of responses: one policy forward, and one of the reference where it is needed, give all m.

    A new one implements :meth:`scores` and :meth:`pair_losses`; rows, labels, evaluation and what is computed once are
    handled here.

    A data row is a dict: ``prompt_ids``, ``response_0_ids`` and ``response_1_ids`` (lists of token ids) and ``labels``
    (m integers in {0, 1, −1}: the index of the preferred response, or −1 where there is no label, or a tie). Where a
    row names its labels (``objectives``, as ``tokenize_records`` writes), the names must be these, in this order.

    Args:
        names: the names of the m objectives, in the order of the labels.

    Attributes:
        disable_dropout: whether the model's dropout is set to 0, for good, when a trainer is made.
        needs_reference: whether the scores compare the policy with the reference, whose log-probabilities are needed.

    Raises:
        ValueError: names that are not distinct texts.
    """

    record_types: tuple[type, ...] = (PairBatch, Sequences)
    needs_reference: ClassVar[bool] = True
    disable_dropout: bool = True

    @checks_arguments(but=("names",))
    def __init__(self, names: Sequence[str]) -> None:
        self.names = checked_names(names)

    @abstractmethod
    def scores(self, model: nn.Module, batch: PairBatch, preferences: Tensor) -> Tensor:
        """What each response of B pairs gets under its pair's preference ``(B, m)``: ``(B, 2)``, higher is better.

        It has no label in it, so that one forward serves all objectives.
        """

    def implicit_rewards(self, scores: Tensor) -> Tensor:
        """Scores as the rewards that the policy is optimal for, up to a term that both responses share; as they are."""
        return scores

    @abstractmethod
    def pair_losses(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Scores ``(…, rows, 2)`` and labels ``(rows, m)`` to losses ``(…, rows, m)``, finite also where unlabelled."""

    def prepare_model(self, model: nn.Module) -> None:
        """Turn dropout off, unless it is to stay."""
        if self.disable_dropout:
            disable_dropout(model)

    # Rows.

    def labelled(self, data: Sequence[Any]) -> Tensor:
        """Which row is labelled on which objective, ``(rows, m)`` bool.

        Raises:
            ValueError: a row without token ids or labels, with labels of other objectives, with another number of them,
                or with one that is none of 0, 1, −1.
        """
        return self.labels(data) >= 0

    def labels(self, data: Sequence[Any]) -> Tensor:
        """The labels, checked: 0, 1 or −1, shape ``(rows, m)``; raises as :meth:`labelled`."""
        self._check_rows(data)
        names = ", ".join(self.names)
        remedy = f"give one for each of {names}, 0 or 1 for the preferred response and −1 where there is no label"
        return entry_matrix(data, "labels", len(self.names), is_label, remedy)

    def _check_rows(self, data: Sequence[Any]) -> None:
        """Refuse what are no rows of token ids, or rows of other objectives."""
        check_columns(checked_rows(data, "data"), _COLUMNS, _REMEDY)
        check_row_names(self.names, type(self).__name__, data)

    def collate(self, rows: list[Any]) -> PairBatch:
        """A batch of B rows, whose labels are checked already."""
        reference = optional_column(rows, "reference_log_probabilities")
        first, second = optional_column(rows, "hidden_states_0"), optional_column(rows, "hidden_states_1")
        # Lists, arrays or tensors, as a data set hands them out.
        states = None if first is None or second is None else [torch.as_tensor(part) for part in first + second]
        pairs = None if reference is None else [torch.as_tensor(pair) for pair in reference]
        return PairBatch(
            sequences=collate_sequences(
                [row["prompt_ids"] for row in rows] * 2,
                [row[f"response_{i}_ids"] for i in (0, 1) for row in rows],
                states,
            ),
            labels=torch.tensor([list(row["labels"]) for row in rows]),
            reference_log_probabilities=None if pairs is None else torch.stack(pairs).T.reshape(-1),
        )

    def num_rows(self, batch: PairBatch) -> int:
        """The number of pairs."""
        return len(batch.labels)

    def evaluation_batches(self, data: Sequence[Any], batch_size: int) -> list[list[int]]:
        """Rows of like length together."""
        return batches_of_like_length(sequence_lengths(data, _RESPONSES), batch_size)

    # Losses.

    def complete(self, model: nn.Module, batch: PairBatch) -> PairBatch:
        """The batch with the reference's log-probabilities, where needed: they are the same at every preference."""
        if batch.reference_log_probabilities is not None or not self.needs_reference:
            return batch
        reference = Policy(model).reference_log_probabilities(batch.sequences).sum(dim=1)
        return batch._replace(reference_log_probabilities=reference)

    @staticmethod
    def mean_log_probabilities(model: nn.Module, batch: PairBatch, preferences: Tensor) -> Tensor:
        """log π(y|x) / |y| of both responses of B pairs under their preferences ``(B, m)``: ``(B, 2)``."""
        sums = Policy(model).sequence_log_probabilities(batch.sequences, preferences.repeat(2, 1))
        return torch.stack((sums / batch.sequences.response_lengths).chunk(2), dim=1)

    def margins(self, model: nn.Module, batch: PairBatch, preferences: Tensor) -> Tensor:
        """d, the score of response 0 less that of response 1, under the preferences ``(B, m)``: shape ``(B,)``."""
        first, second = self.scores(model, batch, preferences).unbind(dim=1)
        return first - second

    def row_losses(self, model: nn.Module, batch: PairBatch, preferences: Tensor) -> RowLosses:
        """The loss of every pair and objective: ``(B, m)``."""
        return self._row_losses(self.scores(model, batch, preferences), batch)

    def _row_losses(self, scores: Tensor, batch: PairBatch) -> RowLosses:
        return RowLosses(self.pair_losses(scores, batch.labels), batch.labels >= 0)

    def training_losses(self, model: nn.Module, batch: PairBatch, preferences: Tensor) -> Losses:
        """The losses, with implicit rewards, margins and accuracies; see ``pair_metrics``."""
        own = is_as_defined(self.losses, RowObjective.losses)
        if not own or not is_as_defined(self.row_losses, PairObjective.row_losses):
            # Losses that were defined anew are what is descended on.
            return super().training_losses(model, batch, preferences)
        scores = self.scores(model, batch, spread_evenly(preferences, self.num_rows(batch)))
        metrics = pair_metrics(self.names, self.implicit_rewards(scores), batch.labels)
        return self.group_losses(self._row_losses(scores, batch), len(preferences), metrics)

    def all_scores(
        self, model: nn.Module, data: Sequence[Any], preferences: Any, batch_size: int, progress: bool = False
    ) -> Tensor:
        """Scores of every row at every preference ``(N, m)``: ``(N, rows, 2)``, on the CPU, without gradients."""
        return self.at_every_preference(self.scores, 2, model, data, preferences, batch_size, progress)

    def losses_of_scores(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Mean losses over labelled rows, from scores ``(N, rows, 2)`` and labels ``(rows, m)``: ``(N, m)``.

        Raises:
            ValueError: no row labelled on some objective.
        """
        counts = (labels >= 0).sum(dim=0)
        self.refuse_unlabelled(counts)
        return labelled_sum(self.pair_losses(scores, labels), labels >= 0, dim=1) / counts

    # What is the same at every step.

    def precompute(
        self,
        model: nn.Module,
        data: Sequence[Any],
        batch_size: int = 8,
        frozen_layers: bool | Literal["auto"] = False,
        mixed_precision: str | None = None,
        cache: bool | str | PathLike[str] | ReferenceCache = False,
    ) -> Any:
        """Copies of the rows with what is the same at every step: the reference's log-probabilities, where needed.

        Args:
            model: the ``PreferenceModel`` to be trained.
            data: rows.
            batch_size: rows in one forward.
            frozen_layers: also keep the activations that enter the first adapted block, so that the blocks below it
                are not run again at any step or preference. Exact; takes (tokens × hidden size) numbers a sequence. A
                model that it does not fit is refused, such as one whose first block is adapted. "auto": where it does
                fit, and 2 GiB suffice for it.
            mixed_precision: as the training's config has it, ``None``, "bf16" or "fp16": a reference in another
                precision than the policy gives an untrained model a margin, so a trainer refuses it.
            cache: look for the reference's log-probabilities on the disk first, and keep them there: ``True`` for the
                folder ``$MOPREF_CACHE``, ``$XDG_CACHE_HOME/mopref`` or ``~/.cache/mopref``, or a folder. They are found
                where every weight of the base, the precision and all token ids are the same.

        Returns:
            New rows, in the order of ``data``, with ``reference_log_probabilities`` (two numbers), their
            ``reference_precision`` and ``reference_model`` where the objective has a reference and, with
            ``frozen_layers``, ``hidden_states_0``, ``hidden_states_1`` and their ``hidden_states_model``. A list of
            dicts; of a ``datasets.Dataset`` another one, on the disk as it is, unless activations are kept, which are
            in memory.

        Raises:
            ValueError: a model or rows with other objectives, rows without the model's token ids or longer than it
                has positions for, an unknown precision, or ``frozen_layers`` for a model that it does not fit.
            TypeError: data whose rows cannot be counted, or had by their number, or a ``cache`` of another kind.

        Warns:
            UserWarning: what is kept on the disk is damaged, or nothing can be kept there.
        """
        kept_references = ReferenceCache.of(cache)
        self.labels(data)
        check_objectives(model, self.names, type(self).__name__)
        policy = Policy(model)
        lengths = policy.checked_lengths(data, _RESPONSES)
        plain, precision = rows_without_states(data), precision_name(model, mixed_precision)

        def sequences_of(rows: list[Any]) -> Sequences:
            return self.collate(rows).sequences.to(policy.device)

        def with_states(rows: list[Any]) -> list[dict[str, Any]]:
            states = policy.with_lower_hidden_states(sequences_of(rows)).unpadded_hidden_states()
            pairs = zip(states[: len(rows)], states[len(rows) :], strict=True)
            return [
                {**row, "hidden_states_0": first.cpu(), "hidden_states_1": second.cpu(), **notes}
                for row, (first, second) in zip(rows, pairs, strict=True)
            ]

        def reference_of(rows: list[Any]) -> Tensor:
            return policy.reference_log_probabilities(sequences_of(rows)).sum(dim=1).view(2, -1).T

        with autocast(policy.device, mixed_precision):
            tokens = sum(sum(sequence_lengths(data, (column,))) for column in _RESPONSES)
            kept = keeps_states(policy, frozen_layers, plain, lengths, tokens, sequences_of)
            if kept:
                notes = {"hidden_states_precision": precision, "hidden_states_model": policy.origin(with_states=True)}
                plain = map_rows(with_states, plain, lengths, batch_size, "frozen layers")
            if not self.needs_reference:
                return plain
            kind = f"{type(self).__module__}.{type(self).__qualname__}{' from activations' if kept else ''}"
            how = (("prompt_ids", *_RESPONSES), reference_of, precision, kept_references, kind)
            return with_references(policy, plain, lengths, batch_size, *how)

    def check_data(self, model: nn.Module, data: Sequence[Any], precision: str) -> None:
        """Refuse rows that the model does not go with.

        Args:
            model: the policy.
            data: rows.
            precision: what the policy is to run in.

        Raises:
            ValueError: a row of other tokens than the model's or longer than it has positions for, with something else
                than two finite numbers as its reference, or whose reference or activations were computed by another
                model or in another precision.
        """
        policy = Policy(model)
        if self.needs_reference:
            check_reference_rows(policy, data, precision)
        check_row_precision(data, "hidden_states", "hidden_states_0", precision)
        policy.check_origin(data, "hidden_states", with_states=True)
        policy.checked_lengths(data, _RESPONSES)
