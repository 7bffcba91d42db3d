"""The pre-training term: what keeps a policy that chases rewards a language model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mopref.data_rows import check_columns, checked_rows
from mopref.llm.data.sequences import collate_sequences
from mopref.llm.policy.policy import Policy

__all__ = ["PretrainingTerm"]


@dataclass(frozen=True)
class PretrainingTerm:
    """c times the mean −log π of a token, over rows drawn at random at every step; to be minimised, whatever λ.

    Args:
        data: rows with ``prompt_ids`` and ``response_ids``, such as ``plain_text_rows`` makes.
        coefficient: c > 0.
        batch_size: rows at every step.

    Raises:
        ValueError: no row, or a number that is not positive.

    Source: InstructGPT, arXiv 2203.02155, eq. 2.
    """

    # Not in its repr: thousands of rows of token ids.
    data: Sequence[Any] = field(repr=False)
    coefficient: float = 1.0
    batch_size: int = 4

    def __post_init__(self) -> None:
        if len(self.data) == 0:
            raise ValueError("the pre-training data has no row: leave the term out, or give at least one.")
        if not self.coefficient > 0:
            raise ValueError(f"coefficient is {self.coefficient}: it must be positive, or leave the term out.")
        if not self.batch_size >= 1:
            raise ValueError(f"batch_size is {self.batch_size}: it must be at least 1.")

    def check_rows(self, policy: Policy) -> None:
        """Refuse rows of other tokens than the model's, or longer than it has positions for.

        Raises:
            ValueError: such a row.
        """
        rows, columns = checked_rows(self.data, "the pre-training data"), ("prompt_ids", "response_ids")
        check_columns(rows, columns, "use plain_text_rows(tokenizer, texts)")
        what = "row of the pre-training data"
        policy.check_lengths([sum(counts) for counts in policy.token_counts(rows, columns, what)], what)

    def loss(self, policy: Policy, preferences: Tensor) -> Tensor:
        """The term, a scalar; the rows share the preferences ``(G, m)`` in turn.

        Rows are drawn from PyTorch's global generator.
        """
        rows = [self.data[index] for index in torch.randint(len(self.data), (self.batch_size,)).tolist()]
        sequences = collate_sequences([row["prompt_ids"] for row in rows], [row["response_ids"] for row in rows])
        sequences = sequences.to(preferences.device)
        row_preferences = preferences[torch.arange(len(rows)) % len(preferences)]
        log_probabilities = policy.sequence_log_probabilities(sequences, row_preferences)
        return -self.coefficient * log_probabilities.sum() / sequences.response_mask.sum()
