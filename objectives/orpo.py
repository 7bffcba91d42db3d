"""ORPO: fine-tuning and preference optimisation in one, by odds ratios, on several objectives at once."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from mopref.argument_kinds import checks_arguments
from mopref.llm.pairs import PairBatch, PairObjective
from mopref.llm.pairs.margin_losses import signed_margins
from mopref.registry import OBJECTIVES
from mopref.setting_types import python_value

__all__ = ["ORPO"]

# Mean log-probabilities are taken for this where they are larger: the odds of a certain response have no finite value.
_LARGEST = -1e-6


@OBJECTIVES.register("orpo")
class ORPO(PairObjective):
    """ORPO on m objectives: one policy forward, and none of a reference, gives all m losses.

    With p(y|x) = exp(log π(y|x) / |y|), the geometric mean over response tokens, and odds = p / (1 − p):

        ORPO_i = mean over the rows labelled on i of  −log p(y_w|x) − w · log σ(log odds(y_w|x) − log odds(y_l|x)),

    where y_w is the response preferred on i, and y_l the other one: which is which depends on i, the forward does not.
    A log p above −1e-6 is taken for that in the odds, which have no end there, so that they pull no further.

    The first term is the mean over the *response's* tokens, as in the paper; TRL's takes prompt and response together,
    averaged over all tokens of a batch, which is another loss.

    Rows are those of DPO; see :class:`mopref.llm.pairs.PairObjective`.

    Args:
        names: the names of the m objectives, in the order of the labels.
        weight: w ≥ 0, λ in the paper.
        disable_dropout: set the model's dropout to 0, for good, when a trainer is made.

    Raises:
        ValueError: names that are not distinct texts, or a value out of its range.
        TypeError: a value of another type, named.

    Source: Hong, Lee and Thorne, ORPO: Monolithic Preference Optimization without Reference Model, arXiv 2403.07691,
    eqs. 3 to 7.
    """

    needs_reference = False

    @checks_arguments(but=("names",))
    def __init__(self, names: Sequence[str], weight: float = 0.1, disable_dropout: bool = True) -> None:
        super().__init__(names)
        self.weight: float = python_value(weight, float, "weight")
        if not (self.weight >= 0 and math.isfinite(self.weight)):
            raise ValueError(f"weight is {weight}: it must be ≥ 0 and finite.")
        self.disable_dropout = python_value(disable_dropout, bool, "disable_dropout")

    def scores(self, model: nn.Module, batch: PairBatch, preferences: Tensor) -> Tensor:
        """log p of both responses of each pair, ``(B, 2)``."""
        return self.mean_log_probabilities(model, batch, preferences)

    def pair_losses(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Scores ``(…, rows, 2)`` and labels ``(rows, m)`` to losses ``(…, rows, m)``."""
        bounded = scores.clamp(max=_LARGEST)
        log_odds = bounded - torch.log(-torch.expm1(bounded))
        ratios = signed_margins(log_odds[..., 0] - log_odds[..., 1], labels)
        preferred = torch.where(labels == 1, scores[..., 1].unsqueeze(-1), scores[..., 0].unsqueeze(-1))
        # Without a label there is no preferred response, and the first may have a value that is not finite.
        return torch.where(labels < 0, torch.zeros_like(preferred), -preferred) - self.weight * logsigmoid(ratios)
