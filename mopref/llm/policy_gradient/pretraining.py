"""The pre-training term: what keeps a policy that chases rewards a language model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from mopref.data_rows import check_columns, checked_rows
from mopref.llm.data.sequences import collate_sequences
from mopref.llm.policy.policy import Policy
from mopref.setting_types import set_python_values

__all__ = ["PretrainingTerm"]


@dataclass(frozen=True)
class PretrainingTerm:
    """c times the mean −log π of a token, over rows drawn at random at every step; to be minimised, whatever λ.

    Args:
        data: rows with ``prompt_ids`` and ``response_ids``, such as ``plain_text_rows`` makes.
        coefficient: c > 0.
        batch_size: rows at every step.

    Raises:
        ValueError: no row, one without those columns, or a number that is not positive.
        TypeError: data whose rows cannot be counted, or had by their number, or a number of another type.

    Source: InstructGPT, arXiv 2203.02155, eq. 2.
    """

    # Not in its repr: thousands of rows of token ids.
    data: Sequence[Any] = field(repr=False)
    coefficient: float = 1.0
    batch_size: int = 4

    def __post_init__(self) -> None:
        if len(checked_rows(self.data, "data")) == 0:
            raise ValueError("the pre-training data has no row: leave the term out, or give at least one.")
        check_columns(
            self.data, ("prompt_ids", "response_ids"), "use plain_text_rows(tokenizer, texts) to make the data"
        )
        set_python_values(self, float, "coefficient")
        set_python_values(self, int, "batch_size")
        if not 0 < self.coefficient < math.inf:
            what = "positive and finite" if self.coefficient > 0 else "positive"
            raise ValueError(f"coefficient is {self.coefficient}: it must be {what}, or leave the term out.")
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}: it must be at least 1.")

    @classmethod
    def checked(cls, term: Any) -> Self | None:
        """The term itself, or ``None`` for none.

        Raises:
            TypeError: anything else, such as the rows alone.
        """
        if term is not None and not isinstance(term, cls):
            raise TypeError(f"pretraining is a {type(term).__name__}: give PretrainingTerm(rows), with a share.")
        return term

    def check_rows(self, policy: Policy) -> None:
        """Refuse rows of other tokens than the model's, or longer than it has positions for.

        Raises:
            ValueError: such a row.
        """
        policy.checked_lengths(self.data, ("response_ids",), "row of the pre-training data")

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
