"""SFT: supervised fine-tuning on the answers of several dimensions at once."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from mopref.llm.data.lengths import batches_of_like_length
from mopref.llm.data.sequences import Sequences, collate_sequences, optional_column
from mopref.llm.policy.policy import Policy
from mopref.llm.policy.precompute import map_rows
from mopref.objective import RowLosses, RowObjective
from mopref.registry import OBJECTIVES

__all__ = ["SFT", "ResponseBatch"]


class ResponseBatch(NamedTuple):
    """B responses.

    Attributes:
        sequences: B of them.
        dimensions: ``(B, m)`` bool, which response belongs to which dimension.
    """

    sequences: Sequences
    dimensions: Tensor


@OBJECTIVES.register("sft")
class SFT(RowObjective):
    """Supervised fine-tuning on m dimensions: one forward gives all m losses, to be minimised.

        SFT_i = mean over the rows of dimension i of −log π(y|x; λ),

    summed over response tokens. With linear scalarization the best policy for λ is the mixture Σ_i λ_i p_i of the
    dimensions' data distributions, so that λ_i is the share of answers in style i; where the styles' answers never
    coincide, SFT_i is then its least possible value plus log 1/λ_i.

    A data row is a dict: ``prompt_ids`` and ``response_ids`` (lists of token ids) and ``dimensions`` (m bools: the
    dimensions whose data the row belongs to, at least one). :func:`mopref.llm.data.tokenize_responses`
    makes such rows of texts.

    Args:
        names: the names of the m dimensions, in the order of a row's ``dimensions``.
        length_normalized: divide each row's loss by its number of response tokens. SFT_i is then the mean over rows of
            per-token losses, in which each row counts alike, not the mean over all tokens; and the mixture above is no
            longer the best policy, since a style of short answers weighs more.

    Source: the fine-tuning setting of Panacea, arXiv 2402.02030.
    """

    record_types = (ResponseBatch, Sequences)

    def __init__(self, names: Sequence[str], length_normalized: bool = False) -> None:
        self.names = tuple(names)
        self.length_normalized = length_normalized

    def labelled(self, data: Sequence[Any]) -> Tensor:
        """Which row belongs to which dimension, ``(rows, m)`` bool.

        Raises:
            ValueError: a row with another number of entries, one that is not true or false, or none that is true.
        """
        for index, row in enumerate(data):
            flags = list(row["dimensions"])
            if len(flags) != len(self.names) or any(flag not in (0, 1) for flag in flags):
                raise ValueError(
                    f"row {index} has dimensions {flags}: give one bool for each of {', '.join(self.names)}, true "
                    "where the row is data of that dimension."
                )
            if not any(flags):
                raise ValueError(f"row {index} belongs to none of {', '.join(self.names)}: leave the row out.")
        return torch.tensor([list(row["dimensions"]) for row in data], dtype=torch.bool)

    def collate(self, rows: list[Any]) -> ResponseBatch:
        """A batch of B rows, whose dimensions are checked already."""
        states = optional_column(rows, "hidden_states")
        prompts, responses = [row["prompt_ids"] for row in rows], [row["response_ids"] for row in rows]
        dimensions = torch.tensor([list(row["dimensions"]) for row in rows], dtype=torch.bool)
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
        return batches_of_like_length(_lengths(data), batch_size)

    def precompute(
        self, model: nn.Module, data: Sequence[Any], batch_size: int = 8, frozen_layers: bool | Literal["auto"] = True
    ) -> list[dict[str, Any]]:
        """Copies of the rows with the activations that enter the first adapted block, ``hidden_states``.

        The blocks below it are then run at no step and no preference. Exact, unless these blocks drop units in
        training; takes (tokens × hidden size) numbers a row. Blocks like Llama's only.

        Args:
            model: the ``PreferenceModel`` to be trained.
            data: rows.
            batch_size: rows in one forward.
            frozen_layers: whether to keep them; "auto": where there are such blocks, and 2 GiB suffice for it.

        Returns:
            New rows, in the order of ``data``.
        """
        policy, lengths = Policy(model), _lengths(data)
        plain = [{key: value for key, value in row.items() if key != "hidden_states"} for row in data]
        if frozen_layers == "auto":
            frozen_layers = policy.keeps_lower_layers(sum(lengths))
        if not frozen_layers:
            return plain
        if plain:
            longest = plain[lengths.index(max(lengths))]
            policy.check_frozen_layers(self.collate([longest]).sequences.to(policy.device))

        def complete_rows(rows: list[Any]) -> list[dict[str, Any]]:
            sequences = policy.with_lower_hidden_states(self.collate(rows).sequences.to(policy.device))
            states = sequences.unpadded_hidden_states()
            return [{**row, "hidden_states": state.cpu()} for row, state in zip(rows, states, strict=True)]

        return map_rows(complete_rows, plain, lengths, batch_size, "frozen layers")


def _lengths(data: Sequence[Any]) -> list[int]:
    return [len(row["prompt_ids"]) + len(row["response_ids"]) for row in data]
