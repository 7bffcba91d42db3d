"""Losses of one margin: of what a policy's log-probabilities say about a pair."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from mopref._repr import OptionsRepr
from mopref.argument_kinds import checks_arguments
from mopref.registry import Registry
from mopref.setting_types import python_value

__all__ = [
    "LOSSES",
    "MarginLoss",
    "hinge_loss",
    "ipo_loss",
    "preference_signs",
    "robust_loss",
    "sigmoid_loss",
    "signed_margins",
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


def signed_margins(margins: Tensor, labels: Tensor) -> Tensor:
    """c · d: margins ``(…, rows)`` and labels ``(rows, m)`` to ``(…, rows, m)``; 0 where unlabelled, whatever d is."""
    signed = preference_signs(labels) * margins.unsqueeze(-1)
    # where, not the sign alone: 0 times infinity is NaN.
    return torch.where(labels < 0, torch.zeros_like(signed), signed)


class MarginLoss(OptionsRepr):
    """ℓ(c · d) of margins d and labels.

    Args:
        loss: "sigmoid", "ipo", "hinge" or "robust".
        beta: β > 0, per nat.
        label_smoothing: ε of the robust loss, in [0, ½).

    Raises:
        ValueError: an unknown loss (the known ones are listed), or a value out of its range.
        TypeError: a value of another type, named.
    """

    @checks_arguments
    def __init__(self, loss: str = "sigmoid", beta: float = 0.1, label_smoothing: float | None = None) -> None:
        self.loss: str = python_value(loss, str, "loss")
        self.beta: float = python_value(beta, float, "beta")
        self._function = LOSSES.find(self.loss)
        if not (self.beta > 0 and math.isfinite(self.beta)):
            raise ValueError(f"beta is {beta}: it must be positive and finite.")
        if label_smoothing is not None:
            label_smoothing = python_value(label_smoothing, float, "label_smoothing")
        if label_smoothing is not None and loss != "robust":
            raise ValueError(f"label_smoothing belongs to the robust loss, not to {loss!r}: leave it out.")
        if label_smoothing is not None and not 0 <= label_smoothing < 0.5:
            raise ValueError(f"label_smoothing is {label_smoothing}: the fraction of flipped labels is in [0, 0.5).")
        self.label_smoothing = label_smoothing
        self._options: dict[str, Any] = {} if label_smoothing is None else {"label_smoothing": label_smoothing}

    def __call__(self, margins: Tensor, labels: Tensor) -> Tensor:
        """Margins ``(…, rows)`` and labels ``(rows, m)``, 0, 1 or −1, to losses ``(…, rows, m)``."""
        return self._function(signed_margins(margins, labels), self.beta, **self._options)
