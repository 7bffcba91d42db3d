"""Policy gradients on a vector of rewards: advantages, clipped surrogate, vector-valued critic. A file a method."""

from mopref.llm.policy_gradient.algorithm import Advantages, Experience, PolicyGradient
from mopref.llm.policy_gradient.grpo import GRPO
from mopref.llm.policy_gradient.ppo import PPO
from mopref.llm.policy_gradient.rloo import RLOO

__all__ = ["ALGORITHMS", "GRPO", "PPO", "RLOO", "Advantages", "Experience", "PolicyGradient"]

# A new algorithm is one file here, its import and its line.
ALGORITHMS: dict[str, type[PolicyGradient]] = {"rloo": RLOO, "grpo": GRPO, "ppo": PPO}
