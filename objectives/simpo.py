"""SimPO: preference optimisation by mean log-probabilities, without a reference, on several objectives at once."""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from mopref.argument_kinds import checks_arguments
from mopref.llm.pairs import PairBatch, PairObjective
from mopref.llm.pairs.margin_losses import signed_margins
from mopref.registry import OBJECTIVES
from mopref.setting_types import python_value

__all__ = ["SimPO"]


@OBJECTIVES.register("simpo")
class SimPO(PairObjective):
    """SimPO on m objectives: one policy forward, and none of a reference, gives all m losses.

    With h̄(x, y) = log π(y|x) / |y|, in nats per response token:

        SimPO_i = mean over the rows labelled on i of −log σ(β · c_i · (h̄(x, y_0) − h̄(x, y_1)) − γ),

    c_i = +1 if y_0 is preferred on i, −1 if y_1 is. Nothing holds the policy near the base model but a small learning
    rate and few steps.

    Rows are those of DPO; see :class:`mopref.llm.pairs.PairObjective`.

    Args:
        names: the names of the m objectives, in the order of the labels.
        beta: β > 0, per nat and token.
        gamma: γ ≥ 0, the margin by which β times the difference is to be larger than 0; the paper sets γ/β to some .5.
        disable_dropout: set the model's dropout to 0, for good, when a trainer is made.

    Raises:
        ValueError: names that are not distinct texts, or a value out of its range.
        TypeError: a value of another type, named.

    Source: Meng, Xia and Chen, SimPO: Simple Preference Optimization with a Reference-Free Reward, arXiv 2405.14734,
    eq. 6.
    """

    needs_reference = False

    @checks_arguments(but=("names",))
    def __init__(
        self, names: Sequence[str], beta: float = 2.0, gamma: float = 1.0, disable_dropout: bool = True
    ) -> None:
        super().__init__(names)
        self.beta: float = python_value(beta, float, "beta")
        self.gamma: float = python_value(gamma, float, "gamma")
        if not (self.beta > 0 and math.isfinite(self.beta)):
            raise ValueError(f"beta is {beta}: it must be positive and finite.")
        if not (self.gamma >= 0 and math.isfinite(self.gamma)):
            raise ValueError(f"gamma is {gamma}: it must be ≥ 0 and finite.")
        self.disable_dropout = python_value(disable_dropout, bool, "disable_dropout")

    def scores(self, model: nn.Module, batch: PairBatch, preferences: Tensor) -> Tensor:
        """h̄ of both responses of each pair, ``(B, 2)``."""
        return self.mean_log_probabilities(model, batch, preferences)

    def implicit_rewards(self, scores: Tensor) -> Tensor:
        """β h̄."""
        return self.beta * scores

    def pair_losses(self, scores: Tensor, labels: Tensor) -> Tensor:
        """−log σ(β c_i (h̄_0 − h̄_1) − γ): scores ``(…, rows, 2)`` and labels ``(rows, m)`` to ``(…, rows, m)``."""
        margins = scores[..., 0] - scores[..., 1]
        return -logsigmoid(self.beta * signed_margins(margins, labels) - self.gamma)
