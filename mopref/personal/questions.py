"""Which pair to ask about next: the one whose answer is expected to say the most."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mopref.argument_kinds import checks_arguments
from mopref.personal.margins import PairMargins
from mopref.personal.posterior import DECISIVENESS, Posterior, posterior

__all__ = ["Question", "expected_information", "next_question"]

# Pairs at a time: few enough for what is held to stay in a processor's cache.
_PAIRS = 8
# What information of equal pairs may differ by, in nats.
_ROUNDING = 1e-12


class Question(NamedTuple):
    """A pair to ask about.

    Attributes:
        pair: its number.
        information: what its answer is expected to say of λ and β_u, in nats, in [0, log 2].
    """

    pair: int
    information: float


def expected_information(margins: PairMargins, posterior: Posterior) -> Tensor:
    """I(answer; λ, β_u) of each pair, in nats: ``(pairs,)``.

    With p = σ(β_u d_λ) and H the entropy of a coin: H(E p) − E H(p), expectations over the posterior.

    Source: Lindley, On a measure of the information provided by an experiment (1956); Houlsby et al., Bayesian active
    learning for classification and preference learning, arXiv 1112.5745.
    """
    weights, betas = posterior.probabilities.reshape(-1), posterior.decisiveness
    result = []
    for margin in margins.at(posterior.points).split(_PAIRS):
        logits = (margin.unsqueeze(-1) * betas).flatten(1)
        # σ(−|z|) = e / (1 + e) with e = exp(−|z|), and H(σ(z)) = log(1 + e) + |z| σ(−|z|).
        sizes = logits.abs()
        e = (-sizes).exp()
        lesser = e / (1 + e)
        mean = (torch.where(logits > 0, 1 - lesser, lesser) @ weights).clamp(0, 1)
        uncertain = (e.log1p() + sizes * lesser) @ weights
        result.append(-torch.xlogy(mean, mean) - torch.xlogy(1 - mean, 1 - mean) - uncertain)
    # Rounding may leave less than nothing.
    return torch.cat(result).clamp(min=0)


@checks_arguments(but=("choices", "alpha", "decisiveness"))
def next_question(
    margins: PairMargins,
    choices: Mapping[int, int],
    *,
    alpha: float = 1.0,
    decisiveness: Sequence[float] = DECISIVENESS,
) -> Question:
    """The pair with the most expected information, of those that were not asked about; of equals the first.

    Args:
        margins: d of all pairs that may be asked about, those with a choice among them.
        choices: 0 or 1, the response that the person chose, by the number of its pair; ``{}`` at the start.
        alpha: α > 0 of the Dirichlet prior.
        decisiveness: the values that β_u may have.

    Raises:
        ValueError: every pair was asked about, a pair or a choice that is none, or a number out of its range.
        TypeError: something else than margins, a mapping or numbers.

    Example:
        >>> margins = PairMargins([[1.0, 1.0], [1.0, -1.0]], ("helpful", "harmless"))
        >>> next_question(margins, {}).pair  # on which the objectives disagree
        1
    """
    found = posterior(margins, choices, alpha=alpha, decisiveness=decisiveness)
    asked = {margins.keys[int(pair)] for pair in choices}
    is_open = torch.tensor([key not in asked for key in margins.keys])
    if not is_open.any():
        raise ValueError(f"all {len(margins)} pairs were asked about: fit the preference, or give more pairs.")
    information = expected_information(margins, found).masked_fill(~is_open, -1.0)
    # Equal ones differ by rounding, and not alike on every processor.
    pair = int((information >= information.max() - _ROUNDING).nonzero()[0])
    return Question(pair, float(information[pair]))
