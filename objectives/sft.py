"""SFT: supervised fine-tuning on the answers of several dimensions at once."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from mopref.argument_kinds import checks_arguments
from mopref.conditioning.conditioned_model import check_objectives
from mopref.data_rows import check_columns, checked_rows, entry_matrix, is_flag
from mopref.llm.data.lengths import batches_of_like_length, sequence_lengths
from mopref.llm.data.sequences import Sequences, collate_sequences, optional_column
from mopref.llm.policy.policy import Policy
from mopref.llm.policy.precompute import keeps_states, map_rows, rows_without_states
from mopref.mixed_precision import autocast, check_row_precision, precision_name
from mopref.objective import RowLosses, RowObjective
from mopref.objective_names import check_row_names, checked_names
from mopref.registry import OBJECTIVES
from mopref.setting_types import python_value

__all__ = ["SFT", "ResponseBatch"]


class ResponseBatch(NamedTuple):
    """B responses.

    Attributes:
        sequences: B of them.
        dimensions: ``(B, m)`` bool, which response belongs to which dimension.
    """

    sequences: Sequences
    dimensions: Tensor


_RESPONSES = ("response_ids",)
_COLUMNS = ("prompt_ids", *_RESPONSES, "dimensions")
_REMEDY = "use tokenize_responses(tokenizer, records, dimensions) to make such rows"


@OBJECTIVES.register("sft")
class SFT(RowObjective):
    """Supervised fine-tuning on m dimensions: one forward gives all m losses, to be minimised.

        SFT_i = mean over the rows of dimension i of −log π(y|x; λ),

    summed over response tokens. With linear scalarization the best policy for λ is the mixture Σ_i λ_i p_i of the
    dimensions' data distributions, so that λ_i is the share of answers in style i; where the styles' answers never
    coincide, SFT_i is then its least possible value plus log 1/λ_i.

    A data row is a dict: ``prompt_ids`` and ``response_ids`` (lists of token ids) and ``dimensions`` (m bools: the
    dimensions whose data the row belongs to, at least one). :func:`mopref.llm.data.tokenize_responses`
    makes such rows of texts. Where a row names its dimensions (``objectives``), the names must be these, in this order.

    Args:
        names: the names of the m dimensions, in the order of a row's ``dimensions``.
        length_normalized: divide each row's loss by its number of response tokens. SFT_i is then the mean over rows of
            per-token losses, in which each row counts alike, not the mean over all tokens; and the mixture above is no
            longer the best policy, since a style of short answers weighs more.

    Raises:
        ValueError: names that are not distinct texts.
        TypeError: ``length_normalized`` that is neither true nor false.

    Source: the fine-tuning setting of Panacea, arXiv 2402.02030.
    """

    record_types = (ResponseBatch, Sequences)

    @checks_arguments(but=("names",))
    def __init__(self, names: Sequence[str], length_normalized: bool = False) -> None:
        self.names = checked_names(names)
        self.length_normalized: bool = python_value(length_normalized, bool, "length_normalized")

    def labelled(self, data: Sequence[Any]) -> Tensor:
        """Which row belongs to which dimension, ``(rows, m)`` bool.

        Raises:
            ValueError: a row without token ids or dimensions, with other dimensions, with another number of entries,
                one that is not true or false, or none that is true.
        """
        self._check_rows(data)
        names = ", ".join(self.names)
        remedy = f"give one bool for each of {names}, true where the row is data of that dimension"
        flags = entry_matrix(data, "dimensions", len(self.names), is_flag, remedy).bool()
        without = (~flags.any(dim=1)).nonzero()
        if len(without):
            raise ValueError(f"row {int(without[0])} belongs to none of {names}: leave the row out.")
        return flags

    def _check_rows(self, data: Sequence[Any]) -> None:
        """Refuse what are no rows of token ids, or rows of other dimensions."""
        check_columns(checked_rows(data, "data"), _COLUMNS, _REMEDY)
        check_row_names(self.names, "SFT", data)

    def collate(self, rows: list[Any]) -> ResponseBatch:
        """A batch of B rows, whose dimensions are checked already."""
        kept = optional_column(rows, "hidden_states")
        # Lists, arrays or tensors, as a data set hands them out.
        states = None if kept is None else [torch.as_tensor(part) for part in kept]
        prompts, responses = [row["prompt_ids"] for row in rows], [row["response_ids"] for row in rows]
        # Each by itself: PyTorch 2.6 does not take NumPy's truth values.
        dimensions = torch.tensor([[bool(value) for value in row["dimensions"]] for row in rows], dtype=torch.bool)
        return ResponseBatch(collate_sequences(prompts, responses, states), dimensions)

    def num_rows(self, batch: ResponseBatch) -> int:
        """The number of sequences."""
        return len(batch.dimensions)

    def row_losses(self, model: nn.Module, batch: ResponseBatch, preferences: Tensor) -> RowLosses:
        """−log π(y|x; λ) of every row, the same in each of its dimensions: ``(B, m)``."""
        losses = -Policy(model).sequence_log_probabilities(batch.sequences, preferences)
        if self.length_normalized:
            losses = losses / batch.sequences.response_lengths
        return RowLosses(losses.unsqueeze(1).expand(-1, len(self.names)), batch.dimensions)

    def evaluation_batches(self, data: Sequence[Any], batch_size: int) -> list[list[int]]:
        """Rows of like length together."""
        return batches_of_like_length(sequence_lengths(data, _RESPONSES), batch_size)

    def precompute(
        self,
        model: nn.Module,
        data: Sequence[Any],
        batch_size: int = 8,
        frozen_layers: bool | Literal["auto"] = True,
        mixed_precision: str | None = None,
    ) -> Any:
        """Copies of the rows with the activations that enter the first adapted block, ``hidden_states``.

        The blocks below it are then run at no step and no preference. Exact, unless these blocks drop units in
        training; takes (tokens × hidden size) numbers a row.

        Args:
            model: the ``PreferenceModel`` to be trained.
            data: rows.
            batch_size: rows in one forward.
            frozen_layers: whether to keep them. A model that it does not fit is refused, such as one whose first block
                is adapted. "auto": where it does fit, and 2 GiB suffice for it.
            mixed_precision: as the training's config has it, ``None``, "bf16" or "fp16".

        Returns:
            New rows, in the order of ``data``; with activations also their ``hidden_states_precision`` and
            ``hidden_states_model``. A list of dicts; a ``datasets.Dataset`` stays one, unless activations are kept,
            which are in memory.

        Raises:
            ValueError: a model or rows with other objectives, rows without the model's token ids or longer than it
                has positions for, an unknown precision, or ``frozen_layers`` for a model that it does not fit.
            TypeError: data whose rows cannot be counted, or had by their number.
        """
        self.labelled(data)
        check_objectives(model, self.names, "SFT")
        policy = Policy(model)
        lengths = policy.checked_lengths(data, _RESPONSES)
        plain, precision = rows_without_states(data), precision_name(model, mixed_precision)

        def sequences_of(rows: list[Any]) -> Sequences:
            return self.collate(rows).sequences.to(policy.device)

        with autocast(policy.device, mixed_precision):
            if not keeps_states(policy, frozen_layers, plain, lengths, sum(lengths), sequences_of):
                return plain
            notes = {"hidden_states_precision": precision, "hidden_states_model": policy.origin(with_states=True)}

            def complete_rows(rows: list[Any]) -> list[dict[str, Any]]:
                sequences = policy.with_lower_hidden_states(sequences_of(rows))
                states = sequences.unpadded_hidden_states()
                return [{**row, "hidden_states": state.cpu(), **notes} for row, state in zip(rows, states, strict=True)]

            return map_rows(complete_rows, plain, lengths, batch_size, "frozen layers")

    def check_data(self, model: nn.Module, data: Sequence[Any], precision: str) -> None:
        """Refuse rows that the model does not go with.

        Args:
            model: the policy.
            data: rows.
            precision: what the policy is to run in.

        Raises:
            ValueError: a row of other tokens than the model's or longer than it has positions for, or whose activations
                were kept of another model or in another precision.
        """
        policy = Policy(model)
        check_row_precision(data, "hidden_states", "hidden_states", precision)
        policy.check_origin(data, "hidden_states", with_states=True)
        policy.checked_lengths(data, _RESPONSES)
