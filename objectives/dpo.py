"""DPO: direct preference optimisation on several objectives at once."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mopref.argument_kinds import checks_arguments
from mopref.llm.pairs import PairBatch, PairObjective, log_ratios
from mopref.llm.pairs.margin_losses import (
    LOSSES,
    MarginLoss,
    hinge_loss,
    ipo_loss,
    preference_signs,
    robust_loss,
    sigmoid_loss,
)
from mopref.registry import OBJECTIVES
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


@OBJECTIVES.register("dpo")
class DPO(PairObjective):
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

    @checks_arguments(but=("names",))
    def __init__(
        self,
        names: Sequence[str],
        beta: float = 0.1,
        loss: str = "sigmoid",
        length_normalized: bool = False,
        label_smoothing: float | None = None,
        disable_dropout: bool = True,
    ) -> None:
        super().__init__(names)
        self._margin_loss = MarginLoss(loss, beta, label_smoothing)
        self.beta, self.loss = self._margin_loss.beta, self._margin_loss.loss
        self.length_normalized: bool = python_value(length_normalized, bool, "length_normalized")
        self.label_smoothing = self._margin_loss.label_smoothing
        self.disable_dropout = python_value(disable_dropout, bool, "disable_dropout")

    def scores(self, model: nn.Module, batch: PairBatch, preferences: Tensor) -> Tensor:
        """h of both responses of each pair, ``(B, 2)``."""
        # Before the policy's forward: some models change their weights in place on entering evaluation mode.
        batch = self.complete(model, batch)
        h = log_ratios(model, batch, preferences)
        if self.length_normalized:
            h = h / torch.stack(batch.sequences.response_lengths.chunk(2), dim=1)
        return h

    def implicit_rewards(self, scores: Tensor) -> Tensor:
        """β h."""
        return self.beta * scores

    def pair_losses(self, scores: Tensor, labels: Tensor) -> Tensor:
        """ℓ(c_i · d): scores ``(…, rows, 2)`` and labels ``(rows, m)`` to losses ``(…, rows, m)``."""
        return self._margin_loss(scores[..., 0] - scores[..., 1], labels)
