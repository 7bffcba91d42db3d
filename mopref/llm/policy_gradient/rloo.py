"""RLOO: REINFORCE with the other samples of the same prompt as baseline."""

from dataclasses import dataclass
from typing import ClassVar

from mopref.llm.policy_gradient.algorithm import (
    ALGORITHMS,
    Advantages,
    PolicyGradient,
    RolloutGroups,
    relative_advantages,
)

__all__ = ["RLOO"]


@ALGORITHMS.register("rloo")
@dataclass(frozen=True)
class RLOO(PolicyGradient):
    """A_it = r_i − mean of the other samples' r_i − β (k_t − mean of the other samples' k_t), k_t = Σ_{t' ≥ t} d_t'.

    d = log π − log π_ref of a token. A baseline of the other S − 1 samples of the same prompt and preference leaves
    the policy gradient unbiased. With ``normalize`` the reward part is divided by the standard deviation of the S
    rewards. Needs S ≥ 2, and no critic.

    Source: Ahmadian et al., arXiv 2402.14740, eq. 8, on every objective apart; the KL by tokens still to come.
    """

    fewest_samples: ClassVar[int] = 2

    def advantages(self, groups: RolloutGroups, beta: float, normalize: bool) -> Advantages:
        """``(G, P, S, R, m)``."""
        samples = groups.scaled_rewards.shape[2]
        # x − mean of the others = S/(S − 1) · (x − mean of all).
        return Advantages(samples / (samples - 1) * relative_advantages(groups, beta, normalize))
