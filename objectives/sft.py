"""SFT: supervised fine-tuning on the answers of several dimensions at once."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mopref.conditioning.preference_model import require_preference_model
from mopref.llm.data.lengths import batches_of_like_length
from mopref.objective import RowLosses, RowObjective

__all__ = ["SFT", "collate_responses", "negative_log_likelihoods"]


def collate_responses(rows: Sequence[Any]) -> dict[str, Tensor]:
    """Make one padded batch of N rows with ``prompt_ids`` and ``response_ids``; kept activations come along."""
    from mopref.llm.policy.log_probabilities import collate_sequences

    states = [row["hidden_states"] for row in rows] if "hidden_states" in rows[0] else None
    return collate_sequences([row["prompt_ids"] for row in rows], [row["response_ids"] for row in rows], states)


def negative_log_likelihoods(
    model: nn.Module, sequences: dict[str, Tensor], preferences: Tensor, length_normalized: bool = False
) -> Tensor:
    """−log π(y|x; λ) of each sequence under its own preference: N sequences and preferences ``(N, m)`` to ``(N,)``.

    Summed over the response's tokens, in nats; divided by their number where ``length_normalized``. One forward,
    differentiable. ``sequences`` is a batch made by :func:`collate_responses`.
    """
    from mopref.llm.policy.log_probabilities import sequence_log_probabilities

    losses = -sequence_log_probabilities(model, sequences, preferences=preferences)
    return losses / sequences["response_mask"].sum(dim=1) if length_normalized else losses


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

    def collate(self, rows: list[Any]) -> dict[str, Any]:
        """Make a batch of B rows: their padded sequences, and ``dimensions`` ``(B, m)``."""
        return {"sequences": collate_responses(rows), "dimensions": self.labelled(rows)}

    def num_rows(self, batch: Any) -> int:
        """The number of sequences."""
        return int(batch["dimensions"].shape[0])

    def row_losses(self, model: nn.Module, batch: Any, preferences: Tensor) -> RowLosses:
        """−log π(y|x; λ) of every row, the same in each of its dimensions: ``(B, m)``."""
        losses = negative_log_likelihoods(model, batch["sequences"], preferences, self.length_normalized)
        return RowLosses(losses.unsqueeze(1).expand(-1, len(self.names)), batch["dimensions"])

    def mean_losses(self, model: nn.Module, data: Sequence[Any] | None, preferences: Tensor, batch_size: int) -> Tensor:
        """Mean losses over each dimension's rows at each preference, ``(N, m)`` to ``(N, m)``, without gradients.

        Raises:
            ValueError: no data, no row of some dimension, or a row that :meth:`labelled` refuses.
        """
        if data is not None:
            self.labelled(data)  # Here, since below a row would be named by its place in a batch.
            data = [data[i] for batch in _batches(data, batch_size) for i in batch]
        return super().mean_losses(model, data, preferences, batch_size)

    def precompute(self, model: nn.Module, data: Sequence[Any], batch_size: int = 8) -> list[dict[str, Any]]:
        """Copies of the rows with the activations that enter the first adapted block, ``hidden_states``.

        The blocks below it are then run at no step and no preference. Exact, unless these blocks drop units in
        training; takes (tokens × hidden size) numbers a row. Blocks like Llama's only.

        Args:
            model: the ``PreferenceModel`` to be trained.
            data: rows.
            batch_size: rows in one forward.

        Returns:
            New rows, in the order of ``data``.
        """
        from accelerate.utils import send_to_device
        from tqdm.auto import tqdm

        from mopref.llm.policy.frozen_layers import check_frozen_layers, lower_hidden_states

        inner = require_preference_model(model, "keeping frozen layers' activations")
        device = next(inner.parameters()).device
        done: list[dict[str, Any]] = [{k: v for k, v in row.items() if k != "hidden_states"} for row in data]
        batches = _batches(data, batch_size)
        bar = tqdm(batches, desc="frozen layers", disable=None if len(batches) > 3 else True, leave=False)
        for number, chosen in enumerate(bar):
            sequences = send_to_device(collate_responses([done[i] for i in chosen]), device)
            states = lower_hidden_states(inner, sequences)
            if number == 0:
                check_frozen_layers(inner, sequences, states)
            for index, state in zip(chosen, states, strict=True):
                done[index]["hidden_states"] = state.cpu()
        return done


def _batches(data: Sequence[Any], batch_size: int) -> list[list[int]]:
    return batches_of_like_length([len(row["prompt_ids"]) + len(row["response_ids"]) for row in data], batch_size)
