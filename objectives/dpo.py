"""DPO: direct preference optimisation on several objectives at once."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, relu

from mopref._masked import labelled_sum
from mopref._progress import progress_bar
from mopref.conditioning.conditioned_model import check_objectives
from mopref.data_rows import check_columns, checked_rows, entry_matrix, is_label
from mopref.evaluation_mode import disable_dropout
from mopref.llm.data.lengths import batches_of_like_length
from mopref.llm.data.sequences import Sequences, collate_sequences, optional_column
from mopref.llm.policy.policy import Policy
from mopref.llm.policy.precompute import check_references, keeps_states, map_rows, rows_without_states
from mopref.mixed_precision import autocast, check_row_precision, precision_name
from mopref.objective import RowLosses, RowObjective
from mopref.objective_names import check_row_names, checked_names
from mopref.registry import OBJECTIVES, Registry
from mopref.setting_types import python_value

__all__ = [
    "DPO",
    "LOSSES",
    "PairBatch",
    "hinge_loss",
    "ipo_loss",
    "preference_signs",
    "robust_loss",
    "sigmoid_loss",
]


# A new loss of the signed margin c·d is one function here, (margins, beta, options) to losses, elementwise.
LOSSES: Registry[Tensor] = Registry("DPO loss")


@LOSSES.register("sigmoid")
def sigmoid_loss(signed_margin: Tensor, beta: float) -> Tensor:
    """−log σ(β c d), elementwise (Rafailov et al., arXiv 2305.18290, eq. 7)."""
    return -logsigmoid(beta * signed_margin)


@LOSSES.register("ipo")
def ipo_loss(signed_margin: Tensor, beta: float) -> Tensor:
    """(c d − 1/(2β))², elementwise (Azar et al., arXiv 2310.12036, eq. 17)."""
    return (signed_margin - 1 / (2 * beta)) ** 2


@LOSSES.register("hinge")
def hinge_loss(signed_margin: Tensor, beta: float) -> Tensor:
    """max(0, 1 − β c d), elementwise (Zhao et al., SLiC-HF, arXiv 2305.10425, on DPO's margin)."""
    return relu(1 - beta * signed_margin)


@LOSSES.register("robust")
def robust_loss(signed_margin: Tensor, beta: float, label_smoothing: float = 0.1) -> Tensor:
    """((1 − ε)·(−log σ(β c d)) − ε·(−log σ(−β c d))) / (1 − 2ε), elementwise.

    Unbiased where a fraction ε < ½ of the labels is flipped (Chowdhury et al., arXiv 2403.00409, eq. 12). It is not
    bounded below: with ε > 0 it tends to −∞ as the margin of a *correctly* labelled pair grows without limit.
    """
    as_labelled, flipped = sigmoid_loss(signed_margin, beta), sigmoid_loss(-signed_margin, beta)
    return ((1 - label_smoothing) * as_labelled - label_smoothing * flipped) / (1 - 2 * label_smoothing)


def preference_signs(labels: Tensor) -> Tensor:
    """c: +1 where response 0 is preferred (label 0), −1 where response 1 is (label 1), 0 where unlabelled (−1)."""
    return torch.where(labels < 0, torch.zeros_like(labels), 1 - 2 * labels)


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


_TOKENS = ("prompt_ids", "response_0_ids", "response_1_ids")
_COLUMNS = (*_TOKENS, "labels")
_REMEDY = "use tokenize_records(tokenizer, records, objectives) to make such rows"


@OBJECTIVES.register("dpo")
class DPO(RowObjective):
    """DPO on m objectives: one policy forward and one reference forward give all m losses.

    With h(x, y) = log π(y|x) − log π_ref(y|x), summed over response tokens, and d = h(x, y_0) − h(x, y_1):

        DPO_i = mean over the rows labelled on i of ℓ(c_i · d),   c_i = +1 if y_0 is preferred on i, −1 if y_1 is.

    The reference π_ref is the model with its adapters disabled, in evaluation mode. Rows not labelled on i, or tied,
    do not count in i's mean.

    A data row is a dict: ``prompt_ids``, ``response_0_ids`` and ``response_1_ids`` (lists of token ids) and ``labels``
    (m integers in {0, 1, −1}). :meth:`precompute` adds what need not be computed at every step. Where a row names its
    labels (``objectives``, as ``tokenize_records`` writes), the names must be these, in this order.

    Args:
        names: the names of the m objectives, in the order of the labels.
        beta: β > 0, the strength of the pull towards the reference, per nat.
        loss: ℓ: "sigmoid", "ipo", "hinge" or "robust".
        length_normalized: divide each h by its response's number of tokens (as TRL does for IPO).
        label_smoothing: ε of the robust loss, in [0, ½).
        disable_dropout: set the model's dropout to 0, for good, when a trainer is made. With dropout in the policy
            alone the margin is noise before anything is learned.

    Raises:
        ValueError: names that are not distinct texts, an unknown loss (the known ones are listed), or a value out of
            its range.
        TypeError: a value of another type, named.

    Source: Rafailov et al., arXiv 2305.18290; on several dimensions, Panacea, arXiv 2402.02030.
    """

    record_types = (PairBatch, Sequences)

    def __init__(
        self,
        names: Sequence[str],
        beta: float = 0.1,
        loss: str = "sigmoid",
        length_normalized: bool = False,
        label_smoothing: float | None = None,
        disable_dropout: bool = True,
    ) -> None:
        self.names = checked_names(names)
        self.beta: float = python_value(beta, float, "beta")
        self.loss: str = python_value(loss, str, "loss")
        self._loss_function = LOSSES.find(self.loss)
        if not (self.beta > 0 and math.isfinite(self.beta)):
            raise ValueError(f"beta is {beta}: it must be positive and finite.")
        if label_smoothing is not None:
            label_smoothing = python_value(label_smoothing, float, "label_smoothing")
        if label_smoothing is not None and loss != "robust":
            raise ValueError(f"label_smoothing belongs to the robust loss, not to {loss!r}: leave it out.")
        if label_smoothing is not None and not 0 <= label_smoothing < 0.5:
            raise ValueError(f"label_smoothing is {label_smoothing}: the fraction of flipped labels is in [0, 0.5).")
        self.length_normalized: bool = python_value(length_normalized, bool, "length_normalized")
        self.label_smoothing = label_smoothing
        self.disable_dropout: bool = python_value(disable_dropout, bool, "disable_dropout")
        self._loss_options = {} if label_smoothing is None else {"label_smoothing": label_smoothing}

    def prepare_model(self, model: nn.Module) -> None:
        """Turn dropout off, unless it is to stay."""
        if self.disable_dropout:
            disable_dropout(model)

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
        check_row_names(self.names, "DPO", data)

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

    def complete(self, model: nn.Module, batch: PairBatch) -> PairBatch:
        """The batch with the reference's log-probabilities, which are the same at every preference."""
        if batch.reference_log_probabilities is not None:
            return batch
        reference = Policy(model).reference_log_probabilities(batch.sequences).sum(dim=1)
        return batch._replace(reference_log_probabilities=reference)

    def margins(self, model: nn.Module, batch: PairBatch, preferences: Tensor) -> Tensor:
        """d = h(x, y_0) − h(x, y_1) of each pair under its own preference ``(B, m)``: shape ``(B,)``."""
        # Before the policy's forward: some models change their weights in place on entering evaluation mode.
        reference = self.complete(model, batch).reference_log_probabilities
        log_probabilities = Policy(model).sequence_log_probabilities(batch.sequences, preferences.repeat(2, 1))
        assert reference is not None
        h = log_probabilities - reference.to(log_probabilities)
        if self.length_normalized:
            h = h / batch.sequences.response_lengths
        first, second = h.chunk(2)
        return first - second

    def row_losses(self, model: nn.Module, batch: PairBatch, preferences: Tensor) -> RowLosses:
        """ℓ(c_i · d) of every pair and objective: ``(B, m)``."""
        return RowLosses(self._pair_losses(self.margins(model, batch, preferences), batch.labels), batch.labels >= 0)

    def _pair_losses(self, margins: Tensor, labels: Tensor) -> Tensor:
        """ℓ(c_i · d), from margins ``(…, rows)`` and labels ``(rows, m)``: shape ``(…, rows, m)``."""
        signed = preference_signs(labels) * margins.unsqueeze(-1)
        return self._loss_function(signed, self.beta, **self._loss_options)

    def evaluation_batches(self, data: Sequence[Any], batch_size: int) -> list[list[int]]:
        """Rows of like length together."""
        return batches_of_like_length(_lengths(data), batch_size)

    def all_margins(
        self, model: nn.Module, data: Sequence[Any], preferences: Tensor, batch_size: int, progress: bool = False
    ) -> Tensor:
        """d of every row at every preference ``(N, m)``: shape ``(N, rows)``, on the CPU, without gradients."""
        device, batches = Policy(model).device, self.evaluation_batches(data, batch_size)
        margins = torch.zeros(len(preferences), len(data), dtype=torch.float64)
        forwards = len(batches) * len(preferences)
        with torch.no_grad(), progress_bar(None, "evaluation", enabled=progress, total=forwards) as bar:
            for indices in batches:
                batch = self.complete(model, send_to_device(self.collate([data[i] for i in indices]), device))
                for number, preference in enumerate(preferences.to(device)):
                    of_batch = self.margins(model, batch, preference.expand(len(indices), -1))
                    margins[number, indices] = of_batch.double().cpu()
                    bar.update()
        return margins

    def losses_of_margins(self, margins: Tensor, labels: Tensor) -> Tensor:
        """Mean losses over labelled rows, from margins ``(N, rows)`` and labels ``(rows, m)``: shape ``(N, m)``.

        Raises:
            ValueError: no row labelled on some objective.
        """
        counts = (labels >= 0).sum(dim=0)
        self.refuse_unlabelled(counts)
        return labelled_sum(self._pair_losses(margins, labels), labels >= 0, dim=1) / counts

    def precompute(
        self,
        model: nn.Module,
        data: Sequence[Any],
        batch_size: int = 8,
        frozen_layers: bool | Literal["auto"] = False,
        mixed_precision: str | None = None,
    ) -> list[dict[str, Any]]:
        """Copies of the rows with what is the same at every step: the reference's log-probabilities.

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

        Returns:
            New rows, in the order of ``data``, with ``reference_log_probabilities`` (two numbers), their
            ``reference_precision`` and ``reference_model`` and, with ``frozen_layers``, ``hidden_states_0``,
            ``hidden_states_1`` and their ``hidden_states_model``.

        Raises:
            ValueError: a model or rows with other objectives, rows without the model's token ids or longer than it
                has positions for, an unknown precision, or ``frozen_layers`` for a model that it does not fit.
            TypeError: data whose rows cannot be counted, or had by their number.
        """
        self.labels(data)
        check_objectives(model, self.names, "DPO")
        policy = Policy(model)
        lengths = _checked_lengths(policy, data)
        plain, precision = rows_without_states(data), precision_name(model, mixed_precision)

        def sequences_of(rows: list[Any]) -> Sequences:
            return self.collate(rows).sequences.to(policy.device)

        with autocast(policy.device, mixed_precision):
            kept = keeps_states(policy, frozen_layers, plain, lengths, sum(map(_tokens, data)), sequences_of)
            notes = {"reference_precision": precision, "reference_model": policy.origin()}
            if kept:
                notes["hidden_states_model"] = policy.origin(with_states=True)

            def complete_rows(rows: list[Any]) -> list[dict[str, Any]]:
                sequences = sequences_of(rows)
                states: list[dict[str, Tensor]] = [{} for _ in rows]
                if kept:
                    sequences = policy.with_lower_hidden_states(sequences)
                    parts = [part.cpu() for part in sequences.unpadded_hidden_states()]
                    pairs = zip(parts[: len(rows)], parts[len(rows) :], strict=True)
                    states = [{"hidden_states_0": first, "hidden_states_1": second} for first, second in pairs]
                reference = policy.reference_log_probabilities(sequences).sum(dim=1).view(2, -1).T.tolist()
                return [
                    {**row, **own, "reference_log_probabilities": pair, **notes}
                    for row, own, pair in zip(rows, states, reference, strict=True)
                ]

            return map_rows(complete_rows, plain, lengths, batch_size, "reference")

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
        check_references(data)
        check_row_precision(data, "reference", "reference_log_probabilities", precision)
        policy.check_origin(data, "reference")
        policy.check_origin(data, "hidden_states", with_states=True)
        _checked_lengths(policy, data)


def _tokens(row: Mapping[str, Any]) -> int:
    return 2 * len(row["prompt_ids"]) + len(row["response_0_ids"]) + len(row["response_1_ids"])


def _lengths(data: Sequence[Any]) -> list[int]:
    return [len(row["prompt_ids"]) + max(len(row["response_0_ids"]), len(row["response_1_ids"])) for row in data]


def _checked_lengths(policy: Policy, data: Sequence[Any]) -> list[int]:
    """The tokens of each row's longest sequence, once the model has them all and positions for them."""
    counts = policy.token_counts(data, _TOKENS)
    lengths = [prompt + max(responses) for prompt, *responses in counts]
    policy.check_lengths(lengths)
    return lengths
