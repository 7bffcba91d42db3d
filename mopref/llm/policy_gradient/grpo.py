"""GRPO: rewards relative to the group of samples of one prompt."""

from dataclasses import dataclass
from typing import ClassVar

from mopref.llm.policy_gradient.algorithm import (
    ALGORITHMS,
    Advantages,
    PolicyGradient,
    RolloutGroups,
    relative_advantages,
)

__all__ = ["GRPO"]


@ALGORITHMS.register("grpo")
@dataclass(frozen=True)
class GRPO(PolicyGradient):
    """A_it = (r_i − mean r_i) / std r_i − β (k_t − mean k_t) over the S samples, k_t = Σ_{t' ≥ t} d_t'.

    d = log π − log π_ref of a token. The division is left out without ``normalize``. A sample's own reward is part of
    the mean, so that without normalisation the expected gradient is (S − 1)/S of the exact one. Needs S ≥ 2, no critic.

    Source: Shao et al., arXiv 2402.03300, eq. 3 and §4.1.2, on every objective apart. Two terms are not theirs: a
    response's tokens are summed, not averaged, since dividing by the length is no policy gradient (Liu et al.,
    arXiv 2503.20783), and the KL is part of the advantage (see ``PolicyGradient``).
    """

    fewest_samples: ClassVar[int] = 2

    def advantages(self, groups: RolloutGroups, beta: float, normalize: bool) -> Advantages:
        """``(G, P, S, R, m)``."""
        return Advantages(relative_advantages(groups, beta, normalize))
