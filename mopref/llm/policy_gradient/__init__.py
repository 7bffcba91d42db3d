"""Policy gradients on a vector of rewards: rollouts, experience, advantages, surrogate, critic.

A rollout (``rollout.py``) is sampled and rewarded; an algorithm (one a file, its line here) gives every token its
advantages; both together are an experience (``experience.py``), of which the surrogate (``surrogate.py``) makes
losses.
"""

from mopref._faces import public_names as _public_names

from .algorithm import (
    ALGORITHMS as ALGORITHMS,
    Advantages as Advantages,
    PolicyGradient as PolicyGradient,
    RolloutGroups as RolloutGroups,
)
from .grpo import GRPO as GRPO
from .ppo import PPO as PPO
from .pretraining import PretrainingTerm as PretrainingTerm
from .rloo import RLOO as RLOO

__all__ = _public_names(globals())
