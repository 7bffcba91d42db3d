"""Rewards: what reinforcement learning on a language model maximises. One family a file."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Imported on first use, so that a short reward does not pay for a language model.
_EXPORTS = {
    "ClassifierReward": "classifier",
    "Conciseness": "conciseness",
    "HarmReward": "harm",
    "ProfanityFree": "profanity",
    "Relevance": "relevance",
    "Reward": "reward",
    "RewardError": "reward",
    "VaderSentiment": "sentiment",
    "compute_rewards": "reward",
    "describe_rewards": "reward",
    "learned_harm_reward": "harm",
    "token_reward": "reward",
}

__all__ = [
    "ClassifierReward",
    "Conciseness",
    "HarmReward",
    "ProfanityFree",
    "Relevance",
    "Reward",
    "RewardError",
    "VaderSentiment",
    "compute_rewards",
    "describe_rewards",
    "learned_harm_reward",
    "token_reward",
]

if TYPE_CHECKING:
    from .classifier import ClassifierReward
    from .conciseness import Conciseness
    from .harm import HarmReward, learned_harm_reward
    from .profanity import ProfanityFree
    from .relevance import Relevance
    from .reward import Reward, RewardError, compute_rewards, describe_rewards, token_reward
    from .sentiment import VaderSentiment


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
